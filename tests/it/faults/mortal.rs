//! A worker that is killed while something else is wrong, and what the queen's clients hear of it.

use crate::support::{Api, Event, SseClient, proc, secs};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// A worker that waits, and is started again at once.
pub(super) fn sleeper(instance: &str) -> Value {
    json!({
        "group": "g", "instance": instance, "command": "/bin/sleep", "args": ["86400"],
        "restart": {"backoff_ms": 10, "backoff_max_ms": 10, "max_restarts": 100},
    })
}

/// The main process of a worker.
pub(super) fn main_pid(worker: &Value) -> u32 {
    worker["pid"].as_u64().expect("it has a PID") as u32
}

/// Kills `g/dies`, which was restarted so often before, and waits until it is back.
pub(super) async fn kill(hive: &Api, times_before: u64) {
    let worker = hive.worker("g/dies").await;
    proc::signal(main_pid(&worker), Signal::SIGKILL);
    let again = |w: &Value| w["restarts"] == times_before + 1 && w["state"] == "ready";
    hive.worker_when("g/dies", secs(10), again).await;
}

/// All events until `g/dies` is ready again, and three heartbeats more.
pub(super) async fn until_told(stream: &mut SseClient) -> Vec<Event> {
    let (mut events, mut after) = (Vec::new(), 0);
    while after < 3 {
        let event = stream.next(secs(20)).await;
        let ready = events.iter().any(|e: &Event| e.is("worker_ready", "dies"));
        after += usize::from(ready && event.kind() == "hive_telemetry");
        events.push(event);
    }
    events
}

/// Asserts that each death of `g/dies`, and no other worker's, was told once.
#[track_caller]
pub(super) fn assert_told_once(events: &[Event], times: usize) {
    for kind in ["worker_exited", "worker_started", "worker_ready"] {
        let told = events.iter().filter(|event| event.is(kind, "dies")).count();
        assert_eq!(told, times, "{kind}");
    }
    let exits = events.iter().filter(|event| event.kind() == "worker_exited").count();
    assert_eq!(exits, times, "nobody else died");
}
