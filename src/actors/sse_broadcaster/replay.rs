//! The events of the last moments, for clients that come back: bounded by count, age and weight.
//!
//! An event is held as shared data and turned into a frame only when the first client needs it.

use super::event::{EventId, StreamEvent};
use crate::limits::{REPLAY_AGE_MAX, REPLAY_EVENTS_MAX, REPLAY_WEIGHT_MAX};
use bytes::Bytes;
use std::collections::VecDeque;
use tokio::time::Instant;

/// One event, and its frame once somebody needed it.
#[derive(Debug)]
pub(super) struct Held {
    id: EventId,
    at: Instant,
    /// What it tells.
    pub event: StreamEvent,
    frame: Option<Bytes>,
}

impl Held {
    /// The frame, encoded at most once.
    pub(super) fn frame(&mut self) -> Bytes {
        let (event, id) = (&self.event, self.id);
        self.frame.get_or_insert_with(|| event.encode(id)).clone()
    }
}

/// See the module. Numbers in it are consecutive.
#[derive(Debug, Default)]
pub(super) struct Replay {
    held: VecDeque<Held>,
    weight: usize,
}

impl Replay {
    /// Adds the newest event and forgets what is too much or too old; the newest one is always held.
    pub(super) fn push(
        &mut self,
        id: EventId,
        event: StreamEvent,
        now: Instant,
    ) -> Option<&mut Held> {
        self.weight += event.weight();
        self.held.push_back(Held { id, at: now, event, frame: None });
        while self.held.len() > 1
            && (self.held.len() > REPLAY_EVENTS_MAX || self.weight > REPLAY_WEIGHT_MAX)
        {
            self.pop();
        }
        self.expire(now);
        self.held.back_mut()
    }

    /// Forgets what is too old.
    pub(super) fn expire(&mut self, now: Instant) {
        let old = |held: &Held| now.saturating_duration_since(held.at) > REPLAY_AGE_MAX;
        while self.held.front().is_some_and(old) {
            self.pop();
        }
    }

    /// What came after `number`, where `newest` is the number of the newest event ever; `None` if any
    /// of it is gone, or if `number` is yet to come.
    pub(super) fn after(
        &mut self,
        number: u64,
        newest: u64,
    ) -> Option<impl Iterator<Item = &mut Held>> {
        let wanted = usize::try_from(newest.checked_sub(number)?).ok()?;
        let skipped = self.held.len().checked_sub(wanted)?;
        Some(self.held.iter_mut().skip(skipped))
    }

    fn pop(&mut self) {
        if let Some(held) = self.held.pop_front() {
            self.weight -= held.event.weight();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::fleet::HiveRecord;
    use crate::actors::fleet::fixtures::{heartbeat, worker};
    use proptest::prelude::*;
    use std::sync::Arc;

    fn event(workers: usize) -> StreamEvent {
        let beat = heartbeat("h", (0..workers).map(|i| worker("g", &i.to_string())).collect());
        StreamEvent::Telemetry(Arc::new(HiveRecord::new(beat, Instant::now()).0))
    }

    fn filled(events: u64, now: Instant) -> Replay {
        let mut replay = Replay::default();
        for number in 1..=events {
            replay.push(EventId { start_ms: 0, number }, event(1), now);
        }
        replay
    }

    #[test]
    fn only_so_many_are_held() {
        let now = Instant::now();
        let mut replay = filled(300, now);
        assert_eq!(replay.held.len(), REPLAY_EVENTS_MAX);
        assert!(replay.after(43, 300).is_none());
        assert_eq!(replay.after(44, 300).map(Iterator::count), Some(REPLAY_EVENTS_MAX));
        assert_eq!(replay.after(300, 300).map(Iterator::count), Some(0));
        assert!(replay.after(301, 300).is_none());
    }

    #[test]
    fn old_ones_are_forgotten() {
        let now = Instant::now();
        let mut replay = filled(3, now);
        replay.expire(now + REPLAY_AGE_MAX + std::time::Duration::from_secs(1));
        assert!(replay.after(2, 3).is_none());
        assert_eq!((replay.held.len(), replay.weight), (0, 0));
        assert_eq!(replay.after(3, 3).map(Iterator::count), Some(0));
    }

    #[test]
    fn heavy_ones_push_others_out_but_the_newest_stays() {
        let now = Instant::now();
        let mut replay = filled(3, now);
        let heavy = event(REPLAY_WEIGHT_MAX / 1_024 + 1);
        assert!(replay.push(EventId { start_ms: 0, number: 4 }, heavy, now).is_some());
        assert_eq!(replay.held.len(), 1);
    }

    proptest! {
        #[test]
        fn what_is_replayed_is_exactly_what_came_after(events in 0u64..400, asked in 0u64..500) {
            let now = Instant::now();
            let mut replay = filled(events, now);
            let held = (events - events.min(256))..=events;
            let numbers = replay.after(asked, events)
                .map(|found| found.map(|held| held.id.number).collect::<Vec<_>>());
            let expected = held.contains(&asked).then(|| (asked + 1..=events).collect::<Vec<_>>());
            prop_assert_eq!(numbers, expected);
        }
    }
}
