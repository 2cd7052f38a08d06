#![allow(clippy::unwrap_used, reason = "a test says what it expects")]

use super::*;
use futures_util::StreamExt as _;
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

async fn ask(client: &Client, url: &str) -> Result<awc::ClientResponse, SendRequestError> {
    client.post(url).send_body("ping").await
}

/// The status and the body, with whether it is whole.
async fn told(pieces: &'static [&'static str]) -> (u16, String, bool) {
    let mut answer = ask(&Clients::new().pooled(), &worker(pieces).await).await.unwrap();
    let (mut body, mut whole) = (Vec::new(), true);
    while let Some(piece) = answer.next().await {
        match piece {
            Ok(piece) => body.extend_from_slice(&piece),
            Err(_) => {
                whole = false;
                break;
            }
        }
    }
    (answer.status().as_u16(), String::from_utf8(body).unwrap(), whole)
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
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nli",
        "nk: x\r\n\r",
        "\nHTTP/1.1 201 Made\r\ncontent-le",
        "ngth: 4\r\n\r",
        "\npong",
    ];
    assert_eq!(told(pieces).await, said(201, "pong", true));
}

#[actix::test]
async fn half_a_head_is_a_bad_answer_and_none_a_refusal() {
    let clients = Clients::new();
    let half = ask(&clients.pooled(), &worker(&["HTTP/1.1 200 OK\r\nx:"]).await).await;
    assert_eq!(judge(&half.err().unwrap()), Failure::Bad);
    let nonsense = ask(&clients.pooled(), &worker(&["220 smtp\r\n\r\n"]).await).await;
    assert_eq!(judge(&nonsense.err().unwrap()), Failure::Bad);
    let none = ask(&clients.pooled(), &worker(&[]).await).await;
    assert_eq!(judge(&none.err().unwrap()), Failure::Refused);
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let nobody = ask(&clients.pooled(), &format!("http://{nobody}")).await;
    assert_eq!(judge(&nobody.err().unwrap()), Failure::Refused);
    for url in ["", "/x", "ftp://x/", "http://[/", "https://127.0.0.1:1/"] {
        let wrong = ask(&clients.pooled(), url).await;
        assert_eq!(judge(&wrong.err().unwrap()), Failure::Refused, "{url}");
    }
}

#[actix::test]
async fn a_kept_connection_that_the_worker_closes_on_the_next_request_is_stale() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\npong";
    actix::spawn(async move {
        let (mut kept, _) = listener.accept().await.unwrap();
        hear(&mut kept).await;
        kept.write_all(answer).await.unwrap();
        hear(&mut kept).await;
        drop(kept);
        let (mut new, _) = listener.accept().await.unwrap();
        hear(&mut new).await;
        new.write_all(answer).await.unwrap();
    });
    let clients = Clients::new();
    let mut first = ask(&clients.pooled(), &url).await.unwrap();
    while first.next().await.is_some() {}
    let stale = ask(&clients.pooled(), &url).await;
    assert_eq!(judge(&stale.err().unwrap()), Failure::Stale);
    assert_eq!(ask(&clients.fresh, &url).await.unwrap().status(), 200);
}

#[actix::test]
async fn an_answer_before_the_whole_request_was_read_is_the_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    actix::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read_exact(&mut [0; 10]).await.unwrap();
        let answer = b"HTTP/1.1 413 Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(answer).await.unwrap();
        stream.shutdown().await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    });
    let body = vec![b' '; 8 << 20];
    let answer = Clients::new().pooled().post(url).send_body(body).await;
    assert_eq!(answer.unwrap().status(), 413);
}

#[actix::test]
async fn an_old_pool_is_given_up_and_with_it_what_it_kept() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let clients = Clients::new();
    let worker = async {
        let (mut kept, _) = listener.accept().await.unwrap();
        hear(&mut kept).await;
        kept.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\npong").await.unwrap();
        kept
    };
    let client = async {
        let mut answer = ask(&clients.pooled(), &url).await.unwrap();
        while answer.next().await.is_some() {}
    };
    let (mut kept, ()) = tokio::join!(worker, client);
    tokio::time::pause();
    tokio::time::advance(POOL_FOR + Duration::from_secs(1)).await;
    tokio::time::resume();
    clients.pooled();
    let end = tokio::time::timeout(Duration::from_secs(10), kept.read(&mut [0])).await;
    assert_eq!(end.unwrap().unwrap(), 0);
}
