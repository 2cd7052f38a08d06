//! Notices that a client has hung up while its request is being worked on.
//!
//! The server reads a connection only when it wants something from it, so that it sees the end of one
//! only after its answer. Here a duplicate of the connection's descriptor is watched for nothing but that
//! end. It lives in the connection's data and in the answer, which the server drops with the connection.
//! A client that closes its sending half only cannot be told from one that is gone, and is taken for it.

use std::{
    cell::{Cell, OnceCell},
    future::Future,
    os::fd::OwnedFd,
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::io::{Interest, unix::AsyncFd};

/// The other end of one TCP connection. A copy watches the same; only the last to ask is woken.
#[derive(Clone)]
pub struct Peer(Rc<Watched>);

struct Watched {
    descriptor: Cell<Option<Arc<OwnedFd>>>,
    /// Made when first asked for: most requests have their answer before anybody waits. `None` where the
    /// kernel refuses. Never read from nor written to.
    watch: OnceCell<Option<AsyncFd<Arc<OwnedFd>>>>,
}

impl Peer {
    /// `descriptor` is a duplicate of the connection's own.
    pub fn of(descriptor: Arc<OwnedFd>) -> Self {
        let descriptor = Cell::new(Some(descriptor));
        Self(Rc::new(Watched { descriptor, watch: OnceCell::new() }))
    }

    /// Gives up the descriptor, unless it is watched already: nobody will ask.
    pub fn let_go(&self) {
        self.0.descriptor.take();
    }

    /// Ready once the client has hung up. To be called on the thread that serves the connection.
    pub fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        let watch = self.0.watch.get_or_init(|| {
            let descriptor = self.0.descriptor.take()?;
            #[expect(
                deprecated,
                reason = "unsound for types whose descriptor changes: not this one"
            )]
            AsyncFd::with_interest(descriptor, Interest::READABLE).ok()
        });
        let Some(watch) = watch else { return Poll::Pending };
        loop {
            let Ok(mut state) = ready!(watch.poll_read_ready(cx)) else { return Poll::Pending };
            if state.ready().is_read_closed() {
                return Poll::Ready(());
            }
            // Something to read, such as a next request: not what is waited for. This forgets it.
            state.clear_ready();
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
    use std::{future::pending, os::fd::AsFd as _, time::Duration};
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
    };

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (client, listener.accept().await.unwrap().0)
    }

    fn peer_of(connection: &TcpStream) -> Peer {
        Peer::of(Arc::new(connection.as_fd().try_clone_to_owned().unwrap()))
    }

    #[tokio::test]
    async fn work_goes_on_while_the_client_is_there_and_sends_more() {
        let (mut client, server) = pair().await;
        let peer = peer_of(&server);
        client.write_all(b"another request").await.unwrap();
        let work = tokio::time::sleep(Duration::from_millis(50));
        assert_eq!(unless_gone(Some(&peer), work).await, Some(()));
    }

    #[tokio::test]
    async fn work_ends_when_the_client_hangs_up_even_with_unread_bytes() {
        let (mut client, server) = pair().await;
        let peer = peer_of(&server);
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
        let peer = peer_of(&server);
        let copy = peer.clone();
        drop((server, peer, copy));
        let end = tokio::time::timeout(Duration::from_secs(5), client.read(&mut [0])).await;
        assert_eq!(end.unwrap().unwrap(), 0);
    }
}
