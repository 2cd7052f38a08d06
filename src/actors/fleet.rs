//! Hives and workers as they last told, and what follows from that alone: how fresh a hive is, what
//! memory is free, which workers a question means. No actor and no state; the registry keeps it, the
//! placement decides by it.

#[cfg(test)]
pub(crate) mod fixtures;
mod found;
mod freshness;
mod query;
mod record;
mod text;

pub use found::FoundWorker;
pub use freshness::{FreshnessLimits, freshness, takes_work_for, turned_away};
pub use query::{WorkerFilter, serves};
pub use record::HiveRecord;
pub use text::{WorkerText, write_with_workers};
