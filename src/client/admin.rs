//! `rbee stop`, `restart`, `drain` and `resume`: done when they return. Also finds where a worker is.

use super::{
    Api, Connection, Failure, Output, Role,
    model::WorkerList,
    name::{WorkerName, resolve, unknown},
};
use awc::http::Method;
use std::time::Duration;

/// What a hive may take beyond a worker's grace, or a queen beyond a drain's time.
const MARGIN: Duration = Duration::from_secs(30);

/// What a drain waits where it is not told, and more than a worker's usual grace, ms.
const WAIT_MS: u64 = 30_000;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// End its whole tree.
    Stop,
    /// End it and start it anew; also leaves `failed`.
    Restart,
    /// Give it nothing new, and wait for what it is at.
    Drain,
    /// Give it requests again.
    Resume,
}

impl Action {
    fn done(self) -> &'static str {
        match self {
            Self::Stop => "stopped",
            Self::Restart => "restarted",
            Self::Drain => "drained",
            Self::Resume => "resumed",
        }
    }

    fn suffix(self) -> &'static str {
        match self {
            Self::Stop => "",
            Self::Restart => "/restart",
            Self::Drain => "/drain",
            Self::Resume => "/resume",
        }
    }
}

/// Which workers.
#[derive(Clone, Debug, clap::Args)]
pub struct AdminArgs {
    /// hive/group/instance, or group/instance where that names one
    #[arg(required = true, value_name = "WORKER")]
    pub workers: Vec<WorkerName>,

    /// Print the API's JSON, a line for each worker
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would show it")]
    pub connection: Connection,
}

/// `rbee stop`
#[derive(Clone, Debug, clap::Args)]
pub struct StopArgs {
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would show it")]
    pub admin: AdminArgs,

    /// Between SIGTERM and the kill; without it the worker's own
    #[arg(long, value_name = "MS")]
    pub grace_ms: Option<u64>,
}

/// `rbee drain`
#[derive(Clone, Debug, clap::Args)]
pub struct DrainArgs {
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would show it")]
    pub admin: AdminArgs,

    /// How long to wait for what is in flight (through a queen; default 30000)
    #[arg(long, value_name = "MS")]
    pub drain_timeout_ms: Option<u64>,
}

/// Does it to each of them; the first failure is the command's, the others are told too.
pub async fn run(
    action: Action,
    args: &AdminArgs,
    wait_ms: Option<u64>,
    output: Output,
) -> Result<(), Failure> {
    let api = Api::new(&args.connection)?;
    let role = api.role().await?;
    let mut first = None;
    for worker in &args.workers {
        match one(&api, role, action, worker, wait_ms).await {
            Ok((_, text)) if args.json => output.json(&text)?,
            Ok((name, _)) => output.text(&format!("{name} {}\n", action.done()))?,
            Err(failure) => {
                if let Some(earlier) = first.replace(failure) {
                    eprintln!("rbee: {earlier}");
                }
            }
        }
    }
    first.map_or(Ok(()), Err)
}

async fn one(
    api: &Api,
    role: Role,
    action: Action,
    worker: &WorkerName,
    wait_ms: Option<u64>,
) -> Result<(WorkerName, String), Failure> {
    let name = locate(api, role, worker).await?;
    let path = path_of(&name) + action.suffix();
    let (method, query) = match (action, wait_ms) {
        (Action::Stop, Some(ms)) => (Method::DELETE, format!("?grace_ms={ms}")),
        (Action::Stop, None) => (Method::DELETE, String::new()),
        (Action::Drain, Some(ms)) if role == Role::Queen => {
            (Method::POST, format!("?timeout_ms={ms}"))
        }
        _ => (Method::POST, String::new()),
    };
    let wait = Duration::from_millis(wait_ms.unwrap_or(WAIT_MS));
    let timeout = api.timeout.max(wait + MARGIN);
    let answer = api.call(method, &(path + &query), None, timeout).await;
    match answer {
        Ok(text) => Ok((name, text)),
        Err(Failure::NotFound(_)) => Err(unknown(worker, &known(api, role).await?)),
        Err(failure) => Err(failure),
    }
}

/// Where its calls are.
pub fn path_of(name: &WorkerName) -> String {
    let WorkerName { hive, group, instance } = name;
    match hive {
        Some(hive) => format!("/v1/hives/{hive}/workers/{group}/{instance}"),
        None => format!("/v1/workers/{group}/{instance}"),
    }
}

/// The name with its hive at a queen; without one at a hive, which does not know its own.
pub async fn locate(api: &Api, role: Role, wanted: &WorkerName) -> Result<WorkerName, Failure> {
    match (role, &wanted.hive) {
        (Role::Queen, None) => resolve(wanted, &known(api, role).await?),
        (Role::Queen, Some(_)) | (Role::Hive, None) => Ok(wanted.clone()),
        (Role::Hive, Some(hive)) => Err(Failure::Usage(format!(
            "{} is a hive: name its worker {}/{}, or ask a queen for those of {hive}",
            api.url(),
            wanted.group,
            wanted.instance
        ))),
    }
}

/// Every worker's name.
pub async fn known(api: &Api, role: Role) -> Result<Vec<WorkerName>, Failure> {
    let list: WorkerList = api.parse(&api.get("/v1/workers").await?)?;
    let names = list.workers.iter().map(|worker| match role {
        Role::Queen => worker.name(),
        Role::Hive => WorkerName { hive: None, ..worker.name() },
    });
    Ok(names.collect())
}
