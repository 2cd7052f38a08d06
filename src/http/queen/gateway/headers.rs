//! Which headers pass, in either direction. What belongs to one connection, to the queen's own
//! authority or to its own origin stays here; the queen's token is never sent to a worker.

use crate::http::error::HttpError;
use crate::limits::{GATEWAY_HOPS_MAX, Limit, SESSION_NAME_MAX};
use actix_web::http::{
    StatusCode,
    header::{self, HeaderMap, HeaderName, HeaderValue},
};

/// What a gateway calls itself in `via`.
const VIA: HeaderValue = HeaderValue::from_static("1.1 rbee");
/// What of a client's request goes to the worker, and `via`.
pub(super) fn pass_request(from: &HeaderMap, mut to: impl FnMut(&HeaderName, &HeaderValue)) {
    let named = connection_options(from);
    for (name, value) in from {
        if !(of_connection(name) || kept_from_worker(name) || is_named(&named, name)) {
            to(name, value);
        }
    }
    to(&header::VIA, &VIA);
}

/// Appends to `to` what of a worker's answer goes to the client; its length goes with the body.
pub(super) fn pass_response(from: &HeaderMap, to: &mut HeaderMap) {
    let named = connection_options(from);
    for (name, value) in from {
        if !(of_connection(name) || kept_from_client(name) || is_named(&named, name)) {
            to.append(name.clone(), value.clone());
        }
    }
}

/// 508 for what has been here too often.
pub(super) fn refuse_loop(headers: &HeaderMap) -> Result<(), HttpError> {
    let via = headers.get_all(header::VIA).filter_map(|via| via.to_str().ok());
    let receivers = via.flat_map(|via| via.split(','));
    let hops = receivers.filter(|hop| hop.split_whitespace().nth(1) == Some("rbee")).count();
    if hops <= GATEWAY_HOPS_MAX {
        return Ok(());
    }
    Limit::GatewayHops.reached();
    let message = format!("the request has passed {hops} gateways: a worker's URL is a queen's");
    Err(HttpError::new(StatusCode::LOOP_DETECTED, "loop_detected", message))
}

/// A session's or a reservation's name, where the request has one.
pub(super) fn name_of<'a>(
    headers: &'a HeaderMap,
    header: &'static str,
) -> Result<Option<&'a str>, HttpError> {
    let Some(value) = headers.get(header) else { return Ok(None) };
    let visible = value.as_bytes().iter().all(|byte| (b' '..=b'~').contains(byte));
    match value.to_str() {
        Ok(name) if visible && (1..=SESSION_NAME_MAX).contains(&name.len()) => Ok(Some(name)),
        _ => {
            if value.len() > SESSION_NAME_MAX {
                Limit::SessionName.reached();
            }
            let message =
                format!("{header} must be 1 to {SESSION_NAME_MAX} printable ASCII characters");
            Err(HttpError::bad_request("invalid_header", message))
        }
    }
}

/// What `connection` names is of that connection, too. Empty, and nothing allocated, for most.
fn connection_options(headers: &HeaderMap) -> Vec<&str> {
    let values = headers.get_all(header::CONNECTION).filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).collect()
}

fn is_named(options: &[&str], name: &HeaderName) -> bool {
    options.iter().any(|option| option.eq_ignore_ascii_case(name.as_str()))
}

fn of_connection(name: &HeaderName) -> bool {
    let name = name.as_str();
    matches!(name, "connection" | "keep-alive" | "te" | "trailer" | "transfer-encoding" | "upgrade")
        || name.starts_with("proxy-")
        || name == "content-length"
}

fn kept_from_worker(name: &HeaderName) -> bool {
    let name = name.as_str();
    matches!(
        name,
        "host" | "expect" | "authorization" | "cookie" | "x-api-key" | "origin" | "referer"
    ) || name == "forwarded"
        || name.starts_with("x-rbee-")
        || name.starts_with("x-forwarded-")
}

fn kept_from_client(name: &HeaderName) -> bool {
    let name = name.as_str();
    matches!(name, "set-cookie" | "alt-svc" | "strict-transport-security" | "x-rbee-worker")
        || name.starts_with("access-control-")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test says what it expects")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn map(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(name.parse().unwrap(), value.parse().unwrap());
        }
        map
    }

    fn to_worker(from: &HeaderMap, to: &mut HeaderMap) {
        pass_request(from, |name, value| to.append(name.clone(), value.clone()));
    }

    fn passed(pairs: &[(&str, &str)], pass: fn(&HeaderMap, &mut HeaderMap)) -> Vec<String> {
        let mut to = HeaderMap::new();
        pass(&map(pairs), &mut to);
        let mut lines: Vec<_> =
            to.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        lines.sort();
        lines
    }

    #[test]
    fn secrets_and_what_is_of_the_connection_stay_here() {
        let sent = passed(
            &[
                ("authorization", "Bearer secret"),
                ("cookie", "a=b"),
                ("x-api-key", "k"),
                ("host", "queen"),
                ("connection", "keep-alive, X-Hop"),
                ("x-hop", "1"),
                ("x-rbee-session", "s"),
                ("x-forwarded-for", "1.2.3.4"),
                ("forwarded", "for=x"),
                ("te", "trailers"),
                ("proxy-authorization", "x"),
                ("expect", "100-continue"),
                ("origin", "http://x"),
                ("referer", "http://x"),
                ("content-length", "3"),
                ("accept", "text/event-stream"),
                ("via", "1.1 other"),
                ("x-own", "1"),
                ("x-own", "2"),
            ],
            to_worker,
        );
        let want = [
            "accept: text/event-stream",
            "via: 1.1 other",
            "via: 1.1 rbee",
            "x-own: 1",
            "x-own: 2",
        ];
        assert_eq!(sent, want);
    }

    #[test]
    fn an_answer_sets_nothing_for_the_queens_origin() {
        let sent = passed(
            &[
                ("set-cookie", "a=b"),
                ("access-control-allow-origin", "*"),
                ("alt-svc", "h3"),
                ("strict-transport-security", "max-age=1"),
                ("content-length", "5"),
                ("transfer-encoding", "chunked"),
                ("connection", "close"),
                ("keep-alive", "1"),
                ("content-type", "application/json"),
                ("content-encoding", "gzip"),
                ("x-many", "1"),
                ("x-many", "2"),
                ("x-rbee-worker", "forged"),
            ],
            pass_response,
        );
        let want =
            ["content-encoding: gzip", "content-type: application/json", "x-many: 1", "x-many: 2"];
        assert_eq!(sent, want);
    }

    #[test]
    fn a_request_that_goes_round_is_stopped() {
        let four = map(&[("via", "1.1 rbee, 1.1 rbee"), ("via", "1.1 rbee, 1.0 x, 1.1 rbee")]);
        assert!(refuse_loop(&four).is_ok());
        let five = map(&[("via", "1.1 rbee,1.1 rbee, 1.1 rbee"), ("via", "1.1 rbee, 1.1 rbee")]);
        assert!(refuse_loop(&five).is_err());
    }

    #[test]
    fn a_session_is_a_short_printable_name() {
        let of = |value: &str| {
            let map = map(&[("x-rbee-session", value)]);
            name_of(&map, "x-rbee-session").map(|name| name.map(str::to_owned))
        };
        assert_eq!(name_of(&HeaderMap::new(), "x-rbee-session").unwrap(), None);
        assert_eq!(of("a-1").unwrap().as_deref(), Some("a-1"));
        assert_eq!(of("one chat").unwrap().as_deref(), Some("one chat"));
        assert!(of(&"x".repeat(256)).is_ok());
        for wrong in ["", "a\tb", &"x".repeat(257)] {
            assert!(of(wrong).is_err(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn what_connection_names_never_passes(name in "x-[a-z]{1,9}", value in "[!-~]{1,9}") {
            let named = name.to_ascii_uppercase();
            let pairs = [("connection", named.as_str()), (name.as_str(), value.as_str())];
            prop_assert!(passed(&pairs, pass_response).is_empty());
            prop_assert_eq!(passed(&pairs, to_worker), ["via: 1.1 rbee"]);
        }

        #[test]
        fn all_else_passes_as_it_was(name in "y-[a-z]{1,9}", value in "[!-~]{1,9}") {
            let pairs = [(name.as_str(), value.as_str())];
            prop_assert_eq!(passed(&pairs, pass_response), [format!("{name}: {value}")]);
        }
    }

    #[test]
    fn fuzz_headers() {
        crate::fuzz::fuzz("headers", |bytes| {
            let mut headers = HeaderMap::new();
            for line in bytes.split(|byte| *byte == b'\n') {
                let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
                let name = HeaderName::from_bytes(&line[..colon]);
                let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
                if let (Ok(name), Ok(value)) = (name, value) {
                    headers.append(name, value);
                }
            }
            let _ = (refuse_loop(&headers), name_of(&headers, "x-rbee-session"));
            pass_request(&headers, |name, value| {
                assert!(!of_connection(name) && !kept_from_worker(name), "{name}");
                assert!(!value.as_bytes().contains(&b'\n'));
            });
            let mut passed = HeaderMap::new();
            pass_response(&headers, &mut passed);
            assert!(passed.keys().all(|name| !of_connection(name) && !kept_from_client(name)));
        });
    }
}
