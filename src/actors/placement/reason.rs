//! Why a worker does not get a request, in words for the caller.

use super::exclusion::LeftOut;
use crate::contract::{Freshness, WorkerState};
use std::fmt;

/// The first thing that stands against a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// It serves something else.
    OtherModel,
    /// It is in another group.
    OtherGroup,
    /// Its hive was not heard of in time.
    Hive(Freshness),
    /// Its hive says of itself that it takes no work.
    TurnedAway(&'static str),
    /// It is not in a state to take requests.
    State(WorkerState),
    /// Nobody knows where it serves.
    NoUrl,
    /// A GPU of it is broken.
    Gpu(String),
    /// It refused a connection lately.
    LeftOut(LeftOut),
    /// It is not known what memory is free.
    VramUnknown,
    /// Too little memory is free, MiB.
    VramShort {
        /// What there is.
        free: u64,
        /// What was asked for.
        asked: u64,
    },
    /// As many requests as it takes.
    NoFreeSlot,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherModel => f.write_str("other model"),
            Self::OtherGroup => f.write_str("other group"),
            Self::Hive(Freshness::Down) => f.write_str("hive is down"),
            Self::Hive(_) => f.write_str("hive is degraded"),
            Self::TurnedAway(why) => f.write_str(why),
            Self::State(WorkerState::Draining) => f.write_str("draining"),
            Self::State(state) => write!(f, "not ready: {}", state.name()),
            Self::NoUrl => f.write_str("no url"),
            Self::Gpu(fault) => write!(f, "GPU is unhealthy: {fault}"),
            Self::LeftOut(left_out) => left_out.fmt(f),
            Self::VramUnknown => f.write_str("free VRAM is not known"),
            Self::VramShort { free, asked } => {
                write!(f, "not enough free VRAM: {free} MiB of {asked} MiB")
            }
            Self::NoFreeSlot => f.write_str("no free slot"),
        }
    }
}
