//! The body of an admin call: bounded in size and in time.

use super::error::HttpError;
use crate::limits::{Limit, SMALL_BODY_MAX, SMALL_BODY_WITHIN};
use actix_web::{
    http::{
        StatusCode,
        header::{self, HeaderMap},
    },
    web,
};
use bytes::Bytes;

/// All of it, or 413, 408 or 400.
pub async fn read(headers: &HeaderMap, payload: web::Payload) -> Result<Bytes, HttpError> {
    read_at_most(headers, payload, SMALL_BODY_MAX, Limit::SmallBody).await
}

/// The same for a body of so many bytes at most, which is that limit.
pub async fn read_at_most(
    headers: &HeaderMap,
    payload: web::Payload,
    size_max: usize,
    limit: Limit,
) -> Result<Bytes, HttpError> {
    let too_large = || {
        limit.reached();
        let message = format!("a body is at most {size_max} bytes here");
        HttpError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
    };
    // What says itself that it is too long is not waited for.
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    if declared
        .and_then(|length| length.parse().ok())
        .is_some_and(|length: usize| length > size_max)
    {
        return Err(too_large());
    }
    let read = tokio::time::timeout(SMALL_BODY_WITHIN, payload.to_bytes_limited(size_max)).await;
    let read = read.map_err(|_| {
        Limit::SmallBodyTime.reached();
        let message = format!("the body took longer than {} s", SMALL_BODY_WITHIN.as_secs());
        HttpError::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", message)
    })?;
    read.map_err(|_| too_large())?
        .map_err(|_| HttpError::bad_request("bad_body", "the body cannot be read: it breaks off"))
}
