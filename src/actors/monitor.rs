//! One worker's figures, taken on a tick of its own. Whatever happens to this actor or to what it
//! reads happens to no other.

use super::{
    hive_board::{HiveBoard, RunNumber, WorkerName},
    rates::figures,
};
use crate::platform::sampler::{RawSample, Sample};
use actix::prelude::*;
use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

/// Whom to watch, and how often.
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

/// The moments in an interval at which monitors tick. Each wakes a few that have the same moment: a
/// thousand monitors with a moment of their own would wake their thread a thousand times.
const MOMENTS: u32 = 16;

impl MonitorSeat {
    /// How long until the next tick.
    pub(super) fn next_tick(&self) -> Duration {
        self.until_next_tick(since_epoch())
    }

    /// Ticks keep their phase, which the worker's name decides; those missed in a stall are not made up
    /// for in a burst.
    fn until_next_tick(&self, now: Duration) -> Duration {
        let mut hasher = DefaultHasher::new();
        self.name.hash(&mut hasher);
        let moment = u32::try_from(hasher.finish() % u64::from(MOMENTS)).unwrap_or(0);
        let interval = self.interval.as_nanos().max(1);
        let phase = (self.interval / MOMENTS * moment).as_nanos();
        let wait = interval - (now.as_nanos() + interval - phase) % interval;
        Duration::from_nanos(u64::try_from(wait).unwrap_or(u64::MAX))
    }
}

/// Since this process first asked.
fn since_epoch() -> Duration {
    static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);
    EPOCH.elapsed()
}

/// See the module.
pub struct MonitorActor {
    seat: MonitorSeat,
    sampler: Box<dyn Sample>,
    before: Option<(RawSample, Instant)>,
    failing: bool,
}

/// Its worker's run is over.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct StopMonitoring;

impl MonitorActor {
    /// Takes its first sample when it is started.
    pub fn new(seat: MonitorSeat, sampler: Box<dyn Sample>) -> Self {
        Self { seat, sampler, before: None, failing: false }
    }

    fn tick(&mut self, ctx: &mut Context<Self>) {
        self.sample();
        ctx.run_later(self.seat.next_tick(), Self::tick);
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_next_tick_is_within_one_interval_and_keeps_its_phase(
            now in 0_u64..10_000_000_000_000, interval_ms in 10_u64..10_000, name in "[a-z]{1,8}",
        ) {
            let interval = Duration::from_millis(interval_ms);
            let seat = MonitorSeat {
                name: WorkerName::new("g", &name),
                run: 1,
                board: Arc::default(),
                interval,
            };
            let now = Duration::from_nanos(now);
            let wait = seat.until_next_tick(now);
            prop_assert!(wait > Duration::ZERO && wait <= interval);
            prop_assert_eq!(seat.until_next_tick(now + wait), interval);
        }
    }
}
