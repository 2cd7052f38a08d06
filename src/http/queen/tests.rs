#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says what it expects")]

use super::{fixtures::state, *};
use crate::http::{idle::Connections, socket};
use crate::limits::HEARTBEAT_BODY_MAX;
use actix_web::{
    App, HttpServer,
    dev::{ServerHandle, ServiceResponse},
    http::{StatusCode, header},
    test,
};
use serde_json::{Value, json};
use std::{io::Write as _, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const DEADLINE: Duration = Duration::from_secs(10);

/// A macro, since the type of an initialised app has no name.
macro_rules! app {
    ($state:expr) => {
        test::init_service(App::new().app_data(web::Data::new($state.clone())).configure(configure))
            .await
    };
}

fn beat(id: &str, seq: u64) -> Value {
    json!({
        "hive": {"id": id, "hostname": "127.0.0.1", "port": 7835,
                 "operational_status": "Ready", "health_status": {"status": "HEALTHY"}},
        "timestamp": "2026-01-01T00:00:00.123Z", "boot_id": "boot", "seq": seq,
        "workers": [{"group": "llm", "instance": "8080", "model": "m", "cpu_pct": 12.5}],
    })
}

fn post(body: impl Into<Vec<u8>>) -> test::TestRequest {
    test::TestRequest::post().uri("/v1/hive-heartbeat").set_payload(body.into())
}

async fn read<B: actix_web::body::MessageBody>(
    response: ServiceResponse<B>,
) -> (StatusCode, Value) {
    let status = response.status();
    let body = test::read_body(response).await;
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

/// A macro for the same reason; what it yields is the status and the body as JSON.
macro_rules! call {
    ($app:expr, $request:expr) => {
        read(test::call_service($app, $request.to_request()).await).await
    };
}

fn get_at(uri: &str) -> test::TestRequest {
    test::TestRequest::get().uri(uri)
}

#[actix_web::test]
async fn an_answered_heartbeat_is_stored() {
    let state = state();
    let app = app!(state);
    let (status, ack) = call!(&app, post(beat("h", 1).to_string()));
    assert_eq!((status, &ack["status"]), (StatusCode::OK, &json!("ok")));
    let (_, hives) = call!(&app, get_at("/v1/hives"));
    assert_eq!(hives["hives"][0]["id"], "h");
    assert_eq!(hives["hives"][0]["freshness"], "healthy");
    assert_eq!(hives["hives"][0]["worker_count"], 1);
    let (_, hive) = call!(&app, get_at("/v1/hives/h"));
    assert_eq!(hive["operational_status"], "ready");
    let (_, worker) = call!(&app, get_at("/v1/workers/h/llm/8080"));
    assert_eq!((&worker["hive_id"], &worker["idle"]), (&json!("h"), &json!(true)));
    assert_eq!(worker["history"][0][1], 12.5);
    let (_, workers) = call!(&app, get_at("/v1/workers?model=m&idle=true&hive=h"));
    assert_eq!(workers["workers"].as_array().unwrap().len(), 1);
    assert_eq!(workers["workers"][0].get("history"), None);
    let (_, none) = call!(&app, get_at("/v1/workers?model=other"));
    assert_eq!(none, json!({"workers": []}));
    let (_, history) = call!(&app, get_at("/v1/history?s=5"));
    assert_eq!(history["workers"][0]["history"].as_array().unwrap().len(), 1);
}

#[actix_web::test]
async fn a_browser_that_opens_the_streams_address_gets_the_dashboard() {
    let state = state();
    let app = app!(state);
    let navigation = get_at("/v1/heartbeats/stream")
        .insert_header((header::ACCEPT, "text/html,application/xhtml+xml,*/*;q=0.8"));
    let page = test::call_service(&app, navigation.to_request()).await;
    assert_eq!(page.headers().get(header::CONTENT_TYPE).unwrap(), "text/html; charset=utf-8");
    assert!(page.headers().contains_key(header::CONTENT_SECURITY_POLICY));
    assert_eq!(page.headers().get(header::VARY).unwrap(), "accept");
    let root = test::call_service(&app, get_at("/").to_request()).await;
    assert_eq!(test::read_body(page).await, test::read_body(root).await);
    let program = get_at("/v1/heartbeats/stream").insert_header((header::ACCEPT, "*/*"));
    let stream = test::call_service(&app, program.to_request()).await;
    assert_eq!(stream.headers().get(header::CONTENT_TYPE).unwrap(), "text/event-stream");
    state.close_streams().await;
}

#[actix_web::test]
async fn a_superseded_hive_is_told_what_to_do() {
    let state = state();
    let app = app!(state);
    let with_boot = |boot: &str| {
        let mut beat = beat("h", 1);
        beat["boot_id"] = boot.into();
        post(beat.to_string())
    };
    call!(&app, with_boot("first"));
    assert_eq!(call!(&app, with_boot("second")).0, StatusCode::OK);
    let (status, body) = call!(&app, with_boot("first"));
    assert_eq!(status, StatusCode::CONFLICT);
    let message = body["error"]["message"].as_str().unwrap();
    assert!(message.contains("\"h\"") && message.contains("Stop one"), "{message}");
    assert_eq!(call!(&app, with_boot("second")).0, StatusCode::OK);
}

#[actix_web::test]
async fn bad_input_is_a_400_that_names_the_place() {
    let state = state();
    let app = app!(state);
    let mut negative = beat("h", 1);
    negative["workers"][0]["cpu_pct"] = json!(-1);
    for (body, named) in [
        (negative.to_string(), "workers[0].cpu_pct"),
        (beat("../x", 1).to_string(), "hive.id"),
        (String::new(), "empty"),
        ("{".repeat(100), "nested"),
        (beat("h", 1).to_string() + "!", "trailing"),
    ] {
        let (status, answer) = call!(&app, post(body));
        assert_eq!(status, StatusCode::BAD_REQUEST);
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains(named), "{message}");
        assert_eq!(answer["error"]["type"], "invalid_request_error");
    }
    assert!(state.reader.hives(Instant::now()).is_empty());
}

#[actix_web::test]
async fn unknown_paths_methods_and_filters_are_answered_in_one_form() {
    let state = state();
    let app = app!(state);
    let (status, body) = call!(&app, get_at("/nowhere"));
    assert_eq!((status, &body["error"]["code"]), (StatusCode::NOT_FOUND, &json!("not_found")));
    assert_eq!(call!(&app, get_at("/v1/hives/none")).0, StatusCode::NOT_FOUND);
    assert_eq!(call!(&app, get_at("/v1/workers/a/b/c")).0, StatusCode::NOT_FOUND);
    let (status, body) = call!(&app, get_at("/v1/workers?colour=red"));
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(body["error"]["message"].as_str().unwrap().contains("colour"));
    let request = get_at("/v1/hive-heartbeat").to_request();
    let response = test::call_service(&app, request).await;
    assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(response.headers().get(header::ALLOW).unwrap(), "POST");
    let (_, health) = call!(&app, get_at("/health"));
    assert_eq!((&health["status"], &health["role"]), (&json!("ok"), &json!("queen")));
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn compressed(encoding: &str, body: Vec<u8>) -> test::TestRequest {
    post(body).insert_header((header::CONTENT_ENCODING, encoding))
}

#[actix_web::test]
async fn compressed_bodies_are_read_and_bounded_by_what_they_become() {
    let state = state();
    let app = app!(state);
    let text = beat("h", 1).to_string().into_bytes();
    assert_eq!(call!(&app, compressed("gzip", gzip(&text))).0, StatusCode::OK);
    let zstd = zstd::encode_all(&beat("z", 1).to_string().into_bytes()[..], 3).unwrap();
    assert_eq!(call!(&app, compressed("zstd", zstd)).0, StatusCode::OK);
    assert_eq!(state.reader.hives(Instant::now()).len(), 2);
    let spaces = vec![b' '; 64 << 20];
    for (encoding, bomb) in
        [("gzip", gzip(&spaces)), ("zstd", zstd::encode_all(&spaces[..], 3).unwrap())]
    {
        let (status, _) = call!(&app, compressed(encoding, bomb));
        assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE, "{encoding}");
    }
    let (status, _) = call!(&app, compressed("gzip", text.clone()));
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let mut cut = gzip(&text);
    cut.truncate(cut.len() / 2);
    assert_eq!(call!(&app, compressed("gzip", cut)).0, StatusCode::BAD_REQUEST);
    let (status, _) = call!(&app, compressed("br", text));
    assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

#[actix_web::test]
async fn a_body_above_the_limit_is_413() {
    let state = state();
    let app = app!(state);
    let mut body = beat("h", 1).to_string();
    body.push_str(&" ".repeat(HEARTBEAT_BODY_MAX - body.len()));
    assert_eq!(call!(&app, post(body.clone())).0, StatusCode::OK);
    body.push(' ');
    assert_eq!(call!(&app, post(body)).0, StatusCode::PAYLOAD_TOO_LARGE);
}

#[actix_web::test]
async fn heartbeats_are_503_while_too_many_wait() {
    let state = state();
    let app = app!(state);
    let mut waiting = Vec::new();
    for _ in 0..crate::limits::INTAKE_WAITING_MAX {
        let mut load = state.intake.begin();
        load.enqueue().unwrap();
        waiting.push(load);
    }
    let request = post(beat("h", 1).to_string()).to_request();
    let response = test::call_service(&app, request).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(response.headers().contains_key(header::RETRY_AFTER));
    drop(waiting);
    assert_eq!(call!(&app, post(beat("h", 1).to_string())).0, StatusCode::OK);
}

#[actix_web::test]
async fn heartbeats_are_503_while_the_stream_is_behind() {
    let state = state();
    let app = app!(state);
    let limit = crate::limits::STREAM_BACKLOG_MAX;
    let behind: Vec<_> = (0..limit).map(|_| state.stream_stats.publish(Vec::new())).collect();
    let (status, _) = call!(&app, post(beat("h", 1).to_string()));
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(state.reader.hives(Instant::now()).is_empty());
    drop(behind);
}

#[actix_web::test]
async fn a_silent_hive_is_evicted_without_anyone_asking() {
    tokio::time::pause();
    let state = state();
    let app = app!(state);
    call!(&app, post(beat("h", 1).to_string()));
    for (after_s, freshness) in [(2, json!("healthy")), (4, json!("degraded")), (11, json!("down"))]
    {
        tokio::time::sleep_until(state.started + Duration::from_secs(after_s)).await;
        let (_, hive) = call!(&app, get_at("/v1/hives/h"));
        assert_eq!(hive["freshness"], freshness);
    }
    tokio::time::sleep_until(state.started + Duration::from_secs(91)).await;
    assert_eq!(call!(&app, get_at("/v1/hives/h")).0, StatusCode::NOT_FOUND);
    assert_eq!(call!(&app, get_at("/v1/workers")).1, json!({"workers": []}));
}

/// A real server: streams are about sockets.
fn serve(state: &QueenState) -> (std::net::SocketAddr, ServerHandle) {
    let data = web::Data::new(state.clone());
    let server = HttpServer::new(move || App::new().app_data(data.clone()).configure(configure))
        .on_connect(socket::on_connect(Connections::default()))
        .workers(1)
        .disable_signals()
        .bind("127.0.0.1:0")
        .unwrap();
    let address = server.addrs()[0];
    let server = server.run();
    let handle = server.handle();
    actix_web::rt::spawn(server);
    (address, handle)
}

/// A client that reads a stream by hand.
struct Reader {
    socket: TcpStream,
    text: String,
}

impl Reader {
    async fn open(address: std::net::SocketAddr, path: &str, headers: &str) -> Self {
        let mut socket = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: queen\r\n{headers}\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        Self { socket, text: String::new() }
    }

    /// Reads until `wanted` was seen.
    async fn until(&mut self, wanted: &str) -> &str {
        let reading = async {
            while !self.text.contains(wanted) {
                assert!(self.read().await > 0, "the stream ended before {wanted:?}: {}", self.text);
            }
        };
        tokio::time::timeout(DEADLINE, reading).await.expect(wanted);
        &self.text
    }

    async fn drain(&mut self) {
        let reading = async { while self.read().await > 0 {} };
        tokio::time::timeout(DEADLINE, reading).await.expect("the stream does not end");
    }

    async fn read(&mut self) -> usize {
        let mut bytes = [0; 4_096];
        let n = self.socket.read(&mut bytes).await.unwrap();
        self.text.push_str(&String::from_utf8_lossy(&bytes[..n]));
        n
    }
}

#[actix_web::test]
async fn a_connection_serves_one_heartbeat_after_another() {
    let state = state();
    let (address, server) = serve(&state);
    let mut socket = TcpStream::connect(address).await.unwrap();
    for seq in 1..=3 {
        let body = beat("h", seq).to_string();
        let (one, two) = body.split_at(body.len() / 2);
        let head =
            "POST /v1/hive-heartbeat HTTP/1.1\r\nHost: queen\r\nTransfer-Encoding: chunked\r\n\r\n";
        let chunks =
            format!("{head}{:x}\r\n{one}\r\n{:x}\r\n{two}\r\n0\r\n\r\n", one.len(), two.len());
        socket.write_all(chunks.as_bytes()).await.unwrap();
        let mut reader = Reader { socket, text: String::new() };
        assert!(reader.until("\"stored\"}").await.starts_with("HTTP/1.1 200"));
        socket = reader.socket;
    }
    drop(socket);
    server.stop(true).await;
}

#[actix_web::test]
async fn the_stream_begins_with_a_snapshot_and_ends_at_once_when_the_queen_stops() {
    let state = state();
    let app = app!(state);
    let (address, server) = serve(&state);
    call!(&app, post(beat("h", 1).to_string()));
    let mut reader = Reader::open(address, "/v1/heartbeats/stream", "").await;
    let head = reader.until("event: snapshot").await.to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 200"), "{head}");
    for header in ["text/event-stream", "cache-control: no-store", "x-accel-buffering: no"] {
        assert!(head.contains(header), "{head}");
    }
    call!(&app, post(beat("h", 2).to_string()));
    reader.until("\"type\":\"hive_telemetry\"").await;
    reader.until("\"type\":\"queen\"").await;
    state.close_streams().await;
    reader.until("\r\n0\r\n\r\n").await;
    let stopping = Instant::now();
    server.stop(true).await;
    assert!(stopping.elapsed() < DEADLINE);
    reader.drain().await;
}

#[actix_web::test]
async fn a_client_that_comes_back_is_told_what_it_missed() {
    let state = state();
    let app = app!(state);
    let (address, server) = serve(&state);
    call!(&app, post(beat("h", 1).to_string()));
    let mut first = Reader::open(address, "/v1/heartbeats/stream", "").await;
    first.until("\"seq\":1").await;
    let id = first.until("\nevent: snapshot").await.lines().find(|l| l.starts_with("id: "));
    let last = id.unwrap().replace("id: ", "Last-Event-ID: ") + "\r\n";
    drop(first);
    call!(&app, post(beat("h", 2).to_string()));
    let mut again = Reader::open(address, "/v1/heartbeats/stream", &last).await;
    assert!(!again.until("hive_telemetry").await.contains("snapshot"));
    for garbage in ["Last-Event-ID: 1-2-3\r\n", "Last-Event-ID: \u{e9}\r\n", "Last-Event-ID:\r\n"] {
        let mut lost = Reader::open(address, "/v1/heartbeats/stream", garbage).await;
        lost.until("event: snapshot").await;
    }
    let mut refused = Reader::open(address, "/v1/heartbeats/stream?hive=a%20b", "").await;
    refused.until("HTTP/1.1 400").await;
    state.close_streams().await;
    server.stop(true).await;
}
