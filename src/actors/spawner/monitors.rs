//! The monitors of a hive's workers: one for each run, started again when it panics.

use super::{SpawnerActor, worker::Worker};
use crate::{
    actors::{
        hive_board::{RunNumber, WorkerName},
        monitor::{MonitorActor, MonitorSeat, StopMonitoring},
        supervise::{ActorExit, start_guarded},
    },
    platform::sampler::SampledRun,
};
use actix::prelude::*;
use std::{sync::Arc, time::Duration};

/// The first wait before a monitor that panicked is started again; doubled each time.
const MONITOR_BACKOFF: Duration = Duration::from_millis(50);

/// And the longest.
const MONITOR_BACKOFF_MAX: Duration = Duration::from_secs(10);

impl SpawnerActor {
    /// Starts the monitor of a worker's run.
    pub(super) fn monitor(&mut self, name: &WorkerName, ctx: &mut Context<Self>) {
        let table = Arc::clone(&self.table);
        let Some(worker) = self.workers.get_mut(name) else { return };
        let Some(run) = &worker.run else { return };
        let run = SampledRun {
            main: run.main,
            tracker: run.tracker.clone(),
            cgroup: run.cgroup.as_ref(),
            table,
        };
        let sampler = match (self.config.open_sampler)(name, run) {
            Ok(sampler) => sampler,
            Err(error) => {
                tracing::warn!(worker = %name, %error, "cannot open its figures; trying again");
                return self.monitor_later(name.clone(), ctx);
            }
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

    /// Starts it a little later each time that it goes wrong.
    fn monitor_later(&mut self, name: WorkerName, ctx: &mut Context<Self>) {
        let Some(worker) = self.workers.get_mut(&name) else { return };
        let doublings = worker.monitor_failures.min(16);
        worker.monitor_failures += 1;
        let wait = MONITOR_BACKOFF.saturating_mul(1 << doublings).min(MONITOR_BACKOFF_MAX);
        let run = worker.run_number;
        ctx.run_later(wait, move |spawner, ctx| {
            let runs = |w: &Worker| w.run_number == run && w.life.phase().runs();
            if spawner.workers.get(&name).is_some_and(runs) {
                spawner.monitor(&name, ctx);
            }
        });
    }

    pub(super) fn stop_monitor(&mut self, name: &WorkerName) {
        if let Some(worker) = self.workers.get_mut(name)
            && let Some(monitor) = worker.monitor.take()
        {
            monitor.do_send(StopMonitoring);
            worker.monitor_failures = 0;
        }
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
        tracing::error!(worker = %ended.name, panic, "its monitor panicked; starting another");
        self.monitor_later(ended.name, ctx);
    }
}
