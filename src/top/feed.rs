//! Listens to the queen's stream, and goes on trying when the queen is away.

use super::{fleet::StreamEvent, state::Event};
use crate::client::{
    Api, Failure,
    sse::{SseEvent, SseParser},
};
use futures_util::StreamExt;
use std::time::Duration;
use tokio::sync::mpsc;

/// The queen says something at least every 15 s; silence for this long is a broken connection.
const SILENCE_MAX: Duration = Duration::from_secs(40);

/// First wait before another try; doubled up to the longest.
const RETRY_FIRST: Duration = Duration::from_millis(500);

/// The longest wait before another try.
const RETRY_LONGEST: Duration = Duration::from_secs(5);

/// Ends when nobody takes its events any more.
pub(super) async fn run(api: Api, events: mpsc::Sender<Event>) {
    let mut retry_in = RETRY_FIRST;
    loop {
        let (told, why) = listen(&api, &events).await;
        if told {
            retry_in = RETRY_FIRST;
        }
        if events.send(Event::Lost { why, retry_in }).await.is_err() {
            return;
        }
        tokio::time::sleep(retry_in).await;
        retry_in = (retry_in * 2).min(RETRY_LONGEST);
    }
}

/// Whether it heard anything, and why it ended.
async fn listen(api: &Api, events: &mpsc::Sender<Event>) -> (bool, String) {
    let mut told = false;
    let mut body = match api.open("/v1/heartbeats/stream", "text/event-stream").await {
        Ok(body) => body,
        Err(
            Failure::Unreachable(why)
            | Failure::Denied(why)
            | Failure::Refused(why)
            | Failure::NotFound(why)
            | Failure::Usage(why),
        ) => return (told, why),
    };
    let mut parser = SseParser::default();
    loop {
        let piece = match tokio::time::timeout(SILENCE_MAX, body.next()).await {
            Ok(Some(Ok(piece))) => piece,
            Ok(Some(Err(error))) => return (told, format!("the stream broke off: {error}")),
            Ok(None) => return (told, "the queen ended the stream".into()),
            Err(_) => return (told, format!("nothing came for {} s", SILENCE_MAX.as_secs())),
        };
        for event in parser.feed(&piece) {
            told = true;
            if let Some(event) = read(&event)
                && events.send(Event::Told(Box::new(event))).await.is_err()
            {
                return (told, String::new());
            }
        }
    }
}

/// `None` for what a newer queen may say.
fn read(event: &SseEvent) -> Option<StreamEvent> {
    serde_json::from_str(&event.data).ok()
}
