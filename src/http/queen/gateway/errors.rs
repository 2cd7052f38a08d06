//! What the gateway answers itself, where no worker does.

use crate::limits::Limit;
use crate::{
    actors::placement::{AdmissionRefusal, ReservationError},
    http::error::{CLIENT_GONE, HttpError},
};
use actix_web::http::StatusCode;
use std::time::Duration;

/// What a client is told to wait before it asks again, seconds.
const RETRY_AFTER_S: u64 = 1;

pub(super) fn refused(refusal: &AdmissionRefusal, model: &str) -> HttpError {
    let message = format!("{refusal} (model {model:?})");
    let new = |status, code| HttpError::new(status, code, message);
    match refusal {
        AdmissionRefusal::UnknownModel => new(StatusCode::NOT_FOUND, "model_not_found"),
        AdmissionRefusal::Out { retry_after } => {
            let seconds = retry_after.as_millis().div_ceil(1000).max(1);
            new(StatusCode::SERVICE_UNAVAILABLE, "model_unavailable")
                .retry_after(u64::try_from(seconds).unwrap_or(u64::MAX))
        }
        AdmissionRefusal::AllRefused => new(StatusCode::BAD_GATEWAY, "workers_unreachable"),
        AdmissionRefusal::QueueFull => {
            Limit::GatewayQueue.reached();
            new(StatusCode::TOO_MANY_REQUESTS, "queue_full").retry_after(RETRY_AFTER_S)
        }
        AdmissionRefusal::Reservation(ReservationError::Unknown) => {
            new(StatusCode::NOT_FOUND, "reservation_not_found")
        }
        AdmissionRefusal::Reservation(ReservationError::Used) => {
            new(StatusCode::CONFLICT, "reservation_used")
        }
        AdmissionRefusal::Reservation(ReservationError::OtherModel) => {
            new(StatusCode::CONFLICT, "reservation_of_other_model")
        }
    }
}

pub(super) fn queue_timeout(waited: Duration) -> HttpError {
    Limit::GatewayQueueTime.reached();
    let message = format!("no worker was free within {} ms", waited.as_millis());
    HttpError::new(StatusCode::SERVICE_UNAVAILABLE, "queue_timeout", message)
        .retry_after(RETRY_AFTER_S)
}

pub(super) fn first_byte_timeout(worker: &str, waited: Duration) -> HttpError {
    Limit::GatewayFirstByte.reached();
    let waited = waited.as_millis();
    let message = format!("worker {worker:?} did not begin its answer within {waited} ms");
    HttpError::new(StatusCode::GATEWAY_TIMEOUT, "first_byte_timeout", message)
}

/// It is the queen that cannot, and no worker is to be left out for it.
pub(super) fn lacking(error: &std::io::Error) -> HttpError {
    tracing::warn!(%error, "no connection to a worker can be made; raise the limit of open files");
    HttpError::overloaded(format!("no connection to a worker can be made: {error}"), RETRY_AFTER_S)
}

pub(super) fn bad_answer(worker: &str, why: impl std::fmt::Display) -> HttpError {
    let message = format!("worker {worker:?} gave an answer that cannot be read: {why}");
    HttpError::new(StatusCode::BAD_GATEWAY, "bad_answer", message)
}

/// Seldom is there somebody to read it.
pub(super) fn client_gone() -> HttpError {
    let status = StatusCode::from_u16(CLIENT_GONE).unwrap_or(StatusCode::BAD_REQUEST);
    HttpError::new(status, "client_gone", "the client has gone")
}
