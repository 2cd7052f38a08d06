//! The data of the events in `GET /v1/heartbeats/stream`. Each carries its `type`.

use super::{ExitRecord, HiveView, NodeStats, WorkerReport, WorkerState, WorkerView};
use serde::Serialize;
use utoipa::ToSchema;

/// First on each connection: everything that is known.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "type", rename = "snapshot")]
pub struct Snapshot<'a> {
    /// When it was taken, RFC 3339.
    pub timestamp: String,
    /// Every hive.
    pub hives: Vec<HiveView>,
    /// Every worker of every hive.
    pub workers: Vec<WorkerView<'a>>,
}

/// One accepted heartbeat.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "type", rename = "hive_telemetry")]
pub struct HiveTelemetry<'a> {
    /// Whose.
    pub hive_id: &'a str,
    /// The sender's clock, RFC 3339.
    pub timestamp: &'a str,
    /// The machine.
    pub node: &'a NodeStats,
    /// All of the hive's workers.
    pub workers: &'a [WorkerReport],
}

/// The queen's own heartbeat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(tag = "type", rename = "queen")]
pub struct QueenHeartbeat {
    /// Workers known, on hives that are not down.
    pub workers_online: usize,
    /// Of these, the ready and idle ones on healthy hives.
    pub workers_available: usize,
    /// Hives that are not down.
    pub hives_online: usize,
    /// Of these, the healthy ones.
    pub hives_available: usize,
    /// `{hive_id}/{group}/{instance}`, sorted.
    pub worker_ids: Vec<String>,
    /// Sorted.
    pub hive_ids: Vec<String>,
    /// The queen's clock, RFC 3339.
    pub timestamp: String,
}

/// This client was too slow, and lost events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(tag = "type", rename = "lagged")]
pub struct Lagged {
    /// How many.
    pub missed: u64,
}

/// What kind of thing happened, to a worker or to a hive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names are the contract's own and say it")]
pub enum StreamLifecycleKind {
    WorkerStarted,
    WorkerReady,
    WorkerExited,
    WorkerFailed,
    WorkerStopped,
    HiveOnline,
    HiveDegraded,
    HiveDown,
    HiveEvicted,
}

/// One lifecycle event. The worker's fields are absent in a hive's event.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct StreamLifecycle {
    /// What happened.
    #[serde(rename = "type")]
    pub kind: StreamLifecycleKind,
    /// When, RFC 3339: the hive's clock for a worker, the queen's for a hive.
    pub timestamp: String,
    /// The hive that it happened to or on.
    pub hive_id: String,
    /// `{hive_id}/{group}/{instance}`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker_id: Option<String>,
    /// The worker's group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The worker's instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// The main process that it happened to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// The worker's state that followed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<WorkerState>,
    /// How the run ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<ExitRecord>,
}
