//! Requests for which there is no place yet, or never will be.

use crate::support::{
    Daemon, Heartbeats, RawWorker, Site, chat, chat_body, eventually, ms, report, secs,
};
use actix_web::rt::spawn;
use futures_util::future::{Either, select};
use serde_json::{Value, json};
use std::{pin::pin, time::Instant};

async fn queen_with(site: &Site, gateway: Value) -> Daemon {
    let mut config = site.queen_config();
    config["queen"]["gateway"] = gateway;
    site.start("queen", &config).await
}

/// Ends what a [`RawWorker::held`] was holding.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";

#[actix_web::test]
async fn those_who_wait_are_served_in_the_order_they_came_in() {
    let site = Site::new();
    let queen = queen_with(&site, json!({})).await;
    let (worker, held) = RawWorker::held().await;
    let workers = json!([report("a", json!({"slots": 1, "url": worker.url()}))]);
    let _hive = Heartbeats::start(queen.queen(), "h", workers).await;

    let mut waiting = Vec::new();
    // They come 100 ms apart, which is their order; nothing else is waited for here.
    let mut pace = tokio::time::interval(ms(100));
    for number in 0..8 {
        pace.tick().await;
        let api = queen.queen().clone();
        waiting.push(spawn(async move {
            let answer = chat(&api, &[], &chat_body("m", &format!("<{number}>"), false)).await;
            answer.expect(200).await
        }));
    }
    worker.asked(1).await;
    assert_eq!(worker.requests().len(), 1, "there is one slot");
    held.send(ANSWER.into()).expect("the worker waits for it");
    drop(held);
    for one in waiting {
        one.await.expect("each of them is answered");
    }
    let bodies: Vec<_> = worker.requests().iter().map(|request| request.text()).collect();
    assert_eq!(bodies.len(), 8);
    for (number, body) in bodies.iter().enumerate() {
        assert!(body.contains(&format!("<{number}>")), "{number}. was {body}");
    }
}

#[actix_web::test]
async fn a_full_queue_is_told_at_once() {
    let site = Site::new();
    let queen = queen_with(&site, json!({"queue_limit": 1})).await;
    let (worker, held) = RawWorker::held().await;
    let workers = json!([report("a", json!({"slots": 1, "url": worker.url()}))]);
    let _hive = Heartbeats::start(queen.queen(), "h", workers).await;
    let body = chat_body("m", "hello", false);
    let ask = || chat(queen.queen(), &[], &body);
    let rest = async {
        worker.asked(1).await;
        // Of two more, one waits and the other is turned away, whichever came first.
        let start = Instant::now();
        match select(pin!(ask()), pin!(ask())).await {
            Either::Left((turned_away, waiting)) | Either::Right((turned_away, waiting)) => {
                turned_away.expect_retry_after(429).await;
                assert_eq!(queen.queen().reached("gateway_queue").await, 1);
                assert!(start.elapsed() < secs(3), "it took {:?}", start.elapsed());
                held.send(ANSWER.into()).expect("the worker waits for it");
                drop(held);
                waiting.await.expect(200).await;
            }
        }
    };
    let (first, ()) = futures_util::future::join(ask(), rest).await;
    first.expect(200).await;
    assert_eq!(worker.requests().len(), 2);
}

#[actix_web::test]
async fn waiting_ends_in_time() {
    let site = Site::new();
    let queen = queen_with(&site, json!({"queue_timeout_ms": 500})).await;
    let (worker, held) = RawWorker::held().await;
    let workers = json!([report("a", json!({"slots": 1, "url": worker.url()}))]);
    let _hive = Heartbeats::start(queen.queen(), "h", workers).await;
    let body = chat_body("m", "hello", false);
    let rest = async {
        worker.asked(1).await;
        let start = Instant::now();
        chat(queen.queen(), &[], &body).await.expect_retry_after(503).await;
        assert!((ms(490)..secs(4)).contains(&start.elapsed()), "{:?}", start.elapsed());
        assert_eq!(queen.queen().reached("gateway_queue_time").await, 1);
        held.send(ANSWER.into()).expect("the worker waits for it");
        drop(held);
    };
    let (first, ()) = futures_util::future::join(chat(queen.queen(), &[], &body), rest).await;
    first.expect(200).await;
    assert_eq!(worker.requests().len(), 1);
}

#[actix_web::test]
async fn a_place_that_a_heartbeat_brings_is_taken_by_who_waits() {
    let site = Site::new();
    let queen = queen_with(&site, json!({})).await;
    let worker = RawWorker::obliging().await;
    let full = json!({"slots": 1, "requests_running": 1, "url": worker.url()});
    let hive = Heartbeats::start(queen.queen(), "h", json!([report("a", full)])).await;
    let body = chat_body("m", "hello", false);
    let asked = chat(queen.queen(), &[], &body);
    let freed = async {
        assert!(worker.requests().is_empty());
        hive.set("/workers/0/requests_running", json!(0)).await;
    };
    let (answer, ()) = futures_util::future::join(asked, freed).await;
    answer.expect(200).await;
}

#[actix_web::test]
async fn a_model_that_nobody_declares_is_not_found() {
    let site = Site::new();
    let queen = queen_with(&site, json!({})).await;
    let _hive = Heartbeats::start(queen.queen(), "h", json!([report("a", json!({}))])).await;
    for path in ["/v1/chat/completions", "/v1/completions", "/v1/embeddings"] {
        let body = json!({"model": "nobody's", "messages": [], "prompt": "x", "input": "x"});
        let answer = queen.queen().post(path, body).await;
        crate::support::assert_is_error(&answer, 404, "nobody's");
    }
}

#[actix_web::test]
async fn a_model_whose_workers_are_all_out_is_to_be_asked_for_again() {
    let site = Site::new();
    let queen = queen_with(&site, json!({})).await;
    let workers = json!([
        report("a", json!({"state": "starting"})),
        report("b", json!({"state": "backoff"})),
        report("c", json!({"state": "draining"})),
    ]);
    let _hive = Heartbeats::start(queen.queen(), "h", workers).await;
    let start = Instant::now();
    let answer = chat(queen.queen(), &[], &chat_body("m", "hello", false)).await;
    answer.expect_retry_after(503).await;
    assert!(start.elapsed() < secs(5), "it took {:?}", start.elapsed());
}

#[actix_web::test]
async fn a_client_that_leaves_the_queue_is_never_served() {
    let site = Site::new();
    let queen = queen_with(&site, json!({"queue_limit": 1})).await;
    let (worker, held) = RawWorker::held().await;
    let workers = json!([report("a", json!({"slots": 1, "url": worker.url()}))]);
    let _hive = Heartbeats::start(queen.queen(), "h", workers).await;
    let ask = async |said: &str| chat(queen.queen(), &[], &chat_body("m", said, false)).await;
    let rest = async {
        worker.asked(1).await;
        let leaver = queen.queen().clone();
        let leaver =
            spawn(async move { chat(&leaver, &[], &chat_body("m", "<leaver>", false)).await });
        // The queue is full once it waits there. Who asks too early takes its place and gives it
        // up again, so that it must not ask before the other had its time to come in.
        let mut pace = tokio::time::interval_at(tokio::time::Instant::now() + ms(400), ms(50));
        eventually(secs(5), async || {
            pace.tick().await;
            match tokio::time::timeout(ms(500), ask("<probe>")).await {
                Ok(answer) if answer.status == 429 => Ok(()),
                Ok(answer) => Err(answer.status),
                Err(_) => Err(0),
            }
        })
        .await;
        leaver.abort();
        // Its place in the queue is free again before anybody was served.
        let next = eventually(secs(5), async || {
            let mut next = Box::pin(ask("<next>"));
            match tokio::time::timeout(ms(500), &mut next).await {
                Ok(answer) => Err(answer.status),
                Err(_) => Ok(next),
            }
        })
        .await;
        held.send(ANSWER.into()).expect("the worker waits for it");
        drop(held);
        next.await.expect(200).await;
    };
    let (first, ()) = futures_util::future::join(ask("<first>"), rest).await;
    first.expect(200).await;
    let requests = worker.requests();
    let bodies: Vec<_> = requests.iter().map(|request| request.text()).collect();
    assert!(bodies.iter().all(|body| !body.contains("<leaver>")), "{bodies:?}");
}
