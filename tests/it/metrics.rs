//! `GET /metrics` of both roles, as Prometheus' own tools see it. `scripts/test` installs them.

use crate::support::{Api, Site, as_str, eventually, free_port, proc, ready_workers, secs};
use serde_json::json;
use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

const CONFIG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/prometheus");

/// Its output; it must succeed.
fn promtool(arguments: &[&str], input: &str) -> String {
    let mut command = Command::new("promtool");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("promtool is there: Debian's package prometheus");
    child.stdin.take().unwrap().write_all(input.as_bytes()).expect("it reads");
    let output = child.wait_with_output().unwrap();
    let told = [output.stdout, output.stderr].concat();
    let told = String::from_utf8_lossy(&told).into_owned();
    assert!(output.status.success(), "promtool {arguments:?}: {told}");
    told
}

/// By name and labels.
fn series(page: &str) -> BTreeMap<String, f64> {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').expect("a series has a value");
            (name.to_owned(), value.parse().unwrap_or_else(|_| panic!("{line:?}")))
        })
        .collect()
}

async fn page(role: &Api) -> String {
    let answer = role.get("/metrics").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.text
}

#[actix_web::test]
async fn both_pages_are_what_promtool_wants_and_tell_what_happened() {
    let site = Site::new();
    let busy = "while :; do :; done";
    let workers = json!([
        {"group": "g", "instance": "busy", "command": "/bin/sh", "args": ["-c", busy]},
        {"group": "g", "instance": "calm", "command": "/bin/sleep", "args": ["86400"],
         "restart": {"policy": "always", "backoff_ms": 10}},
    ]);
    let (queen, hive) = site.start_both(workers).await;
    let workers = ready_workers(queen.queen(), 2, secs(10)).await;
    let calm = workers.iter().find(|worker| worker["instance"] == "calm").unwrap();
    let pid = calm["pid"].as_u64().unwrap() as u32;
    proc::signal(pid, nix::sys::signal::Signal::SIGKILL);
    let told = eventually(secs(10), async || {
        let told = series(&page(hive.hive()).await);
        let of = |name: &str, worker: &str| {
            told.get(&format!("{name}{{group=\"g\",instance=\"{worker}\"}}")).copied()
        };
        let restarted = of("rbee_worker_restarts_total", "calm") == Some(1.0);
        let worked = of("rbee_worker_cpu_seconds_total", "busy").is_some_and(|cpu| cpu > 0.2);
        let up = of("rbee_worker_up", "calm") == Some(1.0);
        if restarted && worked && up { Ok(told) } else { Err(told) }
    })
    .await;
    assert_eq!(told["rbee_worker_state{group=\"g\",instance=\"busy\",state=\"ready\"}"], 1.0);
    assert!(told["rbee_worker_memory_bytes{group=\"g\",instance=\"busy\"}"] > 0.0);
    assert!(told["rbee_heartbeats_sent_total{result=\"stored\"}"] > 0.0);
    assert!(told["process_open_fds"] > 3.0);
    promtool(&["check", "metrics"], &page(hive.hive()).await);

    let nobody = json!({"model": "nobody's", "messages": []});
    queen.queen().post("/v1/chat/completions", nobody).await.expect(404);
    queen.queen().get("/v1/nothing").await.expect(404);
    queen.queen().post("/v1/hive-heartbeat", json!({})).await.expect(400);
    let told = series(&page(queen.queen()).await);
    assert!(told["rbee_heartbeats_total{result=\"stored\"}"] > 0.0);
    assert_eq!(told["rbee_heartbeats_total{result=\"invalid_json\"}"], 1.0);
    assert_eq!(told["rbee_gateway_requests_total{result=\"model_not_found\"}"], 1.0);
    assert_eq!(told["rbee_hives{freshness=\"healthy\"}"], 1.0);
    assert_eq!(told["rbee_placement_workers{standing=\"open\"}"], 0.0, "they serve nowhere");
    let unknown =
        "rbee_http_request_duration_seconds_count{code=\"404\",method=\"GET\",route=\"none\"}";
    assert_eq!(told[unknown], 1.0, "a path that no route takes makes no series of its own");
    assert!(!told.keys().any(|name| name.starts_with("rbee_worker_")), "those are the hive's");
    promtool(&["check", "metrics"], &page(queen.queen()).await);
}

#[actix_web::test]
async fn a_real_prometheus_scrapes_both_roles() {
    let site = Site::new();
    let (queen, hive) = site.start_both(json!([])).await;
    let targets = [("hive", hive.hive()), ("queen", queen.queen())].map(|(job, api)| {
        let address = api.url().trim_start_matches("http://");
        format!("- job_name: {job}\n  static_configs: [{{targets: ['{address}']}}]\n")
    });
    let config = site.path("prometheus.yml");
    let text = format!("global: {{scrape_interval: 1s}}\nscrape_configs:\n{}", targets.concat());
    fs::write(&config, text).unwrap();
    let address = format!("127.0.0.1:{}", free_port());
    let mut command = Command::new("prometheus");
    command
        .arg(format!("--config.file={}", as_str(&config)))
        .arg(format!("--storage.tsdb.path={}", as_str(&site.path("tsdb"))))
        .arg(format!("--web.listen-address={address}"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut prometheus = Ended(command.spawn().expect("Debian's package prometheus is there"));
    let api = Api::new(format!("http://{address}"));
    let up = eventually(secs(30), async || {
        assert!(prometheus.0.try_wait().unwrap().is_none(), "prometheus has ended");
        let answer = api.try_get("/api/v1/query?query=up%3D%3D1").await?.json;
        let up = answer["data"]["result"].as_array().map_or(0, Vec::len);
        if up == 2 { Ok(answer) } else { Err(answer.to_string()) }
    })
    .await;
    assert_eq!(up["status"], "success");
}

struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_alert_rules_are_sound_and_do_what_they_say() {
    let (rules, tests) =
        (Path::new(CONFIG).join("rules.yml"), Path::new(CONFIG).join("rules.test.yml"));
    promtool(&["check", "rules", as_str(&rules)], "");
    promtool(&["test", "rules", as_str(&tests)], "");
}

#[actix_web::test]
async fn each_series_of_the_rules_and_the_dashboard_is_one_that_is_told() {
    let site = Site::new();
    let workers =
        json!([{"group": "g", "instance": "1", "command": "/bin/sleep", "args": ["86400"]}]);
    let (queen, hive) = site.start_both(workers).await;
    ready_workers(queen.queen(), 1, secs(10)).await;
    let source = [
        include_str!("../../src/http/hive/metrics.rs"),
        include_str!("../../src/http/queen/metrics.rs"),
    ];
    let told = [
        page(hive.hive()).await,
        page(queen.queen()).await,
        source.concat(),
        include_str!("../../src/http/queen/counters.rs").to_owned(),
    ]
    .concat();
    let asked = [
        fs::read_to_string(Path::new(CONFIG).join("rules.yml")).unwrap(),
        include_str!("../../config/grafana/rbee.json").to_owned(),
    ];
    let words =
        asked.iter().flat_map(|text| text.split(|c: char| !(c.is_alphanumeric() || c == '_')));
    for name in words.filter(|word| word.starts_with("rbee_")) {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        assert!(told.contains(base.unwrap_or(name)), "{name} is told nowhere");
    }
}
