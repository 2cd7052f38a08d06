//! When the next heartbeat is due: pure, so that a test owns the clock.
//!
//! One is in flight at most. Each interval has one; an event brings the next one forward, but not
//! closer than a tenth of a second to the last that an event brought. After ten failures in a row the interval grows,
//! jittered, to five seconds at most, and is back at the first success.

use std::time::{Duration, Instant};

/// Events send at most ten heartbeats a second.
pub const EVENT_SPACING: Duration = Duration::from_millis(100);

/// Failures in a row before the interval grows.
pub const PATIENCE: u32 = 10;

/// The longest interval that failures lead to.
pub const SLOWEST: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Clone, Debug)]
pub struct Pacing {
    interval: Duration,
    regular: Instant,
    last: Option<Instant>,
    last_for_event: Option<Instant>,
    in_flight: bool,
    event: bool,
    failures: u32,
    not_before: Option<Instant>,
}

impl Pacing {
    /// The first heartbeat is due at once.
    pub fn new(interval: Duration, now: Instant) -> Self {
        Self {
            interval,
            regular: now,
            last: None,
            last_for_event: None,
            in_flight: false,
            event: false,
            failures: 0,
            not_before: None,
        }
    }

    /// When to send; `None` while one is in flight.
    pub fn due(&self) -> Option<Instant> {
        if self.in_flight {
            return None;
        }
        let mut due = self.regular;
        if self.event && self.failures == 0 {
            let soonest = self.last_for_event.map(|last| last + EVENT_SPACING);
            let at_once = soonest.or(self.last).unwrap_or(due);
            due = due.min(at_once);
        }
        Some(self.not_before.map_or(due, |not_before| due.max(not_before)))
    }

    /// Something happened that is not for the next tick.
    pub fn event(&mut self) {
        self.event = true;
    }

    /// One is on its way.
    pub fn sent(&mut self, now: Instant) {
        if now < self.regular {
            self.last_for_event = Some(now);
        }
        self.in_flight = true;
        self.event = false;
        self.last = Some(now);
        self.not_before = None;
        // Regular ones keep their phase; those that could not be sent are not made up for.
        while self.regular <= now {
            self.regular += self.interval;
        }
    }

    /// The queen took it.
    pub fn succeeded(&mut self) {
        self.in_flight = false;
        self.failures = 0;
    }

    /// The queen did not. `jitter` is a random number from 0 to 1.
    pub fn failed(&mut self, now: Instant, retry_after: Option<Duration>, jitter: f64) {
        self.in_flight = false;
        self.failures = self.failures.saturating_add(1);
        self.not_before = retry_after.map(|wait| now + wait);
        if self.failures >= PATIENCE {
            let doublings = (self.failures - PATIENCE).min(16) + 1;
            let grown = self.interval.saturating_mul(1 << doublings).min(SLOWEST);
            let wait = grown.mul_f64(0.75 + 0.25 * jitter.clamp(0.0, 1.0)).max(self.interval);
            self.regular = self.last.unwrap_or(now) + wait;
        }
    }

    /// Failures in a row.
    #[cfg(test)]
    fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects")]
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_event_is_sent_at_once_but_not_more_than_ten_times_a_second() {
        let start = Instant::now();
        let mut pacing = Pacing::new(SECOND, start);
        assert_eq!(pacing.due(), Some(start));
        pacing.sent(start);
        assert_eq!(pacing.due(), None);
        pacing.succeeded();
        assert_eq!(pacing.due(), Some(start + SECOND));
        pacing.event();
        assert_eq!(pacing.due(), Some(start), "at once, also right after a regular one");
        let first = start + Duration::from_millis(300);
        pacing.sent(first);
        pacing.succeeded();
        assert_eq!(pacing.due(), Some(start + SECOND), "the tick keeps its phase");
        pacing.event();
        assert_eq!(pacing.due(), Some(first + EVENT_SPACING));
    }

    #[test]
    fn the_tenth_failure_slows_it_and_a_success_brings_it_back() {
        let mut now = Instant::now();
        let mut pacing = Pacing::new(SECOND, now);
        for failure in 1..=20 {
            now = pacing.due().unwrap();
            pacing.sent(now);
            pacing.event();
            pacing.failed(now, None, 1.0);
            let wait = pacing.due().unwrap() - now;
            let expected = match failure {
                1..=9 => 1,
                10 => 2,
                11 => 4,
                _ => 5,
            };
            assert_eq!(wait, SECOND * expected, "after {failure} failures");
        }
        now = pacing.due().unwrap();
        pacing.sent(now);
        pacing.succeeded();
        assert_eq!(pacing.due().unwrap() - now, SECOND);
    }

    #[test]
    fn an_overloaded_queen_is_left_alone_as_long_as_it_says() {
        let now = Instant::now();
        let mut pacing = Pacing::new(SECOND, now);
        pacing.sent(now);
        pacing.failed(now, Some(SECOND * 7), 0.0);
        assert_eq!(pacing.due(), Some(now + SECOND * 7));
    }

    proptest! {
        #[test]
        fn it_never_stops_and_never_rushes(
            steps in prop::collection::vec((any::<bool>(), any::<bool>(), 0_u64..3_000), 1..100),
        ) {
            let mut now = Instant::now();
            let mut pacing = Pacing::new(SECOND, now);
            let (mut last, mut brought): (Option<Instant>, Vec<Instant>) = (None, Vec::new());
            let start = now;
            for (success, event, took) in steps {
                if event { pacing.event(); }
                now = now.max(pacing.due().unwrap());
                let regular = (now - start).as_nanos().is_multiple_of(SECOND.as_nanos());
                if !regular && pacing.failures() == 0 {
                    brought.push(now);
                    let window = brought.iter().filter(|at| now - **at < SECOND).count();
                    prop_assert!(window <= 10 + 1, "{window} in a second");
                }
                prop_assert!(last.is_none_or(|last| now - last <= SLOWEST + Duration::from_secs(3)));
                last = Some(now);
                pacing.sent(now);
                now += Duration::from_millis(took);
                if success { pacing.succeeded() } else { pacing.failed(now, None, 0.5) }
            }
        }
    }
}
