//! The GPUs of one machine, by UUID, as a heartbeat tells of them: each worker is on a few of them. Pure.

use super::vram::GpuRoom;
use crate::contract::{GpuShare, GpuStats, NodeStats, WorkerReport};
use std::{collections::HashMap, sync::Arc};

/// See the module.
#[derive(Debug)]
pub(super) struct Machine<'a> {
    /// With the name that all workers on it share.
    gpus: HashMap<&'a str, (Arc<str>, &'a GpuStats)>,
}

impl<'a> Machine<'a> {
    /// Of two with one UUID, the first counts.
    pub(super) fn of(node: &'a NodeStats) -> Self {
        let named = |gpu: &'a GpuStats| (&*gpu.uuid, (Arc::from(&*gpu.uuid), gpu));
        Self { gpus: node.gpus.iter().rev().map(named).collect() }
    }

    /// The GPUs of a worker; `None` when what is free on them is not known. A worker that names no GPUs
    /// its machine lists, but does tell how much memory they have, is taken to be alone on them, under
    /// the name that `alone` gives.
    pub(super) fn rooms(
        &self,
        worker: &WorkerReport,
        alone: impl FnOnce() -> Arc<str>,
    ) -> Option<Vec<GpuRoom>> {
        let Some(named) = self.named_by(worker) else {
            let unused_mb = worker.total_vram_mb?.saturating_sub(worker.vram_mb);
            return Some(vec![GpuRoom { gpu: alone(), unused_mb, own_mb: worker.vram_mb }]);
        };
        let room = |(share, name, gpu): (&GpuShare, &Arc<str>, &GpuStats)| {
            let unused_mb = gpu.vram_total_mb?.saturating_sub(gpu.vram_used_mb?);
            Some(GpuRoom { gpu: Arc::clone(name), unused_mb, own_mb: share.vram_mb })
        };
        let first = |at: usize| worker.gpus[..at].iter().all(|s| s.uuid != worker.gpus[at].uuid);
        let named = named.into_iter().enumerate();
        named.filter(|(at, _)| first(*at)).map(|(_, gpu)| room(gpu)).collect()
    }

    /// The GPUs that a worker names, in its order; `None` if it names none, or one that is not listed.
    fn named_by<'b>(
        &'b self,
        worker: &'b WorkerReport,
    ) -> Option<Vec<(&'b GpuShare, &'b Arc<str>, &'b GpuStats)>> {
        let named = |share: &'b GpuShare| {
            self.gpus.get(&*share.uuid).map(|(name, gpu)| (share, name, *gpu))
        };
        let named = worker.gpus.iter().map(named).collect::<Option<Vec<_>>>()?;
        (!named.is_empty()).then_some(named)
    }

    /// What is wrong with a GPU that the worker is on.
    pub(super) fn fault(&self, worker: &WorkerReport) -> Option<String> {
        let well =
            |health: &str| ["ok", "healthy"].iter().any(|ok| ok.eq_ignore_ascii_case(health));
        let on = worker.gpus.iter().filter_map(|share| self.gpus.get(&*share.uuid));
        let mut healths = on.filter_map(|(_, gpu)| gpu.health.as_deref());
        healths.find(|health| !well(health)).map(str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::{fleet::fixtures::worker, placement::vram::Promises};

    fn gpu(uuid: &str, used: Option<u64>, total: Option<u64>) -> GpuStats {
        GpuStats {
            uuid: uuid.into(),
            vram_used_mb: used,
            vram_total_mb: total,
            ..GpuStats::default()
        }
    }

    fn on(uuids: &[&str]) -> WorkerReport {
        let mut on = worker("llm", "1");
        on.vram_mb = 1;
        let share = |uuid: &&str| GpuShare { uuid: (*uuid).into(), ..GpuShare::default() };
        on.gpus = uuids.iter().map(share).collect();
        on
    }

    fn free(gpus: Vec<GpuStats>, worker: &WorkerReport) -> Option<u64> {
        let node = NodeStats { gpus, ..NodeStats::default() };
        let rooms = Machine::of(&node).rooms(worker, || "h/llm/1".into())?;
        Some(Promises::default().free(&rooms))
    }

    #[test]
    fn free_memory_is_what_nobody_uses_on_the_gpus_of_the_worker() {
        let gpus = || {
            let (a, b) = (gpu("a", Some(6), Some(10)), gpu("b", Some(1), Some(10)));
            vec![a, b, gpu("c", None, Some(10))]
        };
        assert_eq!(free(gpus(), &on(&["a"])), Some(4));
        assert_eq!(free(gpus(), &on(&["a", "b"])), Some(13));
        assert_eq!(free(gpus(), &on(&["a", "a"])), Some(4), "named twice, it is one");
        assert_eq!(free(gpus(), &on(&["c"])), None);
        assert_eq!(free(gpus(), &on(&["elsewhere"])), None);
        assert_eq!(free(gpus(), &on(&[])), None);
    }

    #[test]
    fn no_size_of_a_gpu_overflows() {
        let huge = |uuid| gpu(uuid, Some(0), Some(u64::MAX));
        assert_eq!(free(vec![huge("a"), huge("b")], &on(&["a", "b"])), Some(u64::MAX));
    }

    #[test]
    fn a_worker_without_gpus_of_its_own_is_judged_by_its_total() {
        let mut alone = on(&[]);
        alone.total_vram_mb = Some(100);
        alone.vram_mb = 30;
        assert_eq!(free(vec![], &alone), Some(70));
        alone.vram_mb = 300;
        assert_eq!(free(vec![], &alone), Some(0));
    }

    #[test]
    fn a_fault_is_that_of_a_gpu_the_worker_is_on() {
        let ill =
            |uuid, health: &str| GpuStats { health: Some(health.into()), ..gpu(uuid, None, None) };
        let gpus = vec![ill("a", "OK"), ill("b", "lost"), gpu("c", None, None)];
        let node = NodeStats { gpus, ..NodeStats::default() };
        let fault = |uuids: &[&str]| Machine::of(&node).fault(&on(uuids));
        assert_eq!(fault(&["a", "c", "elsewhere"]), None);
        assert_eq!(fault(&["a", "b"]).as_deref(), Some("lost"));
    }
}
