//! The machine's figures but for its GPUs, on a tick of their own.

use super::{hive_board::HiveBoard, rates::round};
use crate::{
    contract::{NodeStats, SelfStats},
    platform::node::{NodeFigures, NodeReader, cpu_count},
};
use actix::prelude::*;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// See the module.
#[derive(Debug)]
pub struct NodeMonitor {
    board: Arc<HiveBoard>,
    interval: Duration,
    reader: NodeReader,
    before: Option<(NodeFigures, Instant)>,
    cpu_count: u32,
}

impl NodeMonitor {
    /// Reads `/proc`.
    pub fn new(board: Arc<HiveBoard>, interval: Duration) -> std::io::Result<Self> {
        Ok(Self {
            board,
            interval,
            reader: NodeReader::open("/proc".as_ref())?,
            before: None,
            cpu_count: cpu_count(),
        })
    }

    fn tick(&mut self, ctx: &mut Context<Self>) {
        match self.reader.sample() {
            Ok(figures) => self.publish(figures),
            Err(error) => tracing::debug!(%error, "cannot sample the machine"),
        }
        ctx.run_later(self.interval, Self::tick);
    }

    fn publish(&mut self, now: NodeFigures) {
        let taken = Instant::now();
        let before = self.before.replace((now, taken));
        let elapsed = before.map(|(before, at)| (before, (taken - at).as_secs_f64()));
        let share = |now: Duration, before: fn(&NodeFigures) -> Duration| {
            elapsed.map_or(0.0, |(figures, seconds)| {
                round(now.saturating_sub(before(&figures)).as_secs_f64() / seconds * 100.0)
            })
        };
        self.board.set_node(NodeStats {
            cpu_pct: share(now.busy, |figures| figures.busy).min(f64::from(self.cpu_count) * 100.0),
            cpu_count: self.cpu_count,
            load1: round(now.load1),
            ram_used_mb: now.ram_total_bytes.saturating_sub(now.ram_available_bytes) >> 20,
            ram_total_mb: now.ram_total_bytes >> 20,
            rbee: SelfStats {
                cpu_pct: share(now.own_cpu, |figures| figures.own_cpu),
                rss_mb: now.own_rss_bytes >> 20,
            },
            ..NodeStats::default()
        });
    }
}

impl Actor for NodeMonitor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.tick(ctx);
    }
}
