//! A client that sees the wire: one connection for each request, chunks as they come, and a proper
//! end told from a broken one. No pool, so that a thousand are a thousand.

use super::{
    Api,
    raw_http::{Body, Head, Reader},
    secs,
};
use serde_json::{Value, json};
use std::{future::Future, io};
use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::TcpStream,
    time::timeout,
};

/// Longer than anything that a test waits for.
const PATIENCE_S: u64 = 90;

/// An answer whose head has been read.
pub(crate) struct RawAnswer {
    pub(crate) status: u16,
    pub(crate) head: Head,
    reader: Reader,
    body: Body,
}

/// Sends a request, and reads the answer's head.
pub(crate) async fn send(
    api: &Api,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> io::Result<RawAnswer> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\n", api.address());
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("content-type: application/json\r\n");
    text.push_str(&format!("content-length: {}\r\n\r\n{body}", body.len()));
    patiently(async {
        let socket = TcpStream::connect(api.address()).await?;
        socket.set_nodelay(true)?;
        let mut reader = BufReader::new(socket);
        reader.write_all(text.as_bytes()).await?;
        let head = Head::read(&mut reader).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let status = head.start.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or(io::ErrorKind::InvalidData)?;
        let body = Body::of(&head, Body::UntilClose);
        Ok(RawAnswer { status, head, reader, body })
    })
    .await
}

/// A chat that is asked for `model`.
pub(crate) fn chat_body(model: &str, content: &str, stream: bool) -> Value {
    let messages = json!([{"role": "user", "content": content}]);
    json!({"model": model, "stream": stream, "messages": messages})
}

/// Asks the gateway for a chat, and panics only if there is no answer at all.
pub(crate) async fn chat(queen: &Api, headers: &[(&str, &str)], body: &Value) -> RawAnswer {
    let sent = send(queen, "POST", "/v1/chat/completions", headers, &body.to_string()).await;
    sent.unwrap_or_else(|error| panic!("no answer to a chat: {error}"))
}

impl RawAnswer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.get(name)
    }

    /// The worker that answered, as the queen names it.
    pub(crate) fn worker(&self) -> &str {
        self.header("x-rbee-worker").expect("the answering worker is named")
    }

    /// The next bytes; `None` at the proper end.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        patiently(self.body.next(&mut self.reader)).await
    }

    /// Reads on until this many bytes have come, and no further than the piece they end in.
    pub(crate) async fn at_least(&mut self, count: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while all.len() < count {
            let bytes = self.next().await.expect("the body goes on");
            all.extend(bytes.unwrap_or_else(|| panic!("ended after {}", all.len())));
        }
        all
    }

    /// The rest of the body, which must come to its proper end.
    pub(crate) async fn rest(mut self) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(bytes) = self.next().await.expect("the body comes to its end") {
            all.extend(bytes);
        }
        all
    }

    /// The rest of the body as JSON, provided that the status is this one.
    pub(crate) async fn expect(self, status: u16) -> Value {
        let got = self.status;
        let text = String::from_utf8_lossy(&self.rest().await).into_owned();
        assert_eq!(got, status, "{text}");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text:?}"))
    }

    /// Asserts an answer that says when to come again.
    pub(crate) async fn expect_retry_after(self, status: u16) -> Value {
        let after = self.header("retry-after").map(str::to_owned);
        let body = self.expect(status).await;
        let seconds = after.and_then(|after| after.parse::<u64>().ok());
        assert!(seconds.is_some(), "{status} without Retry-After in seconds");
        assert!(body["error"]["message"].is_string(), "{body}");
        body
    }

    /// Reads on until the connection breaks. A body that comes to its end fails the test.
    pub(crate) async fn expect_broken(mut self) {
        loop {
            match self.next().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the body ended as if it were whole"),
                Err(error) if error.kind() == io::ErrorKind::TimedOut => panic!("it never ended"),
                Err(_) => return,
            }
        }
    }
}

async fn patiently<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(secs(PATIENCE_S), work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

#[actix_web::test]
async fn a_broken_end_is_told_from_a_proper_one() {
    use super::{RawWorker, Reply};
    let whole = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n";
    let worker = RawWorker::start(move |request| match request.number {
        0 => Reply::Close(whole.into()),
        1 => Reply::Close(whole.strip_suffix("0\r\n\r\n").expect("it has an end").into()),
        2 => Reply::Close("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab".into()),
        3 => Reply::Close(Vec::new()),
        _ => Reply::Never,
    })
    .await;
    let api = Api::new(worker.url().to_owned());
    assert_eq!(send(&api, "POST", "/", &[], "{}").await.expect("an answer").rest().await, b"ab");
    for _ in 1..3 {
        let mut answer = send(&api, "POST", "/", &[], "{}").await.expect("an answer");
        assert_eq!(answer.at_least(2).await, b"ab");
        answer.expect_broken().await;
    }
    assert!(send(&api, "POST", "/", &[], "{}").await.is_err());
    let left = timeout(super::ms(200), send(&api, "POST", "/", &[], "{}")).await;
    assert!(left.is_err(), "it never answers");
    worker.client_left().await;
    assert_eq!(worker.requests().len(), 5);
}
