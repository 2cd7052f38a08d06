//! `rbee explain`: who would take a request now, and why the others would not.

use super::{
    Api, Connection, Failure, Output, Role,
    table::{self, Cell, Column, Tone},
    units::{NONE, mb, or_none},
    workers::query,
};
use serde::Deserialize;

/// `rbee explain`
#[derive(Clone, Debug, clap::Args)]
pub struct ExplainArgs {
    /// That it serves, by name or alias
    #[arg(long)]
    pub model: Option<String>,

    /// GPU memory that is needed beyond what the worker holds
    #[arg(long, value_name = "MIB")]
    pub vram_mb: Option<u64>,

    /// That it is in
    #[arg(long)]
    pub group: Option<String>,

    /// Whose worker it would go back to
    #[arg(long)]
    pub session: Option<String>,

    /// Print the API's JSON
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would show it")]
    pub connection: Connection,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Explanation {
    chosen: Option<String>,
    queued: Option<u64>,
    workers: Vec<Explained>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Explained {
    worker: String,
    eligible: bool,
    score: Option<f64>,
    reason: Option<String>,
    requests: Option<u64>,
    slots: Option<u64>,
    free_vram_mb: Option<u64>,
}

/// Asks and shows. That nobody would take it is a failure.
pub async fn run(args: &ExplainArgs, output: Output) -> Result<(), Failure> {
    let api = Api::new(&args.connection)?;
    if api.role().await? == Role::Hive {
        return Err(Failure::Usage(format!(
            "{} is a hive: only a queen places requests",
            api.url()
        )));
    }
    let query = query([
        ("model", args.model.clone()),
        ("vram_mb", args.vram_mb.map(|mb| mb.to_string())),
        ("group", args.group.clone()),
        ("session", args.session.clone()),
    ]);
    let text = api.get(&format!("/v1/schedule/explain{query}")).await?;
    let told: Explanation = api.parse(&text)?;
    if args.json {
        output.json(&text)?;
    } else {
        output.lines(&render(&told, output))?;
    }
    match told.chosen {
        Some(_) => Ok(()),
        None => Err(Failure::Refused("no worker would take it now".into())),
    }
}

const COLUMNS: [Column; 6] = [
    Column::text("WORKER").least(16),
    Column::text("TAKEN"),
    Column::number("SCORE").rank(2),
    Column::number("REQ").rank(3),
    Column::number("FREE VRAM").rank(4),
    Column::text("WHY NOT").least(12).rank(1),
];

/// The chosen one first, then by score.
fn render(told: &Explanation, output: Output) -> Vec<String> {
    let chosen = |worker: &Explained| told.chosen.as_ref() == Some(&worker.worker);
    let mut order: Vec<&Explained> = told.workers.iter().collect();
    order.sort_by(|a, b| {
        let key = |w: &Explained| (chosen(w), w.eligible, w.score.unwrap_or(f64::MIN));
        let ((ac, ae, a_score), (bc, be, b_score)) = (key(a), key(b));
        (bc, be).cmp(&(ac, ae)).then(b_score.total_cmp(&a_score)).then(a.worker.cmp(&b.worker))
    });
    let rows: Vec<Vec<Cell>> = order.into_iter().map(|w| row(w, chosen(w))).collect();
    let mut lines = table::lines(&COLUMNS, &rows, output.width, output.colours);
    if let Some(queued) = told.queued.filter(|n| *n > 0) {
        let wait = if queued == 1 { "request waits" } else { "requests wait" };
        lines.push(format!("{queued} {wait} in the gateway's queue"));
    }
    lines
}

fn row(worker: &Explained, chosen: bool) -> Vec<Cell> {
    let taken = match (chosen, worker.eligible) {
        (true, _) => Cell::new("first", Tone::Good),
        (false, true) => Cell::new("could", Tone::Plain),
        (false, false) => Cell::new("no", Tone::Bad),
    };
    let slots = worker.slots.map_or_else(String::new, |n| format!("/{n}"));
    vec![
        worker.worker.as_str().into(),
        taken,
        or_none(worker.score, |score| format!("{score:.2}")).into(),
        format!("{}{slots}", or_none(worker.requests, |n| n.to_string())).into(),
        or_none(worker.free_vram_mb, mb).into(),
        worker.reason.as_deref().unwrap_or(if worker.eligible { "" } else { NONE }).into(),
    ]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects")]
    use super::*;
    use serde_json::json;

    #[test]
    fn the_chosen_one_is_first_and_the_others_say_why_not() {
        let told: Explanation = serde_json::from_value(json!({
            "chosen": "h/g/2", "queued": 3, "workers": [
                {"worker": "h/g/0", "eligible": false, "reason": "no free slot", "requests": 4, "slots": 4},
                {"worker": "h/g/1", "eligible": true, "score": -1.5},
                {"worker": "h/g/2", "eligible": true, "score": -0.0, "free_vram_mb": 2048},
            ],
        }))
        .unwrap();
        let lines = render(&told, Output { width: None, colours: false });
        assert!(
            lines[1].starts_with("h/g/2")
                && lines[1].contains("first")
                && lines[1].contains("2.0G")
        );
        assert!(lines[2].starts_with("h/g/1") && lines[2].contains("could"));
        assert!(
            lines[3].starts_with("h/g/0")
                && lines[3].contains("4/4")
                && lines[3].ends_with("no free slot")
        );
        assert!(lines[4].starts_with("3 requests wait"));
    }
}
