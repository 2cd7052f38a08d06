//! Heartbeats for tests.

use super::HiveRecord;
use crate::contract::{HiveHeartbeat, HiveInfo, LifecycleEvent, NodeStats, WorkerReport};
use serde_json::json;
use tokio::time::Instant;

#[allow(clippy::unwrap_used, reason = "what is written here parses")]
pub(crate) fn worker(group: &str, instance: &str) -> WorkerReport {
    serde_json::from_value(json!({"group": group, "instance": instance})).unwrap()
}

pub(crate) fn heartbeat(id: &str, workers: Vec<WorkerReport>) -> HiveHeartbeat {
    HiveHeartbeat {
        hive: HiveInfo {
            id: id.into(),
            hostname: "127.0.0.1".into(),
            port: 7835,
            operational_status: Default::default(),
            health_status: Default::default(),
            version: String::new(),
            leaves_workers: true,
        },
        timestamp: "2026-01-01T00:00:00Z".into(),
        boot_id: None,
        seq: None,
        interval_ms: None,
        node: NodeStats::default(),
        workers,
        events: Vec::new(),
    }
}

pub(crate) fn numbered(id: &str, boot: &str, seq: u64) -> HiveHeartbeat {
    let mut numbered = heartbeat(id, vec![worker("llm", "8080")]);
    numbered.boot_id = Some(boot.into());
    numbered.seq = Some(seq);
    numbered
}

/// As the registry is told it.
pub(crate) fn heard(heartbeat: HiveHeartbeat) -> (HiveRecord, Vec<LifecycleEvent>) {
    HiveRecord::new(heartbeat, Instant::now())
}
