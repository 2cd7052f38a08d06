//! The thin part: takes from a request what the decisions need, and says no in HTTP.

use super::{
    Access, Class, Credential, Role, Rules, Verdict,
    attempts::Attempts,
    decide,
    origin::{self, Asked, OwnNames, Refusal},
    sessions::{SessionEnd, Sessions},
};
use crate::http::{dashboard, error::HttpError};
use actix_web::{
    HttpRequest, ResponseError as _,
    dev::{RequestHead, ResourceDef, ServiceRequest},
    http::{
        Method,
        header::{self, HeaderMap, HeaderValue},
    },
    web,
};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// What who is refused while a server ends is told to wait, seconds: another may take its place.
const RETRY_AFTER_S: u64 = 5;

/// What a guard is made of.
#[derive(Debug)]
pub struct GuardConfig {
    /// The tokens.
    pub rules: Rules,
    /// What the server answers to.
    pub own: OwnNames,
    /// Every path that it has.
    pub access: &'static [Access],
}

/// Stands before all handlers of a server. Shared by its threads.
pub struct Guard {
    routes: Vec<(ResourceDef, Access)>,
    own: OwnNames,
    rules: ArcSwap<Rules>,
    cookie: String,
    closing: AtomicBool,
    pub(super) sessions: Mutex<Sessions>,
    pub(super) attempts: Mutex<Attempts>,
}

/// What a request's head says about who it is.
pub(super) struct Shown<'a> {
    pub(super) credential: Credential<'a>,
    pub(super) session: Option<&'a str>,
}

impl Guard {
    /// Makes one.
    pub fn new(config: GuardConfig) -> Arc<Self> {
        let GuardConfig { rules, own, access } = config;
        let routes = access.iter().map(|access| (ResourceDef::new(access.path), *access));
        Arc::new(Self {
            routes: routes.collect(),
            // Cookies do not tell ports apart, and there may be several queens on a machine.
            cookie: format!("rbee_session_{}", own.bind.port()),
            own,
            rules: ArcSwap::from_pointee(rules),
            closing: AtomicBool::new(false),
            sessions: Mutex::default(),
            attempts: Mutex::default(),
        })
    }

    /// Other tokens from now on. Sessions that stood for the ones before end.
    pub fn change_rules(&self, rules: Rules) {
        if **self.rules.load() != rules {
            self.rules.store(Arc::new(rules));
            self.sessions.lock().close_all();
        }
    }

    /// From now on nothing new is taken: a server ends. Who only looks whether it is up is answered, and a
    /// hive beside it still says goodbye.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    /// Whether the request may go on to its handler; else the answer.
    pub fn admit(&self, request: &ServiceRequest) -> Result<(), HttpError> {
        self.judge(request).inspect_err(|error| {
            let (method, path, peer) = (request.method(), request.path(), request.peer_addr());
            let status = error.status_code().as_u16();
            tracing::debug!(%method, path, ?peer, status, "not admitted");
        })
    }

    fn judge(&self, request: &ServiceRequest) -> Result<(), HttpError> {
        let head = request.head();
        let reading = matches!(head.method, Method::GET | Method::HEAD);
        // As the router will see it, which decodes what is encoded.
        let path = request.match_info().unprocessed();
        let found = self.routes.iter().find(|(route, _)| route.is_match(path));
        let class = match found {
            Some((_, access)) if reading && access.page && dashboard::is_wanted(&head.headers) => {
                Class::Open
            }
            Some((_, access)) if reading => access.reading,
            Some((_, access)) => access.writing,
            // Nothing is there; who is known may know that.
            None => Class::Read,
        };
        let rules = self.rules.load();
        let tokens = rules.required();
        let asked = Asked { headers: &head.headers, uri: &head.uri, class, reading, tokens };
        origin::check(&asked, &self.own).map_err(|refusal| self.refused(&refusal))?;
        let shown = self.shown(head);
        match decide(class, reading, shown.credential, &rules) {
            Verdict::Allowed if found.is_some() => self.still_takes(class),
            Verdict::Allowed => Err(HttpError::not_found(format!("there is no {path:?} here"))),
            Verdict::Unauthenticated => Err(unauthenticated(shown.credential)),
            Verdict::Forbidden(role) => Err(forbidden(role)),
            Verdict::NotFromOwnPage => Err(not_from_own_page()),
        }
    }

    fn still_takes(&self, class: Class) -> Result<(), HttpError> {
        let new = !matches!(class, Class::Open | Class::Heartbeat);
        if new && self.closing.load(Ordering::Relaxed) {
            return Err(HttpError::overloaded("it is stopping", RETRY_AFTER_S));
        }
        Ok(())
    }

    /// Who sends it, as far as is known: without any token configured, whoever it is may do everything.
    pub(super) fn role(&self, head: &RequestHead) -> Option<Role> {
        let rules = self.rules.load();
        if rules.required() {
            rules.role_of(self.shown(head).credential)
        } else {
            Some(Role::Admin)
        }
    }

    /// How long the session that it shows is still good.
    pub(super) fn session_left(&self, head: &RequestHead) -> Option<Duration> {
        let shown = self.shown(head);
        let id =
            shown.session.filter(|_| matches!(shown.credential, Credential::Session { .. }))?;
        self.sessions.lock().left(id, Instant::now())
    }

    /// A session in place of the one that is shown, if any. Tells its id.
    pub(super) fn renew_session(&self, head: &RequestHead, role: Role) -> String {
        let (shown, now) = (self.shown(head).session, Instant::now());
        let mut sessions = self.sessions.lock();
        if let Some(id) = shown {
            sessions.close(id, now);
        }
        sessions.open(role, now)
    }

    /// Whose token this is.
    pub(super) fn role_of_token(&self, token: &str) -> Option<Role> {
        self.rules.load().role_of(Credential::Token(token.as_bytes()))
    }

    /// Whether any token is configured, and whether reading needs one.
    pub(super) fn needs_token(&self) -> (bool, bool) {
        let rules = self.rules.load();
        (rules.required(), rules.required() && !rules.public_read)
    }

    /// What the cookie is called.
    pub(super) fn cookie(&self) -> &str {
        &self.cookie
    }

    /// Whether the connection itself is encrypted.
    pub(super) fn tls(&self) -> bool {
        self.own.tls
    }

    /// A token in `Authorization` counts before a cookie.
    pub(super) fn shown<'a>(&self, head: &'a RequestHead) -> Shown<'a> {
        let session = cookie(&head.headers, &self.cookie);
        let mut named = head.headers.get_all(header::AUTHORIZATION);
        let credential = match (named.next(), named.next()) {
            (Some(value), None) => bearer(value).map_or(Credential::Unreadable, Credential::Token),
            (Some(_), Some(_)) => Credential::Unreadable,
            (None, _) => session.map_or(Credential::Nothing, |id| self.of_session(id, head)),
        };
        Shown { credential, session }
    }

    fn of_session<'a>(&self, id: &str, head: &'a RequestHead) -> Credential<'a> {
        let from_own_page = origin::from_own_page(&head.headers);
        let role = self.sessions.lock().role(id, Instant::now());
        role.map_or(Credential::Unreadable, |role| Credential::Session { role, from_own_page })
    }

    fn refused(&self, refusal: &Refusal) -> HttpError {
        let own = format!(
            "allowed are localhost, loopback addresses, {} and what allowed_hosts names",
            self.own.bind
        );
        let (code, message) = match refusal {
            Refusal::Host(host) => {
                ("host_not_allowed", format!("host {host:?} is not this server's: {own}"))
            }
            Refusal::Origin(origin) => (
                "origin_not_allowed",
                format!(
                    "a page of {origin:?} may not ask this server: allowed are its own pages, and the origins of what allowed_hosts names"
                ),
            ),
            Refusal::CrossSite => {
                ("cross_site", "a page of another site may not ask this server".to_owned())
            }
            Refusal::Forwarded(header) => (
                "forwarded_without_token",
                format!(
                    "a proxy forwarded this ({header}), and no token is configured to tell its clients apart: set token_file, or ask directly"
                ),
            ),
        };
        HttpError::forbidden(code, message)
    }
}

/// When an answer that goes on has to end, because it was the session that gave a right to it, and not a
/// token or that what is of this class is open.
pub fn session_end(request: &HttpRequest, class: Class) -> Option<SessionEnd> {
    let guard = request.app_data::<web::Data<Guard>>()?;
    let shown = guard.shown(request.head());
    let (any, reading) = guard.needs_token();
    let needed = if class == Class::Read { reading } else { any };
    let by_session = needed && !matches!(shown.credential, Credential::Token(_));
    // One that has ended since the request was let in ends at once.
    by_session.then(|| guard.sessions.lock().end_of(shown.session.unwrap_or(""), Instant::now()))
}

fn unauthenticated(shown: Credential<'_>) -> HttpError {
    let message = match shown {
        Credential::Nothing => "this needs a token: send \"Authorization: Bearer TOKEN\"",
        Credential::Token(_) => "the token is not known here",
        Credential::Session { .. } | Credential::Unreadable => {
            "the session has ended, or Authorization is not one \"Bearer TOKEN\""
        }
    };
    HttpError::unauthorized(message)
}

fn forbidden(role: Role) -> HttpError {
    let may = match role {
        Role::Admin => "do everything",
        Role::Hive => "heartbeat and read",
        Role::Inference => "infer, schedule and read",
    };
    let message = format!("this token may only {may}");
    HttpError::forbidden("not_permitted", message)
}

fn not_from_own_page() -> HttpError {
    let message = "with a cookie this may only come from the dashboard (Origin or Sec-Fetch-Site says so): send a token instead";
    HttpError::forbidden("cookie_without_origin", message)
}

/// The token of `Bearer TOKEN`.
fn bearer(value: &HeaderValue) -> Option<&[u8]> {
    let (scheme, token) = value.as_bytes().split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

/// The first cookie of that name.
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let values = headers.get_all(header::COOKIE).filter_map(|value| value.to_str().ok());
    let mut pairs =
        values.flat_map(|value| value.split(';')).filter_map(|pair| pair.split_once('='));
    pairs.find(|(known, _)| known.trim() == name).map(|(_, value)| value.trim())
}
