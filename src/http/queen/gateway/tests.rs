#![allow(clippy::unwrap_used, reason = "a test says what it expects")]

use super::*;
use crate::http::queen::fixtures::state;
use crate::limits::{
    GATEWAY_BODIES_MAX, GATEWAY_PAUSE_MAX, GATEWAY_REQUESTS_MAX, GATEWAY_SENT_WITHIN,
    tests::Counting,
};
use actix_web::{App, http::StatusCode, test};
use serde_json::{Value, json};

async fn call(state: QueenState, request: test::TestRequest) -> (StatusCode, Value) {
    let app = App::new().app_data(web::Data::new(state)).configure(super::super::configure);
    let app = test::init_service(app).await;
    let response = test::call_service(&app, request.to_request()).await;
    let status = response.status();
    (status, serde_json::from_slice(&test::read_body(response).await).unwrap())
}

fn chat(body: &Value) -> test::TestRequest {
    test::TestRequest::post().uri("/v1/chat/completions").set_payload(body.to_string())
}

#[actix::test]
async fn without_workers_the_list_is_empty_and_every_model_unknown() {
    let list = call(state(), test::TestRequest::get().uri("/v1/models")).await;
    assert_eq!(list, (StatusCode::OK, json!({"object": "list", "data": []})));
    for path in ["/v1/chat/completions", "/v1/completions", "/v1/embeddings"] {
        let (status, body) = call(state(), chat(&json!({"model": "m"})).uri(path)).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        assert_eq!(body["error"]["code"], "model_not_found", "{path}");
    }
}

#[actix::test]
async fn what_cannot_be_routed_is_refused_with_its_reason() {
    let good = json!({"model": "m"});
    let loops = ("via", "1.1 rbee, 1.1 rbee, 1.1 rbee, 1.1 rbee, 1.1 rbee");
    for (request, status, code) in [
        (chat(&json!({})), 400, "missing_model"),
        (chat(&json!(["m"])), 400, "invalid_json"),
        (chat(&good).insert_header(("content-encoding", "gzip")), 415, "unknown_encoding"),
        (chat(&good).insert_header(("x-rbee-session", "a\tb")), 400, "invalid_header"),
        (chat(&good).insert_header(loops), 508, "loop_detected"),
        (chat(&good).insert_header(("content-length", "33554433")), 413, "body_too_large"),
    ] {
        let (was, body) = call(state(), request).await;
        assert_eq!((was.as_u16(), body["error"]["code"].as_str()), (status, Some(code)));
    }
}

#[actix::test]
async fn too_many_requests_or_bytes_are_told_to_come_back() {
    let full = state();
    let mut loads: Vec<_> =
        (0..GATEWAY_REQUESTS_MAX).map(|_| full.gateway_intake.begin()).collect();
    assert!(loads.iter_mut().all(|load| load.enqueue().is_ok()));
    let (status, _) = call(full.clone(), chat(&json!({"model": "m"}))).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    drop(loads);
    let mut load = full.gateway_intake.begin();
    load.grow(GATEWAY_BODIES_MAX).unwrap();
    let (status, _) = call(full, chat(&json!({"model": "m"}))).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
}

/// A body that comes a byte at a time.
async fn drip(pause: Duration) -> web::Payload {
    let pieces = futures_util::stream::unfold((), move |()| async move {
        tokio::time::sleep(pause).await;
        Some((Ok(bytes::Bytes::from_static(b" ")), ()))
    });
    let request = test::TestRequest::default().to_http_request();
    let pieces: std::pin::Pin<Box<dyn futures_util::Stream<Item = _>>> = Box::pin(pieces);
    let mut payload = actix_web::dev::Payload::from(pieces);
    <web::Payload as actix_web::FromRequest>::from_request(&request, &mut payload).await.unwrap()
}

/// In time that passes only when nothing else does.
#[actix::test]
async fn a_body_may_pause_and_last_for_so_long() {
    tokio::time::pause();
    let (headers, state) = (actix_web::http::header::HeaderMap::new(), state());
    let ms = Duration::from_millis(1);
    for (limit, pause) in [
        (Limit::GatewayPause, GATEWAY_PAUSE_MAX + ms),
        (Limit::GatewayTime, GATEWAY_PAUSE_MAX - ms),
    ] {
        let (begun, counting) = (tokio::time::Instant::now(), Counting::of(limit));
        let mut load = state.gateway_intake.begin();
        let late = body::read(&headers, drip(pause).await, &mut load).await.unwrap_err();
        assert_eq!(late.code(), "body_timeout");
        let took = begun.elapsed();
        let within =
            if limit == Limit::GatewayPause { GATEWAY_PAUSE_MAX } else { GATEWAY_SENT_WITHIN };
        assert!(took >= within && took <= within + GATEWAY_PAUSE_MAX, "{limit:?}: {took:?}");
        counting.counted();
    }
}
