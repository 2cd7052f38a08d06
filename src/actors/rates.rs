//! From counters to figures: two samples and the time that was really between them.

use crate::{contract::Pressure, platform::sampler::RawSample};
use std::time::Duration;

/// Below this two samples are one: after a stall, ticks can come in a burst.
const SHORTEST: Duration = Duration::from_millis(5);

const MIB: f64 = 1_048_576.0;

/// A worker's figures, in the units that are shown.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// 100 = one core.
    pub cpu_pct: f64,
    /// MiB, page cache included.
    pub rss_mb: u64,
    /// MiB, less what would go first.
    pub working_set_mb: u64,
    /// MiB.
    pub anon_mb: u64,
    /// MiB/s.
    pub io_r_mb_s: f64,
    /// MiB/s.
    pub io_w_mb_s: f64,
    /// Percent of the periods; `None` without the cpu controller.
    pub throttled_pct: Option<f64>,
    /// Stall figures.
    pub pressure: Pressure,
    /// The tree, main process first.
    pub pids: Vec<u32>,
    /// Whether the rates are measured: they are not on a first sample.
    pub has_rates: bool,
    /// What the kernel counts, as it counts.
    pub counted: Counted,
}

/// Of a run so far, or now; not rounded.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counted {
    /// Processor time.
    pub cpu_time: Duration,
    /// Bytes, page cache included.
    pub rss_bytes: u64,
    /// Bytes, less what would go first.
    pub working_set_bytes: u64,
    /// Bytes read from devices.
    pub read_bytes: u64,
    /// Bytes written to devices.
    pub write_bytes: u64,
}

/// What `now` and the sample before it, `elapsed` ago, amount to. `None` when they are too close.
pub fn figures(now: &RawSample, before: Option<(&RawSample, Duration)>) -> Option<Figures> {
    if before.is_some_and(|(_, elapsed)| elapsed < SHORTEST) {
        return None;
    }
    let [cpu, memory, io] = now.pressure;
    let mut figures = Figures {
        rss_mb: now.rss_bytes >> 20,
        working_set_mb: now.working_set_bytes >> 20,
        anon_mb: now.anon_bytes >> 20,
        pressure: Pressure { cpu, memory, io },
        pids: now.pids.clone(),
        throttled_pct: now.periods.map(|_| 0.0),
        counted: Counted {
            cpu_time: now.cpu_time,
            rss_bytes: now.rss_bytes,
            working_set_bytes: now.working_set_bytes,
            read_bytes: now.read_bytes,
            write_bytes: now.write_bytes,
        },
        ..Figures::default()
    };
    if let Some((before, elapsed)) = before {
        let seconds = elapsed.as_secs_f64();
        let cpu = now.cpu_time.saturating_sub(before.cpu_time).as_secs_f64();
        figures.cpu_pct = round(cpu / seconds * 100.0);
        figures.io_r_mb_s = per_second(now.read_bytes, before.read_bytes, seconds);
        figures.io_w_mb_s = per_second(now.write_bytes, before.write_bytes, seconds);
        figures.throttled_pct = throttled(now.periods, before.periods);
        figures.has_rates = true;
    }
    Some(figures)
}

/// A counter that fell, because a process took its share with it, counts as one that stood still.
fn per_second(now: u64, before: u64, seconds: f64) -> f64 {
    round(now.saturating_sub(before) as f64 / MIB / seconds)
}

fn throttled(now: Option<(u64, u64)>, before: Option<(u64, u64)>) -> Option<f64> {
    let ((periods, throttled), (periods_before, throttled_before)) = (now?, before?);
    let periods = periods.saturating_sub(periods_before);
    if periods == 0 {
        return Some(0.0);
    }
    let throttled = throttled.saturating_sub(throttled_before).min(periods);
    Some(round(throttled as f64 / periods as f64 * 100.0))
}

/// Two more digits are noise, and cost bytes on every screen.
pub(super) fn round(value: f64) -> f64 {
    // A sum of nothing is -0.0.
    (value * 100.0).round() / 100.0 + 0.0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects")]
    use super::*;
    use proptest::prelude::*;

    fn raw(cpu_ms: u64, read: u64, write: u64) -> RawSample {
        RawSample {
            cpu_time: Duration::from_millis(cpu_ms),
            read_bytes: read,
            write_bytes: write,
            periods: Some((cpu_ms / 100, cpu_ms / 200)),
            ..RawSample::default()
        }
    }

    #[test]
    fn rates_are_deltas_over_measured_time() {
        let (before, now) = (raw(1_000, 0, 1 << 20), raw(4_000, 2 << 20, 7 << 20));
        let found = figures(&now, Some((&before, Duration::from_millis(1_500)))).unwrap();
        assert_eq!((found.cpu_pct, found.io_r_mb_s, found.io_w_mb_s), (200.0, 1.33, 4.0));
        assert_eq!(found.throttled_pct, Some(50.0));
    }

    #[test]
    fn a_first_sample_has_levels_and_no_rates() {
        let now = RawSample { rss_bytes: 5 << 20, ..raw(9_000, 1, 1) };
        let found = figures(&now, None).unwrap();
        assert_eq!((found.cpu_pct, found.rss_mb, found.has_rates), (0.0, 5, false));
    }

    proptest! {
        #[test]
        fn figures_are_finite_and_never_negative(
            a in any::<[u32; 3]>(), b in any::<[u32; 3]>(), micros in 0_u64..10_000_000,
        ) {
            let sample = |n: [u32; 3]| raw(u64::from(n[0]), u64::from(n[1]), u64::from(n[2]));
            let elapsed = Duration::from_micros(micros);
            if let Some(f) = figures(&sample(a), Some((&sample(b), elapsed))) {
                for value in [f.cpu_pct, f.io_r_mb_s, f.io_w_mb_s, f.throttled_pct.unwrap()] {
                    prop_assert!(value.is_finite() && value >= 0.0);
                }
                prop_assert!(f.throttled_pct.unwrap() <= 100.0);
            }
        }
    }
}
