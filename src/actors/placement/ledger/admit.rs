//! A request of the gateway: a slot, a place in the queue, or why neither.

use super::{Ask, Ledger};
use crate::actors::placement::{
    AdmissionRefusal, Handover, InferenceAsk, ReservationError, SlotOf, WorkerKey,
    queue::{Ticket, Waiter},
};
use std::time::Duration;
use tokio::{sync::oneshot, time::Instant};
use uuid::Uuid;

/// What a caller is told to wait for workers that are starting.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// See the module.
pub(in crate::actors::placement) enum Admitted {
    Slot(SlotOf),
    Queued(Ticket, oneshot::Receiver<crate::actors::placement::Booking>),
    Refused(AdmissionRefusal),
}

impl Ledger {
    pub(in crate::actors::placement) fn admit(
        &mut self,
        ask: &InferenceAsk<'_>,
        now: Instant,
    ) -> Admitted {
        self.expire(now);
        // One that was refused once has used its reservation, and goes on like any other.
        if let Some(id) = ask.reservation.filter(|_| ask.refused_by.is_empty()) {
            return match self.use_reservation(id, ask.model, now) {
                Ok(slot) => Admitted::Slot(slot),
                Err(error) => Admitted::Refused(AdmissionRefusal::Reservation(error)),
            };
        }
        let wanted = Ask { model: Some(ask.model), session: ask.session, ..Ask::default() };
        if let Some(index) = self.choose(&wanted, now) {
            self.book(index, ask.session, wanted.model, now);
            if let Some(slot) = self.slot(index, None) {
                return Admitted::Slot(slot);
            }
        }
        match self.why_nobody(ask, now) {
            Some(refusal) => Admitted::Refused(refusal),
            None => self.enqueue(ask),
        }
    }

    fn slot(&self, index: u32, reservation: Option<Uuid>) -> Option<SlotOf> {
        let seat = self.seat(index)?;
        let upstream = std::sync::Arc::clone(&seat.upstream);
        Some(SlotOf { key: seat.key, run: seat.run, upstream, reservation })
    }

    /// `None`: some would take it, and are full.
    fn why_nobody(&self, ask: &InferenceAsk<'_>, now: Instant) -> Option<AdmissionRefusal> {
        let Some(bucket) = self.index.bucket(Some(ask.model), None) else {
            return Some(AdmissionRefusal::UnknownModel);
        };
        let waits =
            |index: &u32| self.seat(*index).is_some_and(|seat| self.obstacle(seat, now).is_none());
        if bucket.full.iter().any(waits) {
            return None;
        }
        let members = || bucket.members.iter().filter_map(|index| self.seat(*index));
        if members().any(|seat| ask.refused_by.contains(&seat.key)) {
            return Some(AdmissionRefusal::AllRefused);
        }
        let soonest =
            members().filter_map(|seat| seat.exclusion.left(now)).map(|left| left.0).min();
        Some(AdmissionRefusal::Out { retry_after: soonest.unwrap_or(RETRY_AFTER) })
    }

    fn enqueue(&mut self, ask: &InferenceAsk<'_>) -> Admitted {
        let (reply, place) = oneshot::channel();
        let waiter =
            Waiter { model: ask.model.into(), session: ask.session.map(Into::into), reply };
        match self.queue.join(waiter) {
            Some(ticket) => Admitted::Queued(ticket, place),
            None => Admitted::Refused(AdmissionRefusal::QueueFull),
        }
    }

    pub(in crate::actors::placement) fn leave_queue(&mut self, ticket: Ticket) {
        self.queue.leave(ticket);
    }

    /// Gives the slots that this worker has free to those who wait longest for it.
    pub(super) fn serve_queue(&mut self, index: u32, now: Instant) {
        loop {
            let Some(seat) = self.seat(index) else { return };
            let takes = self.obstacle(seat, now).is_none() && !seat.is_full();
            let models = std::sync::Arc::clone(&seat.models);
            if !takes {
                return;
            }
            let Some(waiter) = self.queue.next_for(&models) else { return };
            self.book(index, waiter.session.as_deref(), Some(&waiter.model), now);
            if let Some(slot) = self.slot(index, None) {
                self.handovers.push(Handover { slot, reply: waiter.reply });
            }
        }
    }

    /// The worker refused a connection: it is left out for a while.
    pub(in crate::actors::placement) fn refused(&mut self, key: WorkerKey, now: Instant) {
        let Some(seat) = self.seat_of(key) else { return };
        let before = seat.exclusion.until();
        seat.exclusion.refused(now);
        let after = seat.exclusion.until();
        if let Some(before) = before {
            self.exclusions.remove(&(before, key.index));
        }
        if let Some(after) = after {
            self.exclusions.insert((after, key.index));
        }
        self.restand(key.index, now);
    }

    /// The worker answered: what it refused before is forgotten.
    pub(in crate::actors::placement) fn answered(&mut self, key: WorkerKey, now: Instant) {
        let Some(seat) = self.seat_of(key) else { return };
        if let Some(until) = seat.exclusion.until() {
            seat.exclusion.answered();
            self.exclusions.remove(&(until, key.index));
            self.restand(key.index, now);
        }
    }

    fn use_reservation(
        &mut self,
        id: &str,
        model: &str,
        now: Instant,
    ) -> Result<SlotOf, ReservationError> {
        let id = Uuid::parse_str(id).map_err(|_| ReservationError::Unknown)?;
        let held = self.reservations.get(id).ok_or(ReservationError::Unknown)?;
        let (key, used) = (held.worker, held.used);
        if used {
            return Err(ReservationError::Used);
        }
        let seat = self.seat_of(key).ok_or(ReservationError::Unknown)?;
        if !seat.models.iter().any(|name| **name == *model) {
            return Err(ReservationError::OtherModel);
        }
        self.turns += 1;
        let turn = self.turns;
        if let Some(seat) = self.seat_of(key) {
            seat.chosen_at = turn;
        }
        self.reservations.begin_use(id);
        self.move_in_index(key.index, now);
        self.slot(key.index, Some(id)).ok_or(ReservationError::Unknown)
    }
}
