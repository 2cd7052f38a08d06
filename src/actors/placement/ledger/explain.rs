//! What the placement would do, and why.

use super::{Ask, Ledger};
use crate::contract::{Explained, ScheduleRequest};
use std::sync::Arc;
use tokio::{sync::oneshot, time::Instant};

impl Ledger {
    /// All hives, to be explained one by one.
    pub(in crate::actors::placement) fn hive_ids(&self) -> Vec<Arc<str>> {
        let mut ids: Vec<_> = self.hives.keys().cloned().collect();
        ids.sort_unstable();
        ids
    }

    /// Requests that wait for a slot.
    pub(in crate::actors::placement) fn queued(&self) -> usize {
        self.queue.len()
    }

    /// The worker that would take it.
    pub(in crate::actors::placement) fn would_choose(
        &self,
        request: &ScheduleRequest,
        now: Instant,
    ) -> Option<String> {
        let index = self.choose(&Ask::of(request), now)?;
        self.seat(index).map(|seat| seat.upstream.worker_id.clone())
    }

    /// Each worker of a hive.
    pub(in crate::actors::placement) fn explain_hive(
        &self,
        hive: &str,
        request: &ScheduleRequest,
        now: Instant,
    ) -> Vec<Explained> {
        let ask = Ask::of(request);
        let workers = self.hives.get(hive).map_or(&[][..], |hive| &hive.workers);
        let seats = workers.iter().filter_map(|index| self.seat(*index));
        seats
            .map(|seat| {
                let reason = self.why_not(seat, &ask, now).map(|reason| reason.to_string());
                Explained {
                    worker: seat.upstream.worker_id.clone(),
                    eligible: reason.is_none(),
                    score: reason.is_none().then(|| seat.rank().penalty.score()),
                    reason,
                    requests: seat.requests(),
                    slots: seat.facts.slots,
                    free_vram_mb: seat.free_mb,
                }
            })
            .collect()
    }

    /// Every name that may be asked for, sorted.
    pub(in crate::actors::placement) fn models(&self) -> Vec<String> {
        let mut models: Vec<_> = self.index.models().map(ToString::to_string).collect();
        models.sort_unstable();
        models
    }

    /// Tells when the worker takes no requests and has none in progress; at once if there is none.
    pub(in crate::actors::placement) fn await_quiet(
        &mut self,
        hive: &str,
        group: &str,
        instance: &str,
        now: Instant,
    ) -> oneshot::Receiver<()> {
        let (tell, quiet) = oneshot::channel();
        match self.find(hive, group, instance) {
            Some(index) => {
                if let Some(seat) = self.seat_mut(index) {
                    seat.awaiting_quiet.retain(|waiter| !waiter.is_closed());
                    seat.awaiting_quiet.push(tell);
                }
                self.restand(index, now);
            }
            None => {
                let _ = tell.send(());
            }
        }
        quiet
    }
}
