//! A slot in somebody's hand, and a place in the queue for one. Both give themselves back.

use super::{Placement, WorkerKey, queue::Ticket};
use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::{sync::oneshot, time::Instant};
use uuid::Uuid;

/// Where a worker is asked. Made once for each worker, shared.
#[derive(Debug, PartialEq, Eq)]
pub struct Upstream {
    /// `{hive}/{group}/{instance}`
    pub worker_id: String,
    /// Such as `http://127.0.0.1:8080`, without a slash at its end.
    pub url: String,
}

/// A slot, as the ledger books it.
#[derive(Debug)]
pub(super) struct SlotOf {
    pub key: WorkerKey,
    pub run: u32,
    pub upstream: Arc<Upstream>,
    pub reservation: Option<Uuid>,
}

/// A slot for one who waited for it.
#[derive(Debug)]
pub(super) struct Handover {
    pub slot: SlotOf,
    pub reply: oneshot::Sender<Booking>,
}

/// One slot of one worker; given back when dropped.
#[derive(Debug)]
pub struct Booking {
    placement: Placement,
    slot: SlotOf,
}

impl Booking {
    pub(super) fn new(placement: Placement, slot: SlotOf) -> Self {
        Self { placement, slot }
    }

    /// Whose slot.
    pub fn key(&self) -> WorkerKey {
        self.slot.key
    }

    /// Where that worker is asked.
    pub fn upstream(&self) -> &Arc<Upstream> {
        &self.slot.upstream
    }

    /// The worker refused the connection, or dropped it before the first byte: it is left out for a while.
    pub fn refused(self) {
        self.placement.with(|ledger| ledger.refused(self.slot.key, Instant::now()));
    }

    /// The worker answered: whatever it refused before is forgotten.
    pub fn answered(&self) {
        self.placement.with(|ledger| ledger.answered(self.slot.key, Instant::now()));
    }
}

impl Drop for Booking {
    fn drop(&mut self) {
        let SlotOf { key, run, reservation, .. } = self.slot;
        self.placement.with(|ledger| {
            let now = Instant::now();
            if let Some(reservation) = reservation {
                ledger.end_use(reservation, now);
            }
            ledger.release(key, run, now);
        });
    }
}

/// A place in the queue; becomes a slot. Dropping it leaves the queue.
#[derive(Debug)]
pub struct QueuePlace {
    placement: Placement,
    ticket: Ticket,
    reply: oneshot::Receiver<Booking>,
    served: bool,
}

impl QueuePlace {
    pub(super) fn new(
        placement: Placement,
        ticket: Ticket,
        reply: oneshot::Receiver<Booking>,
    ) -> Self {
        Self { placement, ticket, reply, served: false }
    }
}

impl Future for QueuePlace {
    type Output = Booking;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Booking> {
        match Pin::new(&mut self.reply).poll(cx) {
            Poll::Ready(Ok(booking)) => {
                self.served = true;
                Poll::Ready(booking)
            }
            // The other end is only dropped with the queue, and that with the process.
            Poll::Ready(Err(_)) | Poll::Pending => Poll::Pending,
        }
    }
}

impl Drop for QueuePlace {
    fn drop(&mut self) {
        if !self.served {
            self.placement.with(|ledger| ledger.leave_queue(self.ticket));
        }
    }
}
