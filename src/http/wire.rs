//! What every route does about odd requests, which the HTTP library leaves to its users.

use super::error::HttpError;
use actix_web::{
    body::{BodySize, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::{ConnectionType, StatusCode, Version, header},
};

/// A request that asks for a WebSocket has no body by the library's reading, whatever its length says: it
/// would wait for one that never ends. There is none here to be had.
pub fn refuse_upgrade(request: &ServiceRequest) -> Option<HttpError> {
    let upgrade = request.headers().get(header::UPGRADE)?;
    upgrade.as_bytes().trim_ascii().eq_ignore_ascii_case(b"websocket").then(|| {
        let message = "there is no WebSocket here; leave the upgrade header out";
        HttpError::new(StatusCode::UPGRADE_REQUIRED, "no_websocket", message)
    })
}

/// A client of HTTP/1.0 does not know chunks: an answer without a length ends with its connection.
pub fn suit_version<B: MessageBody>(answer: &mut ServiceResponse<B>) {
    if answer.request().version() < Version::HTTP_11
        && answer.response().body().size() == BodySize::Stream
    {
        let head = answer.response_mut().head_mut();
        head.no_chunking(true);
        head.set_connection_type(ConnectionType::Close);
    }
}
