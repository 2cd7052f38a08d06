//! HTTP/1.1 as it is on the wire, for tests that care about single bytes: heads, and the two ways
//! in which a body says where it ends. A body that ends before that is `UnexpectedEof`.

use std::io;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    net::TcpStream,
};

/// What both sides read from.
pub(super) type Reader = BufReader<TcpStream>;

/// A start line and its headers, as they came; names in lower case.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) start: String,
    pub(crate) headers: Vec<(String, String)>,
}

impl Head {
    /// `None` if the other side closed before the first byte.
    pub(super) async fn read(reader: &mut Reader) -> io::Result<Option<Self>> {
        if reader.fill_buf().await?.is_empty() {
            return Ok(None);
        }
        let start = line(reader).await?;
        let mut headers = Vec::new();
        loop {
            let line = line(reader).await?;
            if line.is_empty() {
                return Ok(Some(Self { start, headers }));
            }
            let (name, value) = line.split_once(':').ok_or(io::ErrorKind::InvalidData)?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    /// The first value of a header.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// What is left of a body.
#[derive(Debug)]
pub(super) enum Body {
    Length(u64),
    Chunked,
    UntilClose,
    Done,
}

impl Body {
    /// As the head says; without a word about it, `otherwise`.
    pub(super) fn of(head: &Head, otherwise: Self) -> Self {
        match (head.get("transfer-encoding"), head.get("content-length")) {
            (Some(_), _) => Self::Chunked,
            (None, Some(length)) => Self::Length(length.parse().expect("a length is a number")),
            (None, None) => otherwise,
        }
    }

    /// The next bytes, a chunk at a time where there are chunks; `None` at the proper end.
    pub(super) async fn next(&mut self, reader: &mut Reader) -> io::Result<Option<Vec<u8>>> {
        match self {
            Self::Done => Ok(None),
            Self::Length(0) => {
                *self = Self::Done;
                Ok(None)
            }
            Self::Length(left) => {
                let bytes = available(reader, *left).await?;
                if bytes.is_empty() {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                *left -= bytes.len() as u64;
                Ok(Some(bytes))
            }
            Self::UntilClose => {
                let bytes = available(reader, u64::MAX).await?;
                Ok(if bytes.is_empty() { None } else { Some(bytes) })
            }
            Self::Chunked => {
                let bytes = chunk(reader).await?;
                if bytes.is_none() {
                    *self = Self::Done;
                }
                Ok(bytes)
            }
        }
    }

    /// All that is left.
    pub(super) async fn rest(mut self, reader: &mut Reader) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        while let Some(bytes) = self.next(reader).await? {
            all.extend(bytes);
        }
        Ok(all)
    }
}

async fn available(reader: &mut Reader, limit: u64) -> io::Result<Vec<u8>> {
    let there = reader.fill_buf().await?;
    let count = there.len().min(usize::try_from(limit).unwrap_or(usize::MAX));
    let bytes = there[..count].to_vec();
    reader.consume(count);
    Ok(bytes)
}

/// One chunk; `None` for the last one and its trailers.
async fn chunk(reader: &mut Reader) -> io::Result<Option<Vec<u8>>> {
    let size = line(reader).await?;
    let size = size.split(';').next().unwrap_or_default();
    let size = usize::from_str_radix(size, 16).map_err(|_| io::ErrorKind::InvalidData)?;
    if size == 0 {
        while !line(reader).await?.is_empty() {}
        return Ok(None);
    }
    let mut bytes = vec![0; size];
    reader.read_exact(&mut bytes).await?;
    line(reader).await?;
    Ok(Some(bytes))
}

/// A line without its end, which must be there.
async fn line(reader: &mut Reader) -> io::Result<String> {
    let mut bytes = Vec::new();
    reader.read_until(b'\n', &mut bytes).await?;
    let line = bytes.strip_suffix(b"\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    String::from_utf8(line.to_vec()).map_err(|_| io::ErrorKind::InvalidData.into())
}
