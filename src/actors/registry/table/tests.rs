use super::*;
use crate::contract::HiveHeartbeat;
use crate::limits::{Limit, tests::Counting};
use crate::{
    actors::fleet::fixtures::{heard, heartbeat, numbered, worker},
    contract::{EventKind, StreamLifecycleKind, WorkerState},
};
use proptest::prelude::*;
use std::time::Duration;

fn table() -> (Table, Instant) {
    let now = Instant::now();
    (Table::new(RegistryConfig::default(), Placement::default(), now), now)
}

fn kinds(told: &[StreamEvent]) -> Vec<StreamLifecycleKind> {
    told.iter()
        .filter_map(|event| match event {
            StreamEvent::Lifecycle(lifecycle) => Some(lifecycle.kind),
            _ => None,
        })
        .collect()
}

fn started(seq: u64) -> LifecycleEvent {
    LifecycleEvent {
        seq,
        kind: EventKind::WorkerStarted,
        at: "2026-01-01T00:00:00Z".into(),
        group: "llm".into(),
        instance: "8080".into(),
        pid: Some(1),
        state: WorkerState::Starting,
        last_exit: None,
    }
}

#[test]
fn a_hive_goes_through_every_standing_and_is_forgotten_with_its_workers() {
    let (mut table, start) = table();
    let at = |ms| start + Duration::from_millis(ms);
    let (outcome, told) = table.store(heard(numbered("h", "b", 1)), start);
    assert_eq!(outcome, Outcome::Stored);
    assert_eq!(kinds(&told), [StreamLifecycleKind::HiveOnline]);
    assert!(table.sweep(at(2_900)).is_empty());
    assert_eq!(kinds(&table.sweep(at(3_100))), [StreamLifecycleKind::HiveDegraded]);
    assert!(table.sweep(at(3_200)).is_empty());
    assert_eq!(kinds(&table.sweep(at(10_100))), [StreamLifecycleKind::HiveDown]);
    assert_eq!(kinds(&table.sweep(at(90_000))), [StreamLifecycleKind::HiveEvicted]);
    assert!(table.hives.is_empty() && table.ledgers.is_empty());
    assert_eq!((table.workers, table.budget.is_exceeded()), (0, false));
}

#[test]
fn a_hive_that_comes_back_is_online_again() {
    let (mut table, start) = table();
    table.store(heard(numbered("h", "b", 1)), start);
    table.sweep(start + Duration::from_secs(5));
    let (_, told) = table.store(heard(numbered("h", "b", 2)), start + Duration::from_secs(6));
    assert_eq!(kinds(&told), [StreamLifecycleKind::HiveOnline]);
}

#[test]
fn repeated_heartbeats_do_not_keep_a_hive_fresh() {
    let (mut table, start) = table();
    table.store(heard(numbered("h", "b", 1)), start);
    let later = start + Duration::from_secs(4);
    let (outcome, told) = table.store(heard(numbered("h", "b", 1)), later);
    assert_eq!((outcome, told.len()), (Outcome::Repeated, 0));
    assert_eq!(kinds(&table.sweep(later)), [StreamLifecycleKind::HiveDegraded]);
}

#[test]
fn a_superseded_boot_is_refused_until_the_hive_is_forgotten() {
    let (mut table, start) = table();
    table.store(heard(numbered("h", "old", 1)), start);
    table.store(heard(numbered("h", "new", 1)), start);
    assert_eq!(table.store(heard(numbered("h", "old", 2)), start).0, Outcome::Superseded);
    let later = start + Duration::from_secs(91);
    table.sweep(later);
    assert_eq!(table.store(heard(numbered("h", "old", 3)), later).0, Outcome::Stored);
}

#[test]
fn worker_events_are_told_once_for_each_boot() {
    let (mut table, start) = table();
    let with_events =
        |boot: &str, seq, events| HiveHeartbeat { events, ..numbered("h", boot, seq) };
    let (_, told) = table.store(heard(with_events("a", 1, vec![started(1)])), start);
    assert_eq!(told.len(), 3);
    let (_, told) = table.store(heard(with_events("a", 2, vec![started(1), started(2)])), start);
    assert_eq!(kinds(&told), [StreamLifecycleKind::WorkerStarted]);
    let (_, told) = table.store(heard(with_events("b", 1, vec![started(1)])), start);
    assert_eq!(kinds(&told), [StreamLifecycleKind::WorkerStarted]);
}

#[test]
fn a_stopping_hive_stays() {
    let (mut table, start) = table();
    let mut last = numbered("h", "b", 1);
    last.hive.operational_status = crate::contract::OperationalStatus::Stopping;
    table.store(heard(last), start);
    assert!(table.reader().hive("h", start).is_some());
}

#[test]
fn more_hives_or_workers_than_there_is_room_for_are_refused() {
    let (mut table, start) = table();
    for i in 0..HIVES_MAX {
        table.store(heard(heartbeat(&format!("h{i}"), vec![])), start);
    }
    let counting = Counting::of(Limit::Hives);
    assert_eq!(table.store(heard(heartbeat("another", vec![])), start).0, Outcome::Full);
    counting.counted();
    assert_eq!(table.store(heard(heartbeat("h0", vec![])), start).0, Outcome::Stored);
    table.workers = WORKERS_MAX - 1;
    assert_eq!(
        table.store(heard(heartbeat("h0", vec![worker("a", "1")])), start).0,
        Outcome::Stored
    );
    let counting = Counting::of(Limit::Workers);
    assert_eq!(table.store(heard(heartbeat("h1", vec![worker("a", "1")])), start).0, Outcome::Full);
    counting.counted();
    table.workers = 0;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn history_stays_within_its_bytes_whatever_comes_and_goes(
        bytes in 0usize..4_000,
        steps in proptest::collection::vec((0u8..5, 0usize..12, 0u64..4_000), 1..120)
    ) {
        let start = Instant::now();
        let config = RegistryConfig { history_bytes: bytes, ..RegistryConfig::default() };
        let (mut table, mut now) = (Table::new(config, Placement::default(), start), start);
        for (hive, workers, wait) in steps {
            now += Duration::from_millis(wait);
            let workers = (0..workers).map(|i| worker("g", &i.to_string())).collect();
            table.store(heard(heartbeat(&hive.to_string(), workers)), now);
            table.sweep(now);
            let held: usize = table.hives.iter().map(|e| bytes_of(&e.rings)).sum();
            prop_assert!(held <= bytes, "{held} of {bytes}");
            let known: usize = table.hives.iter().map(|e| e.record.workers.len()).sum();
            prop_assert_eq!(known, table.workers);
            prop_assert!(table.hives.iter().all(|e| e.rings.len() == e.record.workers.len()));
        }
    }
}
