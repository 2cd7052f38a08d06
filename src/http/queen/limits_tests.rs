//! What a client of the queen or a hive can run into, at the limit and one beyond.
#![allow(clippy::unwrap_used, reason = "a test says what it expects")]

use super::{fixtures::state, *};
use crate::{
    actors::fleet::fixtures::{heartbeat, worker},
    contract::{ExitRecord, GpuStats, HiveHeartbeat, LifecycleEvent},
    http::small_body,
    limits::{tests::Counting, *},
};
use actix_web::{
    App, FromRequest as _, ResponseError as _,
    dev::{Payload, ServiceResponse},
    error::PayloadError,
    http::{StatusCode, header::HeaderMap},
    test::{self, TestRequest},
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use serde_json::{Value, json};
use std::{io::Write as _, time::Duration};

async fn call(state: &QueenState, request: TestRequest) -> (u16, Value) {
    let app = App::new().app_data(web::Data::new(state.clone())).configure(configure);
    let app = test::init_service(app).await;
    let answer: ServiceResponse<_> = test::call_service(&app, request.to_request()).await;
    let status = answer.status().as_u16();
    (status, serde_json::from_slice(&test::read_body(answer).await).unwrap_or(Value::Null))
}

async fn beat(state: &QueenState, body: impl Into<Bytes>, encoding: &'static str) -> u16 {
    let request = TestRequest::post().uri("/v1/hive-heartbeat").set_payload(body);
    call(state, request.insert_header(("content-encoding", encoding))).await.0
}

fn ask(path: &str, body: &Value) -> TestRequest {
    TestRequest::post().uri(path).set_payload(body.to_string())
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[actix_web::test]
async fn a_heartbeats_body_is_bounded_as_it_comes_and_as_it_becomes() {
    let state = state();
    let mut body = serde_json::to_vec(&heartbeat("h", vec![worker("a", "1")])).unwrap();
    body.resize(HEARTBEAT_BODY_MAX, b' ');
    let forms = |body: &[u8]| {
        let zstd = zstd::encode_all(body, 1).unwrap();
        [("identity", body.to_vec()), ("gzip", gzip(body)), ("zstd", zstd)]
    };
    for (encoding, body) in forms(&body) {
        assert_eq!(beat(&state, body, encoding).await, 200, "{encoding}");
    }
    body.push(b' ');
    for (encoding, body) in forms(&body) {
        let counting = Counting::of(Limit::HeartbeatBody);
        assert_eq!(beat(&state, body, encoding).await, 413, "{encoding}");
        counting.counted();
    }
}

type Fill = fn(&mut HiveHeartbeat, usize);

fn exit(lines: usize) -> ExitRecord {
    let tail = vec!["x"; lines];
    serde_json::from_value(
        json!({"at": "2026-01-01T00:00:00Z", "uptime_s": 1, "log_tail": tail, "next": "stopped"}),
    )
    .unwrap()
}

fn event() -> LifecycleEvent {
    serde_json::from_value(
        json!({"seq": 1, "type": "worker_started", "at": "2026-01-01T00:00:00Z", "group": "a",
        "instance": "1", "state": "starting"}),
    )
    .unwrap()
}

/// Every limit of a heartbeat's content: how it is filled, and how far.
const CONTENT: [(Limit, usize, Fill); 10] = [
    (Limit::HeartbeatWorkers, HEARTBEAT_WORKERS_MAX, |h, n| {
        h.workers = (0..n).map(|i| worker("a", &i.to_string())).collect();
    }),
    (Limit::HeartbeatEvents, HEARTBEAT_EVENTS_MAX, |h, n| h.events = vec![event(); n]),
    (Limit::HeartbeatGpus, HEARTBEAT_GPUS_MAX, |h, n| h.node.gpus = vec![GpuStats::default(); n]),
    (Limit::HeartbeatAliases, HEARTBEAT_ALIASES_MAX, |h, n| {
        h.workers[0].model_aliases = vec!["m".into(); n];
    }),
    (Limit::HeartbeatPids, HEARTBEAT_PIDS_MAX, |h, n| h.workers[0].pids = vec![1; n]),
    (Limit::HeartbeatLogTail, HEARTBEAT_LOG_TAIL_MAX, |h, n| {
        h.workers[0].last_exit = Some(exit(n));
    }),
    (Limit::HeartbeatHostname, HEARTBEAT_HOSTNAME_MAX, |h, n| h.hive.hostname = "a".repeat(n)),
    (Limit::HeartbeatInterval, HEARTBEAT_INTERVAL_MAX_MS as usize, |h, n| {
        h.interval_ms = Some(n as u64);
    }),
    (Limit::HeartbeatWord, WORD_MAX, |h, n| h.hive.version = "v".repeat(n)),
    (Limit::HeartbeatText, TEXT_MAX, |h, n| h.workers[0].model = Some("m".repeat(n))),
];

#[actix_web::test]
async fn what_a_heartbeat_holds_is_bounded() {
    for (limit, most, fill) in CONTENT {
        let state = state();
        let filled = |n| {
            let mut filled = heartbeat("h", vec![worker("a", "1")]);
            fill(&mut filled, n);
            serde_json::to_vec(&filled).unwrap()
        };
        assert_eq!(beat(&state, filled(most), "identity").await, 200, "{limit:?}");
        let counting = Counting::of(limit);
        assert_eq!(beat(&state, filled(most + 1), "identity").await, 400, "{limit:?}");
        counting.counted();
    }
}

#[actix_web::test]
async fn json_is_bounded_in_depth_and_in_objects() {
    let state = state();
    let with = |more: String| {
        let plain = serde_json::to_string(&heartbeat("h", vec![worker("a", "1")])).unwrap();
        plain.replacen('{', &format!("{{\"more\":{more},"), 1)
    };
    let nested = |depth: usize| with("[".repeat(depth) + &"]".repeat(depth));
    let own = with("0".into()).matches('{').count();
    let many = |n: usize| with(format!("[{}0]", "{},".repeat(n - own)));
    for (limit, at, beyond) in [
        (Limit::JsonDepth, nested(JSON_DEPTH_MAX - 1), nested(JSON_DEPTH_MAX)),
        (Limit::JsonObjects, many(JSON_OBJECTS_MAX), many(JSON_OBJECTS_MAX + 1)),
    ] {
        assert_eq!(beat(&state, at, "identity").await, 200, "{limit:?}");
        let counting = Counting::of(limit);
        assert_eq!(beat(&state, beyond, "identity").await, 400, "{limit:?}");
        counting.counted();
    }
    let chat = |depth: usize| {
        let body = "[".repeat(depth) + &"]".repeat(depth);
        TestRequest::post()
            .uri("/v1/chat/completions")
            .set_payload(format!("{{\"messages\":{body},\"model\":\"m\"}}"))
    };
    assert_eq!(call(&state, chat(JSON_DEPTH_MAX - 1)).await.0, 404);
    assert_eq!(call(&state, chat(JSON_DEPTH_MAX)).await.0, 400);
}

#[actix_web::test]
async fn what_heartbeats_hold_and_how_many_wait_is_bounded() {
    let state = state();
    let body = serde_json::to_vec(&heartbeat("h", vec![])).unwrap();
    let mut held = state.intake.begin();
    held.grow(INTAKE_BYTES_MAX - body.len()).unwrap();
    assert_eq!(beat(&state, body.clone(), "identity").await, 200);
    held.grow(1).unwrap();
    let counting = Counting::of(Limit::IntakeBytes);
    assert_eq!(beat(&state, body.clone(), "identity").await, 503);
    counting.counted();
    drop(held);

    let mut waiting: Vec<_> = (1..INTAKE_WAITING_MAX).map(|_| state.intake.begin()).collect();
    waiting.iter_mut().for_each(|load| load.enqueue().unwrap());
    assert_eq!(beat(&state, body.clone(), "identity").await, 200);
    let mut last = state.intake.begin();
    last.enqueue().unwrap();
    let counting = Counting::of(Limit::IntakeWaiting);
    assert_eq!(beat(&state, body.clone(), "identity").await, 503);
    counting.counted();
    drop((waiting, last));

    let behind = |n| (0..n).map(|_| state.stream_stats.publish(Vec::new())).collect::<Vec<_>>();
    let counting = Counting::of(Limit::StreamBacklog);
    let held = behind(STREAM_BACKLOG_MAX);
    assert_eq!(beat(&state, body.clone(), "identity").await, 503);
    counting.counted();
    drop(held);
    assert_eq!(beat(&state, body, "identity").await, 200);
}

#[actix_web::test]
async fn what_is_asked_of_the_scheduler_is_bounded() {
    let state = state();
    for (limit, key, at, beyond) in [
        (
            Limit::ReservationTime,
            "ttl_ms",
            json!(RESERVATION_MAX_MS),
            json!(RESERVATION_MAX_MS + 1),
        ),
        (
            Limit::SessionName,
            "session",
            json!("s".repeat(SESSION_NAME_MAX)),
            json!("s".repeat(SESSION_NAME_MAX + 1)),
        ),
        (
            Limit::HeartbeatText,
            "model",
            json!("m".repeat(TEXT_MAX)),
            json!("m".repeat(TEXT_MAX + 1)),
        ),
    ] {
        // Nobody is there to take it: that is the answer to what is well asked.
        assert_eq!(call(&state, ask("/v1/schedule", &json!({key: at}))).await.0, 503, "{key}");
        let counting = Counting::of(limit);
        assert_eq!(call(&state, ask("/v1/schedule", &json!({key: beyond}))).await.0, 400, "{key}");
        counting.counted();
    }
    let listed = |n| TestRequest::get().uri(&format!("/v1/workers?model={}", "m".repeat(n)));
    assert_eq!(call(&state, listed(TEXT_MAX)).await.0, 200);
    assert_eq!(call(&state, listed(TEXT_MAX + 1)).await.0, 400);
}

#[actix_web::test]
async fn a_refusal_says_why_for_so_many_workers() {
    let state = state();
    for (n, omitted) in [(REJECTIONS_MAX, 0), (REJECTIONS_MAX + 1, 1)] {
        let workers = (0..n).map(|i| worker("a", &i.to_string())).collect();
        let body = serde_json::to_vec(&heartbeat("h", workers)).unwrap();
        assert_eq!(beat(&state, body, "identity").await, 200);
        let counting = Counting::of(Limit::Rejections);
        let (status, refusal) = call(&state, ask("/v1/schedule", &json!({"group": "none"}))).await;
        assert_eq!((status, refusal["rejected"].as_array().unwrap().len()), (503, REJECTIONS_MAX));
        assert_eq!(refusal["rejected_omitted"].as_u64().unwrap_or(0), omitted);
        counting.at_least(omitted);
    }
}

#[actix_web::test]
async fn a_request_to_the_gateway_is_bounded() {
    let state = state();
    let chat = |body: Vec<u8>| TestRequest::post().uri("/v1/chat/completions").set_payload(body);
    let mut body = br#"{"model":"m"}"#.to_vec();
    body.resize(GATEWAY_BODY_MAX, b' ');
    // Nobody has the model: that is the answer to what is well asked.
    assert_eq!(call(&state, chat(body.clone())).await.0, 404);
    body.push(b' ');
    let counting = Counting::of(Limit::GatewayBody);
    assert_eq!(call(&state, chat(body)).await.0, 413);
    counting.counted();

    let named = |n| chat(json!({"model": "m".repeat(n)}).to_string().into_bytes());
    assert_eq!(call(&state, named(GATEWAY_MODEL_MAX)).await.0, 404);
    let counting = Counting::of(Limit::GatewayModel);
    assert_eq!(call(&state, named(GATEWAY_MODEL_MAX + 1)).await.0, 400);
    counting.counted();

    let small = || chat(br#"{"model":"m"}"#.to_vec());
    let via = |n| small().insert_header(("via", vec!["1.1 rbee"; n].join(", ")));
    assert_eq!(call(&state, via(GATEWAY_HOPS_MAX)).await.0, 404);
    let counting = Counting::of(Limit::GatewayHops);
    assert_eq!(call(&state, via(GATEWAY_HOPS_MAX + 1)).await.0, 508);
    counting.counted();

    let session = |n| small().insert_header(("x-rbee-session", "s".repeat(n)));
    assert_eq!(call(&state, session(SESSION_NAME_MAX)).await.0, 404);
    let counting = Counting::of(Limit::SessionName);
    assert_eq!(call(&state, session(SESSION_NAME_MAX + 1)).await.0, 400);
    counting.counted();
}

#[actix_web::test]
async fn what_the_gateway_has_in_hand_is_bounded() {
    let state = state();
    let chat = || ask("/v1/chat/completions", &json!({"model": "m"}));
    let mut loads: Vec<_> =
        (1..GATEWAY_REQUESTS_MAX).map(|_| state.gateway_intake.begin()).collect();
    loads.iter_mut().for_each(|load| load.enqueue().unwrap());
    assert_eq!(call(&state, chat()).await.0, 404);
    let mut last = state.gateway_intake.begin();
    last.enqueue().unwrap();
    let counting = Counting::of(Limit::GatewayRequests);
    assert_eq!(call(&state, chat()).await.0, 503);
    counting.counted();
    drop((loads, last));

    let mut held = state.gateway_intake.begin();
    held.grow(GATEWAY_BODIES_MAX - r#"{"model":"m"}"#.len()).unwrap();
    assert_eq!(call(&state, chat()).await.0, 404);
    held.grow(1).unwrap();
    let counting = Counting::of(Limit::GatewayBodies);
    assert_eq!(call(&state, chat()).await.0, 503);
    counting.counted();
}

/// A port that nobody has.
fn closed_url() -> String {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", free.local_addr().unwrap())
}

#[actix_web::test]
async fn a_request_is_offered_to_so_many_workers() {
    for n in [GATEWAY_TRIES_MAX - 1, GATEWAY_TRIES_MAX + 1] {
        let state = state();
        let workers = (0..n).map(|i| {
            let mut one = worker("a", &i.to_string());
            (one.model, one.url, one.pid) = (Some("m".into()), Some(closed_url()), Some(1));
            one
        });
        let body = serde_json::to_vec(&heartbeat("h", workers.collect())).unwrap();
        assert_eq!(beat(&state, body, "identity").await, 200);
        let counting = Counting::of(Limit::GatewayTries);
        let chat = ask("/v1/chat/completions", &json!({"model": "m"}));
        assert_eq!(call(&state, chat).await.0, 502);
        counting.at_least(u64::from(n > GATEWAY_TRIES_MAX));
    }
}

type Piece = Result<Bytes, PayloadError>;

fn payload(pieces: impl Stream<Item = Piece> + 'static) -> Payload {
    Payload::from(pieces.boxed_local())
}

async fn web_payload(pieces: impl Stream<Item = Piece> + 'static) -> web::Payload {
    let request = TestRequest::default().to_http_request();
    web::Payload::from_request(&request, &mut payload(pieces)).await.unwrap()
}

/// A piece each time that so much has passed.
fn every(pause: Duration) -> impl Stream<Item = Piece> {
    stream::unfold((), move |()| async move {
        tokio::time::sleep(pause).await;
        Some((Ok(Bytes::from_static(b" ")), ()))
    })
}

/// In time that passes only when nothing else does.
#[actix_web::test]
async fn a_body_is_bounded_in_time() {
    tokio::time::pause();
    let state = state();
    let request = TestRequest::default().to_http_request();
    let begun = Instant::now();
    let counting = Counting::of(Limit::HeartbeatTime);
    let mut load = state.intake.begin();
    let late = body::read(&request, payload(every(ms(100))), &mut load).await.unwrap_err();
    assert_eq!(late.status_code(), StatusCode::REQUEST_TIMEOUT);
    assert!(
        (HEARTBEAT_WITHIN..HEARTBEAT_WITHIN + ms(100)).contains(&begun.elapsed()),
        "{:?}",
        begun.elapsed()
    );
    counting.counted();

    let counting = Counting::of(Limit::SmallBodyTime);
    let begun = Instant::now();
    let late =
        small_body::read(&HeaderMap::new(), web_payload(every(ms(100))).await).await.unwrap_err();
    assert_eq!(late.status_code(), StatusCode::REQUEST_TIMEOUT);
    assert!(
        (SMALL_BODY_WITHIN..SMALL_BODY_WITHIN + ms(100)).contains(&begun.elapsed()),
        "{:?}",
        begun.elapsed()
    );
    counting.counted();
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[actix_web::test]
async fn a_small_body_is_bounded_in_size() {
    let whole = |n| stream::once(async move { Ok(Bytes::from(vec![b' '; n])) });
    let read = small_body::read(&HeaderMap::new(), web_payload(whole(SMALL_BODY_MAX)).await).await;
    assert_eq!(read.unwrap().len(), SMALL_BODY_MAX);
    let counting = Counting::of(Limit::SmallBody);
    let refused =
        small_body::read(&HeaderMap::new(), web_payload(whole(SMALL_BODY_MAX + 1)).await).await;
    assert_eq!(refused.unwrap_err().status_code(), StatusCode::PAYLOAD_TOO_LARGE);
    counting.counted();
}

/// Whatever claims to be compressed is read within bounds, or refused.
fn fuzz_encoding(corpus: &str, encoding: &'static str) {
    actix_web::rt::System::new().block_on(async {
        let request = TestRequest::default().insert_header(("content-encoding", encoding));
        let (request, intake) = (request.to_http_request(), std::sync::Arc::new(Intake::default()));
        crate::fuzz::fuzz(corpus, |bytes| {
            let mut load = intake.begin();
            let sent = Bytes::copy_from_slice(bytes);
            let pieces = stream::once(async move { Ok(sent) });
            let read = body::read(&request, payload(pieces), &mut load);
            let read = futures_util::FutureExt::now_or_never(read);
            // What takes a thread of its own is not waited for here.
            if let Some(Ok(body)) = read {
                assert!(body.len() <= HEARTBEAT_BODY_MAX);
            }
        });
    });
}

#[test]
fn fuzz_gzip() {
    fuzz_encoding("gzip", "gzip");
}

#[test]
fn fuzz_zstd() {
    fuzz_encoding("zstd", "zstd");
}
