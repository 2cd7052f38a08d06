//! A worker that refuses connections is left out for a while, longer each time. Pure.

use std::{fmt, time::Duration};
use tokio::time::Instant;

/// The first time that a worker refuses.
const FIRST: Duration = Duration::from_secs(5);
/// And the longest.
const LONGEST: Duration = Duration::from_secs(60);

/// Whether and until when a worker is left out.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Exclusion {
    until: Option<Instant>,
    /// Refusals in a row.
    strikes: u32,
}

/// How long a worker is still left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LeftOut(pub Duration);

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "refused a connection: left out for {} ms more", self.0.as_millis())
    }
}

impl Exclusion {
    /// It refused. What refuses at the same time counts once.
    pub(super) fn refused(&mut self, now: Instant) {
        if self.left(now).is_none() {
            let doublings = self.strikes.min(8);
            self.strikes += 1;
            self.until = Some(now + (FIRST * (1 << doublings)).min(LONGEST));
        }
    }

    /// It answered.
    pub(super) fn answered(&mut self) {
        *self = Self::default();
    }

    /// How long it is still left out.
    pub(super) fn left(&self, now: Instant) -> Option<LeftOut> {
        let left = self.until?.checked_duration_since(now)?;
        (!left.is_zero()).then_some(LeftOut(left))
    }

    /// When it is taken in again.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_in_a_row_counts_double_up_to_a_minute_and_an_answer_clears_it() {
        let (mut exclusion, mut now) = (Exclusion::default(), Instant::now());
        for seconds in [5, 10, 20, 40, 60, 60] {
            exclusion.refused(now);
            exclusion.refused(now + Duration::from_secs(1));
            assert_eq!(exclusion.left(now), Some(LeftOut(Duration::from_secs(seconds))));
            now += Duration::from_secs(seconds);
            assert_eq!(exclusion.left(now), None);
        }
        exclusion.answered();
        exclusion.refused(now);
        assert_eq!(exclusion.left(now), Some(LeftOut(FIRST)));
    }
}
