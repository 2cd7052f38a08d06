//! Slots that are held for a caller until he uses them, gives them back or his time is over. Pure.

use super::{WorkerKey, vram::Shares};
use crate::limits::RESERVATIONS_MAX;
use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};
use tokio::time::Instant;
use uuid::Uuid;

/// One of them.
#[derive(Debug)]
pub(super) struct Reservation {
    pub worker: WorkerKey,
    /// Its place among its worker's reservations.
    pub turn: u64,
    /// The run of the worker whose slot it is.
    pub run: u32,
    pub expires: Instant,
    pub ttl: Duration,
    /// Whether a request has taken over its slot. Remembered until it would have expired, so that giving
    /// it back is no error.
    pub used: bool,
    /// Memory that is promised and not in use yet.
    pub shares: Shares,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Reservations {
    by_id: HashMap<Uuid, Reservation>,
    expiry: BTreeSet<(Instant, Uuid)>,
}

impl Reservations {
    /// Whether one more may be held.
    pub(super) fn has_room(&self) -> bool {
        self.by_id.len() < RESERVATIONS_MAX
    }

    /// How many are held, or were and have not expired.
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn insert(&mut self, id: Uuid, reservation: Reservation) {
        self.expiry.insert((reservation.expires, id));
        self.by_id.insert(id, reservation);
    }

    pub(super) fn get(&self, id: Uuid) -> Option<&Reservation> {
        self.by_id.get(&id)
    }

    pub(super) fn shares_mut(&mut self, id: Uuid) -> Option<&mut Shares> {
        self.by_id.get_mut(&id).map(|reservation| &mut reservation.shares)
    }

    pub(super) fn remove(&mut self, id: Uuid) -> Option<Reservation> {
        let gone = self.by_id.remove(&id)?;
        self.expiry.remove(&(gone.expires, id));
        Some(gone)
    }

    /// A request takes over its slot.
    pub(super) fn begin_use(&mut self, id: Uuid) {
        if let Some(reservation) = self.by_id.get_mut(&id) {
            reservation.used = true;
        }
    }

    /// It is held for this long from now on.
    pub(super) fn renew(&mut self, id: Uuid, ttl: Duration, now: Instant) {
        if let Some(reservation) = self.by_id.get_mut(&id) {
            self.expiry.remove(&(reservation.expires, id));
            (reservation.expires, reservation.ttl) = (now + ttl, ttl);
            self.expiry.insert((reservation.expires, id));
        }
    }

    /// One whose time is over, if there is one.
    pub(super) fn expired(&self, now: Instant) -> Option<Uuid> {
        self.expiry.first().filter(|(expires, _)| *expires <= now).map(|(_, id)| *id)
    }
}
