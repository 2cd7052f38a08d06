//! The stream without its actor: what is told to whom, in which order. Time is an argument.
//!
//! Invariant: the view is exactly what the events so far add up to. A snapshot is made from it, never
//! from the registry, which may be some events ahead; so a client sees nothing twice and misses
//! nothing between its snapshot and its first event.

use super::{
    client::{Client, Offer},
    event::{EventId, StreamEvent, WELCOME, frame_with_workers},
    replay::Replay,
    stats::StreamStats,
};
use crate::limits::{Limit, STREAM_CLIENTS_MAX};
use crate::{
    actors::fleet::HiveRecord,
    contract::{Freshness, Snapshot, StreamLifecycleKind},
};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};
use tokio::{sync::mpsc, time::Instant};

/// A snapshot serves all who connect within this time; the events since then follow it.
const SNAPSHOT_REUSE: Duration = Duration::from_millis(250);

/// What a client is given: frames to send first, then those that come.
#[derive(Debug)]
pub struct Subscription {
    /// A snapshot or what is replayed, oldest first.
    pub backlog: VecDeque<Bytes>,
    /// Ends when the stream does, or when the client made no progress.
    pub frames: mpsc::Receiver<Bytes>,
}

/// Why a client was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamRefused {
    /// There are [`STREAM_CLIENTS_MAX`] already.
    #[error("{STREAM_CLIENTS_MAX} clients are connected, which is the limit")]
    Full,
    /// The queen is stopping.
    #[error("the stream is closed: this queen is stopping")]
    Closed,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Hub {
    newest: EventId,
    view: BTreeMap<Arc<str>, (Arc<HiveRecord>, Freshness)>,
    replay: Replay,
    clients: Vec<Client>,
    snapshot: Option<(u64, Instant, Bytes)>,
    closed: bool,
    stats: Arc<StreamStats>,
}

impl Hub {
    /// `start_ms` makes its event ids differ from those of every queen before it.
    pub(super) fn new(start_ms: u64, stats: Arc<StreamStats>) -> Self {
        Self {
            newest: EventId { start_ms, number: 0 },
            view: BTreeMap::new(),
            replay: Replay::default(),
            clients: Vec::new(),
            snapshot: None,
            closed: false,
            stats,
        }
    }

    /// Tells an event to all who want it. It is encoded once, and only if there is someone.
    pub(super) fn publish(&mut self, event: StreamEvent, now: Instant) {
        self.newest.number += 1;
        self.stats.count_event();
        self.apply(&event);
        let (id, stats) = (self.newest, &self.stats);
        let Some(held) = self.replay.push(id, event, now) else { return };
        self.clients.retain_mut(|client| {
            if !client.wants(&held.event) {
                return true;
            }
            let offer = client.offer(id, held.frame());
            if offer == Offer::Missed {
                Limit::StreamQueue.reached();
                stats.count_missed(1);
            }
            offer != Offer::Gone
        });
        self.stats.set_clients(self.clients.len());
    }

    /// Takes a client in: `last` is the last event it knows, if it was here before.
    pub(super) fn subscribe(
        &mut self,
        hive: Option<&str>,
        last: Option<EventId>,
        now: Instant,
    ) -> Result<Subscription, StreamRefused> {
        self.admit()?;
        let (client, frames) = Client::new(hive, now);
        let replayed = last
            .filter(|id| id.start_ms == self.newest.start_ms)
            .and_then(|id| self.replayed(&client, id.number, now));
        let ours = last.is_some_and(|id| self.newest.start_ms == id.start_ms);
        if ours && replayed.is_none() {
            Limit::StreamReplay.reached();
        }
        let backlog = match (replayed, hive) {
            (Some(mut replayed), _) => {
                replayed.push_front(WELCOME);
                replayed
            }
            (None, Some(hive)) => VecDeque::from([self.encode_snapshot(Some(hive), now)]),
            (None, None) => self.whole_snapshot(&client, now),
        };
        self.clients.push(client);
        self.stats.set_clients(self.clients.len());
        Ok(Subscription { backlog, frames })
    }

    /// Forgets clients that left or are stuck, and events that are too old; tells those who missed
    /// some and have room again.
    pub(super) fn sweep(&mut self, now: Instant) {
        let (newest, stats) = (self.newest, &self.stats);
        self.clients.retain_mut(|client| {
            client.confess(newest);
            let stuck = client.is_stuck(now);
            if stuck && !client.is_gone() {
                Limit::StreamPatience.reached();
                stats.count_dropped_client();
            }
            !stuck && !client.is_gone()
        });
        self.stats.set_clients(self.clients.len());
        self.replay.expire(now);
        self.snapshot = self.snapshot.take().filter(|(_, at, _)| is_recent(*at, now));
    }

    /// Sends a comment to every client.
    pub(super) fn keep_alive(&mut self) {
        self.clients.iter_mut().for_each(Client::keep_alive);
    }

    /// Ends every stream, and refuses new ones.
    pub(super) fn close(&mut self) {
        self.closed = true;
        self.clients.clear();
        self.stats.set_clients(0);
    }

    fn admit(&mut self) -> Result<(), StreamRefused> {
        if self.closed {
            return Err(StreamRefused::Closed);
        }
        if self.clients.len() >= STREAM_CLIENTS_MAX {
            self.clients.retain(|client| !client.is_gone());
        }
        if self.clients.len() >= STREAM_CLIENTS_MAX {
            Limit::StreamClients.reached();
            self.stats.count_refused_client();
            return Err(StreamRefused::Full);
        }
        Ok(())
    }

    fn apply(&mut self, event: &StreamEvent) {
        match event {
            StreamEvent::Telemetry(record) => {
                self.view.insert(Arc::clone(&record.id), (Arc::clone(record), Freshness::Healthy));
            }
            StreamEvent::Lifecycle(event) => match event.kind {
                StreamLifecycleKind::HiveOnline => self.judge(&event.hive_id, Freshness::Healthy),
                StreamLifecycleKind::HiveDegraded => {
                    self.judge(&event.hive_id, Freshness::Degraded);
                }
                StreamLifecycleKind::HiveDown => self.judge(&event.hive_id, Freshness::Down),
                StreamLifecycleKind::HiveEvicted => {
                    self.view.remove(event.hive_id.as_str());
                }
                _ => {}
            },
            StreamEvent::Queen(_) => {}
        }
    }

    fn judge(&mut self, hive: &str, freshness: Freshness) {
        if let Some((_, standing)) = self.view.get_mut(hive) {
            *standing = freshness;
        }
    }

    fn replayed(&mut self, client: &Client, number: u64, now: Instant) -> Option<VecDeque<Bytes>> {
        self.replay.expire(now);
        let held = self.replay.after(number, self.newest.number)?;
        Some(held.filter(|held| client.wants(&held.event)).map(|held| held.frame()).collect())
    }

    /// A recent snapshot and what came after it, or a new one.
    fn whole_snapshot(&mut self, client: &Client, now: Instant) -> VecDeque<Bytes> {
        if let Some((number, at, bytes)) = self.snapshot.clone()
            && is_recent(at, now)
            && let Some(mut backlog) = self.replayed(client, number, now)
        {
            backlog.push_front(bytes);
            return backlog;
        }
        let bytes = self.encode_snapshot(None, now);
        self.snapshot = Some((self.newest.number, now, bytes.clone()));
        VecDeque::from([bytes])
    }

    fn encode_snapshot(&self, hive: Option<&str>, now: Instant) -> Bytes {
        let known = || self.view.values().filter(|(r, _)| hive.is_none_or(|hive| *r.id == *hive));
        let snapshot = Snapshot {
            timestamp: crate::actors::timestamp(),
            hives: known().map(|(record, freshness)| record.view(*freshness, now)).collect(),
            workers: Vec::new(),
        };
        let workers = known().flat_map(|(record, freshness)| record.texts(Some(*freshness)));
        frame_with_workers(self.newest, "snapshot", &snapshot, workers)
    }
}

fn is_recent(at: Instant, now: Instant) -> bool {
    now.saturating_duration_since(at) <= SNAPSHOT_REUSE
}

#[cfg(test)]
#[path = "hub/tests.rs"]
mod tests;
