//! `[queen]`

use super::{
    checks::{Openness, allowed_hosts, authorities, bind, names_token, tls, token, trust},
    host_name::HostName,
    reader::{Findings, Table},
};
use crate::platform::{
    secret::Secret,
    tls::{Authorities, Identity},
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

/// `[queen.auth]`: what each role shows. None at all: nobody is asked.
#[derive(Clone, Debug, Default)]
pub struct QueenTokens {
    /// May do everything.
    pub admin: Option<Secret>,
    /// May heartbeat.
    pub hive: Option<Secret>,
    /// May infer and schedule.
    pub inference: Option<Secret>,
}

/// `[[queen.hives]]`: a hive that admin calls are passed on to.
#[derive(Clone, Debug)]
pub struct HiveAddress {
    /// Where it is.
    pub url: String,
    /// What it wants to see.
    pub token: Option<Secret>,
}

/// A queen.
#[derive(Clone, Debug)]
pub struct QueenSettings {
    /// Where its API listens.
    pub bind: SocketAddr,
    /// Hosts that it answers to beside its own address.
    pub allowed_hosts: Vec<HostName>,
    /// Whether reading needs no token.
    pub public_read: bool,
    /// Who may do what.
    pub tokens: QueenTokens,
    /// What it shows as a TLS server; `None`: it speaks plain HTTP.
    pub tls: Option<Identity>,
    /// Whom it trusts as a client of hives; `None`: no `https`.
    pub authorities: Option<Authorities>,
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
    /// Hives that admin calls are passed on to, by id.
    pub hives: HashMap<String, HiveAddress>,
    /// How requests are passed on to workers.
    pub gateway: GatewaySettings,
}

pub(super) fn read(mut t: Table, insecure: bool, f: &mut Findings) -> Option<QueenSettings> {
    let auth = t.table("auth", f);
    let has_token = names_token(&auth, &TOKEN_KEYS);
    let bind = bind(&mut t, "127.0.0.1:7833", Openness { has_token, insecure }, f);
    let queen_heartbeat_interval = t.millis("queen_heartbeat_interval_ms", f, 100..=600_000, 2_500);
    let degraded_after = t.millis("degraded_after_ms", f, 100..=super::worker::DAY_MS, 3_000);
    let down_after = t.millis("down_after_ms", f, 100..=super::worker::DAY_MS, 10_000);
    let evict_after = t.millis("evict_after_ms", f, 100..=super::worker::DAY_MS, 90_000);
    let history_s = t.number("history_s", f, 1..=86_400).unwrap_or(300);
    let history_mb = t.number("history_mb", f, 0..=1_048_576).unwrap_or(256);
    let public_read = t.flag("public_read", f, false);
    let allowed_hosts = allowed_hosts(&mut t, f);
    let tls = tls(&mut t, f);
    let mut authorities = authorities(&mut t, f);
    let hives = read_hives(&mut t, &mut authorities, f);
    let tokens = read_tokens(auth, f);
    let gateway = t.table("gateway", f);
    let gateway = read_gateway(gateway, f);
    check_order(&t, [degraded_after, down_after, evict_after], f);
    t.finish(f);
    Some(QueenSettings {
        bind: bind?,
        allowed_hosts,
        public_read,
        tokens,
        tls,
        authorities,
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

/// What says that there is a token.
const TOKEN_KEYS: [&str; 6] = [
    "token_file",
    "token",
    "hive_token_file",
    "hive_token",
    "inference_token_file",
    "inference_token",
];

/// `[queen.auth]`. One token for two roles would give the lesser one what the greater may.
fn read_tokens(mut t: Table, f: &mut Findings) -> QueenTokens {
    let tokens = QueenTokens {
        admin: token(&mut t, "token_file", Some("token"), f),
        hive: token(&mut t, "hive_token_file", Some("hive_token"), f),
        inference: token(&mut t, "inference_token_file", Some("inference_token"), f),
    };
    let same = |a: &Option<Secret>, b: &Option<Secret>| a.is_some() && a == b;
    let differ = "must be another token than those of the other roles";
    if same(&tokens.hive, &tokens.admin) {
        f.add(t.key("hive_token_file"), "", differ);
    }
    if same(&tokens.inference, &tokens.admin) || same(&tokens.inference, &tokens.hive) {
        f.add(t.key("inference_token_file"), "", differ);
    }
    t.finish(f);
    tokens
}

/// `[[queen.hives]]`
fn read_hives(
    t: &mut Table,
    authorities: &mut Option<Authorities>,
    f: &mut Findings,
) -> HashMap<String, HiveAddress> {
    let mut hives = HashMap::new();
    for mut hive in t.tables("hives", f) {
        let id = hive.require("id", f, super::hive_id);
        let url = hive.require("url", f, super::worker::url);
        let token = token(&mut hive, "token_file", None, f);
        if let Some(url) = &url {
            trust(&hive.key("url"), url, authorities, f);
        }
        let key = hive.key("id");
        hive.finish(f);
        let Some((id, url)) = id.zip(url) else { continue };
        if hives.insert(id.clone(), HiveAddress { url, token }).is_some() {
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
