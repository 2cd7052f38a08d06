//! A worker that does as it is told, byte for byte: answers, stalls, floods, drops. It notes what
//! it was asked, how much of its answer was taken from it, and clients that left before the end.

use super::raw_http::{Body, Head, Reader};
use std::{
    cell::{Cell, Ref, RefCell},
    io,
    rc::Rc,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::{JoinHandle, JoinSet},
};

/// Bytes in each chunk of a [`Reply::Flood`].
const CHUNK: usize = 16 * 1024;

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
    /// How many the worker had got before it.
    pub(crate) number: usize,
    /// How many of them on the same connection.
    pub(crate) on_connection: usize,
}

impl Request {
    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// What a request is answered with.
pub(crate) enum Reply {
    /// These bytes; the connection is kept.
    Keep(Vec<u8>),
    /// These bytes, then the end of the connection. Without any: dropped before the first byte.
    Close(Vec<u8>),
    /// A head, and this many bytes in chunks, as fast as they are taken.
    Flood(u64),
    /// Nothing.
    Never,
    /// Each piece once the test hands it over; the connection ends with the sender.
    Steps(mpsc::UnboundedReceiver<Vec<u8>>),
}

impl Reply {
    /// A whole answer with a length, on a connection that is kept.
    pub(crate) fn whole(status: &str, headers: &str, body: &[u8]) -> Self {
        let length = body.len();
        let head = format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n");
        Self::Keep([head.as_bytes(), body].concat())
    }

    /// A small JSON answer.
    pub(crate) fn ok() -> Self {
        Self::whole("200 OK", "content-type: application/json\r\n", b"{\"ok\":true}")
    }

    /// Pieces from the test's hand.
    pub(crate) fn steps() -> (mpsc::UnboundedSender<Vec<u8>>, Self) {
        let (sender, pieces) = mpsc::unbounded_channel();
        (sender, Self::Steps(pieces))
    }

    /// Plays it; false if the connection is not to be used again.
    async fn play(self, reader: &mut Reader, seen: &Seen) -> io::Result<bool> {
        match self {
            Self::Keep(bytes) => {
                reader.write_all(&bytes).await?;
                Ok(true)
            }
            Self::Close(bytes) => {
                reader.write_all(&bytes).await?;
                reader.shutdown().await?;
                Ok(false)
            }
            Self::Flood(total) => flood(reader, seen, total).await.map(|()| true),
            Self::Never => {
                reader.fill_buf().await?;
                seen.left.set(seen.left.get() + 1);
                Ok(false)
            }
            Self::Steps(pieces) => steps(reader, seen, pieces).await.map(|()| false),
        }
    }
}

async fn flood(reader: &mut Reader, seen: &Seen, total: u64) -> io::Result<()> {
    let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    reader.write_all(head).await?;
    let chunk = [format!("{CHUNK:x}\r\n").as_bytes(), &[b'x'; CHUNK], b"\r\n"].concat();
    while seen.written.get() < total {
        if let Err(error) = reader.write_all(&chunk).await {
            seen.left.set(seen.left.get() + 1);
            return Err(error);
        }
        seen.written.set(seen.written.get() + CHUNK as u64);
        // Everything runs on the test's one thread.
        tokio::task::yield_now().await;
    }
    reader.write_all(b"0\r\n\r\n").await
}

async fn steps(
    reader: &mut Reader,
    seen: &Seen,
    mut pieces: mpsc::UnboundedReceiver<Vec<u8>>,
) -> io::Result<()> {
    loop {
        tokio::select! {
            piece = pieces.recv() => match piece {
                Some(piece) => reader.write_all(&piece).await?,
                None => return reader.shutdown().await,
            },
            _ = reader.fill_buf() => {
                seen.left.set(seen.left.get() + 1);
                return Ok(());
            }
        }
    }
}

#[derive(Default)]
struct Seen {
    requests: RefCell<Vec<Request>>,
    written: Cell<u64>,
    left: Cell<usize>,
}

/// The running server. Dropping it ends it with all its connections.
pub(crate) struct RawWorker {
    url: String,
    seen: Rc<Seen>,
    acceptor: JoinHandle<()>,
}

impl RawWorker {
    /// Listens, and asks `answer` what to do with each request.
    pub(crate) async fn start(answer: impl Fn(&Request) -> Reply + 'static) -> Self {
        Self::at("127.0.0.1:0", answer).await
    }

    /// Likewise, at this address.
    pub(crate) async fn at(address: &str, answer: impl Fn(&Request) -> Reply + 'static) -> Self {
        let listener = TcpListener::bind(address).await.expect("the port is free");
        let url = format!("http://{}", listener.local_addr().expect("it has an address"));
        let (seen, answer) = (Rc::<Seen>::default(), Rc::new(answer));
        let noted = Rc::clone(&seen);
        let acceptor = actix_web::rt::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let (noted, answer) = (Rc::clone(&noted), Rc::clone(&answer));
                connections.spawn_local(async move {
                    // A client that breaks off is what some tests are about.
                    let _ = serve(socket, &noted, &*answer).await;
                });
            }
        });
        Self { url, seen, acceptor }
    }

    /// Answers everything with [`Reply::ok`].
    pub(crate) async fn obliging() -> Self {
        Self::start(|_| Reply::ok()).await
    }

    /// Hands its first request to the test, and answers the others at once. What is handed over is
    /// where pieces of the answer go.
    pub(crate) async fn held() -> (Self, mpsc::UnboundedSender<Vec<u8>>) {
        let (sender, reply) = Reply::steps();
        let first = RefCell::new(Some(reply));
        let answer = move |_: &Request| first.borrow_mut().take().unwrap_or_else(Reply::ok);
        (Self::start(answer).await, sender)
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// What it was asked so far.
    pub(crate) fn requests(&self) -> Ref<'_, Vec<Request>> {
        self.seen.requests.borrow()
    }

    /// Body bytes of floods that were taken so far.
    pub(crate) fn written(&self) -> u64 {
        self.seen.written.get()
    }

    /// Clients that left before their answer was whole.
    pub(crate) fn left(&self) -> usize {
        self.seen.left.get()
    }

    /// Waits until it has been asked this many times.
    pub(crate) async fn asked(&self, times: usize) {
        let enough = async || {
            let count = self.requests().len();
            if count >= times { Ok(()) } else { Err(count) }
        };
        super::eventually(super::secs(10), enough).await;
    }

    /// Waits until one of its clients has left.
    pub(crate) async fn client_left(&self) {
        let left = async || if self.left() > 0 { Ok(()) } else { Err("its client is still there") };
        super::eventually(super::secs(5), left).await;
    }
}

impl Drop for RawWorker {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

async fn serve(
    socket: TcpStream,
    seen: &Seen,
    answer: &dyn Fn(&Request) -> Reply,
) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let mut reader = BufReader::new(socket);
    let mut on_connection = 0;
    while let Some(head) = Head::read(&mut reader).await? {
        let body = Body::of(&head, Body::Done).rest(&mut reader).await?;
        let number = seen.requests.borrow().len();
        let request = Request { head, body, number, on_connection };
        let reply = answer(&request);
        seen.requests.borrow_mut().push(request);
        if !reply.play(&mut reader, seen).await? {
            return Ok(());
        }
        on_connection += 1;
    }
    Ok(())
}
