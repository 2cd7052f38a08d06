//! A worker as its hive tells it: what was written of it, put together. Pure.

use super::{Entry, WorkerName};
use crate::limits::{Limit, WORKER_PIDS_MAX};
use crate::{
    actors::{
        gpu_sampler::{GpuView, WorkerGpus},
        rates::Figures,
    },
    contract::{Age, ExitRecord, GpuSource, WorkerReport, WorkerSpec},
    platform::limits,
};
use std::time::Instant;

/// Below this share of a core a worker without a GPU counts as idle, percent.
const IDLE_BELOW_CPU_PCT: f64 = 5.0;

/// `log_tail`: with the last lines of its last exit.
pub(super) fn report(
    name: &WorkerName,
    entry: &Entry,
    gpus: &GpuView,
    log_tail: bool,
) -> WorkerReport {
    let status = &*entry.status;
    let spec = status.spec.as_deref();
    let figures = entry.sample.as_ref().map(|s| s.figures.clone()).unwrap_or_default();
    let load = entry.load(Instant::now());
    let pid = status.main.map(|main| main.pid);
    let pids = match (pid, figures.pids.is_empty()) {
        (Some(pid), true) => vec![pid],
        _ => figures.pids.clone(),
    };
    let on_gpus = gpus.of_worker(&pids, spec.map_or(&[], |spec| &spec.gpus));
    let idle = pid.and_then(|_| idle(&figures, gpus.source(), &on_gpus));
    let pids = bounded(pids);
    WorkerReport {
        hive_id: None,
        group: name.group.to_string(),
        instance: name.instance.to_string(),
        pid,
        state: status.state,
        cpu_pct: figures.cpu_pct,
        rss_mb: figures.rss_mb,
        working_set_mb: figures.working_set_mb,
        anon_mb: figures.anon_mb,
        io_r_mb_s: figures.io_r_mb_s,
        io_w_mb_s: figures.io_w_mb_s,
        uptime_s: status.main.map_or(0, |main| main.uptime().as_secs()),
        gpu_util_pct: on_gpus.util_pct,
        vram_mb: on_gpus.vram_mb,
        total_vram_mb: on_gpus.total_vram_mb,
        gpus: on_gpus.shares,
        model: status.model.clone(),
        model_aliases: status.model_aliases.clone(),
        requests_running: load.running,
        requests_waiting: load.waiting,
        kv_cache_pct: load.kv_cache_pct,
        idle,
        pids,
        url: spec.and_then(|spec| spec.url.clone()),
        slots: spec.and_then(|spec| spec.slots),
        isolation: status.isolation,
        limits_applied: status.limits_applied,
        cpu_limit_pct: spec.and_then(cpu_limit_pct),
        memory_limit_mb: spec.and_then(memory_limit_mb),
        pressure: figures.pressure,
        throttled_pct: figures.throttled_pct,
        restarts: status.restarts,
        retry_at: status.retry_at.clone(),
        adopted: status.adopted,
        spec_changed: status.spec_changed,
        last_exit: status.last_exit.as_deref().map(|exit| exit_for(exit, log_tail)),
        sample_age_ms: entry.sample.as_ref().map_or(Age::default(), |s| Age::since(s.taken)),
    }
}

/// A worker that forks without end must not make its hive's heartbeat too large.
fn bounded(mut pids: Vec<u32>) -> Vec<u32> {
    if pids.len() > WORKER_PIDS_MAX {
        Limit::WorkerPids.reached();
        pids.truncate(WORKER_PIDS_MAX);
    }
    pids
}

fn exit_for(exit: &ExitRecord, log_tail: bool) -> ExitRecord {
    ExitRecord {
        at: exit.at.clone(),
        signal: exit.signal.clone(),
        log_tail: if log_tail { exit.log_tail.clone() } else { Vec::new() },
        ..*exit
    }
}

/// By its GPUs where there are any, by the processor where there are none. Unknown where a GPU does not
/// answer, and before its tree is known and there is a rate to judge by.
pub(super) fn idle(figures: &Figures, source: GpuSource, on_gpus: &WorkerGpus) -> Option<bool> {
    if !figures.has_rates || !on_gpus.known {
        return None;
    }
    match source {
        GpuSource::None => Some(figures.cpu_pct < IDLE_BELOW_CPU_PCT),
        GpuSource::Nvml | GpuSource::NvidiaSmi => Some(on_gpus.util_pct == 0.0),
        GpuSource::Unknown => None,
    }
}

fn cpu_limit_pct(spec: &WorkerSpec) -> Option<f64> {
    let quota = limits::cpu_quota_usec(spec.cpu_limit.as_deref()?).ok()?;
    Some(quota as f64 * 100.0 / limits::CPU_PERIOD_USEC as f64)
}

fn memory_limit_mb(spec: &WorkerSpec) -> Option<u64> {
    Some(limits::memory_bytes(spec.memory_limit.as_deref()?).ok()? >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::tests::Counting;

    #[test]
    fn where_there_is_a_gpu_the_gpu_decides() {
        let on_gpus = |util_pct, known| WorkerGpus { util_pct, known, ..WorkerGpus::default() };
        let figures = Figures { cpu_pct: 99.0, has_rates: true, ..Figures::default() };
        assert_eq!(idle(&figures, GpuSource::Nvml, &on_gpus(0.0, true)), Some(true));
        assert_eq!(idle(&figures, GpuSource::NvidiaSmi, &on_gpus(0.5, true)), Some(false));
        assert_eq!(idle(&figures, GpuSource::Nvml, &on_gpus(0.0, false)), None);
        assert_eq!(idle(&Figures::default(), GpuSource::Nvml, &on_gpus(0.0, true)), None);
    }

    #[test]
    fn so_many_pids_are_told() {
        let pids = |n: usize| bounded((1..=n as u32).collect()).len();
        assert_eq!(pids(WORKER_PIDS_MAX), WORKER_PIDS_MAX);
        let counting = Counting::of(Limit::WorkerPids);
        assert_eq!(pids(WORKER_PIDS_MAX + 1), WORKER_PIDS_MAX);
        counting.counted();
    }
}
