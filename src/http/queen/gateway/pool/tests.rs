#![allow(clippy::unwrap_used, reason = "a test says what it expects")]

use super::*;
use crate::limits::{GATEWAY_HEAD_MAX, Limit, tests::Counting};
use std::future::poll_fn;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// Reads one request with its 4 bytes of body.
async fn hear(stream: &mut TcpStream) {
    let mut heard = Vec::new();
    while !heard.ends_with(b"ping") {
        assert_ne!(stream.read_buf(&mut heard).await.unwrap(), 0);
    }
}

/// A worker that sends `pieces` to one request, each a packet of its own, and closes.
async fn worker(pieces: &'static [&'static str]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    actix::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        hear(&mut stream).await;
        for piece in pieces {
            stream.write_all(piece.as_bytes()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    url
}

async fn ask(pool: &Pool, url: &str) -> Result<WorkerAnswer, Failure> {
    ask_with(pool, url, Bytes::from_static(b"ping")).await
}

async fn ask_with(pool: &Pool, url: &str, body: Bytes) -> Result<WorkerAnswer, Failure> {
    let head = format!("POST / HTTP/1.1\r\ncontent-length: {}\r\n\r\n", body.len());
    pool.ask(Target::of(url).unwrap(), head.into(), body).await
}

async fn next(answer: &mut WorkerAnswer) -> Option<Result<Bytes, PayloadError>> {
    poll_fn(|cx| answer.body.poll_next(cx)).await
}

/// The status and the body, with whether it is whole.
async fn told(pieces: &'static [&'static str]) -> (u16, String, bool) {
    let mut answer = ask(&Pool::new(), &worker(pieces).await).await.unwrap();
    let (mut body, mut whole) = (Vec::new(), true);
    while let Some(piece) = next(&mut answer).await {
        match piece {
            Ok(piece) => body.extend_from_slice(&piece),
            Err(_) => {
                whole = false;
                break;
            }
        }
    }
    (answer.head.status.as_u16(), String::from_utf8(body).unwrap(), whole)
}

fn said(status: u16, body: &str, whole: bool) -> (u16, String, bool) {
    (status, body.to_owned(), whole)
}

#[actix::test]
async fn a_whole_answer_is_whole_however_it_is_delimited() {
    let sized = &["HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n", "pong"];
    assert_eq!(told(sized).await, said(200, "pong", true));
    let chunked =
        &["HTTP/1.1 429 No\r\ntransfer-encoding: chunked\r\n\r\n4\r\npo", "ng\r\n0\r\n\r\n"];
    assert_eq!(told(chunked).await, said(429, "pong", true));
    let to_close = &["HTTP/1.1 200 OK\r\n\r\npo", "ng"];
    assert_eq!(told(to_close).await, said(200, "pong", true));
    let old = &["HTTP/1.0 200 OK\r\n\r\n", "pong"];
    assert_eq!(told(old).await, said(200, "pong", true));
}

#[actix::test]
async fn trailers_end_an_answer_and_are_left_out() {
    let trailers =
        &["HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\npong\r\n0\r\nx-t: 1\r\n\r\n"];
    assert_eq!(told(trailers).await, said(200, "pong", true));
}

#[actix::test]
async fn a_cut_answer_is_never_whole() {
    let sized = &["HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\npong"];
    assert_eq!(told(sized).await, said(200, "pong", false));
    let within = &["HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\npong"];
    assert_eq!(told(within).await, said(200, "pong", false));
    let between = &["HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\npong\r\n"];
    assert_eq!(told(between).await, said(200, "pong", false));
}

#[actix::test]
async fn interim_answers_and_pieces_of_a_head_are_put_together() {
    let pieces = &[
        "HTTP/1.1 100 Continue\r\ncontent-length: 3\r\n\r\nHTTP/1.1 103 Early\r\nli",
        "nk: x\r\n\r",
        "\nHTTP/1.1 201 Made\r\ncontent-le",
        "ngth: 4\r\n\r",
        "\npong",
    ];
    assert_eq!(told(pieces).await, said(201, "pong", true));
}

#[actix::test]
async fn half_a_head_is_no_answer_and_nothing_a_refusal() {
    let pool = Pool::new();
    let half = ask(&pool, &worker(&["HTTP/1.1 200 OK\r\nx:"]).await).await;
    assert!(matches!(half, Err(Failure::Cut)));
    let nonsense = ask(&pool, &worker(&["220 smtp\r\n\r\n"]).await).await;
    assert!(matches!(nonsense, Err(Failure::Unreadable(_))));
    let none = ask(&pool, &worker(&[]).await).await;
    assert!(matches!(none, Err(Failure::Dropped)));
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let nobody = ask(&pool, &format!("http://{nobody}")).await;
    assert!(matches!(nobody, Err(Failure::Connect(_))));
}

#[actix::test]
async fn a_head_without_an_end_is_given_up_in_time() {
    let (listener, url) = listener().await;
    actix::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        hear(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n").await;
        while stream.write_all(&[b'x'; 1024]).await.is_ok() {}
    });
    let counting = Counting::of(Limit::GatewayHead);
    let asked = ask(&Pool::new(), &url).await;
    assert!(matches!(asked, Err(Failure::TooLong)));
    counting.counted();
}

/// The longest head that is read is `most` bytes or one less, as reads are cut.
#[actix::test]
async fn a_head_of_nearly_the_most_is_read() {
    let (listener, url) = listener().await;
    actix::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        hear(&mut stream).await;
        let (begin, end) = ("HTTP/1.1 204 No Content\r\nx: ", "\r\n\r\n");
        let long = "y".repeat(GATEWAY_HEAD_MAX - begin.len() - end.len());
        stream.write_all(format!("{begin}{long}{end}").as_bytes()).await.unwrap();
    });
    assert_eq!(ask(&Pool::new(), &url).await.unwrap().head.status.as_u16(), 204);
}

#[test]
fn what_this_machine_lacks_is_no_fault_of_the_workers() {
    use super::super::connection::blame;
    use std::io::Error;
    for lack in [nix::errno::Errno::EMFILE, nix::errno::Errno::EADDRNOTAVAIL] {
        assert!(matches!(blame(Error::from(lack)), Failure::Lacking(_)));
    }
    assert!(matches!(blame(Error::from(nix::errno::Errno::ECONNREFUSED)), Failure::Connect(_)));
}

#[actix::test]
async fn an_answer_that_speaks_of_websockets_keeps_its_body_to_itself() {
    let (listener, url) = listener().await;
    actix::spawn(async move {
        let (mut first, _) = listener.accept().await.unwrap();
        hear(&mut first).await;
        let head = b"HTTP/1.1 426 No\r\nupgrade: websocket\r\ncontent-length: 43\r\n\r\n";
        first.write_all(head).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        first.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nALICE").await.unwrap();
        hear(&mut first).await;
        first.write_all(PONG).await.unwrap();
    });
    let pool = Pool::new();
    let mut alices = ask(&pool, &url).await.unwrap();
    assert_eq!(alices.head.status, 426);
    let mut body = Vec::new();
    while let Some(piece) = next(&mut alices).await {
        body.extend_from_slice(&piece.unwrap());
    }
    assert!(body.ends_with(b"ALICE"));
    let mut bobs = ask(&pool, &url).await.unwrap();
    assert_eq!(next(&mut bobs).await.unwrap().unwrap(), "pong");
}

const PONG: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\npong";

/// A listener, and its URL.
async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (listener, url)
}

async fn ask_to_end(pool: &Pool, url: &str) -> u16 {
    let mut answer = ask(pool, url).await.unwrap();
    while next(&mut answer).await.is_some() {}
    answer.head.status.as_u16()
}

#[actix::test]
async fn a_connection_serves_again_after_a_whole_answer_only() {
    let (listener, url) = listener().await;
    let worker = actix::spawn(async move {
        let (mut first, _) = listener.accept().await.unwrap();
        for _ in 0..2 {
            hear(&mut first).await;
            first.write_all(PONG).await.unwrap();
        }
        hear(&mut first).await;
        first.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\npong").await.unwrap();
        let (mut second, _) = listener.accept().await.unwrap();
        hear(&mut second).await;
        let closing = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        second.write_all(closing).await.unwrap();
        let (mut third, _) = listener.accept().await.unwrap();
        hear(&mut third).await;
        third.write_all(PONG).await.unwrap();
        assert_eq!(first.read(&mut [0]).await.unwrap(), 0, "dropped in the middle, it is closed");
    });
    let pool = Pool::new();
    assert_eq!(ask_to_end(&pool, &url).await, 200);
    assert_eq!(ask_to_end(&pool, &url).await, 200);
    let mut unfinished = ask(&pool, &url).await.unwrap();
    assert!(next(&mut unfinished).await.unwrap().is_ok());
    drop(unfinished);
    assert_eq!(ask_to_end(&pool, &url).await, 200);
    assert_eq!(ask_to_end(&pool, &url).await, 200);
    worker.await.unwrap();
}

#[actix::test]
async fn a_kept_connection_that_the_worker_closes_on_the_next_request_is_replaced() {
    let (listener, url) = listener().await;
    actix::spawn(async move {
        let (mut kept, _) = listener.accept().await.unwrap();
        hear(&mut kept).await;
        kept.write_all(PONG).await.unwrap();
        hear(&mut kept).await;
        drop(kept);
        let (mut new, _) = listener.accept().await.unwrap();
        hear(&mut new).await;
        new.write_all(PONG).await.unwrap();
    });
    let pool = Pool::new();
    assert_eq!(ask_to_end(&pool, &url).await, 200);
    assert_eq!(ask_to_end(&pool, &url).await, 200);
}

#[actix::test]
async fn an_answer_before_the_whole_request_was_read_is_the_answer() {
    for stays in [false, true] {
        let (listener, url) = listener().await;
        let (told, mut heard) = tokio::sync::oneshot::channel::<()>();
        actix::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.read_exact(&mut [0; 10]).await.unwrap();
            let answer = b"HTTP/1.1 413 Large\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(answer).await.unwrap();
            if stays {
                let _ = (&mut heard).await;
            }
        });
        let answer = ask_with(&Pool::new(), &url, vec![b' '; 32 << 20].into()).await;
        assert_eq!(answer.unwrap().head.status, 413);
        drop(told);
    }
}

#[actix::test]
async fn what_is_not_used_is_closed_after_a_while() {
    let (listener, url) = listener().await;
    let pool = Pool::new();
    let worker = async {
        let (mut kept, _) = listener.accept().await.unwrap();
        hear(&mut kept).await;
        kept.write_all(PONG).await.unwrap();
        kept
    };
    let (mut kept, status) = tokio::join!(worker, ask_to_end(&pool, &url));
    assert_eq!(status, 200);
    tokio::time::pause();
    let end = tokio::time::timeout(3 * KEPT_FOR, kept.read(&mut [0])).await;
    assert_eq!(end.unwrap().unwrap(), 0);
    assert!(pool.0.kept.borrow().is_empty() && !pool.0.sweeping.get());
}
