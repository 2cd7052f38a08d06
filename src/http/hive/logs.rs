//! A worker's log: its end, and what comes after it for as long as somebody listens.

use super::{HiveState, Name, Named, State, name_of, unknown};
use crate::limits::{LOG_LINES_MAX, LOG_READERS_MAX, Limit};
use crate::{
    http::{error::HttpError, query},
    platform::log_file::{LogFile, LogPosition},
};
use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header::ContentType},
    web,
};
use bytes::Bytes;
use futures_util::{Stream, stream};
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::sync::watch;

/// Lines where none are asked for.
const TAIL_DEFAULT: usize = 100;

/// How often a followed log is looked at: the worker writes it by itself and tells nobody.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What is read of a log at once, bytes.
const PIECE: usize = 64 << 10;

/// How many read or follow a log now.
#[derive(Debug, Default)]
pub struct Readers(AtomicUsize);

struct Reader(Arc<Readers>);

impl Reader {
    fn enter(readers: &Arc<Readers>) -> Result<Self, HttpError> {
        let reader = Self(Arc::clone(readers));
        if readers.0.fetch_add(1, Ordering::AcqRel) >= LOG_READERS_MAX {
            Limit::LogReaders.reached();
            let message = format!("{LOG_READERS_MAX} requests read logs already");
            return Err(HttpError::overloaded(message, 5));
        }
        Ok(reader)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[utoipa::path(get, path = "/v1/workers/{group}/{instance}/logs", operation_id = "get_logs",
    tag = "workers", summary = "The end of a worker's output, and what comes",
    params(Named,
        ("tail" = Option<u64>, Query, maximum = 10_000, description = "Lines; 100 when not given"),
        ("follow" = Option<bool>, Query,
            description = "Goes on until the client leaves or the worker is forgotten")),
    responses(
        (status = 200, description = "Its lines", body = String, content_type = "text/plain; charset=utf-8"),
        (status = 400, description = "The query makes no sense"),
        (status = 404, description = "There is no such worker"),
        (status = 500, description = "The log cannot be read"),
        (status = 503, description = "Too many read logs already"),
    ))]
pub(super) async fn get(
    state: State,
    path: Name,
    request: HttpRequest,
) -> Result<HttpResponse, HttpError> {
    let name = name_of(&path);
    let (lines, follow) = parameters(request.query_string())?;
    state.board.get(&name).ok_or_else(|| unknown(&name))?;
    let log = state.logs.of(&name.group, &name.instance);
    let reader = Reader::enter(&state.readers)?;
    let read = log.clone();
    let tail = web::block(move || read.tail_from(lines)).await;
    let (tail, position) =
        match tail.map_err(|_| HttpError::internal("the read was interrupted"))? {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => (Vec::new(), log.start()),
            Err(error) => return Err(HttpError::internal(format!("cannot read the log: {error}"))),
        };
    let mut response = HttpResponse::build(StatusCode::OK);
    response.content_type(ContentType::plaintext());
    if !follow {
        return Ok(response.body(tail));
    }
    Ok(response.streaming(follow_log(&state, log, name, tail, position, reader)))
}

fn parameters(query: &str) -> Result<(usize, bool), HttpError> {
    let (mut lines, mut follow) = (TAIL_DEFAULT, false);
    for (key, value) in query::pairs(query, &["tail", "follow"])? {
        if key == "tail" {
            let allowed = format!("a whole number from 0 to {LOG_LINES_MAX}");
            lines = query::parsed(&key, &value, &allowed)?;
            if lines > LOG_LINES_MAX {
                Limit::LogLines.reached();
                return Err(query::bad_value(&key, &value, &allowed));
            }
        } else {
            follow = query::parsed(&key, &value, "true, false")?;
        }
    }
    Ok((lines, follow))
}

struct Following {
    log: LogFile,
    position: LogPosition,
    first: Option<Vec<u8>>,
    ticks: tokio::time::Interval,
    closing: watch::Receiver<bool>,
    alive: Box<dyn Fn() -> bool>,
    _reader: Reader,
}

/// Ends when the worker is forgotten or the hive ends, and with the client.
fn follow_log(
    state: &HiveState,
    log: LogFile,
    name: crate::actors::hive_board::WorkerName,
    tail: Vec<u8>,
    position: LogPosition,
    reader: Reader,
) -> impl Stream<Item = io::Result<Bytes>> + 'static {
    let board = Arc::clone(&state.board);
    let following = Following {
        log,
        position,
        first: Some(tail).filter(|tail| !tail.is_empty()),
        ticks: tokio::time::interval(LOOK_EVERY),
        closing: state.closing.clone(),
        alive: Box::new(move || board.get(&name).is_some()),
        _reader: reader,
    };
    stream::unfold(following, next_piece)
}

async fn next_piece(mut at: Following) -> Option<(io::Result<Bytes>, Following)> {
    if let Some(tail) = at.first.take() {
        return Some((Ok(tail.into()), at));
    }
    loop {
        tokio::select! {
            _ = at.ticks.tick() => {}
            _ = at.closing.wait_for(|closing| *closing) => return None,
        }
        // What is written last is read before the worker's absence is believed.
        let alive = (at.alive)();
        match at.log.read_on(at.position, PIECE) {
            Ok((bytes, position)) if !bytes.is_empty() => {
                at.position = position;
                return Some((Ok(bytes.into()), at));
            }
            _ if !alive => return None,
            _ => {}
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test says what it expects")]
mod tests {
    use super::*;
    use crate::limits::tests::Counting;

    #[test]
    fn so_many_lines_may_be_asked_for() {
        let most = format!("follow=true&tail={LOG_LINES_MAX}");
        assert_eq!(parameters(&most).unwrap(), (LOG_LINES_MAX, true));
        let counting = Counting::of(Limit::LogLines);
        assert!(parameters(&format!("tail={}", LOG_LINES_MAX + 1)).is_err());
        counting.counted();
    }

    #[test]
    fn so_many_read_at_once_and_who_leaves_makes_room() {
        let readers = Arc::new(Readers::default());
        let mut all: Vec<_> =
            (0..LOG_READERS_MAX).map(|_| Reader::enter(&readers).ok().unwrap()).collect();
        let counting = Counting::of(Limit::LogReaders);
        assert!(Reader::enter(&readers).is_err());
        counting.counted();
        all.pop();
        assert!(Reader::enter(&readers).is_ok());
    }
}
