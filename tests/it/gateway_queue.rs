//! Slots and the queue for them.

use crate::support::{
    Api, Heartbeats, RawWorker, Reply, Site, chat, chat_body, echo, eventually, free_port,
    in_progress, ready_workers, report, secs,
};
use serde_json::json;
use std::{cell::RefCell, rc::Rc};
use tokio::sync::mpsc::UnboundedSender;

type Hands = Rc<RefCell<Vec<(String, UnboundedSender<Vec<u8>>)>>>;

/// A worker that answers when the test says so; each request's body comes with its hand.
async fn by_hand() -> (RawWorker, Hands) {
    let hands = Hands::default();
    let given = Rc::clone(&hands);
    let worker = RawWorker::start(move |request| {
        let (hand, reply) = Reply::steps();
        given.borrow_mut().push((request.text(), hand));
        reply
    })
    .await;
    (worker, hands)
}

fn let_go(hands: &Hands) -> String {
    let (body, hand) = hands.borrow_mut().remove(0);
    hand.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}".to_vec()).unwrap();
    body
}

/// Sends a chat whose answer is awaited elsewhere; its number is its text.
fn ask(queen: &Api, number: usize) -> actix_web::rt::task::JoinHandle<u16> {
    let queen = queen.clone();
    actix_web::rt::spawn(async move {
        let answer = chat(&queen, &[], &chat_body("m", &format!("number {number}."), false)).await;
        let status = answer.status;
        answer.rest().await;
        status
    })
}

#[actix_web::test]
async fn who_came_first_is_served_first_and_a_full_queue_says_so() {
    let site = Site::new();
    let mut config = site.queen_config();
    config["queen"]["gateway"] = json!({"queue_limit": 3});
    let queen = site.start("queen", &config).await;
    let queen = queen.queen();
    let (worker, hands) = by_hand().await;
    let workers = json!([report("1", json!({"url": worker.url(), "slots": 1}))]);
    let _beats = Heartbeats::start(queen, "h", workers).await;
    let mut asked = vec![ask(queen, 0)];
    worker.asked(1).await;
    // A request that waits shows only by the next one's being refused; those before it are let in
    // one by one, each on a connection of its own.
    for number in 1..=3 {
        asked.push(ask(queen, number));
        tokio::time::timeout(secs(5), queued(queen, number)).await.expect("it waits");
    }
    chat(queen, &[], &chat_body("m", "one too many", false)).await.expect_retry_after(429).await;
    for number in 0..=3 {
        worker.asked(number + 1).await;
        let body = let_go(&hands);
        assert!(body.contains(&format!("number {number}.")), "{body} is not number {number}");
    }
    for asked in asked {
        assert_eq!(asked.await.unwrap(), 200);
    }
    assert_eq!(worker.requests().len(), 4);
}

/// Waits until so many wait.
async fn queued(queen: &Api, number: usize) {
    eventually(secs(5), async || {
        let explained = queen.get("/v1/schedule/explain?model=m").await.expect(200);
        let waiting = explained["queued"].as_u64();
        if waiting == Some(number as u64) { Ok(()) } else { Err(explained) }
    })
    .await;
}

#[actix_web::test]
async fn who_waits_too_long_is_told_and_who_leaves_is_not_served() {
    let site = Site::new();
    let mut config = site.queen_config();
    config["queen"]["gateway"] = json!({"queue_timeout_ms": 300});
    let queen = site.start("queen", &config).await;
    let queen = queen.queen();
    let (worker, hands) = by_hand().await;
    let workers = json!([report("1", json!({"url": worker.url(), "slots": 1}))]);
    let _beats = Heartbeats::start(queen, "h", workers).await;
    let first = ask(queen, 0);
    worker.asked(1).await;
    chat(queen, &[], &chat_body("m", "too long", false)).await.expect_retry_after(503).await;
    let leaving = ask(queen, 1);
    queued(queen, 1).await;
    leaving.abort();
    queued(queen, 0).await;
    let_go(&hands);
    assert_eq!(first.await.unwrap(), 200);
    assert_eq!(worker.requests().len(), 1);
}

#[actix_web::test]
async fn a_reservation_is_a_slot_for_the_request_that_names_it() {
    let site = Site::new();
    let mut config = site.queen_config();
    config["queen"]["gateway"] = json!({"queue_timeout_ms": 100});
    let queen = site.start("queen", &config).await;
    let queen = queen.queen();
    let worker = RawWorker::obliging().await;
    let workers = json!([
        report("1", json!({"url": worker.url(), "slots": 1})),
        report("2", json!({"url": worker.url(), "slots": 1, "model": "other"})),
    ]);
    let _beats = Heartbeats::start(queen, "h", workers).await;
    let held = queen.post("/v1/schedule", json!({"model": "m"})).await.expect(200);
    let id = held["reservation_id"].as_str().unwrap();
    chat(queen, &[], &chat_body("m", "a", false)).await.expect_retry_after(503).await;
    let with = [("x-rbee-reservation", id)];
    chat(queen, &with, &chat_body("other", "a", false)).await.expect(409).await;
    let answer = chat(queen, &with, &chat_body("m", "a", false)).await;
    assert_eq!(answer.worker(), "h/llm/1");
    answer.expect(200).await;
    chat(queen, &with, &chat_body("m", "a", false)).await.expect(409).await;
    chat(queen, &[], &chat_body("m", "a", false)).await.expect(200).await;
    let unknown = [("x-rbee-reservation", "00000000-0000-4000-8000-000000000000")];
    chat(queen, &unknown, &chat_body("m", "a", false)).await.expect(404).await;
    let sent = worker.requests();
    assert!(sent.iter().all(|request| request.head.get("x-rbee-reservation").is_none()));
}

#[actix_web::test]
async fn a_thousand_requests_over_several_hives_never_exceed_the_slots_and_all_are_answered() {
    const SLOTS: u64 = 3;
    let site = Site::new();
    let mut config = site.queen_config();
    config["queen"]["gateway"] = json!({"queue_limit": 2_000, "queue_timeout_ms": 60_000});
    let queen = site.start("queen", &config).await;
    let (mut hives, mut workers) = (Vec::new(), Vec::new());
    for hive in 0..3 {
        let ports = [free_port(), free_port()];
        let mut config = site.hive_config(Some(queen.queen().url()));
        config["hive"]["id"] = json!(format!("hive-{hive}"));
        config["hive"]["state_dir"] = json!(site.path(&format!("state-{hive}")));
        config["hive"]["cgroup"] = json!({"mode": "off"});
        config["hive"]["workers"] =
            ports.iter().map(|port| echo(*port, "tiny", 1, json!({"slots": SLOTS}))).collect();
        hives.push(site.start(&format!("hive-{hive}"), &config).await);
        workers.extend(ports.map(|port| Api::new(format!("http://127.0.0.1:{port}"))));
    }
    let queen = queen.queen();
    ready_workers(queen, workers.len(), secs(10)).await;
    let watch = actix_web::rt::spawn(async move {
        let mut most = 0;
        loop {
            for worker in &workers {
                most = most.max(in_progress(worker).await);
                assert!(most <= SLOTS, "{most} at once on a worker with {SLOTS} slots");
            }
        }
    });
    let body = chat_body("tiny", "one two three four", false);
    let asked = (0..1_000).map(|_| async {
        let answer = chat(queen, &[], &body).await;
        answer.expect(200).await;
    });
    futures_util::future::join_all(asked).await;
    assert!(!watch.is_finished(), "a worker had too many");
    watch.abort();
    let explained = queen.get("/v1/schedule/explain?model=tiny").await.expect(200);
    let booked = explained["workers"].as_array().unwrap().iter().map(|w| w["requests"].as_u64());
    assert!(booked.clone().all(|requests| requests == Some(0)), "{explained}");
}
