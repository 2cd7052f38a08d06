//! When a probe is sent out, and when what is known is not believed any more. Pure.
//!
//! ```text
//!          tick                 a reading
//!   Idle ────────▶ InFlight ─────────────────▶ Idle, and all is well
//!                     │  none, or none yet
//!                     └─ for longer than the timeout ─▶ what was known is given up, until a reading
//! ```
//!
//! Invariant: one probe is in flight at most, however long it takes. Trouble counts from the start of the
//! first probe that gave no reading.

use std::time::{Duration, Instant};

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// It is time for another reading.
    Tick,
    /// The probe came back with one.
    Reading,
    /// It came back without.
    NoReading,
    /// Time has passed.
    TimeOut,
    /// Who probes is no more.
    ProberEnded,
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Send out a probe; what can be cut short of it ends then.
    Probe { deadline: Instant },
    /// Raise `TimeOut` then.
    WakeAt(Instant),
    /// Tell the new reading.
    Tell,
    /// Tell that nothing is known.
    GiveUp,
    /// There must be another who probes.
    StartProber,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Watch {
    timeout: Duration,
    in_flight: bool,
    trouble: Option<Instant>,
    given_up: bool,
}

impl Watch {
    /// A probe may take `timeout`. Nothing is known at first, and nobody has been told that.
    pub(super) fn new(timeout: Duration) -> Self {
        Self { timeout, in_flight: false, trouble: None, given_up: false }
    }

    pub(super) fn step(&mut self, event: Event, now: Instant) -> Vec<Effect> {
        match event {
            Event::Tick if self.in_flight => self.judge(now),
            Event::Tick => {
                self.in_flight = true;
                let since = *self.trouble.get_or_insert(now);
                let deadline = now + self.timeout;
                let mut effects = vec![Effect::Probe { deadline }];
                if !self.given_up {
                    effects.push(Effect::WakeAt(since + self.timeout));
                }
                effects
            }
            Event::Reading => {
                (self.in_flight, self.trouble, self.given_up) = (false, None, false);
                vec![Effect::Tell]
            }
            Event::NoReading => {
                self.in_flight = false;
                self.judge(now)
            }
            Event::TimeOut => self.judge(now),
            Event::ProberEnded => {
                self.in_flight = false;
                let mut effects = self.judge(now);
                effects.push(Effect::StartProber);
                effects
            }
        }
    }

    fn judge(&mut self, now: Instant) -> Vec<Effect> {
        let over = self.trouble.is_some_and(|since| now >= since + self.timeout);
        if over && !self.given_up {
            self.given_up = true;
            return vec![Effect::GiveUp];
        }
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TIMEOUT: Duration = Duration::from_secs(5);

    #[test]
    fn a_probe_that_hangs_is_the_only_one_and_is_given_up_once() {
        let (start, mut watch) = (Instant::now(), Watch::new(TIMEOUT));
        let at = |s| start + Duration::from_secs(s);
        let first = watch.step(Event::Tick, at(0));
        assert_eq!(first, [Effect::Probe { deadline: at(5) }, Effect::WakeAt(at(5))]);
        for second in 1..5 {
            assert_eq!(watch.step(Event::Tick, at(second)), []);
        }
        assert_eq!(watch.step(Event::TimeOut, at(5)), [Effect::GiveUp]);
        for second in 6..100 {
            assert_eq!(watch.step(Event::Tick, at(second)), []);
        }
        assert_eq!(watch.step(Event::Reading, at(100)), [Effect::Tell]);
        assert_eq!(watch.step(Event::TimeOut, at(100)), []);
        let next = watch.step(Event::Tick, at(101));
        assert!(matches!(next[0], Effect::Probe { .. }), "it has recovered by itself");
    }

    #[test]
    fn failures_leave_what_was_known_until_the_timeout() {
        let (start, mut watch) = (Instant::now(), Watch::new(TIMEOUT));
        let at = |s| start + Duration::from_secs(s);
        let mut given_up = None;
        for second in 0..10 {
            watch.step(Event::Tick, at(second));
            if watch.step(Event::NoReading, at(second)).contains(&Effect::GiveUp) {
                assert_eq!(given_up.replace(second), None);
            }
        }
        assert_eq!(given_up, Some(5));
    }

    fn events() -> impl Strategy<Value = Vec<(u8, u64)>> {
        prop::collection::vec((0_u8..5, 0_u64..3_000), 0..100)
    }

    proptest! {
        #[test]
        fn one_in_flight_and_never_known_for_longer_than_the_timeout_without_a_reading(steps in events()) {
            let (mut now, mut watch) = (Instant::now(), Watch::new(TIMEOUT));
            let (mut in_flight, mut known, mut asked) = (false, false, None);
            for (event, ms) in steps {
                now += Duration::from_millis(ms);
                let event = match event {
                    0 | 1 => Event::Tick,
                    2 if in_flight => Event::Reading,
                    3 if in_flight => Event::NoReading,
                    4 if in_flight => Event::ProberEnded,
                    _ => Event::TimeOut,
                };
                if matches!(event, Event::Reading | Event::NoReading | Event::ProberEnded) {
                    in_flight = false;
                }
                if event == Event::Reading {
                    asked = None;
                }
                for effect in watch.step(event, now) {
                    match effect {
                        Effect::Probe { .. } => {
                            prop_assert!(!in_flight, "two at once");
                            in_flight = true;
                            asked = asked.or(Some(now));
                        }
                        Effect::Tell => known = true,
                        Effect::GiveUp => {
                            prop_assert!(now >= asked.unwrap_or(now) + TIMEOUT, "too early");
                            known = false;
                        }
                        Effect::WakeAt(_) | Effect::StartProber => {}
                    }
                }
                let overdue = asked.is_some_and(|since| now >= since + TIMEOUT);
                // A tick at the very end only sends out another probe.
                if overdue && !matches!(event, Event::Tick) {
                    prop_assert!(!known, "believed for too long");
                }
            }
        }
    }
}
