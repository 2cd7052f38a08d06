//! The hive's routes: its workers, and what is asked of them. It writes by message to the spawner
//! and reads the board; whether a command may be run is decided in [`admin`].

pub mod admin;
mod logs;
mod metrics;
mod openapi;

pub use logs::Readers;
pub(in crate::http) use openapi::build;
pub use openapi::document;

use super::{
    auth::{Access, Class},
    docs,
    error::HttpError,
    fallback::{allow, get, not_found, post},
    query, small_body,
};
use crate::limits::{Limit, STOP_GRACE_MAX_MS};
use crate::{
    actors::{
        heartbeat_sender::SenderStats,
        hive_board::{HiveBoard, WorkerName},
        spawner::{
            DrainWorker, LaunchError, RestartWorker, ResumeWorker, SpawnRefusal, SpawnWorker,
            SpawnerActor, StopWorker, WorkerCommandError,
        },
    },
    contract::{Capabilities, Device, Health, WorkerReport, WorkerSpec},
    platform::log_file::LogDir,
    settings::worker::from_json,
};
use actix::{Addr, MailboxError};
use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web};
use admin::AdminPolicy;
use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::watch;
use utoipa::{IntoParams, ToSchema};

/// What the hive's routes need.
#[derive(Clone)]
pub struct HiveState {
    /// Its workers, for reading.
    pub board: Arc<HiveBoard>,
    /// Its workers, for writing.
    pub spawner: Addr<SpawnerActor>,
    /// What the API may run.
    pub policy: Arc<ArcSwap<AdminPolicy>>,
    /// How others reach this machine's workers.
    pub hostname: Arc<str>,
    /// Where logs are.
    pub logs: LogDir,
    /// What this machine has, but for its GPUs.
    pub capabilities: Arc<Capabilities>,
    /// When the hive started.
    pub started: Instant,
    /// Turns true when the hive ends: streams end then.
    pub closing: watch::Receiver<bool>,
    /// How many read a log.
    pub readers: Arc<Readers>,
    /// What became of heartbeats.
    pub heartbeats: Arc<SenderStats>,
}

/// A worker whole: its figures, and what it was asked to be.
#[derive(Serialize, ToSchema)]
struct WorkerDetail {
    #[serde(flatten)]
    report: WorkerReport,
    /// `null` for one that was found running and that nobody asked for.
    #[schema(value_type = Option<WorkerSpec>)]
    spec: Option<Arc<WorkerSpec>>,
}

/// `GET /v1/workers`
#[derive(Serialize, ToSchema)]
struct WorkerDetails {
    /// Sorted by group and instance.
    workers: Vec<WorkerDetail>,
}

/// A worker has ended.
#[derive(Serialize, ToSchema)]
struct Gone {
    /// Always `ok`.
    status: &'static str,
    /// For people.
    message: String,
}

/// Every path of the hive, and whom it is for. What is missing here is not there.
pub const ACCESS: &[Access] = &[
    Access::new("/v1/workers", Class::Admin),
    Access::new("/v1/workers/{group}/{instance}", Class::Admin),
    Access::new("/v1/workers/{group}/{instance}/restart", Class::Admin),
    Access::new("/v1/workers/{group}/{instance}/drain", Class::Admin),
    Access::new("/v1/workers/{group}/{instance}/resume", Class::Admin),
    Access::new("/v1/workers/{group}/{instance}/logs", Class::Admin),
    Access::new("/capabilities", Class::Read),
    Access::new("/metrics", Class::Read),
    Access::new("/health", Class::Open),
    Access::new("/openapi.json", Class::Open),
    Access::new("/docs", Class::Open),
    Access::new("/docs/app.js", Class::Open),
    Access::new("/docs/style.css", Class::Open),
];

/// Adds the hive's routes, and the answers to what is none. Needs `web::Data<HiveState>`.
pub fn configure(config: &mut web::ServiceConfig) {
    const ONE: &str = "/v1/workers/{group}/{instance}";
    config
        .service(
            web::resource("/v1/workers")
                .get(list)
                .head(list)
                .post(spawn)
                .default_service(web::to(|request| allow("GET, HEAD, POST", request))),
        )
        .service(
            web::resource(ONE)
                .get(one)
                .head(one)
                .delete(stop)
                .default_service(web::to(|request| allow("DELETE, GET, HEAD", request))),
        )
        .service(post("/v1/workers/{group}/{instance}/restart", restart))
        .service(post("/v1/workers/{group}/{instance}/drain", drain))
        .service(post("/v1/workers/{group}/{instance}/resume", resume))
        .service(get("/v1/workers/{group}/{instance}/logs", logs::get))
        .service(get("/capabilities", capabilities))
        .service(get("/metrics", metrics::get))
        .configure(|config| docs::configure(config, document))
        .service(get("/health", health))
        .default_service(web::to(not_found));
}

type State = web::Data<HiveState>;
type Name = web::Path<Named>;
type Answer = Result<HttpResponse, HttpError>;

/// Which worker a path is about.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
struct Named {
    /// Its group.
    #[param(example = "llm")]
    group: String,
    /// Its instance within the group, usually its port.
    #[param(example = "8080")]
    instance: String,
}

fn name_of(path: &Name) -> WorkerName {
    WorkerName::new(&path.group, &path.instance)
}

fn unknown(name: &WorkerName) -> HttpError {
    HttpError::not_found(format!("there is no worker {name} on this hive"))
}

fn detail(state: &HiveState, name: &WorkerName) -> Option<WorkerDetail> {
    let (report, spec) = state.board.get(name)?;
    Some(WorkerDetail { report, spec })
}

#[utoipa::path(get, path = "/v1/workers", operation_id = "list_workers", tag = "workers",
    summary = "Every worker of this hive, with its figures and its spec",
    params(("group" = Option<String>, Query, description = "Only those of this group")),
    responses(
        (status = 200, description = "Sorted by group and instance", body = WorkerDetails),
        (status = 400, description = "The query has a key that is not known, or one twice"),
    ))]
async fn list(state: State, request: HttpRequest) -> Answer {
    let mut group = None;
    for (_, value) in query::pairs(request.query_string(), &["group"])? {
        group = Some(value);
    }
    let wanted = |name: &WorkerName| group.as_deref().is_none_or(|group| *name.group == *group);
    let names = state.board.names().into_iter().filter(wanted);
    let workers = names.filter_map(|name| detail(&state, &name)).collect();
    Ok(HttpResponse::Ok().json(WorkerDetails { workers }))
}

#[utoipa::path(get, path = "/v1/workers/{group}/{instance}", operation_id = "get_worker",
    tag = "workers", summary = "One worker", params(Named),
    responses(
        (status = 200, description = "Its figures and its spec", body = WorkerDetail),
        (status = 404, description = "There is no such worker"),
    ))]
async fn one(state: State, path: Name) -> Answer {
    answer_with(&state, &name_of(&path))
}

fn answer_with(state: &HiveState, name: &WorkerName) -> Answer {
    let detail = detail(state, name).ok_or_else(|| unknown(name))?;
    Ok(HttpResponse::Ok().json(detail))
}

#[utoipa::path(post, path = "/v1/workers", operation_id = "spawn_worker", tag = "workers",
    summary = "Starts a worker; answered when its process runs",
    description = "Only what `[hive.admin] allow_commands` and `allow_env` name is run.",
    request_body(content = WorkerSpec, description = "At most 256 KiB"),
    responses(
        (status = 201, description = "It runs, and has a `pid`", body = WorkerDetail),
        (status = 400, description = "The body is not JSON, or not whole"),
        (status = 403, description = "The command or a variable is not allowed"),
        (status = 408, description = "The body took longer than 10 s"),
        (status = 409, description = "It exists; this is it", body = WorkerDetail),
        (status = 413, description = "The body is too large"),
        (status = 422, description = "The spec is wrong or cannot be run; the message names the fields"),
        (status = 429, description = "The hive has as many workers as it takes"),
        (status = 500, description = "It could not be started, for no fault of the spec"),
        (status = 503, description = "The hive is ending"),
    ))]
async fn spawn(state: State, request: HttpRequest, payload: web::Payload) -> Answer {
    let spec = read_spec(&state, &request, payload).await?;
    state.policy.load().check(&spec)?;
    let name = WorkerName::new(&spec.group, &spec.instance);
    match state.spawner.send(SpawnWorker(spec)).await.map_err(closed)? {
        Ok(()) => {
            let detail = detail(&state, &name).ok_or_else(|| unknown(&name))?;
            Ok(HttpResponse::Created().json(detail))
        }
        Err(SpawnRefusal::Exists(name)) => {
            let detail = detail(&state, &name).ok_or_else(|| unknown(&name))?;
            Ok(HttpResponse::Conflict().json(detail))
        }
        Err(SpawnRefusal::Launch(error)) => Err(launch_error(&error)),
        Err(refusal @ SpawnRefusal::TooMany) => Err(HttpError::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too_many_workers",
            refusal.to_string(),
        )),
        Err(refusal @ SpawnRefusal::Ending) => Err(HttpError::overloaded(refusal.to_string(), 5)),
    }
}

async fn read_spec(
    state: &HiveState,
    request: &HttpRequest,
    payload: web::Payload,
) -> Result<WorkerSpec, HttpError> {
    let body = small_body::read(request.headers(), payload).await?;
    let value = serde_json::from_slice(&body).map_err(|error| {
        HttpError::bad_request("invalid_json", format!("the body is not JSON: {error}"))
    })?;
    from_json(value, &state.hostname).map_err(|problems| {
        let list: Vec<_> = problems.iter().map(ToString::to_string).collect();
        unprocessable(list.join("; "))
    })
}

fn unprocessable(message: String) -> HttpError {
    HttpError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_spec", message)
}

fn launch_error(error: &LaunchError) -> HttpError {
    match error.field() {
        Some(field) => unprocessable(format!("{field}: {}", error.chain())),
        None if error.is_exhausted() => HttpError::overloaded(error.chain(), 5),
        None => HttpError::internal(error.chain()),
    }
}

#[utoipa::path(delete, path = "/v1/workers/{group}/{instance}", operation_id = "stop_worker",
    tag = "workers", summary = "Ends a worker and forgets it; answered when nothing of its tree is left",
    params(Named, ("grace_ms" = Option<u64>, Query, maximum = 86_400_000,
        description = "Between SIGTERM and the kill, ms; its spec's `stop_grace_ms` when not given")),
    responses(
        (status = 200, description = "It is gone", body = Gone),
        (status = 400, description = "The query makes no sense"),
        (status = 404, description = "There is no such worker"),
        (status = 409, description = "Another call for it came in between"),
        (status = 500, description = "It could not be ended"),
    ))]
async fn stop(state: State, path: Name, request: HttpRequest) -> Answer {
    let name = name_of(&path);
    let grace = grace_of(request.query_string())?;
    let stopped = state.spawner.send(StopWorker { name: name.clone(), grace }).await;
    stopped.map_err(closed)?.map_err(command_error)?;
    let message = format!("worker {name} is gone");
    Ok(HttpResponse::Ok().json(Gone { status: "ok", message }))
}

fn grace_of(query: &str) -> Result<Option<Duration>, HttpError> {
    let mut grace = None;
    for (key, value) in query::pairs(query, &["grace_ms"])? {
        let allowed = format!("a whole number from 0 to {STOP_GRACE_MAX_MS}");
        let ms = query::parsed(&key, &value, &allowed)?;
        if ms > STOP_GRACE_MAX_MS {
            Limit::StopGrace.reached();
            return Err(query::bad_value(&key, &value, &allowed));
        }
        grace = Some(Duration::from_millis(ms));
    }
    Ok(grace)
}

#[utoipa::path(post, path = "/v1/workers/{group}/{instance}/restart", operation_id = "restart_worker",
    tag = "workers", summary = "Starts a worker anew with its latest spec; leaves `failed` too", params(Named),
    responses(
        (status = 200, description = "It runs again", body = WorkerDetail),
        (status = 404, description = "There is no such worker"),
        (status = 409, description = "It has no spec, or another call for it came in between"),
        (status = 422, description = "Its spec cannot be run; the message names the field"),
        (status = 500, description = "It could not be done"),
    ))]
async fn restart(state: State, path: Name) -> Answer {
    let name = name_of(&path);
    let done = state.spawner.send(RestartWorker(name.clone())).await;
    done.map_err(closed)?.map_err(command_error)?;
    answer_with(&state, &name)
}

#[utoipa::path(post, path = "/v1/workers/{group}/{instance}/drain", operation_id = "drain_worker",
    tag = "workers", summary = "Takes a worker out of routing; what it is at goes on", params(Named),
    responses(
        (status = 200, description = "It takes no new requests", body = WorkerDetail),
        (status = 404, description = "There is no such worker"),
        (status = 409, description = "It is not in a state in which it serves, or another call for it came in between"),
        (status = 500, description = "It could not be done"),
    ))]
async fn drain(state: State, path: Name) -> Answer {
    let name = name_of(&path);
    let done = state.spawner.send(DrainWorker(name.clone())).await;
    done.map_err(closed)?.map_err(command_error)?;
    answer_with(&state, &name)
}

#[utoipa::path(post, path = "/v1/workers/{group}/{instance}/resume", operation_id = "resume_worker",
    tag = "workers", summary = "Puts a drained worker back into routing", params(Named),
    responses(
        (status = 200, description = "It takes requests", body = WorkerDetail),
        (status = 404, description = "There is no such worker"),
        (status = 409, description = "It is not draining, or another call for it came in between"),
        (status = 500, description = "It could not be done"),
    ))]
async fn resume(state: State, path: Name) -> Answer {
    let name = name_of(&path);
    let done = state.spawner.send(ResumeWorker(name.clone())).await;
    done.map_err(closed)?.map_err(command_error)?;
    answer_with(&state, &name)
}

fn command_error(error: WorkerCommandError) -> HttpError {
    let message = error.to_string();
    match error {
        WorkerCommandError::Unknown(_) => HttpError::not_found(message),
        WorkerCommandError::Launch(error) => launch_error(&error),
        WorkerCommandError::WrongState(..) => {
            HttpError::new(StatusCode::CONFLICT, "wrong_state", message)
        }
        WorkerCommandError::NoSpec(_) => HttpError::new(StatusCode::CONFLICT, "no_spec", message),
        WorkerCommandError::Overtaken => HttpError::new(StatusCode::CONFLICT, "overtaken", message),
    }
}

fn closed(error: MailboxError) -> HttpError {
    HttpError::internal(format!("the spawner does not answer: {error}"))
}

#[utoipa::path(get, path = "/capabilities", operation_id = "get_capabilities", tag = "machine",
    summary = "What this machine has: processors, GPUs, cgroups",
    responses((status = 200, description = "As it is now", body = Capabilities)))]
async fn capabilities(state: State) -> web::Json<Capabilities> {
    let mut all = (*state.capabilities).clone();
    all.devices.extend(state.board.gpus().stats().iter().map(|gpu| Device {
        id: format!("GPU-{}", gpu.id),
        name: gpu.name.clone(),
        device_type: "gpu".into(),
        // To a hundredth.
        vram_gb: (gpu.vram_total_mb.unwrap_or(0) as f64 / 10.24).round() / 100.0,
    }));
    web::Json(all)
}

#[utoipa::path(get, path = "/health", operation_id = "get_health", tag = "machine",
    summary = "Whether this role is up; never needs a token",
    responses((status = 200, description = "It is", body = Health)))]
async fn health(state: State) -> web::Json<Health> {
    web::Json(Health {
        status: "ok".into(),
        role: "hive".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        uptime_s: state.started.elapsed().as_secs(),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test says what it expects")]
mod tests {
    use super::*;
    use crate::limits::tests::Counting;

    #[test]
    fn a_grace_is_bounded() {
        let of = |ms: u64| grace_of(&format!("grace_ms={ms}"));
        let longest = Duration::from_millis(STOP_GRACE_MAX_MS);
        assert_eq!(of(STOP_GRACE_MAX_MS).unwrap(), Some(longest));
        let counting = Counting::of(Limit::StopGrace);
        assert!(of(STOP_GRACE_MAX_MS + 1).unwrap_err().to_string().contains("86400000"));
        counting.counted();
        assert_eq!(grace_of("").unwrap(), None);
        assert!(grace_of("grace_ms=-1").is_err() && grace_of("grace=1").is_err());
    }
}
