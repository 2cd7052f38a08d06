//! What the queen's query strings may say.

use crate::limits::{Limit, TEXT_MAX};
use crate::{
    actors::fleet::WorkerFilter,
    contract::WorkerState,
    http::{
        error::HttpError,
        query::{bad_value, pairs, parsed},
    },
    settings::is_name,
};
use std::time::Duration;

/// What `s` is when it is not given.
const HISTORY_DEFAULT: Duration = Duration::from_secs(60);
const WORKER_KEYS: [&str; 6] = ["hive", "group", "state", "model", "idle", "min_free_vram_mb"];

/// The filters of `GET /v1/workers`.
pub(super) fn worker_filter(query: &str) -> Result<WorkerFilter, HttpError> {
    let mut filter = WorkerFilter::default();
    for (key, value) in pairs(query, &WORKER_KEYS)? {
        match key.as_str() {
            "hive" => filter.hive = Some(name(&key, value)?),
            "group" => filter.group = Some(name(&key, value)?),
            "state" => filter.state = Some(state(&value)?),
            "model" => filter.model = Some(model(value)?),
            "idle" => filter.idle = Some(parsed(&key, &value, "true, false")?),
            _ => filter.min_free_vram_mb = Some(parsed(&key, &value, "a whole number of MiB")?),
        }
    }
    Ok(filter)
}

/// `s` of `GET /v1/history`: 1 to all that is kept.
pub(super) fn history_span(query: &str, kept: Duration) -> Result<Duration, HttpError> {
    let allowed = format!("1 to {}", kept.as_secs());
    match pairs(query, &["s"])?.pop() {
        None => Ok(HISTORY_DEFAULT.min(kept)),
        Some((key, value)) => {
            let span = Duration::from_secs(parsed(&key, &value, &allowed)?);
            if span.is_zero() || span > kept {
                return Err(bad_value(&key, &value, &allowed));
            }
            Ok(span)
        }
    }
}

/// `hive` and `lastEventId` of the stream.
pub(super) fn stream(query: &str) -> Result<(Option<String>, Option<String>), HttpError> {
    let (mut hive, mut last) = (None, None);
    for (key, value) in pairs(query, &["hive", "lastEventId"])? {
        match key.as_str() {
            "hive" => hive = Some(name(&key, value)?),
            _ => last = Some(value),
        }
    }
    Ok((hive, last))
}

fn name(key: &str, value: String) -> Result<String, HttpError> {
    if is_name(&value) {
        return Ok(value);
    }
    Err(bad_value(key, &value, "1 to 64 of A-Z a-z 0-9 . _ -, the first a letter or digit"))
}

fn model(value: String) -> Result<String, HttpError> {
    if (1..=TEXT_MAX).contains(&value.len()) {
        return Ok(value);
    }
    if !value.is_empty() {
        Limit::HeartbeatText.reached();
    }
    Err(bad_value("model", &value, &format!("1 to {TEXT_MAX} bytes")))
}

fn state(value: &str) -> Result<WorkerState, HttpError> {
    let text = serde::de::value::StrDeserializer::<serde::de::value::Error>::new(value);
    serde::Deserialize::deserialize(text).map_err(|_| {
        let allowed = "starting, ready, draining, stopping, stopped, backoff, failed";
        bad_value("state", value, allowed)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test says what it expects")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn all_filters_are_read() {
        let query = "hive=h&group=g&state=ready&model=a%2Fb&idle=true&min_free_vram_mb=5";
        let expected = WorkerFilter {
            hive: Some("h".into()),
            group: Some("g".into()),
            state: Some(WorkerState::Ready),
            model: Some("a/b".into()),
            idle: Some(true),
            min_free_vram_mb: Some(5),
        };
        assert_eq!(worker_filter(query).unwrap(), expected);
        assert_eq!(worker_filter("").unwrap(), WorkerFilter::default());
    }

    #[test]
    fn what_is_wrong_is_named_with_what_is_allowed() {
        for (query, named, allowed) in [
            ("colour=red", "colour", "min_free_vram_mb"),
            ("idle=maybe", "idle", "true, false"),
            ("state=asleep", "asleep", "draining"),
            ("min_free_vram_mb=-1", "min_free_vram_mb", "MiB"),
            ("hive=a%00b", "hive", "A-Z"),
            ("group=a&group=b", "group", "once"),
            ("model=", "model", "1 to"),
        ] {
            let message = worker_filter(query).unwrap_err().to_string();
            assert!(message.contains(named) && message.contains(allowed), "{message}");
        }
    }

    #[test]
    fn a_span_is_within_what_is_kept() {
        let kept = Duration::from_secs(300);
        assert_eq!(history_span("", kept).unwrap(), Duration::from_secs(60));
        assert_eq!(history_span("s=300", kept).unwrap(), kept);
        assert_eq!(history_span("", Duration::from_secs(5)).unwrap(), Duration::from_secs(5));
        for query in ["s=0", "s=301", "s=x", "s=-1", "t=1", "s=99999999999999999999"] {
            assert!(history_span(query, kept).is_err(), "{query}");
        }
    }

    proptest! {
        #[test]
        fn no_query_makes_it_panic(query in ".*") {
            let _ = (worker_filter(&query), stream(&query));
            let _ = history_span(&query, Duration::from_secs(300));
        }
    }

    #[test]
    fn fuzz_query() {
        crate::fuzz::fuzz_text("query", |query| {
            let refused = [
                worker_filter(query).err(),
                stream(query).err(),
                history_span(query, Duration::from_secs(300)).err(),
                crate::http::queen::schedule::asked(query).err(),
            ];
            for error in refused.into_iter().flatten() {
                let message = error.to_string();
                assert!(
                    message.len() < 1_000 && !message.contains(char::is_control),
                    "{message:?}"
                );
            }
        });
    }
}
