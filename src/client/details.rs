//! One worker in full, as lines.

use super::{
    model::Worker,
    units::{NONE, mb, millis, or_none, percent, plain, seconds},
    workers::{gpu_cells, requests},
};

/// A line for each thing that is known of it; how its last run ended, with its last lines, at the end.
pub fn lines(worker: &Worker, gpu_source: Option<&str>) -> Vec<String> {
    let (gpu, vram) = gpu_cells(worker, gpu_source);
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| NONE.into());
    let pids = worker.pids.as_ref().map_or(0, Vec::len);
    let mut pairs = vec![
        ("worker", worker.name().to_string()),
        ("state", state(worker)),
        ("model", model(worker)),
        ("url", text(&worker.url)),
        ("pid", format!("{} ({pids} in its tree)", or_none(worker.pid, |pid| pid.to_string()))),
        ("up", or_none(worker.uptime_s.filter(|_| worker.pid.is_some()), seconds)),
        ("use", worker.activity().unwrap_or(NONE).into()),
        ("requests", requests(worker)),
        ("kv cache", or_none(worker.kv_cache_pct, percent)),
        ("cpu", limited(or_none(worker.cpu_pct, percent), worker.cpu_limit_pct.map(percent))),
        ("ram", limited(or_none(worker.working_set_mb, mb), worker.memory_limit_mb.map(mb))),
        ("gpu", gpu),
        ("vram", vram),
        ("io", format!("{} read, {} written", rate(worker.io_r_mb_s), rate(worker.io_w_mb_s))),
        ("isolation", isolation(worker)),
        ("restarts", or_none(worker.restarts, |n| n.to_string())),
        ("sampled", format!("{} ago", or_none(worker.sample_age_ms, millis))),
    ];
    pairs.extend(last_exit(worker));
    let tail = worker.last_exit.iter().flat_map(|exit| &exit.log_tail);
    pairs
        .iter()
        .map(|(key, value)| format!("{key:<10} {}", plain(value)))
        .chain(tail.map(|line| format!("  | {}", plain(line))))
        .collect()
}

fn state(worker: &Worker) -> String {
    let mut text = worker.state.clone().unwrap_or_else(|| NONE.into());
    if let Some(at) = &worker.retry_at {
        text += &format!(", next try {at}");
    }
    if worker.adopted == Some(true) {
        text += ", adopted";
    }
    if worker.spec_changed == Some(true) {
        text += ", its spec has changed: a restart applies it";
    }
    match worker.freshness.as_deref() {
        Some("healthy") | None => text,
        Some(freshness) => format!("{text}; its hive is {freshness}"),
    }
}

fn model(worker: &Worker) -> String {
    let model = worker.model.clone().unwrap_or_else(|| NONE.into());
    match worker.model_aliases.as_deref() {
        None | Some([]) => model,
        Some(aliases) => format!("{model} (also {})", aliases.join(", ")),
    }
}

fn limited(value: String, limit: Option<String>) -> String {
    limit.map_or_else(|| value.clone(), |limit| format!("{value} of {limit}"))
}

fn rate(value: Option<f64>) -> String {
    or_none(value, |value| format!("{value:.1} MiB/s"))
}

fn isolation(worker: &Worker) -> String {
    let kind = worker.isolation.clone().unwrap_or_else(|| NONE.into());
    match worker.limits_applied {
        Some(true) => format!("{kind}, limits in force"),
        Some(false) => format!("{kind}, limits NOT in force"),
        None => kind,
    }
}

fn last_exit(worker: &Worker) -> Option<(&'static str, String)> {
    let exit = worker.last_exit.as_ref()?;
    let after = or_none(exit.uptime_s, seconds);
    let peak = or_none(exit.peak_rss_mb, mb);
    let at = exit.at.as_deref().unwrap_or(NONE);
    Some(("last exit", format!("{} after {after}, {peak} at most, at {at}", exit.cause())))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects")]
    use super::*;
    use serde_json::json;

    #[test]
    fn a_death_is_explained_with_its_last_lines() {
        let worker: Worker = serde_json::from_value(json!({
            "hive_id": "h", "group": "g", "instance": "i", "state": "backoff", "limits_applied": false,
            "last_exit": {"code": null, "signal": "SIGKILL", "oom_killed": 1, "uptime_s": 61,
                          "peak_rss_mb": 2048, "at": "2026-01-01T00:00:00Z", "log_tail": ["a", "b\u{1b}[2J"]},
        }))
        .unwrap();
        let text = lines(&worker, None).join("\n");
        assert!(text.contains("SIGKILL (out of memory) after 1m01s, 2.0G at most"), "{text}");
        assert!(text.contains("\n  | a\n  | b\u{fffd}[2J"), "{text}");
        assert!(text.contains("limits NOT in force"), "{text}");
    }

    #[test]
    fn of_what_is_not_told_there_is_a_dash() {
        let text = lines(&Worker::default(), None).join("\n");
        assert!(text.contains("model      –") && text.contains("cpu        –"), "{text}");
    }
}
