//! A worker's answer on its way to the client: byte for byte, and whole or visibly broken.
//!
//! It holds the worker's slot. However it ends, at its end, by an error, or dropped since the client has
//! gone, the slot is free again and the worker's connection closed or kept for the next request.

use super::{
    headers,
    pool::{WorkerAnswer, WorkerBody},
};
use crate::limits::Limit;
use crate::{
    actors::{placement::Upstream, registry::Load},
    http::{in_flight::InFlight, peer::Peer, queen::QueenCounters},
};
use actix_web::{
    HttpResponse,
    body::{BodySize, MessageBody},
    error::PayloadError,
    http::{
        StatusCode,
        header::{self, HeaderMap, HeaderName, HeaderValue},
    },
};
use bytes::Bytes;
use std::{
    future::Future as _,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep_until};

/// Names the worker that answers.
const WORKER: HeaderName = HeaderName::from_static("x-rbee-worker");

/// What an answer holds until its end, most of it only to give it back then.
#[expect(dead_code, reason = "what is dropped at the end is not read before")]
pub(super) struct Held<S> {
    pub(super) slot: S,
    pub(super) upstream: Arc<Upstream>,
    pub(super) load: Load,
    pub(super) in_flight: Option<InFlight>,
    pub(super) peer: Option<Peer>,
    pub(super) counters: QueenCounters,
}

/// The worker's answer as the client's.
pub(super) fn pass_on<S: Unpin + 'static>(
    answer: WorkerAnswer,
    held: Held<S>,
    idle: Duration,
) -> HttpResponse {
    let WorkerAnswer { head, body } = answer;
    let (status, size) = (head.status, size_of(head.status, &head.headers));
    let worker = HeaderValue::from_str(&held.upstream.worker_id);
    let mut headers = HeaderMap::with_capacity(head.headers.len() + 1);
    headers::pass_response(&head.headers, &mut headers);
    if let Ok(worker) = worker {
        headers.insert(WORKER, worker);
    }
    let body =
        Answer { open: Some(Open { body, held }), broken: None, size, idle: Idle::new(idle) };
    let mut response = HttpResponse::with_body(status, body).map_into_boxed_body();
    *response.headers_mut() = headers;
    response
}

fn size_of(status: StatusCode, headers: &HeaderMap) -> BodySize {
    if matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        return BodySize::None;
    }
    if headers.contains_key(header::TRANSFER_ENCODING) {
        return BodySize::Stream;
    }
    let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    length.and_then(|length| length.trim().parse().ok()).map_or(BodySize::Stream, BodySize::Sized)
}

/// Why an answer is broken off.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error("the worker broke off")]
    Worker(#[source] PayloadError),
    #[error("the worker sent nothing for {} ms", .0.as_millis())]
    Idle(Duration),
    #[error("the client has gone")]
    ClientGone,
}

impl Broken {
    fn by(&self) -> &'static str {
        match self {
            Self::Worker(_) => "worker",
            Self::Idle(_) => "idle",
            Self::ClientGone => "client",
        }
    }
}

struct Open<S> {
    body: WorkerBody,
    held: Held<S>,
}

struct Answer<S> {
    /// Until the end.
    open: Option<Open<S>>,
    /// Why it is broken off with the next look.
    broken: Option<Broken>,
    size: BodySize,
    idle: Idle,
}

impl<S> Answer<S> {
    /// The server drops what it has not written yet when a body fails, and what came before the break is
    /// the client's: it is given the moment to write that, and fails when it looks again.
    fn break_off(
        &mut self,
        why: Broken,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Broken>>> {
        if let Some(open) = self.open.take() {
            let worker = &open.held.upstream.worker_id;
            open.held.counters.broken_off(why.by());
            match &why {
                Broken::ClientGone => tracing::debug!(worker, "client gone, request cancelled"),
                Broken::Idle(_) => {
                    Limit::GatewayIdle.reached();
                    tracing::warn!(worker, error = %why, "answer broken off");
                }
                Broken::Worker(source) => {
                    tracing::warn!(worker, error = %why, cause = %source, "answer broken off");
                }
            }
        }
        self.broken = Some(why);
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<S: Unpin> MessageBody for Answer<S> {
    type Error = Broken;

    fn size(&self) -> BodySize {
        self.size
    }

    fn poll_next(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Broken>>> {
        let this = self.get_mut();
        if let Some(why) = this.broken.take() {
            return Poll::Ready(Some(Err(why)));
        }
        let Some(open) = &mut this.open else { return Poll::Ready(None) };
        match open.body.poll_next(cx) {
            Poll::Ready(Some(Ok(bytes))) => {
                this.idle.touch();
                return Poll::Ready(Some(Ok(bytes)));
            }
            Poll::Ready(Some(Err(error))) => return this.break_off(Broken::Worker(error), cx),
            Poll::Ready(None) => {
                this.open = None;
                return Poll::Ready(None);
            }
            Poll::Pending => {}
        }
        if open.held.peer.as_ref().is_some_and(|peer| peer.poll_gone(cx).is_ready()) {
            return this.break_off(Broken::ClientGone, cx);
        }
        match this.idle.poll(cx) {
            Poll::Ready(()) => this.break_off(Broken::Idle(this.idle.limit), cx),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// Ready when nothing has been touched for a while. The timer is not moved by a touch, only when it
/// fires: an answer of many small chunks has one timer a limit, not one a chunk.
struct Idle {
    limit: Duration,
    touched: Instant,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Idle {
    fn new(limit: Duration) -> Self {
        Self { limit, touched: Instant::now(), timer: None }
    }

    fn touch(&mut self) {
        self.touched = Instant::now();
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let timer =
            self.timer.get_or_insert_with(|| Box::pin(sleep_until(self.touched + self.limit)));
        while timer.as_mut().poll(cx).is_ready() {
            let due = self.touched + self.limit;
            if due <= Instant::now() {
                return Poll::Ready(());
            }
            timer.as_mut().reset(due);
        }
        Poll::Pending
    }
}

#[cfg(test)]
#[path = "answer/tests.rs"]
mod tests;
