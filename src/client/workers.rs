//! `rbee workers`: who is there, or one of them in full.

use super::{
    Api, Connection, Failure, Output, Role, admin, details,
    model::{HiveList, Worker, WorkerList},
    name::WorkerName,
    table::{self, Cell, Column, Tone},
    units::{self, NONE, mb, or_none, percent},
};
use std::collections::HashMap;

/// A sample older than this is old, ms.
const OLD_SAMPLE_MS: u64 = 5_000;

/// `rbee workers`
#[derive(Clone, Debug, clap::Args)]
pub struct WorkersArgs {
    /// Only this one, in full
    #[arg(value_name = "WORKER", conflicts_with_all = ["hive", "group", "state", "model", "idle", "min_free_vram_mb"])]
    pub worker: Option<WorkerName>,

    /// Of this hive
    #[arg(long, value_name = "ID")]
    pub hive: Option<String>,

    /// Of this group
    #[arg(long)]
    pub group: Option<String>,

    /// In this state
    #[arg(long, value_parser = ["starting", "ready", "draining", "stopping", "stopped", "backoff", "failed"])]
    pub state: Option<String>,

    /// That serve this model, by name or alias
    #[arg(long)]
    pub model: Option<String>,

    /// That do nothing now
    #[arg(long)]
    pub idle: bool,

    /// Whose GPUs have this much memory left
    #[arg(long, value_name = "MIB")]
    pub min_free_vram_mb: Option<u64>,

    /// Print the API's JSON
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would show it")]
    pub connection: Connection,
}

impl WorkersArgs {
    fn query(&self) -> String {
        let pairs = [
            ("hive", self.hive.clone()),
            ("group", self.group.clone()),
            ("state", self.state.clone()),
            ("model", self.model.clone()),
            ("idle", self.idle.then(|| "true".into())),
            ("min_free_vram_mb", self.min_free_vram_mb.map(|mb| mb.to_string())),
        ];
        query(pairs)
    }

    /// What a hive's own list cannot be asked for.
    fn needs_queen(&self) -> bool {
        self.hive.is_some()
            || self.state.is_some()
            || self.model.is_some()
            || self.idle
            || self.min_free_vram_mb.is_some()
    }
}

/// `?a=b&c=d` of those that are given.
pub(super) fn query<const N: usize>(pairs: [(&str, Option<String>); N]) -> String {
    let given = pairs.into_iter().filter_map(|(key, value)| Some((key, value?)));
    let mut text = String::new();
    for (key, value) in given {
        text.push(if text.is_empty() { '?' } else { '&' });
        text.push_str(key);
        text.push('=');
        for byte in value.bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                    text.push(char::from(byte));
                }
                _ => text.push_str(&format!("%{byte:02X}")),
            }
        }
    }
    text
}

/// Lists them.
pub async fn run(args: &WorkersArgs, output: Output) -> Result<(), Failure> {
    let api = Api::new(&args.connection)?;
    let role = api.role().await?;
    if let Some(worker) = &args.worker {
        return one(&api, role, worker, args.json, output).await;
    }
    if role == Role::Hive && args.needs_queen() {
        let message = format!("{} is a hive: of a hive only --group can be asked", api.url());
        return Err(Failure::Usage(message));
    }
    let text = api.get(&format!("/v1/workers{}", args.query())).await?;
    if args.json {
        return output.json(&text);
    }
    let list: WorkerList = api.parse(&text)?;
    if list.workers.is_empty() {
        eprintln!("no workers match");
        return Ok(());
    }
    let sources = gpu_sources(&api, role).await?;
    output.lines(&render(&list.workers, &sources, output))
}

async fn one(
    api: &Api,
    role: Role,
    worker: &WorkerName,
    json: bool,
    output: Output,
) -> Result<(), Failure> {
    let name = admin::locate(api, role, worker).await?;
    let answer = api.get(&format!("/v1/workers/{name}")).await;
    let text = match answer {
        Err(Failure::NotFound(_)) => {
            return Err(super::name::unknown(worker, &admin::known(api, role).await?));
        }
        other => other?,
    };
    if json {
        return output.json(&text);
    }
    let worker: Worker = api.parse(&text)?;
    let sources = gpu_sources(api, role).await?;
    let source = worker.hive_id.as_ref().and_then(|id| sources.get(id));
    output.lines(&details::lines(&worker, source.map(String::as_str)))
}

/// Who tells the GPU figures, by hive; a hive does not say of itself.
pub(super) async fn gpu_sources(api: &Api, role: Role) -> Result<HashMap<String, String>, Failure> {
    if role == Role::Hive {
        return Ok(HashMap::new());
    }
    let list: HiveList = api.parse(&api.get("/v1/hives").await?)?;
    let sources = list.hives.into_iter().filter_map(|hive| Some((hive.id, hive.node.gpu_source?)));
    Ok(sources.collect())
}

const COLUMNS: [Column; 13] = [
    Column::text("WORKER").least(16),
    Column::text("STATE"),
    Column::text("MODEL").least(8).rank(2),
    Column::text("USE").rank(3),
    Column::number("CPU").rank(1),
    Column::number("RAM").rank(1),
    Column::number("GPU").rank(4),
    Column::number("VRAM").rank(4),
    Column::number("REQ").rank(5),
    Column::number("RESTARTS").rank(7),
    Column::number("UP").rank(6),
    Column::number("PID").rank(8),
    Column::number("AGE").rank(9),
];

/// A line for each worker.
pub fn render(
    workers: &[Worker],
    sources: &HashMap<String, String>,
    output: Output,
) -> Vec<String> {
    let rows: Vec<Vec<Cell>> = workers
        .iter()
        .map(|worker| {
            let source = worker.hive_id.as_ref().and_then(|id| sources.get(id));
            row(worker, source.map(String::as_str))
        })
        .collect();
    table::lines(&COLUMNS, &rows, output.width, output.colours)
}

fn row(worker: &Worker, source: Option<&str>) -> Vec<Cell> {
    let (gpu, vram) = gpu_cells(worker, source);
    let old = worker.sample_age_ms.is_some_and(|ms| ms > OLD_SAMPLE_MS);
    vec![
        worker.name().to_string().into(),
        state_cell(worker),
        or_none(worker.model.clone(), |model| model).into(),
        worker.activity().unwrap_or(NONE).into(),
        or_none(worker.cpu_pct, percent).into(),
        or_none(worker.working_set_mb.or(worker.rss_mb), mb).into(),
        gpu.into(),
        vram.into(),
        requests(worker).into(),
        or_none(worker.restarts, |n| n.to_string()).into(),
        or_none(worker.uptime_s.filter(|_| worker.pid.is_some()), units::seconds).into(),
        or_none(worker.pid, |pid| pid.to_string()).into(),
        Cell::new(
            or_none(worker.sample_age_ms, units::millis),
            if old { Tone::Warn } else { Tone::Plain },
        ),
    ]
}

/// Its state, and that its hive is not heard of.
pub fn state_cell(worker: &Worker) -> Cell {
    let state = worker.state.as_deref().unwrap_or(NONE);
    let stale = worker.freshness.as_deref().filter(|freshness| *freshness != "healthy");
    if let Some(freshness) = stale {
        return Cell::new(format!("{state} ({freshness})"), Tone::Bad);
    }
    Cell::new(state, state_tone(state))
}

/// How a state stands out.
pub fn state_tone(state: &str) -> Tone {
    match state {
        "ready" => Tone::Good,
        "starting" | "draining" | "stopping" | "backoff" => Tone::Warn,
        "failed" => Tone::Bad,
        "stopped" => Tone::Dim,
        _ => Tone::Plain,
    }
}

/// Utilisation and memory. Where nothing answers for the GPUs a zero is no zero: `?`.
pub fn gpu_cells(worker: &Worker, source: Option<&str>) -> (String, String) {
    match source {
        Some("unknown") => ("?".into(), "?".into()),
        Some("none") => (NONE.into(), NONE.into()),
        // A hive does not say: what has no GPU memory to speak of has no GPU.
        None if worker.total_vram_mb.is_none() => (NONE.into(), NONE.into()),
        _ => {
            let used = or_none(worker.vram_mb, mb);
            let vram = match worker.total_vram_mb {
                Some(total) => format!("{used}/{}", mb(total)),
                None => used,
            };
            (or_none(worker.gpu_util_pct, percent), vram)
        }
    }
}

/// In progress of slots, and waiting: `3/4+1`.
pub fn requests(worker: &Worker) -> String {
    let running = or_none(worker.requests_running, |n| n.to_string());
    let slots = worker.slots.map_or_else(String::new, |n| format!("/{n}"));
    let waiting = worker.requests_waiting.filter(|n| *n > 0);
    format!("{running}{slots}{}", waiting.map_or_else(String::new, |n| format!("+{n}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects")]
    use super::*;
    use serde_json::json;

    fn shown(worker: serde_json::Value, source: &str) -> Vec<String> {
        let worker: Worker = serde_json::from_value(worker).unwrap();
        row(&worker, Some(source)).into_iter().map(|cell| cell.text).collect()
    }

    #[test]
    fn a_worker_is_shown_in_units_of_people() {
        let worker = json!({
            "hive_id": "h", "group": "llm", "instance": "8080", "state": "ready", "model": "m",
            "cpu_pct": 123.4, "working_set_mb": 4096, "gpu_util_pct": 85.0, "vram_mb": 8192,
            "total_vram_mb": 24576, "requests_running": 3, "requests_waiting": 1, "slots": 4,
            "idle": false, "restarts": 2, "uptime_s": 3700, "pid": 12, "sample_age_ms": 300,
            "what_comes_later": {"x": 1},
        });
        let expected = [
            "h/llm/8080",
            "ready",
            "m",
            "busy",
            "123%",
            "4.0G",
            "85%",
            "8.0G/24.0G",
            "3/4+1",
            "2",
            "1h01m",
            "12",
            "300ms",
        ];
        assert_eq!(shown(worker, "nvml"), expected);
    }

    #[test]
    fn what_is_not_told_is_not_made_up() {
        let row = shown(
            json!({"group": "g", "instance": "i", "vram_mb": 0, "gpu_util_pct": 0.0}),
            "unknown",
        );
        assert_eq!(row[0], "g/i");
        assert_eq!(&row[6..8], ["?", "?"], "a zero that nothing answers for");
        assert!([1, 2, 3, 4, 5, 8, 9, 10, 11, 12].iter().all(|i| row[*i] == NONE), "{row:?}");
    }

    #[test]
    fn a_query_is_encoded() {
        let text = query([
            ("model", Some("a/b c&é".into())),
            ("group", None),
            ("idle", Some("true".into())),
        ]);
        assert_eq!(text, "?model=a%2Fb%20c%26%C3%A9&idle=true");
    }
}
