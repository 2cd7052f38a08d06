//! What both roles answer to who asks.

use super::{HiveInfo, NodeStats, WorkerReport};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

/// How recently a hive was heard of, by the queen's own clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Freshness {
    /// In time.
    Healthy,
    /// Late; left out of scheduling.
    Degraded,
    /// Taken for dead; kept for the eye until it is evicted.
    Down,
}

impl Freshness {
    /// As it is written on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Down => "down",
        }
    }
}

/// An element of `GET /v1/hives`.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct HiveView {
    /// As it last said.
    #[serde(flatten)]
    pub info: HiveInfo,
    /// How recently it was heard of.
    pub freshness: Freshness,
    /// Since its last heartbeat came in, ms.
    pub age_ms: u64,
    /// Its workers, in any state.
    pub worker_count: usize,
    /// Its own clock at the last heartbeat, RFC 3339.
    pub timestamp: String,
    /// Random for each start of it.
    pub boot_id: Option<String>,
    /// Of its last heartbeat.
    pub seq: Option<u64>,
    /// How often it means to send, ms.
    pub interval_ms: Option<u64>,
    /// Its machine.
    pub node: NodeStats,
}

/// `[age_ms, cpu_pct, working_set_mb, gpu_util_pct, vram_mb]`
pub type HistoryPoint = (u64, f32, u32, f32, u32);

/// An element of the queen's `GET /v1/workers`.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct WorkerView<'a> {
    /// As its hive last said.
    #[serde(flatten)]
    pub report: &'a WorkerReport,
    /// How recently its hive was heard of.
    pub freshness: Freshness,
    /// Oldest first; only where one worker is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<(u64, f32, u32, f32, u32)>>)]
    pub history: Option<&'a [HistoryPoint]>,
}

/// The body of a 200 to a heartbeat.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Ack {
    /// Always `ok`.
    #[schema(value_type = String, example = "ok")]
    pub status: Arc<str>,
    /// For people.
    pub message: String,
}

/// `GET /health`
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// Always `ok`: what is not does not answer.
    #[schema(example = "ok")]
    pub status: String,
    /// `hive` or `queen`.
    pub role: String,
    /// This program's.
    pub version: String,
    /// Since the role started, seconds.
    pub uptime_s: u64,
}

/// Every error's body, in the form that OpenAI's clients know.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// The one field.
    pub error: ApiError,
}

/// What was wrong.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ApiError {
    /// For people: what is wrong and what is allowed.
    pub message: String,
    /// The class, such as `invalid_request_error`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The case, for programs.
    pub code: String,
}

/// `GET /v1/hives`
#[derive(Debug, Serialize, ToSchema)]
pub struct HiveList {
    /// Sorted by id.
    pub hives: Vec<HiveView>,
}

/// The queen's `GET /v1/workers`
#[derive(Debug, Serialize, ToSchema)]
pub struct WorkerList<'a> {
    /// Sorted by hive, group and instance.
    pub workers: Vec<WorkerView<'a>>,
}

/// An element of `GET /v1/history`.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct WorkerHistory {
    /// Which hive it runs on.
    #[schema(value_type = String)]
    pub hive_id: Arc<str>,
    /// Its group.
    pub group: String,
    /// Its instance.
    pub instance: String,
    /// Oldest first.
    #[schema(value_type = Vec<(u64, f32, u32, f32, u32)>)]
    pub history: Vec<HistoryPoint>,
}

/// `GET /v1/history`
#[derive(Debug, Serialize, ToSchema)]
pub struct HistoryList {
    /// Sorted by hive, group and instance.
    pub workers: Vec<WorkerHistory>,
}

/// One thing that a worker can run on.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Device {
    /// Unique on this machine, such as `CPU-0`.
    pub id: String,
    /// As its maker calls it.
    pub name: String,
    /// `cpu` or `gpu`
    pub device_type: String,
    /// GiB of its own memory; 0 for a processor.
    pub vram_gb: f64,
}

/// What the hive can do with cgroups here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct CgroupCapability {
    /// As configured.
    pub mode: String,
    /// Whether workers get one.
    pub available: bool,
    /// The directory that holds them.
    pub slice: Option<String>,
    /// What is enabled there.
    pub controllers: Vec<String>,
    /// Why there is none, or why controllers are missing, and what can be done about it.
    pub reason: Option<String>,
}

/// `GET /capabilities`
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Capabilities {
    /// What workers can run on.
    pub devices: Vec<Device>,
    /// How they are held together.
    pub cgroup: CgroupCapability,
}
