//! One connection to a worker. A request is sent while its answer is listened for already, since a worker
//! may answer before it has read all.
//!
//! What a head and chunks mean is the codec's to say. Where a body ends is decided here: an end of the
//! connection is an error, unless it is the end that the head announced.

use super::{address, target::Target};
use crate::limits::{GATEWAY_HEAD_MAX, Limit};
use actix_http::{
    ResponseHead,
    error::{ParseError, PayloadError},
    h1::{ClientCodec, ClientPayloadCodec},
};
use actix_web::http::{
    StatusCode, Version,
    header::{self, HeaderValue},
};
use bytes::{Buf as _, Bytes, BytesMut, buf::Chain};
use futures_util::FutureExt as _;
use nix::errno::Errno;
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
    /// This process or this machine lacks what a connection takes: no worker's fault.
    #[error("cannot make a connection")]
    Lacking(#[source] io::Error),
    /// It took the request, and went.
    #[error("the connection was lost before the answer began")]
    Dropped,
    /// The answer had begun.
    #[error("the answer ends within its head")]
    Cut,
    /// It has no end.
    #[error("the head is longer than {GATEWAY_HEAD_MAX} bytes")]
    TooLong,
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
        let connect = address::connect(&to.host, to.port);
        let connected = timeout(CONNECT_WITHIN, connect).await;
        let tcp = connected.map_err(io::Error::from).flatten().map_err(blame)?;
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
        codec: impl Fn() -> ClientCodec,
    ) -> Result<(ResponseHead, Body), Failure> {
        self.unsent = head.chain(body);
        let (mut decoder, mut begun) = (codec(), false);
        let mut interim = poll_fn(|cx| self.poll_exchange(cx, &mut decoder, &mut begun)).await?;
        while is_interim(interim.status) {
            decoder = codec();
            interim = poll_fn(|cx| self.poll_exchange(cx, &mut decoder, &mut begun)).await?;
        }
        let (head, codec) = (interim, decoder);
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

    fn poll_exchange(
        &mut self,
        cx: &mut Context<'_>,
        codec: &mut ClientCodec,
        begun: &mut bool,
    ) -> Poll<Result<ResponseHead, Failure>> {
        self.send(cx);
        self.poll_head(cx, codec, begun)
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        codec: &mut ClientCodec,
        begun: &mut bool,
    ) -> Poll<Result<ResponseHead, Failure>> {
        loop {
            if let Some(head) = head_in(&mut self.read, codec)? {
                return Poll::Ready(Ok(head));
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

/// A whole head, once there is one.
fn head_in(read: &mut BytesMut, codec: &mut ClientCodec) -> Result<Option<ResponseHead>, Failure> {
    if read.len() > GATEWAY_HEAD_MAX {
        Limit::GatewayHead.reached();
        return Err(Failure::TooLong);
    }
    codec.decode(read).map_err(Failure::Unreadable)
}

/// Whose fault it is that there is no connection.
pub(super) fn blame(error: io::Error) -> Failure {
    use Errno::{EADDRNOTAVAIL, EMFILE, ENFILE, ENOBUFS, ENOMEM};
    match error.raw_os_error().map(Errno::from_raw) {
        Some(EMFILE | ENFILE | ENOBUFS | ENOMEM | EADDRNOTAVAIL) => Failure::Lacking(error),
        _ => Failure::Connect(error),
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
    /// After so many bytes.
    Sized(u64),
    /// The codec knows.
    Chunked(ClientPayloadCodec),
    /// With the connection.
    ToClose,
}

impl Framing {
    fn of(head: &ResponseHead, codec: ClientCodec) -> Self {
        let bodiless = matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if bodiless || head.status.is_informational() {
            return Self::Empty;
        }
        let encodings = head.headers.get_all(header::TRANSFER_ENCODING);
        let chunked =
            |is: &HeaderValue| is.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
        if head.version == Version::HTTP_11 && encodings.into_iter().any(chunked) {
            return Self::Chunked(codec.into_payload_codec());
        }
        // One that says nothing the codec has refused.
        let length = head.headers.get(header::CONTENT_LENGTH);
        match length.and_then(|length| length.to_str().ok()?.trim().parse().ok()) {
            Some(length) => Self::Sized(length),
            None => Self::ToClose,
        }
    }

    /// What of the bytes that were read is of the body; `None`: more is to be read.
    fn take(&mut self, read: &mut BytesMut) -> Result<Option<Bytes>, PayloadError> {
        match self {
            Self::Empty => return Ok(None),
            Self::Chunked(codec) => match codec.decode(read)? {
                Some(Some(piece)) => return Ok(Some(piece)),
                Some(None) => *self = Self::Empty,
                None => {}
            },
            _ if read.is_empty() => {}
            Self::ToClose => return Ok(Some(read.split().freeze())),
            Self::Sized(left) => {
                let most = usize::try_from(*left).unwrap_or(usize::MAX);
                let piece = read.split_to(read.len().min(most));
                *left -= piece.len() as u64;
                return Ok((!piece.is_empty()).then(|| piece.freeze()));
            }
        }
        Ok(None)
    }

    fn is_at_end(&self) -> bool {
        matches!(self, Self::Empty | Self::Sized(0))
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
            if let Some(piece) = self.framing.take(&mut self.connection.read)? {
                return Poll::Ready(Some(Ok(piece)));
            }
            if self.framing.is_at_end() {
                return Poll::Ready(None);
            }
            match (ready!(self.connection.poll_read(cx)), &self.framing) {
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
        let whole = framing.is_at_end() && connection.read.is_empty();
        let sent = !connection.unsent.has_remaining() && !connection.deaf;
        connection.read = BytesMut::new();
        connection.reused = true;
        (whole && sent && keep_alive).then_some(connection)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test says what it expects")]
mod tests {
    use super::*;

    /// What a worker says, read to its end: the head, then the body in pieces.
    fn read_all(bytes: &[u8], config: &actix_http::ServiceConfig) -> Option<usize> {
        let mut codec = ClientCodec::new(config.clone());
        let mut read = BytesMut::from(bytes);
        let head = head_in(&mut read, &mut codec).ok()??;
        let announced = head.headers.get(header::CONTENT_LENGTH).cloned();
        let mut framing = Framing::of(&head, codec);
        let sized = matches!(framing, Framing::Sized(_));
        let mut taken = 0;
        while let Ok(Some(piece)) = framing.take(&mut read) {
            assert!(!piece.is_empty(), "nothing is no piece");
            taken += piece.len();
        }
        if sized {
            let most: usize = announced?.to_str().ok()?.trim().parse().ok()?;
            assert!(taken <= most, "{taken} of {most}");
        }
        Some(taken)
    }

    #[actix::test]
    async fn fuzz_worker_answer() {
        let config = actix_http::ServiceConfig::default();
        crate::fuzz::fuzz("worker-answer", |bytes| {
            assert!(read_all(bytes, &config).is_none_or(|taken| taken <= bytes.len()));
        });
    }
}
