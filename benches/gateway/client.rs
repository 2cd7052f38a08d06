//! A client that costs little and the same through whatever it asks: HTTP/1.1 by hand.

use super::Target;
use std::{
    future::Future,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream as AsyncStream,
};

/// An answer that takes longer is none.
const PATIENCE: Duration = Duration::from_secs(60);

/// A chat request of `words` words, as bytes on the wire.
pub(crate) fn chat(model: &str, words: usize, stream: bool) -> Vec<u8> {
    let content = vec!["a"; words].join(" ");
    let body = serde_json::json!({
        "model": model,
        "messages": [{"role": "user", "content": content}],
        "stream": stream,
    });
    post("/v1/chat/completions", &body.to_string(), "keep-alive")
}

pub(crate) fn post(path: &str, body: &str, connection: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: {connection}\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// The length of the answer that `bytes` begins with, once its head is there. Anything but 200 ends it all.
fn length(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|end| end == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&bytes[..head]).unwrap().to_ascii_lowercase();
    assert!(text.starts_with("http/1.1 200"), "{}", String::from_utf8_lossy(bytes));
    let (_, value) = text.split_once("content-length:").expect("an answer in one piece");
    Some(head + value.split("\r\n").next()?.trim().parse::<usize>().unwrap())
}

/// One kept-alive connection, blocking: no runtime is part of what is measured.
pub(crate) struct Line {
    tcp: TcpStream,
    buffer: Vec<u8>,
}

impl Line {
    pub(crate) fn open(address: SocketAddr) -> Self {
        let tcp = TcpStream::connect(address).unwrap();
        tcp.set_nodelay(true).unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { tcp, buffer: vec![0; 64 << 10] }
    }

    pub(crate) fn ask(&mut self, request: &[u8]) -> Duration {
        let begun = Instant::now();
        self.tcp.write_all(request).unwrap();
        let mut filled = 0;
        loop {
            let read = self.tcp.read(&mut self.buffer[filled..]).unwrap();
            assert_ne!(read, 0, "the connection was closed");
            filled += read;
            if length(&self.buffer[..filled]).is_some_and(|length| filled >= length) {
                return begun.elapsed();
            }
        }
    }
}

/// Runs on a thread of its own, which is this one.
pub(crate) fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, work)
}

async fn connect(address: SocketAddr) -> AsyncStream {
    let tcp = AsyncStream::connect(address).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    tcp
}

/// Asks on `connections` at once for `time`, each again as soon as it has its answer; how many were
/// answered.
pub(crate) async fn load(target: &Target, connections: usize, time: Duration) -> u64 {
    let until = Instant::now() + time;
    let tasks: Vec<_> = (0..connections)
        .map(|_| tokio::task::spawn_local(ask_until(target.small.0, target.small.1.clone(), until)))
        .collect();
    let mut answered = 0;
    for task in tasks {
        answered += task.await.unwrap();
    }
    answered
}

async fn ask_until(address: SocketAddr, request: Vec<u8>, until: Instant) -> u64 {
    let (mut tcp, mut buffer, mut answered) = (connect(address).await, vec![0; 16 << 10], 0);
    while Instant::now() < until {
        tcp.write_all(&request).await.unwrap();
        let mut filled = 0;
        while length(&buffer[..filled]).is_none_or(|length| filled < length) {
            let read = tcp.read(&mut buffer[filled..]).await.unwrap();
            assert_ne!(read, 0, "the connection was closed");
            filled += read;
        }
        answered += 1;
    }
    answered
}

/// Has `streams` answers streamed at once, begun over `spread`; how often something was read.
pub(crate) async fn streams(target: &Target, streams: u32, spread: Duration) -> u64 {
    let tasks: Vec<_> = (0..streams)
        .map(|number| {
            let after = spread * number / streams;
            tokio::task::spawn_local(stream(target.stream.0, target.stream.1.clone(), after))
        })
        .collect();
    let mut reads = 0;
    for task in tasks {
        reads += task.await.unwrap();
    }
    reads
}

async fn stream(address: SocketAddr, request: Vec<u8>, after: Duration) -> u64 {
    const END: &[u8] = b"0\r\n\r\n";
    tokio::time::sleep(after).await;
    let (mut tcp, mut buffer) = (connect(address).await, vec![0; 16 << 10]);
    tcp.write_all(&request).await.unwrap();
    let (mut tail, mut reads) = (Vec::new(), 0);
    while !tail.ends_with(END) {
        let read = tcp.read(&mut buffer).await.unwrap();
        assert_ne!(read, 0, "the answer was cut");
        reads += 1;
        let kept = tail.len().saturating_sub(END.len());
        tail.drain(..kept);
        tail.extend_from_slice(&buffer[read.saturating_sub(END.len())..read]);
    }
    reads
}
