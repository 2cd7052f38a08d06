//! A queen's state for tests of its routes.

use super::{GatewayConfig, KnownHives, QueenCounters, QueenState};
use crate::actors::{placement::Placement, registry::RegistryConfig};

/// Everything as it is by default, on the test's own thread.
#[allow(clippy::unwrap_used, reason = "counters of a new registry have no names twice")]
pub(super) fn state() -> QueenState {
    QueenState::start(
        RegistryConfig::default(),
        Placement::default(),
        GatewayConfig::default(),
        KnownHives::default(),
        QueenCounters::new().unwrap(),
        &actix::Arbiter::current(),
        |_| |_| (),
    )
}
