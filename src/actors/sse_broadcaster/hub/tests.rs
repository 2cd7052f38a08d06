#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says what it expects")]

use super::*;
use crate::actors::fleet::fixtures::{heartbeat, worker};
use crate::contract::StreamLifecycle;
use crate::limits::{
    Limit, REPLAY_EVENTS_MAX, STREAM_CLIENTS_MAX, STREAM_PATIENCE, STREAM_QUEUE_MAX,
    tests::Counting,
};
use proptest::prelude::*;
use serde_json::Value;

const START: u64 = 1_700;

fn hub() -> (Hub, Instant) {
    (Hub::new(START, Arc::default()), Instant::now())
}

/// A heartbeat of `hive` that is recognised by its worker's pid.
fn telemetry(hive: &str, mark: u32, now: Instant) -> StreamEvent {
    let mut marked = worker("llm", "1");
    marked.pid = Some(mark);
    let (record, _) = HiveRecord::new(heartbeat(hive, vec![marked]), now);
    StreamEvent::Telemetry(Arc::new(record))
}

fn hive_event(hive: &str, kind: StreamLifecycleKind) -> StreamEvent {
    StreamEvent::lifecycle(StreamLifecycle {
        kind,
        timestamp: "2026-01-01T00:00:00Z".into(),
        hive_id: hive.into(),
        worker_id: None,
        group: None,
        instance: None,
        pid: None,
        state: None,
        last_exit: None,
    })
}

fn id(number: u64) -> Option<EventId> {
    Some(EventId { start_ms: START, number })
}

/// The number, the name and the data of each frame; comments are left out.
fn read(subscription: &mut Subscription) -> Vec<(u64, String, Value)> {
    let mut frames: Vec<Bytes> = subscription.backlog.drain(..).collect();
    frames.extend(std::iter::from_fn(|| subscription.frames.try_recv().ok()));
    frames.iter().filter(|frame| !frame.starts_with(b":")).map(parse).collect()
}

fn parse(frame: &Bytes) -> (u64, String, Value) {
    let text = std::str::from_utf8(frame).unwrap();
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    let number = EventId::parse(field("id: ")).unwrap().number;
    (number, field("event: ").to_owned(), serde_json::from_str(field("data: ")).unwrap())
}

#[test]
fn a_client_gets_a_snapshot_then_only_what_is_newer() {
    let (mut hub, now) = hub();
    hub.publish(telemetry("a", 1, now), now);
    let mut client = hub.subscribe(None, None, now).unwrap();
    hub.publish(telemetry("a", 2, now), now);
    let got = read(&mut client);
    assert_eq!(got.len(), 2);
    assert_eq!((got[0].0, got[0].1.as_str()), (1, "snapshot"));
    assert_eq!(got[0].2["workers"][0]["pid"], 1);
    assert_eq!(got[0].2["workers"][0]["hive_id"], "a");
    assert_eq!(got[0].2["hives"][0]["freshness"], "healthy");
    assert_eq!((got[1].0, got[1].1.as_str()), (2, "heartbeat"));
    assert_eq!(got[1].2["type"], "hive_telemetry");
    assert_eq!(got[1].2["workers"][0]["pid"], 2);
}

#[test]
fn a_snapshot_shows_standings_and_leaves_out_the_evicted() {
    let (mut hub, now) = hub();
    for hive in ["a", "b"] {
        hub.publish(telemetry(hive, 1, now), now);
    }
    hub.publish(hive_event("a", StreamLifecycleKind::HiveDown), now);
    hub.publish(hive_event("b", StreamLifecycleKind::HiveEvicted), now);
    let got = read(&mut hub.subscribe(None, None, now).unwrap());
    assert_eq!(got[0].2["hives"].as_array().unwrap().len(), 1);
    assert_eq!(got[0].2["hives"][0]["freshness"], "down");
}

#[test]
fn a_client_that_comes_back_gets_what_it_missed_and_no_snapshot() {
    let (mut hub, now) = hub();
    for mark in 1..=5 {
        hub.publish(telemetry("a", mark, now), now);
    }
    let numbers = |got: Vec<(u64, String, Value)>| got.iter().map(|g| g.0).collect::<Vec<_>>();
    assert_eq!(numbers(read(&mut hub.subscribe(None, id(3), now).unwrap())), [4, 5]);
    assert!(read(&mut hub.subscribe(None, id(5), now).unwrap()).is_empty());
}

#[test]
fn an_id_that_is_not_ours_or_not_held_gets_a_snapshot() {
    let (mut hub, now) = hub();
    for mark in 1..=300 {
        hub.publish(telemetry("a", mark, now), now);
    }
    let foreign = Some(EventId { start_ms: START + 1, number: 299 });
    for last in [foreign, id(301), id(1), id(u64::MAX)] {
        let got = read(&mut hub.subscribe(None, last, now).unwrap());
        assert_eq!((got.len(), got[0].1.as_str()), (1, "snapshot"), "{last:?}");
    }
}

#[test]
fn so_many_events_are_kept_for_who_comes_back() {
    let (mut hub, now) = hub();
    let last = REPLAY_EVENTS_MAX as u64 + 7;
    for mark in 1..=last {
        hub.publish(telemetry("a", mark as u32, now), now);
    }
    let replayed = read(&mut hub.subscribe(None, id(7), now).unwrap());
    assert_eq!(replayed.len(), REPLAY_EVENTS_MAX);
    let counting = Counting::of(Limit::StreamReplay);
    let snapshot = read(&mut hub.subscribe(None, id(6), now).unwrap());
    assert_eq!((snapshot.len(), snapshot[0].1.as_str()), (1, "snapshot"));
    counting.counted();
}

#[test]
fn a_client_of_one_hive_gets_only_that_and_the_queen() {
    let (mut hub, now) = hub();
    hub.publish(telemetry("a", 1, now), now);
    hub.publish(telemetry("b", 1, now), now);
    let mut client = hub.subscribe(Some("b"), None, now).unwrap();
    hub.publish(telemetry("a", 2, now), now);
    hub.publish(telemetry("b", 2, now), now);
    hub.publish(StreamEvent::Queen(Arc::new(queen())), now);
    let got = read(&mut client);
    assert_eq!(got[0].2["hives"].as_array().unwrap().len(), 1);
    assert_eq!(got.iter().map(|g| g.0).collect::<Vec<_>>(), [2, 4, 5]);
}

fn queen() -> crate::contract::QueenHeartbeat {
    crate::contract::QueenHeartbeat {
        workers_online: 0,
        workers_available: 0,
        hives_online: 0,
        hives_available: 0,
        worker_ids: vec![],
        hive_ids: vec![],
        timestamp: "2026-01-01T00:00:00Z".into(),
    }
}

#[test]
fn all_clients_share_the_bytes_of_an_event() {
    let (mut hub, now) = hub();
    let mut clients: Vec<_> = (0..3).map(|_| hub.subscribe(None, None, now).unwrap()).collect();
    hub.publish(telemetry("a", 1, now), now);
    let frames: Vec<_> = clients.iter_mut().map(|c| c.frames.try_recv().unwrap()).collect();
    assert!(frames.windows(2).all(|pair| pair[0].as_ptr() == pair[1].as_ptr()));
    let snapshots: Vec<_> = clients.iter().map(|c| c.backlog[0].as_ptr()).collect();
    assert!(snapshots.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn a_client_that_does_not_read_delays_nobody_and_is_dropped() {
    let (mut hub, now) = hub();
    let mut slow = hub.subscribe(None, None, now).unwrap();
    let mut quick = hub.subscribe(None, None, now).unwrap();
    let (full, stuck) = (Counting::of(Limit::StreamQueue), Counting::of(Limit::StreamPatience));
    for mark in 0..100 {
        hub.publish(telemetry("a", mark, now), now);
        hub.sweep(now);
        assert!(quick.frames.try_recv().is_ok());
    }
    assert_eq!(hub.stats.events_dropped(), 100 - STREAM_QUEUE_MAX as u64);
    full.at_least(100 - STREAM_QUEUE_MAX as u64);
    hub.sweep(now + STREAM_PATIENCE - std::time::Duration::from_millis(1));
    assert_eq!(hub.stats.clients(), 2);
    hub.sweep(now + STREAM_PATIENCE);
    stuck.counted();
    assert_eq!((hub.stats.clients(), hub.stats.clients_dropped()), (1, 1));
    let held = std::iter::from_fn(|| slow.frames.try_recv().ok()).count();
    assert_eq!(held, STREAM_QUEUE_MAX);
    assert!(slow.frames.is_closed());
}

#[test]
fn too_many_clients_are_refused_until_one_leaves() {
    let (mut hub, now) = hub();
    let mut all: Vec<_> =
        (0..STREAM_CLIENTS_MAX).map(|_| hub.subscribe(None, None, now).unwrap()).collect();
    let counting = Counting::of(Limit::StreamClients);
    assert_eq!(hub.subscribe(None, None, now).unwrap_err(), StreamRefused::Full);
    assert_eq!((hub.stats.clients(), hub.stats.clients_refused()), (STREAM_CLIENTS_MAX, 1));
    counting.counted();
    all.pop();
    assert!(hub.subscribe(None, None, now).is_ok());
}

#[test]
fn closing_ends_every_stream_and_refuses_new_ones() {
    let (mut hub, now) = hub();
    let client = hub.subscribe(None, None, now).unwrap();
    hub.close();
    assert!(client.frames.is_closed());
    assert_eq!(hub.subscribe(None, None, now).unwrap_err(), StreamRefused::Closed);
}

#[test]
fn comments_reach_clients_that_have_room() {
    let (mut hub, now) = hub();
    let mut client = hub.subscribe(None, None, now).unwrap();
    hub.keep_alive();
    assert_eq!(client.frames.try_recv().unwrap(), ": keep-alive\n\n");
}

proptest! {
    /// Whenever a client connects or comes back, what it has seen adds up to the same state.
    #[test]
    fn snapshot_and_events_add_up(
        steps in proptest::collection::vec((0u8..3, 0u64..400), 1..80),
        joins in proptest::collection::vec(0usize..80, 1..6),
    ) {
        let (mut hub, mut now) = hub();
        let mut clients: Vec<(u64, Subscription)> = Vec::new();
        let mut state = std::collections::HashMap::new();
        for (step, (hive, wait)) in steps.iter().enumerate() {
            now += Duration::from_millis(*wait);
            for _ in joins.iter().filter(|join| **join == step) {
                clients.push((hub.newest.number, hub.subscribe(None, None, now).unwrap()));
            }
            let mark = u32::try_from(step).unwrap();
            hub.publish(telemetry(&hive.to_string(), mark, now), now);
            state.insert(hive.to_string(), mark);
            for (_, client) in &mut clients {
                while let Ok(frame) = client.frames.try_recv() {
                    client.backlog.push_back(frame);
                }
            }
        }
        for (joined, mut client) in clients {
            let got = read(&mut client);
            prop_assert_eq!(got[0].1.as_str(), "snapshot");
            prop_assert!(got[0].0 <= joined);
            let numbers: Vec<u64> = got.iter().map(|g| g.0).collect();
            prop_assert_eq!(&numbers, &(numbers[0]..=hub.newest.number).collect::<Vec<_>>());
            let mut seen = std::collections::HashMap::new();
            for (_, _, data) in &got {
                for worker in data["workers"].as_array().unwrap() {
                    let hive = worker["hive_id"].as_str().unwrap().to_owned();
                    seen.insert(hive, u32::try_from(worker["pid"].as_u64().unwrap()).unwrap());
                }
            }
            prop_assert_eq!(&seen, &state);
        }
    }
}
