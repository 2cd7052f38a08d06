//! Who uses a GPU, as NVML tells it. Memory comes from the lists of compute and of graphics processes,
//! utilisation from samples that the driver takes of each process that did something.

use super::{MIB, optional};
use crate::platform::gpu::ProcessUse;
use nvml_wrapper::{
    Device,
    enums::device::UsedGpuMemory,
    error::NvmlError,
    struct_wrappers::device::{ProcessInfo, ProcessUtilizationSample},
};
use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

/// Lists grow between asking for their length and asking for them.
const TRIES: usize = 3;

/// `None` when the driver cannot tell processes apart, or what each of them holds.
pub(super) fn of(
    device: &Device<'_>,
    sample_counts_for: Duration,
) -> Result<Option<Vec<ProcessUse>>, NvmlError> {
    // A GPU in parts is sampled as a whole at best.
    if optional(device.mig_mode())?.is_some_and(|mode| mode.current != 0) {
        return Ok(None);
    }
    let compute = patiently(|| compute_processes(device));
    let graphics = patiently(|| graphics_processes(device));
    let Some(compute) = optional(compute)? else { return Ok(None) };
    // Cards without a display part have no graphics processes, and some say so by an error.
    let graphics = optional(graphics)?.unwrap_or_default();
    // The driver's clock is the system's: microseconds of Unix time.
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    let Some(samples) = samples(device, micros(now.saturating_sub(sample_counts_for)))? else {
        return Ok(None);
    };
    Ok(put_together(compute.iter().chain(&graphics), &samples, now, sample_counts_for))
}

/// Drivers before 510 have an older form of the lists only.
fn compute_processes(device: &Device<'_>) -> Result<Vec<ProcessInfo>, NvmlError> {
    match device.running_compute_processes() {
        Err(NvmlError::FailedToLoadSymbol(_)) => device.running_compute_processes_v2(),
        told => told,
    }
}

fn graphics_processes(device: &Device<'_>) -> Result<Vec<ProcessInfo>, NvmlError> {
    match device.running_graphics_processes() {
        Err(NvmlError::FailedToLoadSymbol(_)) => device.running_graphics_processes_v2(),
        told => told,
    }
}

/// No samples at all is what an idle GPU tells as "not found".
fn samples(
    device: &Device<'_>,
    since_us: u64,
) -> Result<Option<Vec<ProcessUtilizationSample>>, NvmlError> {
    match patiently(|| device.process_utilization_stats(since_us)) {
        Err(NvmlError::NotFound | NvmlError::NoData) => Ok(Some(Vec::new())),
        told => optional(told),
    }
}

fn patiently<T>(mut ask: impl FnMut() -> Result<T, NvmlError>) -> Result<T, NvmlError> {
    for _ in 1..TRIES {
        match ask() {
            Err(NvmlError::InsufficientSize(_)) => {}
            told => return told,
        }
    }
    ask()
}

/// Each PID once: one that computes and draws is in both lists with the same memory.
fn put_together<'a>(
    listed: impl Iterator<Item = &'a ProcessInfo>,
    samples: &[ProcessUtilizationSample],
    now: Duration,
    counts_for: Duration,
) -> Option<Vec<ProcessUse>> {
    let mut found: HashMap<u32, (u64, u64, u32)> = HashMap::new();
    for process in listed {
        let UsedGpuMemory::Used(bytes) = process.used_gpu_memory else { return None };
        let entry = found.entry(process.pid).or_default();
        entry.0 = entry.0.max(bytes);
    }
    for sample in samples.iter().filter(|sample| counts(sample, now, counts_for)) {
        let entry = found.entry(sample.pid).or_default();
        if sample.timestamp >= entry.1 {
            (entry.1, entry.2) = (sample.timestamp, sample.sm_util);
        }
    }
    let each = found.into_iter().map(|(pid, (bytes, _, sm_util))| ProcessUse {
        pid,
        sm_util_pct: f64::from(sm_util),
        vram_mb: bytes / MIB,
    });
    Some(each.collect())
}

/// Whether a sample is one, and of late. Unused places in the driver's answer have no PID, and some
/// drivers leave numbers in them that no utilisation can be. After a clock that was set back,
/// samples from the future say nothing.
fn counts(sample: &ProcessUtilizationSample, now: Duration, counts_for: Duration) -> bool {
    let recent = micros(now.saturating_sub(counts_for))..=micros(now + counts_for);
    sample.pid != 0 && sample.sm_util <= 100 && recent.contains(&sample.timestamp)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Duration = Duration::from_secs(1_000_000);
    const TWO_TICKS: Duration = Duration::from_secs(2);

    fn process(pid: u32, mib: u64) -> ProcessInfo {
        let used_gpu_memory = UsedGpuMemory::Used(mib * MIB);
        ProcessInfo { pid, used_gpu_memory, gpu_instance_id: None, compute_instance_id: None }
    }

    fn sample(pid: u32, age_ms: u64, sm_util: u32) -> ProcessUtilizationSample {
        let timestamp = micros(NOW - Duration::from_millis(age_ms));
        ProcessUtilizationSample { pid, timestamp, sm_util, mem_util: 0, enc_util: 0, dec_util: 0 }
    }

    fn told(
        listed: &[ProcessInfo],
        samples: &[ProcessUtilizationSample],
    ) -> Option<Vec<(u32, u64, f64)>> {
        let mut found = put_together(listed.iter(), samples, NOW, TWO_TICKS)?;
        found.sort_by_key(|process| process.pid);
        Some(found.iter().map(|p| (p.pid, p.vram_mb, p.sm_util_pct)).collect())
    }

    #[test]
    fn a_process_in_both_lists_counts_once_and_without_a_recent_sample_is_idle() {
        let listed = [process(1, 100), process(2, 50), process(1, 100), process(3, 7)];
        let samples =
            [sample(1, 1500, 90), sample(1, 500, 40), sample(2, 2001, 99), sample(4, 0, 5)];
        let wanted = vec![(1, 100, 40.0), (2, 50, 0.0), (3, 7, 0.0), (4, 0, 5.0)];
        assert_eq!(told(&listed, &samples), Some(wanted));
    }

    #[test]
    fn what_is_no_sample_does_not_count() {
        let mut future = sample(1, 0, 50);
        future.timestamp = micros(NOW + TWO_TICKS) + 1;
        let samples = [sample(0, 0, 50), sample(1, 100, 4_000_000), future];
        assert_eq!(told(&[process(1, 1)], &samples), Some(vec![(1, 1, 0.0)]));
    }

    #[test]
    fn memory_that_is_not_told_is_not_zero() {
        let hidden = ProcessInfo { used_gpu_memory: UsedGpuMemory::Unavailable, ..process(1, 0) };
        assert_eq!(told(&[hidden], &[]), None);
    }

    proptest! {
        #[test]
        fn every_pid_is_there_once_with_its_newest_sample(
            listed in prop::collection::vec((1_u32..9, 0_u64..100), 0..20),
            samples in prop::collection::vec((0_u32..9, 0_u64..4_000, 0_u32..120), 0..40),
        ) {
            let listed: Vec<_> = listed.iter().map(|(pid, mib)| process(*pid, *mib)).collect();
            let samples: Vec<_> = samples.iter().map(|(p, age, sm)| sample(*p, *age, *sm)).collect();
            let found = told(&listed, &samples).unwrap_or_default();
            prop_assert!(found.windows(2).all(|two| two[0].0 < two[1].0));
            for (pid, _, util) in &found {
                let newest = samples.iter().filter(|s| s.pid == *pid && counts(s, NOW, TWO_TICKS));
                let newest = newest.max_by_key(|s| s.timestamp).map_or(0, |s| s.timestamp);
                let possible = |s: &&ProcessUtilizationSample| s.pid == *pid && s.timestamp == newest;
                let known = newest == 0 && *util == 0.0;
                prop_assert!(known || samples.iter().filter(possible).any(|s| f64::from(s.sm_util) == *util));
            }
        }
    }
}
