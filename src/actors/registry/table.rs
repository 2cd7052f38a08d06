//! The registry's only writer: what each heartbeat and each passing moment changes, and which events
//! follow. No actor, no timer; time is an argument.
//!
//! Readers see one shared map of immutable records. What only the writer needs (which start of a hive
//! is the newest, which events passed, what standing was announced) is kept apart from it.

use super::{
    RegistryConfig, RegistryReader,
    acceptance::{Lineage, Verdict},
    events::{EventGate, hive_event, worker_event},
    history::{HistoryBudget, HistoryClock, Ring, carry_over},
};
use crate::limits::{HIVES_MAX, Limit, WORKERS_MAX};
use crate::{
    actors::{
        fleet::{HiveRecord, freshness},
        placement::Placement,
        sse_broadcaster::StreamEvent,
    },
    contract::{Freshness, LifecycleEvent},
};
use dashmap::DashMap;
use std::{collections::HashMap, sync::Arc};
use tokio::{sync::Notify, time::Instant};

/// After trimming, this part of the history budget is left free, so that the next new worker does
/// not have everything trimmed again.
const TRIM_SLACK: usize = 8;

/// What readers see of one hive.
#[derive(Debug)]
pub(super) struct Entry {
    /// The last accepted heartbeat.
    pub record: Arc<HiveRecord>,
    /// The history of each of its workers, in their order.
    pub rings: Vec<Ring>,
}

/// All hives, by id.
pub(super) type Hives = DashMap<Arc<str>, Entry>;

/// What became of a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Stored and passed on.
    Stored,
    /// Repeated or older: nothing changed.
    Repeated,
    /// From a start of the hive that another has superseded: nothing changed.
    Superseded,
    /// No room for another hive or its workers: nothing changed.
    Full,
}

#[derive(Default)]
struct Ledger {
    lineage: Lineage,
    gate: EventGate,
    /// The standing that the stream was told last; `None` before the first heartbeat.
    announced: Option<Freshness>,
}

/// See the module.
pub(super) struct Table {
    config: RegistryConfig,
    placement: Placement,
    hives: Arc<Hives>,
    ledgers: HashMap<Arc<str>, Ledger>,
    workers: usize,
    clock: HistoryClock,
    budget: HistoryBudget,
    stored: Arc<Notify>,
}

impl Table {
    /// An empty one, started `now`.
    pub(super) fn new(config: RegistryConfig, placement: Placement, now: Instant) -> Self {
        Self {
            clock: HistoryClock::new(now, config.history),
            budget: HistoryBudget::new(config.history_bytes),
            config,
            placement,
            hives: Arc::default(),
            ledgers: HashMap::new(),
            workers: 0,
            stored: Arc::default(),
        }
    }

    /// A handle to read by.
    pub(super) fn reader(&self) -> RegistryReader {
        RegistryReader::new(
            Arc::clone(&self.hives),
            self.placement.clone(),
            self.config.limits,
            self.clock,
            Arc::clone(&self.stored),
        )
    }

    /// Stores a heartbeat, if it counts, and says what the stream is to be told.
    pub(super) fn store(
        &mut self,
        (mut record, events): (HiveRecord, Vec<LifecycleEvent>),
        now: Instant,
    ) -> (Outcome, Vec<StreamEvent>) {
        let verdict = self.judge(&record);
        match verdict {
            Verdict::Repeated => return (Outcome::Repeated, Vec::new()),
            Verdict::Superseded => return (Outcome::Superseded, Vec::new()),
            Verdict::Next | Verdict::NewBoot => {}
        }
        if !self.has_room_for(&record) {
            return (Outcome::Full, Vec::new());
        }
        record.received = now;
        let mut told = self.tell(&record, verdict, events);
        let record = Arc::new(record);
        self.put(&record, now);
        self.placement.observe(&record, now);
        self.stored.notify_waiters();
        told.push(StreamEvent::Telemetry(record));
        (Outcome::Stored, told)
    }

    /// Announces every change of standing since the last time, and forgets whom nobody heard of.
    pub(super) fn sweep(&mut self, now: Instant) -> Vec<StreamEvent> {
        let mut told = Vec::new();
        let mut evicted = Vec::new();
        for entry in self.hives.iter() {
            let record = &entry.record;
            let standing = freshness(&self.config.limits, record.interval_ms, record.age(now));
            let Some(ledger) = self.ledgers.get_mut(&record.id) else { continue };
            if ledger.announced != standing {
                ledger.announced = standing;
                told.push(StreamEvent::lifecycle(hive_event(&record.id, standing)));
            }
            if standing.is_none() {
                evicted.push(Arc::clone(&record.id));
            }
        }
        for id in evicted {
            self.evict(&id);
        }
        told
    }

    fn judge(&self, record: &HiveRecord) -> Verdict {
        match self.ledgers.get(&record.id) {
            Some(ledger) => ledger.lineage.judge(record.boot_id.as_deref(), record.seq),
            None => Verdict::NewBoot,
        }
    }

    fn has_room_for(&self, record: &HiveRecord) -> bool {
        let known = self.hives.get(&record.id).map(|e| e.record.workers.len());
        let others = self.workers - known.unwrap_or(0);
        if known.is_none() && self.ledgers.len() >= HIVES_MAX {
            Limit::Hives.reached();
            return false;
        }
        if others + record.workers.len() > WORKERS_MAX {
            Limit::Workers.reached();
            return false;
        }
        true
    }

    /// Books the heartbeat and says what happened besides it: the hive is back, its workers' events.
    fn tell(
        &mut self,
        record: &HiveRecord,
        verdict: Verdict,
        mut events: Vec<LifecycleEvent>,
    ) -> Vec<StreamEvent> {
        let mut told = Vec::with_capacity(events.len() + 2);
        let id = &record.id;
        let ledger = self.ledgers.entry(Arc::clone(id)).or_default();
        ledger.lineage.record(record.boot_id.as_deref(), record.seq);
        if ledger.announced != Some(Freshness::Healthy) {
            ledger.announced = Some(Freshness::Healthy);
            told.push(StreamEvent::lifecycle(hive_event(id, ledger.announced)));
        }
        if record.boot_id.is_some() {
            if verdict == Verdict::NewBoot {
                ledger.gate.reset();
            }
            events = ledger.gate.admit(events);
        }
        told.extend(events.into_iter().map(|e| StreamEvent::lifecycle(worker_event(id, e))));
        told
    }

    /// Record and rings change together, under the entry's lock: a reader never sees one without
    /// the other.
    fn put(&mut self, record: &Arc<HiveRecord>, now: Instant) {
        let mut entry = self
            .hives
            .entry(Arc::clone(&record.id))
            .or_insert_with(|| Entry { record: Arc::clone(record), rings: Vec::new() });
        let known = Arc::clone(&entry.record);
        let old = if Arc::ptr_eq(&known, record) { &[] } else { &known.workers[..] };
        self.workers = self.workers - old.len() + record.workers.len();
        let limit = self.budget.points_each(self.workers);
        let before = bytes_of(&entry.rings);
        let mut rings = carry_over(old, std::mem::take(&mut entry.rings), &record.workers);
        for (ring, worker) in rings.iter_mut().zip(&record.workers) {
            ring.push(&self.clock, now, worker, limit);
        }
        self.budget.rebook(before, bytes_of(&rings));
        *entry = Entry { record: Arc::clone(record), rings };
        drop(entry);
        if self.budget.is_exceeded() {
            self.trim();
        }
    }

    fn trim(&mut self) {
        let limit = self.budget.points_each(self.workers);
        let limit = limit - limit / TRIM_SLACK;
        for mut entry in self.hives.iter_mut() {
            for ring in &mut entry.rings {
                let before = ring.bytes();
                ring.shrink(limit);
                self.budget.rebook(before, ring.bytes());
            }
        }
    }

    fn evict(&mut self, id: &str) {
        self.ledgers.remove(id);
        self.placement.forget(id);
        if let Some((_, entry)) = self.hives.remove(id) {
            self.workers -= entry.record.workers.len();
            self.budget.rebook(bytes_of(&entry.rings), 0);
        }
    }
}

fn bytes_of(rings: &[Ring]) -> usize {
    rings.iter().map(Ring::bytes).sum()
}

#[cfg(test)]
#[path = "table/tests.rs"]
mod tests;
