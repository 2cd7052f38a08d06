//! One request on a connection of its own, with exactly these headers, and its answer as text.

use super::{Api, secs};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// An answer as it came.
#[derive(Debug)]
pub(crate) struct Plain {
    pub(crate) status: u16,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Plain {
    /// The first value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Whether any header has this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.header(name).is_some()
    }

    /// From the whole text of an answer.
    pub(crate) fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {text}"));
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
        let header = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_ascii_lowercase(), value.trim().to_owned()))
        };
        let status = status.unwrap_or_else(|| panic!("no status: {text}"));
        Self { status, headers: lines.filter_map(header).collect(), body: body.to_owned() }
    }
}

/// The text of a request. A `host` among the headers stands in place of the right one; an empty one
/// leaves it out.
pub(crate) fn request(
    address: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> String {
    let mut text = format!("{method} {path} HTTP/1.1\r\n");
    if !headers.iter().any(|(name, _)| *name == "host") {
        text.push_str(&format!("host: {address}\r\n"));
    }
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text + &format!("content-length: {}\r\n\r\n{body}", body.len())
}

/// Sends it, and reads the answer to its end.
pub(crate) async fn ask(
    api: &Api,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Plain {
    let closing = [headers, &[("connection", "close")]].concat();
    let text = request(api.address(), method, path, &closing, body);
    let exchange = async {
        let mut socket = TcpStream::connect(api.address()).await?;
        socket.write_all(text.as_bytes()).await?;
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = timeout(secs(20), exchange).await.expect("an answer in time");
    let answer = answer.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
    Plain::parse(&String::from_utf8_lossy(&answer))
}
