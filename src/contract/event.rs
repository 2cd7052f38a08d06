//! What happened to a worker, told at least once.

use super::{WorkerState, object};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExitRecord {
    /// When it was noticed, RFC 3339.
    #[schema(max_length = 128, format = DateTime)]
    pub at: String,
    /// Exit code; `None` after a signal, or where the kernel did not tell.
    #[serde(default)]
    pub code: Option<i32>,
    /// Signal by name (`SIGKILL`); `None` after an exit, or where the kernel did not tell.
    #[serde(default)]
    pub signal: Option<String>,
    /// Processes of the tree that the kernel killed for memory in this run; `None` without a memory controller.
    #[serde(default)]
    pub oom_killed: Option<u64>,
    /// How long the main process ran, seconds.
    #[serde(default)]
    pub uptime_s: u64,
    /// The most memory the tree held, MiB.
    #[serde(default)]
    pub peak_rss_mb: u64,
    /// The last lines that it wrote, oldest first, control characters escaped.
    #[serde(default)]
    #[schema(max_items = 64)]
    pub log_tail: Vec<String>,
    /// The state that followed: `backoff`, `failed`, `stopped` or, within a restart, `starting`.
    pub next: WorkerState,
}

/// What kind of thing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// Its process runs.
    WorkerStarted,
    /// It serves.
    WorkerReady,
    /// Its main process ended.
    WorkerExited,
    /// It will not be started again before an operator says so.
    WorkerFailed,
    /// It ended as it was meant to.
    WorkerStopped,
}

/// One event of a worker's life, as a hive tells it to its queen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LifecycleEvent {
    /// Counts up within one `boot_id`; repeats are dropped by it.
    pub seq: u64,
    /// What happened.
    #[serde(rename = "type")]
    pub kind: EventKind,
    /// When, RFC 3339.
    #[schema(max_length = 128, format = DateTime)]
    pub at: String,
    /// The worker's group.
    #[schema(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    pub group: String,
    /// The worker's instance.
    #[schema(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    pub instance: String,
    /// The main process that it happened to.
    #[serde(default)]
    pub pid: Option<u32>,
    /// The state that followed.
    pub state: WorkerState,
    /// With `worker_exited` and what follows from it: how the run ended.
    #[serde(
        default,
        deserialize_with = "object::optional",
        skip_serializing_if = "Option::is_none"
    )]
    pub last_exit: Option<ExitRecord>,
}
