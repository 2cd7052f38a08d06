//! Placement: which worker takes a request. It keeps what is booked on whom, who waits, and whom to
//! leave out.
//!
//! All of that is one `Ledger` behind one lock, held for a decision of microseconds and never
//! across a wait: a message to an actor and back would cost a request more than its decision does. The
//! registry tells it of every heartbeat; [`PlacementActor`] owns its timer.
//!
//! A slot is a [`Booking`], which gives itself back however its request ends.

mod booking;
mod exclusion;
mod index;
mod ledger;
mod machine;
mod news;
mod queue;
mod reason;
mod reservation;
mod score;
mod seat;
mod vram;

pub use booking::{Booking, QueuePlace, Upstream};

use super::fleet::{FreshnessLimits, HiveRecord, WorkerFilter};
use crate::contract::{Explanation, Rejection, ScheduleRequest};
use actix::prelude::*;
use booking::{Handover, SlotOf};
use ledger::{Admitted, Ledger};
use machine::Machine;
use news::{Changed, Told};
use parking_lot::{Mutex, MutexGuard};
use std::{fmt, sync::Arc, time::Duration};
use tokio::{sync::oneshot, time::Instant};
use uuid::Uuid;

/// How often it is looked whose time is over. What is asked for looks by itself.
const SWEEP_INTERVAL: Duration = Duration::from_millis(100);
/// Workers of a heartbeat that are looked at without letting go of the lock. So few that whoever waits
/// for the lock meanwhile gets it while it still spins, and is not put to sleep.
const WORKERS_AT_ONCE: usize = 2;

/// The settings of the placement, as plain values.
#[derive(Clone, Debug, Default)]
pub struct PlacementConfig {
    /// How long after its heartbeat a hive gets work.
    pub limits: FreshnessLimits,
    /// Requests that wait for a slot at once.
    pub queue_limit: usize,
}

/// A worker, and no other that ever has its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WorkerKey {
    /// Its place.
    pub index: u32,
    /// Which of those that had the place.
    pub generation: u32,
}

/// What a request of the gateway asks for.
#[derive(Clone, Copy, Debug, Default)]
pub struct InferenceAsk<'a> {
    /// By name or alias.
    pub model: &'a str,
    /// `x-rbee-session`
    pub session: Option<&'a str>,
    /// `x-rbee-reservation`
    pub reservation: Option<&'a str>,
    /// Workers that have refused this very request.
    pub refused_by: &'a [WorkerKey],
}

/// What a request of the gateway gets.
#[derive(Debug)]
pub enum Admission {
    /// A slot.
    Granted(Booking),
    /// All fitting workers are full: a place in the queue.
    Queued(QueuePlace),
    /// Neither.
    Refused(AdmissionRefusal),
}

/// Why a request gets neither a slot nor a place in the queue.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdmissionRefusal {
    /// No worker declares the model.
    #[error("no worker declares the model")]
    UnknownModel,
    /// Its workers are starting, draining, late, down or left out.
    #[error("no worker of the model takes requests now")]
    Out {
        /// When to ask again.
        retry_after: Duration,
    },
    /// Every worker that could have taken it refused the connection.
    #[error("every worker of the model refused the connection")]
    AllRefused,
    /// As many wait as may.
    #[error("the queue is full")]
    QueueFull,
    /// The reservation cannot be used.
    #[error(transparent)]
    Reservation(ReservationError),
}

/// Why a reservation cannot be used, renewed or given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReservationError {
    /// It never was, its time is over, or its worker died.
    #[error("the reservation is not known, or it has expired")]
    Unknown,
    /// A request has its slot, or had it.
    #[error("the reservation was used by an earlier request")]
    Used,
    /// The request asks for another model than its worker serves.
    #[error("the reserved worker does not serve that model")]
    OtherModel,
}

/// A slot that is held for a caller.
#[derive(Debug)]
pub struct Reserved {
    /// Not to be guessed.
    pub id: Uuid,
    /// The worker's hive.
    pub record: Arc<HiveRecord>,
    /// Where the worker is in that record.
    pub position: usize,
    /// Where it serves.
    pub url: String,
    /// How long it is held.
    pub expires_in: Duration,
}

/// Why nothing is reserved.
#[derive(Debug)]
pub enum ScheduleRefusal {
    /// No worker takes it.
    Nobody {
        /// Why each does not.
        rejected: Vec<Rejection>,
        /// Workers beyond these.
        omitted: usize,
    },
    /// As many reservations as may be.
    TooMany,
}

/// How much there is of what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlacementFigures {
    /// Workers that take a request now.
    pub open: usize,
    /// Workers that would with a free slot.
    pub full: usize,
    /// All others.
    pub shut: usize,
    /// Reservations that are held.
    pub reservations: usize,
    /// Requests that wait.
    pub queued: usize,
}

/// A handle on the placement, cheap to clone.
#[derive(Clone)]
pub struct Placement(Arc<Mutex<Ledger>>);

impl fmt::Debug for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Placement")
    }
}

impl Default for Placement {
    fn default() -> Self {
        Self::new(PlacementConfig::default())
    }
}

impl Placement {
    /// One that knows of nobody.
    pub fn new(config: PlacementConfig) -> Self {
        Self(Arc::new(Mutex::new(Ledger::new(config))))
    }

    /// Does something to the ledger, then hands over what came free by it, without the lock.
    fn with<T>(&self, change: impl FnOnce(&mut Ledger) -> T) -> T {
        let mut ledger = self.0.lock();
        let result = change(&mut ledger);
        let handovers = ledger.take_handovers();
        drop(ledger);
        self.hand_over(handovers);
        result
    }

    /// Like `with`, for one part of many: whoever waits for the lock has it before the next part does. A
    /// lock that is let go and taken again at once would else be held from the first part to the last.
    fn with_in_turn<T>(&self, change: impl FnOnce(&mut Ledger) -> T) -> T {
        let mut ledger = self.0.lock();
        let result = change(&mut ledger);
        let handovers = ledger.take_handovers();
        MutexGuard::unlock_fair(ledger);
        self.hand_over(handovers);
        result
    }

    fn hand_over(&self, handovers: Vec<Handover>) {
        for Handover { slot, reply } in handovers {
            // Whoever gave up waiting gives it back by dropping it.
            let _ = reply.send(Booking::new(self.clone(), slot));
        }
    }

    /// A hive told how its workers stand.
    pub fn observe(&self, record: &Arc<HiveRecord>, now: Instant) {
        // Whatever can be is made ready without the lock.
        let before = self.with_in_turn(|ledger| ledger.record_of(&record.id));
        let changed = Changed::between(before.as_deref(), record);
        let machine = Machine::of(&record.node);
        let positions =
            self.with_in_turn(|ledger| ledger.begin_observing(record, &machine, changed, now));
        for some in positions.chunks(WORKERS_AT_ONCE) {
            let told = Told::at(some, record, &machine);
            self.with_in_turn(|ledger| ledger.observe_workers(record, told, now));
        }
    }

    /// A hive is forgotten.
    pub fn forget(&self, hive: &str) {
        self.with(|ledger| ledger.forget(hive, Instant::now()));
    }

    /// Time has passed.
    fn sweep(&self) {
        while self.with_in_turn(|ledger| ledger.sweep(Instant::now())) {}
    }

    /// A slot for a request, a place in the queue, or why neither.
    pub fn admit(&self, ask: InferenceAsk<'_>) -> Admission {
        match self.with(|ledger| ledger.admit(&ask, Instant::now())) {
            Admitted::Slot(slot) => Admission::Granted(Booking::new(self.clone(), slot)),
            Admitted::Queued(ticket, reply) => {
                Admission::Queued(QueuePlace::new(self.clone(), ticket, reply))
            }
            Admitted::Refused(refusal) => Admission::Refused(refusal),
        }
    }

    /// Holds a slot, and memory, of the best worker.
    ///
    /// # Errors
    /// Nobody takes it, with a reason for each worker; or too many are held.
    pub fn schedule(&self, request: &ScheduleRequest) -> Result<Reserved, ScheduleRefusal> {
        let id = Uuid::new_v4();
        self.with(|ledger| ledger.schedule(request, id, Instant::now()))
    }

    /// Holds a reservation for longer.
    ///
    /// # Errors
    /// It is not known, or used.
    pub fn renew(&self, id: Uuid, ttl: Option<Duration>) -> Result<Reserved, ReservationError> {
        self.with(|ledger| ledger.renew(id, ttl, Instant::now()))
    }

    /// Gives a reservation back.
    ///
    /// # Errors
    /// It is not known.
    pub fn cancel(&self, id: Uuid) -> Result<(), ReservationError> {
        self.with(|ledger| ledger.cancel(id, Instant::now()))
    }

    /// What would be done with such a request, and why; nothing is done.
    pub fn explain(&self, request: &ScheduleRequest) -> Explanation {
        let now = Instant::now();
        let (chosen, queued, hives) = self
            .with(|ledger| (ledger.would_choose(request, now), ledger.queued(), ledger.hive_ids()));
        // A hive at a time: requests are not to wait for all of them.
        let explain =
            |hive: &Arc<str>| self.with_in_turn(|ledger| ledger.explain_hive(hive, request, now));
        Explanation { chosen, queued, workers: hives.iter().flat_map(explain).collect() }
    }

    /// The workers that a filter means, in any order: each in its hive's record.
    pub fn select(&self, filter: &WorkerFilter) -> Vec<(Arc<HiveRecord>, usize)> {
        self.with(|ledger| ledger.select(filter))
    }

    /// How much there is of what, now.
    pub fn figures(&self) -> PlacementFigures {
        self.with(|ledger| ledger.figures())
    }

    /// Every model name that may be asked for, sorted.
    pub fn models(&self) -> Vec<String> {
        self.with(|ledger| ledger.models())
    }

    /// Comes when that worker takes no requests and none is in progress.
    pub fn quiet(&self, hive: &str, group: &str, instance: &str) -> oneshot::Receiver<()> {
        self.with(|ledger| ledger.await_quiet(hive, group, instance, Instant::now()))
    }
}

/// See the module.
pub struct PlacementActor(Placement);

impl PlacementActor {
    /// Lets time pass for `placement`.
    pub fn new(placement: Placement) -> Self {
        Self(placement)
    }
}

impl Actor for PlacementActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(SWEEP_INTERVAL, |actor, _| actor.0.sweep());
    }
}
