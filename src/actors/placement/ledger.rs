//! Who takes the next request, and what is booked on whom. No actor, no lock, no timer; time is an
//! argument.
//!
//! Invariants: no worker has more booked than it has slots; a worker is in the index exactly as
//! [`Ledger::standing_of`] says; while a request waits in the queue, no worker that would take it is
//! open.

mod admit;
mod explain;
mod observe;
mod reserve;

pub(super) use admit::Admitted;

use super::{
    Handover, PlacementConfig, PlacementFigures, WorkerKey,
    index::Index,
    queue::Queue,
    reason::Reason,
    reservation::Reservations,
    seat::{Seat, Standing},
    vram::Promises,
};
use crate::limits::{Limit, SESSIONS_MAX};
use crate::{
    actors::fleet::{HiveRecord, WorkerFilter, freshness, turned_away},
    contract::{Freshness, WorkerState},
};
use lru::LruCache;
use std::{
    collections::{BTreeSet, HashMap},
    num::NonZeroUsize,
    sync::Arc,
};
use tokio::time::Instant;

/// A session stays with a worker that has no slots as long as this has not so many requests more than
/// the best one.
const SESSION_SLACK: u64 = 4;

/// What is asked for. What is not set does not matter.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ask<'a> {
    pub model: Option<&'a str>,
    pub group: Option<&'a str>,
    /// MiB beyond what the worker holds.
    pub vram_mb: u64,
    pub session: Option<&'a str>,
}

/// A hive, as last heard of.
#[derive(Debug)]
struct HiveSeat {
    record: Arc<HiveRecord>,
    takes_work_until: Instant,
    /// Whether its workers were shut because that time is over.
    shut: bool,
    /// In the order of its record.
    workers: Vec<u32>,
}

/// See the module.
pub(super) struct Ledger {
    config: PlacementConfig,
    hives: HashMap<Arc<str>, HiveSeat>,
    seats: Vec<Option<Seat>>,
    vacant: Vec<u32>,
    generation: u32,
    index: Index,
    promises: Promises,
    reservations: Reservations,
    queue: Queue,
    sessions: LruCache<(Box<str>, Box<str>), WorkerKey>,
    exclusions: BTreeSet<(Instant, u32)>,
    turns: u64,
    /// Slots for those who waited; whoever holds the lock hands them over after letting go of it.
    handovers: Vec<Handover>,
}

impl Ledger {
    pub(super) fn new(config: PlacementConfig) -> Self {
        Self {
            queue: Queue::new(config.queue_limit),
            config,
            hives: HashMap::new(),
            seats: Vec::new(),
            vacant: Vec::new(),
            generation: 0,
            index: Index::default(),
            promises: Promises::default(),
            reservations: Reservations::default(),
            sessions: LruCache::new(NonZeroUsize::new(SESSIONS_MAX).unwrap_or(NonZeroUsize::MIN)),
            exclusions: BTreeSet::new(),
            turns: 0,
            handovers: Vec::new(),
        }
    }

    pub(super) fn take_handovers(&mut self) -> Vec<Handover> {
        std::mem::take(&mut self.handovers)
    }

    fn seat(&self, index: u32) -> Option<&Seat> {
        self.seats.get(index as usize)?.as_ref()
    }

    fn seat_mut(&mut self, index: u32) -> Option<&mut Seat> {
        self.seats.get_mut(index as usize)?.as_mut()
    }

    /// That very worker, not one that took its place.
    fn seat_of(&mut self, key: WorkerKey) -> Option<&mut Seat> {
        self.seat_mut(key.index).filter(|seat| seat.key == key)
    }

    /// What stands against a worker whatever is asked for, but a slot.
    fn obstacle(&self, seat: &Seat, now: Instant) -> Option<Reason> {
        let Some(hive) = self.hives.get(&seat.hive) else {
            return Some(Reason::Hive(Freshness::Down));
        };
        if let Some(why) = turned_away(&hive.record.info) {
            return Some(Reason::TurnedAway(why));
        }
        if now >= hive.takes_work_until {
            let age = hive.record.age(now);
            let standing = freshness(&self.config.limits, hive.record.interval_ms, age);
            return Some(Reason::Hive(match standing {
                Some(Freshness::Healthy | Freshness::Degraded) => Freshness::Degraded,
                Some(Freshness::Down) | None => Freshness::Down,
            }));
        }
        if seat.facts.state != WorkerState::Ready {
            return Some(Reason::State(seat.facts.state));
        }
        if !seat.has_url {
            return Some(Reason::NoUrl);
        }
        if let Some(fault) = &seat.facts.gpu_fault {
            return Some(Reason::Gpu(fault.clone()));
        }
        seat.exclusion.left(now).map(Reason::LeftOut)
    }

    fn standing_of(&self, seat: &Seat, now: Instant) -> Standing {
        if self.obstacle(seat, now).is_some() {
            Standing::Shut
        } else if seat.is_full() {
            Standing::Full
        } else {
            Standing::Open(seat.rank())
        }
    }

    /// Puts a worker where it belongs after something about it changed, and lets who waits have what is
    /// free now.
    fn restand(&mut self, index: u32, now: Instant) {
        self.move_in_index(index, now);
        if self.queue.len() > 0 {
            self.serve_queue(index, now);
        }
    }

    fn move_in_index(&mut self, index: u32, now: Instant) {
        let Some(seat) = self.seat(index) else { return };
        let standing = self.standing_of(seat, now);
        let Some(seat) = self.seats.get_mut(index as usize).and_then(Option::as_mut) else {
            return;
        };
        self.index.restand(seat, standing);
        if seat.booked == 0 && seat.facts.state != WorkerState::Ready {
            for waiter in seat.awaiting_quiet.drain(..) {
                let _ = waiter.send(());
            }
        }
    }

    /// The first thing that stands against giving this worker what is asked for.
    fn why_not(&self, seat: &Seat, ask: &Ask<'_>, now: Instant) -> Option<Reason> {
        if ask.group.is_some_and(|group| *seat.group != *group) {
            return Some(Reason::OtherGroup);
        }
        if ask.model.is_some_and(|model| !seat.models.iter().any(|name| **name == *model)) {
            return Some(Reason::OtherModel);
        }
        self.obstacle(seat, now)
            .or_else(|| lacks_memory(seat, ask.vram_mb))
            .or_else(|| seat.is_full().then_some(Reason::NoFreeSlot))
    }

    /// Who takes it: the worker of its session unless that one is overloaded, else the best.
    fn choose(&self, ask: &Ask<'_>, now: Instant) -> Option<u32> {
        let bucket = self.index.bucket(ask.model, ask.group)?;
        let fits = |seat: &Seat| self.why_not(seat, ask, now).is_none();
        let best =
            bucket.open.iter().filter_map(|rank| self.seat(rank.index)).find(|seat| fits(seat))?;
        let usual = ask.session.and_then(|session| {
            let key = self.sessions.peek(&session_key(session, ask.model))?;
            self.seat(key.index).filter(|seat| seat.key == *key && fits(seat))
        });
        let overloaded = |seat: &Seat| {
            seat.facts.slots.is_none()
                && seat.requests() >= best.requests().saturating_add(SESSION_SLACK)
        };
        Some(usual.filter(|seat| !overloaded(seat)).unwrap_or(best).key.index)
    }

    /// Takes a slot of this worker.
    fn book(&mut self, index: u32, session: Option<&str>, model: Option<&str>, now: Instant) {
        self.turns += 1;
        let turn = self.turns;
        let Some(seat) = self.seat_mut(index) else { return };
        seat.book();
        seat.chosen_at = turn;
        let key = seat.key;
        if let Some(session) = session {
            let before = self.sessions.push(session_key(session, model), key);
            if before.is_some_and(|(name, _)| name != session_key(session, model)) {
                Limit::Sessions.reached();
            }
        }
        self.move_in_index(index, now);
    }

    /// Gives back a slot that was taken in that run of the worker.
    pub(super) fn release(&mut self, key: WorkerKey, run: u32, now: Instant) {
        if let Some(seat) = self.seat_of(key).filter(|seat| seat.run == run) {
            seat.release();
            self.restand(key.index, now);
        }
    }

    /// Time has passed: reservations end, workers are taken in again, hives become late.
    /// Whether there is more to do at once.
    pub(super) fn sweep(&mut self, now: Instant) -> bool {
        let more = self.expire(now);
        while let Some((until, index)) = self.exclusions.first().copied().filter(|(t, _)| *t <= now)
        {
            self.exclusions.remove(&(until, index));
            self.restand(index, now);
        }
        let late = |hive: &&mut HiveSeat| !hive.shut && now >= hive.takes_work_until;
        let mut shut = Vec::new();
        for hive in self.hives.values_mut().filter(late) {
            hive.shut = true;
            shut.extend_from_slice(&hive.workers);
        }
        for index in shut {
            self.restand(index, now);
        }
        more
    }

    /// The workers that a filter means: each in its hive's record.
    pub(super) fn select(&self, filter: &WorkerFilter) -> Vec<(Arc<HiveRecord>, usize)> {
        let meant = |index: &u32| {
            let seat = self.seat(*index)?;
            if filter.hive.as_ref().is_some_and(|hive| **hive != *seat.hive) {
                return None;
            }
            let record = &self.hives.get(&seat.hive)?.record;
            let worker = record.workers.get(seat.position)?;
            filter.matches(worker, seat.free_mb).then(|| (Arc::clone(record), seat.position))
        };
        match filter.hive.as_deref().map(|hive| self.hives.get(hive)) {
            Some(None) => Vec::new(),
            Some(Some(hive)) => hive.workers.iter().filter_map(meant).collect(),
            None => self.index.candidates(filter).iter().filter_map(meant).collect(),
        }
    }

    pub(super) fn figures(&self) -> PlacementFigures {
        let workers = self.index.everyone();
        let (open, full) = (workers.open.len(), workers.full.len());
        PlacementFigures {
            open,
            full,
            shut: workers.members.len().saturating_sub(open + full),
            reservations: self.reservations.len(),
            queued: self.queue.len(),
        }
    }

    /// The worker of that name.
    fn find(&self, hive: &str, group: &str, instance: &str) -> Option<u32> {
        let hive = self.hives.get(hive)?;
        let (position, _) = hive.record.find(group, instance)?;
        hive.workers.get(position).copied()
    }
}

fn lacks_memory(seat: &Seat, vram_mb: u64) -> Option<Reason> {
    match (vram_mb, seat.free_mb) {
        (0, _) => None,
        (_, None) => Some(Reason::VramUnknown),
        (asked, Some(free)) => (free < asked).then_some(Reason::VramShort { free, asked }),
    }
}

/// A session's conversation and its embeddings go to workers of their own.
fn session_key(session: &str, model: Option<&str>) -> (Box<str>, Box<str>) {
    (session.into(), model.unwrap_or_default().into())
}

#[cfg(test)]
mod tests;
