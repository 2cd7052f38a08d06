//! Reading a request's body: whole, as it came, and bounded in size, in time, and in what all bodies
//! together hold.

use super::overloaded;
use crate::limits::{GATEWAY_BODY_MAX, GATEWAY_PAUSE_MAX, GATEWAY_SENT_WITHIN, Limit};
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
use tokio::time::{Instant, timeout};

pub(super) async fn read(
    headers: &HeaderMap,
    mut payload: web::Payload,
    load: &mut Load,
) -> Result<Bytes, HttpError> {
    refuse_encoded(headers)?;
    let declared = declared_length(headers);
    if declared > GATEWAY_BODY_MAX {
        return Err(too_large());
    }
    let (mut only, mut body) = (Bytes::new(), BytesMut::new());
    let begun = Instant::now();
    loop {
        let piece = timeout(GATEWAY_PAUSE_MAX, payload.next()).await;
        let piece = piece.map_err(|_| too_slow(Limit::GatewayPause))?;
        let Some(piece) = piece else { break };
        let piece = piece.map_err(|error| {
            HttpError::bad_request("unreadable_body", format!("the body cannot be read: {error}"))
        })?;
        if only.len() + body.len() + piece.len() > GATEWAY_BODY_MAX {
            return Err(too_large());
        }
        load.grow(piece.len()).map_err(|full| overloaded(full, Limit::GatewayBodies))?;
        if only.is_empty() && body.is_empty() {
            only = piece;
            continue;
        }
        if begun.elapsed() > GATEWAY_SENT_WITHIN {
            return Err(too_slow(Limit::GatewayTime));
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
    Limit::GatewayBody.reached();
    let message = format!("the body is larger than {GATEWAY_BODY_MAX} bytes");
    HttpError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
}

fn too_slow(limit: Limit) -> HttpError {
    limit.reached();
    let message = format!(
        "the body paused for {} s, or took {} s",
        GATEWAY_PAUSE_MAX.as_secs(),
        GATEWAY_SENT_WITHIN.as_secs()
    );
    HttpError::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", message)
}
