//! What passes between a client and a worker, byte for byte, and what must not pass.

use crate::support::{
    Daemon, Heartbeats, RawWorker, Reply, Site, chat, chat_body, eventually, proc, report, secs,
};
use serde_json::json;
use std::{
    cell::Cell,
    io::Write,
    time::{Duration, Instant},
};

async fn queen_for(site: &Site, worker: &RawWorker) -> (Daemon, Heartbeats) {
    let queen = site.start("queen", &site.queen_config()).await;
    let workers = json!([report("a", json!({"url": worker.url()}))]);
    let hive = Heartbeats::start(queen.queen(), "h", workers).await;
    (queen, hive)
}

#[actix_web::test]
async fn headers_of_one_connection_or_one_origin_do_not_pass() {
    let site = Site::new();
    let headers = "connection: keep-alive, x-hop\r\nx-hop: 1\r\nkeep-alive: timeout=5\r\n\
                   proxy-authenticate: Basic\r\nset-cookie: a=b\r\n\
                   access-control-allow-origin: *\r\naccess-control-allow-credentials: true\r\n\
                   x-request-id: 17\r\ncontent-type: application/json\r\n";
    let worker = RawWorker::start(move |_| Reply::whole("200 OK", headers, b"{}")).await;
    let (queen, _hive) = queen_for(&site, &worker).await;
    let answer = chat(queen.queen(), &[], &chat_body("m", "hello", false)).await;
    let kept_back = [
        "x-hop",
        "keep-alive",
        "proxy-authenticate",
        "set-cookie",
        "access-control-allow-origin",
        "access-control-allow-credentials",
    ];
    for name in kept_back {
        assert_eq!(answer.header(name), None, "{name} passed");
    }
    assert_eq!(answer.header("x-request-id"), Some("17"));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    answer.expect(200).await;
}

#[actix_web::test]
async fn secrets_of_the_client_and_its_connections_headers_never_reach_the_worker() {
    let site = Site::new();
    let worker = RawWorker::obliging().await;
    let (queen, _hive) = queen_for(&site, &worker).await;
    let headers = [
        ("authorization", "Bearer sk-secret"),
        ("cookie", "session=secret"),
        ("connection", "x-mine"),
        ("x-mine", "1"),
        ("proxy-authorization", "Basic secret"),
    ];
    let body = chat_body("m", "every  byte\tof it", false);
    chat(queen.queen(), &headers, &body).await.expect(200).await;
    let request = worker.requests()[0].clone();
    assert_eq!(request.head.start, "POST /v1/chat/completions HTTP/1.1");
    assert_eq!(request.text(), body.to_string());
    assert_eq!(request.head.get("content-type"), Some("application/json"));
    for (name, _) in headers.iter().filter(|(name, _)| *name != "connection") {
        assert_eq!(request.head.get(name), None, "{name} passed");
    }
    let host = worker.url().trim_start_matches("http://");
    assert_eq!(request.head.get("host"), Some(host));
    let secret = |(_, value): &(String, String)| value.contains("secret");
    assert!(!request.head.headers.iter().any(secret), "{:?}", request.head);
}

#[actix_web::test]
async fn a_compressed_body_passes_untouched() {
    let site = Site::new();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(&b"{\"long\": true}".repeat(500)).expect("memory takes it");
    let packed = encoder.finish().expect("memory takes it");
    let sent = packed.clone();
    let headers = "content-type: application/json\r\ncontent-encoding: gzip\r\n";
    let worker = RawWorker::start(move |_| Reply::whole("200 OK", headers, &sent)).await;
    let (queen, _hive) = queen_for(&site, &worker).await;
    for headers in [&[("accept-encoding", "gzip")][..], &[]] {
        let answer = chat(queen.queen(), headers, &chat_body("m", "hello", false)).await;
        assert_eq!(answer.header("content-encoding"), Some("gzip"));
        assert_eq!(answer.rest().await, packed);
    }
}

#[actix_web::test]
async fn a_plain_body_passes_untouched_and_with_its_length() {
    let site = Site::new();
    let plain = b"{\"spaced\":   [1,  2]}\n".repeat(400);
    let (sent, length) = (plain.clone(), plain.len().to_string());
    let headers = "content-type: application/json\r\n";
    let worker = RawWorker::start(move |_| Reply::whole("200 OK", headers, &sent)).await;
    let (queen, _hive) = queen_for(&site, &worker).await;
    // A client that would take it compressed gets it as the worker made it.
    for headers in [&[("accept-encoding", "gzip, zstd")][..], &[]] {
        let answer = chat(queen.queen(), headers, &chat_body("m", "hello", false)).await;
        assert_eq!(answer.header("content-length"), Some(length.as_str()));
        assert_eq!(answer.header("transfer-encoding"), None);
        assert_eq!(answer.header("content-encoding"), None);
        assert_eq!(answer.rest().await, plain);
    }
}

/// The worker's answer begins with `head`, which ends in `ab`, and breaks off there.
async fn assert_breaks_off(head: &str) {
    let site = Site::new();
    let (worker, pieces) = RawWorker::held().await;
    let (queen, _hive) = queen_for(&site, &worker).await;
    pieces.send(head.into()).expect("the worker waits for it");
    let mut answer = chat(queen.queen(), &[], &chat_body("m", "hello", true)).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.at_least(2).await, b"ab");
    drop(pieces);
    answer.expect_broken().await;
    assert_eq!(worker.requests().len(), 1, "nothing is tried again after the first byte");
}

#[actix_web::test]
async fn a_body_shorter_than_its_length_ends_as_an_error() {
    assert_breaks_off("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nab").await;
}

#[actix_web::test]
async fn a_chunked_body_without_its_end_ends_as_an_error() {
    assert_breaks_off("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n").await;
}

#[actix_web::test]
async fn events_come_one_by_one_as_they_were_written() {
    let site = Site::new();
    let (worker, pieces) = RawWorker::held().await;
    let (queen, _hive) = queen_for(&site, &worker).await;
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                transfer-encoding: chunked\r\n\r\n";
    pieces.send(head.into()).expect("the worker waits for it");
    // With the head alone, before there is any event.
    let mut answer = chat(queen.queen(), &[], &chat_body("m", "hello", true)).await;
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    for number in 0..20 {
        let event = format!("data: {{\"number\":{number}}}\n\n");
        let chunk = format!("{:x}\r\n{event}\r\n", event.len());
        pieces.send(chunk.into_bytes()).expect("the worker waits for it");
        // The next one is not written before this one is here.
        let start = Instant::now();
        assert_eq!(answer.at_least(event.len()).await, event.as_bytes());
        assert!(start.elapsed() < secs(1), "{number} took {:?}", start.elapsed());
    }
    pieces.send(b"0\r\n\r\n".into()).expect("the worker waits for it");
    assert!(answer.rest().await.is_empty());
}

#[actix_web::test]
async fn an_answer_of_any_size_costs_the_queen_little_and_waits_for_a_slow_client() {
    const SIZE: u64 = 200 << 20;
    /// More than the kernel's buffers hold on the way.
    const HELD_BACK: u64 = 64 << 20;
    let site = Site::new();
    let worker = RawWorker::start(|_| Reply::Flood(SIZE)).await;
    let (queen, _hive) = queen_for(&site, &worker).await;
    let pid = queen.pid();
    let before = proc::rss_mb(pid).expect("it runs");
    let mut answer = chat(queen.queen(), &[], &chat_body("m", "hello", true)).await;
    let mut got = answer.at_least(1).await.len() as u64;

    // Nobody reads on: the worker is held back as soon as what lies between is full.
    let (last, since) = (Cell::new(0), Cell::new(Instant::now()));
    eventually(secs(20), async || {
        if worker.written() != last.replace(worker.written()) {
            since.set(Instant::now());
        }
        let still = since.get().elapsed();
        if still > Duration::from_secs(1) { Ok(()) } else { Err(worker.written()) }
    })
    .await;
    assert!(worker.written() < HELD_BACK, "{} MiB written", worker.written() >> 20);
    let stalled = proc::rss_mb(pid).expect("it runs");
    assert!(
        stalled - before < 40.0,
        "{stalled} MiB while the client reads nothing, {before} before"
    );

    while let Some(bytes) = answer.next().await.expect("the body comes to its end") {
        got += bytes.len() as u64;
    }
    assert_eq!(got, SIZE);
    let peak = proc::peak_rss_mb(pid).expect("it runs");
    assert!(peak - before < 40.0, "{peak} MiB at most, {before} before");
}
