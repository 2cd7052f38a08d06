//! What passes through the gateway, byte for byte.

use crate::support::{
    Api, Daemon, Heartbeats, RawAnswer, RawWorker, Reply, Site, chat, chat_body, eventually, ms,
    proc, report, secs, send,
};
use serde_json::json;

/// A queen that knows one worker of the model `m`.
async fn in_front_of(site: &Site, worker: &RawWorker) -> (Daemon, Heartbeats) {
    let queen = site.start("queen", &site.queen_config()).await;
    let workers = json!([report("1", json!({"url": worker.url()}))]);
    let beats = Heartbeats::start(queen.queen(), "h", workers).await;
    (queen, beats)
}

/// What a client gets of this reply.
async fn answer_to(reply: fn() -> Reply, check: impl AsyncFnOnce(RawAnswer)) {
    let site = Site::new();
    let worker = RawWorker::start(move |_| reply()).await;
    let (queen, _beats) = in_front_of(&site, &worker).await;
    check(chat(queen.queen(), &[], &chat_body("m", "a", false)).await).await;
}

#[actix_web::test]
async fn headers_pass_as_a_careful_proxy_passes_them() {
    let site = Site::new();
    let worker = RawWorker::start(|_| {
        let headers = "content-type: application/json\r\nx-multi: a\r\nx-multi: b\r\n\
            connection: x-hop, keep-alive\r\nx-hop: 1\r\nkeep-alive: timeout=5\r\n\
            set-cookie: session=1\r\naccess-control-allow-origin: *\r\ncontent-encoding: gzip\r\n";
        Reply::whole("429 Too Many Requests", headers, b"\x1f\x8bnot really")
    })
    .await;
    let (queen, _beats) = in_front_of(&site, &worker).await;
    let sent = [
        ("authorization", "Bearer secret"),
        ("cookie", "session=secret"),
        ("x-api-key", "secret"),
        ("connection", "x-mine, keep-alive"),
        ("x-mine", "1"),
        ("x-custom", "kept"),
        ("accept-encoding", "gzip"),
    ];
    let body = chat_body("m", "caf\u{e9} \u{1f41d}", false).to_string();
    let answer = send(queen.queen(), "POST", "/v1/chat/completions", &sent, &body).await.unwrap();
    assert_eq!((answer.status, answer.worker()), (429, "h/llm/1"));
    for gone in ["x-hop", "keep-alive", "set-cookie", "access-control-allow-origin"] {
        assert_eq!(answer.header(gone), None, "{gone} passed");
    }
    assert_eq!(answer.header("content-encoding"), Some("gzip"));
    assert_eq!(answer.header("content-length"), Some("12"));
    let multi: Vec<_> = answer.head.headers.iter().filter(|(name, _)| name == "x-multi").collect();
    assert_eq!(multi.len(), 2);
    assert_eq!(answer.rest().await, b"\x1f\x8bnot really");
    let requests = worker.requests();
    let asked = &requests[0];
    assert_eq!(asked.text(), body);
    for gone in ["authorization", "cookie", "x-api-key", "x-mine"] {
        assert_eq!(asked.head.get(gone), None, "{gone} reached the worker");
    }
    assert_eq!(asked.head.get("x-custom"), Some("kept"));
    assert_eq!(asked.head.get("accept-encoding"), Some("gzip"));
    assert!(!format!("{asked:?}").contains("secret"));
}

#[actix_web::test]
async fn each_chunk_of_a_stream_arrives_when_it_was_written() {
    let site = Site::new();
    let (worker, hand) = RawWorker::held().await;
    let (queen, _beats) = in_front_of(&site, &worker).await;
    hand.send(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
            .to_vec(),
    )
    .unwrap();
    let mut answer = chat(queen.queen(), &[], &chat_body("m", "a", true)).await;
    for number in 0..5 {
        let event = format!("data: {number}\n\n");
        hand.send(format!("{:x}\r\n{event}\r\n", event.len()).into_bytes()).unwrap();
        let came = tokio::time::timeout(secs(2), answer.at_least(event.len())).await;
        assert_eq!(came.expect("it is not held back"), event.as_bytes());
    }
    hand.send(b"0\r\nx-trailer: 1\r\n\r\n".to_vec()).unwrap();
    assert!(answer.rest().await.is_empty());
}

#[actix_web::test]
async fn an_answer_that_is_cut_ends_as_broken() {
    let sized =
        || Reply::Close(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this".to_vec());
    answer_to(sized, async |answer| answer.expect_broken().await).await;
    const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nonly\r\n";
    let chunked = || Reply::Close(CHUNKED.into());
    answer_to(chunked, async |answer| answer.expect_broken().await).await;
    let whole = || Reply::Close(b"HTTP/1.1 200 OK\r\n\r\nuntil the end".to_vec());
    answer_to(whole, async |answer| assert_eq!(answer.rest().await, b"until the end")).await;
}

#[actix_web::test]
async fn a_connection_that_the_worker_had_closed_is_no_refusal() {
    let site = Site::new();
    // It answers once on each connection, says nothing of closing, and closes with the next request.
    let worker = RawWorker::start(|request| match request.on_connection {
        0 => Reply::ok(),
        _ => Reply::Close(Vec::new()),
    })
    .await;
    let (queen, _beats) = in_front_of(&site, &worker).await;
    let queen: &Api = queen.queen();
    for _ in 0..5 {
        chat(queen, &[], &chat_body("m", "a", false)).await.expect(200).await;
    }
    let explained = queen.get("/v1/schedule/explain?model=m").await.expect(200);
    assert_eq!(explained["chosen"], "h/llm/1", "{explained}");
}

#[actix_web::test]
async fn a_large_answer_through_a_slow_client_takes_no_memory() {
    const TOTAL: u64 = 200 << 20;
    let site = Site::new();
    let worker = RawWorker::start(|_| Reply::Flood(TOTAL)).await;
    let (queen, _beats) = in_front_of(&site, &worker).await;
    let before = proc::peak_rss_mb(queen.pid()).unwrap();
    let mut answer = chat(queen.queen(), &[], &chat_body("m", "a", true)).await;
    let mut read = answer.at_least(1 << 20).await.len() as u64;
    // Nobody reads: the worker is held back once the buffers on the way are full.
    let mut last = 0;
    eventually(secs(10), async || {
        let written = worker.written();
        let still = std::mem::replace(&mut last, written) == written;
        tokio::time::sleep(ms(100)).await;
        if still { Ok(()) } else { Err(written) }
    })
    .await;
    assert!(
        worker.written() < read + (32 << 20),
        "{} of {TOTAL} bytes were taken",
        worker.written()
    );
    while let Some(bytes) = answer.next().await.unwrap() {
        read += bytes.len() as u64;
    }
    assert_eq!(read, TOTAL);
    let grown = proc::peak_rss_mb(queen.pid()).unwrap() - before;
    println!("200 MB through the queen: {grown:.1} MiB more at the most");
    assert!(grown < 16.0, "{grown} MiB");
}
