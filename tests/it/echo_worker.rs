//! The stand-in for an inference server, as a process.

use crate::support::{Api, Daemon, Site, eventually, in_progress, ms, secs};
use awc::Client;
use futures_util::StreamExt;
use serde_json::{Value, json};
use std::time::Instant;

async fn start(site: &Site, extra: &[&str]) -> (Daemon, Api) {
    let arguments = [&["echo-worker", "--port", "0", "--model", "tiny"], extra].concat();
    let mut worker = site.spawn("echo-worker", &arguments);
    let url = worker
        .log_line(|line| {
            let (_, rest) = line.split_once("echo-worker listening on ")?;
            rest.split_ascii_whitespace().next().map(str::to_owned)
        })
        .await;
    (worker, Api::new(url))
}

fn chat(stream: bool) -> Value {
    let messages = json!([{"role": "user", "content": "to be or not to be"}]);
    json!({"model": "tiny", "stream": stream, "messages": messages})
}

#[actix_web::test]
async fn it_answers_at_the_address_that_it_prints() {
    let site = Site::new();
    let (_worker, api) = start(&site, &[]).await;
    assert_eq!(api.get("/health").await.expect(200), json!({"status": "ok"}));
    let answer = api.post("/v1/chat/completions", chat(false)).await.expect(200);
    assert_eq!(answer["choices"][0]["message"]["content"], "to be or not to be");
    let stream = api.post("/v1/chat/completions", chat(true)).await;
    assert!(stream.text.ends_with("data: [DONE]\n\n"), "{}", stream.text);
}

#[actix_web::test]
async fn a_client_that_leaves_ends_its_request_at_once() {
    let site = Site::new();
    let (mut worker, api) = start(&site, &["--delay-ms", "60000"]).await;
    let request = Client::default().post(format!("{}/v1/chat/completions", api.url()));
    let mut answer = request.send_json(&chat(true)).await.unwrap();
    answer.next().await.expect("a first chunk").unwrap();
    assert_eq!(in_progress(&api).await, 1);
    drop(answer);
    eventually(secs(2), async || match in_progress(&api).await {
        0 => Ok(()),
        other => Err(other),
    })
    .await;
    worker.log_line(|line| line.contains("request cancelled").then_some(())).await;
}

#[actix_web::test]
async fn an_open_stream_does_not_hold_up_its_end() {
    let site = Site::new();
    let (mut worker, api) = start(&site, &["--delay-ms", "60000"]).await;
    let request = Client::default().post(format!("{}/v1/chat/completions", api.url()));
    let mut answer = request.send_json(&chat(true)).await.unwrap();
    answer.next().await.expect("a first chunk").unwrap();
    let start = Instant::now();
    assert!(worker.terminate(secs(2)).await.success());
    assert!(start.elapsed() < ms(1000), "took {:?}", start.elapsed());
}
