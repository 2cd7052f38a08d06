//! `GET /v1/heartbeats/stream`: a client's queue as the body of a response.

use super::{QueenState, params};
use crate::{
    actors::sse_broadcaster::{EventId, StreamRefused, Subscribe, Subscription},
    http::{
        auth::{Class, session_end},
        dashboard,
        error::HttpError,
        socket,
    },
};
use actix_web::{
    HttpRequest, HttpResponse,
    body::{BodySize, MessageBody},
    http::{
        Method,
        header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, VARY},
    },
    web,
};
use bytes::Bytes;
use std::{convert::Infallible, pin::Pin, task, time::Duration};

/// How long the broadcaster may take to let a client in.
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(5);
/// What a client that was refused is told to wait, seconds.
const RETRY_AFTER_S: u64 = 5;
/// Bytes handed on at once: a large snapshot must not be copied whole into each connection's buffer.
const CHUNK: usize = 8 * 1024;

/// The handler. Who opens this address in a browser gets the dashboard.
#[utoipa::path(get, path = "/v1/heartbeats/stream", operation_id = "get_stream", tag = "stream",
    summary = "Everything as it happens, as Server-Sent Events",
    description = "Each event has an `id`, and its data is one JSON object with a `type`. First `snapshot` \
        (`Snapshot`), or after `Last-Event-ID` what came since; then `heartbeat` (`HiveTelemetry`, and every 2.5 s \
        `QueenHeartbeat`), `lifecycle` (`StreamLifecycle`) and, for a client that was too slow, `lagged` (`Lagged`). \
        A comment every 15 s keeps proxies open.",
    params(
        ("hive" = Option<String>, Query, description = "Only what is about this hive",
            pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"),
        ("lastEventId" = Option<String>, Query, description = "As the header `Last-Event-ID`, which goes before it"),
        ("Last-Event-ID" = Option<String>, Header,
            description = "The `id` of the last event that was seen: what came since is sent, as far as it is kept"),
    ),
    responses(
        (status = 200, description = "Until one side closes it", body = String, content_type = "text/event-stream",
            headers(("X-Accel-Buffering" = String, description = "`no`: for proxies")),
            example = "id: 1767225600-1\nevent: lifecycle\ndata: {\"type\":\"worker_ready\",…}\n\n"),
        (status = 400, description = "The query makes no sense"),
        (status = 500, description = "The stream has ended"),
        (status = 503, description = "There are too many clients"),
    ))]
pub(super) async fn get(
    state: web::Data<QueenState>,
    request: HttpRequest,
) -> Result<HttpResponse, HttpError> {
    if dashboard::is_wanted(request.headers()) {
        let mut page = dashboard::page(request).await;
        page.headers_mut().insert(VARY, HeaderValue::from_static("accept"));
        return Ok(page);
    }
    let (hive, last) = params::stream(request.query_string())?;
    let header = request.headers().get("last-event-id").and_then(|id| id.to_str().ok());
    let last_event_id = header.or(last.as_deref()).and_then(EventId::parse);
    let mut answer = HttpResponse::Ok();
    answer
        .insert_header((CONTENT_TYPE, "text/event-stream"))
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header(("x-accel-buffering", "no"));
    if request.method() == Method::HEAD {
        return Ok(answer.finish());
    }
    let subscription = subscribe(&state, Subscribe { hive, last_event_id }).await?;
    socket::let_go_of_duplicate(&request);
    Ok(answer.body(StreamBody {
        subscription,
        end: session_end(&request, Class::Read).map(|end| Box::pin(end.reached()) as End),
    }))
}

async fn subscribe(state: &QueenState, message: Subscribe) -> Result<Subscription, HttpError> {
    let overloaded = |message: String| HttpError::overloaded(message, RETRY_AFTER_S);
    tokio::time::timeout(SUBSCRIBE_TIMEOUT, state.stream.send(message))
        .await
        .map_err(|_| overloaded("the stream took too long to answer".into()))?
        .map_err(|_| HttpError::internal("the stream has ended"))?
        .map_err(|refused: StreamRefused| overloaded(refused.to_string()))
}

/// First the backlog, then what comes, until the stream or the viewer's session ends; then nothing more,
/// even if some waits: whoever is slow must not hold up a queen that stops.
struct StreamBody {
    subscription: Subscription,
    /// Of the session that gave a right to it.
    end: Option<End>,
}

type End = Pin<Box<dyn Future<Output = ()>>>;

impl MessageBody for StreamBody {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(
        self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
    ) -> task::Poll<Option<Result<Bytes, Infallible>>> {
        let Self { subscription: Subscription { backlog, frames }, end } = self.get_mut();
        let ended = end.as_mut().is_some_and(|end| end.as_mut().poll(cx).is_ready());
        if ended || frames.is_closed() {
            return task::Poll::Ready(None);
        }
        if backlog.is_empty() {
            match task::ready!(frames.poll_recv(cx)) {
                Some(frame) => backlog.push_back(frame),
                None => return task::Poll::Ready(None),
            }
        }
        task::Poll::Ready(next_chunk(backlog).map(Ok))
    }
}

fn next_chunk(backlog: &mut std::collections::VecDeque<Bytes>) -> Option<Bytes> {
    let front = backlog.front_mut()?;
    if front.len() > CHUNK {
        return Some(front.split_to(CHUNK));
    }
    let chunk = backlog.pop_front();
    if backlog.is_empty() {
        // A long replay came through here; its room is not needed again.
        backlog.shrink_to(1);
    }
    chunk
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::body::to_bytes;
    use std::collections::VecDeque;
    use tokio::sync::mpsc;

    #[actix_web::test]
    async fn a_stream_that_was_closed_ends_at_once_whatever_still_waits() {
        let (sender, frames) = mpsc::channel(4);
        let backlog = VecDeque::from([Bytes::from_static(b"snapshot")]);
        drop(sender);
        let subscription = Subscription { backlog, frames };
        let body = StreamBody { subscription, end: None };
        assert!(to_bytes(body).await.is_ok_and(|sent| sent.is_empty()));
    }

    #[test]
    fn a_large_frame_is_handed_on_in_parts_and_stays_whole() {
        let large: Bytes = (0..20_000u32).map(|i| (i % 251) as u8).collect();
        let mut backlog = VecDeque::from([large.clone(), Bytes::from_static(b"next")]);
        let chunks: Vec<Bytes> = std::iter::from_fn(|| next_chunk(&mut backlog)).collect();
        assert!(chunks.iter().all(|chunk| chunk.len() <= CHUNK));
        assert_eq!(chunks.concat(), [&large[..], b"next"].concat());
    }
}
