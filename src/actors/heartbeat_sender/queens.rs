//! Whose turn it is: a queen keeps it until it does not answer, or wants to be left alone for a while.

use std::time::{Duration, Instant};

/// See the module. Queens are known by their place in the list; there is one at least.
#[derive(Clone, Debug)]
pub(super) struct Queens {
    /// Until when each is left alone.
    resting: Vec<Option<Instant>>,
    current: usize,
}

impl Queens {
    /// So many, the first one first.
    pub(super) fn new(count: usize) -> Self {
        Self { resting: vec![None; count.max(1)], current: 0 }
    }

    /// Whose turn it is.
    pub(super) fn current(&self) -> usize {
        self.current
    }

    /// The current one did not answer: it is the turn of the next one that may be asked, if there is one.
    pub(super) fn pass_over(&mut self, now: Instant) {
        if let Some(next) = self.next_awake(now) {
            self.current = next;
        }
    }

    /// The current one wants to be left alone for so long. `None` if another one takes over, else how long
    /// the one is to be waited for whose turn comes first.
    pub(super) fn leave_alone(&mut self, now: Instant, wait: Duration) -> Option<Duration> {
        self.resting[self.current] = Some(now + wait);
        if let Some(next) = self.next_awake(now) {
            self.current = next;
            return None;
        }
        let (first, until) = self.resting.iter().enumerate().min_by_key(|(_, until)| **until)?;
        self.current = first;
        Some(until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now)))
    }

    /// The next one after the current that may be asked; the current one comes last.
    fn next_awake(&self, now: Instant) -> Option<usize> {
        let count = self.resting.len();
        let mut others = (1..=count).map(|step| (self.current + step) % count);
        others.find(|queen| self.resting[*queen].is_none_or(|until| until <= now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_next_one_takes_over_and_the_last_is_followed_by_the_first() {
        let (mut queens, now) = (Queens::new(3), Instant::now());
        let turns: Vec<_> = (0..4)
            .map(|_| {
                queens.pass_over(now);
                queens.current()
            })
            .collect();
        assert_eq!(turns, [1, 2, 0, 1]);
    }

    #[test]
    fn a_single_one_is_waited_for_as_it_says() {
        let (mut queens, now) = (Queens::new(1), Instant::now());
        queens.pass_over(now);
        assert_eq!(queens.current(), 0);
        assert_eq!(queens.leave_alone(now, SECOND), Some(SECOND));
        assert_eq!(queens.current(), 0);
    }

    #[test]
    fn one_that_wants_to_be_left_alone_is_passed_over_until_all_do() {
        let (mut queens, now) = (Queens::new(2), Instant::now());
        assert_eq!(queens.leave_alone(now, SECOND * 3), None);
        assert_eq!(queens.current(), 1);
        queens.pass_over(now);
        assert_eq!(queens.current(), 1, "the other one rests");
        assert_eq!(queens.leave_alone(now + SECOND, SECOND * 9), Some(SECOND * 2));
        assert_eq!(queens.current(), 0, "it may be asked first");
    }

    proptest! {
        #[test]
        fn nobody_is_asked_who_rests_while_another_does_not(
            count in 1_usize..5,
            steps in prop::collection::vec((any::<bool>(), 0_u64..5, 0_u64..3), 1..50),
        ) {
            let (mut queens, mut now) = (Queens::new(count), Instant::now());
            for (rests, wait, later) in steps {
                let wait = if rests {
                    queens.leave_alone(now, SECOND * wait as u32)
                } else {
                    queens.pass_over(now);
                    None
                };
                let resting = |at: usize| queens.resting[at].is_some_and(|until| until > now);
                prop_assert!(queens.current() < count);
                if resting(queens.current()) {
                    prop_assert!((0..count).all(resting));
                    prop_assert!(!rests || wait.is_some_and(|wait| wait > Duration::ZERO));
                }
                now += SECOND * later as u32;
            }
        }
    }
}
