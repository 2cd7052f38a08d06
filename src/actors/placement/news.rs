//! What a heartbeat tells of its workers, made ready before anybody is kept waiting for it. Pure.

use super::{machine::Machine, seat::Facts};
use crate::{actors::fleet::HiveRecord, contract::WorkerReport};
use std::collections::BTreeSet;

/// What is to be looked at again.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Changed {
    /// Its workers are others than they were, or in another order.
    Seats,
    /// The workers at these positions.
    Workers(Vec<usize>),
}

impl Changed {
    /// Between the last record of a hive and its new one.
    pub(super) fn between(before: Option<&HiveRecord>, now: &HiveRecord) -> Self {
        let Some(before) = before.filter(|before| same_workers(&before.workers, &now.workers))
        else {
            return Self::Seats;
        };
        let told = |record: &HiveRecord| record.node.gpu_source;
        let same_gpus = before.node.gpus == now.node.gpus && told(before) == told(now);
        let pairs = before.workers.iter().zip(&now.workers).enumerate();
        let changed = pairs.filter(|(_, (old, new))| !same_gpus || differs(old, new));
        Self::Workers(changed.map(|(position, _)| position).collect())
    }
}

fn same_workers(old: &[WorkerReport], new: &[WorkerReport]) -> bool {
    let same =
        |(a, b): (&WorkerReport, &WorkerReport)| a.instance == b.instance && a.group == b.group;
    old.len() == new.len() && old.iter().zip(new).all(same)
}

/// Whether anything that the placement looks at is another than it was. One that tells its load is
/// always looked at, since what of it is ours changes here.
fn differs(old: &WorkerReport, new: &WorkerReport) -> bool {
    let key = |w: &WorkerReport| {
        (w.state, w.pid, w.restarts, w.idle, w.slots, w.vram_mb, w.total_vram_mb, w.kv_cache_pct)
    };
    key(old) != key(new)
        || new.requests_running.or(new.requests_waiting).is_some()
        || old.requests_running.or(old.requests_waiting).is_some()
        || old.gpu_util_pct.to_bits() != new.gpu_util_pct.to_bits()
        || old.gpus != new.gpus
        || old.model != new.model
        || old.model_aliases != new.model_aliases
        || old.url != new.url
}

/// One worker, as told.
#[derive(Debug)]
pub(super) struct Told<'a> {
    /// Where it is in its hive's record.
    pub position: usize,
    /// As its hive put it.
    pub worker: &'a WorkerReport,
    /// What the placement makes of it.
    pub facts: Facts,
    /// Its model and the aliases, each once.
    pub models: BTreeSet<&'a str>,
}

impl<'a> Told<'a> {
    /// The workers at these positions of a record.
    pub(super) fn at(
        positions: &[usize],
        record: &'a HiveRecord,
        machine: &Machine<'a>,
    ) -> Vec<Self> {
        let told = |position: &usize| {
            let worker = record.workers.get(*position)?;
            let facts = Facts::of(record, machine, worker);
            Some(Self { position: *position, worker, facts, models: model_names(worker) })
        };
        positions.iter().filter_map(told).collect()
    }
}

/// A model's name and aliases, each once.
pub(super) fn model_names(worker: &WorkerReport) -> BTreeSet<&str> {
    worker.model.iter().chain(&worker.model_aliases).map(String::as_str).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::fleet::fixtures::{heartbeat, worker};
    use crate::contract::{GpuSource, GpuStats};
    use tokio::time::Instant;

    fn record(workers: Vec<WorkerReport>, gpus: Vec<GpuStats>) -> HiveRecord {
        let mut beat = heartbeat("h", workers);
        beat.node.gpus = gpus;
        HiveRecord::new(beat, Instant::now()).0
    }

    #[test]
    fn only_what_changed_is_looked_at_again() {
        let both = || vec![worker("llm", "1"), worker("llm", "2")];
        let before = record(both(), vec![]);
        let changed = |now: &HiveRecord| Changed::between(Some(&before), now);
        assert_eq!(Changed::between(None, &before), Changed::Seats);
        assert_eq!(changed(&record(both(), vec![])), Changed::Workers(vec![]));
        let mut one = both();
        one[1].url = Some("http://127.0.0.1:1".into());
        assert_eq!(changed(&record(one, vec![])), Changed::Workers(vec![1]));
        let mut loaded = both();
        loaded[0].requests_waiting = Some(0);
        assert_eq!(changed(&record(loaded, vec![])), Changed::Workers(vec![0]));
        let mut dark = record(both(), vec![]);
        dark.node.gpu_source = Some(GpuSource::Unknown);
        assert_eq!(changed(&dark), Changed::Workers(vec![0, 1]));
        let other_gpus = record(both(), vec![GpuStats::default()]);
        assert_eq!(changed(&other_gpus), Changed::Workers(vec![0, 1]));
        let turned = vec![worker("llm", "2"), worker("llm", "1")];
        assert_eq!(changed(&record(turned, vec![])), Changed::Seats);
    }
}
