//! The registry: every hive that is heard of and its workers, in memory only.
//!
//! [`RegistryActor`] is its only writer; everyone else reads through a [`RegistryReader`]. The actor
//! owns the timers and nothing else: what a heartbeat or the passing of time changes is decided in
//! `table`, and each change is published to the stream before the heartbeat is answered.

mod acceptance;
mod events;
mod history;
mod intake;
mod reader;
mod table;

pub use intake::{Intake, IntakeFull, Load};
pub use reader::RegistryReader;
pub use table::Outcome;

use super::{
    fleet::{FreshnessLimits, HiveRecord},
    placement::Placement,
    sse_broadcaster::{SseBroadcaster, StreamEvent, StreamStats},
};
use crate::contract::LifecycleEvent;
use crate::limits::{INTAKE_WAITING_MAX, Limit};
use actix::prelude::*;
use std::{sync::Arc, time::Duration};
use table::Table;
use tokio::time::Instant;

/// How often standings are looked at.
const SWEEP_INTERVAL: Duration = Duration::from_millis(250);
/// An interval of zero would never let go of the thread.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);

/// The settings of the registry, as plain values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryConfig {
    /// Where each standing of a hive begins.
    pub limits: FreshnessLimits,
    /// How far back each worker's history is kept.
    pub history: Duration,
    /// Bytes for all history.
    pub history_bytes: usize,
    /// How often the queen sends its own heartbeat on the stream.
    pub queen_heartbeat_interval: Duration,
}

impl Default for RegistryConfig {
    fn default() -> Self {
        Self {
            limits: FreshnessLimits::default(),
            history: Duration::from_secs(300),
            history_bytes: 256 << 20,
            queen_heartbeat_interval: Duration::from_millis(2_500),
        }
    }
}

/// Stores a heartbeat. The answer comes when it is stored and on its way to the stream.
#[derive(Debug)]
pub struct StoreHeartbeat {
    /// What the hive told, already judged to be well formed.
    pub record: HiveRecord,
    /// What happened to its workers.
    pub events: Vec<LifecycleEvent>,
    /// Given back once the heartbeat has been dealt with.
    pub load: Load,
}

impl Message for StoreHeartbeat {
    type Result = Result<Outcome, StreamBehind>;
}

/// The stream has not dealt with what it was told before; nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the event stream is behind")]
pub struct StreamBehind;

/// See the module.
pub struct RegistryActor {
    table: Table,
    reader: RegistryReader,
    stream: Addr<SseBroadcaster>,
    stats: Arc<StreamStats>,
    queen_heartbeat_interval: Duration,
}

impl RegistryActor {
    /// An empty registry that tells `placement` what there is and `stream` what happens; `stats` are
    /// that stream's.
    pub fn new(
        config: RegistryConfig,
        placement: Placement,
        stream: Addr<SseBroadcaster>,
        stats: Arc<StreamStats>,
    ) -> Self {
        let queen_heartbeat_interval = config.queen_heartbeat_interval.max(SHORTEST_INTERVAL);
        let table = Table::new(config, placement, Instant::now());
        Self { reader: table.reader(), table, stream, stats, queen_heartbeat_interval }
    }

    /// A handle to read by.
    pub fn reader(&self) -> RegistryReader {
        self.reader.clone()
    }

    fn publish(&self, events: Vec<StreamEvent>) {
        if !events.is_empty() {
            self.stream.do_send(self.stats.publish(events));
        }
    }
}

impl Actor for RegistryActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        // The bound is the intake's: a mailbox's own counts once more for each clone of its address.
        ctx.set_mailbox_capacity(INTAKE_WAITING_MAX);
        ctx.run_interval(SWEEP_INTERVAL, |registry, _| {
            let events = registry.table.sweep(Instant::now());
            registry.publish(events);
        });
        ctx.run_interval(self.queen_heartbeat_interval, |registry, _| {
            if !registry.stats.is_behind() {
                let heartbeat = registry.reader.queen_heartbeat(Instant::now());
                registry.publish(vec![StreamEvent::Queen(Arc::new(heartbeat))]);
            }
        });
    }
}

impl Handler<StoreHeartbeat> for RegistryActor {
    type Result = Result<Outcome, StreamBehind>;

    fn handle(&mut self, message: StoreHeartbeat, _: &mut Self::Context) -> Self::Result {
        if self.stats.is_behind() {
            Limit::StreamBacklog.reached();
            return Err(StreamBehind);
        }
        let (outcome, events) = self.table.store((message.record, message.events), Instant::now());
        self.publish(events);
        Ok(outcome)
    }
}
