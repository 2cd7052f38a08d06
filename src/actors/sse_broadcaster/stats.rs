//! What the stream counts, readable by anyone without asking it.

use super::{Publish, StreamEvent};
use crate::limits::STREAM_BACKLOG_MAX;
use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

/// Counters of the stream.
#[derive(Debug, Default)]
pub struct StreamStats {
    clients: AtomicUsize,
    backlog: AtomicUsize,
    events: AtomicU64,
    events_dropped: AtomicU64,
    clients_dropped: AtomicU64,
    clients_refused: AtomicU64,
}

impl StreamStats {
    /// Clients connected now.
    pub fn clients(&self) -> usize {
        self.clients.load(Ordering::Relaxed)
    }

    /// Events published so far.
    pub fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }

    /// Events that a client lost because it was too slow, summed over clients.
    pub fn events_dropped(&self) -> u64 {
        self.events_dropped.load(Ordering::Relaxed)
    }

    /// Clients closed because they made no progress.
    pub fn clients_dropped(&self) -> u64 {
        self.clients_dropped.load(Ordering::Relaxed)
    }

    /// Clients refused because there were too many.
    pub fn clients_refused(&self) -> u64 {
        self.clients_refused.load(Ordering::Relaxed)
    }

    /// Whether more waits for the broadcaster than should.
    pub fn is_behind(&self) -> bool {
        self.backlog.load(Ordering::Relaxed) >= STREAM_BACKLOG_MAX
    }

    /// A publication that counts as waiting until it is dropped.
    pub fn publish(self: &Arc<Self>, events: Vec<StreamEvent>) -> Publish {
        self.backlog.fetch_add(1, Ordering::Relaxed);
        Publish { events, ticket: Ticket(Arc::clone(self)) }
    }

    pub(super) fn set_clients(&self, clients: usize) {
        self.clients.store(clients, Ordering::Relaxed);
    }

    pub(super) fn count_event(&self) {
        self.events.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_missed(&self, events: u64) {
        self.events_dropped.fetch_add(events, Ordering::Relaxed);
    }

    pub(super) fn count_dropped_client(&self) {
        self.clients_dropped.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_refused_client(&self) {
        self.clients_refused.fetch_add(1, Ordering::Relaxed);
    }
}

/// Stands for one waiting publication.
#[derive(Debug)]
pub struct Ticket(Arc<StreamStats>);

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.backlog.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publication_waits_until_it_is_dropped() {
        let stats = Arc::new(StreamStats::default());
        let waiting: Vec<_> = (0..STREAM_BACKLOG_MAX).map(|_| stats.publish(Vec::new())).collect();
        assert!(stats.is_behind());
        drop(waiting);
        assert!(!stats.is_behind());
        assert_eq!(stats.backlog.load(Ordering::Relaxed), 0);
    }
}
