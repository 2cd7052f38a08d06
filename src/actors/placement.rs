//! PROVISIONAL interface: the real module replaces this file when the branches are joined.
#![allow(missing_docs)]
use std::{future::Future, pin::Pin, sync::Arc, task, time::Duration};

#[derive(Clone, Debug, Default)]
pub struct Placement(());

/// What a gateway request asks for. Borrowed: nothing is allocated for a request that is granted at once.
#[derive(Clone, Copy, Debug, Default)]
pub struct InferenceAsk<'a> {
    pub model: &'a str,
    /// `x-rbee-session`
    pub session: Option<&'a str>,
    /// `x-rbee-reservation`
    pub reservation: Option<&'a str>,
    /// Workers that have refused this very request, by `Booking::key`.
    pub refused_by: &'a [WorkerKey],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WorkerKey {
    pub index: u32,
    pub generation: u32,
}

#[derive(Debug)]
pub enum Admission {
    Granted(Booking),
    /// All fitting workers are full.
    Queued(QueuePlace),
    Refused(AdmissionRefusal),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdmissionRefusal {
    #[error("no worker declares the model")]
    UnknownModel, // 404 model_not_found
    #[error("no worker of the model takes requests now")]
    Out { retry_after: Duration }, // 503 + Retry-After
    #[error("every worker of the model refused the connection")]
    AllRefused, // 502
    #[error("the queue is full")]
    QueueFull, // 429 + Retry-After
    #[error("{0}")]
    Reservation(ReservationError), // 404 unknown, 409 used, 409 other model
}
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReservationError {
    #[error("the reservation is not known, or it has expired")]
    Unknown,
    #[error("the reservation was used by an earlier request")]
    Used,
    #[error("the reserved worker does not serve that model")]
    OtherModel,
}

/// Where a worker is asked. Made once for each worker, shared.
#[derive(Debug)]
pub struct Upstream {
    /// `{hive}/{group}/{instance}`
    pub worker_id: String,
    /// Such as `http://127.0.0.1:8080`, without a slash at its end.
    pub url: String,
}

/// One slot of one worker; given back when dropped.
#[derive(Debug)]
pub struct Booking {
    pub key: WorkerKey,
    pub upstream: Arc<Upstream>,
}
impl Booking {
    /// The worker refused the connection, or dropped it before the first byte: it is left out for a while.
    pub fn refused(self) {}
    /// The worker answered: whatever it refused before is forgotten.
    pub fn answered(&self) {}
}

/// A place in the queue; resolves to a slot. Dropping it leaves the queue.
#[derive(Debug)]
pub struct QueuePlace(());
impl Future for QueuePlace {
    type Output = Booking;
    fn poll(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> task::Poll<Booking> {
        task::Poll::Pending
    }
}

impl Placement {
    pub fn admit(&self, _ask: InferenceAsk<'_>) -> Admission {
        Admission::Refused(AdmissionRefusal::UnknownModel)
    }
    /// Every model name that may be asked for, sorted.
    pub fn models(&self) -> Vec<String> {
        Vec::new()
    }
}
