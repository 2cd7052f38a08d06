//! What happens to one worker is no other's concern, and is told without delay.

use crate::support::{Event, Site, SseClient, ms, proc, secs};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Tick of the monitors and of the heartbeat.
const TICK: Duration = Duration::from_millis(500);

fn mortal(instance: &str) -> Value {
    json!({
        "group": "g", "instance": instance, "command": "/bin/sleep", "args": ["86400"],
        "restart": {"policy": "never"},
    })
}

#[actix_web::test]
async fn the_death_of_one_worker_leaves_no_gap_in_the_others_samples() {
    let site = Site::new();
    let queen = site.start("queen", &site.queen_config()).await;
    let mut config = site.hive_config(Some(queen.queen().url()));
    config["hive"]["sample_interval_ms"] = json!(TICK.as_millis() as u64);
    config["hive"]["heartbeat_interval_ms"] = json!(TICK.as_millis() as u64);
    let names = ["a", "b", "c", "victim"];
    config["hive"]["workers"] = names.iter().map(|name| mortal(name)).collect();
    let hive = site.start("hive", &config).await;
    let victim = hive.hive().worker_in_state("g/victim", "ready").await;

    let mut stream =
        SseClient::connect(&format!("{}/v1/heartbeats/stream", queen.queen().url())).await;
    let sampled = |event: &Event| {
        event.kind() == "hive_telemetry"
            && names.iter().all(|name| event.worker(name).is_some_and(|w| w["pid"].is_u64()))
    };
    stream.next_matching("telemetry of all four", secs(5), sampled).await;

    proc::signal(victim["pid"].as_u64().unwrap() as u32, Signal::SIGKILL);
    let died = stream
        .next_matching("the exit", secs(2), |event| event.is("worker_exited", "victim"))
        .await;
    assert_eq!(died.data["last_exit"]["signal"], "SIGKILL");
    assert_eq!(died.data["last_exit"]["code"], Value::Null);

    let events = stream.during(6 * TICK).await;
    let telemetry: Vec<_> = events.iter().filter(|e| e.kind() == "hive_telemetry").collect();
    assert!(telemetry.len() >= 4, "only {} heartbeats in six intervals", telemetry.len());
    for event in &telemetry {
        for name in ["a", "b", "c"] {
            let worker = event.worker(name).expect("the others are still told");
            let age = ms(worker["sample_age_ms"].as_u64().unwrap());
            assert!(age <= 2 * TICK, "{name}: no sample for {age:?}");
            assert_eq!(worker["state"], "ready");
        }
    }
    let dead = hive.hive().worker("g/victim").await;
    assert_eq!((&dead["state"], &dead["pid"]), (&json!("failed"), &Value::Null));
    assert_eq!(dead["last_exit"]["signal"], "SIGKILL");
    assert_eq!(dead["last_exit"]["next"], "failed");
}

#[actix_web::test]
async fn a_death_reaches_a_client_of_the_stream_at_once() {
    let site = Site::new();
    let names = ["a", "b", "c", "d", "e"];
    let workers = names.iter().map(|name| mortal(name)).collect();
    let (queen, hive) = site.start_both(workers).await;
    let mut victims = Vec::new();
    for name in names {
        let worker = hive.hive().worker_in_state(&format!("g/{name}"), "ready").await;
        victims.push((name, worker["pid"].as_u64().unwrap() as u32));
    }
    let mut stream =
        SseClient::connect(&format!("{}/v1/heartbeats/stream", queen.queen().url())).await;
    stream.next_matching("telemetry", secs(5), |event| event.kind() == "hive_telemetry").await;

    let mut delays = Vec::new();
    for (name, pid) in victims {
        // Each death by itself: what follows from the one before has been told.
        stream.next_matching("telemetry", secs(5), |event| event.kind() == "hive_telemetry").await;
        stream.during(ms(250)).await;
        let killed = Instant::now();
        proc::signal(pid, Signal::SIGKILL);
        let told = stream
            .next_matching("the exit", secs(3), |event| event.is("worker_exited", name))
            .await;
        assert_eq!(told.name, "lifecycle");
        assert_eq!(told.data["worker_id"], format!("test-hive/g/{name}"));
        assert_eq!(told.data["pid"], pid);
        delays.push(told.at - killed);
    }
    delays.sort();
    println!("from the kill to the stream: {delays:?}");
    assert!(delays[2] <= ms(100), "{delays:?}");
}
