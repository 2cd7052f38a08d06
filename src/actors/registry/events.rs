//! Lifecycle events on their way from a hive to the stream: repeats are dropped, words are changed.
//!
//! A hive repeats its events until they are acknowledged, always in the order of their `seq`, so the
//! highest one seen is all that has to be remembered.

use crate::contract::{EventKind, Freshness, LifecycleEvent, StreamLifecycle, StreamLifecycleKind};

/// Lets each event of one start of a hive pass once.
#[derive(Debug, Default)]
pub(super) struct EventGate {
    highest: Option<u64>,
}

impl EventGate {
    /// A new start of the hive counts its events from the beginning.
    pub(super) fn reset(&mut self) {
        self.highest = None;
    }

    /// The events not seen before, in order.
    pub(super) fn admit(&mut self, mut events: Vec<LifecycleEvent>) -> Vec<LifecycleEvent> {
        events.sort_by_key(|event| event.seq);
        events.retain(|event| {
            let new = self.highest.is_none_or(|highest| event.seq > highest);
            if new {
                self.highest = Some(event.seq);
            }
            new
        });
        events
    }
}

/// A worker's event as the stream tells it.
pub(super) fn worker_event(hive_id: &str, event: LifecycleEvent) -> StreamLifecycle {
    StreamLifecycle {
        kind: match event.kind {
            EventKind::WorkerStarted => StreamLifecycleKind::WorkerStarted,
            EventKind::WorkerReady => StreamLifecycleKind::WorkerReady,
            EventKind::WorkerExited => StreamLifecycleKind::WorkerExited,
            EventKind::WorkerFailed => StreamLifecycleKind::WorkerFailed,
            EventKind::WorkerStopped => StreamLifecycleKind::WorkerStopped,
        },
        timestamp: event.at,
        hive_id: hive_id.to_owned(),
        worker_id: Some(format!("{hive_id}/{}/{}", event.group, event.instance)),
        group: Some(event.group),
        instance: Some(event.instance),
        pid: event.pid,
        state: Some(event.state),
        last_exit: event.last_exit,
    }
}

/// A hive's change of standing as the stream tells it; `None`: it was evicted.
pub(super) fn hive_event(hive_id: &str, standing: Option<Freshness>) -> StreamLifecycle {
    StreamLifecycle {
        kind: match standing {
            Some(Freshness::Healthy) => StreamLifecycleKind::HiveOnline,
            Some(Freshness::Degraded) => StreamLifecycleKind::HiveDegraded,
            Some(Freshness::Down) => StreamLifecycleKind::HiveDown,
            None => StreamLifecycleKind::HiveEvicted,
        },
        timestamp: crate::actors::timestamp(),
        hive_id: hive_id.to_owned(),
        worker_id: None,
        group: None,
        instance: None,
        pid: None,
        state: None,
        last_exit: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::WorkerState;
    use proptest::prelude::*;

    fn event(seq: u64) -> LifecycleEvent {
        LifecycleEvent {
            seq,
            kind: EventKind::WorkerReady,
            at: "2026-01-01T00:00:00Z".into(),
            group: "llm".into(),
            instance: "8080".into(),
            pid: Some(7),
            state: WorkerState::Ready,
            last_exit: None,
        }
    }

    #[test]
    fn a_worker_event_keeps_what_the_hive_said_and_names_the_worker() {
        let told = worker_event("h1", event(1));
        assert_eq!(told.kind, StreamLifecycleKind::WorkerReady);
        assert_eq!(told.worker_id.as_deref(), Some("h1/llm/8080"));
        assert_eq!(told.pid, Some(7));
    }

    proptest! {
        /// The hive sends what is not acknowledged yet, again and again, with losses between.
        #[test]
        fn each_event_passes_exactly_once_and_in_order(
            batches in proptest::collection::vec((0u64..5, any::<bool>()), 1..60)
        ) {
            let mut gate = EventGate::default();
            let (mut made, mut acknowledged, mut passed) = (0, 0, Vec::new());
            for (new, answered) in batches {
                made += new;
                let batch = (acknowledged..made).map(event).collect();
                passed.extend(gate.admit(batch).into_iter().map(|e| e.seq));
                if answered {
                    acknowledged = made;
                }
            }
            prop_assert_eq!(passed, (0..made).collect::<Vec<_>>());
        }
    }
}
