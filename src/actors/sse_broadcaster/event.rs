//! What the stream tells, and how that looks on the wire: one `text/event-stream` frame an event.

use crate::{
    actors::fleet::{HiveRecord, WorkerText, write_with_workers},
    contract::{Lagged, QueenHeartbeat, StreamLifecycle},
};
use bytes::Bytes;
use serde::Serialize;
use std::sync::Arc;

/// What a frame without data sends: it keeps proxies from closing the connection.
pub(super) const KEEP_ALIVE: Bytes = Bytes::from_static(b": keep-alive\n\n");
/// The first bytes of a stream that has nothing else to say yet.
pub(super) const WELCOME: Bytes = Bytes::from_static(b": connected\n\n");
const UNENCODABLE: Bytes = Bytes::from_static(b": an event could not be encoded\n\n");

/// Bytes that one worker is taken to cost, where nothing has been encoded yet.
const WORKER_WEIGHT: usize = 1_024;

/// One event, shared by all who still need it.
#[derive(Clone, Debug)]
pub enum StreamEvent {
    /// An accepted heartbeat.
    Telemetry(Arc<HiveRecord>),
    /// Something happened to a worker or a hive.
    Lifecycle(Arc<StreamLifecycle>),
    /// The queen's own heartbeat.
    Queen(Arc<QueenHeartbeat>),
}

impl StreamEvent {
    /// Wraps a lifecycle event.
    pub fn lifecycle(event: StreamLifecycle) -> Self {
        Self::Lifecycle(Arc::new(event))
    }

    /// Whose it is; `None` for the queen's, which all clients get.
    pub fn hive_id(&self) -> Option<&str> {
        match self {
            Self::Telemetry(record) => Some(&record.id),
            Self::Lifecycle(event) => Some(&event.hive_id),
            Self::Queen(_) => None,
        }
    }

    /// Roughly how many bytes are kept alive by holding it.
    pub fn weight(&self) -> usize {
        match self {
            Self::Telemetry(record) => {
                (record.workers.len() + 1) * WORKER_WEIGHT + record.text_bytes()
            }
            Self::Lifecycle(_) => WORKER_WEIGHT,
            Self::Queen(heartbeat) => (heartbeat.worker_ids.len() / 16 + 1) * WORKER_WEIGHT,
        }
    }

    /// Its frame.
    pub fn encode(&self, id: EventId) -> Bytes {
        match self {
            Self::Telemetry(record) => {
                frame_with_workers(id, "heartbeat", &record.telemetry(), record.texts(None))
            }
            Self::Lifecycle(event) => frame(id, "lifecycle", &**event),
            Self::Queen(heartbeat) => frame(id, "heartbeat", &**heartbeat),
        }
    }
}

/// `{queen start, unix ms}-{number}`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventId {
    /// When this queen started, unix ms.
    pub start_ms: u64,
    /// Counts up.
    pub number: u64,
}

impl EventId {
    /// Reads what a client sent; `None` if no queen ever wrote it.
    pub fn parse(text: &str) -> Option<Self> {
        let (start, number) = text.trim().split_once('-')?;
        let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
        if !digits(start) || !digits(number) {
            return None;
        }
        Some(Self { start_ms: start.parse().ok()?, number: number.parse().ok()? })
    }
}

/// Tells a client that it missed events, the last of which is `id`.
pub(super) fn lagged(id: EventId, missed: u64) -> Bytes {
    frame(id, "lagged", &Lagged { missed })
}

/// One frame.
pub(super) fn frame<T: Serialize>(id: EventId, name: &str, data: &T) -> Bytes {
    framed(id, name, |out| serde_json::to_writer(out, data))
}

/// One frame of `data` whose last field, a list of workers, is filled with `workers`.
pub(super) fn frame_with_workers<'a>(
    id: EventId,
    name: &str,
    data: &impl Serialize,
    workers: impl Iterator<Item = WorkerText<'a>>,
) -> Bytes {
    framed(id, name, |out| write_with_workers(out, data, workers))
}

/// JSON has no line breaks of its own, so one `data` line is enough.
fn framed(
    id: EventId,
    name: &str,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), serde_json::Error>,
) -> Bytes {
    let EventId { start_ms, number } = id;
    let mut bytes = format!("id: {start_ms}-{number}\nevent: {name}\ndata: ").into_bytes();
    if let Err(error) = write(&mut bytes) {
        tracing::error!(%error, name, "an event of the stream could not be encoded");
        return UNENCODABLE;
    }
    bytes.extend_from_slice(b"\n\n");
    bytes.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_frame_has_an_id_a_name_and_one_line_of_data() {
        let id = EventId { start_ms: 7, number: 9 };
        let expected = "id: 7-9\nevent: lagged\ndata: {\"type\":\"lagged\",\"missed\":3}\n\n";
        assert_eq!(lagged(id, 3), expected);
        let odd = frame(id, "x", &"line\nbreak\r");
        assert_eq!(odd.iter().filter(|b| **b == b'\n').count(), 4);
    }

    proptest! {
        #[test]
        fn an_id_that_was_written_is_read_back(start_ms: u64, number: u64) {
            let id = EventId { start_ms, number };
            prop_assert_eq!(EventId::parse(&format!("{start_ms}-{number}")), Some(id));
        }

        #[test]
        fn no_text_breaks_the_reading_of_ids(text in ".*") {
            if let Some(id) = EventId::parse(&text) {
                prop_assert!(text.contains('-'), "{id:?}");
            }
        }
    }

    #[test]
    fn fuzz_last_event_id() {
        crate::fuzz::fuzz_text("last-event-id", |text| {
            let Some(EventId { start_ms, number }) = EventId::parse(text) else { return };
            let again = EventId::parse(&format!("{start_ms}-{number}"));
            assert_eq!(again, Some(EventId { start_ms, number }));
        });
    }
}
