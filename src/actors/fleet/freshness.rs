//! How recently a hive was heard of, and what follows from it. Pure: an age goes in, a judgement
//! comes out; whose clock it is, is the caller's business (always the queen's own monotonic one).

use crate::contract::{Freshness, HealthStatus, HiveInfo, OperationalStatus};
use std::time::Duration;

/// A hive is late only after this many of its own intervals.
const INTERVALS_BEFORE_DEGRADED: u32 = 3;

/// Where each standing of a hive begins, counted from its last heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FreshnessLimits {
    /// Without a heartbeat for this long, or for three of its intervals if those are longer, a hive is degraded.
    pub degraded_after: Duration,
    /// Without a heartbeat for this long a hive is down.
    pub down_after: Duration,
    /// Without a heartbeat for this long a hive is forgotten, with its workers.
    pub evict_after: Duration,
}

impl Default for FreshnessLimits {
    fn default() -> Self {
        Self {
            degraded_after: Duration::from_secs(3),
            down_after: Duration::from_secs(10),
            evict_after: Duration::from_secs(90),
        }
    }
}

/// The standing of a hive not heard of for `age`; `None`: long enough to be forgotten.
pub fn freshness(
    limits: &FreshnessLimits,
    interval_ms: Option<u64>,
    age: Duration,
) -> Option<Freshness> {
    if age >= limits.evict_after {
        None
    } else if age >= down_after(limits, interval_ms) {
        Some(Freshness::Down)
    } else if age >= late_after(limits, interval_ms) {
        Some(Freshness::Degraded)
    } else {
        Some(Freshness::Healthy)
    }
}

/// What a hive says of itself that keeps work away from it; `None`: nothing.
pub fn turned_away(hive: &HiveInfo) -> Option<&'static str> {
    match (hive.health_status, hive.operational_status) {
        (HealthStatus::Unhealthy, _) => Some("hive says it is unhealthy"),
        (HealthStatus::Degraded, _) => Some("hive says it is degraded"),
        (_, OperationalStatus::Error) => Some("hive says it is in error"),
        (_, OperationalStatus::Draining) => Some("hive is draining"),
        (_, OperationalStatus::Stopped) => Some("hive has stopped"),
        (_, OperationalStatus::Stopping) if !hive.leaves_workers => Some("hive is stopping"),
        _ => None,
    }
}

/// How long after its last heartbeat work may be placed on a hive: while it is healthy, or, if it went
/// away on purpose and left its workers running, until it is down.
pub fn takes_work_for(
    limits: &FreshnessLimits,
    interval_ms: Option<u64>,
    hive: &HiveInfo,
) -> Duration {
    if turned_away(hive).is_some() {
        Duration::ZERO
    } else if hive.operational_status == OperationalStatus::Stopping {
        down_after(limits, interval_ms)
    } else {
        late_after(limits, interval_ms)
    }
}

fn late_after(limits: &FreshnessLimits, interval_ms: Option<u64>) -> Duration {
    let own = Duration::from_millis(interval_ms.unwrap_or(0));
    limits.degraded_after.max(own.saturating_mul(INTERVALS_BEFORE_DEGRADED)).min(limits.evict_after)
}

/// Never before it is late: one that sends so seldom has one interval more.
fn down_after(limits: &FreshnessLimits, interval_ms: Option<u64>) -> Duration {
    let late = late_after(limits, interval_ms);
    if late < limits.down_after {
        return limits.down_after;
    }
    let own = Duration::from_millis(interval_ms.unwrap_or(0));
    late.saturating_add(own).min(limits.evict_after)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::fleet::fixtures::heartbeat;
    use proptest::prelude::*;

    fn at(ms: u64, interval_ms: Option<u64>) -> Option<Freshness> {
        freshness(&FreshnessLimits::default(), interval_ms, Duration::from_millis(ms))
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
        assert_eq!(at(10_000, Some(3_000)), Some(Freshness::Down));
        assert_eq!(at(14_999, Some(5_000)), Some(Freshness::Healthy));
        assert_eq!(at(15_000, Some(5_000)), Some(Freshness::Degraded));
        assert_eq!(at(20_000, Some(5_000)), Some(Freshness::Down));
        assert_eq!(at(89_999, Some(u64::MAX)), Some(Freshness::Healthy));
        assert_eq!(at(90_000, Some(u64::MAX)), None);
    }

    #[test]
    fn a_hive_that_left_its_workers_running_takes_work_until_it_is_down() {
        let limits = FreshnessLimits::default();
        let stopping = OperationalStatus::Stopping;
        let ready = OperationalStatus::Ready;
        let seconds = |interval_ms, operational_status, leaves_workers| {
            let hive = HiveInfo { operational_status, leaves_workers, ..hive() };
            takes_work_for(&limits, interval_ms, &hive).as_secs()
        };
        assert_eq!(seconds(None, stopping, true), 10);
        assert_eq!(seconds(None, stopping, false), 0);
        assert_eq!(seconds(None, ready, true), 3);
        assert_eq!(seconds(Some(2_000), ready, true), 6);
        assert_eq!(seconds(Some(5_000), ready, true), 15);
        assert_eq!(seconds(Some(5_000), stopping, true), 20);
        assert_eq!(seconds(Some(u64::MAX), ready, true), 90);
    }

    #[test]
    fn a_hive_that_says_it_is_not_well_takes_no_work() {
        use {HealthStatus as H, OperationalStatus as O};
        let takes = |health_status, operational_status| {
            let hive = HiveInfo { health_status, operational_status, ..hive() };
            assert_eq!(turned_away(&hive).is_none(), !takes_nothing(&hive));
            !takes_nothing(&hive)
        };
        assert!(takes(H::Healthy, O::Ready) && takes(H::Healthy, O::Busy));
        assert!(takes(H::Healthy, O::Starting) && takes(H::Healthy, O::Stopping));
        for status in [O::Draining, O::Stopped, O::Error] {
            assert!(!takes(H::Healthy, status), "{status:?}");
        }
        assert!(!takes(H::Degraded, O::Ready) && !takes(H::Unhealthy, O::Stopping));
    }

    fn hive() -> HiveInfo {
        heartbeat("h", vec![]).hive
    }

    fn takes_nothing(hive: &HiveInfo) -> bool {
        takes_work_for(&FreshnessLimits::default(), None, hive).is_zero()
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
