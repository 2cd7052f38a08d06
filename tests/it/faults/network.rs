//! The network between a hive and its queen is cut, both ways or one way, and heals: the queen says so in
//! time, workers and samples go on, and one heartbeat after healing everything is whole.

use super::mortal::{assert_told_once, kill, main_pid, sleeper, until_told};
use crate::support::{Api, Site, SseClient, secs};
use serde_json::{Value, json};
use std::{
    process::Command,
    time::{Duration, Instant},
};

/// The line between hive and queen, in namespaces of its own.
const HIVE: &str = "192.168.77.1";
const QUEEN: &str = "192.168.77.2";
/// Nobody has it: what is sent there is dropped by whoever gets it.
const NOBODY: &str = "02:00:00:00:00:09";

/// Runs a command that needs root.
fn root(command: &str) -> String {
    let mut words = command.split(' ');
    let done = Command::new(words.next().expect("a program")).args(words).output();
    let done = done.unwrap_or_else(|error| panic!("{command}: {error}; this needs iproute2"));
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{command}: {said}; this needs root and network namespaces");
    String::from_utf8_lossy(&done.stdout).into_owned()
}

/// Two machines: a line between them, and a line from the test to each.
struct Network {
    hive: String,
    queen: String,
    /// The first three parts of the addresses that the test reaches them by.
    control: String,
}

impl Network {
    fn new() -> Self {
        let id = std::process::id();
        let control = format!("10.{}.{}", 64 + (id >> 8) % 128, id % 256);
        let network = Self { hive: format!("rbh{id}"), queen: format!("rbq{id}"), control };
        let (hive, queen) = (&network.hive, &network.queen);
        root(&format!("ip netns add {hive}"));
        root(&format!("ip netns add {queen}"));
        root(&format!("ip link add line netns {hive} type veth peer name line netns {queen}"));
        for (namespace, address) in [(hive, HIVE), (queen, QUEEN)] {
            root(&format!("ip -n {namespace} addr add {address}/30 dev line"));
            root(&format!("ip -n {namespace} link set line up"));
            root(&format!("ip -n {namespace} link set lo up"));
        }
        network.control_line(hive, 1);
        network.control_line(queen, 5);
        network
    }

    fn control_line(&self, namespace: &str, first: u8) {
        let (own, theirs) = (self.control(first), self.control(first + 1));
        root(&format!("ip link add {namespace} type veth peer name control netns {namespace}"));
        root(&format!("ip addr add {own}/30 dev {namespace}"));
        root(&format!("ip link set {namespace} up"));
        root(&format!("ip -n {namespace} addr add {theirs}/30 dev control"));
        root(&format!("ip -n {namespace} link set control up"));
    }

    fn control(&self, last: u8) -> String {
        format!("{}.{last}", self.control)
    }

    /// What one side sends gets lost.
    fn cut(&self, from: &str, to: &str) {
        let neighbour = format!("{to} lladdr {NOBODY} nud permanent dev line");
        root(&format!("ip -n {from} neigh replace {neighbour}"));
    }

    fn heal(&self, from: &str, to: &str) {
        root(&format!("ip -n {from} neigh del {to} dev line"));
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for namespace in [&self.hive, &self.queen] {
            let _ = Command::new("ip").args(["netns", "del", namespace]).status();
        }
    }
}

/// Starts a role inside a namespace.
fn inside(site: &Site, namespace: &str) {
    site.set_launcher(&["nsenter", &format!("--net=/run/netns/{namespace}")]);
}

async fn assert_survives_a_cut(of_hive: bool, of_queen: bool) {
    // Dropped last: the namespaces outlive who is in them.
    let network = Network::new();
    let site = Site::new();
    let token = site.secret("token", "a-token-of-this-test");
    inside(&site, &network.queen);
    let queen = json!({"queen": {
        "bind": "0.0.0.0:7833", "public_read": true, "auth": {"hive_token_file": token},
        "degraded_after_ms": 1000, "down_after_ms": 2500,
    }});
    let _queen = site.start("queen", &queen).await;
    let queen = Api::new(format!("http://{}:7833", network.control(6)));
    let mut config = site.hive_config(Some(&format!("http://{QUEEN}:7833")));
    for (key, value) in [
        ("bind", json!(format!("{}:7835", network.control(2)))),
        ("queen_token_file", json!(token)),
        ("heartbeat_interval_ms", json!(200)),
        ("heartbeat_timeout_ms", json!(400)),
        ("sample_interval_ms", json!(200)),
        ("workers", json!([sleeper("stays"), sleeper("dies")])),
    ] {
        config["hive"][key] = value;
    }
    config["hive"]["admin"]["token_file"] = json!(token);
    inside(&site, &network.hive);
    let hive = site.start("hive", &config).await;
    let hive = hive.hive().with_token("a-token-of-this-test");
    let before = crate::support::ready_workers(&queen, 2, secs(10)).await;
    let mut stream = SseClient::connect(&format!("{}/v1/heartbeats/stream", queen.url())).await;
    stream.next(secs(5)).await;

    let cut = Instant::now();
    if of_hive {
        network.cut(&network.hive, QUEEN);
    }
    if of_queen {
        network.cut(&network.queen, HIVE);
    }
    kill(&hive, 0).await;
    let mut events = Vec::new();
    for (kind, after) in [("hive_degraded", 1_000), ("hive_down", 2_500)] {
        until(&mut stream, &mut events, kind).await;
        let waited = cut.elapsed();
        // The last heartbeat may have been one interval before the cut, or on its way.
        let soonest = Duration::from_millis(after - 300);
        assert!((soonest..soonest + secs(2)).contains(&waited), "{kind} after {waited:?}");
        let age = hive.worker("g/stays").await["sample_age_ms"].as_u64();
        assert!(age < Some(1_000), "a sample of {age:?} ms ago");
    }
    if of_hive {
        network.heal(&network.hive, QUEEN);
    }
    if of_queen {
        network.heal(&network.queen, HIVE);
    }
    let healed = Instant::now();
    until(&mut stream, &mut events, "hive_online").await;
    let waited = healed.elapsed();
    assert!(waited < secs(2), "whole again after {waited:?}, with an interval of 200 ms");
    eprintln!("whole {waited:?} after healing");
    if !events.iter().any(|event| event.is("worker_ready", "dies")) {
        events.extend(until_told(&mut stream).await);
    }
    assert_told_once(&events, 1);
    let after = crate::support::ready_workers(&queen, 2, secs(2)).await;
    let stays =
        |workers: &[Value]| main_pid(workers.iter().find(|w| w["instance"] == "stays").unwrap());
    assert_eq!(stays(&before), stays(&after));
}

/// Takes events up to and with the first of this kind.
async fn until(stream: &mut SseClient, events: &mut Vec<crate::support::Event>, kind: &str) {
    while events.last().is_none_or(|event| event.kind() != kind) {
        events.push(stream.next(secs(10)).await);
    }
}

#[actix_web::test]
async fn a_line_that_is_cut_both_ways_costs_no_worker_and_no_event() {
    assert_survives_a_cut(true, true).await;
}

#[actix_web::test]
async fn heartbeats_that_get_lost_cost_no_worker_and_no_event() {
    assert_survives_a_cut(true, false).await;
}

#[actix_web::test]
async fn acknowledgements_that_get_lost_cost_no_worker_and_no_event() {
    assert_survives_a_cut(false, true).await;
}
