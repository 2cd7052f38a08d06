//! Requests in old or odd forms, written to the socket as they are.

use crate::support::{Site, echo, free_port, ready_workers, secs};
use serde_json::json;
use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

const CHAT: &str = "/v1/chat/completions";

/// All that is answered until the connection ends, in lower case.
fn told(address: &str, request: &str) -> String {
    let mut tcp = TcpStream::connect(address).unwrap();
    tcp.set_read_timeout(Some(secs(10))).unwrap();
    tcp.write_all(request.as_bytes()).unwrap();
    let mut told = Vec::new();
    tcp.read_to_end(&mut told).expect("the answer ends with its connection");
    String::from_utf8_lossy(&told).to_ascii_lowercase()
}

fn post(path: &str, version: &str, more: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/{version}\r\nhost: 127.0.0.1\r\ncontent-length: {length}\r\n{more}\r\n{body}"
    )
}

#[actix_web::test]
async fn a_client_of_http_1_0_gets_a_stream_without_chunks_that_ends_with_its_connection() {
    let (site, port) = (Site::new(), free_port());
    let (queen, _hive) = site.start_both(json!([echo(port, "m", 0, json!({}))])).await;
    ready_workers(queen.queen(), 1, secs(10)).await;
    let body =
        json!({"model": "m", "stream": true, "messages": [{"role": "user", "content": "hi"}]});
    let told = told(queen.queen().address(), &post(CHAT, "1.0", "", &body.to_string()));
    assert!(told.starts_with("http/1.0 200 ") && !told.contains("transfer-encoding"), "{told}");
    assert!(told.contains("\r\n\r\ndata: {") && told.ends_with("data: [done]\n\n"), "{told}");
}

#[actix_web::test]
async fn who_asks_for_a_websocket_is_told_at_once_that_there_is_none() {
    let site = Site::new();
    let (queen, hive) = site.start_both(json!([])).await;
    for (api, path) in [(queen.queen(), CHAT), (hive.hive(), "/v1/workers")] {
        let upgrade = "connection: upgrade, close\r\nupgrade: websocket\r\n";
        let told = told(api.address(), &post(path, "1.1", upgrade, "{\"model\":\"m\"}"));
        assert!(told.starts_with("http/1.1 426 ") && told.contains("no_websocket"), "{told}");
    }
}

#[actix_web::test]
async fn a_head_of_the_stream_is_answered_and_is_no_client_of_it() {
    let site = Site::new();
    let queen = site.start("queen", &site.queen_config()).await;
    let address = queen.queen().address().to_owned();
    let head =
        "HEAD /v1/heartbeats/stream HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n";
    let answer = told(&address, head);
    assert!(
        answer.starts_with("http/1.1 200 ") && answer.contains("text/event-stream"),
        "{answer}"
    );
}

#[actix_web::test]
async fn a_body_that_says_it_is_too_long_is_refused_before_it_comes() {
    let site = Site::new();
    let queen = site.start("queen", &site.queen_config()).await;
    let address = queen.queen().address().to_owned();
    for path in ["/v1/schedule", "/login", "/v1/hive-heartbeat", "/v1/chat/completions"] {
        let mut client = TcpStream::connect(&address).expect("it listens");
        client.set_read_timeout(Some(secs(5))).expect("it is set");
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: 99999999999\r\n\r\n"
        );
        client.write_all(head.as_bytes()).expect("it is sent");
        let mut answer = [0; 64];
        let read = client.read(&mut answer).expect("it is answered");
        let answer = String::from_utf8_lossy(&answer[..read]);
        assert!(answer.starts_with("HTTP/1.1 413 "), "{path}: {answer}");
    }
}
