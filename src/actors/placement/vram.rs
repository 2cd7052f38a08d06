//! GPU memory that was promised and is not in use yet. Pure.
//!
//! A promise is split over the GPUs of its worker. What the worker takes afterwards on such a GPU redeems
//! it; what is not redeemed counts as taken for everyone on that GPU, whichever worker it was promised to.

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
    use proptest::prelude::*;

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
