//! `rbee spawn`: starts a worker; it runs when the command returns.

use super::{
    Api, Connection, Failure, Output, Role,
    model::{HiveList, Worker},
    name::WorkerName,
};
use crate::limits::CLIENT_SPEC_MAX;
use awc::http::Method;
use serde_json::{Map, Value, json};
use std::{io::Read, path::PathBuf};

/// `rbee spawn`
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rbee spawn llm/8080 --memory-limit 4G --cpu-limit 200% -- \\
    /usr/local/bin/llama-server --model /models/llama.gguf --port 8080
  rbee spawn gpu-box/try/1 -- sleep 1000
  rbee spawn llm/8080 --spec worker.json     (every key of [[hive.workers]], as JSON)

The hive runs only what its hive.admin.allow_commands lists.")]
pub struct SpawnArgs {
    /// hive/group/instance, or group/instance where there is one hive
    #[arg(value_name = "WORKER")]
    pub worker: WorkerName,

    /// File with its spec as JSON (`-`: standard input); the other options go over it
    #[arg(long, value_name = "FILE")]
    pub spec: Option<PathBuf>,

    /// The model it serves, where its arguments do not say
    #[arg(long)]
    pub model: Option<String>,

    /// Where it serves; without it http://HOST:INSTANCE when the instance is a port
    #[arg(long = "worker-url", value_name = "URL")]
    pub worker_url: Option<String>,

    /// Requests that it takes at once
    #[arg(long, value_name = "N")]
    pub slots: Option<u32>,

    /// Such as 200%: two cores
    #[arg(long, value_name = "PERCENT")]
    pub cpu_limit: Option<String>,

    /// Such as 4G
    #[arg(long, value_name = "SIZE")]
    pub memory_limit: Option<String>,

    /// GPU that it may see, by index or UUID; again for more
    #[arg(long = "gpu", value_name = "GPU")]
    pub gpus: Vec<String>,

    /// Variable that is set for it; again for more
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = variable)]
    pub env: Vec<(String, String)>,

    /// Its working directory
    #[arg(long, value_name = "DIR")]
    pub cwd: Option<String>,

    /// User to run it as (a root hive only)
    #[arg(long)]
    pub user: Option<String>,

    /// URL that answers 2xx once it serves
    #[arg(long, value_name = "URL")]
    pub ready: Option<String>,

    /// Print the API's JSON
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would show it")]
    pub connection: Connection,

    /// The program and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.into(), value.into())),
        _ => Err("must be NAME=VALUE".into()),
    }
}

/// Starts it.
pub async fn run(args: &SpawnArgs, output: Output) -> Result<(), Failure> {
    let base = match &args.spec {
        Some(path) => read_spec(path)?,
        None => Map::new(),
    };
    let spec = spec_of(args, base)?;
    let api = Api::new(&args.connection)?;
    let role = api.role().await?;
    let hive = hive_of(&api, role, args).await?;
    let path = match &hive {
        Some(hive) => format!("/v1/hives/{hive}/workers"),
        None => "/v1/workers".into(),
    };
    let answer = api.call(Method::POST, &path, Some(spec.to_string()), api.timeout).await;
    let name = WorkerName { hive, ..args.worker.clone() };
    let text = answer.map_err(|failure| exists(&name, failure))?;
    if args.json {
        return output.json(&text);
    }
    let worker: Worker = api.parse(&text)?;
    let pid = super::units::or_none(worker.pid, |pid| pid.to_string());
    output.text(&format!("{name} started, pid {pid}\n"))
}

/// The body of a 409 is the worker that is there already, and no message.
fn exists(name: &WorkerName, failure: Failure) -> Failure {
    match failure {
        Failure::Refused(text) if text.ends_with("(409)") => Failure::Refused(format!(
            "there is a worker {name} already: `rbee restart {name}`, or `rbee stop {name}` first"
        )),
        other => other,
    }
}

/// The hive that is named, or the only one; none at a hive's own address.
async fn hive_of(api: &Api, role: Role, args: &SpawnArgs) -> Result<Option<String>, Failure> {
    let name = &args.worker;
    match (role, &name.hive) {
        (Role::Hive, None) => Ok(None),
        (Role::Hive, Some(_)) => super::admin::locate(api, role, name).await.map(|_| None),
        (Role::Queen, Some(hive)) => Ok(Some(hive.clone())),
        (Role::Queen, None) => {
            let list: HiveList = api.parse(&api.get("/v1/hives").await?)?;
            let ids: Vec<_> = list.hives.into_iter().map(|hive| hive.id).collect();
            match &ids[..] {
                [one] => Ok(Some(one.clone())),
                [] => Err(Failure::NotFound("no hive is known to this queen".into())),
                _ => {
                    let list = ids.join(", ");
                    let message = format!("on which hive? Name it HIVE/{name}; there are {list}");
                    Err(Failure::Usage(message))
                }
            }
        }
    }
}

fn read_spec(path: &PathBuf) -> Result<Map<String, Value>, Failure> {
    let shown = path.display();
    let failed = |error| Failure::NotFound(format!("cannot read the spec {shown}: {error}"));
    let mut text = String::new();
    if path.as_os_str() == "-" {
        std::io::stdin().take(CLIENT_SPEC_MAX).read_to_string(&mut text).map_err(failed)?;
    } else {
        let file = std::fs::File::open(path).map_err(failed)?;
        file.take(CLIENT_SPEC_MAX).read_to_string(&mut text).map_err(failed)?;
    }
    serde_json::from_str(&text)
        .map_err(|error| Failure::Usage(format!("the spec {shown} is no JSON object: {error}")))
}

/// The options over the file's keys. What its values may be is the hive's to say.
fn spec_of(args: &SpawnArgs, mut spec: Map<String, Value>) -> Result<Value, Failure> {
    let mut set = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            spec.insert(key.to_owned(), value);
        }
    };
    let text = |value: &Option<String>| value.clone().map(Value::from);
    set("group", Some(args.worker.group.clone().into()));
    set("instance", Some(args.worker.instance.clone().into()));
    set("model", text(&args.model));
    set("url", text(&args.worker_url));
    set("slots", args.slots.map(Value::from));
    set("cpu_limit", text(&args.cpu_limit));
    set("memory_limit", text(&args.memory_limit));
    set("cwd", text(&args.cwd));
    set("user", text(&args.user));
    set("gpus", (!args.gpus.is_empty()).then(|| json!(args.gpus)));
    set("ready", args.ready.as_ref().map(|url| json!({ "http": url })));
    let env: Map<_, _> = args.env.iter().map(|(k, v)| (k.clone(), v.clone().into())).collect();
    set("env", (!env.is_empty()).then_some(env.into()));
    if let Some((command, arguments)) = args.command.split_first() {
        set("command", Some(command.as_str().into()));
        set("args", Some(json!(arguments)));
    }
    if !spec.contains_key("command") {
        let message = "what is to be run? rbee spawn GROUP/INSTANCE -- COMMAND ARGUMENTS…";
        return Err(Failure::Usage(message.into()));
    }
    Ok(spec.into())
}
