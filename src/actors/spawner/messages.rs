//! What can be asked of the spawner. An answer means that it has happened.

use super::{
    SpawnerActor,
    errors::{SpawnRefusal, WorkerCommandError},
    lifecycle::{Event, Goal, Phase},
    record::Origin,
    run::LaunchError,
    worker::{Awaited, Worker},
};
use crate::limits::{HIVE_WORKERS_MAX, Limit};
use crate::{actors::hive_board::WorkerName, contract::WorkerSpec};
use actix::prelude::*;
use std::{sync::Arc, time::Duration};
use tokio::sync::oneshot;

/// Make a worker. Answered when its process runs.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), SpawnRefusal>")]
pub struct SpawnWorker(pub WorkerSpec);

/// End a worker and forget it. Answered when nothing of it is left.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), WorkerCommandError>")]
pub struct StopWorker {
    /// Which.
    pub name: WorkerName,
    /// Instead of its own.
    pub grace: Option<Duration>,
}

/// End a worker and start it again, from whatever state. Answered when its new process runs.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), WorkerCommandError>")]
pub struct RestartWorker(pub WorkerName);

/// No new requests for this one.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), WorkerCommandError>")]
pub struct DrainWorker(pub WorkerName);

/// New requests for this one again.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), WorkerCommandError>")]
pub struct ResumeWorker(pub WorkerName);

/// The hive ends. Answered when its workers have, if they are to.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Shutdown {
    /// Whether the workers end too.
    pub stop_workers: bool,
}

/// The configuration's list of workers has been read again.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Reload(pub Vec<WorkerSpec>);

type CommandResult = ResponseFuture<Result<(), WorkerCommandError>>;

impl SpawnerActor {
    /// Asks a worker for something, and answers when `awaited` has come.
    fn ask(
        &mut self,
        name: &WorkerName,
        goal: Goal,
        awaited: impl FnOnce(&Worker) -> Awaited,
        ctx: &mut Context<Self>,
    ) -> CommandResult {
        let Some(worker) = self.workers.get_mut(name) else {
            let unknown = WorkerCommandError::Unknown(name.clone());
            return Box::pin(std::future::ready(Err(unknown)));
        };
        let (reply, answer) = oneshot::channel();
        let awaited = awaited(worker);
        worker.waiting.push((awaited, reply));
        self.raise(name, Event::Asked(goal), ctx);
        Box::pin(async { answer.await.unwrap_or(Err(WorkerCommandError::Overtaken)) })
    }

    /// Changes whether a worker gets requests.
    fn turn(
        &mut self,
        name: &WorkerName,
        event: Event,
        wanted: Phase,
        ctx: &mut Context<Self>,
    ) -> Result<(), WorkerCommandError> {
        self.raise(name, event, ctx);
        match self.workers.get(name).map(|worker| worker.life.phase()) {
            None => Err(WorkerCommandError::Unknown(name.clone())),
            Some(phase) if phase == wanted => Ok(()),
            Some(phase) => Err(WorkerCommandError::WrongState(name.clone(), state_name(phase))),
        }
    }

    /// Marks all that runs or is about to as ending with the hive.
    fn halt_all(&mut self) -> Vec<WorkerName> {
        let alive =
            |worker: &Worker| worker.has_processes() || worker.life.phase() == Phase::Backoff;
        let ending = self.workers.iter_mut().filter(|(_, worker)| alive(worker));
        ending
            .map(|(name, worker)| {
                worker.halted = true;
                name.clone()
            })
            .collect()
    }

    /// Takes in a worker and begins to start it.
    pub(super) fn admit(
        &mut self,
        spec: WorkerSpec,
        origin: Origin,
        ctx: &mut Context<Self>,
    ) -> WorkerName {
        let name = WorkerName::new(&spec.group, &spec.instance);
        let mut worker = Worker::new(Arc::new(spec), origin);
        worker.unproven = origin == Origin::Api;
        self.workers.insert(name.clone(), worker);
        self.launch(&name, ctx);
        name
    }
}

fn state_name(phase: Phase) -> &'static str {
    use crate::contract::WorkerState as State;
    match phase.state() {
        State::Starting => "starting",
        State::Ready => "ready",
        State::Draining => "draining",
        State::Stopping => "stopping",
        State::Stopped => "stopped",
        State::Backoff => "in backoff",
        State::Failed => "failed",
    }
}

impl Handler<SpawnWorker> for SpawnerActor {
    type Result = ResponseFuture<Result<(), SpawnRefusal>>;

    fn handle(&mut self, SpawnWorker(spec): SpawnWorker, ctx: &mut Self::Context) -> Self::Result {
        let name = WorkerName::new(&spec.group, &spec.instance);
        let refusal = if self.workers.contains_key(&name) {
            Some(SpawnRefusal::Exists(name))
        } else if self.workers.len() >= HIVE_WORKERS_MAX {
            Limit::HiveWorkers.reached();
            Some(SpawnRefusal::TooMany)
        } else {
            self.ending.then_some(SpawnRefusal::Ending)
        };
        if let Some(refusal) = refusal {
            return Box::pin(std::future::ready(Err(refusal)));
        }
        let name = self.admit(spec, Origin::Api, ctx);
        let (reply, answer) = oneshot::channel();
        if let Some(worker) = self.workers.get_mut(&name) {
            worker.waiting.push((Awaited::RunAfter(0), reply));
        }
        Box::pin(async {
            match answer.await {
                Ok(Err(WorkerCommandError::Launch(error))) => Err(SpawnRefusal::Launch(error)),
                Ok(Ok(())) => Ok(()),
                _ => Err(SpawnRefusal::Launch(Arc::new(LaunchError::Interrupted))),
            }
        })
    }
}

impl Handler<StopWorker> for SpawnerActor {
    type Result = CommandResult;

    fn handle(&mut self, message: StopWorker, ctx: &mut Self::Context) -> Self::Result {
        if let Some(worker) = self.workers.get_mut(&message.name) {
            worker.grace = message.grace.or(worker.grace);
        }
        let phase = |spawner: &Self| spawner.workers.get(&message.name).map(|w| w.life.phase());
        let was_stopping = matches!(phase(self), Some(Phase::Stopping(_)));
        let answer = self.ask(&message.name, Goal::Remove, |_| Awaited::Gone, ctx);
        if was_stopping && message.grace.is_some() {
            // The new grace counts from now.
            self.terminate(&message.name, ctx);
        }
        answer
    }
}

impl Handler<RestartWorker> for SpawnerActor {
    type Result = CommandResult;

    fn handle(
        &mut self,
        RestartWorker(name): RestartWorker,
        ctx: &mut Self::Context,
    ) -> Self::Result {
        if self.ending {
            return Box::pin(std::future::ready(Err(WorkerCommandError::Overtaken)));
        }
        let no_spec = |w: &Worker| w.spec.is_none() && w.next_spec.is_none();
        if self.workers.get(&name).is_some_and(no_spec) {
            return Box::pin(std::future::ready(Err(WorkerCommandError::NoSpec(name))));
        }
        self.ask(&name, Goal::Restart, |worker| Awaited::RunAfter(worker.run_number), ctx)
    }
}

impl Handler<DrainWorker> for SpawnerActor {
    type Result = Result<(), WorkerCommandError>;

    fn handle(&mut self, DrainWorker(name): DrainWorker, ctx: &mut Self::Context) -> Self::Result {
        self.turn(&name, Event::Drain, Phase::Draining, ctx)
    }
}

impl Handler<ResumeWorker> for SpawnerActor {
    type Result = Result<(), WorkerCommandError>;

    fn handle(
        &mut self,
        ResumeWorker(name): ResumeWorker,
        ctx: &mut Self::Context,
    ) -> Self::Result {
        self.turn(&name, Event::Resume, Phase::Ready, ctx)
    }
}

impl Handler<Shutdown> for SpawnerActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, message: Shutdown, ctx: &mut Self::Context) -> Self::Result {
        let (done, ended) = oneshot::channel();
        self.ending = true;
        if message.stop_workers {
            self.ended = Some(done);
            for name in self.halt_all() {
                self.raise(&name, Event::Asked(Goal::Halt), ctx);
            }
            self.check_end();
        } else {
            let _ = done.send(());
        }
        let archive = self.config.archive.clone();
        Box::pin(async move {
            let _ = ended.await;
            let _ = tokio::task::spawn_blocking(move || archive.flush()).await;
        })
    }
}

impl Handler<Reload> for SpawnerActor {
    type Result = ();

    fn handle(&mut self, Reload(wanted): Reload, ctx: &mut Self::Context) {
        self.reload(wanted, ctx);
    }
}
