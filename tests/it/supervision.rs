//! Many workers, of which some die all the time: the untouched ones are sampled as if nothing happened.

use crate::support::{Site, SseClient, proc, secs};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

const WORKERS: usize = 200;
const ROUNDS: u32 = 20;
const TICK: Duration = Duration::from_secs(1);

fn sleeper(n: usize) -> Value {
    json!({
        "group": "g", "instance": format!("w{n}"), "command": "/bin/sleep", "args": ["86400"],
        "restart": {"max_restarts": 1000, "backoff_ms": 50, "backoff_max_ms": 50},
    })
}

/// When each worker was sampled, as the stream tells it.
#[derive(Default)]
struct Samples(HashMap<String, Vec<Instant>>);

impl Samples {
    fn note(&mut self, at: Instant, worker: &Value) {
        let age = Duration::from_millis(worker["sample_age_ms"].as_u64().unwrap());
        let taken = at - age;
        let seen = self.0.entry(worker["instance"].as_str().unwrap().to_owned()).or_default();
        // The same sample can be told twice; ages are in whole milliseconds.
        if seen.last().is_none_or(|last| taken > *last + TICK / 4) {
            seen.push(taken);
        }
    }

    fn gaps(&self, of: impl Fn(&str) -> bool) -> Vec<Duration> {
        let series = self.0.iter().filter(|(name, _)| of(name)).map(|(_, taken)| taken);
        let mut gaps: Vec<_> =
            series.flat_map(|taken| taken.windows(2).map(|pair| pair[1] - pair[0])).collect();
        gaps.sort();
        gaps
    }
}

#[actix_web::test]
async fn a_tenth_of_200_workers_killed_each_second_leaves_the_others_samples_in_time() {
    let site = Site::new();
    let (queen, hive) = site.start_both((0..WORKERS).map(sleeper).collect()).await;
    for n in 0..WORKERS {
        hive.hive().worker_in_state(&format!("g/w{n}"), "ready").await;
    }
    let mut stream =
        SseClient::connect(&format!("{}/v1/heartbeats/stream", queen.queen().url())).await;
    // The first half is never touched; the others take turns.
    let mortal = |name: &str| name[1..].parse::<usize>().unwrap() >= WORKERS / 2;
    let (mut samples, mut pids) = (Samples::default(), HashMap::new());
    let (mut killed, mut rounds) = (0, 0);
    let start = Instant::now();
    while rounds < ROUNDS {
        let event = stream.next_matching("an event", secs(5), |_| true).await;
        if event.kind() != "hive_telemetry" {
            continue;
        }
        for worker in event.data["workers"].as_array().unwrap() {
            let name = worker["instance"].as_str().unwrap();
            if let Some(pid) = worker["pid"].as_u64() {
                samples.note(event.at, worker);
                pids.insert(name.to_owned(), pid as u32);
            }
        }
        if start.elapsed() < TICK * rounds {
            continue;
        }
        rounds += 1;
        let turn = rounds as usize % 5;
        for n in (WORKERS / 2..WORKERS).filter(|n| n % 5 == turn) {
            if let Some(pid) = pids.get(&format!("w{n}")).filter(|pid| proc::alive(**pid)) {
                proc::signal(*pid, Signal::SIGKILL);
                killed += 1;
            }
        }
    }
    let gaps = samples.gaps(|name| !mortal(name));
    let p99 = gaps[gaps.len() * 99 / 100];
    println!(
        "{killed} killed; {} gaps of the untouched: median {:?}, p99 {p99:?}, longest {:?}",
        gaps.len(),
        gaps[gaps.len() / 2],
        gaps[gaps.len() - 1],
    );
    assert!(killed >= WORKERS / 10 * (ROUNDS as usize - 4), "only {killed} were killed");
    assert!(gaps.len() >= WORKERS / 2 * (ROUNDS as usize - 4), "only {} gaps", gaps.len());
    assert!(p99 < 2 * TICK, "p99 {p99:?}");
    let untouched = hive.hive().get("/v1/workers?group=g").await.json;
    for worker in untouched["workers"].as_array().unwrap() {
        let name = worker["instance"].as_str().unwrap();
        assert_eq!(worker["restarts"] == 0, !mortal(name), "{name}");
    }
    assert!(proc::zombies(hive.pid()).is_empty());
}

#[actix_web::test]
async fn a_worker_whose_tree_outlives_it_is_started_again_only_when_that_is_gone() {
    for mode in ["auto", "off"] {
        let site = Site::new();
        let marker = site.marker();
        let mut config = site.hive_config(None);
        config["hive"]["cgroup"]["mode"] = json!(mode);
        let script = format!("setsid /bin/sleep {marker} & exec /bin/sleep 86400");
        config["hive"]["workers"] = json!([{
            "group": "g", "instance": "a", "command": "/bin/sh", "args": ["-c", script],
            "restart": {"backoff_ms": 10, "backoff_max_ms": 10},
        }]);
        let hive = site.start("hive", &config).await;
        let two = |w: &Value| w["pids"].as_array().is_some_and(|pids| pids.len() == 2);
        let worker = hive.hive().worker_when("g/a", secs(5), two).await;
        let (main, daemon) =
            (worker["pids"][0].as_u64().unwrap(), worker["pids"][1].as_u64().unwrap());
        proc::signal(main as u32, Signal::SIGKILL);
        let again = |w: &Value| w["restarts"] == 1 && w["pid"].is_u64();
        hive.hive().worker_when("g/a", secs(5), again).await;
        assert!(!proc::exists(daemon as u32), "{mode}: it held the port and the memory");
    }
}

#[actix_web::test]
async fn an_engine_that_hangs_while_its_health_page_answers_is_started_again() {
    let site = Site::new();
    let port = crate::support::free_port();
    let hang = site.path("hang");
    let engine = format!(
        r#"
import http.server, os, threading, time
class Engine(http.server.BaseHTTPRequestHandler):
    def answer(self):
        self.send_response(200); self.send_header("content-length", "2"); self.end_headers()
        self.wfile.write(b"{{}}")
    def do_GET(self): self.answer()
    def do_POST(self):
        while os.path.exists({hang:?}): time.sleep(0.05)
        self.answer()
    def log_message(self, *a): pass
http.server.ThreadingHTTPServer(("127.0.0.1", {port}), Engine).serve_forever()
"#
    );
    let script = site.path("engine.py");
    std::fs::write(&script, engine).unwrap();
    let health = format!("http://127.0.0.1:{port}/health");
    let hive = site
        .start_hive(json!([{
            "group": "g", "instance": port.to_string(), "command": "python3", "args": [script],
            "ready": {"http": health, "interval_ms": 50},
            "live": {"completion": true, "interval_ms": 100, "timeout_ms": 300, "failures": 2},
            "restart": {"backoff_ms": 20, "backoff_max_ms": 20}, "stop_grace_ms": 1000,
        }]))
        .await;
    let name = format!("g/{port}");
    let before = hive.hive().worker_in_state(&name, "ready").await;
    std::fs::write(&hang, "").unwrap();
    hive.hive().worker_when(&name, secs(10), |w| w["state"] != "ready").await;
    std::fs::remove_file(&hang).unwrap();
    let again = |w: &Value| w["state"] == "ready" && w["restarts"] == 1;
    let after = hive.hive().worker_when(&name, secs(10), again).await;
    assert_ne!(after["pid"], before["pid"]);
}

#[actix_web::test]
async fn a_death_while_the_queen_was_away_is_told_when_it_is_back() {
    let site = Site::new();
    let port = crate::support::free_port();
    let mut queen_config = site.queen_config();
    queen_config["queen"]["bind"] = json!(format!("127.0.0.1:{port}"));
    let mut queen = site.start("queen", &queen_config).await;
    let mut config = site.hive_config(Some(queen.queen().url()));
    config["hive"]["workers"] = json!([sleeper(1)]);
    let hive = site.start("hive", &config).await;
    let worker = hive.hive().worker_in_state("g/w1", "ready").await;
    assert_eq!(queen.terminate(secs(3)).await.code(), Some(0));

    proc::signal(worker["pid"].as_u64().unwrap() as u32, Signal::SIGKILL);
    hive.hive().worker_when("g/w1", secs(5), |w| w["restarts"] == 1).await;
    let queen = site.start("queen", &queen_config).await;
    let url = format!("{}/v1/heartbeats/stream", queen.queen().url());
    let newest = SseClient::connect(&url).await.next(secs(5)).await.id;
    // Whatever was said before this client came is held for one that says what it has seen: nothing.
    let (start, _) = newest.split_once('-').unwrap();
    let mut stream = SseClient::connect(&format!("{url}?lastEventId={start}-0")).await;
    let told = stream.next_matching("the exit", secs(5), |e| e.is("worker_exited", "w1")).await;
    assert_eq!(told.data["pid"], worker["pid"]);
    assert_eq!(told.data["last_exit"]["signal"], "SIGKILL");
    let repeats = stream.during(secs(3)).await;
    assert!(!repeats.iter().any(|e| e.is("worker_exited", "w1")), "told once");
}
