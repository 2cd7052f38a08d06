//! One request's way to an answer: a place on a worker, the worker, and the next one where it refuses.

use super::{
    GatewayConfig,
    connection::Failure,
    errors, headers,
    pool::{Pool, WorkerAnswer},
    target::Target,
};
use crate::limits::{GATEWAY_TRIES_MAX, Limit};
use crate::{
    actors::placement::{Admission, AdmissionRefusal, Booking, InferenceAsk, Placement},
    http::{error::HttpError, queen::QueenCounters},
};
use actix_web::HttpRequest;
use bytes::{Bytes, BytesMut};
use std::io;
use tokio::time::{Instant, timeout, timeout_at};

/// Room for the head of a request, bytes; a longer one makes more.
const HEAD: usize = 1 << 10;

/// What one request's tries have in common.
pub(super) struct Exchange<'a> {
    pub(super) placement: &'a Placement,
    pub(super) counters: &'a QueenCounters,
    pub(super) config: GatewayConfig,
    pub(super) pool: &'a Pool,
    pub(super) request: &'a HttpRequest,
    /// Kept until an answer begins.
    pub(super) body: &'a Bytes,
}

enum NoAnswer {
    /// The next worker may be asked.
    Refused(Failure),
    /// The client is told.
    Final(HttpError),
}

impl Exchange<'_> {
    /// The head of an answer, and the slot that it keeps.
    pub(super) async fn run(
        &self,
        mut ask: InferenceAsk<'_>,
    ) -> Result<(Booking, WorkerAnswer), HttpError> {
        let (mut refused_by, mut queued_until) = (Vec::new(), None);
        for _ in 0..GATEWAY_TRIES_MAX {
            let ask_again = InferenceAsk { refused_by: &refused_by, ..ask };
            let booking = self.place(ask_again, &mut queued_until).await?;
            match self.send(&booking).await {
                Ok(answer) => {
                    booking.answered();
                    return Ok((booking, answer));
                }
                Err(NoAnswer::Final(error)) => return Err(error),
                Err(NoAnswer::Refused(error)) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::debug!(worker = booking.upstream().worker_id, %error, cause, "worker refuses");
                    self.counters.worker_refused();
                    refused_by.push(booking.key());
                    booking.refused();
                    // It was for the worker that has refused.
                    ask.reservation = None;
                }
            }
        }
        Limit::GatewayTries.reached();
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
                let begun = Instant::now();
                let placed = timeout_at(until, place).await;
                let booking = placed.map_err(|_| errors::queue_timeout(limit))?;
                self.counters.queued(begun.elapsed());
                Ok(booking)
            }
        }
    }

    async fn send(&self, booking: &Booking) -> Result<WorkerAnswer, NoAnswer> {
        let worker = booking.upstream();
        let Some(target) = Target::of(&worker.url) else {
            let error = io::Error::new(io::ErrorKind::InvalidInput, "its URL is no http URL");
            return Err(NoAnswer::Refused(Failure::Connect(error)));
        };
        let head = self.head_for(&target);
        let asking = self.pool.ask(target, head, self.body.clone());
        let limit = self.config.first_byte_timeout;
        let Ok(done) = timeout(limit, asking).await else {
            return Err(NoAnswer::Final(errors::first_byte_timeout(&worker.worker_id, limit)));
        };
        match done {
            Ok(answer) if answer.head.status.is_informational() => {
                let why = format!("status {}", answer.head.status);
                Err(NoAnswer::Final(errors::bad_answer(&worker.worker_id, why)))
            }
            Ok(answer) => Ok(answer),
            Err(Failure::Lacking(error)) => Err(NoAnswer::Final(errors::lacking(&error))),
            Err(error @ (Failure::Cut | Failure::TooLong | Failure::Unreadable(_))) => {
                Err(NoAnswer::Final(errors::bad_answer(&worker.worker_id, error)))
            }
            Err(error) => Err(NoAnswer::Refused(error)),
        }
    }

    /// The request's head as the worker gets it.
    fn head_for(&self, target: &Target) -> Bytes {
        // As it came: what is encoded stays encoded.
        let path = self.request.uri().path_and_query().map_or("/", |path| path.as_str());
        let length = self.body.len().to_string();
        let mut head = BytesMut::with_capacity(HEAD);
        let mut write = |parts: &[&[u8]]| {
            for part in parts {
                head.extend_from_slice(part);
            }
        };
        write(&[b"POST ", target.prefix.as_bytes(), path.as_bytes(), b" HTTP/1.1\r\n"]);
        write(&[b"host: ", target.authority.as_bytes(), b"\r\n"]);
        write(&[b"content-length: ", length.as_bytes(), b"\r\n"]);
        headers::pass_request(self.request.headers(), |name, value| {
            write(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"]);
        });
        write(&[b"\r\n"]);
        head.freeze()
    }
}
