//! What watches a hive's workers, each on a tick and a thread that are not the spawner's: for each run
//! a monitor, and where the engine tells its load, one who asks for it. Both are started again when
//! they panic, and end with the run.

use super::{SpawnerActor, worker::Worker};
use crate::{
    actors::{
        engine_load::EngineLoadActor,
        hive_board::{RunNumber, WorkerName},
        monitor::{MonitorActor, MonitorSeat, StopMonitoring},
        supervise::{ActorExit, start_guarded},
    },
    platform::sampler::{Sample, SampledRun},
};
use actix::prelude::*;
use std::{io, sync::Arc, time::Duration};

/// The first wait before a watcher that panicked is started again; doubled each time.
const WATCHER_BACKOFF: Duration = Duration::from_millis(50);

/// And the longest.
const WATCHER_BACKOFF_MAX: Duration = Duration::from_secs(10);

/// Who watches.
#[derive(Clone, Copy, Debug)]
enum Watcher {
    /// Its figures, through the kernel.
    Monitor,
    /// Its load, through its own page.
    Load,
}

/// The watchers of one worker.
#[derive(Default)]
pub(super) struct Watchers {
    monitor: Post,
    load: Post,
}

/// A watcher's place, whether it is there or not.
#[derive(Default)]
struct Post {
    actor: Option<Recipient<StopMonitoring>>,
    failures: u32,
}

impl Watchers {
    fn post(&mut self, watcher: Watcher) -> &mut Post {
        match watcher {
            Watcher::Monitor => &mut self.monitor,
            Watcher::Load => &mut self.load,
        }
    }
}

impl SpawnerActor {
    /// Starts what watches a worker's run.
    pub(super) fn monitor(&mut self, name: &WorkerName, ctx: &mut Context<Self>) {
        self.start_watcher(Watcher::Monitor, name, ctx);
        self.start_watcher(Watcher::Load, name, ctx);
    }

    fn start_watcher(&mut self, watcher: Watcher, name: &WorkerName, ctx: &mut Context<Self>) {
        let Some(worker) = self.workers.get(name).filter(|worker| worker.run.is_some()) else {
            return;
        };
        let (run, spawner, own_name) = (worker.run_number, ctx.address(), name.clone());
        let on_exit =
            move |exit| spawner.do_send(WatcherEnded { watcher, name: own_name, run, exit });
        let seat = self.seat(name, worker);
        let actor = match watcher {
            Watcher::Monitor => match self.open_sampler(name, worker) {
                Ok(None) => return,
                Ok(Some(sampler)) => {
                    let build = move |_: &mut _| MonitorActor::new(seat, sampler);
                    start_guarded(&self.monitors, build, on_exit).recipient()
                }
                Err(error) => {
                    tracing::warn!(worker = %name, %error, "cannot open its figures; trying again");
                    return self.watch_later(watcher, name.clone(), ctx);
                }
            },
            Watcher::Load => {
                let load = worker.spec.as_ref().and_then(|spec| spec.load.clone());
                let Some(load) = load else { return };
                let build = move |_: &mut _| EngineLoadActor::new(seat, load.metrics);
                start_guarded(&self.loads, build, on_exit).recipient()
            }
        };
        let Some(worker) = self.workers.get_mut(name) else { return };
        if let Some(before) = worker.watchers.post(watcher).actor.replace(actor) {
            before.do_send(StopMonitoring);
        }
    }

    fn seat(&self, name: &WorkerName, worker: &Worker) -> MonitorSeat {
        let own = worker.spec.as_ref().and_then(|spec| spec.sample_interval_ms);
        MonitorSeat {
            name: name.clone(),
            run: worker.run_number,
            board: Arc::clone(&self.board),
            interval: own.map_or(self.config.sample_interval, Duration::from_millis),
        }
    }

    /// `None` for one that has no run.
    fn open_sampler(
        &self,
        name: &WorkerName,
        worker: &Worker,
    ) -> io::Result<Option<Box<dyn Sample>>> {
        let Some(run) = &worker.run else { return Ok(None) };
        let run = SampledRun {
            main: run.main,
            tracker: run.tracker.clone(),
            cgroup: run.cgroup.as_ref(),
            table: Arc::clone(&self.table),
        };
        (self.config.open_sampler)(name, run).map(Some)
    }

    /// Starts it a little later each time that it goes wrong.
    fn watch_later(&mut self, watcher: Watcher, name: WorkerName, ctx: &mut Context<Self>) {
        let Some(worker) = self.workers.get_mut(&name) else { return };
        let run = worker.run_number;
        let post = worker.watchers.post(watcher);
        let doublings = post.failures.min(16);
        post.failures += 1;
        let wait = WATCHER_BACKOFF.saturating_mul(1 << doublings).min(WATCHER_BACKOFF_MAX);
        ctx.run_later(wait, move |spawner, ctx| {
            let runs = |w: &Worker| w.run_number == run && w.life.phase().runs();
            if spawner.workers.get(&name).is_some_and(runs) {
                spawner.start_watcher(watcher, &name, ctx);
            }
        });
    }

    /// Ends what watches a worker.
    pub(super) fn stop_monitor(&mut self, name: &WorkerName) {
        let Some(worker) = self.workers.get_mut(name) else { return };
        let Watchers { monitor, load } = std::mem::take(&mut worker.watchers);
        for actor in [monitor.actor, load.actor].into_iter().flatten() {
            actor.do_send(StopMonitoring);
        }
    }
}

/// A watcher is no more.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct WatcherEnded {
    watcher: Watcher,
    name: WorkerName,
    run: RunNumber,
    exit: ActorExit,
}

impl Handler<WatcherEnded> for SpawnerActor {
    type Result = ();

    /// One that panicked while its worker runs is started again, a little later each time.
    fn handle(&mut self, ended: WatcherEnded, ctx: &mut Self::Context) {
        let ActorExit::Panicked(panic) = ended.exit else { return };
        let current = |worker: &&mut Worker| worker.run_number == ended.run;
        let Some(worker) = self.workers.get_mut(&ended.name).filter(current) else { return };
        worker.watchers.post(ended.watcher).actor = None;
        let watcher = match ended.watcher {
            Watcher::Monitor => "monitor",
            Watcher::Load => "load",
        };
        tracing::error!(worker = %ended.name, watcher, panic, "what watches it panicked; starting another");
        self.watch_later(ended.watcher, ended.name, ctx);
    }
}
