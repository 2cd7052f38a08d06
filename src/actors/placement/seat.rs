//! One worker as the placement sees it: what its hive told, and what is booked on it here.

use super::{
    Upstream, WorkerKey,
    exclusion::Exclusion,
    machine::Machine,
    score::{Merits, Penalty},
    vram::GpuRoom,
};
use crate::{
    actors::fleet::HiveRecord,
    contract::{GpuSource, WorkerReport, WorkerState},
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{sync::oneshot, time::Instant};
use uuid::Uuid;

/// An engine's page is read each second and told a second later at most: what was ours for this long
/// may still be in what it tells.
const SPAN: Duration = Duration::from_secs(2);

/// How busy a GPU counts that nothing answers for: it may be idle, and others are known to be.
const BUSY_PCT: f64 = 100.0;

/// Its place among the workers that take a request now, the best first. Of equal ones that comes first
/// which was chosen longest ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    pub penalty: Penalty,
    pub chosen_at: u64,
    pub index: u32,
}

/// Where it is to be found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Standing {
    /// It takes a request now.
    Open(Rank),
    /// It would, with a free slot.
    Full,
    /// It does not.
    #[default]
    Shut,
}

/// What its hive told.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub state: WorkerState,
    pub pid: Option<u32>,
    pub restarts: u64,
    pub idle: Option<bool>,
    pub slots: Option<u32>,
    /// Requests in progress and waiting, as its engine says.
    pub reported: Option<u64>,
    pub kv_cache_pct: f64,
    pub gpu_util_pct: f64,
    pub gpu_fault: Option<String>,
    /// `None`: what memory is free is not known.
    pub rooms: Option<Vec<GpuRoom>>,
}

impl Facts {
    pub(super) fn of(record: &HiveRecord, machine: &Machine<'_>, worker: &WorkerReport) -> Self {
        let reported = match (worker.requests_running, worker.requests_waiting) {
            (None, None) => None,
            (running, waiting) => Some(running.unwrap_or(0).saturating_add(waiting.unwrap_or(0))),
        };
        let unknown = record.node.gpu_source == Some(GpuSource::Unknown);
        Self {
            state: worker.state,
            pid: worker.pid,
            restarts: worker.restarts,
            idle: worker.idle,
            slots: worker.slots,
            reported,
            kv_cache_pct: worker.kv_cache_pct.unwrap_or(0.0),
            gpu_util_pct: if unknown { BUSY_PCT } else { worker.gpu_util_pct },
            gpu_fault: machine.fault(worker),
            rooms: machine.rooms(worker, || worker_id(record, worker).into()),
        }
    }

    /// Whether the worker that these tell of has a process that serves, or did until it was told to end.
    fn lives(&self) -> bool {
        use WorkerState::{Draining, Ready, Stopping};
        matches!(self.state, Ready | Draining | Stopping)
    }

    /// Whether what was booked on the worker is lost: it died, or another process is in its place.
    pub(super) fn ends_the_run_of(&self, before: &Self) -> bool {
        let other_process = matches!((before.pid, self.pid), (Some(a), Some(b)) if a != b);
        (before.lives() && !self.lives()) || other_process || self.restarts > before.restarts
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Seat {
    pub key: WorkerKey,
    pub upstream: Arc<Upstream>,
    pub has_url: bool,
    pub hive: Arc<str>,
    /// Where it is in its hive's record.
    pub position: usize,
    pub group: Arc<str>,
    /// Its model and the aliases, each once.
    pub models: Arc<[Arc<str>]>,
    pub facts: Facts,
    /// Requests and reservations that this queen has given it.
    pub booked: u32,
    /// The most of these lately: in the span that runs, and in the one before.
    peaks: [u32; 2],
    /// When the span that runs began.
    span_began: Instant,
    /// Requests that others have given it, as far as can be told.
    pub elsewhere: u64,
    /// MiB neither used nor promised on its GPUs.
    pub free_mb: Option<u64>,
    pub exclusion: Exclusion,
    /// Counts its runs: what was booked on an earlier one is void.
    pub run: u32,
    /// By their turn: oldest first.
    pub reservations: BTreeMap<u64, Uuid>,
    pub chosen_at: u64,
    pub standing: Standing,
    /// Who waits until nothing is in progress.
    pub awaiting_quiet: Vec<oneshot::Sender<()>>,
}

impl Seat {
    pub(super) fn new(
        key: WorkerKey,
        hive: Arc<str>,
        upstream: Arc<Upstream>,
        facts: Facts,
        now: Instant,
    ) -> Self {
        Self {
            key,
            has_url: !upstream.url.is_empty(),
            upstream,
            hive,
            position: 0,
            group: "".into(),
            models: Arc::default(),
            facts,
            booked: 0,
            peaks: [0; 2],
            span_began: now,
            elsewhere: 0,
            free_mb: None,
            exclusion: Exclusion::default(),
            run: 0,
            reservations: BTreeMap::new(),
            chosen_at: 0,
            standing: Standing::Shut,
            awaiting_quiet: Vec::new(),
        }
    }

    /// All requests that are known of.
    pub(super) fn requests(&self) -> u64 {
        self.elsewhere.saturating_add(self.booked.into())
    }

    pub(super) fn is_full(&self) -> bool {
        self.facts.slots.is_some_and(|slots| self.requests() >= u64::from(slots))
    }

    pub(super) fn rank(&self) -> Rank {
        let merits = Merits {
            requests: self.requests(),
            slots: self.facts.slots,
            kv_cache_pct: self.facts.kv_cache_pct,
            gpu_util_pct: self.facts.gpu_util_pct,
            free_vram_mb: self.free_mb,
        };
        Rank { penalty: merits.penalty(), chosen_at: self.chosen_at, index: self.key.index }
    }

    pub(super) fn book(&mut self) {
        self.booked += 1;
        self.peaks[0] = self.peaks[0].max(self.booked);
    }

    pub(super) fn release(&mut self) {
        self.booked = self.booked.saturating_sub(1);
    }

    /// What its engine tells includes what we gave it, with a delay: only what is above the most that we
    /// gave it lately is others' for sure.
    pub(super) fn tell_apart(&mut self, now: Instant) {
        let ours = u64::from(self.peaks[0].max(self.peaks[1]));
        self.elsewhere = self.facts.reported.unwrap_or(0).saturating_sub(ours);
        if now.saturating_duration_since(self.span_began) >= SPAN {
            self.peaks = [self.booked, self.peaks[0]];
            self.span_began = now;
        }
    }

    /// All that was booked on the run that ended is void.
    pub(super) fn begin_run(&mut self) {
        self.run = self.run.wrapping_add(1);
        self.booked = 0;
        self.peaks = [0; 2];
        self.elsewhere = 0;
        self.exclusion.answered();
    }
}

/// `hive/group/instance`
pub(super) fn worker_id(record: &HiveRecord, worker: &WorkerReport) -> String {
    format!("{}/{}/{}", record.id, worker.group, worker.instance)
}
