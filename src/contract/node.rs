//! A machine on the wire.

use super::{Age, object};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Who tells the GPU figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum GpuSource {
    /// NVIDIA's management library.
    Nvml,
    /// The nvidia-smi program.
    NvidiaSmi,
    /// There is no GPU.
    None,
    /// There is one, and nothing answers for it: a zero does not mean idle.
    Unknown,
}

/// One GPU. What its driver does not tell is `None`, never zero.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct GpuStats {
    /// Index as the driver counts.
    #[schema(max_length = 128)]
    pub id: String,
    /// Identity across reboots.
    #[schema(max_length = 128)]
    pub uuid: String,
    /// Product name.
    #[schema(max_length = 4096)]
    pub name: String,
    /// 0 to 100.
    #[schema(minimum = 0)]
    pub util_pct: Option<f64>,
    /// MiB in use, by anyone.
    pub vram_used_mb: Option<u64>,
    /// MiB there are.
    pub vram_total_mb: Option<u64>,
    /// Degrees Celsius.
    #[schema(minimum = 0)]
    pub temp_c: Option<f64>,
    /// Watts.
    #[schema(minimum = 0)]
    pub power_w: Option<f64>,
    /// `ok`, or what is wrong with it.
    #[schema(max_length = 4096)]
    pub health: Option<String>,
}

/// What the hive itself costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct SelfStats {
    /// 100 = one core.
    #[schema(minimum = 0)]
    pub cpu_pct: f64,
    /// MiB.
    pub rss_mb: u64,
}

/// A machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct NodeStats {
    /// 0 to 100 × `cpu_count`; over the time between the last two samples.
    #[schema(minimum = 0)]
    pub cpu_pct: f64,
    /// Processors online.
    pub cpu_count: u32,
    /// Load average over one minute.
    #[schema(minimum = 0)]
    pub load1: f64,
    /// MiB not available to new work (`MemTotal` less `MemAvailable`).
    pub ram_used_mb: u64,
    /// MiB.
    pub ram_total_mb: u64,
    /// Its GPUs.
    #[schema(max_items = 256)]
    #[serde(deserialize_with = "object::list")]
    pub gpus: Vec<GpuStats>,
    /// Who tells; `None` from a program that does not say.
    pub gpu_source: Option<GpuSource>,
    /// How long ago the GPU figures were read; `None` where there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>, nullable = true)]
    pub gpu_age_ms: Option<Age>,
    /// What the hive itself costs.
    #[serde(deserialize_with = "object::one")]
    pub rbee: SelfStats,
}
