//! Whether a heartbeat that parses also makes sense. Pure; the first thing wrong is named by its path,
//! its value and what is allowed instead.

use crate::contract::{
    ExitRecord, GpuStats, HiveHeartbeat, HiveInfo, LifecycleEvent, NodeStats, WorkerReport,
};
use crate::limits::{
    HEARTBEAT_ALIASES_MAX, HEARTBEAT_EVENTS_MAX, HEARTBEAT_GPUS_MAX, HEARTBEAT_HOSTNAME_MAX,
    HEARTBEAT_INTERVAL_MAX_MS, HEARTBEAT_LOG_TAIL_MAX, HEARTBEAT_PIDS_MAX, HEARTBEAT_WORKERS_MAX,
    Limit, TEXT_MAX, WORD_MAX,
};
use crate::settings::{has_port_if_any, is_name};
use actix_web::http::Uri;
use std::{collections::HashSet, fmt, net::Ipv6Addr};

/// A bad value is shown up to this many characters.
const SHOWN_LIMIT: usize = 64;

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct Invalid {
    /// Such as `workers[3].cpu_pct`.
    pub path: String,
    /// The value and what is allowed.
    pub problem: String,
    /// What it is beyond, where it is that.
    pub limit: Option<Limit>,
}

type Check = Result<(), Invalid>;

/// Bytes of a text.
type Most = (usize, Limit);
const WORD: Most = (WORD_MAX, Limit::HeartbeatWord);
const TEXT: Most = (TEXT_MAX, Limit::HeartbeatText);

/// Whether the heartbeat may be stored.
pub fn validate(heartbeat: &HiveHeartbeat) -> Check {
    hive(&heartbeat.hive).map_err(|e| e.under("hive"))?;
    time("timestamp", &heartbeat.timestamp)?;
    if heartbeat.interval_ms.is_some_and(|ms| !(1..=HEARTBEAT_INTERVAL_MAX_MS).contains(&ms)) {
        let allowed = format!("1 to {HEARTBEAT_INTERVAL_MAX_MS}");
        let beyond = heartbeat.interval_ms.is_some_and(|ms| ms > 0);
        return Err(refuse("interval_ms", &heartbeat.interval_ms.unwrap_or(0), &allowed)
            .beyond(Limit::HeartbeatInterval, beyond));
    }
    optional("boot_id", heartbeat.boot_id.as_deref(), WORD)?;
    node(&heartbeat.node).map_err(|e| e.under("node"))?;
    count("workers", heartbeat.workers.len(), HEARTBEAT_WORKERS_MAX, Limit::HeartbeatWorkers)?;
    each("workers", &heartbeat.workers, worker)?;
    unique(&heartbeat.workers)?;
    count("events", heartbeat.events.len(), HEARTBEAT_EVENTS_MAX, Limit::HeartbeatEvents)?;
    each("events", &heartbeat.events, event)
}

fn hive(hive: &HiveInfo) -> Check {
    name("id", &hive.id)?;
    if hive.hostname.is_empty()
        || hive.hostname.len() > HEARTBEAT_HOSTNAME_MAX
        || !is_host(&hive.hostname)
    {
        let allowed =
            format!("a host name or an IP address of at most {HEARTBEAT_HOSTNAME_MAX} bytes");
        let beyond = hive.hostname.len() > HEARTBEAT_HOSTNAME_MAX;
        return Err(
            refuse("hostname", &hive.hostname, &allowed).beyond(Limit::HeartbeatHostname, beyond)
        );
    }
    if hive.port == 0 {
        return Err(refuse("port", &hive.port, "1 to 65535"));
    }
    text("version", &hive.version, WORD)
}

/// Colons are IPv6's alone, with or without brackets and a zone.
fn is_host(text: &str) -> bool {
    if !text.contains(':') {
        return text.chars().all(|c| c.is_alphanumeric() || ".-_".contains(c));
    }
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let (address, zone) = bare.split_once('%').unwrap_or((bare, ""));
    address.parse::<Ipv6Addr>().is_ok()
        && zone.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

fn node(node: &NodeStats) -> Check {
    number("cpu_pct", node.cpu_pct)?;
    number("load1", node.load1)?;
    number("rbee.cpu_pct", node.rbee.cpu_pct)?;
    count("gpus", node.gpus.len(), HEARTBEAT_GPUS_MAX, Limit::HeartbeatGpus)?;
    each("gpus", &node.gpus, gpu)
}

fn gpu(gpu: &GpuStats) -> Check {
    text("id", &gpu.id, WORD)?;
    text("uuid", &gpu.uuid, WORD)?;
    text("name", &gpu.name, TEXT)?;
    optional("health", gpu.health.as_deref(), TEXT)?;
    optional_number("util_pct", gpu.util_pct)?;
    optional_number("temp_c", gpu.temp_c)?;
    optional_number("power_w", gpu.power_w)
}

fn worker(worker: &WorkerReport) -> Check {
    name("group", &worker.group)?;
    name("instance", &worker.instance)?;
    for (field, value) in [
        ("cpu_pct", worker.cpu_pct),
        ("io_r_mb_s", worker.io_r_mb_s),
        ("io_w_mb_s", worker.io_w_mb_s),
        ("gpu_util_pct", worker.gpu_util_pct),
    ] {
        number(field, value)?;
    }
    for (field, value) in [
        ("kv_cache_pct", worker.kv_cache_pct),
        ("cpu_limit_pct", worker.cpu_limit_pct),
        ("throttled_pct", worker.throttled_pct),
        ("pressure.cpu", worker.pressure.cpu),
        ("pressure.memory", worker.pressure.memory),
        ("pressure.io", worker.pressure.io),
    ] {
        optional_number(field, value)?;
    }
    worker_texts(worker)?;
    count("pids", worker.pids.len(), HEARTBEAT_PIDS_MAX, Limit::HeartbeatPids)?;
    count("gpus", worker.gpus.len(), HEARTBEAT_GPUS_MAX, Limit::HeartbeatGpus)?;
    each("gpus", &worker.gpus, |share| {
        text("uuid", &share.uuid, WORD)?;
        number("util_pct", share.util_pct)
    })?;
    worker.last_exit.as_ref().map_or(Ok(()), |e| exit(e).map_err(|e| e.under("last_exit")))
}

fn worker_texts(worker: &WorkerReport) -> Check {
    optional("model", worker.model.as_deref(), TEXT)?;
    optional("url", worker.url.as_deref(), TEXT)?;
    if let Some(url) = worker.url.as_deref()
        && !is_base_url(url)
    {
        let allowed = "a URL that begins with http:// or https://, names a host, a port of 1 to 65535 if any, and no user, and has no ? or #";
        return Err(refuse("url", &url, allowed));
    }
    optional("retry_at", worker.retry_at.as_deref(), WORD)?;
    count(
        "model_aliases",
        worker.model_aliases.len(),
        HEARTBEAT_ALIASES_MAX,
        Limit::HeartbeatAliases,
    )?;
    each("model_aliases", &worker.model_aliases, |alias| text("", alias, TEXT))
}

/// What a path can be put behind.
fn is_base_url(text: &str) -> bool {
    let uri: Result<Uri, _> = text.parse();
    !text.contains(['?', '#'])
        && uri.is_ok_and(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.host().is_some_and(|host| !matches!(host, "" | "[]"))
                && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
                && has_port_if_any(&uri)
        })
}

fn exit(exit: &ExitRecord) -> Check {
    time("at", &exit.at)?;
    optional("signal", exit.signal.as_deref(), WORD)?;
    count("log_tail", exit.log_tail.len(), HEARTBEAT_LOG_TAIL_MAX, Limit::HeartbeatLogTail)?;
    each("log_tail", &exit.log_tail, |line| {
        if line.len() > TEXT_MAX {
            let allowed = format!("{TEXT_MAX} bytes at most");
            return Err(refuse("", line, &allowed).beyond(Limit::HeartbeatText, true));
        }
        Ok(())
    })
}

fn event(event: &LifecycleEvent) -> Check {
    name("group", &event.group)?;
    name("instance", &event.instance)?;
    time("at", &event.at)?;
    event.last_exit.as_ref().map_or(Ok(()), |e| exit(e).map_err(|e| e.under("last_exit")))
}

fn unique(workers: &[WorkerReport]) -> Check {
    let mut seen = HashSet::with_capacity(workers.len());
    for (i, worker) in workers.iter().enumerate() {
        if !seen.insert((worker.group.as_str(), worker.instance.as_str())) {
            return Err(Invalid {
                path: format!("workers[{i}]"),
                problem: format!(
                    "{}/{} is there twice, allowed: each group and instance once",
                    worker.group, worker.instance
                ),
                limit: None,
            });
        }
    }
    Ok(())
}

fn each<T>(field: &str, items: &[T], check: impl Fn(&T) -> Check) -> Check {
    for (i, item) in items.iter().enumerate() {
        check(item).map_err(|e| e.under(&format!("{field}[{i}]")))?;
    }
    Ok(())
}

fn count(field: &str, count: usize, most: usize, limit: Limit) -> Check {
    if count > most {
        return Err(Invalid {
            path: field.to_owned(),
            problem: format!("there are {count}, allowed: {most} at most"),
            limit: Some(limit),
        });
    }
    Ok(())
}

fn name(field: &str, value: &str) -> Check {
    if is_name(value) {
        return Ok(());
    }
    Err(refuse(field, &value, "1 to 64 of A-Z a-z 0-9 . _ -, the first a letter or digit"))
}

fn time(field: &str, value: &str) -> Check {
    if value.len() <= WORD_MAX && value.parse::<jiff::Timestamp>().is_ok() {
        return Ok(());
    }
    let allowed = "a time as in RFC 3339, such as 2026-01-01T00:00:00.123Z";
    Err(refuse(field, &value, allowed).beyond(Limit::HeartbeatWord, value.len() > WORD_MAX))
}

fn text(field: &str, value: &str, (most, limit): Most) -> Check {
    if value.len() > most || has_control(value) {
        let allowed = format!("{most} bytes at most, no control characters");
        return Err(refuse(field, &value, &allowed).beyond(limit, value.len() > most));
    }
    Ok(())
}

fn optional(field: &str, value: Option<&str>, most: Most) -> Check {
    value.map_or(Ok(()), |value| text(field, value, most))
}

fn number(field: &str, value: f64) -> Check {
    if value.is_finite() && value >= 0.0 {
        return Ok(());
    }
    Err(refuse(field, &value, "a finite number, 0 or more"))
}

fn optional_number(field: &str, value: Option<f64>) -> Check {
    value.map_or(Ok(()), |value| number(field, value))
}

/// ASCII is looked at byte by byte, the rest (C1 controls) only where there is any.
fn has_control(text: &str) -> bool {
    text.bytes().any(|b| b.is_ascii_control())
        || (!text.is_ascii() && text.contains(char::is_control))
}

fn refuse(field: &str, value: &dyn fmt::Debug, allowed: &str) -> Invalid {
    let value = format!("{value:?}");
    let shown: String = value.chars().take(SHOWN_LIMIT).collect();
    let quote = if value.starts_with('"') { "\"" } else { "" };
    let rest = if shown.len() < value.len() { format!("…{quote}") } else { String::new() };
    Invalid {
        path: field.to_owned(),
        problem: format!("{shown}{rest} is not allowed; allowed: {allowed}"),
        limit: None,
    }
}

impl Invalid {
    /// If it is `beyond` that limit.
    fn beyond(self, limit: Limit, beyond: bool) -> Self {
        Self { limit: beyond.then_some(limit), ..self }
    }

    fn under(mut self, parent: &str) -> Self {
        let dot = if self.path.is_empty() { "" } else { "." };
        self.path.insert_str(0, dot);
        self.path.insert_str(0, parent);
        self
    }
}

#[cfg(test)]
#[path = "validate/tests.rs"]
mod tests;
