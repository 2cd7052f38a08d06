//! How often and how fast a worker may be started again: an intensity window and jittered
//! exponential backoff, so that a crash loop neither burns the machine nor hides.

use crate::contract::RestartPolicy;
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// The share of a delay that chance decides: many workers that die together do not start together.
const JITTER: f64 = 0.2;

/// The restarts of one worker that are not forgotten yet.
#[derive(Clone, Debug, Default)]
pub struct RestartWindow(VecDeque<Instant>);

impl RestartWindow {
    /// How long to wait before the next start; `None` when there were too many. `jitter` is a
    /// random number from 0 to 1.
    pub fn next_delay(
        &mut self,
        policy: &RestartPolicy,
        now: Instant,
        jitter: f64,
    ) -> Option<Duration> {
        let window = Duration::from_secs(policy.window_s);
        self.0.retain(|at| now.saturating_duration_since(*at) < window);
        if self.0.len() >= policy.max_restarts as usize {
            return None;
        }
        let doublings = u32::try_from(self.0.len()).unwrap_or(u32::MAX).min(63);
        self.0.push_back(now);
        let grown = policy.backoff_ms.saturating_mul(1 << doublings).min(policy.backoff_max_ms);
        let share = 1.0 - JITTER + JITTER * jitter.clamp(0.0, 1.0);
        Some(Duration::from_millis(grown).mul_f64(share))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects")]
    use super::*;
    use proptest::prelude::*;

    fn policy() -> RestartPolicy {
        RestartPolicy {
            max_restarts: 5,
            backoff_ms: 500,
            backoff_max_ms: 3_000,
            ..Default::default()
        }
    }

    #[test]
    fn delays_double_up_to_the_longest_and_end_in_failure() {
        let mut window = RestartWindow::default();
        let now = Instant::now();
        let delays: Vec<_> = (0..6).map(|_| window.next_delay(&policy(), now, 1.0)).collect();
        let ms = |n| Some(Duration::from_millis(n));
        assert_eq!(delays, [ms(500), ms(1_000), ms(2_000), ms(3_000), ms(3_000), None]);
    }

    #[test]
    fn a_restart_is_forgotten_after_the_window() {
        let mut window = RestartWindow::default();
        let policy = RestartPolicy { max_restarts: 1, ..policy() };
        let now = Instant::now();
        assert!(window.next_delay(&policy, now, 0.0).is_some());
        assert!(window.next_delay(&policy, now + Duration::from_secs(59), 0.0).is_none());
        assert!(window.next_delay(&policy, now + Duration::from_secs(60), 0.0).is_some());
    }

    proptest! {
        #[test]
        fn no_window_holds_more_than_the_maximum(
            steps in prop::collection::vec(0_u64..20_000, 1..100),
            max in 0_u32..6,
        ) {
            let policy = RestartPolicy { max_restarts: max, window_s: 60, ..policy() };
            let (mut window, mut now, mut granted) =
                (RestartWindow::default(), Instant::now(), Vec::new());
            for step in steps {
                now += Duration::from_millis(step);
                if let Some(delay) = window.next_delay(&policy, now, 0.3) {
                    granted.push(now);
                    prop_assert!(delay <= Duration::from_millis(policy.backoff_max_ms));
                }
                let since = now.checked_sub(Duration::from_secs(60)).unwrap_or(now);
                let recent = granted.iter().filter(|at| **at > since).count();
                prop_assert!(recent <= max as usize);
            }
        }
    }
}
