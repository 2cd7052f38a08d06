//! Server-Sent Events: bytes in, whole events out. Only what rbee's stream uses.

use crate::limits::CLIENT_EVENT_MAX;

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SseEvent {
    /// For `Last-Event-ID`; empty where none was given.
    pub id: String,
    /// Its lines, joined.
    pub data: String,
}

/// What has come of an event that is not whole yet.
#[derive(Debug, Default)]
pub struct SseParser {
    line: Vec<u8>,
    event: SseEvent,
    has_data: bool,
    /// The line goes on beyond what is kept: the rest of it is passed over.
    line_is_cut: bool,
    /// So does the event: it is none.
    too_large: bool,
}

impl SseParser {
    /// The events that these bytes complete.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<SseEvent> {
        let mut events = Vec::new();
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            self.append(&rest[..end]);
            rest = &rest[end + 1..];
            events.extend(self.end_of_line());
        }
        self.append(rest);
        events
    }

    fn append(&mut self, bytes: &[u8]) {
        if self.line.len() + self.event.data.len() + bytes.len() > CLIENT_EVENT_MAX {
            self.too_large = true;
            self.line_is_cut = true;
            self.line = Vec::new();
            self.event.data = String::new();
        } else if !self.line_is_cut {
            self.line.extend_from_slice(bytes);
        }
    }

    fn end_of_line(&mut self) -> Option<SseEvent> {
        if std::mem::take(&mut self.line_is_cut) {
            return None;
        }
        let line = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(&line));
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            let has_data = std::mem::take(&mut self.has_data);
            let too_large = std::mem::take(&mut self.too_large);
            return (has_data && !too_large).then_some(event);
        }
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
            }
            "id" => value.clone_into(&mut self.event.id),
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &[u8] =
        b": hello\n\nid: a-1\nevent: snapshot\ndata: {\"a\":\ndata: 1}\n\ndata:x\r\n\r\nid: 3\n\n";

    fn expected() -> Vec<SseEvent> {
        let event = |id: &str, data: &str| SseEvent { id: id.into(), data: data.into() };
        vec![event("a-1", "{\"a\":\n1}"), event("", "x")]
    }

    #[test]
    fn comments_and_events_without_data_are_none() {
        assert_eq!(SseParser::default().feed(TEXT), expected());
    }

    #[test]
    fn one_that_is_too_large_is_dropped_and_the_next_is_whole() {
        let mut parser = SseParser::default();
        assert!(parser.feed(b"data: ").is_empty());
        for _ in 0..65 {
            assert!(parser.feed(&vec![b'x'; 1 << 20]).is_empty());
        }
        assert!(parser.feed(b"\nid: 1\n\n").is_empty());
        let next = parser.feed(b"data: y\n\n");
        assert_eq!(next.len(), 1);
        assert_eq!(next[0].data, "y");
    }

    proptest! {
        #[test]
        fn where_it_is_cut_does_not_matter(cuts in prop::collection::vec(0..TEXT.len(), 0..8)) {
            let mut cuts = cuts;
            cuts.extend([0, TEXT.len()]);
            cuts.sort_unstable();
            let mut parser = SseParser::default();
            let events: Vec<_> = cuts.windows(2).flat_map(|two| parser.feed(&TEXT[two[0]..two[1]])).collect();
            prop_assert_eq!(events, expected());
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            SseParser::default().feed(&bytes);
        }
    }

    #[test]
    fn fuzz_sse() {
        crate::fuzz::fuzz("sse", |bytes| {
            let whole = SseParser::default().feed(bytes);
            let (mut parser, mut cut) = (SseParser::default(), Vec::new());
            for piece in bytes.chunks(1 + bytes.len() % 7) {
                cut.extend(parser.feed(piece));
            }
            assert_eq!(cut, whole);
        });
    }

    #[test]
    fn an_event_with_one_line_that_is_too_long_is_dropped_whole() {
        let mut parser = SseParser::default();
        assert!(parser.feed(b"data: a\ndata: ").is_empty());
        for _ in 0..65 {
            assert!(parser.feed(&vec![b'x'; 1 << 20]).is_empty());
        }
        assert_eq!(parser.feed(b"\ndata: the rest of it\n\n"), []);
        let next = parser.feed(b"data: y\n\n");
        assert_eq!(next.iter().map(|event| event.data.as_str()).collect::<Vec<_>>(), ["y"]);
    }
}
