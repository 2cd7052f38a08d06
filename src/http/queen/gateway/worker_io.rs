//! A connection to a worker, with two corrections for the HTTP client that reads from it.
//!
//! The client takes the end of a connection for the end of a body, even in the middle of a chunk: here an
//! end is an error, unless it is the end that the head announced. And an error says whether the answer
//! had begun and whether the connection had served before, which decides who is to blame.

use super::head::{self, HEAD_BYTES};
use actix_web::rt::net::{ActixStream, Ready, TcpStream};
use bytes::{Buf as _, BytesMut};
use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The connection was lost before the first byte of an answer.
#[derive(Debug)]
pub(super) struct Dropped {
    /// It had served a request before: the worker may have closed it as idle, just then.
    pub(super) reused: bool,
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let which = if self.reused { "a kept" } else { "a new" };
        write!(f, "{which} connection was lost before the answer began")
    }
}

impl std::error::Error for Dropped {}

#[derive(Debug)]
pub(super) struct WorkerIo {
    tcp: TcpStream,
    stage: Stage,
    /// Has served a request.
    reused: bool,
    /// Read, and not given on yet: only of a head that came in pieces or after an interim one.
    held: BytesMut,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// From the request's first byte on.
    Head,
    /// From the end of the answer's head on.
    Body { to_close: bool },
}

impl WorkerIo {
    pub(super) fn new(tcp: TcpStream) -> Self {
        Self { tcp, stage: Stage::Head, reused: false, held: BytesMut::new() }
    }

    /// The usual head is whole at once and stays where it was read; all else goes through `held`.
    fn take_head(&mut self, buf: &mut ReadBuf<'_>, start: usize) -> io::Result<()> {
        if self.held.is_empty()
            && let Some(bytes) = buf.filled_mut().get_mut(start..)
            && let Some(found) = head::find(bytes, 0)
            && !found.interim
        {
            self.begin_body(found, bytes);
            return Ok(());
        }
        let mut seen = self.held.len();
        self.held.extend_from_slice(buf.filled().get(start..).unwrap_or_default());
        buf.set_filled(start);
        while let Some(found) = head::find(&self.held, seen) {
            if found.interim {
                self.held.advance(found.length);
                seen = 0;
                continue;
            }
            let mut held = std::mem::take(&mut self.held);
            self.begin_body(found, &mut held);
            self.held = held;
            return Ok(());
        }
        if self.held.len() > HEAD_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the head is too long"));
        }
        Ok(())
    }

    fn begin_body(&mut self, found: head::Head, bytes: &mut [u8]) {
        if found.to_close {
            head::as_http_1_0(bytes);
        }
        self.stage = Stage::Body { to_close: found.to_close };
        self.reused = true;
    }

    fn give_held(&mut self, buf: &mut ReadBuf<'_>) {
        let length = self.held.len().min(buf.remaining());
        buf.put_slice(&self.held.split_to(length));
        if self.held.is_empty() {
            self.held = BytesMut::new();
        }
    }

    /// What an error of the connection means at this point.
    fn judge(&self, error: io::Error) -> io::Error {
        if self.stage == Stage::Head && self.held.is_empty() {
            return io::Error::new(error.kind(), Dropped { reused: self.reused });
        }
        error
    }
}

impl AsyncRead for WorkerIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if !this.held.is_empty() && this.stage != Stage::Head {
                this.give_held(buf);
                return Poll::Ready(Ok(()));
            }
            let start = buf.filled().len();
            ready!(Pin::new(&mut this.tcp).poll_read(cx, buf))
                .map_err(|error| this.judge(error))?;
            let ended = buf.filled().len() == start && buf.remaining() > 0;
            match this.stage {
                Stage::Body { to_close: true } => return Poll::Ready(Ok(())),
                _ if ended => {
                    return Poll::Ready(Err(this.judge(io::ErrorKind::UnexpectedEof.into())));
                }
                Stage::Body { to_close: false } => return Poll::Ready(Ok(())),
                Stage::Head => this.take_head(buf, start)?,
            }
            if buf.filled().len() > start {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncWrite for WorkerIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.stage = Stage::Head;
        match ready!(Pin::new(&mut this.tcp).poll_write(cx, bytes)) {
            // A worker may answer and close without having read all, such as with 413: the answer is
            // what counts, and reading tells whether there is one.
            Err(_) => Poll::Ready(Ok(bytes.len())),
            written => Poll::Ready(written),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_shutdown(cx)
    }
}

impl ActixStream for WorkerIo {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        ActixStream::poll_read_ready(&self.tcp, cx)
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        ActixStream::poll_write_ready(&self.tcp, cx)
    }
}
