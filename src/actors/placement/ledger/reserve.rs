//! Reservations: a slot and memory, taken from the moment of the answer.

use super::{Ask, Ledger};
use crate::actors::placement::{
    ReservationError, Reserved, ScheduleRefusal, reservation::Reservation, vram::Shares,
};
use crate::contract::{Rejection, ScheduleRequest};
use crate::limits::{Limit, REJECTIONS_MAX};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use uuid::Uuid;

/// Reservations that end without letting go of the lock.
const EXPIRED_AT_ONCE: usize = 64;

impl Ledger {
    pub(in crate::actors::placement) fn schedule(
        &mut self,
        request: &ScheduleRequest,
        id: Uuid,
        now: Instant,
    ) -> Result<Reserved, ScheduleRefusal> {
        self.expire(now);
        if !self.reservations.has_room() {
            Limit::Reservations.reached();
            return Err(ScheduleRefusal::TooMany);
        }
        let ask = Ask::of(request);
        let Some(index) = self.choose(&ask, now) else {
            return Err(self.rejections(&ask, now));
        };
        self.book(index, ask.session, ask.model, now);
        let Some(seat) = self.seat(index) else { return Err(self.rejections(&ask, now)) };
        let (worker, run, turn) = (seat.key, seat.run, seat.chosen_at);
        let rooms = seat.facts.rooms.clone();
        let shares = match rooms.as_deref() {
            Some(rooms) if ask.vram_mb > 0 => self.promises.promise(rooms, ask.vram_mb),
            _ => Shares::new(),
        };
        let ttl = Duration::from_millis(request.ttl_ms);
        let held = Reservation { worker, turn, run, expires: now + ttl, ttl, used: false, shares };
        self.reservations.insert(id, held);
        if let Some(seat) = self.seat_mut(index) {
            seat.reservations.insert(turn, id);
        }
        self.refill_neighbours(&rooms.unwrap_or_default(), now);
        self.reserved(id, now).map_err(|_| ScheduleRefusal::TooMany)
    }

    /// A reservation as it is told to its holder.
    fn reserved(&self, id: Uuid, now: Instant) -> Result<Reserved, ReservationError> {
        let held = self.reservations.get(id).ok_or(ReservationError::Unknown)?;
        let seat = self.seat(held.worker.index).filter(|seat| seat.key == held.worker);
        let seat = seat.ok_or(ReservationError::Unknown)?;
        let hive = self.hives.get(&seat.hive).ok_or(ReservationError::Unknown)?;
        Ok(Reserved {
            id,
            record: Arc::clone(&hive.record),
            position: seat.position,
            url: seat.upstream.url.clone(),
            expires_in: held.expires.saturating_duration_since(now),
        })
    }

    /// Holds it for another time to live, the same as before unless told otherwise.
    pub(in crate::actors::placement) fn renew(
        &mut self,
        id: Uuid,
        ttl: Option<Duration>,
        now: Instant,
    ) -> Result<Reserved, ReservationError> {
        self.expire(now);
        let held = self.reservations.get(id).ok_or(ReservationError::Unknown)?;
        if held.used {
            return Err(ReservationError::Used);
        }
        let ttl = ttl.unwrap_or(held.ttl);
        self.reservations.renew(id, ttl, now);
        self.reserved(id, now)
    }

    /// Gives it back.
    pub(in crate::actors::placement) fn cancel(
        &mut self,
        id: Uuid,
        now: Instant,
    ) -> Result<(), ReservationError> {
        self.expire(now);
        let gone = self.end_reservation(id, now);
        gone.then_some(()).ok_or(ReservationError::Unknown)
    }

    /// Ends those whose time is over, a bounded number at once: whoever holds the lock makes others
    /// wait. Whether there are more.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        for _ in 0..EXPIRED_AT_ONCE {
            let Some(id) = self.reservations.expired(now) else { return false };
            self.end_reservation(id, now);
        }
        self.reservations.expired(now).is_some()
    }

    /// Its slot and what is left of its memory are free, unless a request has taken over the slot.
    fn end_reservation(&mut self, id: Uuid, now: Instant) -> bool {
        let Some(gone) = self.reservations.remove(id) else { return false };
        self.promises.withdraw(&gone.shares);
        let rooms = match self.seat_of(gone.worker) {
            Some(seat) => {
                seat.reservations.remove(&gone.turn);
                seat.facts.rooms.clone().unwrap_or_default()
            }
            None => Vec::new(),
        };
        if !gone.shares.is_empty() {
            self.refill_neighbours(&rooms, now);
        }
        if !gone.used {
            self.release(gone.worker, gone.run, now);
        }
        true
    }

    /// The request that used it is over: nothing of its memory is promised any more.
    pub(in crate::actors::placement) fn end_use(&mut self, id: Uuid, now: Instant) {
        let Some(shares) = self.reservations.shares_mut(id).map(std::mem::take) else { return };
        self.promises.withdraw(&shares);
        let Some(key) = self.reservations.get(id).map(|held| held.worker) else { return };
        let rooms = self.seat_of(key).and_then(|seat| seat.facts.rooms.clone()).unwrap_or_default();
        self.refill_neighbours(&rooms, now);
    }

    /// Why each worker does not take it, those that come nearest first.
    fn rejections(&self, ask: &Ask<'_>, now: Instant) -> ScheduleRefusal {
        let near = self.index.bucket(ask.model, ask.group).map(|bucket| &bucket.members);
        let others = &self.index.everyone().members;
        let far = others.iter().filter(|index| near.is_none_or(|near| !near.contains(index)));
        let order = near.into_iter().flatten().chain(far).take(REJECTIONS_MAX);
        let rejected: Vec<_> = order
            .filter_map(|index| self.seat(*index))
            .filter_map(|seat| {
                let reason = self.why_not(seat, ask, now)?.to_string();
                Some(Rejection { worker: seat.upstream.worker_id.clone(), reason })
            })
            .collect();
        let omitted = others.len().saturating_sub(rejected.len());
        ScheduleRefusal::Nobody { rejected, omitted }
    }
}

impl<'a> Ask<'a> {
    pub(in crate::actors::placement) fn of(request: &'a ScheduleRequest) -> Self {
        Self {
            model: request.model.as_deref(),
            group: request.group.as_deref(),
            vram_mb: request.vram_mb,
            session: request.session.as_deref(),
        }
    }
}
