//! The gateway with real workers: what is asked of the queen is answered by one of them.

use crate::support::{
    Api, Daemon, Heartbeats, RawWorker, Site, chat, chat_body, echo, eventually, free_port,
    in_progress, ms, ready_workers, report, secs, send,
};
use serde_json::{Value, json};
use std::time::Instant;

/// A queen, a hive, and one echo worker of model `m`.
async fn with_one(site: &Site, delay_ms: u64) -> (Daemon, Daemon, Value) {
    let (queen, hive) = site.start_both(json!([echo(free_port(), "m", delay_ms, json!({}))])).await;
    let worker = ready_workers(queen.queen(), 1, secs(10)).await.remove(0);
    (queen, hive, worker)
}

fn api_of(worker: &Value) -> Api {
    Api::new(worker["url"].as_str().expect("it serves").to_owned())
}

#[actix_web::test]
async fn a_chat_is_answered_by_a_worker_that_is_named() {
    let site = Site::new();
    let (queen, _hive, worker) = with_one(&site, 0).await;
    let answer = chat(queen.queen(), &[], &chat_body("m", "to be or not", false)).await;
    assert_eq!(answer.worker(), crate::placement::name(&worker));
    assert!(answer.header("content-type").is_some_and(|of| of.starts_with("application/json")));
    let answer = answer.expect(200).await;
    assert_eq!(answer["choices"][0]["message"]["content"], "to be or not");
}

#[actix_web::test]
async fn a_streamed_chat_is_a_stream_of_events() {
    let site = Site::new();
    let (queen, _hive, worker) = with_one(&site, 0).await;
    let answer = chat(queen.queen(), &[], &chat_body("m", "to be", true)).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.worker(), crate::placement::name(&worker));
    assert!(answer.header("content-type").is_some_and(|of| of.starts_with("text/event-stream")));
    let text = String::from_utf8(answer.rest().await).expect("it is text");
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    assert!(text.contains("\"content\":\"to\"") && text.contains("\"content\":\" be\""), "{text}");
}

#[actix_web::test]
async fn completions_and_embeddings_go_the_same_way() {
    let site = Site::new();
    let (queen, _hive, _worker) = with_one(&site, 0).await;
    let body = json!({"model": "m", "prompt": "to be"});
    let answer = queen.queen().post("/v1/completions", body).await.expect(200);
    assert_eq!(answer["choices"][0]["text"], "to be");
    let body = json!({"model": "m", "input": ["a", "b"]});
    let answer = queen.queen().post("/v1/embeddings", body).await.expect(200);
    assert_eq!(answer["data"].as_array().map(Vec::len), Some(2));
}

#[actix_web::test]
async fn each_model_is_listed_once() {
    let site = Site::new();
    let queen = site.start("queen", &site.queen_config()).await;
    let workers = json!([
        report("a", json!({})),
        report("b", json!({})),
        report("c", json!({"model": "other"})),
        report("d", json!({"model": null})),
    ]);
    let _hive = Heartbeats::start(queen.queen(), "h", workers).await;
    let list = queen.queen().get("/v1/models").await.expect(200);
    assert_eq!(list["object"], "list");
    let models = list["data"].as_array().expect("a list");
    assert!(models.iter().all(|model| model["object"] == "model"), "{list}");
    let mut ids: Vec<_> = models.iter().map(|model| model["id"].as_str().expect("an id")).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["m", "other"]);
}

#[actix_web::test]
async fn requests_of_one_session_go_to_one_worker() {
    let site = Site::new();
    let queen = site.start("queen", &site.queen_config()).await;
    let raw =
        [RawWorker::obliging().await, RawWorker::obliging().await, RawWorker::obliging().await];
    let workers = json!([
        report("a", json!({"url": raw[0].url()})),
        report("b", json!({"url": raw[1].url()})),
        report("c", json!({"url": raw[2].url()})),
    ]);
    let _hive = Heartbeats::start(queen.queen(), "h", workers).await;
    for _ in 0..6 {
        let header = [("x-rbee-session", "one conversation")];
        chat(queen.queen(), &header, &chat_body("m", "hello", false)).await.expect(200).await;
    }
    let counts = raw.each_ref().map(|worker| worker.requests().len());
    assert!(counts.contains(&6), "{counts:?}");
}

#[actix_web::test]
async fn what_cannot_be_read_is_refused_before_any_worker_sees_it() {
    let site = Site::new();
    let queen = site.start("queen", &site.queen_config()).await;
    let raw = RawWorker::obliging().await;
    let workers = json!([report("a", json!({"url": raw.url()}))]);
    let _hive = Heartbeats::start(queen.queen(), "h", workers).await;
    for body in ["not JSON", "{\"messages\": []}", "{\"model\": 7}", "[]"] {
        let sent = send(queen.queen(), "POST", "/v1/chat/completions", &[], body).await;
        let answer = sent.expect("there is an answer").expect(400).await;
        assert!(answer["error"]["message"].is_string(), "{answer}");
    }
    assert!(raw.requests().is_empty());
}

#[actix_web::test]
async fn a_drain_through_the_queen_waits_for_what_is_in_flight() {
    let site = Site::new();
    let (queen, _hive, worker) = with_one(&site, 200).await;
    let body = chat_body("m", "one two three four five six seven eight", true);
    let mut answer = chat(queen.queen(), &[], &body).await;
    answer.at_least(1).await;

    let instance = worker["instance"].as_str().expect("it has one");
    let path = format!("/v1/hives/test-hive/workers/echo/{instance}/drain?timeout_ms=15000");
    let drained = async {
        queen.queen().post(&path, json!({})).await.expect(200);
        Instant::now()
    };
    let ended = async {
        let text = String::from_utf8(answer.rest().await).expect("it is text");
        assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
        Instant::now()
    };
    let (drained, ended) = futures_util::future::join(drained, ended).await;
    // The queen may see the end a moment before the client does.
    assert!(drained + ms(300) > ended, "drained {:?} before the end", ended - drained);
    assert_eq!(in_progress(&api_of(&worker)).await, 0);
    let name = format!("test-hive/echo/{instance}");
    queen.queen().worker_in_state(&name, "draining").await;
    chat(queen.queen(), &[], &body).await.expect_retry_after(503).await;
}

#[actix_web::test]
async fn a_drain_through_the_queen_gives_up_in_time() {
    let site = Site::new();
    let (queen, _hive, worker) = with_one(&site, 60_000).await;
    let mut answer = chat(queen.queen(), &[], &chat_body("m", "one two", true)).await;
    answer.at_least(1).await;
    let instance = worker["instance"].as_str().expect("it has one");
    let path = format!("/v1/hives/test-hive/workers/echo/{instance}/drain?timeout_ms=300");
    let start = Instant::now();
    queen.queen().post(&path, json!({})).await.expect(504);
    assert!((ms(290)..secs(5)).contains(&start.elapsed()), "{:?}", start.elapsed());
    drop(answer);
    let api = api_of(&worker);
    eventually(secs(3), async || match in_progress(&api).await {
        0 => Ok(()),
        count => Err(count),
    })
    .await;
}
