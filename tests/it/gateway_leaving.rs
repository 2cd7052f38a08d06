//! Either side leaves in the middle: the other one must learn of it.

use crate::support::{
    Api, Heartbeats, RawWorker, Reply, Site, chat, chat_body, echo, eventually, free_port,
    in_progress, ms, proc, ready_workers, report, secs,
};
use nix::sys::signal::Signal;
use serde_json::json;
use std::{fs, time::Instant};

/// Waits until the echo worker at this port is at nothing, and its log says that it was left.
async fn assert_cancelled(site: &Site, port: u16) {
    let api = Api::new(format!("http://127.0.0.1:{port}"));
    eventually(secs(5), async || match in_progress(&api).await {
        0 => Ok(()),
        count => Err(count),
    })
    .await;
    let log = site.path("state").join(format!("logs/echo/{port}.log"));
    eventually(secs(2), async || {
        let text = fs::read_to_string(&log).map_err(|error| error.to_string())?;
        if text.contains("request cancelled") { Ok(()) } else { Err(text) }
    })
    .await;
}

#[actix_web::test]
async fn a_client_that_leaves_in_mid_stream_cancels_the_workers_request() {
    let (site, port) = (Site::new(), free_port());
    let (queen, _hive) = site.start_both(json!([echo(port, "m", 60_000, json!({}))])).await;
    ready_workers(queen.queen(), 1, secs(10)).await;
    let mut answer = chat(queen.queen(), &[], &chat_body("m", "one two", true)).await;
    answer.at_least(1).await;
    assert_eq!(in_progress(&Api::new(format!("http://127.0.0.1:{port}"))).await, 1);
    drop(answer);
    assert_cancelled(&site, port).await;
}

#[actix_web::test]
async fn a_client_that_leaves_before_the_first_byte_cancels_the_workers_request() {
    let (site, port) = (Site::new(), free_port());
    let (queen, _hive) = site.start_both(json!([echo(port, "m", 60_000, json!({}))])).await;
    ready_workers(queen.queen(), 1, secs(10)).await;
    let api = queen.queen().clone();
    let asked = actix_web::rt::spawn(async move {
        chat(&api, &[], &chat_body("m", "one two", false)).await;
    });
    let worker = Api::new(format!("http://127.0.0.1:{port}"));
    eventually(secs(5), async || match in_progress(&worker).await {
        1 => Ok(()),
        count => Err(count),
    })
    .await;
    asked.abort();
    assert_cancelled(&site, port).await;
}

#[actix_web::test]
async fn a_client_that_leaves_frees_the_slot() {
    let site = Site::new();
    let queen = site.start("queen", &site.queen_config()).await;
    let (worker, pieces) = RawWorker::held().await;
    let workers = json!([report("a", json!({"slots": 1, "url": worker.url()}))]);
    let _hive = Heartbeats::start(queen.queen(), "h", workers).await;
    pieces.send("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab".into()).expect("it waits");
    let mut answer = chat(queen.queen(), &[], &chat_body("m", "hello", true)).await;
    answer.at_least(2).await;
    drop(answer);
    worker.client_left().await;
    chat(queen.queen(), &[], &chat_body("m", "hello", false)).await.expect(200).await;
}

#[actix_web::test]
async fn a_worker_that_is_killed_in_mid_stream_breaks_the_clients_stream() {
    let (site, port) = (Site::new(), free_port());
    let once = json!({"restart": {"policy": "never"}});
    let (queen, _hive) = site.start_both(json!([echo(port, "m", 60_000, once)])).await;
    let worker = ready_workers(queen.queen(), 1, secs(10)).await.remove(0);
    let mut answer = chat(queen.queen(), &[], &chat_body("m", "one two", true)).await;
    answer.at_least(1).await;
    let pid = worker["pid"].as_u64().expect("it has a PID") as u32;
    proc::signal(pid, Signal::SIGKILL);
    let start = Instant::now();
    answer.expect_broken().await;
    assert!(start.elapsed() < secs(5), "it took {:?}", start.elapsed());
}

#[actix_web::test]
async fn a_worker_that_says_nothing_is_given_up_in_time() {
    let site = Site::new();
    let mut config = site.queen_config();
    config["queen"]["gateway"] = json!({"first_byte_timeout_ms": 500});
    let queen = site.start("queen", &config).await;
    let worker = RawWorker::start(|_| Reply::Never).await;
    let workers = json!([report("a", json!({"url": worker.url()}))]);
    let _hive = Heartbeats::start(queen.queen(), "h", workers).await;
    let start = Instant::now();
    let answer = chat(queen.queen(), &[], &chat_body("m", "hello", false)).await.expect(504).await;
    assert!((ms(490)..secs(5)).contains(&start.elapsed()), "{:?}", start.elapsed());
    assert!(answer["error"]["message"].is_string(), "{answer}");
    assert_eq!(queen.queen().reached("gateway_first_byte").await, 1);
    worker.client_left().await;
    assert_eq!(worker.requests().len(), 1, "a worker that got it may be at it");
}

#[actix_web::test]
async fn a_worker_that_falls_silent_in_mid_stream_breaks_the_clients_stream() {
    let site = Site::new();
    let mut config = site.queen_config();
    config["queen"]["gateway"] = json!({"idle_timeout_ms": 500});
    let queen = site.start("queen", &config).await;
    let (worker, pieces) = RawWorker::held().await;
    let workers = json!([report("a", json!({"url": worker.url()}))]);
    let _hive = Heartbeats::start(queen.queen(), "h", workers).await;
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n";
    pieces.send(head.into()).expect("the worker waits for it");
    let mut answer = chat(queen.queen(), &[], &chat_body("m", "hello", true)).await;
    answer.at_least(2).await;
    let start = Instant::now();
    answer.expect_broken().await;
    assert!(start.elapsed() < secs(5), "it took {:?}", start.elapsed());
    worker.client_left().await;
}

#[actix_web::test]
async fn a_queen_that_stops_lets_answers_come_to_their_end() {
    let site = Site::new();
    let (mut queen, _hive) = site.start_both(json!([echo(free_port(), "m", 300, json!({}))])).await;
    ready_workers(queen.queen(), 1, secs(10)).await;
    let mut answer = chat(queen.queen(), &[], &chat_body("m", "a b c d", true)).await;
    answer.at_least(1).await;
    let (status, rest) = futures_util::future::join(queen.terminate(secs(8)), answer.rest()).await;
    assert!(status.success());
    assert!(String::from_utf8(rest).unwrap().ends_with("data: [DONE]\n\n"));
}
