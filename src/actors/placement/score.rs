//! How good a worker is for the next request. Pure.
//!
//! In this order: fewest requests in progress and waiting for each slot; then how full its KV cache is,
//! or, where its engine does not tell, how busy its GPUs are; then most free memory. The order is in
//! one number, so that workers can be kept sorted by it. Small differences of the last two are taken for
//! noise: such workers are equal, and equal workers take turns.

/// Parts of a point.
const FINE: u64 = 1_024;
/// Points of one request on a worker with one slot. With up to 99 slots, one request more weighs more
/// than all that comes after it.
const REQUEST: u64 = 10_000;
/// Cache and GPU use is told apart in steps of this many percent.
const BUSY_STEP: u64 = 5;
/// More requests than this are equally many.
const REQUESTS_MAX: u64 = 1_000_000;

/// What is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Merits {
    /// Requests in progress and waiting, whoever sent them.
    pub requests: u64,
    /// `None`: counts as one slot, and is never full.
    pub slots: Option<u32>,
    /// KV cache in use, else GPU utilisation, percent.
    pub busy_pct: f64,
    /// MiB; `None`: not known, which counts as none.
    pub free_vram_mb: Option<u64>,
}

/// The less, the better.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Penalty(u64);

impl Merits {
    /// See the module.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped before")]
    pub(super) fn penalty(self) -> Penalty {
        let slots = u64::from(self.slots.unwrap_or(1).max(1));
        let requests = self.requests.min(REQUESTS_MAX) * REQUEST * FINE / slots;
        let busy = (self.busy_pct.clamp(0.0, 100.0) as u64 / BUSY_STEP) * BUSY_STEP * FINE;
        let free_gib = self.free_vram_mb.unwrap_or(0) >> 10;
        Penalty(requests + busy + (FINE - 1 - free_gib.min(FINE - 1)))
    }
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
        (0u64..50, proptest::option::of(1u32..99), 0.0..100.0, proptest::option::of(0u64..200_000))
            .prop_map(|(requests, slots, busy_pct, free_vram_mb)| Merits {
                requests,
                slots,
                busy_pct,
                free_vram_mb,
            })
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
        fn of_equal_load_the_emptier_cache_wins_and_then_the_freer_memory(a in merits(), busy in 0.0..100.0, free in 0u64..200_000) {
            let other = Merits { busy_pct: busy, ..a };
            if a.busy_pct + 5.0 <= busy {
                prop_assert!(a.penalty() < other.penalty());
            }
            let other = Merits { free_vram_mb: Some(free), ..a };
            if a.free_vram_mb.unwrap_or(0) >= free + 1_024 {
                prop_assert!(a.penalty() < other.penalty());
            }
        }

        #[test]
        fn no_figure_overflows(requests: u64, slots: Option<u32>, busy_pct: f64, free: Option<u64>) {
            let score = Merits { requests, slots, busy_pct, free_vram_mb: free }.penalty().score();
            prop_assert!(score.is_finite() && score <= 0.0);
        }
    }
}
