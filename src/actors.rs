//! Everything that lives and reacts: one actor each, with the pure decisions it acts on beside it.

pub mod engine_load;
pub mod fleet;
pub mod gpu_sampler;
pub mod heartbeat_sender;
pub mod hive_board;
pub mod log_keeper;
pub mod monitor;
pub mod node_monitor;
pub mod placement;
pub mod rates;
pub mod registry;
pub mod spawner;
pub mod sse_broadcaster;
pub mod supervise;

/// The wall clock, RFC 3339 with milliseconds. For people; nothing is computed with it.
pub(crate) fn timestamp() -> String {
    let now = jiff::Timestamp::now();
    format!("{now:.3}")
}
