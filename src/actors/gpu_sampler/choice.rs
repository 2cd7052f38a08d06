//! Which of two sources is asked: the better one, unless it failed of late. Pure.
//!
//! ```text
//!            it fails and the other works
//!   Better ───────────────────────────────▶ Other(try the better one again at …)
//!      ▲                                        │
//!      └──────────── it works again ────────────┘
//! ```
//!
//! The wait before it is tried again doubles when it fails soon after its return, so that a driver that
//! comes and goes does not have us come and go with it.

use std::time::{Duration, Instant};

/// The first wait.
const TRY_AGAIN: Duration = Duration::from_secs(10);

/// The longest.
const TRY_AGAIN_MAX: Duration = Duration::from_secs(320);

/// It is well again when it has worked for this long.
const WELL_AFTER: Duration = Duration::from_secs(60);

/// Position of a source: 0 is the better one.
pub(super) type Rank = usize;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Footing {
    /// `back`: since when it works again; `None`: it never failed.
    Better {
        back: Option<Instant>,
    },
    Other {
        try_again: Instant,
    },
}

/// See the module.
#[derive(Debug)]
pub(super) struct Choice {
    footing: Footing,
    wait: Duration,
}

impl Choice {
    pub(super) fn new() -> Self {
        Self { footing: Footing::Better { back: None }, wait: TRY_AGAIN }
    }

    /// In which order they are asked now. The second one is for when the first fails.
    pub(super) fn order(&self, now: Instant) -> [Rank; 2] {
        match self.footing {
            Footing::Other { try_again } if now < try_again => [1, 0],
            _ => [0, 1],
        }
    }

    /// A source gave a reading.
    pub(super) fn worked(&mut self, rank: Rank, now: Instant) {
        self.footing = match (rank, self.footing) {
            (0, Footing::Other { .. }) => Footing::Better { back: Some(now) },
            (0, better) => better,
            (_, Footing::Better { back }) => {
                let well = |since| now.saturating_duration_since(since) >= WELL_AFTER;
                self.wait = if back.is_none_or(well) { TRY_AGAIN } else { self.longer() };
                Footing::Other { try_again: now + self.wait }
            }
            // It was asked again, and failed, or it is not its turn yet.
            (_, Footing::Other { try_again }) if now < try_again => self.footing,
            (_, Footing::Other { .. }) => Footing::Other { try_again: now + self.wait },
        };
    }

    fn longer(&self) -> Duration {
        self.wait.saturating_mul(2).min(TRY_AGAIN_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// One reading at `now`; `works` says which source would give one. Returns which did.
    fn ask(choice: &mut Choice, works: [bool; 2], now: Instant) -> Option<Rank> {
        let rank = choice.order(now).into_iter().find(|rank| works[*rank])?;
        choice.worked(rank, now);
        Some(rank)
    }

    #[test]
    fn the_other_one_takes_over_at_once_and_gives_way_after_the_wait() {
        let (start, mut choice) = (Instant::now(), Choice::new());
        let at = |s| start + Duration::from_secs(s);
        assert_eq!(ask(&mut choice, [true, true], at(0)), Some(0));
        assert_eq!(ask(&mut choice, [false, true], at(1)), Some(1));
        assert_eq!(ask(&mut choice, [true, true], at(10)), Some(1));
        assert_eq!(ask(&mut choice, [false, true], at(11)), Some(1), "tried in vain");
        assert_eq!(choice.order(at(12)), [1, 0]);
        assert_eq!(ask(&mut choice, [true, true], at(21)), Some(0));
        assert_eq!(ask(&mut choice, [false, true], at(22)), Some(1), "and failed again soon");
        assert_eq!(ask(&mut choice, [true, true], at(41)), Some(1));
        assert_eq!(ask(&mut choice, [true, true], at(42)), Some(0));
        assert_eq!(ask(&mut choice, [false, true], at(200)), Some(1));
        assert_eq!(ask(&mut choice, [true, true], at(210)), Some(0), "it had been well for long");
    }

    proptest! {
        #[test]
        fn who_works_is_found_and_the_better_one_is_come_back_to(
            works in prop::collection::vec(any::<[bool; 2]>(), 0..200),
        ) {
            let (start, mut choice) = (Instant::now(), Choice::new());
            let mut switches = 0;
            let mut last = None;
            for (second, works) in works.iter().enumerate() {
                let now = start + Duration::from_secs(second as u64);
                let told = ask(&mut choice, *works, now);
                prop_assert_eq!(told.is_some(), works[0] || works[1]);
                switches += usize::from(told.is_some() && last.is_some() && told != last);
                last = told.or(last);
            }
            let later = start + Duration::from_secs(works.len() as u64) + TRY_AGAIN_MAX;
            prop_assert_eq!(ask(&mut choice, [true, true], later), Some(0));
            // Unless the other one failed, there are 10 s between going there and coming back.
            if works.iter().all(|works| works[1]) {
                prop_assert!(switches <= 2 * (works.len() / 10 + 1));
            }
        }
    }
}
