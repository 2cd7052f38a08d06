//! `POST /login`, `POST /logout`, `GET /v1/session`: a browser's token becomes a cookie, since an
//! EventSource sends no Authorization header. The cookie is the id of a session, never the token.

use super::{Role, guard::Guard, sessions::LIFETIME};
use crate::limits::{LOGIN_BODY_MAX, Limit};
use crate::{
    http::{
        error::HttpError,
        fallback::{get, post},
        small_body,
    },
    platform::secret::Secret,
};
use actix_web::{
    HttpRequest, HttpResponse, HttpResponseBuilder,
    http::{StatusCode, header},
    web,
};
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// Where a form without a script goes on.
const DASHBOARD: &str = "/";

type State = web::Data<Guard>;
type Answer = Result<HttpResponse, HttpError>;

/// No `Debug`: it holds a token.
#[derive(Deserialize, utoipa::ToSchema)]
pub(in crate::http) struct Login {
    token: String,
}

/// What a login gave.
#[derive(Serialize, utoipa::ToSchema)]
pub(in crate::http) struct LoggedIn {
    role: Role,
}

/// `required`: reading needs a login. `role`: what the caller may do now. `expires_in_s`: how long the
/// cookie is good for, seconds; null when it is not a cookie that says who the caller is.
#[derive(Serialize, utoipa::ToSchema)]
pub(in crate::http) struct SessionView {
    required: bool,
    role: Option<Role>,
    expires_in_s: Option<u64>,
}

/// Adds the routes. Needs `web::Data<Guard>`.
pub fn configure(config: &mut web::ServiceConfig) {
    config
        .service(post("/login", login))
        .service(post("/logout", logout))
        .service(get("/v1/session", session));
}

#[utoipa::path(get, path = "/v1/session", operation_id = "get_session", tag = "login",
    summary = "Whether a login is needed, and who the caller is",
    responses((status = 200, description = "Without a token, a login is never needed", body = SessionView)))]
pub(in crate::http) async fn session(guard: State, request: HttpRequest) -> HttpResponse {
    let (_, required) = guard.needs_token();
    let role = guard.role(request.head());
    let expires_in_s = guard.session_left(request.head()).map(|left| left.as_secs());
    unstored(StatusCode::OK).json(SessionView { required, role, expires_in_s })
}

#[utoipa::path(post, path = "/login", operation_id = "login", tag = "login",
    summary = "A browser's token for a cookie",
    request_body(description = "A script's JSON, or a form", content(
        (Login = "application/json"), (Login = "application/x-www-form-urlencoded"))),
    responses(
        (status = 200, description = "The cookie is set", body = LoggedIn),
        (status = 303, description = "The same, for a form: on to the dashboard"),
        (status = 400, description = "No login"),
        (status = 401, description = "The token is not known"),
        (status = 408, description = "The body came too slowly"),
        (status = 413, description = "The body is too large"),
        (status = 415, description = "Neither JSON nor a form"),
        (status = 429, description = "Too many wrong tokens from this address"),
    ))]
pub(in crate::http) async fn login(
    guard: State,
    request: HttpRequest,
    payload: web::Payload,
) -> Answer {
    let kind = Kind::of(&request)?;
    let body =
        small_body::read_at_most(request.headers(), payload, LOGIN_BODY_MAX, Limit::LoginBody)
            .await?;
    let token = kind.token(&body)?;
    if !guard.needs_token().0 {
        return Ok(kind.answer(Role::Admin, None));
    }
    let from = request.peer_addr().map(|address| address.ip());
    guard.attempts.lock().take(from, Instant::now()).map_err(|wait| {
        Limit::LoginAttempts.reached();
        let message = "too many wrong tokens from this address";
        HttpError::new(StatusCode::TOO_MANY_REQUESTS, "too_many_attempts", message)
            .retry_after(wait.as_secs() + 1)
    })?;
    let Some(role) = guard.role_of_token(token.expose()) else {
        tracing::warn!(?from, "a login with a token that is not known");
        return Err(HttpError::unauthorized("the token is not known here"));
    };
    guard.attempts.lock().give_back(from);
    let id = guard.renew_session(request.head(), role);
    let cookie = set_cookie(&guard, &request, &id, LIFETIME.as_secs());
    Ok(kind.answer(role, Some(cookie)))
}

#[utoipa::path(post, path = "/logout", operation_id = "logout", tag = "login",
    summary = "Ends the session",
    responses((status = 204, description = "The cookie is taken back")))]
pub(in crate::http) async fn logout(guard: State, request: HttpRequest) -> HttpResponse {
    if let Some(id) = guard.shown(request.head()).session {
        guard.sessions.lock().close(id, Instant::now());
    }
    let cookie = set_cookie(&guard, &request, "", 0);
    unstored(StatusCode::NO_CONTENT).insert_header((header::SET_COOKIE, cookie)).finish()
}

/// Out of reach for scripts, and sent along by pages of this origin only.
fn set_cookie(guard: &Guard, request: &HttpRequest, id: &str, lifetime_s: u64) -> String {
    let origin = request.headers().get(header::ORIGIN);
    let by_proxy = origin.is_some_and(|origin| origin.as_bytes().starts_with(b"https://"));
    let secure = if guard.tls() || by_proxy { "; Secure" } else { "" };
    let name = guard.cookie();
    format!("{name}={id}; Path=/; Max-Age={lifetime_s}; HttpOnly; SameSite=Strict{secure}")
}

fn unstored(status: StatusCode) -> HttpResponseBuilder {
    let mut builder = HttpResponse::build(status);
    builder.insert_header((header::CACHE_CONTROL, "no-store"));
    builder
}

/// How a login is written: by a script, or by a form.
#[derive(Clone, Copy)]
enum Kind {
    Json,
    Form,
}

impl Kind {
    fn of(request: &HttpRequest) -> Result<Self, HttpError> {
        let named = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let essence = named.unwrap_or_default().split(';').next().unwrap_or_default().trim();
        match essence.to_ascii_lowercase().as_str() {
            "application/json" => Ok(Self::Json),
            "application/x-www-form-urlencoded" => Ok(Self::Form),
            _ => Err(HttpError::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                "a login is application/json or application/x-www-form-urlencoded",
            )),
        }
    }

    /// What is wrong with a body is not told by showing it.
    fn token(self, body: &[u8]) -> Result<Secret, HttpError> {
        let read = match self {
            Self::Json => serde_json::from_slice::<Login>(body).ok(),
            Self::Form => std::str::from_utf8(body)
                .ok()
                .and_then(|text| web::Query::<Login>::from_query(text).ok())
                .map(web::Query::into_inner),
        };
        let login = read.ok_or_else(|| {
            let message = "a login is a token: {\"token\": \"…\"} or token=…";
            HttpError::bad_request("invalid_login", message)
        })?;
        Ok(Secret::new(login.token.trim()))
    }

    fn answer(self, role: Role, cookie: Option<String>) -> HttpResponse {
        let mut response = match self {
            Self::Json => unstored(StatusCode::OK),
            Self::Form => unstored(StatusCode::SEE_OTHER),
        };
        if let Some(cookie) = cookie {
            response.insert_header((header::SET_COOKIE, cookie));
        }
        match self {
            Self::Json => response.json(LoggedIn { role }),
            Self::Form => response.insert_header((header::LOCATION, DASHBOARD)).finish(),
        }
    }
}
