//! Workers as a running hive tells of them, against the processes and cgroups that there are.

use super::Finding;
use crate::{
    client::{
        Api, Failure,
        model::{Worker, WorkerList},
    },
    settings::HiveSettings,
};
use std::{fs, time::Duration};

/// A sample may be late by this many ticks.
const TICKS: u32 = 5;

/// Asks the hive, and compares.
pub(super) async fn examine(api: &Api, hive: &HiveSettings) -> Vec<Finding> {
    let list = match list(api).await {
        Ok(list) => list,
        Err(failure) => {
            let remedy = match failure {
                Failure::Denied(_) => {
                    "give a token that may, with --token-file FILE or in RBEE_TOKEN"
                }
                _ => "look at the hive's log",
            };
            return vec![Finding::fail("workers", failure.to_string(), remedy)];
        }
    };
    let mut findings: Vec<Finding> =
        list.iter().filter_map(|worker| trouble(worker, hive)).collect();
    if findings.is_empty() {
        let running = list.iter().filter(|worker| worker.pid.is_some()).count();
        let found = format!("{running} run, each PID where it belongs, figures fresh");
        findings.push(Finding::ok("workers", found));
    }
    findings.extend(
        list.iter().filter(|worker| worker.pid.is_some() && worker.model.is_none()).map(|worker| {
            let found = format!("{}/{}: its model is not known", worker.group, worker.instance);
            let remedy = "give its command --model NAME, or set `model` in its spec";
            Finding::warn("model", found, remedy)
        }),
    );
    findings
}

async fn list(api: &Api) -> Result<Vec<Worker>, Failure> {
    let text = api.get("/v1/workers").await?;
    api.parse::<WorkerList>(&text).map(|list| list.workers)
}

fn trouble(worker: &Worker, hive: &HiveSettings) -> Option<Finding> {
    let name = format!("{}/{}", worker.group, worker.instance);
    if matches!(worker.state.as_deref(), Some("failed" | "backoff")) {
        let why = worker.last_exit.as_ref().map_or_else(|| "not known".into(), |exit| exit.cause());
        let state = worker.state.as_deref().unwrap_or_default();
        let tail = worker.last_exit.as_ref().and_then(|exit| exit.log_tail.last().cloned());
        let found = format!("{name} is {state}: {why}; last line: {}", tail.unwrap_or_default());
        let remedy = format!("rbee logs {name}; once it is mended, rbee restart {name}");
        return Some(Finding::fail("workers", found, remedy));
    }
    let pid = worker.pid?;
    let Ok(cgroups) = fs::read_to_string(format!("/proc/{pid}/cgroup")) else {
        let found = format!("{name}: there is no process {pid}");
        return Some(Finding::fail(
            "workers",
            found,
            "the hive sees another PID namespace: run both in one",
        ));
    };
    if worker.isolation.as_deref() == Some("cgroup") && !is_in(&cgroups, &hive.cgroup.slice, &name)
    {
        let found = format!("{name}: process {pid} is not in {}/{name}", hive.cgroup.slice);
        let remedy =
            format!("something moved it, so that its limits do not hold: rbee restart {name}");
        return Some(Finding::fail("workers", found, remedy));
    }
    let old = Duration::from_millis(worker.sample_age_ms?);
    if old > hive.sample_interval * TICKS + Duration::from_secs(1) {
        let found = format!("{name}: its figures are {} s old", old.as_secs());
        return Some(Finding::fail("workers", found, "look at the hive's log for its monitor"));
    }
    if worker.limits_applied == Some(false) {
        let found = format!("{name}: its limits are not in force");
        return Some(Finding::warn("workers", found, "see cgroup and controllers above"));
    }
    None
}

/// Whether the v2 line of `/proc/PID/cgroup` ends in the worker's directory, or lies below it.
fn is_in(cgroups: &str, slice: &str, name: &str) -> bool {
    let path = cgroups.lines().find_map(|line| line.strip_prefix("0::"));
    path.is_some_and(|path| format!("{path}/").contains(&format!("/{slice}/{name}/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_where_its_v2_line_says() {
        let text = "4:memory:/x\n0::/a/rbee.slice/llm/8080\n";
        assert!(is_in(text, "rbee.slice", "llm/8080"));
        assert!(is_in("0::/rbee.slice/llm/8080/below\n", "rbee.slice", "llm/8080"));
        assert!(!is_in(text, "rbee.slice", "llm/808"));
        assert!(!is_in("4:memory:/rbee.slice/llm/8080\n0::/\n", "rbee.slice", "llm/8080"));
    }
}
