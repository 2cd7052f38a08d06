//! A worker on the wire: what it was asked to be ([`WorkerSpec`]) and what it is ([`WorkerReport`]).

use super::{Age, ExitRecord, object};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc};
use utoipa::ToSchema;

/// Where a worker stands in its life. Being busy is not a state: it is read from its load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum WorkerState {
    /// Started, and not yet known to answer.
    Starting,
    /// Running and, where a readiness probe is set, answering it. What a report without a state means.
    #[default]
    Ready,
    /// Running, takes no new requests.
    Draining,
    /// Told to end; its tree may still run.
    Stopping,
    /// Ended and not to be started again by itself.
    Stopped,
    /// Died, and will be started again at `retry_at`.
    Backoff,
    /// Died too often or in a way its policy does not restart; an operator's restart leaves this.
    Failed,
}

impl WorkerState {
    /// As it is written on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Backoff => "backoff",
            Self::Failed => "failed",
        }
    }
}

/// How the worker's tree is held together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// In a cgroup v2 of its own, from its first instruction.
    Cgroup,
    /// In a session of its own; its tree is followed through /proc.
    #[default]
    Plain,
}

/// One GPU's part in a worker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct GpuShare {
    /// The GPU's UUID as its driver gives it.
    #[schema(max_length = 128)]
    pub uuid: String,
    /// SM utilisation of the worker's tree on this GPU, 0 to 100.
    #[schema(minimum = 0)]
    pub util_pct: f64,
    /// Memory of the worker's tree on this GPU, MiB.
    pub vram_mb: u64,
}

/// `some avg10` of the worker's pressure files, percent of time; `None` where the kernel has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Pressure {
    /// `cpu.pressure`
    #[schema(minimum = 0)]
    pub cpu: Option<f64>,
    /// `memory.pressure`
    #[schema(minimum = 0)]
    pub memory: Option<f64>,
    /// `io.pressure`
    #[schema(minimum = 0)]
    pub io: Option<f64>,
}

/// One worker as its hive sees it: the element of a heartbeat's `workers`.
///
/// Only `group` and `instance` are required on input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WorkerReport {
    /// Which hive it runs on; set in the queen's answers only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = true)]
    pub hive_id: Option<Arc<str>>,
    /// Its group, such as `llm`.
    #[schema(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", example = "llm")]
    pub group: String,
    /// Its instance within the group, usually its port.
    #[schema(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", example = "8080")]
    pub instance: String,
    /// Main process; `None` while it has none.
    #[serde(default)]
    pub pid: Option<u32>,
    /// Where it stands in its life.
    #[serde(default)]
    pub state: WorkerState,
    /// 100 = one core; over the time between the last two samples.
    #[serde(default)]
    #[schema(minimum = 0)]
    pub cpu_pct: f64,
    /// MiB, with page cache, as the kernel charges it (`memory.current`), else the tree's RSS.
    #[serde(default)]
    pub rss_mb: u64,
    /// MiB: `memory.current` less `inactive_file`, else the tree's RSS.
    #[serde(default)]
    pub working_set_mb: u64,
    /// MiB of anonymous memory.
    #[serde(default)]
    pub anon_mb: u64,
    /// MiB/s read, all devices.
    #[serde(default)]
    #[schema(minimum = 0)]
    pub io_r_mb_s: f64,
    /// MiB/s written, all devices.
    #[serde(default)]
    #[schema(minimum = 0)]
    pub io_w_mb_s: f64,
    /// Seconds since the main process started.
    #[serde(default)]
    pub uptime_s: u64,
    /// SM utilisation summed over GPUs and over the tree.
    #[serde(default)]
    #[schema(minimum = 0)]
    pub gpu_util_pct: f64,
    /// MiB of GPU memory, summed likewise.
    #[serde(default)]
    pub vram_mb: u64,
    /// MiB of GPU memory there is on the GPUs it is on; `None` when not known.
    #[serde(default)]
    pub total_vram_mb: Option<u64>,
    /// The same figures per GPU.
    #[serde(default, deserialize_with = "object::list")]
    #[schema(max_items = 256)]
    pub gpus: Vec<GpuShare>,
    /// The model it serves.
    #[serde(default)]
    #[schema(max_length = 4096)]
    pub model: Option<String>,
    /// Other names its model answers to.
    #[serde(default)]
    #[schema(max_items = 64)]
    pub model_aliases: Vec<String>,
    /// Requests in progress, as its own metrics page says.
    #[serde(default)]
    pub requests_running: Option<u64>,
    /// Requests queued, as its own metrics page says.
    #[serde(default)]
    pub requests_waiting: Option<u64>,
    /// 0 to 100, as its own metrics page says.
    #[serde(default)]
    #[schema(minimum = 0)]
    pub kv_cache_pct: Option<f64>,
    /// Whether it does nothing; `None` when it cannot be known.
    #[serde(default)]
    pub idle: Option<bool>,
    /// Every process of its tree, main process first.
    #[serde(default)]
    #[schema(max_items = 65536)]
    pub pids: Vec<u32>,
    /// Where it serves.
    #[serde(default)]
    #[schema(
        max_length = 4096,
        pattern = "^https?://[^/?#]+[^?#]*$",
        example = "http://127.0.0.1:8080"
    )]
    pub url: Option<String>,
    /// Requests it takes at once; `None`: no limit.
    #[serde(default)]
    pub slots: Option<u32>,
    /// How its tree is held together.
    #[serde(default)]
    pub isolation: Isolation,
    /// Whether every limit that was asked for is in force; `None` when none was asked for.
    #[serde(default)]
    pub limits_applied: Option<bool>,
    /// The CPU limit asked for, 100 = one core.
    #[serde(default)]
    #[schema(minimum = 0)]
    pub cpu_limit_pct: Option<f64>,
    /// The memory limit asked for, MiB.
    #[serde(default)]
    pub memory_limit_mb: Option<u64>,
    /// Pressure stall figures.
    #[serde(default, deserialize_with = "object::one")]
    pub pressure: Pressure,
    /// Percent of the scheduling periods since the last sample in which it was throttled.
    #[serde(default)]
    #[schema(minimum = 0)]
    pub throttled_pct: Option<f64>,
    /// How often it was started again after a death.
    #[serde(default)]
    pub restarts: u64,
    /// When it will be started again (RFC 3339), in `backoff`.
    #[serde(default)]
    #[schema(max_length = 128)]
    pub retry_at: Option<String>,
    /// Whether it was found running rather than started by this hive.
    #[serde(default)]
    pub adopted: bool,
    /// Whether the configuration asks for something else than what runs; a restart applies it.
    #[serde(default)]
    pub spec_changed: bool,
    /// How its last run ended.
    #[serde(default, deserialize_with = "object::optional")]
    pub last_exit: Option<ExitRecord>,
    /// How old these figures are.
    #[serde(default)]
    #[schema(value_type = u64)]
    pub sample_age_ms: Age,
}

/// When a death is followed by another start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RestartWhen {
    /// After an exit code other than 0, or a signal.
    #[default]
    OnFailure,
    /// After any exit.
    Always,
    /// Never.
    Never,
}

/// Whether, how often and how fast a worker that died is started again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RestartPolicy {
    /// After which exits.
    #[schema(default = "on-failure")]
    pub policy: RestartWhen,
    /// Restarts allowed within `window_s`; one more is `failed`.
    #[schema(default = 5, maximum = 1000000)]
    pub max_restarts: u32,
    /// Seconds.
    #[schema(default = 60, minimum = 1, maximum = 86400)]
    pub window_s: u64,
    /// First delay, ms; doubled for each restart within the window.
    #[schema(default = 500, minimum = 1, maximum = 86400000)]
    pub backoff_ms: u64,
    /// Longest delay, ms.
    #[schema(default = 30000, minimum = 1, maximum = 86400000)]
    pub backoff_max_ms: u64,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self {
            policy: RestartWhen::OnFailure,
            max_restarts: 5,
            window_s: 60,
            backoff_ms: 500,
            backoff_max_ms: 30_000,
        }
    }
}

/// How it is learnt that a worker serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReadyProbe {
    /// Asked with GET; a 2xx answer means ready.
    #[schema(
        max_length = 1024,
        pattern = "^http://[^/]",
        example = "http://127.0.0.1:8080/health"
    )]
    pub http: String,
    /// Between two tries, ms.
    #[schema(default = 500, minimum = 10, maximum = 86400000)]
    pub interval_ms: u64,
    /// Without a 2xx answer for this long, the start counts as a death; seconds.
    #[schema(default = 120, minimum = 1, maximum = 86400)]
    pub timeout_s: u64,
}

/// How it is learnt that a ready worker still serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LiveProbe {
    /// Asked with GET; anything but 2xx counts as a failure.
    #[schema(max_length = 1024, pattern = "^http://[^/]")]
    pub http: Option<String>,
    /// Ask for a completion of one token instead.
    #[schema(default = false)]
    pub completion: bool,
    /// Between two probes, ms.
    #[schema(default = 5000, minimum = 100, maximum = 86400000)]
    pub interval_ms: u64,
    /// How long an answer may take, ms.
    #[schema(default = 2000, minimum = 10, maximum = 86400000)]
    pub timeout_ms: u64,
    /// Failures in a row that make it dead.
    #[schema(default = 3, minimum = 1, maximum = 1000)]
    pub failures: u32,
}

/// Where an engine tells its own load.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LoadSource {
    /// Its Prometheus page.
    #[schema(
        max_length = 1024,
        pattern = "^http://[^/]",
        example = "http://127.0.0.1:8080/metrics"
    )]
    pub metrics: String,
}

/// What a worker is asked to be: an element of `[[hive.workers]]`, the body of `POST /v1/workers`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WorkerSpec {
    /// Its group, such as `llm`.
    #[schema(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", example = "llm")]
    pub group: String,
    /// Its instance within the group, usually its port.
    #[schema(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", example = "8080")]
    pub instance: String,
    /// The program: a path, or a name that is looked up in PATH. `rbee` is this very binary.
    #[schema(min_length = 1, pattern = "^(/|[^/]+$)", example = "/usr/local/bin/llama-server")]
    pub command: String,
    /// Its arguments, without the program's name.
    #[schema(default = json!([]), max_items = 4096)]
    pub args: Vec<String>,
    /// Variables added to the environment that workers get.
    #[schema(default = json!({}))]
    pub env: BTreeMap<String, String>,
    /// Working directory; `None`: the hive's.
    #[schema(pattern = "^/")]
    pub cwd: Option<String>,
    /// User to run as; `None`: the hive's.
    pub user: Option<String>,
    /// GPUs it may see, by index or UUID; empty: all.
    #[schema(default = json!([]), max_items = 64)]
    pub gpus: Vec<String>,
    /// Where it serves; `None`: nowhere that is known.
    #[schema(max_length = 1024, pattern = "^http://[^/]")]
    pub url: Option<String>,
    /// Overrides the detection of its model.
    #[schema(min_length = 1, max_length = 1024)]
    pub model: Option<String>,
    /// Requests it takes at once; `None`: no limit.
    #[schema(minimum = 1, maximum = 1000000)]
    pub slots: Option<u32>,
    /// As written, such as `200%`; 100% = one core.
    #[schema(pattern = r"^[0-9]+(\.[0-9]+)?%$", example = "200%")]
    pub cpu_limit: Option<String>,
    /// As written, such as `4G`.
    #[schema(pattern = "^[0-9]+[KMGT]?$", example = "4G")]
    pub memory_limit: Option<String>,
    /// What happens after a death.
    #[schema(default = json!({}))]
    pub restart: RestartPolicy,
    /// How it is learnt that it serves; `None`: ready as soon as it runs.
    pub ready: Option<ReadyProbe>,
    /// How it is learnt that it still serves; `None`: as long as it runs.
    pub live: Option<LiveProbe>,
    /// Where it tells its own load.
    pub load: Option<LoadSource>,
    /// Between SIGTERM and the kill, ms.
    #[schema(default = 10000, maximum = 86400000)]
    pub stop_grace_ms: u64,
    /// Its monitor's tick, ms; `None`: the hive's.
    #[schema(minimum = 10, maximum = 3600000)]
    pub sample_interval_ms: Option<u64>,
}
