//! The hive's routes: its workers, and what is asked of them. It writes by message to the spawner
//! and reads the board; whether a command may be run is decided in [`admin`].

pub mod admin;
mod logs;

pub use logs::Readers;

use super::{
    auth::{Access, Class},
    error::HttpError,
    fallback::{allow, get, not_found, post},
    query, small_body,
};
use crate::{
    actors::{
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
use serde::Serialize;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// The longest grace that a stop may ask for, ms.
const GRACE_MAX_MS: u64 = 86_400_000;

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
}

/// A worker whole: its figures, and what it was asked to be.
#[derive(Serialize)]
struct WorkerDetail {
    #[serde(flatten)]
    report: WorkerReport,
    spec: Option<Arc<WorkerSpec>>,
}

#[derive(Serialize)]
struct WorkerDetails {
    workers: Vec<WorkerDetail>,
}

#[derive(Serialize)]
struct Gone {
    status: &'static str,
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
    Access::new("/health", Class::Open),
];

/// Adds the hive's routes, and the answers to what is none. Needs `web::Data<HiveState>`.
pub fn configure(config: &mut web::ServiceConfig) {
    const ONE: &str = "/v1/workers/{group}/{instance}";
    config
        .service(
            web::resource("/v1/workers")
                .get(list)
                .post(spawn)
                .default_service(web::to(|request| allow("GET, POST", request))),
        )
        .service(
            web::resource(ONE)
                .get(one)
                .delete(stop)
                .default_service(web::to(|request| allow("DELETE, GET", request))),
        )
        .service(post("/v1/workers/{group}/{instance}/restart", restart))
        .service(post("/v1/workers/{group}/{instance}/drain", drain))
        .service(post("/v1/workers/{group}/{instance}/resume", resume))
        .service(get("/v1/workers/{group}/{instance}/logs", logs::get))
        .service(get("/capabilities", capabilities))
        .service(get("/health", health))
        .default_service(web::to(not_found));
}

type State = web::Data<HiveState>;
type Name = web::Path<(String, String)>;
type Answer = Result<HttpResponse, HttpError>;

fn name_of(path: &Name) -> WorkerName {
    WorkerName::new(&path.0, &path.1)
}

fn unknown(name: &WorkerName) -> HttpError {
    HttpError::not_found(format!("there is no worker {name} on this hive"))
}

fn detail(state: &HiveState, name: &WorkerName) -> Option<WorkerDetail> {
    let (report, spec) = state.board.get(name)?;
    Some(WorkerDetail { report, spec })
}

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

async fn one(state: State, path: Name) -> Answer {
    answer_with(&state, &name_of(&path))
}

fn answer_with(state: &HiveState, name: &WorkerName) -> Answer {
    let detail = detail(state, name).ok_or_else(|| unknown(name))?;
    Ok(HttpResponse::Ok().json(detail))
}

async fn spawn(state: State, payload: web::Payload) -> Answer {
    let spec = read_spec(&state, payload).await?;
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

async fn read_spec(state: &HiveState, payload: web::Payload) -> Result<WorkerSpec, HttpError> {
    let body = small_body::read(payload).await?;
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
        None => HttpError::internal(error.chain()),
    }
}

async fn stop(state: State, path: Name, request: HttpRequest) -> Answer {
    let name = name_of(&path);
    let mut grace = None;
    for (key, value) in query::pairs(request.query_string(), &["grace_ms"])? {
        let ms = value.parse().ok().filter(|ms| *ms <= GRACE_MAX_MS).ok_or_else(|| {
            query::bad_value(&key, &value, &format!("a whole number from 0 to {GRACE_MAX_MS}"))
        })?;
        grace = Some(Duration::from_millis(ms));
    }
    let stopped = state.spawner.send(StopWorker { name: name.clone(), grace }).await;
    stopped.map_err(closed)?.map_err(command_error)?;
    let message = format!("worker {name} is gone");
    Ok(HttpResponse::Ok().json(Gone { status: "ok", message }))
}

async fn restart(state: State, path: Name) -> Answer {
    let name = name_of(&path);
    let done = state.spawner.send(RestartWorker(name.clone())).await;
    done.map_err(closed)?.map_err(command_error)?;
    answer_with(&state, &name)
}

async fn drain(state: State, path: Name) -> Answer {
    let name = name_of(&path);
    let done = state.spawner.send(DrainWorker(name.clone())).await;
    done.map_err(closed)?.map_err(command_error)?;
    answer_with(&state, &name)
}

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

async fn health(state: State) -> web::Json<Health> {
    web::Json(Health {
        status: "ok".into(),
        role: "hive".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        uptime_s: state.started.elapsed().as_secs(),
    })
}
