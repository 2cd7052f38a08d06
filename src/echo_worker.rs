//! A small stand-in for an inference server: it speaks OpenAI's HTTP and answers with the prompt.
//!
//! For trying things without a model, and for tests. It has no queue and no limit of its own, and
//! knows nothing of hives: to rbee it is a worker like any other. Hundreds of them run side by
//! side, so that one is one server thread and holds a request's text once.

mod answer;
mod completion;
mod embedding;
mod load;
mod request;
mod words;

use crate::http::error::HttpError;
use actix_web::{
    App, HttpRequest, HttpResponse, HttpServer, ResponseError,
    http::{KeepAlive, Method, StatusCode, header},
    web,
};
use load::Load;
use serde_json::json;
use std::{
    io::{self, Write},
    sync::Arc,
    time::Duration,
};
use tokio::signal::unix::{SignalKind, signal};

/// The largest body that is read, bytes: what the gateway lets through.
const BODY_LIMIT: usize = 32 * 1024 * 1024;

/// How long an idle connection is kept, seconds: longer than a proxy's pool keeps its end.
const KEEP_ALIVE_S: u64 = 75;

/// Where the stand-in listens and what it calls itself.
#[derive(Clone, Debug, clap::Args)]
pub struct EchoArgs {
    /// Port to listen on; 0 lets the kernel choose, and the first line of output tells it
    #[arg(long, value_name = "N")]
    pub port: u16,

    /// Model that it says it serves
    #[arg(long, value_name = "NAME", default_value = "echo")]
    pub model: String,

    /// Address to listen on
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub host: String,

    /// Time that each word of an answer takes, in milliseconds
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub delay_ms: u64,
}

/// What every request needs to know.
#[derive(Debug)]
struct Engine {
    model: String,
    delay: Duration,
    load: Load,
}

impl Engine {
    fn new(args: &EchoArgs) -> Self {
        Self {
            model: args.model.clone(),
            delay: Duration::from_millis(args.delay_ms),
            load: Load::default(),
        }
    }
}

/// Serves until SIGTERM or SIGINT, which cut what is in flight, as they do with a real engine.
pub async fn run(args: EchoArgs) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let engine = web::Data::from(Arc::new(Engine::new(&args)));
    let server = HttpServer::new(move || App::new().app_data(engine.clone()).configure(routes))
        .workers(1)
        .worker_max_blocking_threads(1)
        .tcp_nodelay(true)
        .keep_alive(KeepAlive::Timeout(Duration::from_secs(KEEP_ALIVE_S)))
        // A client that closes is seen at once, not with the next word.
        .h1_allow_half_closed(false)
        .shutdown_timeout(1)
        .disable_signals()
        .bind((args.host.as_str(), args.port))
        .map_err(|error| cannot_listen(&args, &error))?;
    for address in server.addrs() {
        say(&format!("echo-worker listening on http://{address}  model={}", args.model));
    }
    let server = server.run();
    let handle = server.handle();
    let mut server = std::pin::pin!(server);
    tokio::select! {
        ended = &mut server => return ended,
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    let ((), ended) = futures_util::future::join(handle.stop(false), server).await;
    ended
}

fn cannot_listen(args: &EchoArgs, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot listen on {}:{}: {error}", args.host, args.port))
}

/// One line on stdout. Whether anybody reads it is no concern of an engine.
fn say(line: &str) {
    let mut stdout = io::stdout().lock();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}

fn routes(config: &mut web::ServiceConfig) {
    config
        .app_data(web::PayloadConfig::new(BODY_LIMIT))
        .service(only(Method::GET, "/health", web::to(health)))
        .service(only(Method::GET, "/metrics", web::to(metrics)))
        .service(only(Method::GET, "/v1/models", web::to(models)))
        .service(only(Method::POST, "/v1/chat/completions", web::to(completion::chat)))
        .service(only(Method::POST, "/v1/completions", web::to(completion::text)))
        .service(only(Method::POST, "/v1/embeddings", web::to(embedding::embeddings)))
        .default_service(web::to(no_such_path));
}

/// A path with one method; any other is a 405 that names it.
fn only(method: Method, path: &str, route: actix_web::Route) -> actix_web::Resource {
    let allowed = method.clone();
    web::resource(path).route(route.method(method)).default_service(web::to(
        move |request: HttpRequest| {
            let message = format!("{} takes only {allowed}", request.path());
            let error =
                HttpError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message);
            let mut response = error.error_response();
            if let Ok(value) = header::HeaderValue::from_str(allowed.as_str()) {
                response.headers_mut().insert(header::ALLOW, value);
            }
            std::future::ready(response)
        },
    ))
}

async fn no_such_path(request: HttpRequest) -> HttpResponse {
    HttpError::not_found(format!("there is no {}", request.path())).error_response()
}

async fn health() -> HttpResponse {
    HttpResponse::Ok().json(json!({"status": "ok"}))
}

async fn metrics(engine: web::Data<Engine>) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/plain; version=0.0.4; charset=utf-8")
        .body(engine.load.prometheus())
}

async fn models(engine: web::Data<Engine>) -> HttpResponse {
    let model = json!({"id": engine.model, "object": "model", "created": 0, "owned_by": "rbee-echo-worker"});
    HttpResponse::Ok().json(json!({"object": "list", "data": [model]}))
}

#[cfg(test)]
mod tests;
