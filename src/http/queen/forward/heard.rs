//! A hive's answer means that it has happened. Here it means more: that this queen knows of it, so that
//! whoever asks the queen next finds the worker as the answer said.

use super::super::QueenState;
use crate::contract::{Freshness, WorkerState};
use serde::Deserialize;
use std::time::Duration;
use tokio::time::Instant;

/// A hive tells what happened at once, and at its next interval at the latest.
const HEARD_WITHIN: Duration = Duration::from_secs(2);

/// What is looked at of a hive's answer to a call that starts or changes a worker.
#[derive(Debug, Deserialize)]
struct Answered {
    group: String,
    instance: String,
    pid: Option<u32>,
    state: WorkerState,
}

/// Waits until the registry has the worker as `answer` says, or a later state of it. Whatever keeps the
/// heartbeat away does not keep the answer: it is true all the same.
pub(super) async fn heard(state: &QueenState, hive: &str, answer: &[u8]) {
    let Ok(answered) = serde_json::from_slice::<Answered>(answer) else { return };
    let waited = tokio::time::timeout(HEARD_WITHIN, async {
        loop {
            let next = state.reader.next_heartbeat();
            let mut next = std::pin::pin!(next);
            // From here on no heartbeat is missed.
            next.as_mut().enable();
            if is_known(state, hive, &answered) {
                return;
            }
            next.await;
        }
    });
    if waited.await.is_err() {
        tracing::debug!(hive_id = hive, "a hive answered, and has not told it since");
    }
}

/// Also where the hive tells nothing here.
fn is_known(state: &QueenState, hive: &str, answered: &Answered) -> bool {
    let now = Instant::now();
    let listens =
        state.reader.hive(hive, now).is_some_and(|hive| hive.freshness == Freshness::Healthy);
    if !listens {
        return true;
    }
    let found = state.reader.worker(hive, &answered.group, &answered.instance, now);
    let told = found.as_ref().and_then(|found| found.report());
    told.is_some_and(|told| {
        told.pid == answered.pid
            && (told.state == answered.state || told.state == WorkerState::Ready)
    })
}
