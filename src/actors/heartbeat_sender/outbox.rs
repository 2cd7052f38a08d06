//! Lifecycle events that no queen has acknowledged yet: kept in order, bounded, sent again until
//! they are.

use crate::contract::LifecycleEvent;
use crate::limits::{Limit, OUTBOX_MAX};
use std::collections::VecDeque;

/// See the module.
#[derive(Debug, Default)]
pub struct Outbox {
    waiting: VecDeque<LifecycleEvent>,
    last_seq: u64,
    dropped: u64,
}

impl Outbox {
    /// Takes an event and numbers it. Returns how many have been dropped in all.
    pub fn push(&mut self, mut event: LifecycleEvent) -> u64 {
        self.last_seq += 1;
        event.seq = self.last_seq;
        if self.waiting.len() == OUTBOX_MAX {
            self.waiting.pop_front();
            self.dropped += 1;
            Limit::Outbox.reached();
        }
        self.waiting.push_back(event);
        self.dropped
    }

    /// What waits, oldest first, and the number of the last one.
    pub fn pending(&self) -> (Vec<LifecycleEvent>, u64) {
        (self.waiting.iter().cloned().collect(), self.last_seq)
    }

    /// The queen has everything up to `seq`.
    pub fn acknowledge(&mut self, seq: u64) {
        while self.waiting.front().is_some_and(|event| event.seq <= seq) {
            self.waiting.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{EventKind, WorkerState};
    use crate::limits::tests::Counting;

    fn event() -> LifecycleEvent {
        LifecycleEvent {
            seq: 0,
            kind: EventKind::WorkerStarted,
            at: String::new(),
            group: "a".into(),
            instance: "b".into(),
            pid: None,
            state: WorkerState::Starting,
            last_exit: None,
        }
    }

    #[test]
    fn only_what_was_sent_is_acknowledged() {
        let mut outbox = Outbox::default();
        outbox.push(event());
        let (sent, upto) = outbox.pending();
        outbox.push(event());
        outbox.acknowledge(upto);
        let left: Vec<_> = outbox.pending().0.iter().map(|event| event.seq).collect();
        assert_eq!((sent.len(), left), (1, vec![2]));
    }

    #[test]
    fn a_long_absence_costs_the_oldest_and_no_more_memory() {
        let mut outbox = Outbox::default();
        for _ in 0..OUTBOX_MAX {
            assert_eq!(outbox.push(event()), 0);
        }
        let counting = Counting::of(Limit::Outbox);
        assert_eq!(outbox.push(event()), 1);
        counting.counted();
        let (waiting, last) = outbox.pending();
        assert_eq!((waiting.len(), waiting[0].seq, last), (OUTBOX_MAX, 2, OUTBOX_MAX as u64 + 1));
    }
}
