//! Carries out what a worker's lifecycle asks for, and turns what the world does into its events.

use super::{
    SpawnerActor,
    lifecycle::{Effect, Event, Phase},
    probe,
    run::{self, Autopsy, LaunchError, LaunchOrder, Launched},
    worker::{Run, Worker, state_after},
};
use crate::{
    actors::{
        hive_board::{RunNumber, WorkerName},
        monitor::{MonitorActor, MonitorSeat, StopMonitoring},
        supervise::{ActorExit, start_guarded},
        timestamp,
    },
    contract::{EventKind, ExitRecord, LifecycleEvent},
    platform::{
        process::{ExitStatus, ProcessWatch, SpawnError, SpawnStage, reap_orphans, signal_name},
        sampler::Sampler,
    },
};
use actix::prelude::*;
use rustix::process::Signal;
use std::{
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

/// The first wait before a monitor that panicked is started again; doubled each time.
const MONITOR_BACKOFF: Duration = Duration::from_millis(50);

/// And the longest.
const MONITOR_BACKOFF_MAX: Duration = Duration::from_secs(10);

/// A tree that could not be ended is tried again after this long.
const CLEAR_AGAIN: Duration = Duration::from_secs(5);

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

    fn carry_out(&mut self, name: &WorkerName, effects: Vec<Effect>, ctx: &mut Context<Self>) {
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
    fn raise_for(
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

    /// Makes a worker's process.
    pub(super) fn launch(&mut self, name: &WorkerName, ctx: &mut Context<Self>) {
        let number = self.next_run();
        let log = self.log_of(name);
        let Some(worker) = self.workers.get_mut(name) else { return };
        worker.apply_next_spec();
        worker.run_number = number;
        worker.run = None;
        let (Some(spec), Some(record)) = (worker.spec.clone(), worker.record()) else { return };
        let order = LaunchOrder {
            name: name.clone(),
            spec,
            run_id: uuid::Uuid::new_v4().to_string(),
            log,
            tree: self.config.tree.clone(),
            base_env: Arc::clone(&self.config.base_env),
            open_files: self.config.open_files,
            archive: self.config.archive.clone(),
            record,
        };
        let (name, run_id) = (name.clone(), order.run_id.clone());
        if let Some(worker) = self.workers.get(&name) {
            self.board.set_status(&name, worker.status());
        }
        let launch = move || run::launch(order);
        self.off_thread(ctx, launch, move |made, spawner, ctx| {
            match made.unwrap_or(Err(LaunchError::Interrupted)) {
                Ok(launched) => spawner.launched(&name, number, run_id, launched, ctx),
                Err(error) => spawner.not_launched(&name, number, error, ctx),
            }
        });
    }

    fn launched(
        &mut self,
        name: &WorkerName,
        number: RunNumber,
        run_id: String,
        launched: Launched,
        ctx: &mut Context<Self>,
    ) {
        let main = launched.spawned.identity;
        let watch = match ProcessWatch::new(main, launched.spawned.pidfd) {
            Ok(watch) => Rc::new(watch),
            Err(source) => {
                let _ = main.signal(Signal::KILL);
                let error = SpawnError { stage: SpawnStage::Shim, source };
                return self.not_launched(name, number, error.into(), ctx);
            }
        };
        let run = Run {
            main,
            watch,
            cgroup: launched.cgroup,
            limits_applied: launched.limits_applied,
            run_id,
            adopted: false,
        };
        tracing::info!(worker = %name, pid = main.pid, limits_applied = ?run.limits_applied, "started");
        self.take_run(name, number, run, ctx);
        let Some(worker) = self.workers.get_mut(name) else { return };
        worker.unproven = false;
        let probed = worker.spec.as_ref().is_some_and(|spec| spec.ready.is_some());
        self.raise(name, Event::Spawned { probed }, ctx);
        self.monitor(name, ctx);
    }

    fn not_launched(
        &mut self,
        name: &WorkerName,
        number: RunNumber,
        error: LaunchError,
        ctx: &mut Context<Self>,
    ) {
        let Some(worker) = self.workers.get_mut(name) else { return };
        if worker.run_number != number {
            return;
        }
        let error = Arc::new(error);
        tracing::warn!(worker = %name, error = error.chain(), "cannot start");
        worker.disappoint(&error);
        if worker.unproven {
            return self.forget(name);
        }
        let autopsy = Autopsy { log_tail: vec![error.chain()], ..Autopsy::default() };
        self.ended(name, number, ExitStatus::Unknown, autopsy, Event::SpawnFailed, ctx);
    }

    /// Holds a run, and learns of its end.
    pub(super) fn take_run(
        &mut self,
        name: &WorkerName,
        number: RunNumber,
        run: Run,
        ctx: &mut Context<Self>,
    ) {
        let watch = Rc::clone(&run.watch);
        let Some(worker) = self.workers.get_mut(name) else { return };
        worker.run_number = number;
        worker.run = Some(run);
        let name = name.clone();
        let ended = async move { watch.ended().await };
        ctx.spawn(ended.into_actor(self).map(move |status, spawner, ctx| {
            spawner.examine(name, number, status, ctx);
        }));
    }

    /// The main process has ended: what its run has to tell is read before anything is removed.
    fn examine(
        &mut self,
        name: WorkerName,
        number: RunNumber,
        status: ExitStatus,
        ctx: &mut Context<Self>,
    ) {
        self.stop_monitor(&name);
        let log = self.log_of(&name);
        let Some(worker) = self.workers.get(&name) else { return };
        let cgroup = worker.run.as_ref().and_then(|run| run.cgroup.clone());
        let look = move || run::examine(cgroup.as_ref(), &log);
        self.off_thread(ctx, look, move |autopsy, spawner, ctx| {
            let success = status == ExitStatus::Code(0);
            let event = Event::Exited { success };
            spawner.ended(&name, number, status, autopsy.unwrap_or_default(), event, ctx);
        });
    }

    /// Writes the exit record and lets the lifecycle go on.
    fn ended(
        &mut self,
        name: &WorkerName,
        number: RunNumber,
        status: ExitStatus,
        autopsy: Autopsy,
        event: Event,
        ctx: &mut Context<Self>,
    ) {
        let seen_peak = self.board.peak_rss_mb(name);
        let Some(worker) = self.workers.get_mut(name).filter(|w| w.run_number == number) else {
            return;
        };
        let effects = worker.life.step(event, Instant::now(), fastrand::f64());
        let next = worker.life.next().map_or(worker.life.phase().state(), state_after);
        let record = ExitRecord {
            at: timestamp(),
            code: if let ExitStatus::Code(code) = status { Some(code) } else { None },
            signal: if let ExitStatus::Signal(n) = status { Some(signal_name(n)) } else { None },
            oom_killed: autopsy.oom_killed,
            uptime_s: worker.run.as_ref().map_or(0, |run| run.main.uptime().as_secs()),
            peak_rss_mb: autopsy.memory_peak_bytes.map_or(seen_peak, |bytes| bytes >> 20),
            log_tail: autopsy.log_tail,
            next,
        };
        tracing::info!(
            worker = %name, code = ?record.code, signal = record.signal, next = ?record.next,
            oom_killed = ?record.oom_killed, uptime_s = record.uptime_s, "ended"
        );
        worker.last_exit = Some(Arc::new(record));
        cancel_timers(worker, ctx);
        self.carry_out(name, effects, ctx);
    }

    fn terminate(&mut self, name: &WorkerName, ctx: &mut Context<Self>) {
        let Some(worker) = self.workers.get_mut(name) else { return };
        cancel_timers(worker, ctx);
        let Some(run) = &worker.run else { return };
        // A stopped process hears nothing until it goes on.
        for signal in [Signal::TERM, Signal::CONT] {
            if let Err(error) = run.watch.signal(signal) {
                tracing::warn!(worker = %name, %error, "cannot signal");
            }
        }
        let own = worker.spec.as_ref().map_or(10_000, |spec| spec.stop_grace_ms);
        let grace = worker.grace.unwrap_or(Duration::from_millis(own));
        let (number, worker_name) = (worker.run_number, name.clone());
        worker.timers.push(ctx.run_later(grace, move |spawner, ctx| {
            spawner.kill(&worker_name, number, ctx);
        }));
    }

    /// The grace is over.
    fn kill(&mut self, name: &WorkerName, number: RunNumber, ctx: &mut Context<Self>) {
        let Some(worker) = self.workers.get(name).filter(|w| w.run_number == number) else {
            return;
        };
        let Some(run) = &worker.run else { return };
        tracing::info!(worker = %name, "did not end in time: killed");
        let (main, run_id, cgroup) = (run.main, run.run_id.clone(), run.cgroup.clone());
        let kill = move || run::kill_tree(Some(main), &run_id, cgroup.as_ref());
        let name = name.clone();
        self.off_thread(ctx, kill, move |killed, _, _| {
            if let Some(Err(error)) = killed {
                tracing::error!(worker = %name, error = error.chain(), "cannot kill");
            }
        });
    }

    fn clear(&mut self, name: &WorkerName, ctx: &mut Context<Self>) {
        let Some(worker) = self.workers.get(name) else { return };
        let Some(run) = &worker.run else { return };
        let (main, run_id, cgroup) = (run.main, run.run_id.clone(), run.cgroup.clone());
        let (tree, number, name) = (self.config.tree.clone(), worker.run_number, name.clone());
        let job_name = name.clone();
        let clear =
            move || run::clear(Some(main), &run_id, cgroup.as_ref(), tree.as_ref(), &job_name);
        self.off_thread(ctx, clear, move |cleared, spawner, ctx| match cleared {
            Some(Ok(())) => spawner.raise_for(&name, number, Event::Cleared, ctx),
            failed => {
                let why = failed.and_then(Result::err).map(|error| error.chain());
                tracing::error!(worker = %name, why, "cannot end its tree; trying again");
                ctx.run_later(CLEAR_AGAIN, move |spawner, ctx| {
                    if spawner.workers.get(&name).is_some_and(|w| w.run_number == number) {
                        spawner.clear(&name, ctx);
                    }
                });
            }
        });
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

    /// Starts the monitor of a worker's run.
    pub(super) fn monitor(&mut self, name: &WorkerName, ctx: &mut Context<Self>) {
        let table = Arc::clone(&self.table);
        let Some(worker) = self.workers.get_mut(name) else { return };
        let Some(run) = &worker.run else { return };
        let sampler = match Sampler::open(run.main, &run.run_id, run.cgroup.as_ref(), table) {
            Ok(sampler) => sampler,
            Err(error) => return tracing::warn!(worker = %name, %error, "cannot open its figures"),
        };
        let own = worker.spec.as_ref().and_then(|spec| spec.sample_interval_ms);
        let number = worker.run_number;
        let seat = MonitorSeat {
            name: name.clone(),
            run: number,
            board: Arc::clone(&self.board),
            interval: own.map_or(self.config.sample_interval, Duration::from_millis),
        };
        let (spawner, name) = (ctx.address(), name.clone());
        worker.monitor = Some(start_guarded(
            &self.monitors,
            move |_| MonitorActor::new(seat, sampler),
            move |exit| spawner.do_send(MonitorEnded { name, run: number, exit }),
        ));
    }

    fn stop_monitor(&mut self, name: &WorkerName) {
        if let Some(worker) = self.workers.get_mut(name)
            && let Some(monitor) = worker.monitor.take()
        {
            monitor.do_send(StopMonitoring);
            worker.monitor_failures = 0;
        }
    }

    fn tell(&mut self, name: &WorkerName, kind: EventKind) {
        let Some(worker) = self.workers.get(name) else { return };
        let with_exit = !matches!(kind, EventKind::WorkerStarted | EventKind::WorkerReady);
        let exit = worker.last_exit.as_deref().filter(|_| with_exit);
        let state = match (kind, exit) {
            (EventKind::WorkerExited, Some(exit)) => exit.next,
            _ => worker.life.phase().state(),
        };
        self.queen.do_send(super::TellQueen(LifecycleEvent {
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

    fn forget(&mut self, name: &WorkerName) {
        self.stop_monitor(name);
        self.board.remove(name);
        self.config.archive.remove(name);
        self.log_of(name).remove();
        if let Some(worker) = self.workers.remove(name) {
            for (_, reply) in worker.waiting {
                let _ = reply.send(Ok(()));
            }
        }
    }
}

fn cancel_timers(worker: &mut Worker, ctx: &mut Context<SpawnerActor>) {
    for timer in worker.timers.drain(..) {
        ctx.cancel_future(timer);
    }
}

/// A monitor is no more.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct MonitorEnded {
    name: WorkerName,
    run: RunNumber,
    exit: ActorExit,
}

impl Handler<MonitorEnded> for SpawnerActor {
    type Result = ();

    /// One that panicked while its worker runs is started again, a little later each time.
    fn handle(&mut self, ended: MonitorEnded, ctx: &mut Self::Context) {
        let ActorExit::Panicked(panic) = ended.exit else { return };
        let current = |worker: &&mut Worker| worker.run_number == ended.run;
        let Some(worker) = self.workers.get_mut(&ended.name).filter(current) else { return };
        worker.monitor = None;
        let doublings = worker.monitor_failures.min(16);
        worker.monitor_failures += 1;
        let wait = MONITOR_BACKOFF.saturating_mul(1 << doublings).min(MONITOR_BACKOFF_MAX);
        tracing::error!(worker = %ended.name, panic, wait_ms = wait.as_millis(), "its monitor panicked");
        ctx.run_later(wait, move |spawner, ctx| {
            let runs = |w: &Worker| w.run_number == ended.run && w.life.phase().runs();
            if spawner.workers.get(&ended.name).is_some_and(runs) {
                spawner.monitor(&ended.name, ctx);
            }
        });
    }
}
