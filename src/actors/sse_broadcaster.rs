//! The event stream: tells every client what the registry was told, in one order for all.
//!
//! The actor owns the timers; what is told to whom is decided in `hub`. A client never delays another
//! one or the registry: its queue is bounded, and what does not fit is counted and confessed to it.

mod client;
mod event;
mod hub;
mod replay;
mod stats;

pub use event::{EventId, StreamEvent};
pub use hub::{StreamRefused, Subscription};
pub use stats::{StreamStats, Ticket};

use crate::limits::STREAM_CLIENTS_MAX;
use actix::prelude::*;
use hub::Hub;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// How often each client gets a comment, so that proxies keep the connection.
pub const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// How often clients that left or are stuck are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Tells events, in this order. Made by [`StreamStats::publish`].
#[derive(Debug)]
pub struct Publish {
    events: Vec<StreamEvent>,
    #[allow(dead_code, reason = "it counts as waiting until it is dropped")]
    ticket: Ticket,
}

impl Message for Publish {
    type Result = ();
}

/// Takes a client in.
#[derive(Debug)]
pub struct Subscribe {
    /// Only this hive's events, and the queen's; `None`: all.
    pub hive: Option<String>,
    /// The last event that the client knows, if it was here before.
    pub last_event_id: Option<EventId>,
}

impl Message for Subscribe {
    type Result = Result<Subscription, StreamRefused>;
}

/// Ends every stream at once and refuses new ones. The answer comes when it is done.
#[derive(Clone, Copy, Debug)]
pub struct CloseStreams;

impl Message for CloseStreams {
    type Result = ();
}

/// See the module.
#[derive(Debug)]
pub struct SseBroadcaster {
    hub: Hub,
    stats: Arc<StreamStats>,
}

impl SseBroadcaster {
    /// A stream without clients. Its event ids begin with the current time.
    pub fn new() -> Self {
        let start_ms = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0);
        let stats = Arc::new(StreamStats::default());
        Self { hub: Hub::new(start_ms, Arc::clone(&stats)), stats }
    }

    /// Its counters.
    pub fn stats(&self) -> Arc<StreamStats> {
        Arc::clone(&self.stats)
    }
}

impl Default for SseBroadcaster {
    fn default() -> Self {
        Self::new()
    }
}

impl Actor for SseBroadcaster {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(STREAM_CLIENTS_MAX);
        ctx.run_interval(SWEEP_INTERVAL, |stream, _| stream.hub.sweep(Instant::now()));
        ctx.run_interval(KEEP_ALIVE_INTERVAL, |stream, _| stream.hub.keep_alive());
    }
}

impl Handler<Publish> for SseBroadcaster {
    type Result = ();

    fn handle(&mut self, message: Publish, _: &mut Self::Context) {
        let now = Instant::now();
        for event in message.events {
            self.hub.publish(event, now);
        }
    }
}

impl Handler<Subscribe> for SseBroadcaster {
    type Result = Result<Subscription, StreamRefused>;

    fn handle(&mut self, message: Subscribe, _: &mut Self::Context) -> Self::Result {
        self.hub.subscribe(message.hive.as_deref(), message.last_event_id, Instant::now())
    }
}

impl Handler<CloseStreams> for SseBroadcaster {
    type Result = ();

    fn handle(&mut self, _: CloseStreams, _: &mut Self::Context) {
        self.hub.close();
    }
}
