#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what it expects"
)]

use super::*;
use actix_web::test::{TestRequest, call_service, init_service, read_body};
use serde_json::Value;

fn engine(delay_ms: u64) -> web::Data<Engine> {
    let args = EchoArgs { port: 0, model: "tiny".into(), host: "127.0.0.1".into(), delay_ms };
    web::Data::new(Engine::new(&args))
}

async fn send(request: TestRequest) -> (StatusCode, String) {
    let app = init_service(App::new().app_data(engine(0)).configure(routes)).await;
    let response = call_service(&app, request.to_request()).await;
    let status = response.status();
    (status, String::from_utf8(read_body(response).await.to_vec()).unwrap())
}

async fn post(path: &str, body: Value) -> (StatusCode, Value) {
    let (status, text) = send(TestRequest::post().uri(path).set_json(body)).await;
    (status, serde_json::from_str(&text).unwrap())
}

async fn post_stream(path: &str, body: Value) -> Vec<Value> {
    let (status, text) = send(TestRequest::post().uri(path).set_json(body)).await;
    assert_eq!(status, 200);
    let frames = text.strip_suffix("data: [DONE]\n\n").expect("ends with [DONE]");
    frames
        .split_terminator("\n\n")
        .map(|frame| serde_json::from_str(frame.strip_prefix("data: ").unwrap()).unwrap())
        .collect()
}

async fn assert_refused(path: &str, body: Value, status: u16, field: &str) {
    let (got, answer) = post(path, body).await;
    assert_eq!(got, status, "{answer}");
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.contains(field), "{message:?} does not name {field:?}");
    assert!(answer["error"]["type"].is_string() && answer["error"]["code"].is_string());
}

#[actix_web::test]
async fn a_chat_echoes_the_last_message_of_the_user() {
    let (status, answer) = post(
        "/v1/chat/completions",
        json!({"model": "tiny", "messages": [
            {"role": "user", "content": "first"},
            {"role": "user", "content": [
                {"type": "text", "text": "to be "}, {"type": "image_url", "image_url": {}},
                {"type": "text", "text": "or not"}]},
            {"role": "assistant", "content": null},
        ]}),
    )
    .await;
    assert_eq!(status, 200);
    assert_eq!(answer["object"], "chat.completion");
    assert_eq!(
        answer["choices"][0]["message"],
        json!({"role": "assistant", "content": "to be or not"})
    );
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    assert_eq!(
        answer["usage"],
        json!({"prompt_tokens": 5, "completion_tokens": 4, "total_tokens": 9})
    );
}

#[actix_web::test]
async fn max_tokens_cuts_and_says_so() {
    let messages = json!([{"role": "user", "content": "one two three"}]);
    let body = json!({"messages": messages, "max_tokens": 2});
    let (_, answer) = post("/v1/chat/completions", body).await;
    assert_eq!(answer["choices"][0]["message"]["content"], "one two");
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    let body = json!({"messages": messages, "max_completion_tokens": 3, "max_tokens": null});
    let (_, answer) = post("/v1/chat/completions", body).await;
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
}

#[actix_web::test]
async fn a_streamed_chat_is_role_words_reason_and_usage() {
    let chunks = post_stream(
        "/v1/chat/completions",
        json!({"model": "tiny", "stream": true, "stream_options": {"include_usage": true},
               "messages": [{"role": "user", "content": "to be"}]}),
    )
    .await;
    let deltas: Vec<_> = chunks.iter().map(|chunk| chunk["choices"][0]["delta"].clone()).collect();
    assert_eq!(deltas[0], json!({"role": "assistant", "content": ""}));
    assert_eq!(deltas[1..3], [json!({"content": "to"}), json!({"content": " be"})]);
    assert_eq!(chunks[3]["choices"][0]["finish_reason"], "stop");
    assert_eq!(chunks[4]["choices"], json!([]));
    assert_eq!(chunks[4]["usage"]["total_tokens"], 4);
    assert!(chunks.iter().all(|chunk| chunk["id"] == chunks[0]["id"]));
}

#[actix_web::test]
async fn a_completion_echoes_its_prompt_streamed_or_not() {
    let (_, answer) = post("/v1/completions", json!({"model": "tiny", "prompt": ["a b"]})).await;
    assert_eq!(answer["choices"][0]["text"], "a b");
    let chunks =
        post_stream("/v1/completions", json!({"prompt": "a b c", "stream": true, "max_tokens": 2}))
            .await;
    let texts: String =
        chunks.iter().map(|chunk| chunk["choices"][0]["text"].as_str().unwrap()).collect();
    assert_eq!(texts, "a b");
    assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "length");
}

#[actix_web::test]
async fn embeddings_come_one_for_each_input() {
    let (_, answer) = post("/v1/embeddings", json!({"model": "tiny", "input": ["a", "b c"]})).await;
    assert_eq!(answer["data"].as_array().unwrap().len(), 2);
    assert_eq!(answer["data"][1]["index"], 1);
    assert_eq!(answer["usage"]["prompt_tokens"], 3);
    assert!(answer["note"].as_str().unwrap().contains("stand-in"));
}

#[actix_web::test]
async fn what_is_wrong_is_named() {
    let chat = "/v1/chat/completions";
    assert_refused(chat, json!({"model": "other", "messages": []}), 404, "\"tiny\"").await;
    assert_refused(chat, json!({"model": "tiny"}), 400, "messages").await;
    assert_refused(chat, json!({"messages": []}), 400, "messages").await;
    assert_refused(
        chat,
        json!({"messages": [{"role": "user", "content": 7}]}),
        400,
        "messages[0].content",
    )
    .await;
    assert_refused(chat, json!({"messages": [], "max_tokens": -1}), 400, "max_tokens").await;
    assert_refused(chat, json!({"messages": [], "stream": "yes"}), 400, "stream").await;
    assert_refused("/v1/completions", json!({"prompt": ["a", "b"]}), 400, "prompt").await;
    assert_refused("/v1/embeddings", json!({"input": []}), 400, "input").await;
    assert_refused("/v1/nothing", json!({}), 404, "/v1/nothing").await;
    assert_refused("/health", json!({}), 405, "GET").await;
}

#[actix_web::test]
async fn models_and_health_and_metrics_answer() {
    let (_, models) = send(TestRequest::get().uri("/v1/models")).await;
    assert_eq!(serde_json::from_str::<Value>(&models).unwrap()["data"][0]["id"], "tiny");
    assert_eq!(
        send(TestRequest::get().uri("/health")).await,
        (StatusCode::OK, r#"{"status":"ok"}"#.into())
    );
    let (_, page) = send(TestRequest::get().uri("/metrics")).await;
    assert!(page.contains("llamacpp:requests_processing 0\n"));
    assert!(page.contains("llamacpp:requests_deferred 0\n"));
}

#[actix_web::test]
async fn a_stream_that_its_client_left_counts_no_longer() {
    let engine = engine(60_000);
    let app = init_service(App::new().app_data(engine.clone()).configure(routes)).await;
    let body = json!({"stream": true, "messages": [{"role": "user", "content": "a b c"}]});
    let request = TestRequest::post().uri("/v1/chat/completions").set_json(body).to_request();
    let response = call_service(&app, request).await;
    assert_eq!(engine.load.processing(), 1);
    drop(response);
    assert_eq!(engine.load.processing(), 0);
}
