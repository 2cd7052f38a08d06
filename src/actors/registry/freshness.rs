//! How recently a hive was heard of, and what follows from it. Pure: an age goes in, a judgement
//! comes out; whose clock it is, is the caller's business (always the queen's own monotonic one).

use super::RegistryConfig;
use crate::contract::{Freshness, OperationalStatus};
use std::time::Duration;

/// A hive is late only after this many of its own intervals.
const INTERVALS_BEFORE_DEGRADED: u32 = 3;

/// The standing of a hive not heard of for `age`; `None`: long enough to be forgotten.
pub fn freshness(
    config: &RegistryConfig,
    interval_ms: Option<u64>,
    age: Duration,
) -> Option<Freshness> {
    let own = Duration::from_millis(interval_ms.unwrap_or(0));
    let late = config.degraded_after.max(own.saturating_mul(INTERVALS_BEFORE_DEGRADED));
    if age >= config.evict_after {
        None
    } else if age >= config.down_after {
        Some(Freshness::Down)
    } else if age >= late {
        Some(Freshness::Degraded)
    } else {
        Some(Freshness::Healthy)
    }
}

/// Whether work may be placed on a hive: a healthy one, or one that went away on purpose and left
/// its workers running, until that is too long ago.
pub fn takes_work(freshness: Freshness, status: OperationalStatus, leaves_workers: bool) -> bool {
    match freshness {
        Freshness::Healthy => true,
        Freshness::Degraded => status == OperationalStatus::Stopping && leaves_workers,
        Freshness::Down => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(ms: u64, interval_ms: Option<u64>) -> Option<Freshness> {
        freshness(&RegistryConfig::default(), interval_ms, Duration::from_millis(ms))
    }

    #[test]
    fn each_limit_is_where_the_next_standing_begins() {
        assert_eq!(at(0, None), Some(Freshness::Healthy));
        assert_eq!(at(2_999, None), Some(Freshness::Healthy));
        assert_eq!(at(3_000, None), Some(Freshness::Degraded));
        assert_eq!(at(9_999, None), Some(Freshness::Degraded));
        assert_eq!(at(10_000, None), Some(Freshness::Down));
        assert_eq!(at(89_999, None), Some(Freshness::Down));
        assert_eq!(at(90_000, None), None);
    }

    #[test]
    fn a_slow_hive_is_late_only_after_three_of_its_intervals() {
        assert_eq!(at(5_999, Some(2_000)), Some(Freshness::Healthy));
        assert_eq!(at(6_000, Some(2_000)), Some(Freshness::Degraded));
        assert_eq!(at(2_999, Some(10)), Some(Freshness::Healthy));
        assert_eq!(at(10_000, Some(u64::MAX)), Some(Freshness::Down));
    }

    #[test]
    fn a_hive_that_left_its_workers_running_takes_work_until_it_is_down() {
        let stopping = OperationalStatus::Stopping;
        assert!(takes_work(Freshness::Degraded, stopping, true));
        assert!(!takes_work(Freshness::Down, stopping, true));
        assert!(!takes_work(Freshness::Degraded, stopping, false));
        assert!(!takes_work(Freshness::Degraded, OperationalStatus::Ready, true));
    }

    proptest! {
        #[test]
        fn age_never_makes_a_hive_fresher(
            a in 0u64..200_000, b in 0u64..200_000, interval in proptest::option::of(any::<u64>())
        ) {
            let rank = |f: Option<Freshness>| match f {
                Some(Freshness::Healthy) => 0,
                Some(Freshness::Degraded) => 1,
                Some(Freshness::Down) => 2,
                None => 3,
            };
            prop_assert!(rank(at(a.min(b), interval)) <= rank(at(a.max(b), interval)));
        }
    }
}
