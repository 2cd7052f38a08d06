//! Reading the registry without asking its actor: every answer of the queen about hives and workers.
//!
//! A reader holds the map's lock only to take a shared record or to copy a history. Freshness is
//! judged when it is asked for, so that a late hive is late at once, not at the next sweep.

use super::{history::HistoryClock, table::Hives};
use crate::actors::{
    fleet::{FoundWorker, FreshnessLimits, HiveRecord, WorkerFilter, freshness},
    placement::Placement,
};
use crate::contract::{
    Freshness, HiveView, QueenHeartbeat, WorkerHistory, WorkerReport, WorkerState, WorkerView,
};
use crate::limits::{HISTORY_POINTS_MAX, Limit};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{Notify, futures::Notified},
    time::Instant,
};

/// A read-only handle on the registry, cheap to clone.
#[derive(Clone, Debug)]
pub struct RegistryReader {
    hives: Arc<Hives>,
    placement: Placement,
    limits: FreshnessLimits,
    clock: HistoryClock,
    stored: Arc<Notify>,
}

impl RegistryReader {
    pub(super) fn new(
        hives: Arc<Hives>,
        placement: Placement,
        limits: FreshnessLimits,
        clock: HistoryClock,
        stored: Arc<Notify>,
    ) -> Self {
        Self { hives, placement, limits, clock, stored }
    }

    /// Comes when the next heartbeat, of any hive, has been stored.
    pub fn next_heartbeat(&self) -> Notified<'_> {
        self.stored.notified()
    }

    /// Every hive that is not yet to be forgotten, sorted by id.
    pub fn records(&self, now: Instant) -> Vec<(Arc<HiveRecord>, Freshness)> {
        let mut records: Vec<_> = self
            .hives
            .iter()
            .filter_map(|entry| self.judged(Arc::clone(&entry.record), now))
            .collect();
        records.sort_unstable_by(|(a, _), (b, _)| a.id.cmp(&b.id));
        records
    }

    /// That hive, unless nobody heard of it for too long.
    pub fn record(&self, id: &str, now: Instant) -> Option<(Arc<HiveRecord>, Freshness)> {
        let record = Arc::clone(&self.hives.get(id)?.record);
        self.judged(record, now)
    }

    /// `GET /v1/hives`
    pub fn hives(&self, now: Instant) -> Vec<HiveView> {
        self.records(now).iter().map(|(record, freshness)| record.view(*freshness, now)).collect()
    }

    /// `GET /v1/hives/{id}`
    pub fn hive(&self, id: &str, now: Instant) -> Option<HiveView> {
        self.record(id, now).map(|(record, freshness)| record.view(freshness, now))
    }

    /// `GET /v1/workers`. Which they are is looked up in the placement's indexes, not by a look at all.
    pub fn workers(&self, filter: &WorkerFilter, now: Instant) -> Vec<FoundWorker> {
        let mut found: Vec<_> = self
            .placement
            .select(filter)
            .into_iter()
            .filter_map(|(record, position)| {
                let (record, freshness) = self.judged(record, now)?;
                FoundWorker::at(record, position, freshness)
            })
            .collect();
        FoundWorker::sort(&mut found);
        found
    }

    /// A worker of that record as `GET /v1/workers` shows it.
    pub fn view_of<'a>(
        &self,
        record: &HiveRecord,
        worker: &'a WorkerReport,
        now: Instant,
    ) -> WorkerView<'a> {
        let standing = freshness(&self.limits, record.interval_ms, record.age(now));
        let freshness = standing.unwrap_or(Freshness::Down);
        WorkerView { report: worker, freshness, history: None }
    }

    /// `GET /v1/workers/{hive}/{group}/{instance}`, with its whole history.
    pub fn worker(
        &self,
        hive: &str,
        group: &str,
        instance: &str,
        now: Instant,
    ) -> Option<FoundWorker> {
        let entry = self.hives.get(hive)?;
        let (record, freshness) = self.judged(Arc::clone(&entry.record), now)?;
        let (index, _) = record.find(group, instance)?;
        let history = entry.rings.get(index)?.read(&self.clock, now, self.clock.window(), 1);
        drop(entry);
        Some(FoundWorker::at(record, index, freshness)?.with_history(history))
    }

    /// `GET /v1/history`: the points of the last `within` of every worker, thinned out evenly where
    /// they would be too many for one answer.
    pub fn history(&self, within: Duration, now: Instant) -> Vec<WorkerHistory> {
        let points: usize =
            self.hives.iter().map(|e| e.rings.iter().map(|r| r.len()).sum::<usize>()).sum();
        let stride = stride_of(points);
        let mut histories = Vec::new();
        for entry in self.hives.iter() {
            if self.judged(Arc::clone(&entry.record), now).is_none() {
                continue;
            }
            for (worker, ring) in entry.record.workers.iter().zip(&entry.rings) {
                histories.push(WorkerHistory {
                    hive_id: Arc::clone(&entry.record.id),
                    group: worker.group.clone(),
                    instance: worker.instance.clone(),
                    history: ring.read(&self.clock, now, within, stride),
                });
            }
        }
        histories.sort_unstable_by(|a, b| {
            (&a.hive_id, &a.group, &a.instance).cmp(&(&b.hive_id, &b.group, &b.instance))
        });
        histories
    }

    /// How far back history is kept.
    pub fn history_window(&self) -> Duration {
        self.clock.window()
    }

    /// The queen's own heartbeat.
    pub fn queen_heartbeat(&self, now: Instant) -> QueenHeartbeat {
        let mut records = self.records(now);
        records.retain(|(_, freshness)| *freshness != Freshness::Down);
        let healthy = || records.iter().filter(|(_, f)| *f == Freshness::Healthy);
        let mut worker_ids: Vec<_> = records
            .iter()
            .flat_map(|(record, _)| record.workers.iter().map(|w| worker_id(&record.id, w)))
            .collect();
        worker_ids.sort_unstable();
        QueenHeartbeat {
            workers_online: worker_ids.len(),
            workers_available: healthy()
                .map(|(record, _)| record.workers.iter().filter(|w| is_available(w)).count())
                .sum(),
            hives_online: records.len(),
            hives_available: healthy().count(),
            worker_ids,
            hive_ids: records.iter().map(|(record, _)| record.id.to_string()).collect(),
            timestamp: crate::actors::timestamp(),
        }
    }

    fn judged(
        &self,
        record: Arc<HiveRecord>,
        now: Instant,
    ) -> Option<(Arc<HiveRecord>, Freshness)> {
        let standing = freshness(&self.limits, record.interval_ms, record.age(now))?;
        Some((record, standing))
    }
}

fn worker_id(hive: &str, worker: &WorkerReport) -> String {
    format!("{hive}/{}/{}", worker.group, worker.instance)
}

fn is_available(worker: &WorkerReport) -> bool {
    worker.state == WorkerState::Ready && worker.idle == Some(true)
}

/// Of so many points every which one is shown.
fn stride_of(points: usize) -> usize {
    if points > HISTORY_POINTS_MAX {
        Limit::HistoryPoints.reached();
    }
    points.div_ceil(HISTORY_POINTS_MAX).max(1)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test says what it expects")]
mod tests {
    use super::*;
    use crate::actors::{
        fleet::fixtures::{heard, heartbeat, worker},
        registry::{RegistryConfig, table::Table},
    };
    use crate::limits::tests::Counting;

    fn known() -> (Table, RegistryReader, Instant) {
        let now = Instant::now();
        let mut table = Table::new(RegistryConfig::default(), Placement::default(), now);
        let mut busy = worker("llm", "2");
        busy.gpu_util_pct = 50.0;
        table.store(heard(heartbeat("b", vec![busy, worker("llm", "1")])), now);
        table.store(heard(heartbeat("a", vec![worker("sd", "1")])), now);
        let reader = table.reader();
        (table, reader, now)
    }

    #[test]
    fn answers_are_sorted_and_filtered() {
        let (_table, reader, now) = known();
        let ids: Vec<_> = reader.hives(now).into_iter().map(|h| h.info.id).collect();
        assert_eq!(ids, ["a", "b"]);
        let all = reader.workers(&WorkerFilter::default(), now);
        let name = |w: &WorkerReport| {
            let hive = w.hive_id.as_deref().unwrap();
            format!("{hive}/{}/{}", w.group, w.instance)
        };
        let names: Vec<_> = all.iter().map(|w| name(w.report().unwrap())).collect();
        assert_eq!(names, ["a/sd/1", "b/llm/1", "b/llm/2"]);
        let idle_on_b =
            WorkerFilter { hive: Some("b".into()), idle: Some(true), ..WorkerFilter::default() };
        assert_eq!(reader.workers(&idle_on_b, now).len(), 1);
    }

    #[test]
    fn one_worker_comes_with_its_history() {
        let (mut table, reader, now) = known();
        let later = now + Duration::from_secs(1);
        table.store(heard(heartbeat("a", vec![worker("sd", "1")])), later);
        let one = reader.worker("a", "sd", "1", later).unwrap();
        let ages: Vec<_> = one.view().unwrap().history.unwrap().iter().map(|p| p.0).collect();
        assert_eq!(ages, [1_000, 0]);
        assert!(reader.worker("a", "sd", "2", later).is_none());
        let recent = reader.history(Duration::from_millis(500), later);
        let lengths: Vec<_> = recent.iter().map(|h| h.history.len()).collect();
        assert_eq!(lengths, [1, 0, 0]);
    }

    #[test]
    fn a_hive_past_its_time_is_not_seen_even_before_the_sweep() {
        let (_table, reader, now) = known();
        let late = now + Duration::from_secs(90);
        assert!(reader.hives(late).is_empty() && reader.hive("a", late).is_none());
        assert!(reader.history(Duration::from_secs(300), late).is_empty());
    }

    #[test]
    fn the_queen_counts_what_is_online_and_what_is_available() {
        let (mut table, reader, now) = known();
        let beat = reader.queen_heartbeat(now);
        assert_eq!((beat.workers_online, beat.workers_available), (3, 2));
        assert_eq!((beat.hives_online, beat.hives_available), (2, 2));
        assert_eq!(beat.worker_ids, ["a/sd/1", "b/llm/1", "b/llm/2"]);
        let later = now + Duration::from_secs(5);
        table.store(heard(heartbeat("a", vec![worker("sd", "1")])), later);
        let beat = reader.queen_heartbeat(later);
        assert_eq!((beat.hives_online, beat.hives_available), (2, 1));
        assert_eq!((beat.workers_online, beat.workers_available), (3, 1));
        let beat = reader.queen_heartbeat(now + Duration::from_secs(11));
        assert_eq!((beat.hives_online, beat.worker_ids.len()), (1, 1));
    }

    #[test]
    fn above_so_many_points_only_some_are_shown() {
        assert_eq!(stride_of(HISTORY_POINTS_MAX), 1);
        let counting = Counting::of(Limit::HistoryPoints);
        assert_eq!(stride_of(HISTORY_POINTS_MAX + 1), 2);
        counting.counted();
        assert_eq!(stride_of(0), 1);
    }
}
