//! `rbee status`: is it up, who belongs to it, and what needs a look.

use super::{
    Api, Connection, Failure, Output, Role,
    model::{Hive, HiveList, Worker, WorkerList},
    table::{self, Cell, Column, Tone},
    units::{NONE, counted, mb, millis, or_none, percent, plain, seconds},
};
use crate::contract::Health;
use std::collections::BTreeMap;

/// `rbee status`
#[derive(Clone, Debug, clap::Args)]
pub struct StatusArgs {
    /// Print the API's JSON: {"health": …, "hives": …, "workers": …}
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would show it")]
    pub connection: Connection,
}

/// Asks and shows.
pub async fn run(args: &StatusArgs, output: Output) -> Result<(), Failure> {
    let api = Api::new(&args.connection)?;
    let (role, health, health_text) = api.health().await?;
    let hives_text = match role {
        Role::Queen => api.get("/v1/hives").await?,
        Role::Hive => r#"{"hives":[]}"#.to_owned(),
    };
    let workers_text = api.get("/v1/workers").await?;
    if args.json {
        let [hives, workers] = [&hives_text, &workers_text].map(|text| text.trim());
        let joined = match role {
            Role::Queen => format!(
                r#"{{"health":{},"hives":{hives},"workers":{workers}}}"#,
                health_text.trim()
            ),
            Role::Hive => format!(r#"{{"health":{},"workers":{workers}}}"#, health_text.trim()),
        };
        return output.json(&joined);
    }
    let hives: HiveList = api.parse(&hives_text)?;
    let workers: WorkerList = api.parse(&workers_text)?;
    output.lines(&render(&health, api.url(), &hives.hives, &workers.workers, output))
}

const COLUMNS: [Column; 9] = [
    Column::text("HIVE").least(8),
    Column::text("HEALTH"),
    Column::text("STATUS").rank(4),
    Column::number("WORKERS").rank(1),
    Column::number("CPU").rank(2),
    Column::number("RAM").rank(2),
    Column::text("GPUS").least(8).rank(3),
    Column::number("HEARD").rank(5),
    Column::text("VERSION").rank(6),
];

fn render(
    health: &Health,
    url: &str,
    hives: &[Hive],
    workers: &[Worker],
    output: Output,
) -> Vec<String> {
    let up = seconds(health.uptime_s);
    let mut lines = vec![plain(&format!("{} {} at {url}, up {up}", health.role, health.version))];
    if !hives.is_empty() {
        let rows: Vec<_> = hives.iter().map(hive_row).collect();
        lines.push(String::new());
        lines.extend(table::lines(&COLUMNS, &rows, output.width, output.colours));
    } else if health.role == "queen" {
        lines.push(
            "no hive has been heard of: start one with rbee --config config/hive.toml".into(),
        );
    }
    lines.push(String::new());
    lines.push(counts(workers));
    lines.extend(troubles(workers).iter().map(|line| Tone::Bad.paint(line, output.colours)));
    let most = output.width.unwrap_or(usize::MAX);
    // Lines with colours are already as wide as they may be.
    let fits = |line: String| if line.contains('\x1b') { line } else { table::fit(&line, most) };
    lines.into_iter().map(fits).collect()
}

fn hive_row(hive: &Hive) -> Vec<Cell> {
    let node = &hive.node;
    let freshness = hive.freshness.as_deref().unwrap_or(NONE);
    let tone = match freshness {
        "healthy" => Tone::Good,
        "degraded" => Tone::Warn,
        _ => Tone::Bad,
    };
    // A program that heartbeats by itself may say nothing of its machine.
    let ram = or_none(node.ram_total_mb.filter(|total| *total > 0), |total| {
        format!("{}/{}", or_none(node.ram_used_mb, mb), mb(total))
    });
    let cpu = match node.cpu_count.filter(|count| *count > 0) {
        Some(count) => or_none(node.cpu_pct, |cpu| percent(cpu / count as f64)),
        None => NONE.into(),
    };
    vec![
        hive.id.as_str().into(),
        Cell::new(freshness, tone),
        hive.operational_status.as_deref().unwrap_or(NONE).into(),
        or_none(hive.worker_count, |n| n.to_string()).into(),
        cpu.into(),
        ram.into(),
        gpus(hive),
        or_none(hive.age_ms, |ms| format!("{} ago", millis(ms))).into(),
        hive.version.as_deref().filter(|text| !text.is_empty()).unwrap_or(NONE).into(),
    ]
}

fn gpus(hive: &Hive) -> Cell {
    let node = &hive.node;
    match node.gpu_source.as_deref() {
        Some("unknown") => return Cell::new("unknown", Tone::Warn),
        _ if node.gpus.is_empty() => return NONE.into(),
        _ => {}
    }
    let ill = node.gpus.iter().filter(|gpu| gpu.health.as_deref().is_some_and(|h| h != "ok"));
    let used = node.gpus.iter().filter_map(|gpu| gpu.vram_used_mb).sum();
    let total = node.gpus.iter().filter_map(|gpu| gpu.vram_total_mb).sum();
    let text = format!("{}: {}/{}", node.gpus.len(), mb(used), mb(total));
    match ill.count() {
        0 => text.into(),
        n => Cell::new(format!("{text}, {n} not well"), Tone::Bad),
    }
}

/// `5 workers: 4 ready, 1 failed; 3 idle`
fn counts(workers: &[Worker]) -> String {
    let mut states: BTreeMap<&str, usize> = BTreeMap::new();
    for worker in workers {
        *states.entry(worker.state.as_deref().unwrap_or("in no known state")).or_default() += 1;
    }
    let states: Vec<_> = states.iter().map(|(state, n)| format!("{n} {state}")).collect();
    let idle = workers.iter().filter(|worker| worker.idle == Some(true)).count();
    match workers.len() {
        0 => "no workers".into(),
        n => format!("{}: {}; {idle} idle", counted(n, "worker"), plain(&states.join(", "))),
    }
}

/// A line for each worker that an operator should look at.
fn troubles(workers: &[Worker]) -> Vec<String> {
    let in_trouble = |worker: &&Worker| {
        matches!(worker.state.as_deref(), Some("failed" | "backoff"))
            || worker.limits_applied == Some(false)
    };
    let told = workers.iter().filter(in_trouble).map(|worker| {
        let state = worker.state.as_deref().unwrap_or(NONE);
        let why = worker.last_exit.as_ref().map(|exit| format!(": {}", exit.cause()));
        let limits =
            if worker.limits_applied == Some(false) { ", limits not in force" } else { "" };
        plain(&format!("  {} {state}{}{limits}", worker.name(), why.unwrap_or_default()))
    });
    told.collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects")]
    use super::*;
    use serde_json::{Value, json};

    fn shown(hives: Value, workers: Value) -> String {
        let health =
            Health { status: "ok".into(), role: "queen".into(), version: "1".into(), uptime_s: 5 };
        let hives: Vec<Hive> = serde_json::from_value(hives).unwrap();
        let workers: Vec<Worker> = serde_json::from_value(workers).unwrap();
        let output = Output { width: Some(100), colours: false };
        render(&health, "u", &hives, &workers, output).join("\n")
    }

    #[test]
    fn what_needs_a_look_is_named() {
        let text = shown(
            json!([{"id": "a", "freshness": "down", "node": {"gpu_source": "unknown"}}]),
            json!([
                {"hive_id": "a", "group": "g", "instance": "1", "state": "ready", "idle": true},
                {"hive_id": "a", "group": "g", "instance": "2", "state": "failed", "last_exit": {"code": 3}},
            ]),
        );
        assert!(text.contains("2 workers: 1 failed, 1 ready; 1 idle"), "{text}");
        assert!(text.contains("  a/g/2 failed: exit 3"), "{text}");
        assert!(text.contains("down") && text.contains("unknown"), "{text}");
    }

    #[test]
    fn a_queen_alone_says_what_to_do_next() {
        assert!(shown(json!([]), json!([])).contains("start one with"));
    }
}
