//! One worker as its spawner holds it.

use super::{
    errors::WorkerCommandError,
    lifecycle::{Lifecycle, Next, Phase},
    model::{ModelNames, detect},
    monitors::Watchers,
    record::{Origin, RunRecord, WorkerRecord},
    run::LaunchError,
};
use crate::{
    actors::hive_board::{RunNumber, WorkerStatus},
    contract::{ExitRecord, Isolation, WorkerSpec, WorkerState},
    platform::{
        cgroup::RunCgroup,
        process::{Identity, ProcessWatch, SharedTracker, boot_id},
    },
};
use actix::SpawnHandle;
use std::{rc::Rc, sync::Arc, time::Duration};
use tokio::sync::oneshot;

/// A run that has a process.
pub(super) struct Run {
    pub(super) main: Identity,
    /// `None`: it had ended before this hive came to know of it.
    pub(super) watch: Option<Rc<ProcessWatch>>,
    pub(super) tracker: SharedTracker,
    pub(super) cgroup: Option<RunCgroup>,
    pub(super) limits_applied: Option<bool>,
    pub(super) run_id: String,
    pub(super) adopted: bool,
}

/// What somebody waits for, to be able to say that it has happened.
pub(super) enum Awaited {
    /// A run later than this one has its process.
    RunAfter(RunNumber),
    /// It is forgotten.
    Gone,
}

type Reply = oneshot::Sender<Result<(), WorkerCommandError>>;

pub(super) struct Worker {
    /// `None`: found running, only watched.
    pub(super) spec: Option<Arc<WorkerSpec>>,
    /// What a changed configuration asks for, until a restart applies it.
    pub(super) next_spec: Option<Arc<WorkerSpec>>,
    pub(super) origin: Origin,
    pub(super) names: ModelNames,
    pub(super) life: Lifecycle,
    pub(super) run_number: RunNumber,
    pub(super) run: Option<Run>,
    pub(super) watchers: Watchers,
    pub(super) restarts: u64,
    pub(super) retry_at: Option<String>,
    pub(super) last_exit: Option<Arc<ExitRecord>>,
    pub(super) grace: Option<Duration>,
    /// The grace or the backoff, and a probe.
    pub(super) timers: Vec<SpawnHandle>,
    pub(super) waiting: Vec<(Awaited, Reply)>,
    /// Whether its first start is still to come; if that fails, it is as if it had not been asked for.
    pub(super) unproven: bool,
    /// Whether it ends only because its hive does: it stays wanted.
    pub(super) halted: bool,
}

impl Worker {
    pub(super) fn new(spec: Arc<WorkerSpec>, origin: Origin) -> Self {
        let life = Lifecycle::new(spec.restart.clone());
        Self::with_life(Some(spec), origin, life)
    }

    pub(super) fn with_life(
        spec: Option<Arc<WorkerSpec>>,
        origin: Origin,
        life: Lifecycle,
    ) -> Self {
        let names = spec.as_deref().map_or_else(ModelNames::default, |spec| {
            detect(&spec.command, &spec.args, spec.model.as_deref())
        });
        Self {
            spec,
            next_spec: None,
            origin,
            names,
            life,
            run_number: 0,
            run: None,
            watchers: Watchers::default(),
            restarts: 0,
            retry_at: None,
            last_exit: None,
            grace: None,
            timers: Vec::new(),
            waiting: Vec::new(),
            unproven: false,
            halted: false,
        }
    }

    /// Takes over what a changed configuration asks for.
    pub(super) fn apply_next_spec(&mut self) {
        if let Some(spec) = self.next_spec.take() {
            self.names = detect(&spec.command, &spec.args, spec.model.as_deref());
            self.life.set_policy(spec.restart.clone());
            self.spec = Some(spec);
        }
    }

    /// Whether a process of it runs, is being made or is being ended.
    pub(super) fn has_processes(&self) -> bool {
        let phase = self.life.phase();
        phase.runs() || matches!(phase, Phase::Spawning(_) | Phase::Clearing(_))
    }

    pub(super) fn status(&self) -> WorkerStatus {
        let running = self.run.as_ref().filter(|_| self.life.phase().runs());
        WorkerStatus {
            spec: self.spec.clone(),
            state: self.life.phase().state(),
            main: running.map(|run| run.main),
            run: self.run_number,
            isolation: self.run.as_ref().map_or(Isolation::Plain, isolation),
            limits_applied: self.run.as_ref().and_then(|run| run.limits_applied),
            restarts: self.restarts,
            retry_at: self.retry_at.clone(),
            adopted: self.run.as_ref().is_some_and(|run| run.adopted),
            spec_changed: self.next_spec.is_some(),
            last_exit: self.last_exit.clone(),
            model: self.names.model.clone(),
            model_aliases: self.names.aliases.clone(),
        }
    }

    /// What is written down; `None` for one that is only watched.
    pub(super) fn record(&self) -> Option<WorkerRecord> {
        let phase = self.life.phase();
        let resting = match phase {
            Phase::Stopped if !self.halted => Some(WorkerState::Stopped),
            Phase::Failed => Some(WorkerState::Failed),
            _ => None,
        };
        let running = self.run.as_ref().filter(|_| phase.runs());
        Some(WorkerRecord {
            spec: (**self.spec.as_ref()?).clone(),
            origin: self.origin,
            restarts: self.restarts,
            resting,
            run: running.map(|run| RunRecord {
                boot_id: boot_id(),
                run_id: run.run_id.clone(),
                main: Some(run.main),
                isolation: isolation(run),
                limits_applied: run.limits_applied,
                ready: matches!(phase, Phase::Ready | Phase::Draining),
                draining: phase == Phase::Draining,
            }),
            last_exit: self.last_exit.as_deref().cloned(),
        })
    }

    /// Tells those whose wait is over.
    pub(super) fn wake(&mut self) {
        let (runs, number) = (self.life.phase().runs(), self.run_number);
        let over =
            |awaited: &Awaited| matches!(awaited, Awaited::RunAfter(run) if runs && number > *run);
        for at in (0..self.waiting.len()).rev() {
            if over(&self.waiting[at].0) {
                let _ = self.waiting.swap_remove(at).1.send(Ok(()));
            }
        }
    }

    /// Tells those who wait for a run that there is none.
    pub(super) fn disappoint(&mut self, error: &Arc<LaunchError>) {
        for at in (0..self.waiting.len()).rev() {
            if matches!(self.waiting[at].0, Awaited::RunAfter(_)) {
                let refusal = WorkerCommandError::Launch(Arc::clone(error));
                let _ = self.waiting.swap_remove(at).1.send(Err(refusal));
            }
        }
    }
}

fn isolation(run: &Run) -> Isolation {
    if run.cgroup.is_some() { Isolation::Cgroup } else { Isolation::Plain }
}

/// The state that follows.
pub(super) fn state_after(next: Next) -> WorkerState {
    match next {
        Next::Remove | Next::Stopped => WorkerState::Stopped,
        Next::Restart => WorkerState::Starting,
        Next::Backoff(_) => WorkerState::Backoff,
        Next::Failed => WorkerState::Failed,
    }
}
