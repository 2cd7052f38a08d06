//! Reads one worker's spec: an element of `[[hive.workers]]` or the body of `POST /v1/workers`.
//! Both have the same keys and the same checks.

use super::{
    host_name::has_port_if_any,
    names,
    reader::{Findings, Problem, Table},
};
use crate::limits::{Limit, SPEC_GPUS_MAX, SPEC_TEXT_MAX};
use crate::{
    contract::{LiveProbe, LoadSource, ReadyProbe, RestartPolicy, RestartWhen, WorkerSpec},
    platform::limits,
};
use actix_web::http::Uri;
use serde_json::Value;

/// The longest delay that any key takes: a day, ms.
pub(in crate::settings) const DAY_MS: u64 = 86_400_000;

const RESTART_WHEN: [(&str, RestartWhen); 3] = [
    ("on-failure", RestartWhen::OnFailure),
    ("always", RestartWhen::Always),
    ("never", RestartWhen::Never),
];

/// Reads a spec from JSON, as the API gets it. `hostname` is for the default `url`.
pub fn from_json(value: Value, hostname: &str) -> Result<WorkerSpec, Vec<Problem>> {
    let mut findings = Findings::default();
    if !value.is_object() {
        findings.add("body", value, "must be a JSON object");
        return Err(findings.problems);
    }
    let table = Table::new("", value, &mut findings);
    let spec = read(table, hostname, &mut findings);
    spec.filter(|_| findings.problems.is_empty()).ok_or(findings.problems)
}

/// Reads a spec from `table`. `None` only when a problem was noted.
pub(in crate::settings) fn read(
    mut t: Table,
    hostname: &str,
    f: &mut Findings,
) -> Option<WorkerSpec> {
    let group = t.require("group", f, names::worker_name);
    let instance = t.require("instance", f, names::worker_name);
    let command = t.require("command", f, command);
    let args = t.strings("args", f).unwrap_or_default();
    let env = t.string_map("env", f).into_iter().collect();
    let cwd = t.parse("cwd", f, absolute_path);
    let user = t.parse("user", f, existing_user);
    let gpus = read_gpus(&mut t, f);
    let before_url = f.problems.len();
    let url = t.parse("url", f, http_url);
    let wrong_url = f.problems.len() > before_url;
    let model = t.parse("model", f, plain_text);
    let slots = t.number("slots", f, 1..=1_000_000).map(|n| n as u32);
    let cpu_limit = t.parse("cpu_limit", f, |s| limits::cpu_quota_usec(s).map(|_| s.to_owned()));
    let memory_limit = memory_limit(&mut t, f);
    let restart = t.table("restart", f);
    let restart = read_restart(restart, f);
    let ready = t.optional_table("ready", f).and_then(|ready| read_ready(ready, f));
    let live = t.optional_table("live", f).and_then(|live| read_live(live, f));
    let load = t.optional_table("load", f).and_then(|load| read_load(load, f));
    let stop_grace_ms = t.number("stop_grace_ms", f, 0..=DAY_MS).unwrap_or(10_000);
    let sample_interval_ms = t.number("sample_interval_ms", f, 10..=3_600_000);
    let live_key = t.key("live");
    t.finish(f);
    let instance = instance?;
    let url = url.or_else(|| default_url(hostname, &instance));
    if url.is_none() && live.as_ref().is_some_and(|live| live.completion) && !wrong_url {
        let allowed = "completion = true needs a url to ask, as the instance is no port: set url";
        f.add(live_key, "{ completion = true }", allowed);
    }
    Some(WorkerSpec {
        group: group?,
        command: command?,
        url,
        instance,
        args,
        env,
        cwd,
        user,
        gpus,
        model,
        slots,
        cpu_limit,
        memory_limit,
        restart,
        ready,
        live,
        load,
        stop_grace_ms,
        sample_interval_ms,
    })
}

/// Whether they are there is known to the hive that starts it.
fn read_gpus(t: &mut Table, f: &mut Findings) -> Vec<String> {
    let gpus = t.strings("gpus", f).unwrap_or_default();
    let key = t.key("gpus");
    if gpus.len() > SPEC_GPUS_MAX {
        Limit::SpecGpus.reached();
        f.add(key.as_str(), gpus.len(), "must be at most 64 GPUs");
    }
    for (index, gpu) in gpus.iter().enumerate() {
        if !names_a_gpu(gpu) || gpus[..index].contains(gpu) {
            let allowed = "must be an index such as \"0\", or a UUID such as \"GPU-…\", each once";
            f.add(format!("{key}[{index}]"), format!("{gpu:?}"), allowed);
        }
    }
    gpus
}

fn names_a_gpu(text: &str) -> bool {
    let index = text.parse::<u16>().is_ok_and(|index| index.to_string() == text);
    let uuid = ["GPU-", "MIG-"].iter().find_map(|kind| text.strip_prefix(kind));
    let plain = |rest: &str| rest.bytes().all(|b| b.is_ascii_alphanumeric() || b"-/".contains(&b));
    index || uuid.is_some_and(|rest| (4..=64).contains(&rest.len()) && plain(rest))
}

fn memory_limit(t: &mut Table, f: &mut Findings) -> Option<String> {
    let text = t.string_or_number("memory_limit", f)?;
    match limits::memory_bytes(&text) {
        Ok(_) => Some(text),
        Err(allowed) => {
            f.add(t.key("memory_limit"), format!("{text:?}"), &allowed);
            None
        }
    }
}

fn read_restart(mut t: Table, f: &mut Findings) -> RestartPolicy {
    let default = RestartPolicy::default();
    let policy = RestartPolicy {
        policy: t.choice("policy", f, &RESTART_WHEN, default.policy),
        max_restarts: t
            .number("max_restarts", f, 0..=1_000_000)
            .map_or(default.max_restarts, |n| n as u32),
        window_s: t.number("window_s", f, 1..=86_400).unwrap_or(default.window_s),
        backoff_ms: t.number("backoff_ms", f, 1..=DAY_MS).unwrap_or(default.backoff_ms),
        backoff_max_ms: t.number("backoff_max_ms", f, 1..=DAY_MS).unwrap_or(default.backoff_max_ms),
    };
    if policy.backoff_ms > policy.backoff_max_ms {
        f.add(t.key("backoff_ms"), policy.backoff_ms, "must not be above backoff_max_ms");
    }
    t.finish(f);
    policy
}

fn read_ready(mut t: Table, f: &mut Findings) -> Option<ReadyProbe> {
    let probe = ReadyProbe {
        http: t.require("http", f, http_url).unwrap_or_default(),
        interval_ms: t.number("interval_ms", f, 10..=DAY_MS).unwrap_or(500),
        timeout_s: t.number("timeout_s", f, 1..=86_400).unwrap_or(120),
    };
    t.finish(f);
    (!probe.http.is_empty()).then_some(probe)
}

fn read_live(mut t: Table, f: &mut Findings) -> Option<LiveProbe> {
    let probe = LiveProbe {
        http: t.parse("http", f, http_url),
        completion: t.flag("completion", f, false),
        interval_ms: t.number("interval_ms", f, 100..=DAY_MS).unwrap_or(5_000),
        timeout_ms: t.number("timeout_ms", f, 10..=DAY_MS).unwrap_or(2_000),
        failures: t.number("failures", f, 1..=1_000).unwrap_or(3) as u32,
    };
    if probe.http.is_some() == probe.completion {
        f.add(t.key("http"), "", "exactly one of http and completion = true is required");
    }
    t.finish(f);
    Some(probe)
}

fn read_load(mut t: Table, f: &mut Findings) -> Option<LoadSource> {
    let metrics = t.require("metrics", f, http_url);
    t.finish(f);
    Some(LoadSource { metrics: metrics? })
}

fn command(text: &str) -> Result<String, String> {
    let path_like = text.contains('/');
    if text.is_empty() || (path_like && !text.starts_with('/')) {
        return Err("must be an absolute path, or a name that is looked up in PATH".into());
    }
    Ok(text.to_owned())
}

fn absolute_path(text: &str) -> Result<String, String> {
    if text.starts_with('/') { Ok(text.to_owned()) } else { Err("must be an absolute path".into()) }
}

fn existing_user(text: &str) -> Result<String, String> {
    if !nix::unistd::geteuid().is_root() {
        return Err("only a hive that runs as root can start a worker as another user".into());
    }
    match nix::unistd::User::from_name(text) {
        Ok(Some(_)) => Ok(text.to_owned()),
        _ => Err("must be the name of a user of this machine".into()),
    }
}

fn plain_text(text: &str) -> Result<String, String> {
    count_long(text);
    if text.is_empty() || text.len() > SPEC_TEXT_MAX || text.chars().any(char::is_control) {
        return Err("must be 1 to 1024 bytes without control characters".into());
    }
    Ok(text.to_owned())
}

fn count_long(text: &str) {
    if text.len() > SPEC_TEXT_MAX {
        Limit::SpecText.reached();
    }
}

/// An absolute `http` URL: workers are spoken to without TLS.
fn http_url(text: &str) -> Result<String, String> {
    let allowed = "must be a URL that begins with http:// and names a host, and no user";
    match url(text) {
        Ok(url) if url.starts_with("http:") => Ok(url),
        Err(problem) if problem.contains("port") => Err(problem),
        _ => Err(allowed.to_owned()),
    }
}

/// An absolute `http` or `https` URL, without a user: a secret there would be shown.
pub(in crate::settings) fn url(text: &str) -> Result<String, String> {
    let allowed = || {
        "must be a URL that begins with http:// or https:// and names a host, and no user"
            .to_owned()
    };
    count_long(text);
    if text.len() > SPEC_TEXT_MAX {
        return Err("must be at most 1024 bytes".into());
    }
    let uri: Uri = text.parse().map_err(|_| allowed())?;
    let host = uri.host().filter(|host| !matches!(*host, "" | "[]") && !text.contains('@'));
    if !matches!(uri.scheme_str(), Some("http" | "https")) || host.is_none() {
        return Err(allowed());
    }
    if !has_port_if_any(&uri) {
        return Err("must have a port of 1 to 65535, if any".into());
    }
    Ok(text.trim_end_matches('/').to_owned())
}

fn default_url(hostname: &str, instance: &str) -> Option<String> {
    let port: u16 = instance.parse().ok().filter(|port| *port > 0)?;
    let host = if hostname.contains(':') { format!("[{hostname}]") } else { hostname.to_owned() };
    Some(format!("http://{host}:{port}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects")]
    use super::*;
    use crate::fuzz::fuzz;
    use crate::limits::tests::Counting;
    use serde_json::json;

    fn keys(value: Value) -> Vec<String> {
        from_json(value, "127.0.0.1").unwrap_err().into_iter().map(|p| p.key).collect()
    }

    #[test]
    fn three_keys_are_enough_and_the_rest_has_its_defaults() {
        let spec = from_json(
            json!({"group": "llm", "instance": "8080", "command": "/bin/true"}),
            "10.0.0.7",
        );
        let spec = spec.unwrap();
        assert_eq!(spec.url.as_deref(), Some("http://10.0.0.7:8080"));
        assert_eq!(spec.stop_grace_ms, 10_000);
        assert_eq!(spec.restart, RestartPolicy::default());
        assert_eq!((spec.slots, spec.ready, spec.sample_interval_ms), (None, None, None));
    }

    #[test]
    fn an_instance_that_is_no_port_has_no_url() {
        let spec = from_json(json!({"group": "a", "instance": "x", "command": "sleep"}), "h");
        assert_eq!(spec.unwrap().url, None);
    }

    #[test]
    fn a_completion_as_a_sign_of_life_needs_a_url_to_ask() {
        let spec = |instance: &str, url: Option<&str>| {
            let live = json!({"completion": true});
            let mut spec =
                json!({"group": "a", "instance": instance, "command": "c", "live": live});
            url.into_iter().for_each(|url| spec["url"] = json!(url));
            from_json(spec, "h").err().map(|problems| problems[0].to_string())
        };
        assert_eq!((spec("8080", None), spec("x", Some("http://h:1"))), (None, None));
        let refused = spec("x", None).unwrap();
        assert!(refused.contains("live") && refused.contains("url"), "{refused}");
        let wrong = spec("x", Some("ftp://h")).unwrap();
        assert!(wrong.starts_with("url"), "{wrong}");
    }

    #[test]
    fn everything_wrong_is_named_at_once() {
        let found = keys(json!({
            "group": "../x", "command": "bin/x", "cpu_limit": "lots", "memory_limit": "4X",
            "restart": {"policy": "sometimes", "backoff_ms": 10, "backoff_max_ms": 5},
            "ready": {"http": "ftp://x"}, "live": {}, "slots": 0, "colour": "red",
            "url": "http://127.0.0.1:99999",
        }));
        assert_eq!(
            found,
            [
                "group",
                "instance",
                "command",
                "url",
                "slots",
                "cpu_limit",
                "memory_limit",
                "restart.policy",
                "restart.backoff_ms",
                "ready.http",
                "live.http",
                "colour",
            ]
        );
    }

    #[test]
    fn a_url_has_a_host_and_a_port_that_is_one() {
        let problem = |text: &str| {
            let spec = json!({"group": "a", "instance": "b", "command": "c", "url": text});
            let problems = from_json(spec, "h").err()?;
            Some((problems[0].key.clone(), problems[0].allowed.contains("1 to 65535")))
        };
        for good in ["http://h:65535", "http://h", "http://[::1]:1/v1"] {
            assert_eq!(problem(good), None, "{good}");
        }
        for (wrong, of_port) in
            [("http://h:65536", true), ("http://h:0", true), ("http://[]:80", false)]
        {
            assert_eq!(problem(wrong), Some(("url".into(), of_port)), "{wrong}");
        }
    }

    #[test]
    fn plain_bytes_may_be_a_number() {
        let spec = json!({"group": "a", "instance": "b", "command": "c", "memory_limit": 1048576});
        assert_eq!(from_json(spec, "h").unwrap().memory_limit.as_deref(), Some("1048576"));
    }

    #[test]
    fn a_spec_that_is_no_object_is_refused() {
        assert_eq!(keys(json!([1, 2])), ["body"]);
        assert_eq!(keys(json!("x")), ["body"]);
    }

    #[test]
    fn lists_and_texts_of_a_spec_are_bounded() {
        let spec = |key: &str, value: Value| {
            let mut spec = json!({"group": "a", "instance": "b", "command": "c"});
            spec[key] = value;
            from_json(spec, "h").is_ok()
        };
        let gpus = |n: usize| json!((0..n).map(|i| i.to_string()).collect::<Vec<_>>());
        let list = |n: usize| json!(vec!["x"; n]);
        let text = |n: usize| json!("m".repeat(n));
        let url = |n: usize| json!(format!("http://h/{}", "x".repeat(n - "http://h/".len())));
        type Case<'a> = (Limit, &'a str, usize, &'a dyn Fn(usize) -> Value);
        let cases: [Case<'_>; 4] = [
            (Limit::SpecGpus, "gpus", SPEC_GPUS_MAX, &gpus),
            (Limit::SpecList, "args", crate::limits::SPEC_LIST_MAX, &list),
            (Limit::SpecText, "model", SPEC_TEXT_MAX, &text),
            (Limit::SpecText, "url", SPEC_TEXT_MAX, &url),
        ];
        for (limit, key, most, filled) in cases {
            assert!(spec(key, filled(most)), "{key}");
            let counting = Counting::of(limit);
            assert!(!spec(key, filled(most + 1)), "{key}");
            counting.counted();
        }
    }

    #[test]
    fn fuzz_spec() {
        fuzz("spec", |bytes| {
            let Ok(value) = serde_json::from_slice::<Value>(bytes) else { return };
            let Ok(spec) = from_json(value, "127.0.0.1") else { return };
            assert!(names::worker_name(&spec.group).is_ok() && !spec.command.is_empty());
            assert!(spec.slots != Some(0) && spec.gpus.len() <= SPEC_GPUS_MAX);
            // As the state file tells it to the next hive.
            let told = serde_json::to_string(&spec).unwrap();
            assert_eq!(serde_json::from_str::<WorkerSpec>(&told).unwrap(), spec);
        });
    }
}
