//! Reading a request's body: whole, as it came, and bounded in size, in time, and in what all bodies
//! together hold.

use super::RETRY_AFTER_S;
use crate::{actors::registry::Load, http::error::HttpError};
use actix_web::{
    http::{
        StatusCode,
        header::{self, HeaderMap},
    },
    web,
};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// Bytes of one body.
pub const GATEWAY_BODY: usize = 32 << 20;
/// How long a client may pause between two pieces.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// How long it may take for all of them.
const SENT_WITHIN: Duration = Duration::from_secs(600);

pub(super) async fn read(
    headers: &HeaderMap,
    mut payload: web::Payload,
    load: &mut Load,
) -> Result<Bytes, HttpError> {
    refuse_encoded(headers)?;
    let declared = declared_length(headers);
    if declared > GATEWAY_BODY {
        return Err(too_large());
    }
    let (mut only, mut body) = (Bytes::new(), BytesMut::new());
    let begun = Instant::now();
    loop {
        let piece = timeout(PAUSE_MAX, payload.next()).await.map_err(|_| too_slow())?;
        let Some(piece) = piece else { break };
        let piece = piece.map_err(|error| {
            HttpError::bad_request("unreadable_body", format!("the body cannot be read: {error}"))
        })?;
        if only.len() + body.len() + piece.len() > GATEWAY_BODY {
            return Err(too_large());
        }
        load.grow(piece.len())
            .map_err(|full| HttpError::overloaded(full.to_string(), RETRY_AFTER_S))?;
        if only.is_empty() && body.is_empty() {
            only = piece;
            continue;
        }
        if begun.elapsed() > SENT_WITHIN {
            return Err(too_slow());
        }
        body.extend_from_slice(&std::mem::take(&mut only));
        body.extend_from_slice(&piece);
    }
    Ok(if body.is_empty() { only } else { body.freeze() })
}

/// The model could not be read from it.
fn refuse_encoded(headers: &HeaderMap) -> Result<(), HttpError> {
    let encoding = headers.get(header::CONTENT_ENCODING);
    match encoding.map(|encoding| encoding.as_bytes().trim_ascii()) {
        None | Some(b"") => Ok(()),
        Some(encoding) if encoding.eq_ignore_ascii_case(b"identity") => Ok(()),
        Some(_) => {
            let message = "a body with a content-encoding is not taken here, allowed: identity";
            Err(HttpError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unknown_encoding", message))
        }
    }
}

fn declared_length(headers: &HeaderMap) -> usize {
    let length = headers.get(header::CONTENT_LENGTH);
    length.and_then(|length| length.to_str().ok()?.parse().ok()).unwrap_or(0)
}

fn too_large() -> HttpError {
    let message = format!("the body is larger than {GATEWAY_BODY} bytes");
    HttpError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
}

fn too_slow() -> HttpError {
    let message = format!(
        "the body paused for {} s, or took {} s",
        PAUSE_MAX.as_secs(),
        SENT_WITHIN.as_secs()
    );
    HttpError::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", message)
}
