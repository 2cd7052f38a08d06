//! Ends connections on which nothing is in hand for too long.
//!
//! The HTTP library bounds the head of a connection's first request and the pause between two, but neither
//! a later head that comes byte by byte, nor the rest of a body that nobody reads any more, nor a client
//! of HTTP/2 that asks for nothing. Here a connection counts as idle from its beginning, and from the end
//! of each answer until the next request is whole.

use crate::limits::{CONNECTION_IDLE_MAX, Limit};
use actix_web::{
    body::{BodySize, BoxBody, MessageBody},
    dev::ServiceRequest,
};
use bytes::Bytes;
use nix::sys::socket::{Shutdown, shutdown};
use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::{
    error::Error,
    os::fd::{AsRawFd, OwnedFd},
    pin::Pin,
    sync::{Arc, Weak},
    task,
    time::Duration,
};
use tokio::time::Instant;

/// How often idle ones are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// All connections of a server. A copy knows the same.
#[derive(Clone, Debug, Default)]
pub struct Connections(Arc<Mutex<Vec<Weak<Connection>>>>);

/// One of them, in the data of the HTTP library's connection.
#[derive(Debug)]
pub struct Connection {
    descriptor: Mutex<Option<Arc<OwnedFd>>>,
    usage: Mutex<Usage>,
}

#[derive(Debug)]
struct Usage {
    in_hand: usize,
    idle_since: Instant,
}

/// A request in hand, until its answer has ended.
#[derive(Debug)]
pub struct InHand(Arc<Connection>);

impl Connections {
    /// A new one. `descriptor` is a duplicate of the connection's own.
    pub fn enter(&self, descriptor: Arc<OwnedFd>) -> Arc<Connection> {
        let usage = Usage { in_hand: 0, idle_since: Instant::now() };
        let descriptor = Mutex::new(Some(descriptor));
        let connection = Arc::new(Connection { descriptor, usage: Mutex::new(usage) });
        self.0.lock().push(Arc::downgrade(&connection));
        connection
    }

    /// Looks for idle ones as long as the server has a copy of this.
    pub async fn watch(self) {
        let connections = Arc::downgrade(&self.0);
        drop(self);
        let mut ticks = tokio::time::interval(SWEEP_INTERVAL);
        loop {
            ticks.tick().await;
            let Some(open) = connections.upgrade() else { return };
            Self(open).sweep(Instant::now());
        }
    }

    fn sweep(&self, now: Instant) {
        self.0.lock().retain(|connection| {
            let open = connection.upgrade();
            open.as_ref().inspect(|open| open.end_if_idle(now)).is_some()
        });
    }
}

impl Connection {
    /// The request's own, if it has one.
    pub fn take_in_hand(request: &ServiceRequest) -> Option<InHand> {
        let connection = request.conn_data::<Arc<Self>>()?;
        connection.usage.lock().in_hand += 1;
        Some(InHand(Arc::clone(connection)))
    }

    /// Gives up the descriptor: for what is in hand as long as its connection lasts.
    pub fn let_go(&self) {
        *self.descriptor.lock() = None;
    }

    fn end_if_idle(&self, now: Instant) {
        let mut usage = self.usage.lock();
        if usage.in_hand > 0
            || now.saturating_duration_since(usage.idle_since) < CONNECTION_IDLE_MAX
        {
            return;
        }
        let Some(descriptor) = self.descriptor.lock().clone() else { return };
        if takes_more(&descriptor) {
            Limit::ConnectionIdle.reached();
            *self.descriptor.lock() = None;
            // Whoever is woken by this closes it.
            let _ = shutdown(descriptor.as_raw_fd(), Shutdown::Both);
        } else {
            // The answer before is still on its way to a slow client.
            usage.idle_since = now;
        }
    }
}

/// Whether the kernel would take more to send.
fn takes_more(descriptor: &OwnedFd) -> bool {
    let mut asked = [PollFd::new(descriptor, PollFlags::OUT)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut asked, Some(&at_once)).is_err() || !asked[0].revents().is_empty()
}

impl Drop for InHand {
    fn drop(&mut self) {
        let mut usage = self.0.usage.lock();
        usage.in_hand = usage.in_hand.saturating_sub(1);
        usage.idle_since = Instant::now();
    }
}

/// An answer's body, whose request is in hand until it ends.
#[derive(Debug)]
pub struct HeldBody {
    body: BoxBody,
    _in_hand: Option<InHand>,
}

impl HeldBody {
    /// `None` where the connection is not known.
    pub fn new(body: impl MessageBody + 'static, in_hand: Option<InHand>) -> Self {
        Self { body: body.boxed(), _in_hand: in_hand }
    }
}

impl MessageBody for HeldBody {
    type Error = Box<dyn Error>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
    ) -> task::Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(cx)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test says what it expects")]
mod tests {
    use super::*;
    use crate::limits::tests::Counting;
    use std::{
        io::{Read as _, Write as _},
        net::{TcpListener, TcpStream},
        os::fd::AsFd as _,
    };

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    fn enter(connections: &Connections, server: &TcpStream) -> Arc<Connection> {
        connections.enter(Arc::new(server.as_fd().try_clone_to_owned().unwrap()))
    }

    fn is_ended(client: &mut TcpStream) -> bool {
        client.set_nonblocking(true).unwrap();
        client.read(&mut [0]).is_ok_and(|read| read == 0)
    }

    #[test]
    fn only_what_was_idle_for_long_is_ended() {
        let counting = Counting::of(Limit::ConnectionIdle);
        let (connections, start) = (Connections::default(), Instant::now());
        let ((mut idle, server), (mut busy, other)) = (pair(), pair());
        let (_idle, in_use) = (enter(&connections, &server), enter(&connections, &other));
        in_use.usage.lock().in_hand += 1;
        let in_hand = InHand(Arc::clone(&in_use));
        connections.sweep(start + CONNECTION_IDLE_MAX / 2);
        assert!(!is_ended(&mut idle) && !is_ended(&mut busy));
        connections.sweep(start + CONNECTION_IDLE_MAX * 2);
        assert!(is_ended(&mut idle) && !is_ended(&mut busy));
        counting.counted();
        drop(in_hand);
        connections.sweep(Instant::now() + CONNECTION_IDLE_MAX);
        assert!(is_ended(&mut busy));
    }

    #[test]
    fn an_answer_that_is_still_on_its_way_is_waited_for() {
        let (connections, start) = (Connections::default(), Instant::now());
        let (mut client, mut server) = pair();
        let connection = enter(&connections, &server);
        server.set_nonblocking(true).unwrap();
        while server.write(&[b'x'; 65_536]).is_ok() {}
        connections.sweep(start + CONNECTION_IDLE_MAX * 2);
        assert_eq!(connection.usage.lock().idle_since, start + CONNECTION_IDLE_MAX * 2);
        client.set_nonblocking(true).unwrap();
        let mut read = [0; 65_536];
        assert!(client.read(&mut read).unwrap() > 0);
        while client.read(&mut read).is_ok_and(|count| count > 0) {}
        assert!(server.write(b"x").is_ok(), "it was not ended");
    }

    #[test]
    fn what_is_gone_is_forgotten() {
        let connections = Connections::default();
        let (_client, server) = pair();
        drop(enter(&connections, &server));
        connections.sweep(Instant::now());
        assert!(connections.0.lock().is_empty());
    }
}
