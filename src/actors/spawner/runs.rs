//! A worker's runs as the spawner sees them: made, held, ended, cleared away.

use super::{
    SpawnerActor,
    effects::cancel_timers,
    lifecycle::Event,
    run::{self, Autopsy, LaunchError, LaunchOrder, Launched},
    worker::{Run, Worker, state_after},
};
use crate::{
    actors::{
        hive_board::{RunNumber, WorkerName},
        timestamp,
    },
    contract::{ExitRecord, WorkerState},
    platform::process::{
        ExitStatus, ProcessWatch, SharedTracker, SpawnError, SpawnStage, signal_name,
    },
};
use actix::prelude::*;
use rustix::process::Signal;
use std::{
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

/// For a worker whose spec is not known, ms.
const DEFAULT_GRACE_MS: u64 = 10_000;

/// A tree that could not be ended is tried again after this long.
const CLEAR_AGAIN: Duration = Duration::from_secs(5);

impl SpawnerActor {
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
            run_id: format!("{name}:{}", uuid::Uuid::new_v4()),
            log,
            tree: self.config.tree.clone(),
            base_env: Arc::clone(&self.config.base_env),
            board: Arc::clone(&self.board),
            gpu_timeout: self.config.gpu_timeout,
            open_files: self.config.open_files,
            archive: self.config.archive.clone(),
            record,
            // A worker that is wanted anyway is not to stay dead for a full disk.
            unrecorded_too: !worker.unproven,
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

    pub(super) fn launched(
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
            watch: Some(watch),
            tracker: SharedTracker::new(Some(main), run_id.as_str()),
            cgroup: launched.cgroup,
            limits_applied: launched.limits_applied,
            run_id,
            adopted: false,
        };
        tracing::info!(worker = %name, pid = main.pid, limits_applied = run.limits_applied, "started");
        self.take_run(name, number, run, ctx);
        let Some(worker) = self.workers.get_mut(name) else { return };
        worker.unproven = false;
        let probed = worker.spec.as_ref().is_some_and(|spec| spec.ready.is_some());
        self.raise(name, Event::Spawned { probed }, ctx);
        self.monitor(name, ctx);
    }

    pub(super) fn not_launched(
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
        let watch = run.watch.clone();
        let Some(worker) = self.workers.get_mut(name) else { return };
        worker.run_number = number;
        worker.run = Some(run);
        let name = name.clone();
        let ended = async move {
            match watch {
                Some(watch) => watch.ended().await,
                None => ExitStatus::Unknown,
            }
        };
        ctx.spawn(ended.into_actor(self).map(move |status, spawner, ctx| {
            spawner.examine(name, number, status, ctx);
        }));
    }

    /// The main process has ended: what its run has to tell is read before anything is removed.
    pub(super) fn examine(
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
    pub(super) fn ended(
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
            // Of one that nobody watched it is not known when it ended.
            uptime_s: (worker.run.as_ref().filter(|run| run.watch.is_some()))
                .map_or(0, |run| run.main.uptime().as_secs()),
            peak_rss_mb: autopsy.memory_peak_bytes.map_or(seen_peak, |bytes| bytes >> 20),
            log_tail: autopsy.log_tail,
            next,
        };
        log_end(name, &record);
        worker.last_exit = Some(Arc::new(record));
        cancel_timers(worker, ctx);
        self.carry_out(name, effects, ctx);
    }

    /// SIGTERM to the main process, once it is noted who else belongs to it; then the grace.
    pub(super) fn terminate(&mut self, name: &WorkerName, ctx: &mut Context<Self>) {
        let Some(worker) = self.workers.get_mut(name) else { return };
        cancel_timers(worker, ctx);
        let Some(run) = &worker.run else { return };
        let own = worker.spec.as_ref().map_or(DEFAULT_GRACE_MS, |spec| spec.stop_grace_ms);
        let grace = worker.grace.unwrap_or(Duration::from_millis(own));
        let (number, worker_name) = (worker.run_number, name.clone());
        let (tracker, cgroup) = (run.tracker.clone(), run.cgroup.clone());
        let processes = Arc::clone(&self.table);
        worker.timers.push(ctx.run_later(grace, move |spawner, ctx| {
            spawner.kill(&worker_name, number, ctx);
        }));
        let name = name.clone();
        self.off_thread(
            ctx,
            move || run::prepare_to_end(&tracker, cgroup.as_ref(), &processes),
            move |_, spawner, _| {
                let current = |worker: &&Worker| worker.run_number == number;
                let run = spawner.workers.get(&name).filter(current).and_then(|w| w.run.as_ref());
                let Some(watch) = run.and_then(|run| run.watch.as_ref()) else { return };
                // A stopped process hears nothing until it goes on.
                for signal in [Signal::TERM, Signal::CONT] {
                    if let Err(error) = watch.signal(signal) {
                        tracing::warn!(worker = %name, %error, "cannot signal");
                    }
                }
            },
        );
    }

    /// The grace is over.
    pub(super) fn kill(&mut self, name: &WorkerName, number: RunNumber, ctx: &mut Context<Self>) {
        let Some(worker) = self.workers.get(name).filter(|w| w.run_number == number) else {
            return;
        };
        let Some(run) = &worker.run else { return };
        tracing::info!(worker = %name, "did not end in time: killed");
        let (tracker, cgroup) = (run.tracker.clone(), run.cgroup.clone());
        let processes = Arc::clone(&self.table);
        let kill = move || run::kill_tree(&tracker, cgroup.as_ref(), &processes);
        let name = name.clone();
        self.off_thread(ctx, kill, move |killed, _, _| {
            if let Some(Err(error)) = killed {
                tracing::error!(worker = %name, error = error.chain(), "cannot kill");
            }
        });
    }

    pub(super) fn clear(&mut self, name: &WorkerName, ctx: &mut Context<Self>) {
        let Some(worker) = self.workers.get(name) else { return };
        let Some(run) = &worker.run else { return };
        let (tracker, cgroup) = (run.tracker.clone(), run.cgroup.clone());
        let (tree, number, name) = (self.config.tree.clone(), worker.run_number, name.clone());
        let job_name = name.clone();
        let processes = Arc::clone(&self.table);
        let clear =
            move || run::clear(&tracker, cgroup.as_ref(), tree.as_ref(), &processes, &job_name);
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
}

/// A warning, unless it was asked for or ended as it was meant to.
fn log_end(name: &WorkerName, record: &ExitRecord) {
    macro_rules! tell {
        ($level:ident) => {
            tracing::$level!(
                worker = %name, code = record.code, signal = record.signal, next = ?record.next,
                oom_killed = record.oom_killed, uptime_s = record.uptime_s,
                peak_rss_mb = record.peak_rss_mb, log_tail = ?record.log_tail, "ended"
            )
        };
    }
    match record.next {
        WorkerState::Backoff | WorkerState::Failed => tell!(warn),
        _ => tell!(info),
    }
}
