//! Asking for a worker, and what is answered.

use super::{ErrorBody, WorkerView};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

/// The body of `POST /v1/schedule`. What is not set does not matter.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(default)]
pub struct ScheduleRequest {
    /// That it serves, by name or alias.
    #[schema(min_length = 1, max_length = 4096, example = "echo-small")]
    pub model: Option<String>,
    /// MiB of GPU memory that are needed beyond what the worker holds already.
    #[serde(deserialize_with = "null_is_default")]
    #[schema(value_type = Option<u64>, default = 0)]
    pub vram_mb: u64,
    /// That it is in.
    #[schema(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    pub group: Option<String>,
    /// How long the slot is held, ms.
    #[serde(deserialize_with = "null_is_default_ttl")]
    #[schema(value_type = Option<u64>, default = 30000, minimum = 1, maximum = 3600000)]
    pub ttl_ms: u64,
    /// The same one goes to the same worker, while that one is not overloaded.
    #[schema(min_length = 1, max_length = 256)]
    pub session: Option<String>,
}

/// How long a slot is held, unless asked for otherwise, ms.
const TTL_DEFAULT_MS: u64 = 30_000;

impl Default for ScheduleRequest {
    fn default() -> Self {
        Self { model: None, vram_mb: 0, group: None, ttl_ms: TTL_DEFAULT_MS, session: None }
    }
}

fn null_is_default<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

fn null_is_default_ttl<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    Option::deserialize(deserializer).map(|ttl: Option<u64>| ttl.unwrap_or(TTL_DEFAULT_MS))
}

/// The body of `PUT /v1/reservations/{id}`, which may be empty.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
pub struct RenewRequest {
    /// How long the slot is held from now on, ms; as long as before when not set.
    #[schema(minimum = 1, maximum = 3600000)]
    pub ttl_ms: Option<u64>,
}

/// A slot that is held for the caller.
#[derive(Debug, Serialize, ToSchema)]
pub struct Scheduled<'a> {
    /// For `x-rbee-reservation`, and to renew it or give it back.
    #[schema(format = "uuid")]
    pub reservation_id: String,
    /// Whose slot.
    pub worker: WorkerView<'a>,
    /// Where it serves.
    pub url: String,
    /// How long it is held, ms.
    pub expires_in_ms: u64,
}

/// Why a worker does not take it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Rejection {
    /// `{hive_id}/{group}/{instance}`
    pub worker: String,
    /// Such as `no free slot`.
    pub reason: String,
}

/// Nobody takes it.
#[derive(Debug, Serialize, ToSchema)]
pub struct Unscheduled {
    /// In the form of every error.
    #[serde(flatten)]
    pub error: ErrorBody,
    /// Why each worker does not; those of the model first.
    pub rejected: Vec<Rejection>,
    /// Workers beyond those listed.
    #[serde(skip_serializing_if = "is_zero")]
    pub rejected_omitted: usize,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's form")]
fn is_zero(n: &usize) -> bool {
    *n == 0
}

/// One worker in `GET /v1/schedule/explain`.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Explained {
    /// `{hive_id}/{group}/{instance}`
    pub worker: String,
    /// Whether it could take it.
    pub eligible: bool,
    /// The higher the better, 0 is the best there is; `null` for one that cannot take it.
    pub score: Option<f64>,
    /// Why it cannot.
    pub reason: Option<String>,
    /// Requests in progress, waiting or reserved, as far as is known.
    pub requests: u64,
    /// As many as it takes at once; `null`: no limit.
    pub slots: Option<u32>,
    /// MiB on its GPUs neither in use nor reserved; `null` when not known.
    pub free_vram_mb: Option<u64>,
}

/// `GET /v1/schedule/explain`
#[derive(Debug, Serialize, ToSchema)]
pub struct Explanation {
    /// The worker that would take it.
    pub chosen: Option<String>,
    /// Requests of any model that wait in the gateway's queue.
    pub queued: usize,
    /// Every worker.
    pub workers: Vec<Explained>,
}
