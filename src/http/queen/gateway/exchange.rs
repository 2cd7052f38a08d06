//! One request's way to an answer: a place on a worker, the worker, and the next one where it refuses.

use super::{
    GatewayConfig,
    clients::{Clients, Failure, judge},
    errors, headers,
};
use crate::{
    actors::placement::{Admission, AdmissionRefusal, Booking, InferenceAsk, Placement},
    http::error::HttpError,
};
use actix_web::{
    HttpRequest,
    body::{BodySize, MessageBody},
};
use awc::{Client, ClientResponse, error::SendRequestError};
use bytes::Bytes;
use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::time::{Instant, timeout, timeout_at};

/// Workers that one request is offered to.
const TRIES: usize = 16;
/// Bytes of a body that are copied for sending at once.
const PIECE: usize = 64 << 10;

/// What one request's tries have in common.
pub(super) struct Exchange<'a> {
    pub(super) placement: &'a Placement,
    pub(super) config: GatewayConfig,
    pub(super) clients: &'a Clients,
    pub(super) request: &'a HttpRequest,
    /// Kept until an answer begins.
    pub(super) body: &'a Bytes,
}

enum NoAnswer {
    /// The next worker may be asked.
    Refused(SendRequestError),
    /// The client is told.
    Final(HttpError),
}

impl Exchange<'_> {
    /// The head of an answer, and the slot that it keeps.
    pub(super) async fn run(
        &self,
        mut ask: InferenceAsk<'_>,
    ) -> Result<(Booking, ClientResponse), HttpError> {
        let (mut refused_by, mut queued_until) = (Vec::new(), None);
        for _ in 0..TRIES {
            let ask_again = InferenceAsk { refused_by: &refused_by, ..ask };
            let booking = self.place(ask_again, &mut queued_until).await?;
            match self.send(&booking).await {
                Ok(answer) => {
                    booking.answered();
                    return Ok((booking, answer));
                }
                Err(NoAnswer::Final(error)) => return Err(error),
                Err(NoAnswer::Refused(error)) => {
                    tracing::debug!(worker = booking.upstream().worker_id, %error, "worker refuses");
                    refused_by.push(booking.key());
                    booking.refused();
                    // It was for the worker that has refused.
                    ask.reservation = None;
                }
            }
        }
        Err(errors::refused(&AdmissionRefusal::AllRefused, ask.model))
    }

    /// A slot, at once or when one becomes free. All waits of a request share one limit.
    async fn place(
        &self,
        ask: InferenceAsk<'_>,
        until: &mut Option<Instant>,
    ) -> Result<Booking, HttpError> {
        let limit = self.config.queue_timeout;
        match self.placement.admit(ask) {
            Admission::Granted(booking) => Ok(booking),
            Admission::Refused(refusal) => Err(errors::refused(&refusal, ask.model)),
            Admission::Queued(place) => {
                let until = *until.get_or_insert_with(|| Instant::now() + limit);
                timeout_at(until, place).await.map_err(|_| errors::queue_timeout(limit))
            }
        }
    }

    async fn send(&self, booking: &Booking) -> Result<ClientResponse, NoAnswer> {
        let worker = booking.upstream();
        let sending = async {
            match self.ask(&self.clients.pooled(), &worker.url, false).await {
                Err(error) if judge(&error) == Failure::Stale => {
                    self.ask(&self.clients.fresh, &worker.url, true).await
                }
                done => done,
            }
        };
        let limit = self.config.first_byte_timeout;
        let Ok(done) = timeout(limit, sending).await else {
            return Err(NoAnswer::Final(errors::first_byte_timeout(&worker.worker_id, limit)));
        };
        match done {
            Ok(answer) if answer.status().is_informational() => {
                let why = format!("status {}", answer.status());
                Err(NoAnswer::Final(errors::bad_answer(&worker.worker_id, why)))
            }
            Ok(answer) => Ok(answer),
            Err(error) if judge(&error) == Failure::Bad => {
                Err(NoAnswer::Final(errors::bad_answer(&worker.worker_id, error)))
            }
            Err(error) => Err(NoAnswer::Refused(error)),
        }
    }

    async fn ask(
        &self,
        client: &Client,
        url: &str,
        once: bool,
    ) -> Result<ClientResponse, SendRequestError> {
        // As it came: what is encoded stays encoded.
        let path = self.request.uri().path_and_query().map_or("/", |path| path.as_str());
        let mut request = client.post([url, path].concat());
        headers::pass_request(self.request.headers(), request.headers_mut());
        if once {
            request = request.force_close();
        }
        request.send_body(Pieces(self.body.clone())).await
    }
}

/// A body whose copy on its way is never whole.
struct Pieces(Bytes);

impl MessageBody for Pieces {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.0.len() as u64)
    }

    fn poll_next(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Infallible>>> {
        let rest = &mut self.get_mut().0;
        let piece = rest.split_to(rest.len().min(PIECE));
        Poll::Ready((!piece.is_empty()).then_some(Ok(piece)))
    }
}
