//! A place that was taken: how long it lasts, and what ends it.

use crate::support::{
    Api, Heartbeats, RawWorker, Site, assert_is_error, chat, chat_body, eventually, ms, report,
    secs,
};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Takes the one place there is.
async fn take(queen: &Api, ttl_ms: u64) -> String {
    let taken = queen.post("/v1/schedule", json!({"ttl_ms": ttl_ms})).await.expect(200);
    taken["reservation_id"].as_str().expect("it has an id").to_owned()
}

/// Waits until the one place there is can be taken, and takes it.
async fn take_once_free(queen: &Api, deadline: Duration) -> Value {
    eventually(deadline, async || {
        let answer = queen.post("/v1/schedule", json!({})).await;
        if answer.status == 200 { Ok(answer.json) } else { Err(answer) }
    })
    .await
}

async fn one_slot(queen: &Api) -> Heartbeats {
    Heartbeats::start(queen, "h", json!([report("a", json!({"slots": 1}))])).await
}

fn path(id: &str) -> String {
    format!("/v1/reservations/{id}")
}

#[actix_web::test]
async fn a_reservation_that_is_given_back_is_free_and_unknown() {
    let site = Site::new();
    let queen = site.start("queen", &site.queen_config()).await;
    let _hive = one_slot(queen.queen()).await;
    let id = take(queen.queen(), 30_000).await;
    queen.queen().post("/v1/schedule", json!({})).await.expect(503);
    assert_eq!(queen.queen().delete(&path(&id)).await.status, 204);
    assert_is_error(&queen.queen().delete(&path(&id)).await, 404, &id);
    assert_is_error(&queen.queen().put(&path(&id)).await, 404, &id);
    take(queen.queen(), 30_000).await;
}

#[actix_web::test]
async fn a_reservation_ends_by_itself_in_time() {
    let site = Site::new();
    let queen = site.start("queen", &site.queen_config()).await;
    let _hive = one_slot(queen.queen()).await;
    let start = Instant::now();
    let id = take(queen.queen(), 800).await;
    take_once_free(queen.queen(), secs(4)).await;
    assert!(start.elapsed() >= ms(790), "it was free after {:?}", start.elapsed());
    assert_is_error(&queen.queen().put(&path(&id)).await, 404, &id);
    assert_is_error(&queen.queen().delete(&path(&id)).await, 404, &id);
}

#[actix_web::test]
async fn a_reservation_that_is_renewed_lasts_on() {
    let site = Site::new();
    let queen = site.start("queen", &site.queen_config()).await;
    let _hive = one_slot(queen.queen()).await;
    let id = take(queen.queen(), 3_000).await;
    let start = Instant::now();
    // Renewed again and again until well past its first end.
    eventually(secs(8), async || {
        let renewed = queen.queen().put(&path(&id)).await.expect(200);
        assert_eq!(renewed["reservation_id"], id.as_str());
        assert_eq!(renewed["worker"]["instance"], "a");
        assert!(renewed["url"].is_string());
        let left = renewed["expires_in_ms"].as_u64().expect("a number");
        assert!((2_000..=3_000).contains(&left), "{left}");
        queen.queen().post("/v1/schedule", json!({})).await.expect(503);
        if start.elapsed() > ms(4_500) { Ok(()) } else { Err("going on") }
    })
    .await;
    take_once_free(queen.queen(), secs(6)).await;
}

#[actix_web::test]
async fn a_reservation_ends_with_its_worker() {
    let site = Site::new();
    let queen = site.start("queen", &site.queen_config()).await;
    let hive = one_slot(queen.queen()).await;
    let gone = take(queen.queen(), 60_000).await;
    let workers = json!([report("b", json!({"slots": 1}))]);
    hive.set("/workers", workers).await;
    assert_is_error(&queen.queen().put(&path(&gone)).await, 404, &gone);

    let dead = take(queen.queen(), 60_000).await;
    hive.set("/workers/0/state", json!("backoff")).await;
    assert_is_error(&queen.queen().put(&path(&dead)).await, 404, &dead);
    hive.set("/workers/0/state", json!("ready")).await;
    take(queen.queen(), 60_000).await;
}

#[actix_web::test]
async fn a_request_with_a_reservation_uses_the_place_that_it_holds() {
    let site = Site::new();
    let queen = site.start("queen", &site.queen_config()).await;
    let (one, other) = (RawWorker::obliging().await, RawWorker::obliging().await);
    let workers = json!([
        report("a", json!({"slots": 1, "url": one.url()})),
        report("b", json!({"slots": 1, "url": other.url(), "requests_running": 1})),
    ]);
    let _hive = Heartbeats::start(queen.queen(), "h", workers).await;
    let id = take(queen.queen(), 30_000).await;
    queen.queen().post("/v1/schedule", json!({})).await.expect(503);

    let body = chat_body("m", "hello", false);
    let header = [("x-rbee-reservation", id.as_str())];
    let answer = chat(queen.queen(), &header, &body).await;
    assert_eq!(answer.worker(), "h/llm/a");
    answer.expect(200).await;
    assert_eq!((one.requests().len(), other.requests().len()), (1, 0));

    let again = chat(queen.queen(), &header, &body).await.expect(409).await;
    assert!(again["error"]["message"].is_string(), "{again}");
    take_once_free(queen.queen(), secs(2)).await;
    assert_eq!(one.requests().len(), 1);
}

#[actix_web::test]
async fn a_request_holds_its_reservation_until_it_ends_however_short_that_was() {
    let site = Site::new();
    let queen = site.start("queen", &site.queen_config()).await;
    let (worker, pieces) = RawWorker::held().await;
    let workers = json!([report("a", json!({"slots": 1, "url": worker.url()}))]);
    let _hive = Heartbeats::start(queen.queen(), "h", workers).await;
    let start = Instant::now();
    let id = take(queen.queen(), 500).await;
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nab";
    pieces.send(head.into()).expect("the worker waits for it");
    let body = chat_body("m", "hello", true);
    let mut answer = chat(queen.queen(), &[("x-rbee-reservation", &id)], &body).await;
    answer.at_least(2).await;
    eventually(secs(4), async || {
        queen.queen().post("/v1/schedule", json!({})).await.expect(503);
        if start.elapsed() > ms(1_500) { Ok(()) } else { Err("going on") }
    })
    .await;
    pieces.send("cd".into()).expect("the worker waits for it");
    assert_eq!(answer.rest().await, b"cd");
    take_once_free(queen.queen(), secs(2)).await;
}

#[actix_web::test]
async fn a_request_with_a_reservation_that_is_not_known_is_refused() {
    let site = Site::new();
    let queen = site.start("queen", &site.queen_config()).await;
    let worker = RawWorker::obliging().await;
    let workers = json!([report("a", json!({"url": worker.url()}))]);
    let _hive = Heartbeats::start(queen.queen(), "h", workers).await;
    let header = [("x-rbee-reservation", "5c7c1a1e-0000-4000-8000-000000000000")];
    chat(queen.queen(), &header, &chat_body("m", "hello", false)).await.expect(404).await;
    assert!(worker.requests().is_empty());
}
