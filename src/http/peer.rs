//! Notices that a client has hung up while its request is being worked on.
//!
//! The server reads a connection only when it wants something from it, so that it sees the end of one
//! only after its answer. Here a duplicate of the connection's descriptor is watched for nothing but that
//! end. It lives in the connection's data and in the answer, which the server drops with the connection.
//! A client that closes its sending half only cannot be told from one that is gone, and is taken for it.

use futures_util::FutureExt as _;
use std::{
    cell::{Cell, OnceCell},
    future::Future,
    io,
    os::fd::{AsFd, OwnedFd},
    pin::pin,
    rc::Rc,
    task::{Context, Poll, ready},
};
use tokio::{io::Interest, net::TcpStream};

/// The other end of one TCP connection. A copy watches the same; only the last to ask is woken.
#[derive(Clone)]
pub struct Peer(Rc<Watched>);

struct Watched {
    descriptor: Cell<Option<OwnedFd>>,
    /// Made when first asked for: most requests have their answer before anybody waits. `None` where the
    /// kernel refuses. Never read from nor written to.
    watch: OnceCell<Option<TcpStream>>,
}

impl Peer {
    /// `None` where the process has no descriptor left.
    pub fn of(connection: &impl AsFd) -> Option<Self> {
        let descriptor = Cell::new(Some(connection.as_fd().try_clone_to_owned().ok()?));
        Some(Self(Rc::new(Watched { descriptor, watch: OnceCell::new() })))
    }

    /// Ready once the client has hung up. To be called on the thread that serves the connection.
    pub fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        let watch = self.0.watch.get_or_init(|| {
            let descriptor = self.0.descriptor.take()?;
            TcpStream::from_std(descriptor.into()).ok()
        });
        let Some(watch) = watch else { return Poll::Pending };
        loop {
            if ready!(watch.poll_read_ready(cx)).is_err() {
                return Poll::Pending;
            }
            let state = watch.ready(Interest::READABLE).now_or_never();
            if state.is_some_and(|state| state.is_ok_and(|state| state.is_read_closed())) {
                return Poll::Ready(());
            }
            // Something to read, such as a next request: not what is waited for. This forgets it.
            let blocked = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
            let _ = watch.try_io(Interest::READABLE, blocked);
        }
    }
}

/// `work`'s result, or `None` as soon as `peer` is gone; then `work` is dropped.
pub async fn unless_gone<T>(peer: Option<&Peer>, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    std::future::poll_fn(|cx| match (work.as_mut().poll(cx), peer) {
        (Poll::Ready(done), _) => Poll::Ready(Some(done)),
        (Poll::Pending, Some(peer)) => peer.poll_gone(cx).map(|()| None),
        (Poll::Pending, None) => Poll::Pending,
    })
    .await
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test says what it expects")]
mod tests {
    use super::*;
    use std::{future::pending, time::Duration};
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
    };

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (client, listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn work_goes_on_while_the_client_is_there_and_sends_more() {
        let (mut client, server) = pair().await;
        let peer = Peer::of(&server);
        client.write_all(b"another request").await.unwrap();
        let work = tokio::time::sleep(Duration::from_millis(50));
        assert_eq!(unless_gone(peer.as_ref(), work).await, Some(()));
    }

    #[tokio::test]
    async fn work_ends_when_the_client_hangs_up_even_with_unread_bytes() {
        let (mut client, server) = pair().await;
        let peer = Peer::of(&server).unwrap();
        client.write_all(b"unread").await.unwrap();
        let watched = unless_gone(Some(&peer), pending::<()>());
        let (gone, ()) =
            tokio::join!(tokio::time::timeout(Duration::from_secs(5), watched), async {
                tokio::task::yield_now().await;
                drop(client);
            });
        assert_eq!(gone, Ok(None));
    }

    #[tokio::test]
    async fn the_duplicate_does_not_outlive_its_last_copy() {
        let (mut client, server) = pair().await;
        let (peer, copy) = (Peer::of(&server), Peer::of(&server));
        drop((server, peer, copy));
        let end = tokio::time::timeout(Duration::from_secs(5), client.read(&mut [0])).await;
        assert_eq!(end.unwrap().unwrap(), 0);
    }
}
