//! What is known of the GPUs at a moment, and of it what is a worker's. Pure.
//!
//! A worker is on a GPU when a process of its tree is, or when its spec gives it that GPU. Each GPU counts
//! once for a worker, whatever names it how often. What is not known says so: a zero then means nothing.

use super::continuity::SeenDevice;
use crate::{
    actors::rates::round,
    contract::{GpuShare, GpuSource, GpuStats},
    platform::gpu::{GpuDevice, SourceKind},
};
use std::{
    collections::{BTreeMap, HashMap},
    time::Instant,
};

/// As short as a UUID may be cut, its `GPU-` included.
const UUID_PREFIX_MIN: usize = 8;

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct GpuView {
    source: GpuSource,
    taken: Option<Instant>,
    stats: Vec<GpuStats>,
    /// Whether a GPU's processes are from an earlier reading, by its position.
    remembered: Vec<bool>,
    /// What each process uses: positions, percent and MiB.
    uses: HashMap<u32, Vec<(usize, f64, u64)>>,
}

impl Default for GpuView {
    /// Nobody has looked yet.
    fn default() -> Self {
        Self { source: GpuSource::Unknown, ..Self::without_gpu() }
    }
}

/// A worker's part.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WorkerGpus {
    /// GPU by GPU.
    pub shares: Vec<GpuShare>,
    /// Percent, summed.
    pub util_pct: f64,
    /// MiB, summed.
    pub vram_mb: u64,
    /// MiB that there are on these GPUs; `None` when not known, or when it is on none.
    pub total_vram_mb: Option<u64>,
    /// Whether the figures are from now, of every GPU that it is on.
    pub known: bool,
}

impl GpuView {
    /// A machine that has none.
    pub fn without_gpu() -> Self {
        let (stats, remembered, uses) = Default::default();
        Self { source: GpuSource::None, taken: None, stats, remembered, uses }
    }

    /// There are GPUs, and nobody is asked about them.
    pub fn unasked() -> Self {
        Self::default()
    }

    pub(super) fn of(kind: SourceKind, seen: Vec<SeenDevice>, taken: Instant) -> Self {
        let blind = |one: &SeenDevice| one.device.processes.is_none() && !one.remembered;
        let source = match kind {
            _ if seen.is_empty() => GpuSource::None,
            _ if seen.iter().any(blind) => GpuSource::Unknown,
            SourceKind::Nvml => GpuSource::Nvml,
            SourceKind::NvidiaSmi => GpuSource::NvidiaSmi,
        };
        let mut uses: HashMap<u32, Vec<_>> = HashMap::new();
        for (at, one) in seen.iter().enumerate() {
            for process in one.device.processes.iter().flatten() {
                let part = (at, process.sm_util_pct, process.vram_mb);
                uses.entry(process.pid).or_default().push(part);
            }
        }
        let remembered = seen.iter().map(|one| one.remembered).collect();
        let stats = seen.into_iter().map(|one| stats(one.device)).collect();
        Self { source, taken: Some(taken), stats, remembered, uses }
    }

    /// What is left once nobody has answered for too long: which GPUs there are, and what was broken.
    pub(super) fn given_up(&self) -> Self {
        let left = |gpu: &GpuStats| GpuStats {
            id: gpu.id.clone(),
            uuid: gpu.uuid.clone(),
            name: gpu.name.clone(),
            vram_total_mb: gpu.vram_total_mb,
            health: gpu.health.clone().filter(|health| health != WELL),
            ..GpuStats::default()
        };
        Self {
            source: GpuSource::Unknown,
            taken: self.taken,
            stats: self.stats.iter().map(left).collect(),
            remembered: self.remembered.clone(),
            uses: HashMap::new(),
        }
    }

    /// Why a reading is not enough to tell who is idle.
    pub(super) fn doubt(&self) -> Option<String> {
        let unknown = self.source == GpuSource::Unknown;
        unknown.then(|| "the driver does not tell which process of ours uses what".into())
    }

    /// Who tells.
    pub fn source(&self) -> GpuSource {
        self.source
    }

    /// The GPUs.
    pub fn stats(&self) -> &[GpuStats] {
        &self.stats
    }

    /// When the last reading was taken.
    pub fn taken(&self) -> Option<Instant> {
        self.taken
    }

    /// What these processes use, and what of the GPUs that `wanted` names.
    pub fn of_worker(&self, pids: &[u32], wanted: &[String]) -> WorkerGpus {
        let mut parts: BTreeMap<usize, (f64, u64)> = BTreeMap::new();
        for at in wanted.iter().filter_map(|name| self.find(name)) {
            parts.entry(at).or_default();
        }
        for (at, util, mb) in pids.iter().filter_map(|pid| self.uses.get(pid)).flatten() {
            let part = parts.entry(*at).or_default();
            *part = (part.0 + util, part.1.saturating_add(*mb));
        }
        let shares: Vec<_> = parts
            .iter()
            .map(|(at, (util, vram_mb))| GpuShare {
                uuid: self.stats[*at].uuid.clone(),
                // Samples of several processes are not of the same instant.
                util_pct: round(util.min(100.0)),
                vram_mb: *vram_mb,
            })
            .collect();
        let mut totals = parts.keys().map(|at| self.stats[*at].vram_total_mb);
        let total = totals.try_fold(0, |sum: u64, total| Some(sum.saturating_add(total?)));
        WorkerGpus {
            util_pct: round(shares.iter().map(|share| share.util_pct).sum()),
            vram_mb: shares.iter().fold(0, |sum: u64, share| sum.saturating_add(share.vram_mb)),
            total_vram_mb: total.filter(|_| !parts.is_empty()),
            known: self.source != GpuSource::Unknown
                && !parts.keys().any(|at| self.remembered[*at]),
            shares,
        }
    }

    /// What `CUDA_VISIBLE_DEVICES` is to be for these GPUs. `Err` says which one is not there, and which
    /// are. Where none are known the names are passed on as they are.
    pub fn resolve(&self, wanted: &[String]) -> Result<String, String> {
        if self.stats.is_empty() && self.source == GpuSource::Unknown {
            return Ok(wanted.join(","));
        }
        let names = wanted.iter().map(|name| self.uuid_of(name));
        Ok(names.collect::<Result<Vec<_>, _>>()?.join(","))
    }

    fn uuid_of<'a>(&'a self, name: &'a str) -> Result<&'a str, String> {
        // Parts of a GPU are not listed.
        if name.starts_with("MIG-") {
            return Ok(name);
        }
        let found = self.find(name).map(|at| self.stats[at].uuid.as_str());
        found.filter(|uuid| !uuid.is_empty()).ok_or_else(|| self.not_there(name))
    }

    fn not_there(&self, name: &str) -> String {
        if self.stats.is_empty() {
            return format!("{name:?} is not there: this machine has no GPU");
        }
        let each = self.stats.iter().map(|gpu| format!("{:?} ({})", gpu.id, gpu.uuid));
        format!("{name:?} is not there: must be one of {}", each.collect::<Vec<_>>().join(", "))
    }

    /// By index, by UUID, or by the beginning of one UUID only.
    fn find(&self, name: &str) -> Option<usize> {
        let exact = self.stats.iter().position(|gpu| gpu.id == name || gpu.uuid == name);
        exact.or_else(|| {
            let begins =
                |gpu: &GpuStats| name.len() >= UUID_PREFIX_MIN && gpu.uuid.starts_with(name);
            let mut found = self.stats.iter().enumerate().filter(|(_, gpu)| begins(gpu));
            let (at, _) = found.next()?;
            found.next().is_none().then_some(at)
        })
    }
}

/// `health` of a GPU that nothing is wrong with.
const WELL: &str = "ok";

fn stats(device: GpuDevice) -> GpuStats {
    GpuStats {
        id: device.index.to_string(),
        uuid: device.uuid,
        name: device.name,
        util_pct: device.util_pct,
        vram_used_mb: device.vram_used_mb,
        vram_total_mb: device.vram_total_mb,
        temp_c: device.temp_c,
        power_w: device.power_w.map(round),
        health: Some(device.fault.unwrap_or_else(|| WELL.into())),
    }
}

#[cfg(test)]
mod tests;
