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
    read_at_most(payload, SIZE_MAX).await
}

/// The same for a body of so many bytes at most.
pub async fn read_at_most(payload: web::Payload, size_max: usize) -> Result<Bytes, HttpError> {
    let read = tokio::time::timeout(SENT_WITHIN, payload.to_bytes_limited(size_max)).await;
    let read = read.map_err(|_| {
        let message = format!("the body took longer than {} s", SENT_WITHIN.as_secs());
        HttpError::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", message)
    })?;
    let read = read.map_err(|_| {
        let message = format!("a body is at most {size_max} bytes here");
        HttpError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
    })?;
    read.map_err(|error| HttpError::bad_request("bad_body", error.to_string()))
}
