//! The body of an admin call: bounded in size and in time.

use super::error::HttpError;
use actix_web::{http::StatusCode, web};
use bytes::Bytes;
use std::time::Duration;

/// A worker's spec is a few hundred bytes; bytes.
const SIZE_MAX: usize = 256 << 10;

/// How long a client may take to send it.
const SENT_WITHIN: Duration = Duration::from_secs(10);

/// All of it, or 413, 408 or 400.
pub async fn read(payload: web::Payload) -> Result<Bytes, HttpError> {
    let read = tokio::time::timeout(SENT_WITHIN, payload.to_bytes_limited(SIZE_MAX)).await;
    let read = read.map_err(|_| {
        let message = format!("the body took longer than {} s", SENT_WITHIN.as_secs());
        HttpError::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", message)
    })?;
    let read = read.map_err(|_| {
        let message = format!("a body is at most {SIZE_MAX} bytes here");
        HttpError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
    })?;
    read.map_err(|error| HttpError::bad_request("bad_body", error.to_string()))
}
