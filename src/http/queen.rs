//! The queen's routes: heartbeats in; the registry, the event stream and the dashboard out.

mod body;
mod counters;
mod forward;
mod gateway;
mod heartbeat;
mod metrics;
mod openapi;
mod params;
mod scan;
mod schedule;
mod stream;
mod validate;

pub use counters::QueenCounters;
pub use forward::KnownHives;
pub use gateway::GatewayConfig;
pub use openapi::document;
pub use validate::{Invalid, validate};

use super::{
    auth::{self, Access, Class},
    dashboard, docs,
    error::HttpError,
    fallback::{get, not_found, post},
    turn::Turn,
};
use crate::limits::{GATEWAY_BODIES_MAX, GATEWAY_REQUESTS_MAX};
use crate::{
    actors::{
        fleet::{FoundWorker, write_with_workers},
        placement::{Placement, PlacementActor},
        registry::{Intake, RegistryActor, RegistryConfig, RegistryReader},
        sse_broadcaster::{CloseStreams, SseBroadcaster, StreamStats},
        supervise::{ActorExit, start_guarded},
    },
    contract::{Health, HistoryList, HiveList, HiveView, WorkerList, WorkerState, WorkerView},
};
use actix::{Addr, ArbiterHandle};
use actix_web::{HttpRequest, HttpResponse, http::header::ContentType, web};
use arc_swap::ArcSwap;
use std::{sync::Arc, time::SystemTime};
use tokio::time::Instant;

/// What the queen's routes need. Made once, shared by all workers of the server.
#[derive(Clone)]
pub struct QueenState {
    /// Reads the registry.
    pub reader: RegistryReader,
    /// Writes it.
    pub registry: Addr<RegistryActor>,
    /// Tells the stream's clients.
    pub stream: Addr<SseBroadcaster>,
    /// The stream's counters.
    pub stream_stats: Arc<StreamStats>,
    /// What heartbeats may hold at once.
    pub intake: Arc<Intake>,
    /// Decides which worker takes a request.
    pub placement: Placement,
    /// Hives that admin calls are passed on to. Changed while it runs.
    pub known_hives: Arc<ArcSwap<KnownHives>>,
    /// How long the gateway waits for what.
    pub gateway: GatewayConfig,
    /// What requests to the gateway may hold at once.
    pub gateway_intake: Arc<Intake>,
    /// What is counted.
    pub counters: QueenCounters,
    /// When the queen started.
    pub started: Instant,
    /// The same by the wall clock, seconds since 1970.
    pub started_unix_s: u64,
}

impl QueenState {
    /// Starts the registry and the stream on `arbiter`. `on_exit` makes what is called when the actor of
    /// that name ends.
    pub fn start<E>(
        config: RegistryConfig,
        placement: Placement,
        gateway: GatewayConfig,
        known_hives: KnownHives,
        counters: QueenCounters,
        arbiter: &ArbiterHandle,
        on_exit: impl Fn(&'static str) -> E,
    ) -> Self
    where
        E: FnOnce(ActorExit) + Send + 'static,
    {
        let stream = SseBroadcaster::new();
        let stream_stats = stream.stats();
        let stream = start_guarded(arbiter, |_| stream, on_exit("event stream"));
        let registry = RegistryActor::new(
            config,
            placement.clone(),
            stream.clone(),
            Arc::clone(&stream_stats),
        );
        let reader = registry.reader();
        let registry = start_guarded(arbiter, |_| registry, on_exit("registry"));
        let sweeper = PlacementActor::new(placement.clone());
        start_guarded(arbiter, |_| sweeper, on_exit("placement"));
        let (intake, started) = (Arc::default(), Instant::now());
        let known_hives = Arc::new(ArcSwap::from_pointee(known_hives));
        Self {
            reader,
            registry,
            stream,
            stream_stats,
            intake,
            known_hives,
            placement,
            gateway,
            gateway_intake: Arc::new(Intake::new(GATEWAY_BODIES_MAX, GATEWAY_REQUESTS_MAX)),
            counters,
            started,
            started_unix_s: unix_s(),
        }
    }

    /// Ends every stream, so that a graceful stop of the server does not wait for them.
    pub async fn close_streams(&self) {
        // A broadcaster that has ended took its streams with it.
        let _ = self.stream.send(CloseStreams).await;
    }
}

fn unix_s() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Every path of the queen, and whom it is for. What is missing here is not there.
pub const ACCESS: &[Access] = &[
    Access::new("/v1/chat/completions", Class::Infer),
    Access::new("/v1/completions", Class::Infer),
    Access::new("/v1/embeddings", Class::Infer),
    Access::new("/v1/hive-heartbeat", Class::Heartbeat),
    Access::new("/v1/models", Class::Infer),
    Access::new("/v1/schedule", Class::Infer),
    Access::new("/v1/schedule/explain", Class::Infer),
    Access::new("/v1/reservations/{id}", Class::Infer),
    Access::new("/v1/workers", Class::Read),
    Access::new("/v1/workers/{hive}/{group}/{instance}", Class::Read),
    Access::new("/v1/hives", Class::Read),
    Access::new("/v1/hives/{id}", Class::Read),
    Access::new("/v1/history", Class::Read),
    Access::new("/v1/heartbeats/stream", Class::Read).or_page(),
    // Reading too: logs and specs are not for every reader.
    Access::new("/v1/hives/{id}/workers", Class::Admin),
    Access::new("/v1/hives/{id}/workers/{group}/{instance}", Class::Admin),
    Access::new("/v1/hives/{id}/workers/{group}/{instance}/restart", Class::Admin),
    Access::new("/v1/hives/{id}/workers/{group}/{instance}/drain", Class::Admin),
    Access::new("/v1/hives/{id}/workers/{group}/{instance}/resume", Class::Admin),
    Access::new("/v1/hives/{id}/workers/{group}/{instance}/logs", Class::Admin),
    Access::new("/metrics", Class::Read),
    Access::new("/", Class::Open),
    Access::new("/dashboard/{file}", Class::Open),
    Access::new("/openapi.json", Class::Open),
    Access::new("/docs", Class::Open),
    Access::new("/docs/app.js", Class::Open),
    Access::new("/docs/style.css", Class::Open),
    Access::new("/health", Class::Open),
    Access::new("/v1/session", Class::Open),
    Access::new("/login", Class::Open),
    Access::new("/logout", Class::Open),
];

/// Adds the queen's routes, and the answers to what is none. Needs `web::Data<QueenState>`. Called on each
/// server thread.
pub fn configure(config: &mut web::ServiceConfig) {
    config
        .app_data(web::Data::new(Turn::default()))
        .service(post("/v1/hive-heartbeat", heartbeat::post))
        .configure(forward::configure)
        .service(get("/v1/hives", hives))
        .service(get("/v1/hives/{id}", hive))
        .service(get("/v1/workers", workers))
        .service(get("/v1/workers/{hive}/{group}/{instance}", worker))
        .configure(schedule::configure)
        .service(get("/v1/history", history))
        .service(get("/v1/heartbeats/stream", stream::get))
        .configure(gateway::configure)
        .service(get("/metrics", metrics::get))
        .configure(dashboard::configure)
        .configure(|config| docs::configure(config, document))
        .configure(auth::configure)
        .service(get("/health", health))
        .default_service(web::to(not_found));
}

/// About as long as a worker is in JSON.
const WORKER_BYTES: usize = 1024;

type State = web::Data<QueenState>;
type Answer<T> = Result<web::Json<T>, HttpError>;

#[utoipa::path(get, path = "/v1/hives", operation_id = "list_hives", tag = "registry",
    summary = "Every hive, with its machine and how fresh it is",
    responses((status = 200, description = "Sorted by id", body = HiveList)))]
async fn hives(state: State) -> web::Json<HiveList> {
    web::Json(HiveList { hives: state.reader.hives(Instant::now()) })
}

#[utoipa::path(get, path = "/v1/hives/{id}", operation_id = "get_hive", tag = "registry",
    summary = "One hive", params(("id" = String, Path, description = "The hive's id", example = "localhost")),
    responses(
        (status = 200, description = "As it last told", body = HiveView),
        (status = 404, description = "No such hive is known"),
    ))]
async fn hive(state: State, path: web::Path<String>) -> Answer<HiveView> {
    let found = state.reader.hive(&path, Instant::now());
    found
        .map(web::Json)
        .ok_or_else(|| HttpError::not_found(format!("no hive {:?} is known", *path)))
}

#[utoipa::path(get, path = "/v1/workers", operation_id = "list_workers", tag = "registry",
    summary = "Every worker of every hive; filters combine",
    params(
        ("hive" = Option<String>, Query, description = "Only those of this hive",
            pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"),
        ("group" = Option<String>, Query, description = "Only those of this group",
            pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"),
        ("state" = Option<WorkerState>, Query, description = "Only those in this state"),
        ("model" = Option<String>, Query, min_length = 1, max_length = 4096,
            description = "Only those that serve it, by name or alias"),
        ("idle" = Option<bool>, Query, description = "Only those that are known to be idle, or not to be"),
        ("min_free_vram_mb" = Option<u64>, Query,
            description = "Only those with so many MiB free on their GPUs; one whose memory is not known has none"),
    ),
    responses(
        (status = 200, description = "Sorted by hive, group and instance", body = WorkerList),
        (status = 400, description = "The query makes no sense"),
        (status = 500, description = "The answer cannot be written"),
    ))]
async fn workers(state: State, request: HttpRequest) -> Result<HttpResponse, HttpError> {
    let filter = params::worker_filter(request.query_string())?;
    let found = state.reader.workers(&filter, Instant::now());
    let mut body = Vec::with_capacity(found.len() * WORKER_BYTES);
    let texts = found.iter().filter_map(FoundWorker::text);
    write_with_workers(&mut body, &WorkerList { workers: Vec::new() }, texts)
        .map_err(|error| HttpError::internal(error.to_string()))?;
    Ok(HttpResponse::Ok().content_type(ContentType::json()).body(body))
}

#[utoipa::path(get, path = "/v1/workers/{hive}/{group}/{instance}", operation_id = "get_worker",
    tag = "registry", summary = "One worker with its history",
    params(
        ("hive" = String, Path, description = "Which hive it runs on", example = "localhost"),
        ("group" = String, Path, description = "Its group", example = "llm"),
        ("instance" = String, Path, description = "Its instance", example = "8080"),
    ),
    responses(
        (status = 200, description = "As its hive last told", body = WorkerView),
        (status = 404, description = "No such worker is known"),
    ))]
async fn worker(
    state: State,
    path: web::Path<(String, String, String)>,
) -> Result<HttpResponse, HttpError> {
    let (hive, group, instance) = &*path;
    let found = state.reader.worker(hive, group, instance, Instant::now());
    let view = found.as_ref().and_then(FoundWorker::view);
    view.map(|view| HttpResponse::Ok().json(view)).ok_or_else(|| {
        HttpError::not_found(format!("no worker \"{hive}/{group}/{instance}\" is known"))
    })
}

#[utoipa::path(get, path = "/v1/history", operation_id = "list_histories", tag = "registry",
    summary = "The history of every worker in one answer",
    params(("s" = Option<u64>, Query, minimum = 1,
        description = "How far back, seconds, to `history_s` at most; 60 or all that is kept when not given")),
    responses(
        (status = 200, description = "Sorted by hive, group and instance", body = HistoryList),
        (status = 400, description = "The query makes no sense, or asks for more than is kept"),
    ))]
async fn history(state: State, request: HttpRequest) -> Answer<HistoryList> {
    let span = params::history_span(request.query_string(), state.reader.history_window())?;
    Ok(web::Json(HistoryList { workers: state.reader.history(span, Instant::now()) }))
}

#[utoipa::path(get, path = "/health", operation_id = "get_health", tag = "machine",
    summary = "Whether this role is up; never needs a token",
    responses((status = 200, description = "It is", body = Health)))]
async fn health(state: State) -> web::Json<Health> {
    web::Json(Health {
        status: "ok".into(),
        role: "queen".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        uptime_s: state.started.elapsed().as_secs(),
    })
}

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod limits_tests;

#[cfg(test)]
#[path = "queen/tests.rs"]
mod tests;
