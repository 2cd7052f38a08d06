//! The daemons of the soak, and what is done to them: one hive and one queen live through all of it, as does a
//! small hive that turns from queen to queen; another hive and another queen are ended and started all the time.

use super::{GPU, crowd::Deeds};
use crate::support::{Api, Daemon, Gpus, Site, echo, free_port, ms, proc, ready_workers, secs};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::cell::Cell;
use tokio::time::sleep;

/// Workers that sleep, on the steady hive.
const SLEEPERS: usize = 12;

/// What runs there when all is calm.
const STEADY: usize = SLEEPERS + 3;

/// Workers on each of the others.
const FEW: usize = 3;

/// Started again as often as it takes.
fn immortal(mut spec: Value) -> Value {
    let backoff = json!({"policy": "always", "max_restarts": 1_000_000, "backoff_ms": 20, "backoff_max_ms": 100});
    spec["restart"] = backoff;
    spec
}

fn shell(name: &str, script: &str, marker: &str) -> Value {
    immortal(json!({"group": "base", "instance": name, "command": "/bin/sh", "model": "none",
                    "args": ["-c", script, marker]}))
}

fn sleeper(name: &str, marker: &str) -> Value {
    shell(name, "while :; do sleep 5; done", marker)
}

fn few(marker: &str) -> Value {
    (0..FEW).map(|n| sleeper(&format!("w{n}"), marker)).collect()
}

/// Sleepers, one that writes, and two that answer chats.
fn steady_workers(marker: &str) -> Vec<Value> {
    let mut workers: Vec<_> = (0..SLEEPERS).map(|n| sleeper(&format!("w{n}"), marker)).collect();
    workers.push(shell("talks", "while :; do echo line; sleep 0.3; done", marker));
    for port in [free_port(), free_port()] {
        let more = json!({
            "slots": 3, "load": {"metrics": format!("http://127.0.0.1:{port}/metrics")},
            "live": {"http": format!("http://127.0.0.1:{port}/health"), "interval_ms": 500},
        });
        workers.push(immortal(echo(port, marker, 5, more)));
    }
    workers
}

/// A daemon and what it is started with.
struct Place<'a> {
    site: &'a Site,
    name: &'static str,
    config: Value,
    daemon: Daemon,
}

impl<'a> Place<'a> {
    async fn start(site: &'a Site, name: &'static str, config: Value) -> Self {
        let daemon = site.start(name, &config).await;
        Self { site, name, config, daemon }
    }

    async fn hive(site: &'a Site, id: &'static str, queens: &Value, mut config: Value) -> Self {
        config["hive"]["id"] = json!(id);
        config["hive"]["queen_urls"] = queens.clone();
        Self::start(site, id, config).await
    }

    async fn end(&mut self) {
        assert!(self.daemon.terminate(secs(20)).await.success(), "{} ended badly", self.name);
    }

    /// Ends it in order, or kills it.
    async fn end_or(&mut self, kill: bool) {
        if kill { self.daemon.kill() } else { self.end().await }
    }

    async fn start_again(&mut self) {
        self.daemon = self.site.start(self.name, &self.config).await;
    }
}

/// See the module.
pub(super) struct Fleet<'a> {
    queen: Place<'a>,
    other_queen: Place<'a>,
    steady: Place<'a>,
    small: Place<'a>,
    restless: Place<'a>,
    marker: &'a str,
}

impl<'a> Fleet<'a> {
    /// `marker` is an argument of every worker.
    pub(super) async fn start(sites: &'a [Site; 4], gpus: &Gpus<'_>, marker: &'a str) -> Self {
        let [steady, restless, small, queens] = sites;
        gpus.say(GPU);
        let config = json!({"queen": {"bind": "127.0.0.1:0", "history_s": 5}});
        let queen = Place::start(queens, "queen", config).await;
        let url = queen.daemon.queen().url().to_owned();
        let bind = format!("127.0.0.1:{}", free_port());
        let config = json!({"queen": {"bind": bind}});
        let other_queen = Place::start(queens, "other-queen", config).await;
        let both = json!([format!("http://{bind}"), url]);

        let mut config = gpus.hive_config(None);
        config["hive"]["workers"] = json!(steady_workers(marker));
        let steady = Place::hive(steady, "steady", &json!([url]), config).await;
        let mut config = small.hive_config(None);
        config["hive"]["cgroup"]["mode"] = json!("off");
        config["hive"]["workers"] = few(marker);
        let small = Place::hive(small, "small", &both, config).await;
        let mut config = restless.hive_config(None);
        config["hive"]["on_exit"] = json!("leave");
        config["hive"]["workers"] = few(marker);
        let restless = Place::hive(restless, "restless", &both, config).await;
        Self { queen, other_queen, steady, small, restless, marker }
    }

    /// Those that live through all of it, with their PIDs.
    pub(super) fn steady_pids(&self) -> Vec<(&'static str, u32)> {
        let steady = [("queen", &self.queen), ("hive", &self.steady), ("small hive", &self.small)];
        steady.map(|(name, place)| (name, place.daemon.pid())).to_vec()
    }

    /// The queen and the hive that answer all the time.
    pub(super) fn steady_apis(&self) -> (Api, Api) {
        (self.queen.daemon.queen().clone(), self.steady.daemon.hive().clone())
    }

    /// Everything that is done to daemons, until it no longer goes on.
    pub(super) async fn disturb(&mut self, deeds: &Deeds, goes_on: &Cell<bool>) {
        tokio::join!(
            hangups(&self.steady, self.marker, deeds, goes_on),
            restarts(&mut self.restless, deeds, goes_on),
            queen_restarts(&mut self.other_queen, deeds, goes_on),
        );
    }

    /// All workers that the files ask for are ready when it returns, and no others there.
    pub(super) async fn whole(&self) {
        ready_workers(self.steady.daemon.hive(), STEADY, secs(30)).await;
        for place in [&self.small, &self.restless] {
            ready_workers(place.daemon.hive(), FEW, secs(30)).await;
        }
    }

    /// Ends all hives, with their workers.
    pub(super) async fn end(&mut self) {
        self.restless.end().await;
        self.restless.config["hive"]["on_exit"] = json!("stop");
        self.restless.start_again().await;
        self.whole().await;
        for hive in [&mut self.restless, &mut self.steady, &mut self.small] {
            hive.end().await;
        }
    }
}

/// SIGHUP with another list of workers each time, and at last with the first.
async fn hangups(place: &Place<'_>, marker: &str, deeds: &Deeds, goes_on: &Cell<bool>) {
    let mut changed = place.config.clone();
    let workers = changed["hive"]["workers"].as_array_mut().expect("a list");
    workers[0] = shell("w0", "while :; do sleep 4; done", marker);
    workers.push(sleeper("extra", marker));
    while goes_on.get() {
        for config in [&changed, &place.config] {
            sleep(secs(1)).await;
            place.site.write(place.name, config);
            proc::signal(place.daemon.pid(), Signal::SIGHUP);
            deeds.note("SIGHUPs");
        }
    }
}

/// The next hive has the same workers, with the same PIDs.
async fn restarts(place: &mut Place<'_>, deeds: &Deeds, goes_on: &Cell<bool>) {
    let pids = async |place: &Place<'_>| {
        let workers = ready_workers(place.daemon.hive(), FEW, secs(20)).await;
        workers.iter().map(|worker| worker["pid"].clone()).collect::<Vec<_>>()
    };
    let mut kill = true;
    while goes_on.get() {
        let before = pids(place).await;
        sleep(ms(700)).await;
        place.end_or(kill).await;
        kill = !kill;
        place.start_again().await;
        assert_eq!(pids(place).await, before, "workers outlive their hive");
        deeds.note("hives restarted with their workers adopted");
    }
}

async fn queen_restarts(place: &mut Place<'_>, deeds: &Deeds, goes_on: &Cell<bool>) {
    while goes_on.get() {
        sleep(ms(1500)).await;
        place.end_or(fastrand::bool()).await;
        sleep(ms(fastrand::u64(0..1500))).await;
        place.start_again().await;
        deeds.note("queens restarted");
    }
}
