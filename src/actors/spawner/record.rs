//! What of a worker outlives its hive.

use crate::{
    contract::{ExitRecord, Isolation, WorkerSpec, WorkerState},
    platform::process::Identity,
};
use serde::{Deserialize, Serialize};

/// Who asked for a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The configuration.
    File,
    /// `POST /v1/workers`.
    Api,
}

/// A run, as far as another hive needs it to know it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRecord {
    /// The kernel's boot: PIDs and start times mean nothing in another one.
    pub boot_id: String,
    /// Names the run in its environment.
    pub run_id: String,
    /// Its main process; `None` in the moment before there is one.
    pub main: Option<Identity>,
    /// How its tree is held together.
    pub isolation: Isolation,
    /// Whether its limits are in force.
    pub limits_applied: Option<bool>,
    /// Whether it has answered.
    pub ready: bool,
    /// Whether it gets no new requests.
    pub draining: bool,
}

/// A worker's file in the state directory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerRecord {
    /// What it is asked to be.
    pub spec: WorkerSpec,
    /// By whom.
    pub origin: Origin,
    /// Restarts after a death.
    pub restarts: u64,
    /// `stopped` or `failed`, if it is to stay so.
    pub resting: Option<WorkerState>,
    /// Its run, if it has one.
    pub run: Option<RunRecord>,
    /// How its last run ended.
    pub last_exit: Option<ExitRecord>,
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test says what it expects")]
mod tests {
    use super::*;

    #[test]
    fn fuzz_record() {
        crate::fuzz::fuzz("record", |bytes| {
            let Ok(record) = serde_json::from_slice::<WorkerRecord>(bytes) else { return };
            let told = serde_json::to_vec(&record).unwrap();
            assert_eq!(serde_json::from_slice::<WorkerRecord>(&told).unwrap(), record);
        });
    }
}
