//! Restarts the workers whose configuration changed, one at a time, so that the others serve meanwhile.

use super::{
    SpawnerActor,
    lifecycle::{Event, Goal, Phase},
};
use crate::{
    actors::hive_board::{RunNumber, WorkerName},
    contract::WorkerSpec,
};
use actix::prelude::*;
use std::{collections::VecDeque, time::Duration};

/// Between taking a worker out of routing and ending it: the queen hears of it with the next heartbeat.
const NOTICE: Duration = Duration::from_millis(1_000);

/// Whose turn it is, and who comes after.
#[derive(Debug, Default)]
pub(super) struct RollingRestart {
    queue: VecDeque<WorkerName>,
    current: Option<(WorkerName, RunNumber)>,
}

impl SpawnerActor {
    /// The configuration was read again while workers run.
    pub(super) fn reload(&mut self, wanted: Vec<WorkerSpec>, ctx: &mut Context<Self>) {
        self.reconcile(wanted, ctx);
        let changed = self.workers.iter().filter(|(_, worker)| worker.next_spec.is_some());
        let mut changed: Vec<_> = changed.map(|(name, _)| name.clone()).collect();
        changed.sort_unstable();
        for name in changed {
            if !self.rolling.queue.contains(&name) {
                self.rolling.queue.push_back(name);
            }
        }
        self.roll_on(ctx);
    }

    /// Takes the next one, once the current one serves again or has come to rest.
    pub(super) fn roll_on(&mut self, ctx: &mut Context<Self>) {
        if let Some((name, run)) = &self.rolling.current
            && self.workers.get(name).is_some_and(|worker| {
                let settled = matches!(
                    worker.life.phase(),
                    Phase::Ready | Phase::Backoff | Phase::Failed | Phase::Stopped
                );
                worker.run_number == *run || !settled
            })
        {
            return;
        }
        self.rolling.current = None;
        while let Some(name) = self.rolling.queue.pop_front() {
            let Some(worker) = self.workers.get(&name).filter(|w| w.next_spec.is_some()) else {
                continue;
            };
            let run = worker.run_number;
            tracing::info!(worker = %name, "its configuration changed: restarting it");
            self.rolling.current = Some((name.clone(), run));
            self.raise(&name, Event::Drain, ctx);
            ctx.run_later(NOTICE, move |spawner, ctx| {
                if !spawner.ending {
                    spawner.raise(&name, Event::Asked(Goal::Restart), ctx);
                }
            });
            return;
        }
    }
}
