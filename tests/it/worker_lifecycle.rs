//! A worker's life: ready, dead, started again, given up, stopped, left and adopted.

use crate::support::{Api, RBEE, Site, SseClient, eventually, free_port, ms, proc, rbee, secs};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::{fs, time::Instant};

fn shell(instance: &str, script: &str) -> Value {
    json!({"group": "g", "instance": instance, "command": "/bin/sh", "args": ["-c", script]})
}

fn sleeper(instance: &str) -> Value {
    json!({"group": "g", "instance": instance, "command": "/bin/sleep", "args": ["86400"]})
}

fn main_pid(worker: &Value) -> u32 {
    worker["pid"].as_u64().expect("it has a PID") as u32
}

/// A quick restart, at most twice.
fn quick_restart() -> Value {
    json!({"max_restarts": 2, "backoff_ms": 20, "backoff_max_ms": 50})
}

#[actix_web::test]
async fn a_killed_worker_is_started_again_and_the_stream_tells_it_in_order() {
    let site = Site::new();
    let mut spec = sleeper("one");
    spec["restart"] = quick_restart();
    let (queen, hive) = site.start_both(json!([spec])).await;
    let first = main_pid(&hive.hive().worker_in_state("g/one", "ready").await);
    let mut stream =
        SseClient::connect(&format!("{}/v1/heartbeats/stream", queen.queen().url())).await;
    stream.next_matching("telemetry", secs(5), |event| event.kind() == "hive_telemetry").await;

    proc::signal(first, Signal::SIGKILL);
    let exited =
        stream.next_matching("the exit", secs(5), |event| event.is("worker_exited", "one")).await;
    assert_eq!(exited.data["pid"], first);
    assert_eq!(exited.data["last_exit"]["signal"], "SIGKILL");
    assert_eq!(exited.data["last_exit"]["next"], "backoff");
    // From here on in this order, with nothing else between.
    let mut next = async |kind: &str| {
        stream.next_matching(kind, secs(5), |event| event.name == "lifecycle").await
    };
    let started = next("worker_started").await;
    assert!(started.is("worker_started", "one"), "{started:?}");
    let ready = next("worker_ready").await;
    assert!(ready.is("worker_ready", "one"), "{ready:?}");

    let again = |worker: &Value| worker["state"] == "ready" && worker["restarts"] == 1;
    let worker = hive.hive().worker_when("g/one", secs(5), again).await;
    assert_ne!(main_pid(&worker), first);
    assert_eq!(started.data["pid"], worker["pid"]);
    assert!(proc::alive(main_pid(&worker)));
    assert_eq!(worker["last_exit"]["signal"], "SIGKILL", "it is still told");
}

#[actix_web::test]
async fn an_exit_with_zero_is_stopped_and_not_started_again() {
    let site = Site::new();
    let hive = site.start_hive(json!([shell("done", "echo all done; exit 0")])).await;
    let worker = hive.hive().worker_in_state("g/done", "stopped").await;
    assert_eq!(worker["pid"], Value::Null);
    assert_eq!(worker["restarts"], 0);
    let exit = &worker["last_exit"];
    assert_eq!((&exit["code"], &exit["signal"]), (&json!(0), &Value::Null));
    assert_eq!(exit["next"], "stopped");
    assert_eq!(exit["log_tail"], json!(["all done"]));
}

#[actix_web::test]
async fn always_means_after_an_exit_with_zero_too() {
    let site = Site::new();
    let mut spec = shell("again", "exit 0");
    spec["restart"] =
        json!({"policy": "always", "max_restarts": 1000, "backoff_ms": 20, "backoff_max_ms": 20});
    let hive = site.start_hive(json!([spec])).await;
    let restarted = |worker: &Value| worker["restarts"].as_u64() >= Some(2);
    hive.hive().worker_when("g/again", secs(5), restarted).await;
}

#[actix_web::test]
async fn a_crash_loop_ends_in_failed_which_only_a_restart_leaves() {
    let site = Site::new();
    let cure = site.path("cure");
    let script =
        format!("test -e {} && exec /bin/sleep 86400; echo broken; exit 3", cure.display());
    let (queen, hive) = site.start_both(json!([])).await;
    let mut stream =
        SseClient::connect(&format!("{}/v1/heartbeats/stream", queen.queen().url())).await;
    let mut spec = shell("crashes", &script);
    spec["restart"] = quick_restart();
    hive.hive().spawn(spec).await;

    let failed = stream
        .next_matching("worker_failed", secs(10), |event| event.is("worker_failed", "crashes"))
        .await;
    assert_eq!(failed.data["state"], "failed");
    let worker = hive.hive().worker("g/crashes").await;
    assert_eq!((&worker["state"], &worker["restarts"]), (&json!("failed"), &json!(2)));
    assert_eq!(worker["last_exit"]["code"], 3);
    assert_eq!(worker["last_exit"]["next"], "failed");
    assert_eq!(worker["last_exit"]["log_tail"], json!(["broken"]));

    fs::write(cure, "").unwrap();
    hive.hive().post("/v1/workers/g/crashes/restart", json!({})).await.expect(200);
    let worker = hive.hive().worker_in_state("g/crashes", "ready").await;
    assert!(proc::alive(main_pid(&worker)));
}

#[actix_web::test]
async fn a_restart_by_an_operator_gives_a_new_process() {
    let site = Site::new();
    let hive = site.start_hive(json!([sleeper("one")])).await;
    let first = main_pid(&hive.hive().worker_in_state("g/one", "ready").await);
    hive.hive().post("/v1/workers/g/one/restart", json!({})).await.expect(200);
    assert!(!proc::exists(first), "the answer means that it has happened");
    let worker = hive.hive().worker_in_state("g/one", "ready").await;
    assert_ne!(main_pid(&worker), first);
}

#[actix_web::test]
async fn a_worker_is_ready_when_its_probe_says_so() {
    let site = Site::new();
    let (go, port) = (site.path("go"), free_port());
    let script = format!(
        "until test -e {}; do /bin/sleep 0.05; done; exec {RBEE} echo-worker --port {port}",
        go.display()
    );
    let mut spec = shell(&port.to_string(), &script);
    spec["ready"] = json!({"http": format!("http://127.0.0.1:{port}/health"), "interval_ms": 50});
    let hive = site.start_hive(json!([spec])).await;
    let name = format!("g/{port}");
    let worker = hive.hive().worker_when(&name, secs(5), |worker| worker["pid"].is_u64()).await;
    assert_eq!(worker["state"], "starting");

    fs::write(go, "").unwrap();
    let worker = hive.hive().worker_in_state(&name, "ready").await;
    let url = worker["url"].as_str().expect("its instance is a port").to_owned();
    Api::new(url).get("/health").await.expect(200);
}

#[actix_web::test]
async fn never_becoming_ready_counts_as_a_death() {
    let site = Site::new();
    let mut spec = sleeper("mute");
    let probe = format!("http://127.0.0.1:{}/health", free_port());
    spec["ready"] = json!({"http": probe, "interval_ms": 50, "timeout_s": 1});
    spec["restart"] = json!({"policy": "never"});
    let hive = site.start_hive(json!([spec])).await;
    let first = hive.hive().worker_when("g/mute", secs(5), |worker| worker["pid"].is_u64()).await;
    hive.hive().worker_in_state("g/mute", "failed").await;
    assert!(!proc::exists(main_pid(&first)));
}

#[actix_web::test]
async fn a_worker_that_ignores_sigterm_is_killed_after_its_grace() {
    let site = Site::new();
    let up = site.path("up");
    let script = format!("trap '' TERM; : > {}; while :; do /bin/sleep 1; done", up.display());
    let mut spec = shell("deaf", &script);
    spec["stop_grace_ms"] = json!(400);
    let hive = site.start_hive(json!([spec])).await;
    let worker = hive.hive().worker_in_state("g/deaf", "ready").await;
    eventually(secs(5), async || up.exists().then_some(()).ok_or("not up yet")).await;

    let start = Instant::now();
    hive.hive().delete("/v1/workers/g/deaf").await.expect(200);
    let took = start.elapsed();
    assert!(took >= ms(400) && took < ms(4000), "took {took:?}");
    assert!(!proc::exists(main_pid(&worker)));
}

#[actix_web::test]
async fn a_worker_that_heeds_sigterm_is_not_kept_waiting() {
    let site = Site::new();
    let farewell = site.path("farewell");
    let up = site.path("up");
    let script = format!(
        "trap 'echo bye > {}; exit 0' TERM; : > {}; while :; do /bin/sleep 0.05; done",
        farewell.display(),
        up.display()
    );
    let hive = site.start_hive(json!([shell("polite", &script)])).await;
    eventually(secs(5), async || up.exists().then_some(()).ok_or("not up yet")).await;
    let start = Instant::now();
    hive.hive().delete("/v1/workers/g/polite").await.expect(200);
    assert!(start.elapsed() < secs(3), "the grace is 10 s, it took {:?}", start.elapsed());
    assert!(farewell.exists(), "it was not asked with SIGTERM");
}

#[actix_web::test]
async fn the_log_holds_what_a_worker_wrote_to_either_output() {
    let site = Site::new();
    let script = "echo one; echo two >&2; echo three; exec /bin/sleep 86400";
    let hive = site.start_hive(json!([shell("talks", script)])).await;
    let tail = |n: usize| format!("/v1/workers/g/talks/logs?tail={n}");
    eventually(secs(5), async || {
        let text = hive.hive().get(&tail(100)).await.text;
        if text == "one\ntwo\nthree\n" { Ok(()) } else { Err(text) }
    })
    .await;
    assert_eq!(hive.hive().get(&tail(2)).await.text, "two\nthree\n");
}

#[actix_web::test]
async fn a_hive_that_is_to_stop_its_workers_ends_with_none_left() {
    let site = Site::new();
    let (marker, names) = (site.marker(), ["a", "b", "c"]);
    let worker = |name: &&str| json!({"group": "g", "instance": name, "command": "/bin/sleep", "args": [marker]});
    let mut hive = site.start_hive(names.iter().map(worker).collect()).await;
    for name in names {
        hive.hive().worker_in_state(&format!("g/{name}"), "ready").await;
    }
    let status = hive.terminate(secs(2)).await;
    assert_eq!(status.code(), Some(0));
    assert!(proc::with_argument(&marker).is_empty());
}

/// Three workers, one of which was restarted once, are the same after `end` and a new hive.
async fn workers_survive(end: impl AsyncFnOnce(&mut crate::support::Daemon)) {
    let site = Site::new();
    let mut config = site.hive_config(None);
    config["hive"]["on_exit"] = json!("leave");
    config["hive"]["workers"] = json!([sleeper("a"), sleeper("b")]);
    config["hive"]["workers"][1]["restart"] = quick_restart();
    let mut hive = site.start("hive", &config).await;
    let made = hive.hive().spawn(sleeper("by-api")).await;
    let a = hive.hive().worker_in_state("g/a", "ready").await;
    let b = hive.hive().worker_in_state("g/b", "ready").await;
    proc::signal(main_pid(&b), Signal::SIGKILL);
    let again = |worker: &Value| worker["state"] == "ready" && worker["restarts"] == 1;
    let b = hive.hive().worker_when("g/b", secs(5), again).await;

    end(&mut hive).await;
    for worker in [&a, &b, &made] {
        assert!(proc::alive(main_pid(worker)), "it outlives its hive");
    }
    let hive = site.start("hive", &config).await;
    for (name, before) in [("g/a", &a), ("g/b", &b), ("g/by-api", &made)] {
        let after = hive.hive().worker_in_state(name, "ready").await;
        assert_eq!(after["pid"], before["pid"], "{name}");
        assert_eq!(after["restarts"], before["restarts"], "{name}");
        assert_eq!(after["adopted"], true, "{name}");
        assert_eq!(after["spec"]["command"], "/bin/sleep", "{name}");
    }
    assert_eq!(hive.hive().get("/v1/workers").await.json["workers"].as_array().unwrap().len(), 3);
    // What was adopted can be ended like any other.
    hive.hive().delete("/v1/workers/g/a").await.expect(200);
    assert!(!proc::alive(main_pid(&a)));
}

#[actix_web::test]
async fn workers_that_a_hive_leaves_are_adopted_by_the_next() {
    workers_survive(async |hive| assert_eq!(hive.terminate(secs(3)).await.code(), Some(0))).await;
}

#[actix_web::test]
async fn workers_of_a_killed_hive_are_adopted_by_the_next() {
    workers_survive(async |hive| hive.kill()).await;
}

#[actix_web::test]
async fn a_worker_that_died_without_a_hive_is_started_again_by_the_next() {
    let site = Site::new();
    let mut config = site.hive_config(None);
    config["hive"]["on_exit"] = json!("leave");
    config["hive"]["workers"] = json!([sleeper("a")]);
    let mut hive = site.start("hive", &config).await;
    let first = main_pid(&hive.hive().worker_in_state("g/a", "ready").await);
    hive.kill();
    proc::signal(first, Signal::SIGKILL);
    eventually(secs(5), async || if proc::alive(first) { Err("still there") } else { Ok(()) })
        .await;
    let hive = site.start("hive", &config).await;
    let worker = hive.hive().worker_in_state("g/a", "ready").await;
    assert_ne!(main_pid(&worker), first);
}

#[actix_web::test]
async fn a_second_hive_on_the_same_state_is_refused() {
    let site = Site::new();
    let config = site.hive_config(None);
    let first = site.start("hive", &config).await;
    let path = site.path("hive.toml");
    let second = rbee(&["--config", path.to_str().unwrap()], &[]);
    assert_eq!(second.status.code(), Some(1), "{second:?}");
    first.hive().get("/health").await.expect(200);
}

#[actix_web::test]
async fn a_drained_worker_runs_on_without_new_requests_until_it_is_resumed() {
    let site = Site::new();
    let mut config = site.hive_config(None);
    config["hive"]["on_exit"] = json!("leave");
    config["hive"]["workers"] = json!([sleeper("a")]);
    let mut hive = site.start("hive", &config).await;
    let before = hive.hive().worker_in_state("g/a", "ready").await;
    let drained = hive.hive().post("/v1/workers/g/a/drain", json!({})).await.expect(200);
    assert_eq!((&drained["state"], &drained["pid"]), (&json!("draining"), &before["pid"]));
    hive.hive().post("/v1/workers/g/a/drain", json!({})).await.expect(200);

    hive.terminate(secs(3)).await;
    let hive = site.start("hive", &config).await;
    let after = hive.hive().worker_in_state("g/a", "draining").await;
    assert_eq!(after["pid"], before["pid"], "it is still drained with the next hive");
    let resumed = hive.hive().post("/v1/workers/g/a/resume", json!({})).await.expect(200);
    assert_eq!((&resumed["state"], &resumed["pid"]), (&json!("ready"), &before["pid"]));
    hive.hive().post("/v1/workers/g/none/drain", json!({})).await.expect(404);
    hive.hive().delete("/v1/workers/g/a").await.expect(200);
}
