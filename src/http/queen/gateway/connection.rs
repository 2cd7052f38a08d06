//! One connection to a worker. A request is sent while its answer is listened for already, since a worker
//! may answer before it has read all.
//!
//! What an answer's bytes mean is the codec's to say, but for one thing: an end of the connection is an
//! error here, unless it is the end that the head announced.

use super::target::Target;
use actix_http::{
    ResponseHead,
    error::{ParseError, PayloadError},
    h1::{ClientCodec, ClientPayloadCodec, MessageType},
};
use actix_web::http::{StatusCode, Version, header};
use bytes::{Buf as _, Bytes, BytesMut, buf::Chain};
use futures_util::FutureExt as _;
use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{io::Interest, net::TcpStream, time::timeout};
use tokio_util::{
    codec::Decoder as _,
    io::{poll_read_buf, poll_write_buf},
};

/// How long a worker may take to accept a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// Room for one read, bytes.
const READ: usize = 8 << 10;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The worker closed a kept connection; a new one may well do.
    #[error("a kept connection was lost before the answer began")]
    Stale,
    /// It does not take requests.
    #[error("cannot connect")]
    Connect(#[source] io::Error),
    /// It took the request, and went.
    #[error("the connection was lost before the answer began")]
    Dropped,
    /// The answer had begun.
    #[error("the answer ends within its head")]
    Cut,
    /// It is none.
    #[error("{0}")]
    Unreadable(ParseError),
}

#[derive(Debug)]
pub(super) struct Connection {
    tcp: TcpStream,
    /// Read, and not made sense of yet.
    read: BytesMut,
    /// Of the request.
    unsent: Chain<Bytes, Bytes>,
    /// The worker took only a part of the request.
    deaf: bool,
    /// Has served a request.
    reused: bool,
}

impl Connection {
    pub(super) async fn open(to: &Target) -> Result<Self, Failure> {
        let connect = TcpStream::connect((to.host.as_str(), to.port));
        let connected = timeout(CONNECT_WITHIN, connect).await;
        let tcp = connected.map_err(io::Error::from).flatten().map_err(Failure::Connect)?;
        tcp.set_nodelay(true).map_err(Failure::Connect)?;
        let unsent = Bytes::new().chain(Bytes::new());
        Ok(Self { tcp, read: BytesMut::new(), unsent, deaf: false, reused: false })
    }

    /// Whether it can serve another request: nothing came since the last answer, an end least of all.
    pub(super) fn is_quiet(&self) -> bool {
        self.tcp.ready(Interest::READABLE).now_or_never().is_none()
    }

    /// Sends a request, and waits for the head of its answer.
    pub(super) async fn ask(
        mut self,
        head: Bytes,
        body: Bytes,
        mut codec: ClientCodec,
    ) -> Result<(ResponseHead, Body), Failure> {
        self.unsent = head.chain(body);
        let mut begun = false;
        let head = poll_fn(|cx| {
            self.send(cx);
            self.poll_head(cx, &mut codec, &mut begun)
        })
        .await?;
        let (framing, keep_alive) = (Framing::of(&head, codec), head.keep_alive());
        Ok((head, Body { framing, keep_alive, connection: self }))
    }

    /// As much of the request as the worker takes now. One that takes no more may have answered, such as
    /// with 413: reading tells.
    fn send(&mut self, cx: &mut Context<'_>) {
        while self.unsent.has_remaining() && !self.deaf {
            match poll_write_buf(Pin::new(&mut self.tcp), cx, &mut self.unsent) {
                Poll::Pending => return,
                Poll::Ready(Ok(sent)) => self.deaf = sent == 0,
                Poll::Ready(Err(_)) => self.deaf = true,
            }
        }
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        codec: &mut ClientCodec,
        begun: &mut bool,
    ) -> Poll<Result<ResponseHead, Failure>> {
        loop {
            match codec.decode(&mut self.read).map_err(Failure::Unreadable)? {
                Some(head) if is_interim(head.status) => continue,
                Some(head) => return Poll::Ready(Ok(head)),
                None => {}
            }
            match ready!(self.poll_read(cx)) {
                Ok(1..) => *begun = true,
                _ if *begun => return Poll::Ready(Err(Failure::Cut)),
                _ if self.reused => return Poll::Ready(Err(Failure::Stale)),
                _ => return Poll::Ready(Err(Failure::Dropped)),
            }
        }
    }

    /// How many bytes came; 0: the worker closed it.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.read.reserve(READ);
        poll_read_buf(Pin::new(&mut self.tcp), cx, &mut self.read)
    }
}

/// 101 is none: nobody asked for it.
fn is_interim(status: StatusCode) -> bool {
    status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS
}

/// How it is known where a body ends.
enum Framing {
    /// There is none.
    Empty,
    /// The codec knows, by its length or by its chunks.
    Told(ClientPayloadCodec),
    /// With the connection.
    ToClose,
}

impl Framing {
    fn of(head: &ResponseHead, codec: ClientCodec) -> Self {
        let bodiless = matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if bodiless || head.status.is_informational() {
            return Self::Empty;
        }
        let has = |name, value: &[u8]| {
            head.headers
                .get_all(name)
                .any(|is| is.as_bytes().trim_ascii().eq_ignore_ascii_case(value))
        };
        let chunked =
            head.version == Version::HTTP_11 && has(header::TRANSFER_ENCODING, b"chunked");
        if !chunked && !head.headers.contains_key(header::CONTENT_LENGTH) {
            return Self::ToClose;
        }
        let nothing = !chunked && has(header::CONTENT_LENGTH, b"0");
        if nothing || matches!(codec.message_type(), MessageType::None) {
            return Self::Empty;
        }
        Self::Told(codec.into_payload_codec())
    }
}

/// What comes after the head of an answer.
pub(super) struct Body {
    framing: Framing,
    keep_alive: bool,
    connection: Connection,
}

impl Body {
    /// Its next piece; `None` at its end.
    ///
    /// # Errors
    /// The worker broke off, or sends what is no body. Nothing comes after that.
    pub(super) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, PayloadError>>> {
        self.connection.send(cx);
        loop {
            let read = &mut self.connection.read;
            match &mut self.framing {
                Framing::Empty => return Poll::Ready(None),
                Framing::ToClose if read.is_empty() => {}
                Framing::ToClose => return Poll::Ready(Some(Ok(read.split().freeze()))),
                Framing::Told(codec) => match codec.decode(read)? {
                    None => {}
                    Some(Some(piece)) => return Poll::Ready(Some(Ok(piece))),
                    Some(None) => self.framing = Framing::Empty,
                },
            }
            if matches!(self.framing, Framing::Empty) {
                continue;
            }
            let came = ready!(self.connection.poll_read(cx));
            match (came, &self.framing) {
                (Ok(1..), _) => {}
                (Ok(_), Framing::ToClose) => return Poll::Ready(None),
                (Ok(_), _) => return Poll::Ready(Some(Err(PayloadError::Incomplete(None)))),
                (Err(error), _) => {
                    return Poll::Ready(Some(Err(PayloadError::Incomplete(Some(error)))));
                }
            }
        }
    }

    /// The connection, once the body is at its end, if it can serve another request.
    pub(super) fn into_reusable(self) -> Option<Connection> {
        let Self { framing, keep_alive, mut connection } = self;
        let whole = matches!(framing, Framing::Empty) && connection.read.is_empty();
        let sent = !connection.unsent.has_remaining() && !connection.deaf;
        connection.read = BytesMut::new();
        connection.reused = true;
        (whole && sent && keep_alive).then_some(connection)
    }
}
