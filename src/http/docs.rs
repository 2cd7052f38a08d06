//! `GET /openapi.json`, which describes every endpoint of the role that serves it, and `GET /docs`, which
//! shows that.
//!
//! Where a route is documented: on its handler, by `#[utoipa::path]`, listed in its role's `openapi.rs`;
//! there also is what no handler of its own stands for (the gateway, calls that are passed on). A test
//! compares the document with the routes that the server has.
//!
//! The page is one of our own and not a vendored Swagger UI, which would make the binary several MiB larger
//! and runs styles and scripts that a strict Content-Security-Policy forbids. It is three small files,
//! embedded, asks nobody but this server, and shows text as text only.

mod document;
mod shape;

pub(super) use document::{finish, guard, operations, retry_after};

use super::fallback::get;
use actix_web::{
    HttpResponse,
    http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, ContentType, X_CONTENT_TYPE_OPTIONS},
    web,
};

/// Nothing but what this server sends, nothing inline, and no page around it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The document of the role that serves.
#[derive(Clone, Copy)]
pub(super) struct Document(fn() -> &'static str);

/// Adds the routes. `document` is made when it is first asked for.
pub(super) fn configure(config: &mut web::ServiceConfig, document: fn() -> &'static str) {
    config
        .app_data(web::Data::new(Document(document)))
        .service(get("/openapi.json", openapi))
        .service(get("/docs", page))
        .service(get("/docs/app.js", script))
        .service(get("/docs/style.css", style));
}

#[utoipa::path(get, path = "/openapi.json", operation_id = "get_openapi", tag = "documents",
    summary = "This document",
    responses((status = 200, description = "OpenAPI 3.1", body = Object, content_type = "application/json")))]
pub(super) async fn openapi(document: web::Data<Document>) -> HttpResponse {
    HttpResponse::Ok().content_type(ContentType::json()).body((document.0)())
}

#[utoipa::path(get, path = "/docs", operation_id = "get_docs", tag = "documents",
    summary = "A page that shows this document",
    responses((status = 200, description = "Works without any other server", body = String,
        content_type = "text/html; charset=utf-8")))]
pub(super) async fn page() -> HttpResponse {
    file("text/html; charset=utf-8", include_str!("docs/index.html"))
}

#[utoipa::path(get, path = "/docs/app.js", operation_id = "get_docs_script", tag = "documents",
    summary = "The page's script",
    responses((status = 200, description = "A module", body = String,
        content_type = "text/javascript; charset=utf-8")))]
pub(super) async fn script() -> HttpResponse {
    file("text/javascript; charset=utf-8", include_str!("docs/app.js"))
}

#[utoipa::path(get, path = "/docs/style.css", operation_id = "get_docs_style", tag = "documents",
    summary = "The page's style",
    responses((status = 200, description = "For light and dark", body = String,
        content_type = "text/css; charset=utf-8")))]
pub(super) async fn style() -> HttpResponse {
    file("text/css; charset=utf-8", include_str!("docs/style.css"))
}

fn file(content_type: &'static str, text: &'static str) -> HttpResponse {
    HttpResponse::Ok()
        .content_type(content_type)
        .insert_header((CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((CACHE_CONTROL, "no-cache"))
        .body(text)
}
