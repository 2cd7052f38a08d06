//! Asking a worker whether it serves.

use crate::contract::{LiveProbe, ReadyProbe};
use awc::Client;
use serde_json::json;
use std::time::{Duration, Instant};

/// How long one readiness request may take; a slow one is asked again.
const READY_REQUEST_WITHIN: Duration = Duration::from_secs(5);

/// Asks until the answer is 2xx; `false` when that took too long.
pub async fn await_readiness(client: Client, probe: ReadyProbe) -> bool {
    let deadline = Instant::now() + Duration::from_secs(probe.timeout_s);
    let mut ticks = tokio::time::interval(Duration::from_millis(probe.interval_ms));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while Instant::now() < deadline {
        ticks.tick().await;
        let left = deadline.saturating_duration_since(Instant::now());
        if answers(&client, &probe.http, left.min(READY_REQUEST_WITHIN)).await {
            return true;
        }
    }
    false
}

/// Asks until too many answers in a row are bad.
pub async fn until_not_live(client: Client, probe: LiveProbe, url: String, model: Option<String>) {
    let mut ticks = tokio::time::interval(Duration::from_millis(probe.interval_ms));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let timeout = Duration::from_millis(probe.timeout_ms);
    let mut failures = 0;
    while failures < probe.failures {
        ticks.tick().await;
        let alive = match &probe.http {
            Some(http) => answers(&client, http, timeout).await,
            None => completes(&client, &url, model.as_deref(), timeout).await,
        };
        failures = if alive { 0 } else { failures + 1 };
    }
}

async fn answers(client: &Client, url: &str, within: Duration) -> bool {
    let request = client.get(url).timeout(within).send();
    matches!(tokio::time::timeout(within, request).await, Ok(Ok(response)) if response.status().is_success())
}

/// One token: an engine can hang while its health page says 200.
async fn completes(client: &Client, url: &str, model: Option<&str>, within: Duration) -> bool {
    let body = json!({"model": model.unwrap_or_default(), "prompt": "a", "max_tokens": 1});
    let exchange = async {
        let request = client.post(format!("{url}/v1/completions")).timeout(within);
        let mut response = request.send_json(&body).await.ok()?;
        let read = response.body().await.is_ok();
        (read && response.status().is_success()).then_some(())
    };
    matches!(tokio::time::timeout(within, exchange).await, Ok(Some(())))
}
