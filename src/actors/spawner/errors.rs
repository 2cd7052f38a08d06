//! Why the spawner did not do what it was asked.

use super::run::LaunchError;
use crate::actors::hive_board::WorkerName;
use crate::limits::HIVE_WORKERS_MAX;
use std::sync::Arc;
use thiserror::Error;

/// Why a worker was not made.
#[derive(Debug, Error)]
pub enum SpawnRefusal {
    /// There is one of this name.
    #[error("there is a worker {0} already")]
    Exists(WorkerName),
    /// The hive has as many as it takes.
    #[error("this hive has {HIVE_WORKERS_MAX} workers, which is the most it takes")]
    TooMany,
    /// The hive is ending.
    #[error("this hive is ending and takes no new workers")]
    Ending,
    /// It could not be started.
    #[error("{}", .0.chain())]
    Launch(Arc<LaunchError>),
}

/// Why something was not done to a worker.
#[derive(Debug, Error)]
pub enum WorkerCommandError {
    /// There is none of this name.
    #[error("there is no worker {0}")]
    Unknown(WorkerName),
    /// Its state does not allow it.
    #[error("worker {0} is {1}, which does not allow this")]
    WrongState(WorkerName, &'static str),
    /// It was found running, and nobody knows how it was started.
    #[error("worker {0} was found running and has no spec to start it from")]
    NoSpec(WorkerName),
    /// It could not be started.
    #[error("{}", .0.chain())]
    Launch(Arc<LaunchError>),
    /// Something else was asked of it meanwhile.
    #[error("something else was asked of the worker meanwhile")]
    Overtaken,
}
