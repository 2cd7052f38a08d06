//! One client's queue: bounded, never waited for.
//!
//! An event that finds it full is counted; once there is room again the client is told how many it
//! missed, before anything newer. Where each client stands is known from its queue alone.

use super::event::{EventId, KEEP_ALIVE, StreamEvent, lagged};
use crate::limits::{STREAM_PATIENCE, STREAM_QUEUE_MAX};
use bytes::Bytes;
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    time::Instant,
};

/// What became of an event offered to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offer {
    /// It waits in the queue.
    Queued,
    /// The queue is full: it counts as missed.
    Missed,
    /// The client has gone.
    Gone,
}

/// The broadcaster's end of a client's queue.
#[derive(Debug)]
pub(super) struct Client {
    queue: mpsc::Sender<Bytes>,
    hive: Option<Box<str>>,
    missed: u64,
    sent: usize,
    taken: usize,
    progress: Instant,
}

impl Client {
    /// A client that wants the events of one hive, or of all, and the end that it reads from.
    pub(super) fn new(hive: Option<&str>, now: Instant) -> (Self, mpsc::Receiver<Bytes>) {
        let (queue, frames) = mpsc::channel(STREAM_QUEUE_MAX);
        let hive = hive.map(Box::from);
        (Self { queue, hive, missed: 0, sent: 0, taken: 0, progress: now }, frames)
    }

    /// Whether the event is for this client.
    pub(super) fn wants(&self, event: &StreamEvent) -> bool {
        match (&self.hive, event.hive_id()) {
            (Some(wanted), Some(hive)) => **wanted == *hive,
            _ => true,
        }
    }

    /// Offers the frame of the event `id`.
    pub(super) fn offer(&mut self, id: EventId, frame: Bytes) -> Offer {
        let before = EventId { number: id.number.saturating_sub(1), ..id };
        if self.missed > 0 && (self.queue.capacity() < 2 || !self.confess(before)) {
            self.missed += 1;
            return self.missed_or_gone();
        }
        match self.queue.try_send(frame) {
            Ok(()) => {
                self.sent += 1;
                Offer::Queued
            }
            Err(TrySendError::Full(_)) => {
                self.missed += 1;
                Offer::Missed
            }
            Err(TrySendError::Closed(_)) => Offer::Gone,
        }
    }

    /// Tells the client what it missed, if anything and if there is room; `newest` is the last event.
    pub(super) fn confess(&mut self, newest: EventId) -> bool {
        if self.missed > 0 && self.queue.try_send(lagged(newest, self.missed)).is_ok() {
            self.missed = 0;
            self.sent += 1;
        }
        self.missed == 0
    }

    /// Sends a comment, if there is room: to a client with a full queue it would tell nothing.
    pub(super) fn keep_alive(&mut self) {
        if self.queue.try_send(KEEP_ALIVE).is_ok() {
            self.sent += 1;
        }
    }

    /// Whether the client has gone.
    pub(super) fn is_gone(&self) -> bool {
        self.queue.is_closed()
    }

    /// Whether it has taken nothing for too long although something waits for it.
    pub(super) fn is_stuck(&mut self, now: Instant) -> bool {
        let waiting = self.queue.max_capacity() - self.queue.capacity();
        let taken = self.sent - waiting;
        if waiting == 0 || taken != self.taken {
            (self.taken, self.progress) = (taken, now);
        }
        now.saturating_duration_since(self.progress) >= STREAM_PATIENCE
    }

    fn missed_or_gone(&self) -> Offer {
        if self.is_gone() { Offer::Gone } else { Offer::Missed }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test says what it expects")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(number: u64) -> EventId {
        EventId { start_ms: 1, number }
    }

    fn frame(number: u64) -> Bytes {
        number.to_string().into()
    }

    #[test]
    fn a_slow_client_is_told_what_it_missed_before_anything_newer() {
        let (mut client, mut frames) = Client::new(None, Instant::now());
        for number in 0..STREAM_QUEUE_MAX as u64 {
            assert_eq!(client.offer(id(number), frame(number)), Offer::Queued);
        }
        assert_eq!(client.offer(id(64), frame(64)), Offer::Missed);
        frames.try_recv().unwrap();
        assert_eq!(client.offer(id(65), frame(65)), Offer::Missed);
        frames.try_recv().unwrap();
        assert_eq!(client.offer(id(66), frame(66)), Offer::Queued);
        let rest: Vec<_> = std::iter::from_fn(|| frames.try_recv().ok()).collect();
        let told = &rest[rest.len() - 2..];
        assert_eq!(told, [lagged(id(65), 2), frame(66)]);
    }

    #[test]
    fn a_client_that_takes_nothing_is_stuck_after_its_patience() {
        let start = Instant::now();
        let (mut client, mut frames) = Client::new(None, start);
        assert!(!client.is_stuck(start + STREAM_PATIENCE * 2));
        let start = start + STREAM_PATIENCE * 2;
        client.offer(id(1), frame(1));
        client.offer(id(2), frame(2));
        assert!(!client.is_stuck(start + STREAM_PATIENCE / 2));
        frames.try_recv().unwrap();
        assert!(!client.is_stuck(start + STREAM_PATIENCE));
        assert!(client.is_stuck(start + STREAM_PATIENCE * 2));
    }

    #[test]
    fn a_client_that_left_is_gone() {
        let (mut client, frames) = Client::new(None, Instant::now());
        drop(frames);
        assert_eq!(client.offer(id(1), frame(1)), Offer::Gone);
        assert!(client.is_gone());
    }

    proptest! {
        /// Whatever the pace, what arrives and what is confessed add up to what was offered, in order.
        #[test]
        fn nothing_is_lost_in_silence(paces in proptest::collection::vec(0usize..4, 1..400)) {
            let (mut client, mut frames) = Client::new(None, Instant::now());
            let (mut offered, mut arrived) = (0u64, Vec::new());
            for pace in paces {
                for _ in 0..2 {
                    offered += 1;
                    client.offer(id(offered), frame(offered));
                }
                arrived.extend((0..pace).map_while(|_| frames.try_recv().ok()));
            }
            arrived.extend(std::iter::from_fn(|| frames.try_recv().ok()));
            client.confess(id(offered));
            arrived.extend(frames.try_recv());
            let mut next = 1;
            for got in arrived {
                let text = String::from_utf8(got.to_vec()).unwrap();
                match text.split_once("\"missed\":") {
                    Some((_, rest)) => next += rest.trim_end().trim_end_matches('}').parse::<u64>().unwrap(),
                    None => {
                        prop_assert_eq!(text, next.to_string());
                        next += 1;
                    }
                }
            }
            prop_assert_eq!(next, offered + 1);
        }
    }
}
