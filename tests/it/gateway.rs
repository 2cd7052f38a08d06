//! The gateway in front of real echo workers: answers, failover, death, cancellation, drain.

use crate::support::{
    Api, Daemon, Heartbeats, RawWorker, Reply, Site, chat, chat_body, echo, eventually, free_port,
    in_progress, proc, ready_workers, report, secs, send,
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// A queen and a hive with these workers, all ready.
async fn with_workers(site: &Site, workers: Value) -> (Daemon, Daemon) {
    let count = workers.as_array().unwrap().len();
    let (queen, hive) = site.start_both(workers).await;
    ready_workers(queen.queen(), count, secs(10)).await;
    (queen, hive)
}

#[actix_web::test]
async fn each_endpoint_answers_as_the_worker_does_and_names_it() {
    let site = Site::new();
    let port = free_port();
    let (queen, _hive) = with_workers(&site, json!([echo(port, "tiny", 0, json!({}))])).await;
    let queen = queen.queen();
    let models = queen.get("/v1/models").await.expect(200);
    assert_eq!((&models["object"], &models["data"][0]["id"]), (&json!("list"), &json!("tiny")));
    let answer = chat(queen, &[], &chat_body("tiny", "to be", false)).await;
    assert_eq!(answer.worker(), format!("test-hive/echo/{port}"));
    let whole = answer.expect(200).await;
    assert_eq!(whole["choices"][0]["message"]["content"], "to be");
    let stream = chat(queen, &[], &chat_body("tiny", "to be", true)).await;
    assert_eq!(stream.header("content-type"), Some("text/event-stream"));
    let text = String::from_utf8(stream.rest().await).unwrap();
    assert!(text.ends_with("data: [DONE]\n\n") && text.contains("\" be\""), "{text}");
    let completion = json!({"model": "tiny", "prompt": "hello"});
    let completion = queen.post("/v1/completions", completion).await.expect(200);
    assert_eq!(completion["choices"][0]["text"], "hello");
    let embedding = json!({"model": "tiny", "input": "hello"});
    let embedding = queen.post("/v1/embeddings", embedding).await.expect(200);
    assert_eq!(embedding["data"][0]["object"], "embedding");
}

#[actix_web::test]
async fn what_cannot_be_placed_is_answered_and_says_why() {
    let site = Site::new();
    let queen = site.start("queen", &site.queen_config()).await;
    let queen = queen.queen();
    let starting = json!([report("1", json!({"state": "starting"}))]);
    let beats = Heartbeats::start(queen, "h", starting).await;
    let unknown = chat(queen, &[], &chat_body("nobody", "a", false)).await.expect(404).await;
    assert_eq!(unknown["error"]["code"], "model_not_found");
    chat(queen, &[], &chat_body("m", "a", false)).await.expect_retry_after(503).await;
    // Nobody listens there.
    beats
        .set(
            "/workers",
            json!([report("1", json!({"url": format!("http://127.0.0.1:{}", free_port())}))]),
        )
        .await;
    chat(queen, &[], &chat_body("m", "a", false)).await.expect(502).await;
    let left_out = chat(queen, &[], &chat_body("m", "a", false)).await;
    left_out.expect_retry_after(503).await;
    for (body, named) in
        [("", "JSON"), ("{}", "model"), (r#"{"model": 1}"#, "model"), ("[1]", "object")]
    {
        let answer = send(queen, "POST", "/v1/chat/completions", &[], body).await.unwrap();
        let error = answer.expect(400).await;
        let message = error["error"]["message"].as_str().unwrap();
        assert!(message.contains(named), "{message}");
    }
}

#[actix_web::test]
async fn a_worker_that_refuses_is_passed_over_and_the_client_does_not_notice() {
    let site = Site::new();
    let queen = site.start("queen", &site.queen_config()).await;
    let queen = queen.queen();
    let dropping = RawWorker::start(|_| Reply::Close(Vec::new())).await;
    let good = RawWorker::obliging().await;
    let workers = json!([
        report("dropping", json!({"url": dropping.url()})),
        report("closed", json!({"url": format!("http://127.0.0.1:{}", free_port())})),
        report("good", json!({"url": good.url(), "requests_running": 1})),
    ]);
    let _beats = Heartbeats::start(queen, "h", workers).await;
    for _ in 0..6 {
        let answer = chat(queen, &[], &chat_body("m", "a", false)).await;
        assert_eq!(answer.worker(), "h/llm/good");
        answer.expect(200).await;
    }
    // Each was asked once, and is left out since then.
    assert_eq!((dropping.requests().len(), good.requests().len()), (1, 6));
    let explained = queen.get("/v1/schedule/explain?model=m").await.expect(200);
    let left_out = explained["workers"].as_array().unwrap().iter().filter(|worker| {
        worker["reason"].as_str().is_some_and(|why| why.starts_with("refused a connection"))
    });
    assert_eq!(left_out.count(), 2, "{explained}");
}

#[actix_web::test]
async fn a_worker_killed_in_mid_stream_ends_the_stream_as_broken() {
    let site = Site::new();
    let port = free_port();
    let (queen, _hive) = with_workers(&site, json!([echo(port, "tiny", 500, json!({}))])).await;
    let mut answer = chat(queen.queen(), &[], &chat_body("tiny", "a b c d e f", true)).await;
    answer.at_least(10).await;
    let worker = queen.queen().worker(&format!("test-hive/echo/{port}")).await;
    proc::signal(worker["pid"].as_u64().unwrap() as u32, Signal::SIGKILL);
    answer.expect_broken().await;
}

#[actix_web::test]
async fn a_client_that_leaves_in_mid_stream_cancels_its_request() {
    let site = Site::new();
    let port = free_port();
    let (queen, _hive) = with_workers(&site, json!([echo(port, "tiny", 60_000, json!({}))])).await;
    let worker = Api::new(format!("http://127.0.0.1:{port}"));
    let mut answer = chat(queen.queen(), &[], &chat_body("tiny", "a b c", true)).await;
    answer.at_least(10).await;
    assert_eq!(in_progress(&worker).await, 1);
    drop(answer);
    eventually(secs(2), async || match in_progress(&worker).await {
        0 => Ok(()),
        n => Err(n),
    })
    .await;
    let explained = queen.queen().get("/v1/schedule/explain?model=tiny").await.expect(200);
    assert_eq!(explained["workers"][0]["requests"], 0);
}

#[actix_web::test]
async fn a_client_that_leaves_before_the_first_byte_cancels_its_request() {
    let site = Site::new();
    let queen = site.start("queen", &site.queen_config()).await;
    let worker = RawWorker::start(|_| Reply::Never).await;
    let workers = json!([report("1", json!({"url": worker.url()}))]);
    let _beats = Heartbeats::start(queen.queen(), "h", workers).await;
    let api = queen.queen().clone();
    let asking = actix_web::rt::spawn(async move {
        chat(&api, &[], &chat_body("m", "a", false)).await;
    });
    worker.asked(1).await;
    asking.abort();
    worker.client_left().await;
}

#[actix_web::test]
async fn a_worker_that_does_not_begin_or_go_on_in_time_is_given_up() {
    let site = Site::new();
    let mut config = site.queen_config();
    config["queen"]["gateway"] = json!({"first_byte_timeout_ms": 200, "idle_timeout_ms": 200});
    let queen = site.start("queen", &config).await;
    let queen = queen.queen();
    let silent = RawWorker::start(|_| Reply::Never).await;
    let (stalling, hand) = RawWorker::held().await;
    let workers = json!([
        report("1", json!({"url": silent.url(), "model": "silent"})),
        report("2", json!({"url": stalling.url(), "model": "stalling"})),
    ]);
    let _beats = Heartbeats::start(queen, "h", workers).await;
    chat(queen, &[], &chat_body("silent", "a", false)).await.expect(504).await;
    silent.client_left().await;
    assert_eq!(silent.requests().len(), 1, "it is not asked again");
    hand.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nsome".to_vec()).unwrap();
    chat(queen, &[], &chat_body("stalling", "a", false)).await.expect_broken().await;
    stalling.client_left().await;
}

#[actix_web::test]
async fn a_drain_through_the_queen_waits_for_what_is_in_flight() {
    let site = Site::new();
    let port = free_port();
    let (queen, _hive) = with_workers(&site, json!([echo(port, "tiny", 300, json!({}))])).await;
    let queen = queen.queen();
    let mut answer = chat(queen, &[], &chat_body("tiny", "a b c d e f", true)).await;
    answer.at_least(10).await;
    let path = format!("/v1/hives/test-hive/workers/echo/{port}/drain");
    let early = queen.post(&format!("{path}?timeout_ms=100"), json!({})).await;
    assert_eq!(early.status, 504, "{}", early.text);
    let (drained, rest) =
        futures_util::future::join(queen.post(&path, json!({})), answer.rest()).await;
    assert_eq!(drained.expect(200)["state"], "draining");
    assert!(String::from_utf8(rest).unwrap().ends_with("data: [DONE]\n\n"));
    chat(queen, &[], &chat_body("tiny", "a", false)).await.expect_retry_after(503).await;
    let wrong = queen.post(&format!("{path}?timeout_ms=soon"), json!({})).await;
    assert_eq!(wrong.status, 400, "{}", wrong.text);
}

#[actix_web::test]
async fn a_queen_that_stops_lets_answers_come_to_their_end() {
    let site = Site::new();
    let port = free_port();
    let (mut queen, _hive) = with_workers(&site, json!([echo(port, "tiny", 300, json!({}))])).await;
    let mut answer = chat(queen.queen(), &[], &chat_body("tiny", "a b c d", true)).await;
    answer.at_least(10).await;
    let (status, rest) = futures_util::future::join(queen.terminate(secs(8)), answer.rest()).await;
    assert!(status.success());
    assert!(String::from_utf8(rest).unwrap().ends_with("data: [DONE]\n\n"));
}
