//! Workers that do not take what they are sent: who is asked next, and what the client learns.

use crate::support::{
    Heartbeats, RawWorker, Reply, Site, chat, chat_body, echo, free_port, ready_workers, report,
    secs,
};
use serde_json::json;

/// Where nobody listens.
fn closed_url() -> String {
    format!("http://127.0.0.1:{}", free_port())
}

#[actix_web::test]
async fn a_closed_port_sends_the_request_to_the_next_worker() {
    let site = Site::new();
    let queen = site.start("queen", &site.queen_config()).await;
    let worker = RawWorker::obliging().await;
    // The one with the closed port is the better one to look at.
    let workers = json!([
        report("closed", json!({"url": closed_url()})),
        report("open", json!({"url": worker.url(), "requests_running": 2})),
    ]);
    let _hive = Heartbeats::start(queen.queen(), "h", workers).await;
    for _ in 0..10 {
        let answer = chat(queen.queen(), &[], &chat_body("m", "hello", false)).await;
        assert_eq!(answer.worker(), "h/llm/open");
        answer.expect(200).await;
    }
    assert_eq!(worker.requests().len(), 10);
}

#[actix_web::test]
async fn a_hives_worker_stands_in_for_one_that_only_heartbeats_tell_of() {
    let (site, port) = (Site::new(), free_port());
    let (queen, _hive) = site.start_both(json!([echo(port, "m", 0, json!({"slots": 2}))])).await;
    ready_workers(queen.queen(), 1, secs(10)).await;
    let closed = json!([report("closed", json!({"url": closed_url(), "slots": 64}))]);
    let _other = Heartbeats::start(queen.queen(), "other", closed).await;
    for _ in 0..10 {
        let answer = chat(queen.queen(), &[], &chat_body("m", "to be", false)).await;
        assert_eq!(answer.worker(), format!("test-hive/echo/{port}"));
        answer.expect(200).await;
    }
}

#[actix_web::test]
async fn a_connection_that_is_dropped_before_the_first_byte_goes_on_to_the_next_worker() {
    let site = Site::new();
    let queen = site.start("queen", &site.queen_config()).await;
    let dropping = RawWorker::start(|_| Reply::Close(Vec::new())).await;
    let worker = RawWorker::obliging().await;
    let workers = json!([
        report("dropping", json!({"url": dropping.url()})),
        report("open", json!({"url": worker.url(), "requests_running": 2})),
    ]);
    let _hive = Heartbeats::start(queen.queen(), "h", workers).await;
    let body = chat_body("m", "the same to both", false);
    let answer = chat(queen.queen(), &[], &body).await;
    assert_eq!(answer.worker(), "h/llm/open");
    answer.expect(200).await;
    assert!(!dropping.requests().is_empty(), "it was asked first");
    assert_eq!(worker.requests()[0].text(), body.to_string());

    // Left out now, without being asked again.
    let before = dropping.requests().len();
    chat(queen.queen(), &[], &body).await.expect(200).await;
    assert_eq!(dropping.requests().len(), before);
}

#[actix_web::test]
async fn when_all_refuse_the_client_learns_it_and_then_when_to_come_again() {
    let site = Site::new();
    let queen = site.start("queen", &site.queen_config()).await;
    let workers = json!([
        report("a", json!({"url": closed_url()})),
        report("b", json!({"url": closed_url()})),
    ]);
    let _hive = Heartbeats::start(queen.queen(), "h", workers).await;
    let body = chat_body("m", "hello", false);
    let answer = chat(queen.queen(), &[], &body).await.expect(502).await;
    assert!(answer["error"]["message"].is_string(), "{answer}");
    chat(queen.queen(), &[], &body).await.expect_retry_after(503).await;
}

#[actix_web::test]
async fn a_worker_that_refused_is_asked_again_later() {
    let site = Site::new();
    let queen = site.start("queen", &site.queen_config()).await;
    let worker = RawWorker::start(|request| match request.number {
        0 => Reply::Close(Vec::new()),
        _ => Reply::ok(),
    })
    .await;
    let workers = json!([report("a", json!({"url": worker.url()}))]);
    let _hive = Heartbeats::start(queen.queen(), "h", workers).await;
    let body = chat_body("m", "hello", false);
    let first = chat(queen.queen(), &[], &body).await;
    assert_eq!(first.status, 502);
    // Five seconds, and some for a busy machine.
    crate::support::eventually(secs(8), async || {
        let answer = chat(queen.queen(), &[], &body).await;
        if answer.status == 200 { Ok(()) } else { Err(answer.status) }
    })
    .await;
}

#[actix_web::test]
async fn a_pooled_connection_that_was_closed_meanwhile_is_no_refusal() {
    let site = Site::new();
    let queen = site.start("queen", &site.queen_config()).await;
    // Says nothing of closing, and does so right after each answer.
    let worker = RawWorker::start(|_| {
        Reply::Close(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}".into())
    })
    .await;
    let workers = json!([report("a", json!({"url": worker.url()}))]);
    let _hive = Heartbeats::start(queen.queen(), "h", workers).await;
    for _ in 0..50 {
        chat(queen.queen(), &[], &chat_body("m", "hello", false)).await.expect(200).await;
    }
}

#[actix_web::test]
async fn a_pooled_connection_that_closes_as_the_request_arrives_is_no_refusal() {
    let site = Site::new();
    let queen = site.start("queen", &site.queen_config()).await;
    let worker = RawWorker::start(|request| match request.on_connection {
        0 => Reply::ok(),
        _ => Reply::Close(Vec::new()),
    })
    .await;
    let workers = json!([report("a", json!({"url": worker.url()}))]);
    let _hive = Heartbeats::start(queen.queen(), "h", workers).await;
    for _ in 0..20 {
        chat(queen.queen(), &[], &chat_body("m", "hello", false)).await.expect(200).await;
    }
}

#[actix_web::test]
async fn a_workers_own_errors_pass_as_they_are() {
    let site = Site::new();
    let queen = site.start("queen", &site.queen_config()).await;
    let busy = b"{\"error\":{\"message\":\"slow down\",\"type\":\"t\",\"code\":\"c\"}}";
    let broken = b"{\"error\": \"out of memory\"  }";
    let worker = RawWorker::start(|request| match request.number {
        0 => Reply::whole(
            "429 Too Many",
            "content-type: application/json\r\nretry-after: 7\r\n",
            busy,
        ),
        1 => Reply::whole("500 Oh No", "content-type: application/json\r\n", broken),
        _ => Reply::ok(),
    })
    .await;
    let workers = json!([report("a", json!({"url": worker.url()}))]);
    let _hive = Heartbeats::start(queen.queen(), "h", workers).await;
    let body = chat_body("m", "hello", false);

    let answer = chat(queen.queen(), &[], &body).await;
    assert_eq!((answer.status, answer.worker()), (429, "h/llm/a"));
    assert_eq!(answer.header("retry-after"), Some("7"));
    assert_eq!(answer.rest().await, busy);
    let answer = chat(queen.queen(), &[], &body).await;
    assert_eq!((answer.status, answer.worker()), (500, "h/llm/a"));
    assert_eq!(answer.rest().await, broken);
    // Neither was tried twice, nor is the worker out for it.
    chat(queen.queen(), &[], &body).await.expect(200).await;
    assert_eq!(worker.requests().len(), 3);
}
