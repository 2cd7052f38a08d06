//! Echo workers of a hive, as their specifications and as the queen sees them.

use super::{Api, eventually};
use serde_json::{Value, json};
use std::time::Duration;

/// A worker `echo/{port}` that takes `delay_ms` for each word, with `more` said in its spec.
pub(crate) fn echo(port: u16, model: &str, delay_ms: u64, more: Value) -> Value {
    let (port, delay) = (port.to_string(), delay_ms.to_string());
    let mut spec = json!({
        "group": "echo", "instance": port, "command": super::RBEE,
        "args": ["echo-worker", "--port", port, "--model", model, "--delay-ms", delay],
        "ready": {"http": format!("http://127.0.0.1:{port}/health"), "interval_ms": 50},
    });
    let said = more.as_object().expect("more is an object").clone();
    spec.as_object_mut().expect("a spec is an object").extend(said);
    spec
}

/// The queen's workers once there are `count`, all ready.
pub(crate) async fn ready_workers(queen: &Api, count: usize, deadline: Duration) -> Vec<Value> {
    eventually(deadline, async || {
        let answer = queen.try_get("/v1/workers").await?;
        let workers = answer.json["workers"].as_array().cloned().unwrap_or_default();
        let all = workers.len() == count && workers.iter().all(|worker| worker["state"] == "ready");
        if all { Ok(workers) } else { Err(answer.text) }
    })
    .await
}

/// Requests that the echo worker at `api` is at.
pub(crate) async fn in_progress(api: &Api) -> u64 {
    let page = api.get("/metrics").await.text;
    let value = page.lines().find_map(|line| line.strip_prefix("llamacpp:requests_processing "));
    value.and_then(|value| value.parse().ok()).expect("the gauge is there")
}
