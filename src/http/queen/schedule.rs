//! `POST /v1/schedule`, `GET /v1/schedule/explain` and `/v1/reservations/{id}`: the placement, asked by
//! a program that goes to the worker itself.

use super::{QueenState, scan::scan};
use crate::limits::{Limit, RESERVATION_MAX_MS, SESSION_NAME_MAX, TEXT_MAX};
use crate::{
    actors::placement::{ReservationError, Reserved, ScheduleRefusal},
    contract::{
        ApiError, ErrorBody, Explanation, RenewRequest, ScheduleRequest, Scheduled, Unscheduled,
    },
    http::{
        error::HttpError,
        fallback::allow,
        query::{pairs, parsed},
        small_body,
    },
    settings::is_name,
};
use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header},
    web,
};
use serde::de::DeserializeOwned;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// A bad value is shown up to this many characters.
const SHOWN_LIMIT: usize = 64;
/// What a caller is told to wait when nobody takes it, seconds.
const RETRY_AFTER_S: u64 = 1;
const EXPLAIN_KEYS: [&str; 5] = ["model", "vram_mb", "group", "session", "ttl_ms"];

type State = web::Data<QueenState>;
type Answer = Result<HttpResponse, HttpError>;

/// Adds the routes.
pub(super) fn configure(config: &mut web::ServiceConfig) {
    config
        .service(crate::http::fallback::post("/v1/schedule", schedule))
        .service(crate::http::fallback::get("/v1/schedule/explain", explain))
        .service(
            web::resource("/v1/reservations/{id}")
                .route(web::put().to(renew))
                .route(web::delete().to(cancel))
                .default_service(web::to(|request| allow("DELETE, PUT", request))),
        );
}

#[utoipa::path(post, path = "/v1/schedule", operation_id = "schedule", tag = "scheduling",
    summary = "Takes a worker's slot and GPU memory for the caller",
    description = "The slot is taken from the moment of the answer: use it at `url`, or once through the gateway \
        with `x-rbee-reservation`, or let it end after `ttl_ms`. An empty body asks for any worker.",
    request_body(content = ScheduleRequest, description = "At most 256 KiB"),
    responses(
        (status = 200, description = "It is held", body = Scheduled),
        (status = 400, description = "The body is not a JSON object, or a field is wrong; the message names it"),
        (status = 408, description = "The body took longer than 10 s"),
        (status = 413, description = "The body is too large"),
        (status = 500, description = "The worker went in this very moment"),
        (status = 503, description = "Nobody takes it, and why each does not; or, without `rejected`, too many \
            reservations are held", body = Unscheduled),
    ))]
async fn schedule(state: State, http: HttpRequest, payload: web::Payload) -> Answer {
    let request: ScheduleRequest = read(&http, payload).await?;
    check(&request)?;
    match state.placement.schedule(&request) {
        Ok(reserved) => answer(&state, &reserved),
        Err(ScheduleRefusal::Nobody { rejected, omitted }) => {
            if omitted > 0 {
                Limit::Rejections.reached();
            }
            Ok(nobody(rejected, omitted))
        }
        Err(ScheduleRefusal::TooMany) => {
            Err(HttpError::overloaded("too many reservations are held", RETRY_AFTER_S))
        }
    }
}

fn nobody(rejected: Vec<crate::contract::Rejection>, rejected_omitted: usize) -> HttpResponse {
    let error = ApiError {
        message: "no worker takes it now; \"rejected\" says why each does not".into(),
        kind: "server_error".into(),
        code: "no_worker".into(),
    };
    HttpResponse::ServiceUnavailable()
        .insert_header((header::RETRY_AFTER, RETRY_AFTER_S))
        .json(Unscheduled { error: ErrorBody { error }, rejected, rejected_omitted })
}

fn answer(state: &QueenState, reserved: &Reserved) -> Answer {
    let gone = || HttpError::internal("the worker is gone");
    let worker = reserved.record.workers.get(reserved.position).ok_or_else(gone)?;
    let worker = state.reader.view_of(&reserved.record, worker, Instant::now());
    Ok(HttpResponse::Ok().json(Scheduled {
        reservation_id: reserved.id.to_string(),
        worker,
        url: reserved.url.clone(),
        expires_in_ms: u64::try_from(reserved.expires_in.as_millis()).unwrap_or(u64::MAX),
    }))
}

#[utoipa::path(get, path = "/v1/schedule/explain", operation_id = "explain_schedule", tag = "scheduling",
    summary = "For every worker whether it would be taken, its score and why not",
    params(
        ("model" = Option<String>, Query, min_length = 1, max_length = 4096,
            description = "That it serves, by name or alias"),
        ("vram_mb" = Option<u64>, Query, description = "MiB needed beyond what the worker holds; 0 when not given"),
        ("group" = Option<String>, Query, description = "That it is in",
            pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"),
        ("session" = Option<String>, Query, min_length = 1, max_length = 256,
            description = "Whose requests stay together"),
        ("ttl_ms" = Option<u64>, Query, minimum = 1, maximum = 3_600_000,
            description = "As for `POST /v1/schedule`; makes no difference"),
    ),
    responses(
        (status = 200, description = "Nothing is taken by this", body = Explanation),
        (status = 400, description = "The query makes no sense"),
    ))]
async fn explain(state: State, request: HttpRequest) -> Result<web::Json<Explanation>, HttpError> {
    let asked = asked(request.query_string())?;
    Ok(web::Json(state.placement.explain(&asked)))
}

/// What a query asks for.
pub(super) fn asked(query: &str) -> Result<ScheduleRequest, HttpError> {
    let mut asked = ScheduleRequest::default();
    for (key, value) in pairs(query, &EXPLAIN_KEYS)? {
        match key.as_str() {
            "model" => asked.model = Some(value),
            "group" => asked.group = Some(value),
            "session" => asked.session = Some(value),
            "ttl_ms" => asked.ttl_ms = parsed(&key, &value, "a whole number of ms")?,
            _ => asked.vram_mb = parsed(&key, &value, "a whole number of MiB")?,
        }
    }
    check(&asked)?;
    Ok(asked)
}

#[utoipa::path(put, path = "/v1/reservations/{id}", operation_id = "renew_reservation", tag = "scheduling",
    summary = "Holds a reservation from now on for as long again",
    params(("id" = String, Path, description = "The `reservation_id`", example = "3f2b1c9e-8a44-4c1d-9b52-6f1f0a7f1c55")),
    request_body(content = RenewRequest, description = "At most 256 KiB; may be empty"),
    responses(
        (status = 200, description = "It is held", body = Scheduled),
        (status = 400, description = "The body is not a JSON object, or a field is wrong; the message names it"),
        (status = 408, description = "The body took longer than 10 s"),
        (status = 413, description = "The body is too large"),
        (status = 404, description = "No such reservation is known"),
        (status = 409, description = "It is in use, and cannot be renewed"),
        (status = 500, description = "The worker went in this very moment"),
    ))]
async fn renew(
    state: State,
    http: HttpRequest,
    path: web::Path<String>,
    payload: web::Payload,
) -> Answer {
    let RenewRequest { ttl_ms } = read(&http, payload).await?;
    ttl_ms.map_or(Ok(()), check_ttl)?;
    let id = id_of(&path)?;
    let reserved = state.placement.renew(id, ttl_ms.map(Duration::from_millis));
    answer(&state, &reserved.map_err(|error| reservation_error(error, &path))?)
}

#[utoipa::path(delete, path = "/v1/reservations/{id}", operation_id = "cancel_reservation", tag = "scheduling",
    summary = "Gives a reservation back",
    params(("id" = String, Path, description = "The `reservation_id`", example = "3f2b1c9e-8a44-4c1d-9b52-6f1f0a7f1c55")),
    responses(
        (status = 204, description = "It is free"),
        (status = 404, description = "No such reservation is known"),
    ))]
async fn cancel(state: State, path: web::Path<String>) -> Answer {
    let cancelled = state.placement.cancel(id_of(&path)?);
    cancelled.map_err(|error| reservation_error(error, &path))?;
    Ok(HttpResponse::NoContent().finish())
}

fn id_of(text: &str) -> Result<Uuid, HttpError> {
    Uuid::parse_str(text).map_err(|_| reservation_error(ReservationError::Unknown, text))
}

/// 404 for one that is not known, 409 for one that cannot be used.
fn reservation_error(error: ReservationError, id: &str) -> HttpError {
    let shown: String = id.chars().take(SHOWN_LIMIT).collect();
    let message = format!("{error}: {shown:?}");
    let code = match error {
        ReservationError::Unknown => return HttpError::not_found(message),
        ReservationError::Used => "reservation_used",
        ReservationError::OtherModel => "reservation_of_other_model",
    };
    HttpError::new(StatusCode::CONFLICT, code, message)
}

/// An empty body says nothing, as `{}` does.
async fn read<T: DeserializeOwned + Default>(
    request: &HttpRequest,
    payload: web::Payload,
) -> Result<T, HttpError> {
    let body = small_body::read(request.headers(), payload).await?;
    if body.is_empty() {
        return Ok(T::default());
    }
    let bad = |message: String| HttpError::bad_request("invalid_json", message);
    scan(&body).map_err(|error| bad(error.to_string()))?;
    if body.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err(bad("the body must be a JSON object".into()));
    }
    let mut json = serde_json::Deserializer::from_slice(&body);
    let value =
        serde_path_to_error::deserialize(&mut json).map_err(|error| bad(error.to_string()))?;
    json.end().map_err(|error| bad(error.to_string()))?;
    Ok(value)
}

fn check(request: &ScheduleRequest) -> Result<(), HttpError> {
    check_ttl(request.ttl_ms)?;
    text("model", request.model.as_deref(), TEXT_MAX, Limit::HeartbeatText)?;
    text("session", request.session.as_deref(), SESSION_NAME_MAX, Limit::SessionName)?;
    match request.group.as_deref() {
        Some(group) if !is_name(group) => {
            Err(refuse("group", group, "1 to 64 of A-Z a-z 0-9 . _ -, the first a letter or digit"))
        }
        _ => Ok(()),
    }
}

fn check_ttl(ttl_ms: u64) -> Result<(), HttpError> {
    if (1..=RESERVATION_MAX_MS).contains(&ttl_ms) {
        return Ok(());
    }
    if ttl_ms > 0 {
        Limit::ReservationTime.reached();
    }
    Err(refuse("ttl_ms", &ttl_ms.to_string(), &format!("1 to {RESERVATION_MAX_MS}")))
}

fn text(key: &str, value: Option<&str>, most: usize, limit: Limit) -> Result<(), HttpError> {
    match value {
        Some(text)
            if text.is_empty() || text.len() > most || text.chars().any(char::is_control) =>
        {
            if text.len() > most {
                limit.reached();
            }
            let allowed = format!("1 to {most} bytes without control characters");
            Err(refuse(key, text, &allowed))
        }
        _ => Ok(()),
    }
}

/// What cannot be asked for, in a body or in a query.
fn refuse(key: &str, value: &str, allowed: &str) -> HttpError {
    let shown: String = value.chars().take(SHOWN_LIMIT).collect();
    let message = format!("{key}: {shown:?} is not allowed, allowed: {allowed}");
    HttpError::bad_request("invalid_field", message)
}
