//! What is answered where no route fits: 404 for a path nobody knows, 405 for a wrong method.

use super::error::HttpError;
use actix_web::{
    Handler, HttpRequest, HttpResponse, Resource, ResponseError,
    http::{
        StatusCode,
        header::{ALLOW, HeaderValue},
    },
    web,
};

/// 404, for a default service.
pub async fn not_found(request: HttpRequest) -> Result<HttpResponse, HttpError> {
    Err(HttpError::not_found(format!("there is no {:?} here", request.path())))
}

/// A resource that is read, with HEAD too; every other method is answered with 405 and `Allow`.
pub fn get<F, Args>(path: &'static str, handler: F) -> Resource
where
    F: Handler<Args>,
    Args: actix_web::FromRequest + 'static,
    F::Output: actix_web::Responder + 'static,
{
    web::resource(path)
        .get(handler.clone())
        .head(handler)
        .default_service(web::to(|request| allow("GET, HEAD", request)))
}

/// A resource that takes POST and nothing else.
pub fn post<F, Args>(path: &'static str, handler: F) -> Resource
where
    F: Handler<Args>,
    Args: actix_web::FromRequest + 'static,
    F::Output: actix_web::Responder + 'static,
{
    web::resource(path).post(handler).default_service(web::to(|request| allow("POST", request)))
}

/// 405 with `Allow`, for the default service of a resource.
pub async fn allow(allowed: &'static str, request: HttpRequest) -> HttpResponse {
    let message = format!("{} is not possible here, allowed: {allowed}", request.method());
    let error = HttpError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message);
    let mut response = error.error_response();
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}
