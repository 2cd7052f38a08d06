//! Reading a heartbeat's body: bounded in size before and after decompression, in time, and in what
//! all bodies together may hold.

use crate::limits::{HEARTBEAT_BODY_MAX, HEARTBEAT_WITHIN, Limit};
use crate::{actors::registry::Load, http::error::HttpError};
use actix_web::{
    HttpRequest,
    dev::{Decompress, Payload},
    error::PayloadError,
    http::{StatusCode, header},
};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use std::{pin::Pin, task};

/// Compressed bytes handed to the decompressor at once: it writes out all that they hold before the
/// size can be looked at, which for the worst input is thousands of times as much.
const PIECE: usize = 512;
const RETRY_AFTER_S: u64 = 1;

/// The whole body, decompressed; what it takes is booked on `load`.
pub(super) async fn read(
    request: &HttpRequest,
    payload: Payload,
    load: &mut Load,
) -> Result<Bytes, HttpError> {
    let encoded = is_encoded(request)?;
    if declared_length(request) > HEARTBEAT_BODY_MAX {
        return Err(too_large());
    }
    let reading = async {
        if encoded {
            let pieces = Pieces { payload, rest: Bytes::new() };
            collect(Decompress::from_headers(pieces, request.headers()), load).await
        } else {
            collect(payload, load).await
        }
    };
    tokio::time::timeout(HEARTBEAT_WITHIN, reading).await.map_err(|_| {
        Limit::HeartbeatTime.reached();
        let message = format!("the body took longer than {} s", HEARTBEAT_WITHIN.as_secs());
        HttpError::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", message)
    })?
}

/// All chunks to the end, so that the connection can serve another request; the usual single one is
/// not copied.
async fn collect(
    mut chunks: impl Stream<Item = Result<Bytes, PayloadError>> + Unpin,
    load: &mut Load,
) -> Result<Bytes, HttpError> {
    let (mut only, mut body) = (Bytes::new(), BytesMut::new());
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(unreadable)?;
        if only.len() + body.len() + chunk.len() > HEARTBEAT_BODY_MAX {
            return Err(too_large());
        }
        load.grow(chunk.len()).map_err(|full| {
            Limit::IntakeBytes.reached();
            HttpError::overloaded(full.to_string(), RETRY_AFTER_S)
        })?;
        if only.is_empty() && body.is_empty() {
            only = chunk;
        } else {
            body.extend_from_slice(&std::mem::take(&mut only));
            body.extend_from_slice(&chunk);
        }
    }
    Ok(if body.is_empty() { only } else { body.freeze() })
}

/// Whether the body is compressed, in a way that can be read.
fn is_encoded(request: &HttpRequest) -> Result<bool, HttpError> {
    let Some(encoding) = request.headers().get(header::CONTENT_ENCODING) else { return Ok(false) };
    match encoding.to_str().map(|text| text.trim().to_ascii_lowercase()).as_deref() {
        Ok("identity" | "") => Ok(false),
        Ok("gzip" | "zstd") => Ok(true),
        _ => {
            let message = format!(
                "content-encoding {encoding:?} is not known, allowed: gzip, zstd, identity"
            );
            Err(HttpError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unknown_encoding", message))
        }
    }
}

fn declared_length(request: &HttpRequest) -> usize {
    let length = request.headers().get(header::CONTENT_LENGTH);
    length.and_then(|length| length.to_str().ok()?.parse().ok()).unwrap_or(0)
}

fn too_large() -> HttpError {
    Limit::HeartbeatBody.reached();
    let message = format!("the body is larger than {HEARTBEAT_BODY_MAX} bytes");
    HttpError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
}

fn unreadable(error: PayloadError) -> HttpError {
    if matches!(error, PayloadError::Overflow) {
        return too_large();
    }
    HttpError::bad_request("unreadable_body", unreadable_text(&error))
}

/// In words of ours: the library's show its insides.
fn unreadable_text(error: &PayloadError) -> String {
    let why = match error {
        PayloadError::Incomplete(_) => "it breaks off",
        PayloadError::EncodingCorrupted => "it is not encoded as content-encoding says",
        PayloadError::UnknownLength => "its length is not known",
        _ => "its framing or its encoding is broken",
    };
    format!("the body cannot be read: {why}")
}

/// The payload in pieces of at most [`PIECE`] bytes.
struct Pieces {
    payload: Payload,
    rest: Bytes,
}

impl Stream for Pieces {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(
        self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
    ) -> task::Poll<Option<Self::Item>> {
        let this = self.get_mut();
        while this.rest.is_empty() {
            match task::ready!(this.payload.poll_next_unpin(cx)) {
                Some(Ok(chunk)) => this.rest = chunk,
                other => return task::Poll::Ready(other),
            }
        }
        let piece = this.rest.split_to(this.rest.len().min(PIECE));
        task::Poll::Ready(Some(Ok(piece)))
    }
}
