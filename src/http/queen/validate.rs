//! Whether a heartbeat that parses also makes sense. Pure; the first thing wrong is named by its path,
//! its value and what is allowed instead.

use crate::contract::{
    ExitRecord, GpuStats, HiveHeartbeat, HiveInfo, LifecycleEvent, NodeStats, WorkerReport,
};
use crate::settings::is_name;
use actix_web::http::Uri;
use std::{collections::HashSet, fmt};

/// Workers of one heartbeat.
pub const WORKERS_LIMIT: usize = 4_096;
/// Events of one heartbeat.
pub(super) const EVENTS_LIMIT: usize = 1_024;
/// GPUs of one machine, and of one worker.
pub(super) const GPUS_LIMIT: usize = 256;
/// Other names of one model.
pub(super) const ALIASES_LIMIT: usize = 64;
/// Processes of one worker.
pub(super) const PIDS_LIMIT: usize = 65_536;
/// Lines of a log tail.
pub(super) const LOG_TAIL_LIMIT: usize = 64;
/// Longest name of a host.
pub(super) const HOSTNAME_LIMIT: usize = 253;
/// The slowest that a hive may say it sends, ms.
const INTERVAL_LIMIT_MS: u64 = 3_600_000;
/// Longest of the short texts: versions, times, ids of boots.
pub(super) const WORD_LIMIT: usize = 128;
/// Longest of the long ones: models, URLs, lines of a log.
pub(super) const TEXT_LIMIT: usize = 4_096;
/// A bad value is shown up to this many characters.
const SHOWN_LIMIT: usize = 64;

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct Invalid {
    /// Such as `workers[3].cpu_pct`.
    pub path: String,
    /// The value and what is allowed.
    pub problem: String,
}

type Check = Result<(), Invalid>;

/// Whether the heartbeat may be stored.
pub fn validate(heartbeat: &HiveHeartbeat) -> Check {
    hive(&heartbeat.hive).map_err(|e| e.under("hive"))?;
    if heartbeat.timestamp.len() > WORD_LIMIT
        || heartbeat.timestamp.parse::<jiff::Timestamp>().is_err()
    {
        let allowed = "a time as in RFC 3339, such as 2026-01-01T00:00:00.123Z";
        return Err(refuse("timestamp", &heartbeat.timestamp, allowed));
    }
    if heartbeat.interval_ms.is_some_and(|ms| !(1..=INTERVAL_LIMIT_MS).contains(&ms)) {
        let allowed = format!("1 to {INTERVAL_LIMIT_MS}");
        return Err(refuse("interval_ms", &heartbeat.interval_ms, &allowed));
    }
    optional("boot_id", heartbeat.boot_id.as_deref(), WORD_LIMIT)?;
    node(&heartbeat.node).map_err(|e| e.under("node"))?;
    count("workers", heartbeat.workers.len(), WORKERS_LIMIT)?;
    each("workers", &heartbeat.workers, worker)?;
    unique(&heartbeat.workers)?;
    count("events", heartbeat.events.len(), EVENTS_LIMIT)?;
    each("events", &heartbeat.events, event)
}

fn hive(hive: &HiveInfo) -> Check {
    name("id", &hive.id)?;
    if hive.hostname.is_empty()
        || hive.hostname.len() > HOSTNAME_LIMIT
        || !hive.hostname.chars().all(|c| c.is_alphanumeric() || ".-_:%[]".contains(c))
    {
        let allowed = format!("a host name or an IP address of at most {HOSTNAME_LIMIT} bytes");
        return Err(refuse("hostname", &hive.hostname, &allowed));
    }
    if hive.port == 0 {
        return Err(refuse("port", &hive.port, "1 to 65535"));
    }
    text("version", &hive.version, WORD_LIMIT)
}

fn node(node: &NodeStats) -> Check {
    number("cpu_pct", node.cpu_pct)?;
    number("load1", node.load1)?;
    number("rbee.cpu_pct", node.rbee.cpu_pct)?;
    count("gpus", node.gpus.len(), GPUS_LIMIT)?;
    each("gpus", &node.gpus, gpu)
}

fn gpu(gpu: &GpuStats) -> Check {
    text("id", &gpu.id, WORD_LIMIT)?;
    text("uuid", &gpu.uuid, WORD_LIMIT)?;
    text("name", &gpu.name, TEXT_LIMIT)?;
    optional("health", gpu.health.as_deref(), TEXT_LIMIT)?;
    optional_number("util_pct", gpu.util_pct)?;
    optional_number("temp_c", gpu.temp_c)?;
    optional_number("power_w", gpu.power_w)
}

fn worker(worker: &WorkerReport) -> Check {
    name("group", &worker.group)?;
    name("instance", &worker.instance)?;
    for (field, value) in [
        ("cpu_pct", worker.cpu_pct),
        ("io_r_mb_s", worker.io_r_mb_s),
        ("io_w_mb_s", worker.io_w_mb_s),
        ("gpu_util_pct", worker.gpu_util_pct),
    ] {
        number(field, value)?;
    }
    for (field, value) in [
        ("kv_cache_pct", worker.kv_cache_pct),
        ("cpu_limit_pct", worker.cpu_limit_pct),
        ("throttled_pct", worker.throttled_pct),
        ("pressure.cpu", worker.pressure.cpu),
        ("pressure.memory", worker.pressure.memory),
        ("pressure.io", worker.pressure.io),
    ] {
        optional_number(field, value)?;
    }
    worker_texts(worker)?;
    count("pids", worker.pids.len(), PIDS_LIMIT)?;
    count("gpus", worker.gpus.len(), GPUS_LIMIT)?;
    each("gpus", &worker.gpus, |share| {
        text("uuid", &share.uuid, WORD_LIMIT)?;
        number("util_pct", share.util_pct)
    })?;
    worker.last_exit.as_ref().map_or(Ok(()), |e| exit(e).map_err(|e| e.under("last_exit")))
}

fn worker_texts(worker: &WorkerReport) -> Check {
    optional("model", worker.model.as_deref(), TEXT_LIMIT)?;
    optional("url", worker.url.as_deref(), TEXT_LIMIT)?;
    if let Some(url) = worker.url.as_deref()
        && !is_base_url(url)
    {
        let allowed = "a URL that begins with http:// or https://, names a host, and has no ? or #";
        return Err(refuse("url", &url, allowed));
    }
    optional("retry_at", worker.retry_at.as_deref(), WORD_LIMIT)?;
    count("model_aliases", worker.model_aliases.len(), ALIASES_LIMIT)?;
    each("model_aliases", &worker.model_aliases, |alias| text("", alias, TEXT_LIMIT))
}

/// What a path can be put behind.
fn is_base_url(text: &str) -> bool {
    let uri: Result<Uri, _> = text.parse();
    !text.contains(['?', '#'])
        && uri.is_ok_and(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.host().is_some_and(|host| !host.is_empty())
        })
}

fn exit(exit: &ExitRecord) -> Check {
    text("at", &exit.at, WORD_LIMIT)?;
    optional("signal", exit.signal.as_deref(), WORD_LIMIT)?;
    count("log_tail", exit.log_tail.len(), LOG_TAIL_LIMIT)?;
    each("log_tail", &exit.log_tail, |line| {
        if line.len() > TEXT_LIMIT {
            return Err(refuse("", line, &format!("{TEXT_LIMIT} bytes at most")));
        }
        Ok(())
    })
}

fn event(event: &LifecycleEvent) -> Check {
    name("group", &event.group)?;
    name("instance", &event.instance)?;
    text("at", &event.at, WORD_LIMIT)?;
    event.last_exit.as_ref().map_or(Ok(()), |e| exit(e).map_err(|e| e.under("last_exit")))
}

fn unique(workers: &[WorkerReport]) -> Check {
    let mut seen = HashSet::with_capacity(workers.len());
    for (i, worker) in workers.iter().enumerate() {
        if !seen.insert((worker.group.as_str(), worker.instance.as_str())) {
            return Err(Invalid {
                path: format!("workers[{i}]"),
                problem: format!(
                    "{}/{} is there twice, allowed: each group and instance once",
                    worker.group, worker.instance
                ),
            });
        }
    }
    Ok(())
}

fn each<T>(field: &str, items: &[T], check: impl Fn(&T) -> Check) -> Check {
    for (i, item) in items.iter().enumerate() {
        check(item).map_err(|e| e.under(&format!("{field}[{i}]")))?;
    }
    Ok(())
}

fn count(field: &str, count: usize, limit: usize) -> Check {
    if count > limit {
        return Err(Invalid {
            path: field.to_owned(),
            problem: format!("there are {count}, allowed: {limit} at most"),
        });
    }
    Ok(())
}

fn name(field: &str, value: &str) -> Check {
    if is_name(value) {
        return Ok(());
    }
    Err(refuse(field, &value, "1 to 64 of A-Z a-z 0-9 . _ -, the first a letter or digit"))
}

fn text(field: &str, value: &str, limit: usize) -> Check {
    if value.len() > limit || has_control(value) {
        let allowed = format!("{limit} bytes at most, no control characters");
        return Err(refuse(field, &value, &allowed));
    }
    Ok(())
}

fn optional(field: &str, value: Option<&str>, limit: usize) -> Check {
    value.map_or(Ok(()), |value| text(field, value, limit))
}

fn number(field: &str, value: f64) -> Check {
    if value.is_finite() && value >= 0.0 {
        return Ok(());
    }
    Err(refuse(field, &value, "a finite number, 0 or more"))
}

fn optional_number(field: &str, value: Option<f64>) -> Check {
    value.map_or(Ok(()), |value| number(field, value))
}

/// ASCII is looked at byte by byte, the rest (C1 controls) only where there is any.
fn has_control(text: &str) -> bool {
    text.bytes().any(|b| b.is_ascii_control())
        || (!text.is_ascii() && text.contains(char::is_control))
}

fn refuse(field: &str, value: &dyn fmt::Debug, allowed: &str) -> Invalid {
    let value = format!("{value:?}");
    let shown: String = value.chars().take(SHOWN_LIMIT).collect();
    let rest = if shown.len() < value.len() { "…" } else { "" };
    Invalid {
        path: field.to_owned(),
        problem: format!("{shown}{rest} is not allowed; allowed: {allowed}"),
    }
}

impl Invalid {
    fn under(mut self, parent: &str) -> Self {
        let dot = if self.path.is_empty() { "" } else { "." };
        self.path.insert_str(0, dot);
        self.path.insert_str(0, parent);
        self
    }
}

#[cfg(test)]
#[path = "validate/tests.rs"]
mod tests;
