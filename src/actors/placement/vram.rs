//! GPU memory that was promised and is not in use yet. Pure.
//!
//! A promise is split over the GPUs of its worker. What the worker takes afterwards on such a GPU redeems
//! it; what is not redeemed counts as taken for everyone on that GPU, whichever worker it was promised to.

use crate::contract::{GpuShare, GpuStats, NodeStats, WorkerReport};
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

/// One GPU as one worker sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct GpuRoom {
    /// Its UUID, or the worker's own name where it does not tell which GPUs it is on.
    pub gpu: Arc<str>,
    /// MiB that nobody uses.
    pub unused_mb: u64,
    /// MiB that this worker uses.
    pub own_mb: u64,
}

/// The GPUs of its machine that a worker names; `None` if it names none, or one that is not listed.
fn gpus_of<'a>(node: &'a NodeStats, worker: &WorkerReport) -> Option<Vec<&'a GpuStats>> {
    let gpu_of = |uuid: &str| node.gpus.iter().find(|gpu| gpu.uuid == uuid);
    let named = worker.gpus.iter().map(|share| gpu_of(&share.uuid)).collect::<Option<Vec<_>>>()?;
    (!named.is_empty()).then_some(named)
}

/// The GPUs of a worker; `None` when what is free on them is not known. A worker that names no GPUs
/// its machine lists, but does tell how much memory they have, is taken to be alone on them.
pub(super) fn rooms(
    node: &NodeStats,
    worker: &WorkerReport,
    worker_id: &str,
) -> Option<Vec<GpuRoom>> {
    let Some(gpus) = gpus_of(node, worker) else {
        let unused_mb = worker.total_vram_mb?.saturating_sub(worker.vram_mb);
        return Some(vec![GpuRoom { gpu: worker_id.into(), unused_mb, own_mb: worker.vram_mb }]);
    };
    let room = |(gpu, share): (&GpuStats, &GpuShare)| {
        let unused_mb = gpu.vram_total_mb?.saturating_sub(gpu.vram_used_mb?);
        Some(GpuRoom { gpu: gpu.uuid.as_str().into(), unused_mb, own_mb: share.vram_mb })
    };
    let first = |at: usize| worker.gpus[..at].iter().all(|s| s.uuid != worker.gpus[at].uuid);
    let named = gpus.into_iter().zip(&worker.gpus).enumerate();
    named.filter(|(at, _)| first(*at)).map(|(_, pair)| room(pair)).collect()
}

/// What is wrong with a GPU that the worker is on.
pub(super) fn fault(node: &NodeStats, worker: &WorkerReport) -> Option<String> {
    let well = |health: &str| ["ok", "healthy"].iter().any(|ok| ok.eq_ignore_ascii_case(health));
    let mut ill = node.gpus.iter().filter(|gpu| gpu.health.as_deref().is_some_and(|h| !well(h)));
    let found = ill.find(|gpu| worker.gpus.iter().any(|share| share.uuid == gpu.uuid))?;
    found.health.clone()
}

/// Parts of one promise, MiB on each GPU, not redeemed yet.
pub(super) type Shares = Vec<(Arc<str>, u64)>;

/// All that is promised, by GPU.
#[derive(Debug, Default)]
pub(super) struct Promises {
    promised: HashMap<Arc<str>, u64>,
    workers: HashMap<Arc<str>, BTreeSet<u32>>,
}

impl Promises {
    /// MiB on these GPUs that are neither used nor promised.
    pub(super) fn free(&self, rooms: &[GpuRoom]) -> u64 {
        rooms.iter().fold(0, |sum, room| sum.saturating_add(self.free_on(room)))
    }

    fn free_on(&self, room: &GpuRoom) -> u64 {
        room.unused_mb.saturating_sub(self.promised.get(&room.gpu).copied().unwrap_or(0))
    }

    /// Promises `mb` on these GPUs.
    pub(super) fn promise(&mut self, rooms: &[GpuRoom], mb: u64) -> Shares {
        let free: Vec<_> = rooms.iter().map(|room| self.free_on(room)).collect();
        let parts = split(mb, &free);
        let shares: Shares = rooms.iter().map(|r| Arc::clone(&r.gpu)).zip(parts).collect();
        for (gpu, mb) in &shares {
            let promised = self.promised.entry(Arc::clone(gpu)).or_default();
            *promised = promised.saturating_add(*mb);
        }
        shares
    }

    /// Takes back what is left of a promise.
    pub(super) fn withdraw(&mut self, shares: &Shares) {
        for (gpu, mb) in shares {
            self.reduce(gpu, *mb);
        }
    }

    /// The worker uses `grown` MiB more on `gpu`. Returns how much of that its promise did not cover.
    pub(super) fn redeem(&mut self, shares: &mut Shares, gpu: &str, grown: u64) -> u64 {
        let Some((gpu, mb)) = shares.iter_mut().find(|(name, _)| **name == *gpu) else {
            return grown;
        };
        let covered = grown.min(*mb);
        *mb -= covered;
        self.reduce(gpu, covered);
        grown - covered
    }

    fn reduce(&mut self, gpu: &Arc<str>, mb: u64) {
        if let Some(promised) = self.promised.get_mut(gpu) {
            *promised = promised.saturating_sub(mb);
            if *promised == 0 {
                self.promised.remove(gpu);
            }
        }
    }

    /// Whether nothing is promised.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.promised.is_empty()
    }

    /// Books that a worker is on these GPUs.
    pub(super) fn enter(&mut self, rooms: &[GpuRoom], worker: u32) {
        for room in rooms {
            self.workers.entry(Arc::clone(&room.gpu)).or_default().insert(worker);
        }
    }

    /// Books that it is not any more.
    pub(super) fn leave(&mut self, rooms: &[GpuRoom], worker: u32) {
        for room in rooms {
            if let Some(workers) = self.workers.get_mut(&room.gpu) {
                workers.remove(&worker);
                if workers.is_empty() {
                    self.workers.remove(&room.gpu);
                }
            }
        }
    }

    /// Workers that are on one of these GPUs.
    pub(super) fn neighbours(&self, rooms: &[GpuRoom]) -> BTreeSet<u32> {
        rooms.iter().filter_map(|room| self.workers.get(&room.gpu)).flatten().copied().collect()
    }
}

/// Equal parts, as far as there is room; where there is too little, the others take over.
fn split(mb: u64, free: &[u64]) -> Vec<u64> {
    let mut order: Vec<_> = (0..free.len()).collect();
    order.sort_unstable_by_key(|i| free[*i]);
    let (mut left, mut parts) = (mb, vec![0; free.len()]);
    for (done, i) in order.iter().enumerate() {
        let equal = left.div_ceil((free.len() - done) as u64);
        parts[*i] = equal.min(free[*i]);
        left -= parts[*i];
    }
    // More than there is room for: an operator may promise memory that he knows to come free.
    if let Some(last) = order.last() {
        parts[*last] += left;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::fleet::fixtures::worker;
    use proptest::prelude::*;

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
        Some(Promises::default().free(&rooms(&node, worker, "h/llm/1")?))
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
    fn a_promise_counts_for_everyone_on_the_gpu_until_it_is_redeemed() {
        let room = |own_mb| vec![GpuRoom { gpu: "a".into(), unused_mb: 100, own_mb }];
        let mut promises = Promises::default();
        let mut shares = promises.promise(&room(0), 60);
        assert_eq!(promises.free(&room(7)), 40);
        assert_eq!(promises.redeem(&mut shares, "a", 50), 0);
        assert_eq!(promises.free(&room(7)), 90);
        assert_eq!(promises.redeem(&mut shares, "a", 50), 40);
        promises.withdraw(&shares);
        assert!(promises.is_empty());
    }

    proptest! {
        #[test]
        fn parts_add_up_and_none_is_larger_than_its_room(
            free in proptest::collection::vec(0u64..1_000, 1..9), share in 0.0f64..1.0
        ) {
            let room: u64 = free.iter().sum();
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
            let mb = (room as f64 * share) as u64;
            let parts = split(mb, &free);
            prop_assert_eq!(parts.iter().sum::<u64>(), mb);
            prop_assert!(parts.iter().zip(&free).all(|(part, free)| part <= free));
        }
    }
}
