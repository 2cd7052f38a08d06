//! One worker's figures, taken on a tick of its own. Whatever happens to this actor or to what it
//! reads happens to no other.

mod rates;

pub(crate) use rates::round;
pub use rates::{Figures, figures};

use super::hive_board::{HiveBoard, RunNumber, WorkerName};
use crate::platform::sampler::{RawSample, Sample};
use actix::prelude::*;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// Whom to watch.
#[derive(Debug)]
pub struct MonitorSeat {
    /// The worker.
    pub name: WorkerName,
    /// Its run; figures count for this one only.
    pub run: RunNumber,
    /// Where they go.
    pub board: Arc<HiveBoard>,
    /// Between two samples.
    pub interval: Duration,
}

/// See the module.
pub struct MonitorActor {
    seat: MonitorSeat,
    sampler: Box<dyn Sample>,
    before: Option<(RawSample, Instant)>,
    due: Instant,
    failing: bool,
}

/// Its worker's run is over.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct StopMonitoring;

impl MonitorActor {
    /// Takes its first sample when it is started.
    pub fn new(seat: MonitorSeat, sampler: Box<dyn Sample>) -> Self {
        Self { seat, sampler, before: None, due: Instant::now(), failing: false }
    }

    fn tick(&mut self, ctx: &mut Context<Self>) {
        self.sample();
        // Ticks keep their phase; those missed in a stall are not made up for in a burst.
        let now = Instant::now();
        while self.due <= now {
            self.due += self.seat.interval;
        }
        ctx.run_later(self.due - now, Self::tick);
    }

    /// A sample that fails leaves the last figures where they are, ageing.
    fn sample(&mut self) {
        match self.sampler.sample() {
            Ok(raw) => {
                self.failing = false;
                self.publish(raw);
            }
            Err(error) if !self.failing => {
                self.failing = true;
                tracing::warn!(worker = %self.seat.name, %error, "cannot sample");
            }
            Err(_) => {}
        }
    }

    fn publish(&mut self, raw: RawSample) {
        let now = Instant::now();
        let before = self.before.as_ref().map(|(raw, at)| (raw, now - *at));
        let Some(figures) = figures(&raw, before) else { return };
        tracing::trace!(worker = %self.seat.name, cpu_pct = figures.cpu_pct, "sample");
        self.before = Some((raw, now));
        self.seat.board.publish(&self.seat.name, self.seat.run, figures);
    }
}

impl Actor for MonitorActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.tick(ctx);
    }
}

impl Handler<StopMonitoring> for MonitorActor {
    type Result = ();

    fn handle(&mut self, _: StopMonitoring, ctx: &mut Self::Context) {
        ctx.stop();
    }
}
