//! Admin calls for a hive, passed on to it: `/v1/hives/{id}/workers…` here is `/v1/workers…` there.
//!
//! Where a call goes is the operator's to say, not a heartbeat's: to the hives of the configuration, at
//! the address given there, with the token given there. Only while nobody is asked for a token, a hive on
//! this very machine is taken as it comes.

mod heard;

use super::QueenState;
use crate::limits::{DRAIN_MAX_MS, Limit, SMALL_BODY_MAX};
use crate::{
    http::{
        auth::{Class, session_end},
        error::HttpError,
        fallback::{allow, get, post},
        query, small_body,
    },
    platform::tls::Authorities,
    settings::HiveAddress,
};
use actix_web::{
    HttpRequest, HttpResponse,
    http::{Method, StatusCode, header},
    web,
};
use awc::{Client, Connector};
use futures_util::StreamExt as _;
use heard::heard;
use serde::Deserialize;
use std::{cell::OnceCell, collections::HashMap, net::IpAddr, time::Duration};
use tokio::time::Instant;

/// Of the hive's answer, what is passed on beside the body.
const HEADERS: [header::HeaderName; 3] = [header::CONTENT_TYPE, header::RETRY_AFTER, header::ALLOW];

/// How long a drain waits for what is in flight, unless it says otherwise, ms.
const DRAIN_TIMEOUT_MS: u64 = 30_000;

/// A worker with its spec is not much longer than what it was asked for with, bytes.
const ANSWER_MAX: usize = 4 * SMALL_BODY_MAX;

/// Where calls are passed on to.
#[derive(Clone, Debug, Default)]
pub struct KnownHives {
    /// By id.
    pub listed: HashMap<String, HiveAddress>,
    /// Whether one on this machine is taken without being listed.
    pub local_too: bool,
    /// Whom to trust as a hive with TLS; `None`: no hive has it.
    pub authorities: Option<Authorities>,
}

/// Adds the routes, those of a hive and no other, with their methods. Called on each server thread, which
/// has a client of its own.
pub(super) fn configure(config: &mut web::ServiceConfig) {
    config
        .app_data(web::Data::new(OnceCell::<Client>::new()))
        .service(
            web::resource("/v1/hives/{id}/workers")
                .get(forward)
                .head(forward)
                .post(forward)
                .default_service(web::to(|request| allow("GET, HEAD, POST", request))),
        )
        .service(
            web::resource("/v1/hives/{id}/workers/{group}/{instance}")
                .get(forward)
                .head(forward)
                .delete(forward)
                .default_service(web::to(|request| allow("DELETE, GET, HEAD", request))),
        )
        .service(post("/v1/hives/{id}/workers/{group}/{instance}/restart", forward))
        .service(post("/v1/hives/{id}/workers/{group}/{instance}/drain", forward))
        .service(post("/v1/hives/{id}/workers/{group}/{instance}/resume", forward))
        .service(get("/v1/hives/{id}/workers/{group}/{instance}/logs", forward));
}

/// A client for one server thread. An answer may take as long as a worker's grace.
fn client(authorities: Option<&Authorities>) -> Client {
    let client = Client::builder().disable_timeout().disable_redirects();
    match authorities {
        None => client.finish(),
        Some(trusted) => {
            client.connector(Connector::new().rustls_0_23(trusted.client_config())).finish()
        }
    }
}

/// Of a path, what is looked at here.
#[derive(Deserialize)]
struct OfHive {
    id: String,
}

async fn forward(
    state: web::Data<QueenState>,
    client: web::Data<OnceCell<Client>>,
    request: HttpRequest,
    path: web::Path<OfHive>,
    payload: web::Payload,
) -> Result<HttpResponse, HttpError> {
    let OfHive { id } = path.into_inner();
    let HiveAddress { url: hive, token } = address_of(&state, &id)?;
    let client = client.get_or_init(|| self::client(state.known_hives.load().authorities.as_ref()));
    // As it came: what is encoded stays encoded.
    let raw = request.uri().path_and_query().map_or("", |path| path.as_str());
    let call = raw.strip_prefix("/v1/hives/").and_then(|raw| raw.split_once('/'));
    let call = call.map_or("workers", |(_, call)| call);
    let drain_timeout = drain_timeout(&request, call)?;
    let mut passed_on = client.request(request.method().clone(), format!("{hive}/v1/{call}"));
    if let Some(token) = token {
        passed_on = passed_on.bearer_auth(token.expose());
    }
    if let Some(content_type) = request.headers().get(header::CONTENT_TYPE) {
        passed_on = passed_on.insert_header((header::CONTENT_TYPE, content_type.clone()));
    }
    let mut answer = passed_on
        .send_body(small_body::read(request.headers(), payload).await?)
        .await
        .map_err(|error| {
            let message = format!("hive {id:?} does not answer at {hive}: {error}");
            HttpError::new(StatusCode::BAD_GATEWAY, "hive_unreachable", message)
        })?;
    if answer.status().is_success()
        && request.method() == Method::POST
        && let Some(worker) = call_path(call).and_then(drained)
    {
        quiet(&state, &id, worker, drain_timeout).await?;
    }
    let mut response = HttpResponse::build(answer.status());
    for name in HEADERS {
        if let Some(value) = answer.headers().get(&name) {
            response.insert_header((name, value.clone()));
        }
    }
    if answer.status().is_success() && request.method() == Method::POST {
        let body = answer.body().limit(ANSWER_MAX).await.map_err(|error| {
            let message = format!("hive {id:?} broke off its answer: {error}");
            HttpError::new(StatusCode::BAD_GATEWAY, "hive_unreachable", message)
        })?;
        heard(&state, &id, &body).await;
        return Ok(response.body(body));
    }
    // A log that is followed ends with the session that gave a right to it; what is done is answered.
    let end = session_end(&request, Class::Admin).filter(|_| request.method() == Method::GET);
    Ok(match end {
        Some(end) => response.streaming(answer.take_until(Box::pin(end.reached()))),
        None => response.streaming(answer),
    })
}

fn call_path(call: &str) -> Option<&str> {
    call.split('?').next()
}

/// The group and instance that a call drains.
fn drained(path: &str) -> Option<(&str, &str)> {
    let mut parts = path.strip_prefix("workers/")?.split('/');
    let worker = (parts.next()?, parts.next()?);
    (parts.next()? == "drain" && parts.next().is_none()).then_some(worker)
}

/// `timeout_ms` of a drain; of another call it is the hive's to judge what its query says.
fn drain_timeout(request: &HttpRequest, call: &str) -> Result<Duration, HttpError> {
    let mut timeout_ms = DRAIN_TIMEOUT_MS;
    if call_path(call).and_then(drained).is_some() {
        for (key, value) in query::pairs(request.query_string(), &["timeout_ms"])? {
            let allowed = format!("a whole number of ms, up to {DRAIN_MAX_MS}");
            timeout_ms = query::parsed(&key, &value, &allowed)?;
            if timeout_ms > DRAIN_MAX_MS {
                Limit::DrainTime.reached();
                return Err(query::bad_value(&key, &value, &allowed));
            }
        }
    }
    Ok(Duration::from_millis(timeout_ms))
}

/// Waits until the registry knows that the worker drains, and all that this queen sent it is answered.
async fn quiet(
    state: &QueenState,
    hive: &str,
    (group, instance): (&str, &str),
    timeout: Duration,
) -> Result<(), HttpError> {
    let quiet = state.placement.quiet(hive, group, instance);
    tokio::time::timeout(timeout, quiet).await.map(|_| ()).map_err(|_| {
        let message = format!(
            "{hive}/{group}/{instance} takes no new requests, but some are still in flight after {} ms",
            timeout.as_millis()
        );
        HttpError::new(StatusCode::GATEWAY_TIMEOUT, "drain_timeout", message)
    })
}

fn address_of(state: &QueenState, id: &str) -> Result<HiveAddress, HttpError> {
    let known = state.known_hives.load();
    if let Some(listed) = known.listed.get(id) {
        return Ok(listed.clone());
    }
    let found = state.reader.hive(id, Instant::now());
    let hive = found.ok_or_else(|| HttpError::not_found(format!("no hive {id:?} is known")))?;
    if known.local_too && is_loopback(&hive.info.hostname) {
        let host = &hive.info.hostname;
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        return Ok(HiveAddress { url: format!("http://{host}:{}", hive.info.port), token: None });
    }
    let why = if known.local_too { "it is on another machine" } else { "there are tokens" };
    let message = format!(
        "calls are not passed on to hive {id:?}: {why}, and it is not in the queen's [[queen.hives]]"
    );
    Err(HttpError::new(StatusCode::FORBIDDEN, "hive_not_listed", message))
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::tests::Counting;

    #[test]
    fn only_this_machine_is_taken_as_it_comes() {
        for host in ["127.0.0.1", "127.8.8.8", "::1", "localhost"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in
            ["10.0.0.1", "localhost.evil.example", "0.0.0.0", "169.254.169.254", "127.0.0.1.x"]
        {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn a_drain_may_wait_for_so_long() {
        let waits = |ms: u64| {
            let uri = format!("/v1/hives/h/workers/a/1/drain?timeout_ms={ms}");
            let request = actix_web::test::TestRequest::post().uri(&uri).to_http_request();
            drain_timeout(&request, "workers/a/1/drain").ok()
        };
        assert_eq!(waits(DRAIN_MAX_MS), Some(Duration::from_millis(DRAIN_MAX_MS)));
        let counting = Counting::of(Limit::DrainTime);
        assert_eq!(waits(DRAIN_MAX_MS + 1), None);
        counting.counted();
    }
}
