//! What a worker writes: kept, followed, and kept from filling the disk.

use crate::support::{Site, eventually, proc, secs};
use awc::Client;
use futures_util::StreamExt;
use serde_json::{Value, json};
use std::{fs, os::unix::fs::MetadataExt, time::Duration};

const CAP: u64 = 64 << 20;

fn shell(script: &str) -> Value {
    json!({"group": "g", "instance": "a", "command": "/bin/sh", "args": ["-c", script]})
}

/// A request that follows a log, and what has come of it.
struct Follower {
    body: std::pin::Pin<
        Box<dyn futures_util::Stream<Item = Result<bytes::Bytes, awc::error::PayloadError>>>,
    >,
    text: String,
}

impl Follower {
    async fn connect(url: &str, tail: usize) -> Self {
        let url = format!("{url}/v1/workers/g/a/logs?follow=true&tail={tail}");
        let body = Client::new().get(url).send().await.expect("the log is followed");
        assert_eq!(body.headers().get("content-type").unwrap(), "text/plain; charset=utf-8");
        Self { body: Box::pin(body), text: String::new() }
    }

    /// `None` when the stream has ended.
    async fn more(&mut self) -> Option<()> {
        let next = tokio::time::timeout(secs(10), self.body.next());
        let Ok(next) = next.await else { panic!("nothing comes after {:?}", self.text) };
        let chunk = next?;
        self.text.push_str(&String::from_utf8_lossy(&chunk.expect("unbroken")));
        Some(())
    }

    async fn until(&mut self, wanted: &str) {
        while !self.text.contains(wanted) {
            self.more().await.expect("it goes on");
        }
    }
}

#[actix_web::test]
async fn a_follower_gets_the_tail_then_what_comes_and_the_end() {
    let site = Site::new();
    let go = site.path("go");
    let script = format!(
        "echo one; echo two; until test -e {0}; do /bin/sleep 0.02; done; echo three; exec /bin/sleep 1000",
        go.display()
    );
    let hive = site.start_hive(json!([shell(&script)])).await;
    eventually(secs(5), async || {
        let text = hive.hive().get("/v1/workers/g/a/logs").await.text;
        if text == "one\ntwo\n" { Ok(()) } else { Err(text) }
    })
    .await;
    let mut follower = Follower::connect(hive.hive().url(), 1).await;
    follower.until("two\n").await;
    fs::write(go, "").unwrap();
    follower.until("three\n").await;
    assert_eq!(follower.text, "two\nthree\n");
    hive.hive().delete("/v1/workers/g/a?grace_ms=100").await.expect(200);
    assert!(follower.more().await.is_none(), "the worker is gone and so is its log");
}

#[actix_web::test]
async fn a_hive_that_ends_ends_its_followers() {
    let site = Site::new();
    let mut hive = site.start_hive(json!([shell("echo up; exec /bin/sleep 1000")])).await;
    hive.hive().worker_in_state("g/a", "ready").await;
    let mut follower = Follower::connect(hive.hive().url(), 10).await;
    follower.until("up").await;
    let start = std::time::Instant::now();
    assert_eq!(hive.terminate(secs(5)).await.code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(1), "took {:?}", start.elapsed());
    assert!(follower.more().await.is_none());
}

#[actix_web::test]
async fn a_log_that_grows_too_long_loses_its_oldest_part_and_nothing_else() {
    let site = Site::new();
    let (fill, go) = (site.path("fill"), site.path("go"));
    let script = format!(
        "until test -e {}; do /bin/sleep 0.02; done; head -c {} /dev/zero | tr '\\0' 'x'; echo; echo full; \
         until test -e {}; do /bin/sleep 0.02; done; echo after; exec /bin/sleep 1000",
        fill.display(),
        CAP + (8 << 20),
        go.display()
    );
    let hive = site.start_hive(json!([shell(&script)])).await;
    let before = hive.hive().worker_in_state("g/a", "ready").await;
    let log = site.path("state/logs/g/a.log");
    fs::write(fill, "").unwrap();
    let tail = async || hive.hive().get("/v1/workers/g/a/logs?tail=1").await.text;
    eventually(secs(20), async || match tail().await {
        text if text == "full\n" => Ok(()),
        text => Err(text.len()),
    })
    .await;
    let mut follower = Follower::connect(hive.hive().url(), 1).await;
    eventually(secs(10), async || match fs::metadata(&log).unwrap().size() {
        size if (1 << 20..CAP / 4).contains(&size) => Ok(()),
        size => Err(size),
    })
    .await;
    fs::write(go, "").unwrap();
    follower.until("after\n").await;
    assert_eq!(follower.text, "full\nafter\n", "the follower goes on through the cut");
    assert_eq!(hive.hive().get("/v1/workers/g/a/logs?tail=2").await.text, "full\nafter\n");
    assert_eq!(hive.hive().worker("g/a").await["pid"], before["pid"]);
    assert!(proc::alive(before["pid"].as_u64().unwrap() as u32));
}

#[actix_web::test]
async fn the_run_before_is_kept() {
    let site = Site::new();
    let hive = site.start_hive(json!([shell("echo run $$; exec /bin/sleep 1000")])).await;
    let first = hive.hive().worker_in_state("g/a", "ready").await;
    let said = |worker: &Value| format!("run {}\n", worker["pid"]);
    let log = site.path("state/logs/g/a.log");
    let holds = async |path: &std::path::Path, text: String| {
        eventually(secs(5), async || match fs::read_to_string(path) {
            Ok(found) if found == text => Ok(()),
            other => Err(other),
        })
        .await;
    };
    holds(&log, said(&first)).await;
    hive.hive().post("/v1/workers/g/a/restart", json!({})).await.expect(200);
    let second = hive.hive().worker_in_state("g/a", "ready").await;
    holds(&log, said(&second)).await;
    holds(&site.path("state/logs/g/a.log.1"), said(&first)).await;
}

#[actix_web::test]
async fn a_log_that_is_taken_away_costs_the_log_alone() {
    let site = Site::new();
    let hive = site.start_hive(json!([shell("echo up; exec /bin/sleep 1000")])).await;
    let before = hive.hive().worker_in_state("g/a", "ready").await;
    let log = site.path("state/logs/g/a.log");
    fs::remove_file(&log).unwrap();
    assert_eq!(hive.hive().get("/v1/workers/g/a/logs").await.expect(200), Value::Null);
    nix::unistd::mkfifo(&log, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(hive.hive().get("/v1/workers/g/a/logs").await.status, 500);
    let sampled =
        |w: &Value| w["sample_age_ms"].as_u64() < Some(500) && w["uptime_s"].as_u64() > Some(2);
    let after = hive.hive().worker_when("g/a", secs(10), sampled).await;
    assert_eq!(after["pid"], before["pid"]);
    proc::signal(before["pid"].as_u64().unwrap() as u32, nix::sys::signal::Signal::SIGKILL);
    let again = |w: &Value| w["state"] == "ready" && w["restarts"] == 1;
    let worker = hive.hive().worker_when("g/a", secs(5), again).await;
    assert_eq!(worker["last_exit"]["log_tail"], json!([]));
}
