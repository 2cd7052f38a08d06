//! What a server sets on each connection it accepts.
//!
//! A client of the event stream that stops reading would otherwise hold megabytes in the kernel's send
//! buffer, and its connection for as long as the peer answers probes: ending the response does not
//! close a socket that cannot be written to. These limits hold for every connection of a server, since
//! they are set before the first request is read.

use super::{
    idle::{Connection, Connections},
    peer::Peer,
};
use actix_tls::accept::rustls_0_23::TlsStream;
use actix_web::{HttpRequest, dev::Extensions, http::Version, rt::net::TcpStream};
use nix::sys::socket::{setsockopt, sockopt};
use std::{any::Any, os::fd::AsFd as _, sync::Arc, time::Duration};

/// Bytes that the kernel may hold for a client that does not read; it doubles this for its own needs.
pub const SEND_BUFFER: usize = 64 * 1024;
/// A connection on which the peer has taken nothing for this long, with something to take, is closed.
pub const WRITE_PATIENCE: Duration = Duration::from_secs(30);

/// For `HttpServer::on_connect`, before `bind` or `listen`; what connects is one of `connections`.
pub fn on_connect(
    connections: Connections,
) -> impl Fn(&dyn Any, &mut Extensions) + Clone + Send + Sync + 'static {
    move |io, extensions| {
        let under_tls = || Some(io.downcast_ref::<TlsStream<TcpStream>>()?.get_ref().0);
        let Some(stream) = io.downcast_ref::<TcpStream>().or_else(under_tls) else { return };
        limit(stream);
        // None is left where the process has no descriptor any more; then nobody watches.
        if let Ok(descriptor) = stream.as_fd().try_clone_to_owned().map(Arc::new) {
            extensions.insert(connections.enter(Arc::clone(&descriptor)));
            extensions.insert(Peer::of(descriptor));
        }
    }
}

/// For a request whose answer lasts as long as its connection: that costs one descriptor instead of two.
/// A connection of HTTP/2 may have other requests beside it.
pub fn let_go_of_duplicate(request: &HttpRequest) {
    if request.version() < Version::HTTP_2 {
        if let Some(peer) = request.conn_data::<Peer>() {
            peer.let_go();
        }
        if let Some(connection) = request.conn_data::<Arc<Connection>>() {
            connection.let_go();
        }
    }
}

/// Sets both limits; a kernel that refuses leaves the connection as it was.
pub fn limit(stream: &TcpStream) {
    let patience = u32::try_from(WRITE_PATIENCE.as_millis()).unwrap_or(u32::MAX);
    let done = setsockopt(stream, sockopt::SndBuf, &SEND_BUFFER)
        .and_then(|()| set_user_timeout(stream, patience));
    if let Err(error) = done {
        tracing::debug!(%error, "a connection's limits could not be set");
    }
}

#[cfg(target_os = "linux")]
fn set_user_timeout(stream: &TcpStream, ms: u32) -> nix::Result<()> {
    setsockopt(stream, sockopt::TcpUserTimeout, &ms)
}

#[cfg(not(target_os = "linux"))]
fn set_user_timeout(_: &TcpStream, _: u32) -> nix::Result<()> {
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test says what it expects")]
mod tests {
    use super::*;
    use nix::sys::socket::getsockopt;

    #[actix_web::test]
    async fn an_accepted_connection_has_its_limits() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        on_connect(Connections::default())(&stream, &mut Extensions::new());
        assert!(getsockopt(&stream, sockopt::SndBuf).unwrap() <= 2 * SEND_BUFFER);
        #[cfg(target_os = "linux")]
        assert_eq!(getsockopt(&stream, sockopt::TcpUserTimeout).unwrap(), 30_000);
    }
}
