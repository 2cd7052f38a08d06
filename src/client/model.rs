//! Of the API's answers, what is shown. Fields that are not known here are passed over, and one that
//! is missing is not known: an old client works with a new queen, and a new one with an old queen.

use super::name::WorkerName;
use serde::Deserialize;

/// How a run ended.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Exit {
    /// When, RFC 3339.
    pub at: Option<String>,
    /// Exit code.
    pub code: Option<i64>,
    /// Signal by name.
    pub signal: Option<String>,
    /// Processes killed for memory.
    pub oom_killed: Option<u64>,
    /// Seconds that it ran.
    pub uptime_s: Option<u64>,
    /// MiB at most.
    pub peak_rss_mb: Option<u64>,
    /// The last lines that it wrote.
    pub log_tail: Vec<String>,
}

impl Exit {
    /// `exit 3`, `SIGKILL (out of memory)`, or that it is not known.
    pub fn cause(&self) -> String {
        let oom = self.oom_killed.is_some_and(|count| count > 0);
        let how = match (self.code, &self.signal) {
            (Some(code), _) => format!("exit {code}"),
            (None, Some(signal)) => signal.clone(),
            (None, None) => "ended, not known how".into(),
        };
        if oom { format!("{how} (out of memory)") } else { how }
    }
}

/// A worker.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the contract's own names and units: see contract::WorkerReport")]
pub struct Worker {
    pub hive_id: Option<String>,
    pub group: String,
    pub instance: String,
    pub pid: Option<u32>,
    pub pids: Option<Vec<u32>>,
    pub state: Option<String>,
    pub freshness: Option<String>,
    pub cpu_pct: Option<f64>,
    pub rss_mb: Option<u64>,
    pub working_set_mb: Option<u64>,
    pub io_r_mb_s: Option<f64>,
    pub io_w_mb_s: Option<f64>,
    pub uptime_s: Option<u64>,
    pub gpu_util_pct: Option<f64>,
    pub vram_mb: Option<u64>,
    pub total_vram_mb: Option<u64>,
    pub model: Option<String>,
    pub model_aliases: Option<Vec<String>>,
    pub requests_running: Option<u64>,
    pub requests_waiting: Option<u64>,
    pub kv_cache_pct: Option<f64>,
    pub idle: Option<bool>,
    pub url: Option<String>,
    pub slots: Option<u64>,
    pub isolation: Option<String>,
    pub limits_applied: Option<bool>,
    pub cpu_limit_pct: Option<f64>,
    pub memory_limit_mb: Option<u64>,
    pub throttled_pct: Option<f64>,
    pub restarts: Option<u64>,
    pub retry_at: Option<String>,
    pub adopted: Option<bool>,
    pub spec_changed: Option<bool>,
    pub last_exit: Option<Exit>,
    pub sample_age_ms: Option<u64>,
}

impl Worker {
    /// What it is called.
    pub fn name(&self) -> WorkerName {
        WorkerName {
            hive: self.hive_id.clone(),
            group: self.group.clone(),
            instance: self.instance.clone(),
        }
    }

    /// `idle`, `busy`, or nothing where it cannot be known.
    pub fn activity(&self) -> Option<&'static str> {
        self.idle.map(|idle| if idle { "idle" } else { "busy" })
    }
}

/// `{"workers": […]}`
#[derive(Debug, Default, Deserialize)]
pub struct WorkerList {
    /// All that match.
    pub workers: Vec<Worker>,
}

/// A GPU of a machine.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the contract's own names and units: see contract::GpuStats")]
pub struct Gpu {
    pub name: Option<String>,
    pub util_pct: Option<f64>,
    pub vram_used_mb: Option<u64>,
    pub vram_total_mb: Option<u64>,
    pub health: Option<String>,
}

/// A machine.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the contract's own names and units: see contract::NodeStats")]
pub struct Node {
    pub cpu_pct: Option<f64>,
    pub cpu_count: Option<u64>,
    pub load1: Option<f64>,
    pub ram_used_mb: Option<u64>,
    pub ram_total_mb: Option<u64>,
    pub gpus: Vec<Gpu>,
    pub gpu_source: Option<String>,
}

/// A hive.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the contract's own names and units: see contract::HiveView")]
pub struct Hive {
    pub id: String,
    pub hostname: Option<String>,
    pub port: Option<u16>,
    pub version: Option<String>,
    pub freshness: Option<String>,
    pub operational_status: Option<String>,
    pub age_ms: Option<u64>,
    pub worker_count: Option<u64>,
    pub node: Node,
}

/// `{"hives": […]}`
#[derive(Debug, Default, Deserialize)]
pub struct HiveList {
    /// All.
    pub hives: Vec<Hive>,
}
