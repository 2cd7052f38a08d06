//! The text of nvidia-smi. `[N/A]`, `-`, `[Not Supported]` and whatever is no number lose that one value;
//! a process whose figure is lost so is known to be there, and not known to be idle.

use super::ByDevice;
use crate::limits::{GPU_DEVICES_MAX, Limit};
use crate::platform::gpu::{GpuDevice, ProcessUse, shown};
use std::collections::HashMap;

/// Memory of processes, MiB.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Memory {
    /// By the GPU's UUID.
    pub of: ByDevice<String, u64>,
}

/// SM utilisation of processes, percent, by the GPU's index.
pub(super) type Utilisation = ByDevice<u32, f64>;

/// One GPU's line.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Listed {
    /// What it says; who uses the GPU is not in it.
    pub device: GpuDevice,
    /// In MIG mode: its processes are sampled as a whole at best.
    pub in_parts: bool,
}

/// `--query-gpu`; `None` when no line is a GPU's.
pub(super) fn devices(text: &str) -> Option<Vec<Listed>> {
    let mut found: Vec<Listed> = Vec::new();
    for listed in text.lines().filter_map(device) {
        // One that is told twice is one.
        if found.iter().any(|other| other.device.uuid == listed.device.uuid) {
            continue;
        }
        if found.len() == GPU_DEVICES_MAX {
            Limit::GpuDevices.reached();
            break;
        }
        found.push(listed);
    }
    let none = text.contains("No devices were found");
    (!found.is_empty() || none).then_some(found)
}

fn device(line: &str) -> Option<Listed> {
    let fields: Vec<_> = line.split(',').map(str::trim).collect();
    let [index, uuid, name, util, total, free, temp, power, ecc, mig] = fields.as_slice() else {
        return None;
    };
    let vram_total_mb = whole(total);
    let device = GpuDevice {
        index: index.parse().ok()?,
        uuid: Some(shown(uuid)).filter(|uuid| uuid.starts_with("GPU-"))?,
        name: shown(name),
        util_pct: number(util),
        vram_used_mb: vram_total_mb
            .zip(whole(free))
            .map(|(total, free)| total.saturating_sub(free)),
        vram_total_mb,
        temp_c: number(temp),
        power_w: number(power),
        fault: fault(line, ecc),
        processes: None,
    };
    Some(Listed { device, in_parts: *mig == "Enabled" })
}

fn fault(line: &str, ecc: &str) -> Option<String> {
    if line.contains("GPU is lost") {
        return Some("lost: it does not answer any more".into());
    }
    if line.contains("GPU requires reset") {
        return Some("it needs a reset".into());
    }
    let errors = whole(ecc).filter(|errors| *errors > 0)?;
    Some(format!("{errors} uncorrected memory errors since its driver was loaded"))
}

/// `--query-compute-apps`: UUID, PID, MiB. A line without a PID is nobody's.
pub(super) fn memory(text: &str) -> Memory {
    let mut memory = Memory::default();
    for line in text.lines() {
        let fields: Vec<_> = line.split(',').map(str::trim).collect();
        let [uuid, pid, held] = fields.as_slice() else { continue };
        let Some(pid) = pid_of(pid) else { continue };
        memory.of.entry(shown(uuid)).or_default().push((pid, whole(held)));
    }
    memory
}

/// `pmon -c 1 -s u`: where the columns are is said by the line `# gpu pid type sm …`. A process whose SM
/// column is `-` did nothing; a GPU that nobody uses has a line all the same, and one without a line was not
/// looked at. `None` when there is no line of columns.
pub(super) fn utilisation(text: &str) -> Option<Utilisation> {
    let mut columns = None;
    let mut found = HashMap::new();
    for line in text.lines() {
        let fields: Vec<_> = line.trim_start_matches([' ', '#']).split_whitespace().collect();
        if line.trim_start().starts_with('#') {
            columns = columns.or_else(|| positions(&fields));
        } else if let Some((index, process)) = columns.and_then(|at| row(&fields, at)) {
            found.entry(index).or_insert_with(Vec::new).extend(process);
        }
    }
    columns.map(|_| found)
}

fn positions(header: &[&str]) -> Option<[usize; 3]> {
    let at = |name: &str| header.iter().position(|field| *field == name);
    Some([at("gpu")?, at("pid")?, at("sm")?])
}

type PidWithUtilisation = (u32, Option<f64>);

fn row(fields: &[&str], [gpu, pid, sm]: [usize; 3]) -> Option<(u32, Option<PidWithUtilisation>)> {
    let index = fields.get(gpu)?.parse().ok()?;
    let sm = match *fields.get(sm)? {
        "-" => Some(0.0),
        text => number(text).filter(|percent| *percent <= 100.0),
    };
    let pid = *fields.get(pid)?;
    if pid == "-" {
        return Some((index, None));
    }
    Some((index, Some((pid_of(pid)?, sm))))
}

/// Each PID once; `None` when a figure of one of them was not told.
pub(super) fn put_together(
    held: &[(u32, Option<u64>)],
    busy: &[(u32, Option<f64>)],
) -> Option<Vec<ProcessUse>> {
    let mut found: HashMap<u32, ProcessUse> = HashMap::new();
    let idle = |pid| ProcessUse { pid, sm_util_pct: 0.0, vram_mb: 0 };
    for (pid, mb) in held {
        let process = found.entry(*pid).or_insert_with(|| idle(*pid));
        process.vram_mb = process.vram_mb.max((*mb)?);
    }
    for (pid, sm) in busy {
        let process = found.entry(*pid).or_insert_with(|| idle(*pid));
        process.sm_util_pct = process.sm_util_pct.max((*sm)?);
    }
    Some(found.into_values().collect())
}

fn pid_of(text: &str) -> Option<u32> {
    text.parse().ok().filter(|pid| *pid != 0)
}

fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|n: &f64| n.is_finite() && *n >= 0.0)
}

fn whole(text: &str) -> Option<u64> {
    text.parse().ok()
}

#[cfg(test)]
mod tests;
