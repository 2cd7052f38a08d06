//! Carries out what a worker's lifecycle asks for, and turns what the world does into its events.

use super::{
    SpawnerActor,
    lifecycle::{Effect, Event, Phase},
    probe,
    worker::Worker,
};
use crate::{
    actors::{
        heartbeat_sender::TellQueen,
        hive_board::{RunNumber, WorkerName},
        timestamp,
    },
    contract::{EventKind, LifecycleEvent},
    platform::process::reap_orphans,
};
use actix::prelude::*;
use std::time::{Duration, Instant};

impl SpawnerActor {
    /// Orphans of workers come to us; they are reaped when the kernel says that a child ended.
    pub(super) fn watch_orphans(&self, ctx: &mut Context<Self>) {
        let kind = tokio::signal::unix::SignalKind::child();
        match tokio::signal::unix::signal(kind) {
            Ok(mut ended) => {
                let reap = async move {
                    while ended.recv().await.is_some() {
                        reap_orphans();
                    }
                };
                ctx.spawn(reap.into_actor(self));
            }
            Err(error) => tracing::warn!(%error, "cannot watch for orphans"),
        }
    }

    /// One event for one worker, and all that follows from it.
    pub(super) fn raise(&mut self, name: &WorkerName, event: Event, ctx: &mut Context<Self>) {
        let Some(worker) = self.workers.get_mut(name) else { return };
        let before = worker.life.phase();
        let effects = worker.life.step(event, Instant::now(), fastrand::f64());
        if worker.life.phase() != before {
            worker.retry_at = None;
            tracing::debug!(worker = %name, from = ?before, to = ?worker.life.phase(), "phase");
        }
        self.carry_out(name, effects, ctx);
    }

    pub(super) fn carry_out(
        &mut self,
        name: &WorkerName,
        effects: Vec<Effect>,
        ctx: &mut Context<Self>,
    ) {
        for effect in effects {
            match effect {
                Effect::Spawn => self.launch(name, ctx),
                Effect::AwaitReadiness => self.await_readiness(name, ctx),
                Effect::WatchLiveness => self.watch_liveness(name, ctx),
                Effect::Terminate => self.terminate(name, ctx),
                Effect::Clear => self.clear(name, ctx),
                Effect::Wait(delay) => self.back_off(name, delay, ctx),
                Effect::Tell(kind) => self.tell(name, kind),
                Effect::CountRestart => {
                    if let Some(worker) = self.workers.get_mut(name) {
                        worker.restarts += 1;
                    }
                }
                Effect::Forget => self.forget(name),
            }
        }
        self.publish(name);
        self.check_end();
        self.roll_on(ctx);
    }

    /// Board and archive get to know how it stands, and so does who waits for it.
    pub(super) fn publish(&mut self, name: &WorkerName) {
        let Some(worker) = self.workers.get_mut(name) else { return };
        self.board.set_status(name, worker.status());
        // A launch writes its own record; a worker that has not proven itself has none.
        if !matches!(worker.life.phase(), Phase::Spawning(_))
            && let Some(record) = worker.record()
        {
            self.config.archive.write(name, &record);
        }
        worker.wake();
    }

    /// Raises an event about a run, unless that run is over.
    pub(super) fn raise_for(
        &mut self,
        name: &WorkerName,
        run: RunNumber,
        event: Event,
        ctx: &mut Context<Self>,
    ) {
        if self.workers.get(name).is_some_and(|worker| worker.run_number == run) {
            self.raise(name, event, ctx);
        }
    }

    fn back_off(&mut self, name: &WorkerName, delay: Duration, ctx: &mut Context<Self>) {
        let Some(worker) = self.workers.get_mut(name) else { return };
        let at = jiff::Timestamp::now() + jiff::SignedDuration::try_from(delay).unwrap_or_default();
        worker.retry_at = Some(format!("{at:.3}"));
        worker.run = None;
        let (number, worker_name) = (worker.run_number, name.clone());
        worker.timers.push(ctx.run_later(delay, move |spawner, ctx| {
            spawner.raise_for(&worker_name, number, Event::BackoffOver, ctx);
        }));
    }

    pub(super) fn await_readiness(&mut self, name: &WorkerName, ctx: &mut Context<Self>) {
        let client = self.client.clone();
        let Some(worker) = self.workers.get_mut(name) else { return };
        let Some(probe) = worker.spec.as_ref().and_then(|spec| spec.ready.clone()) else { return };
        let (number, worker_name) = (worker.run_number, name.clone());
        let asked = actix::fut::wrap_future::<_, Self>(probe::await_readiness(client, probe));
        worker.timers.push(ctx.spawn(asked.map(move |ready, spawner, ctx| {
            let event = if ready { Event::Answered } else { Event::NotReadyInTime };
            spawner.raise_for(&worker_name, number, event, ctx);
        })));
    }

    pub(super) fn watch_liveness(&mut self, name: &WorkerName, ctx: &mut Context<Self>) {
        let client = self.client.clone();
        let Some(worker) = self.workers.get_mut(name) else { return };
        let Some(spec) = worker.spec.clone() else { return };
        let Some(probe) = spec.live.clone() else { return };
        let url = spec.url.clone().unwrap_or_default();
        let (number, worker_name) = (worker.run_number, name.clone());
        let model = worker.names.model.clone();
        let asked = probe::until_not_live(client, probe, url, model);
        let asked = actix::fut::wrap_future::<_, Self>(asked);
        worker.timers.push(ctx.spawn(asked.map(move |(), spawner, ctx| {
            tracing::warn!(worker = %worker_name, "does not serve any more");
            spawner.raise_for(&worker_name, number, Event::NotLive, ctx);
        })));
    }

    fn tell(&mut self, name: &WorkerName, kind: EventKind) {
        let Some(worker) = self.workers.get(name) else { return };
        let with_exit = !matches!(kind, EventKind::WorkerStarted | EventKind::WorkerReady);
        let exit = worker.last_exit.as_deref().filter(|_| with_exit);
        let state = match (kind, exit) {
            (EventKind::WorkerExited, Some(exit)) => exit.next,
            _ => worker.life.phase().state(),
        };
        self.queen.do_send(TellQueen(LifecycleEvent {
            seq: 0,
            kind,
            at: timestamp(),
            group: name.group.to_string(),
            instance: name.instance.to_string(),
            pid: worker.run.as_ref().map(|run| run.main.pid),
            state,
            last_exit: exit.cloned(),
        }));
    }

    pub(super) fn forget(&mut self, name: &WorkerName) {
        self.stop_monitor(name);
        self.board.remove(name);
        self.config.archive.remove(name);
        self.config.logs.remove(&name.group, &name.instance);
        if let Some(tree) = &self.config.tree {
            tree.remove_group_if_empty(&name.group);
        }
        if let Some(worker) = self.workers.remove(name) {
            for (_, reply) in worker.waiting {
                let _ = reply.send(Ok(()));
            }
        }
    }
}

/// Ends the grace, the backoff and the probes of a worker.
pub(super) fn cancel_timers(worker: &mut Worker, ctx: &mut Context<SpawnerActor>) {
    for timer in worker.timers.drain(..) {
        ctx.cancel_future(timer);
    }
}
