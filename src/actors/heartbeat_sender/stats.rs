//! What became of heartbeats, countable by anyone without asking the sender.

use super::post::Answer;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of one sender.
#[derive(Debug, Default)]
pub struct SenderStats {
    counts: [AtomicU64; RESULTS.len()],
    events_dropped: AtomicU64,
}

/// In the order of the counters.
const RESULTS: [&str; 5] = ["stored", "refused", "superseded", "overloaded", "unreachable"];

impl SenderStats {
    /// Heartbeats so far, by result.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        RESULTS.into_iter().zip(&self.counts).map(|(name, n)| (name, n.load(Ordering::Relaxed)))
    }

    /// Events that are lost, since no queen was there for too long.
    pub fn events_dropped(&self) -> u64 {
        self.events_dropped.load(Ordering::Relaxed)
    }

    pub(super) fn count(&self, answer: &Answer) {
        let at = match answer {
            Answer::Stored => 0,
            Answer::Refused(..) => 1,
            Answer::Superseded(_) => 2,
            Answer::Overloaded(_) => 3,
            Answer::Missing(_) => 4,
        };
        self.counts[at].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn set_events_dropped(&self, dropped: u64) {
        self.events_dropped.store(dropped, Ordering::Relaxed);
    }
}
