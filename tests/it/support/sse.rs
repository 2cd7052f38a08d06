//! A client of the stream. It reads on its own, so that each event has the time it came at.

use awc::Client;
use futures_util::StreamExt;
use serde_json::Value;
use std::time::{Duration, Instant};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};

/// One event.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) id: String,
    /// The `event:` line, `message` without one.
    pub(crate) name: String,
    pub(crate) data: Value,
    /// When its last byte was read.
    pub(crate) at: Instant,
}

impl Event {
    /// The `type` in its data.
    pub(crate) fn kind(&self) -> &str {
        self.data["type"].as_str().unwrap_or_default()
    }

    /// Whether it is this event of this worker.
    pub(crate) fn is(&self, kind: &str, instance: &str) -> bool {
        self.kind() == kind && self.data["instance"] == instance
    }

    /// The worker in a `hive_telemetry`.
    pub(crate) fn worker(&self, instance: &str) -> Option<&Value> {
        let workers = self.data["workers"].as_array()?;
        workers.iter().find(|worker| worker["instance"] == instance)
    }
}

/// An open stream.
pub(crate) struct SseClient {
    events: mpsc::UnboundedReceiver<Event>,
    reader: JoinHandle<()>,
    /// Content type and the like, as they came.
    pub(crate) headers: awc::http::header::HeaderMap,
}

impl SseClient {
    /// Connects, and has the headers when it returns.
    pub(crate) async fn connect(url: &str) -> Self {
        let client = Client::builder().disable_timeout().finish();
        let request = client.get(url).insert_header(("accept", "text/event-stream"));
        let response = request.send().await.unwrap_or_else(|error| panic!("GET {url}: {error}"));
        assert_eq!(response.status(), 200, "GET {url}");
        let headers = response.headers().clone();
        let (sender, events) = mpsc::unbounded_channel();
        let reader = actix_web::rt::spawn(async move {
            let mut body = response;
            let mut parser = Parser::default();
            while let Some(Ok(bytes)) = body.next().await {
                for event in parser.feed(&bytes) {
                    let _ = sender.send(event);
                }
            }
        });
        Self { events, reader, headers }
    }

    /// The next event.
    pub(crate) async fn next(&mut self, deadline: Duration) -> Event {
        self.next_matching("any event", deadline, |_| true).await
    }

    /// The next event for which `wanted` holds; those before it are passed over.
    pub(crate) async fn next_matching(
        &mut self,
        what: &str,
        deadline: Duration,
        mut wanted: impl FnMut(&Event) -> bool,
    ) -> Event {
        let end = tokio::time::Instant::now() + deadline;
        let mut passed = Vec::new();
        loop {
            match tokio::time::timeout_at(end, self.events.recv()).await {
                Ok(Some(event)) if wanted(&event) => return event,
                Ok(Some(event)) => passed.push(event.kind().to_owned()),
                Ok(None) => panic!("the stream ended before {what}; passed over: {passed:?}"),
                Err(_) => panic!("no {what} within {deadline:?}; passed over: {passed:?}"),
            }
        }
    }

    /// All events until the stream has been listened to for `time`.
    pub(crate) async fn during(&mut self, time: Duration) -> Vec<Event> {
        let end = tokio::time::Instant::now() + time;
        let mut events = Vec::new();
        while let Ok(event) = tokio::time::timeout_at(end, self.events.recv()).await {
            events.push(event.expect("the stream goes on"));
        }
        events
    }

    /// Waits until the other side ends the stream.
    pub(crate) async fn ended(&mut self, deadline: Duration) {
        let drained = timeout(deadline, async { while self.events.recv().await.is_some() {} });
        drained.await.unwrap_or_else(|_| panic!("the stream is still open after {deadline:?}"));
    }
}

impl Drop for SseClient {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// Cuts bytes into events.
#[derive(Default)]
struct Parser {
    rest: Vec<u8>,
}

impl Parser {
    fn feed(&mut self, bytes: &[u8]) -> Vec<Event> {
        self.rest.extend_from_slice(bytes);
        let mut events = Vec::new();
        while let Some(end) = self.rest.windows(2).position(|pair| pair == b"\n\n") {
            let frame: Vec<u8> = self.rest.drain(..end + 2).collect();
            events.extend(parse(&String::from_utf8_lossy(&frame)));
        }
        events
    }
}

/// `None` for a comment.
fn parse(frame: &str) -> Option<Event> {
    let (mut id, mut name, mut data) = (String::new(), "message".to_owned(), Vec::new());
    for line in frame.lines() {
        let (key, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match key {
            "id" => id = value.to_owned(),
            "event" => name = value.to_owned(),
            "data" => data.push(value),
            _ => {}
        }
    }
    let data = data.join("\n");
    if data.is_empty() {
        return None;
    }
    let data = serde_json::from_str(&data).unwrap_or_else(|e| panic!("{e} in the data {data:?}"));
    Some(Event { id, name, data, at: Instant::now() })
}

#[test]
fn frames_are_cut_where_they_end_and_comments_passed_over() {
    let mut parser = Parser::default();
    assert!(parser.feed(b": hello\n\nid: a-1\nevent: snap").is_empty());
    let events = parser.feed(b"shot\ndata: {\"type\":\"x\"}\n\nretry: 5\n\ndata: 1\n\n");
    assert_eq!(events.len(), 2);
    let first = &events[0];
    assert_eq!((first.id.as_str(), first.name.as_str(), first.kind()), ("a-1", "snapshot", "x"));
    assert_eq!(events[1].name, "message");
}
