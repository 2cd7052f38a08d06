//! `POST /v1/hive-heartbeat`: read, judge, store, answer; each step bounded, none done twice.

use super::{QueenState, body, scan::scan, validate::validate};
use crate::limits::Limit;
use crate::{
    actors::{
        fleet::HiveRecord,
        registry::{Load, Outcome, StoreHeartbeat},
    },
    contract::{Ack, HiveHeartbeat},
    http::{
        error::HttpError,
        turn::{Turn, Work},
    },
};
use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// How long the registry may take to store a heartbeat.
const STORE_TIMEOUT: Duration = Duration::from_secs(2);
/// What a hive is told to wait when the queen is overloaded, seconds.
const RETRY_AFTER_S: u64 = 1;
/// The parser's messages repeat what they do not like; up to this many characters are passed on.
const MESSAGE_LIMIT: usize = 300;

#[utoipa::path(post, path = "/v1/hive-heartbeat", operation_id = "post_heartbeat", tag = "heartbeats",
    summary = "How a hive, or any program, tells about its workers",
    description = "Only `hive` (`id`, `hostname`, `port`), `timestamp` and `workers` are required, and of a worker \
        `group` and `instance`, which no two have in common; unknown fields are ignored. Texts are without control \
        characters, and their lengths are counted in bytes. A body may be compressed with gzip or zstd \
        (`Content-Encoding`), and has 4 MiB at most, decompressed too.",
    request_body = HiveHeartbeat,
    responses(
        (status = 200, description = "Stored, or known already", body = Ack),
        (status = 400, description = "Not JSON, or a field is missing or wrong; the message names it"),
        (status = 408, description = "The body took longer than 10 s"),
        (status = 409, description = "A hive with the same id started after this one"),
        (status = 413, description = "The body is too large"),
        (status = 415, description = "The `Content-Encoding` is not known"),
        (status = 500, description = "The registry has ended"),
        (status = 503, description = "Overloaded"),
    ))]
pub(super) async fn post(
    state: web::Data<QueenState>,
    turn: web::Data<Turn>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, HttpError> {
    let taken = take(&state, &turn, &request, payload).await;
    state.counters.heartbeat(match &taken {
        Ok((Outcome::Stored, _)) => "stored",
        Ok((Outcome::Repeated, _)) => "repeated",
        Ok((Outcome::Superseded, _)) => "superseded",
        Ok((Outcome::Full, _)) => "full",
        Err(error) => error.code(),
    });
    let (outcome, id) = taken?;
    answer(outcome, &id)
}

async fn take(
    state: &QueenState,
    turn: &Turn,
    request: &HttpRequest,
    payload: web::Payload,
) -> Result<(Outcome, String), HttpError> {
    let mut load = state.intake.begin();
    let body = body::read(request, payload.into_inner(), &mut load).await?;
    turn.admit(Work::Heartbeat).await?;
    let heartbeat = parse(&body)?;
    validate(&heartbeat)
        .inspect_err(|invalid| invalid.limit.into_iter().for_each(Limit::reached))
        .map_err(|invalid| HttpError::bad_request("invalid_field", invalid.to_string()))?;
    drop(body);
    let id = heartbeat.hive.id.clone();
    store(state, heartbeat, load).await.map(|outcome| (outcome, id))
}

/// The body as a heartbeat. Only one that cannot be parsed is parsed again, to name the place.
fn parse(body: &[u8]) -> Result<HiveHeartbeat, HttpError> {
    let bad = |message: String| HttpError::bad_request("invalid_json", message);
    if body.is_empty() {
        return Err(bad("the body is empty, expected a heartbeat in JSON".into()));
    }
    let text = std::str::from_utf8(body).map_err(|e| bad(format!("the body is not UTF-8: {e}")))?;
    scan(body).map_err(|e| bad(e.to_string()))?;
    // serde would take an array for a struct.
    if body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[') {
        return Err(bad("the body must be a JSON object".into()));
    }
    serde_json::from_str(text).map_err(|error| bad(explain(text, &error)))
}

fn explain(text: &str, plain: &serde_json::Error) -> String {
    let mut json = serde_json::Deserializer::from_str(text);
    match serde_path_to_error::deserialize::<_, HiveHeartbeat>(&mut json) {
        Err(error) if error.path().iter().next().is_some() => {
            format!("{}: {}", error.path(), shorten(error.inner()))
        }
        _ => shorten(plain),
    }
}

/// The end of a message, which says where, is kept.
fn shorten(error: &serde_json::Error) -> String {
    let message = error.to_string();
    if message.len() <= MESSAGE_LIMIT {
        return message;
    }
    let start: String = message.chars().take(MESSAGE_LIMIT).collect();
    format!("{start}… at line {} column {}", error.line(), error.column())
}

async fn store(
    state: &QueenState,
    heartbeat: HiveHeartbeat,
    mut load: Load,
) -> Result<Outcome, HttpError> {
    let overloaded = |message: String| HttpError::overloaded(message, RETRY_AFTER_S);
    load.enqueue().map_err(|full| {
        Limit::IntakeWaiting.reached();
        overloaded(full.to_string())
    })?;
    let (record, events) = HiveRecord::new(heartbeat, Instant::now());
    let sent = state.registry.send(StoreHeartbeat { record, events, load });
    tokio::time::timeout(STORE_TIMEOUT, sent)
        .await
        .map_err(|_| overloaded("the registry took too long".into()))?
        .map_err(|_| HttpError::internal("the registry has ended"))?
        .map_err(|behind| overloaded(behind.to_string()))
}

fn answer(outcome: Outcome, id: &str) -> Result<HttpResponse, HttpError> {
    let message = match outcome {
        Outcome::Stored => "stored".to_owned(),
        Outcome::Repeated => "already known, nothing changed".to_owned(),
        Outcome::Superseded => return Err(superseded(id)),
        Outcome::Full => {
            return Err(HttpError::overloaded(
                "the registry has no room for more hives or workers",
                RETRY_AFTER_S,
            ));
        }
    };
    Ok(HttpResponse::Ok().json(Ack { status: Arc::from("ok"), message }))
}

fn superseded(id: &str) -> HttpError {
    let message = format!(
        "another hive with the id {id:?} started after this one: two hives have the same id. \
         Stop one of them, or give it an id of its own ([hive] id)"
    );
    HttpError::new(StatusCode::CONFLICT, "hive_superseded", message)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test says what it expects")]
mod tests {
    use super::*;
    use crate::fuzz::fuzz;
    use proptest::prelude::*;

    const LEAST: &str = r#"{"hive":{"id":"h","hostname":"127.0.0.1","port":1},
        "timestamp":"2026-01-01T00:00:00Z","workers":[{"group":"a","instance":"1"}]}"#;

    fn message_of(body: &str) -> String {
        parse(body.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn the_least_that_is_required_is_enough_and_unknown_fields_are_ignored() {
        assert_eq!(parse(LEAST.as_bytes()).unwrap().workers.len(), 1);
        let more = LEAST.replacen('{', r#"{"future":[{"x":1}],"#, 1);
        assert!(parse(more.as_bytes()).is_ok());
    }

    #[test]
    fn what_cannot_be_parsed_is_named_by_its_path() {
        let wrong = LEAST.replace(r#""instance":"1""#, r#""instance":"1","cpu_pct":"much""#);
        assert!(message_of(&wrong).starts_with("workers[0].cpu_pct: "), "{}", message_of(&wrong));
        let wrong = LEAST.replace(r#""port":1"#, r#""port":70000"#);
        assert!(message_of(&wrong).starts_with("hive.port: "), "{}", message_of(&wrong));
        let wrong = LEAST.replace(r#""instance":"1""#, r#""instance":"1","state":"asleep""#);
        assert!(message_of(&wrong).starts_with("workers[0].state: "), "{}", message_of(&wrong));
        let wrong = LEAST.replace(r#""instance":"1""#, r#""instance":"1","vram_mb":-1"#);
        assert!(message_of(&wrong).starts_with("workers[0].vram_mb: "), "{}", message_of(&wrong));
        let wrong = LEAST.replace(r#""instance":"1""#, r#""instance":"1","cpu_pct":1e999"#);
        assert!(message_of(&wrong).contains("out of range"), "{}", message_of(&wrong));
    }

    #[test]
    fn a_message_does_not_repeat_a_whole_body() {
        let message = message_of(&format!("\"{}\"", "é".repeat(100_000)));
        assert!(message.len() < 700 && message.contains("column"), "{message}");
        let wrong = LEAST.replace(r#""port":1"#, &format!(r#""port":"{}""#, "x".repeat(100_000)));
        assert!(message_of(&wrong).starts_with("hive.port: ") && message_of(&wrong).len() < 700);
    }

    #[test]
    fn a_missing_field_is_named() {
        assert!(message_of("{}").contains("`hive`"));
        assert!(message_of(&LEAST.replace("timestamp", "time")).contains("`timestamp`"));
    }

    #[test]
    fn what_is_not_one_json_text_is_refused() {
        for body in ["", " ", "null", "[]", "{", "nonsense", "\u{feff}{}", &format!("{LEAST} x")] {
            assert!(parse(body.as_bytes()).is_err(), "{body:?}");
        }
        let mut bytes = LEAST.as_bytes().to_vec();
        bytes[10] = 0xff;
        assert!(parse(&bytes).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn no_damage_to_a_heartbeat_makes_it_panic(at in 0usize..190, byte: u8) {
            let mut bytes = LEAST.as_bytes().to_vec();
            let at = at % bytes.len();
            bytes[at] = byte;
            if let Ok(heartbeat) = parse(&bytes) {
                let _ = validate(&heartbeat);
            }
        }
    }

    #[test]
    fn fuzz_heartbeat() {
        fuzz("heartbeat", |bytes| {
            let Ok(heartbeat) = parse(bytes) else { return };
            let Ok(()) = validate(&heartbeat) else { return };
            // What is taken can be told, and is the same to who hears it.
            let told = serde_json::to_vec(&heartbeat).unwrap();
            let heard = parse(&told).unwrap();
            assert_eq!(validate(&heard), Ok(()));
            assert_eq!(ageless(&heard), ageless(&heartbeat));
        });
    }

    /// All but the ages of samples, which go on.
    fn ageless(heartbeat: &HiveHeartbeat) -> serde_json::Value {
        let mut told = serde_json::to_value(heartbeat).unwrap();
        for worker in told["workers"].as_array_mut().unwrap() {
            worker["sample_age_ms"].take();
        }
        told
    }
}
