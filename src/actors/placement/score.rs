//! How good a worker is for the next request. Pure.
//!
//! In this order: fewest requests in progress and waiting for each slot; the emptiest KV cache; the
//! calmest GPUs; most free memory. The order is in one number, so that workers can be kept sorted by it.
//! Small differences of all but the first are taken for noise: such workers are equal, and equal workers
//! take turns.

/// Parts of a point.
const FINE: u64 = 1_024;
/// Points of one request on a worker with one slot. With up to 99 slots, one request more weighs more
/// than all that comes after it.
const REQUEST: u64 = 250_000;
/// Points of one step of cache use: more than those of all steps of GPU use.
const CACHE_STEP: u64 = 100;
/// Cache and GPU use is told apart in steps of this many percent.
const STEP_PCT: u64 = 5;
/// More requests than this are equally many.
const REQUESTS_MAX: u64 = 1_000_000;

/// What is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Merits {
    /// Requests in progress and waiting, whoever sent them.
    pub requests: u64,
    /// `None`: counts as one slot, and is never full.
    pub slots: Option<u32>,
    /// KV cache in use, percent; 0 where no engine tells.
    pub kv_cache_pct: f64,
    /// GPU utilisation, percent; above 100 as 100.
    pub gpu_util_pct: f64,
    /// MiB; `None`: not known, which counts as none.
    pub free_vram_mb: Option<u64>,
}

/// The less, the better.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Penalty(u64);

impl Merits {
    /// See the module.
    pub(super) fn penalty(self) -> Penalty {
        let slots = u64::from(self.slots.unwrap_or(1).max(1));
        let requests = self.requests.min(REQUESTS_MAX) * REQUEST * FINE / slots;
        let busy = (steps(self.kv_cache_pct) * CACHE_STEP + steps(self.gpu_util_pct)) * FINE;
        let free_gib = self.free_vram_mb.unwrap_or(0) >> 10;
        Penalty(requests + busy + (FINE - 1 - free_gib.min(FINE - 1)))
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped before")]
fn steps(pct: f64) -> u64 {
    pct.clamp(0.0, 100.0) as u64 / STEP_PCT
}

impl Penalty {
    /// For people and programs: 0 is the best there is, and the higher the better.
    #[allow(clippy::cast_precision_loss, reason = "far below 2^53")]
    pub(super) fn score(self) -> f64 {
        -(self.0 as f64) / FINE as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn merits() -> impl Strategy<Value = Merits> {
        let slots = proptest::option::of(1u32..99);
        let free = proptest::option::of(0u64..200_000);
        (0u64..50, slots, 0.0..100.0, 0.0..100.0, free).prop_map(
            |(requests, slots, kv_cache_pct, gpu_util_pct, free_vram_mb)| Merits {
                requests,
                slots,
                kv_cache_pct,
                gpu_util_pct,
                free_vram_mb,
            },
        )
    }

    proptest! {
        #[test]
        fn fewer_requests_for_each_slot_win_whatever_the_rest(a in merits(), b in merits()) {
            let per_slot = |m: &Merits| (m.requests, u64::from(m.slots.unwrap_or(1)));
            let ((ra, sa), (rb, sb)) = (per_slot(&a), per_slot(&b));
            // Fractions compared without rounding; those of equal slots differ by a whole request.
            if sa == sb && ra < rb {
                prop_assert!(a.penalty() < b.penalty());
            }
            if ra * sb < rb * sa && (rb * sa - ra * sb) * 99 > sa * sb {
                prop_assert!(a.penalty() < b.penalty());
            }
        }

        #[test]
        fn of_equal_load_the_emptier_cache_wins_then_the_calmer_gpu_then_the_freer_memory(
            a in merits(), kv in 0.0..100.0, gpu in 0.0..100.0, free in 0u64..200_000
        ) {
            let other = Merits { kv_cache_pct: kv, gpu_util_pct: gpu, ..a };
            if a.kv_cache_pct + 5.0 <= kv {
                prop_assert!(a.penalty() < other.penalty());
            }
            let other = Merits { gpu_util_pct: gpu, free_vram_mb: Some(free), ..a };
            if a.gpu_util_pct + 5.0 <= gpu {
                prop_assert!(a.penalty() < other.penalty());
            }
            let other = Merits { free_vram_mb: Some(free), ..a };
            if a.free_vram_mb.unwrap_or(0) >= free + 1_024 {
                prop_assert!(a.penalty() < other.penalty());
            }
        }

        #[test]
        fn no_figure_overflows(
            requests: u64, slots: Option<u32>, kv_cache_pct: f64, gpu_util_pct: f64, free: Option<u64>
        ) {
            let merits = Merits { requests, slots, kv_cache_pct, gpu_util_pct, free_vram_mb: free };
            let score = merits.penalty().score();
            prop_assert!(score.is_finite() && score <= 0.0);
        }
    }
}
