//! Tells the queen, each interval and at each event, how the hive's workers are.
//!
//! Collection never waits for it: it reads what the board holds at that moment, so the newest state
//! wins, and an answer that does not come costs one interval.

mod connection;
mod outbox;
mod pacing;
mod post;
mod queens;
mod stats;

pub use stats::SenderStats;

use super::hive_board::HiveBoard;
use crate::{
    contract::{HealthStatus, HiveHeartbeat, HiveInfo, LifecycleEvent, OperationalStatus},
    platform::{secret::Secret, tls::Authorities},
};
use actix::prelude::*;
use connection::{Cause, Connection};
use outbox::Outbox;
use pacing::Pacing;
use post::{Answer, post};
use queens::Queens;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// What a hive says of itself, and to whom.
#[derive(Clone, Debug)]
pub struct SenderConfig {
    /// Its id.
    pub hive_id: String,
    /// How others reach its machine.
    pub hostname: String,
    /// Where its API listens.
    pub port: u16,
    /// Queens, in order of preference.
    pub queen_urls: Vec<String>,
    /// What is shown to them.
    pub token: Option<Secret>,
    /// Whom to trust as a queen with TLS; `None`: no queen has it.
    pub authorities: Option<Authorities>,
    /// Between heartbeats.
    pub interval: Duration,
    /// How long a queen may take.
    pub timeout: Duration,
    /// Whether the workers go on without the hive.
    pub leaves_workers: bool,
}

/// See the module.
pub struct HeartbeatSender {
    config: SenderConfig,
    board: Arc<HiveBoard>,
    client: awc::Client,
    boot_id: String,
    seq: u64,
    queens: Queens,
    pacing: Pacing,
    outbox: Outbox,
    status: OperationalStatus,
    connection: Connection,
    stats: Arc<SenderStats>,
    timer: Option<SpawnHandle>,
}

/// Something happened to a worker.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct TellQueen(pub LifecycleEvent);

/// The hive ends: one last heartbeat says so, as far as a queen is there to hear it.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct SayGoodbye;

impl HeartbeatSender {
    /// To be made on the arbiter that it lives on: its HTTP client belongs to that thread.
    pub fn new(config: SenderConfig, board: Arc<HiveBoard>, stats: Arc<SenderStats>) -> Self {
        let client = post::client(&config);
        Self {
            pacing: Pacing::new(config.interval, Instant::now()),
            queens: Queens::new(config.queen_urls.len()),
            config,
            board,
            client,
            boot_id: uuid::Uuid::new_v4().to_string(),
            seq: 0,
            outbox: Outbox::default(),
            status: OperationalStatus::Ready,
            connection: Connection::Untried,
            stats,
            timer: None,
        }
    }

    /// Sets the one timer to when the next heartbeat is due.
    fn arm(&mut self, ctx: &mut Context<Self>) {
        if let Some(timer) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        if let Some(due) = self.pacing.due() {
            let wait = due.saturating_duration_since(Instant::now());
            self.timer = Some(ctx.run_later(wait, |sender, ctx| {
                sender.timer = None;
                sender.send(ctx);
            }));
        }
    }

    fn send(&mut self, ctx: &mut Context<Self>) {
        self.pacing.sent(Instant::now());
        let (body, upto) = self.compose();
        let url = format!("{}/v1/hive-heartbeat", self.queen_url());
        let token = self.config.token.clone();
        let answer = post(self.client.clone(), url, token, body, self.config.timeout);
        ctx.spawn(answer.into_actor(self).map(move |answer, sender, ctx| {
            sender.take(answer, upto);
            sender.arm(ctx);
        }));
    }

    /// The body, and the number of the last event in it.
    fn compose(&mut self) -> (Vec<u8>, u64) {
        self.seq += 1;
        let (events, upto) = self.outbox.pending();
        let heartbeat = HiveHeartbeat {
            hive: HiveInfo {
                id: self.config.hive_id.clone(),
                hostname: self.config.hostname.clone(),
                port: self.config.port,
                operational_status: self.status,
                health_status: HealthStatus::Healthy,
                version: env!("CARGO_PKG_VERSION").to_owned(),
                leaves_workers: self.config.leaves_workers,
            },
            timestamp: super::timestamp(),
            boot_id: Some(self.boot_id.clone()),
            seq: Some(self.seq),
            interval_ms: u64::try_from(self.config.interval.as_millis()).ok(),
            node: self.board.node(),
            workers: self.board.reports(false),
            events,
        };
        (serde_json::to_vec(&heartbeat).unwrap_or_default(), upto)
    }

    fn queen_url(&self) -> &str {
        &self.config.queen_urls[self.queens.current()]
    }

    fn take(&mut self, answer: Answer, upto: u64) {
        self.stats.count(&answer);
        let now = Instant::now();
        match answer {
            Answer::Stored => {
                self.pacing.succeeded();
                self.outbox.acknowledge(upto);
                self.change_to(Connection::Connected, "");
            }
            Answer::Refused(status, why) => {
                // The queen is there, and the same again would be refused again: go on.
                self.pacing.succeeded();
                self.change_to(Connection::Broken(Cause::Refused(status)), &why);
            }
            Answer::Superseded(why) => {
                self.pacing.succeeded();
                self.change_to(Connection::Broken(Cause::Superseded), &why);
            }
            Answer::Overloaded(wait) => {
                self.change_to(Connection::Broken(Cause::Away), "the queen is overloaded");
                let wait = self.queens.leave_alone(now, wait);
                self.pacing.failed(now, wait, fastrand::f64());
            }
            Answer::Missing(why) => {
                self.change_to(Connection::Broken(Cause::Away), &why);
                self.queens.pass_over(now);
                self.pacing.failed(now, None, fastrand::f64());
            }
        }
    }

    fn change_to(&mut self, now: Connection, reason: &str) {
        let news = now.is_news_after(self.connection);
        self.connection = now;
        if !news {
            return;
        }
        let (queen, hive_id) = (self.queen_url(), self.config.hive_id.as_str());
        match now {
            Connection::Connected => tracing::info!(queen, "connected to the queen"),
            Connection::Broken(Cause::Superseded) => {
                tracing::error!(hive_id, reason, "ANOTHER HIVE HAS THIS ID: give each its own");
            }
            Connection::Broken(_) => {
                tracing::warn!(queen, reason, "the queen does not take heartbeats; workers go on");
            }
            Connection::Untried => {}
        }
    }
}

impl Actor for HeartbeatSender {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.arm(ctx);
    }
}

impl Handler<TellQueen> for HeartbeatSender {
    type Result = ();

    fn handle(&mut self, TellQueen(event): TellQueen, ctx: &mut Self::Context) {
        let dropped = self.outbox.push(event);
        self.stats.set_events_dropped(dropped);
        if dropped.is_power_of_two() {
            tracing::warn!(dropped, "the queen is away for long: the oldest events are dropped");
        }
        self.pacing.event();
        self.arm(ctx);
    }
}

impl Handler<SayGoodbye> for HeartbeatSender {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: SayGoodbye, ctx: &mut Self::Context) -> Self::Result {
        if let Some(timer) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        self.status = OperationalStatus::Stopping;
        self.pacing.sent(Instant::now());
        let (body, _) = self.compose();
        let url = format!("{}/v1/hive-heartbeat", self.queen_url());
        let (client, token) = (self.client.clone(), self.config.token.clone());
        let timeout = self.config.timeout.min(GOODBYE_WITHIN);
        Box::pin(async move {
            post(client, url, token, body, timeout).await;
        })
    }
}

/// From now on this is shown to queens.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct ChangeToken(pub Option<Secret>);

impl Handler<ChangeToken> for HeartbeatSender {
    type Result = ();

    fn handle(&mut self, ChangeToken(token): ChangeToken, _: &mut Self::Context) {
        self.config.token = token;
    }
}

/// A queen that is away must not hold up the end.
const GOODBYE_WITHIN: Duration = Duration::from_millis(500);
