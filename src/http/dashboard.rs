//! The dashboard's files, part of the binary, and the headers that they are served with.
//!
//! Invariant: a page runs what comes from this table and nothing else: no inline script or style, no
//! other host, no frame around it. What the page shows it asks of the same routes as any client.

use super::{error::HttpError, fallback::get};
use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{self, ETag, EntityTag, Header as _, HeaderMap, IfNoneMatch},
    middleware::Compress,
    web,
};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const IMAGE: &str = "image/svg+xml";

/// One file of the page.
struct Asset {
    name: &'static str,
    mime: &'static str,
    bytes: &'static [u8],
}

macro_rules! assets {
    ($($name:literal: $mime:expr),* $(,)?) => {
        &[$(Asset {
            name: $name,
            mime: $mime,
            bytes: include_bytes!(concat!("dashboard/", $name)),
        }),*]
    };
}

static INDEX: Asset =
    Asset { name: "index.html", mime: HTML, bytes: include_bytes!("dashboard/index.html") };

static ASSETS: &[Asset] = assets! {
    "style.css": STYLE,
    "icon.svg": IMAGE,
    "actions.js": SCRIPT,
    "api.js": SCRIPT,
    "banner.js": SCRIPT,
    "choice.js": SCRIPT,
    "detail.js": SCRIPT,
    "dom.js": SCRIPT,
    "events.js": SCRIPT,
    "facts.js": SCRIPT,
    "feed.js": SCRIPT,
    "filters.js": SCRIPT,
    "format.js": SCRIPT,
    "history.js": SCRIPT,
    "hives.js": SCRIPT,
    "keys.js": SCRIPT,
    "login.js": SCRIPT,
    "logs.js": SCRIPT,
    "main.js": SCRIPT,
    "permit.js": SCRIPT,
    "row.js": SCRIPT,
    "session.js": SCRIPT,
    "shared.js": SCRIPT,
    "source.js": SCRIPT,
    "spark.js": SCRIPT,
    "store.js": SCRIPT,
    "sync.js": SCRIPT,
    "table.js": SCRIPT,
    "theme.js": SCRIPT,
    "toast.js": SCRIPT,
};

/// Adds the page and its files.
pub fn configure(config: &mut web::ServiceConfig) {
    config
        .service(get("/", page).wrap(Compress::default()))
        .service(get("/dashboard/{file}", file).wrap(Compress::default()));
}

/// The page itself, also for a browser that opens another address of the queen's.
#[utoipa::path(get, path = "/", operation_id = "get_dashboard", tag = "dashboard",
    summary = "The dashboard, for a browser",
    responses(
        (status = 200, description = "The page", body = String, content_type = "text/html; charset=utf-8"),
        (status = 304, description = "The browser has it (`If-None-Match`)"),
    ))]
pub async fn page(request: HttpRequest) -> HttpResponse {
    INDEX.answer(&request)
}

/// Whether who asks is a browser that wants a page to look at, rather than a program.
pub fn is_wanted(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let first = accept.and_then(|types| types.split([',', ';']).next());
    first.is_some_and(|first| first.trim().eq_ignore_ascii_case("text/html"))
}

#[utoipa::path(get, path = "/dashboard/{file}", operation_id = "get_dashboard_file", tag = "dashboard",
    summary = "A file of the dashboard",
    params(("file" = String, Path, description = "Its name, such as `main.js`")),
    responses(
        (status = 200, description = "A script, the style or the icon", content(
            (String = "text/javascript; charset=utf-8"), (String = "text/css; charset=utf-8"),
            (String = "image/svg+xml"))),
        (status = 304, description = "The browser has it (`If-None-Match`)"),
        (status = 404, description = "There is no such file"),
    ))]
pub(super) async fn file(
    request: HttpRequest,
    name: web::Path<String>,
) -> Result<HttpResponse, HttpError> {
    let asset = ASSETS.iter().find(|asset| asset.name == *name);
    let unknown = || HttpError::not_found(format!("there is no {:?} here", request.path()));
    asset.map(|asset| asset.answer(&request)).ok_or_else(unknown)
}

impl Asset {
    /// Kept by browsers and asked for again each time, so that a new binary shows at once.
    fn answer(&self, request: &HttpRequest) -> HttpResponse {
        let tag = self.tag();
        let known = match IfNoneMatch::parse(request) {
            Ok(IfNoneMatch::Any) => true,
            Ok(IfNoneMatch::Items(tags)) => tags.iter().any(|known| known.weak_eq(&tag)),
            Err(_) => false,
        };
        let mut response = if known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
        response
            .insert_header(ETag(tag))
            .insert_header((header::CACHE_CONTROL, "no-cache"))
            .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
            .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
            .insert_header((header::REFERRER_POLICY, "no-referrer"))
            .insert_header(("cross-origin-opener-policy", "same-origin"))
            .insert_header(("cross-origin-resource-policy", "same-origin"));
        if known {
            return response.finish();
        }
        response.content_type(self.mime).body(self.bytes)
    }

    /// Weak, since the same file goes out compressed in more than one way.
    fn tag(&self) -> EntityTag {
        let mut hasher = DefaultHasher::new();
        self.bytes.hash(&mut hasher);
        EntityTag::new_weak(format!("{:016x}", hasher.finish()))
    }
}

#[cfg(test)]
#[path = "dashboard/tests.rs"]
mod tests;
