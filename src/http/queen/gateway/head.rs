//! The head of a worker's answer, as bytes: where it ends, and how its body does.
//!
//! Only what the HTTP client leaves out is looked at here: interim heads, which it would take for the
//! answer, and bodies that end with the connection, which under HTTP/1.1 it would take for none.

/// The longest head, bytes.
pub(super) const HEAD_BYTES: usize = 64 << 10;

/// A head that is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Bytes, with the empty line.
    pub(super) length: usize,
    /// 1xx: the answer itself is still to come.
    pub(super) interim: bool,
    /// The end of the connection is the end of the body.
    pub(super) to_close: bool,
}

/// The head at the start of `bytes`, of which the first `seen` were looked at before; `None` while it
/// is not whole.
pub(super) fn find(bytes: &[u8], seen: usize) -> Option<Head> {
    let length = end_of(bytes, seen.saturating_sub(3))?;
    let head = bytes.get(..length)?;
    let status = head.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    let informational = matches!(status, [b'1', b'0'..=b'9', b'0'..=b'9']);
    let interim = informational && status != b"101";
    let bodiless = matches!(status, b"204" | b"304") || informational;
    let to_close = !bodiless && !head.split(|byte| *byte == b'\n').any(delimits);
    Some(Head { length, interim, to_close })
}

/// Makes an HTTP/1.1 head one of HTTP/1.0, whose body the HTTP client reads to the connection's end.
pub(super) fn as_http_1_0(head: &mut [u8]) {
    if head.starts_with(b"HTTP/1.1")
        && let Some(minor) = head.get_mut(7)
    {
        *minor = b'0';
    }
}

fn end_of(bytes: &[u8], from: usize) -> Option<usize> {
    let tail = bytes.get(from..)?;
    let line_ends = tail.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    line_ends.map(|(at, _)| from + at + 1).find_map(|next| match bytes.get(next..) {
        Some([b'\n', ..]) => Some(next + 1),
        Some([b'\r', b'\n', ..]) => Some(next + 2),
        _ => None,
    })
}

/// Whether the line says how long the body is.
fn delimits(line: &[u8]) -> bool {
    let mut parts = line.splitn(2, |byte| *byte == b':').map(|part| part.trim_ascii());
    let (name, value) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    // `transfer-encoding: identity` says nothing of the length.
    name.eq_ignore_ascii_case(b"content-length")
        || (name.eq_ignore_ascii_case(b"transfer-encoding")
            && !value.eq_ignore_ascii_case(b"identity"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test says what it expects")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn found(text: &str) -> Head {
        find(text.as_bytes(), 0).unwrap()
    }

    #[test]
    fn a_body_without_a_length_ends_with_the_connection() {
        assert!(found("HTTP/1.1 200 OK\r\ncontent-type: x\r\n\r\nbody").to_close);
        assert!(found("HTTP/1.0 200 OK\n\nbody").to_close);
        for head in [
            "HTTP/1.1 200 OK\r\nContent-Length : 3\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTRANSFER-ENCODING: chunked\r\n\r\n",
            "HTTP/1.1 204 No\r\n\r\n",
            "HTTP/1.1 304 No\r\n\r\n",
        ] {
            assert!(!found(head).to_close, "{head}");
        }
    }

    #[test]
    fn interim_heads_are_told_from_answers() {
        assert!(found("HTTP/1.1 100 Continue\r\n\r\nHTTP").interim);
        assert!(found("HTTP/1.1 103 Early\r\nlink: x\r\n\r\n").interim);
        assert!(!found("HTTP/1.1 200 1xx\r\n\r\n").interim);
        assert!(!found("HTTP/1.1 101 Switching\r\n\r\n").interim);
    }

    proptest! {
        #[test]
        fn pieces_are_judged_like_the_whole(cut in 0usize..60, text in "[a-z:\r\n ]{0,40}") {
            let whole = format!("HTTP/1.1 200 OK\r\n{text}\r\n\r\nbody").into_bytes();
            let cut = cut.min(whole.len());
            let whole_found = find(&whole, 0).unwrap();
            match find(whole.get(..cut).unwrap(), 0) {
                Some(early) => prop_assert_eq!(early, whole_found),
                None => prop_assert_eq!(find(&whole, cut).unwrap(), whole_found),
            }
        }
    }
}
