//! `[queen]`

use super::{
    checks::{bind, refuse_unless_empty},
    reader::{Findings, Table},
};
use std::{collections::HashMap, net::SocketAddr, time::Duration};

/// `[queen.gateway]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GatewaySettings {
    /// Requests that may wait for a worker at once; 0: none waits.
    pub queue_limit: usize,
    /// How long one may wait.
    pub queue_timeout: Duration,
    /// How long a worker may take to begin its answer.
    pub first_byte_timeout: Duration,
    /// How long an answer may pause once it has begun.
    pub idle_timeout: Duration,
}

/// A queen.
#[derive(Clone, Debug)]
pub struct QueenSettings {
    /// Where its API listens.
    pub bind: SocketAddr,
    /// Between the `queen` events of the stream.
    pub queen_heartbeat_interval: Duration,
    /// A hive without a heartbeat for this long is degraded.
    pub degraded_after: Duration,
    /// A hive without a heartbeat for this long is down.
    pub down_after: Duration,
    /// A hive without a heartbeat for this long is forgotten, with its workers.
    pub evict_after: Duration,
    /// How far back a worker's history reaches.
    pub history: Duration,
    /// What all histories together may take, bytes.
    pub history_bytes: usize,
    /// Hives that admin calls are passed on to, by id: their URLs.
    pub hives: HashMap<String, String>,
    /// How requests are passed on to workers.
    pub gateway: GatewaySettings,
}

pub(super) fn read(mut t: Table, insecure: bool, f: &mut Findings) -> Option<QueenSettings> {
    let bind = bind(&mut t, "127.0.0.1:7833", insecure, f);
    let queen_heartbeat_interval = t.millis("queen_heartbeat_interval_ms", f, 100..=600_000, 2_500);
    let degraded_after = t.millis("degraded_after_ms", f, 100..=super::worker::DAY_MS, 3_000);
    let down_after = t.millis("down_after_ms", f, 100..=super::worker::DAY_MS, 10_000);
    let evict_after = t.millis("evict_after_ms", f, 100..=super::worker::DAY_MS, 90_000);
    let history_s = t.number("history_s", f, 1..=86_400).unwrap_or(300);
    let history_mb = t.number("history_mb", f, 0..=1_048_576).unwrap_or(256);
    if t.flag("public_read", f, false) {
        f.add(
            t.key("public_read"),
            "true",
            "must be false: this version has no tokens, reading is open on loopback",
        );
    }
    if t.strings("allowed_hosts", f).is_some_and(|list| !list.is_empty()) {
        f.add(t.key("allowed_hosts"), "", "must be empty: this version does not have it yet");
    }
    let hives = read_hives(&mut t, f);
    let mut auth = t.table("auth", f);
    refuse_unless_empty(&mut auth, &["token_file", "hive_token_file", "inference_token_file"], f);
    auth.finish(f);
    let gateway = t.table("gateway", f);
    let gateway = read_gateway(gateway, f);
    check_order(&t, [degraded_after, down_after, evict_after], f);
    t.finish(f);
    Some(QueenSettings {
        bind: bind?,
        queen_heartbeat_interval,
        degraded_after,
        down_after,
        evict_after,
        history: Duration::from_secs(history_s),
        history_bytes: (history_mb << 20) as usize,
        hives,
        gateway,
    })
}

/// `[[queen.hives]]`
fn read_hives(t: &mut Table, f: &mut Findings) -> HashMap<String, String> {
    let mut hives = HashMap::new();
    for mut hive in t.tables("hives", f) {
        let id = hive.require("id", f, super::hive_id);
        let url = hive.require("url", f, super::worker::http_url);
        refuse_unless_empty(&mut hive, &["token_file"], f);
        let key = hive.key("id");
        hive.finish(f);
        let Some((id, url)) = id.zip(url) else { continue };
        if hives.insert(id.clone(), url).is_some() {
            f.add(key, format!("{id:?}"), "must be an id of its own");
        }
    }
    hives
}

fn read_gateway(mut t: Table, f: &mut Findings) -> GatewaySettings {
    let mut millis = |key, default| t.millis(key, f, 1..=super::worker::DAY_MS, default);
    let queue_timeout = millis("queue_timeout_ms", 30_000);
    let first_byte_timeout = millis("first_byte_timeout_ms", 120_000);
    let idle_timeout = millis("idle_timeout_ms", 60_000);
    let queue_limit = t.number("queue_limit", f, 0..=1_000_000).unwrap_or(128) as usize;
    t.finish(f);
    GatewaySettings { queue_limit, queue_timeout, first_byte_timeout, idle_timeout }
}

fn check_order(t: &Table, [degraded, down, evict]: [Duration; 3], f: &mut Findings) {
    if down <= degraded {
        f.add(t.key("down_after_ms"), down.as_millis(), "must be above degraded_after_ms");
    }
    if evict <= down {
        f.add(t.key("evict_after_ms"), evict.as_millis(), "must be above down_after_ms");
    }
}
