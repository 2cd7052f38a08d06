use super::*;
use crate::actors::fleet::fixtures::worker;
use proptest::prelude::*;

fn clock(window_s: u64) -> HistoryClock {
    HistoryClock::new(Instant::now(), Duration::from_secs(window_s))
}

fn after(clock: &HistoryClock, ms: u64) -> Instant {
    clock.start + Duration::from_millis(ms)
}

#[test]
fn points_older_than_the_window_are_dropped_and_ages_are_told() {
    let (clock, mut ring) = (clock(10), Ring::default());
    for second in 0..20 {
        ring.push(&clock, after(&clock, second * 1000), &worker("a", "1"), 1_000);
    }
    let now = after(&clock, 19_500);
    let ages: Vec<u64> =
        ring.read(&clock, now, Duration::from_secs(60), 1).iter().map(|p| p.0).collect();
    assert_eq!(ages.first(), Some(&9_500));
    assert_eq!(ages.last(), Some(&500));
    let last_two = ring.read(&clock, now, Duration::from_secs(2), 1);
    assert_eq!(last_two.len(), 2);
    let thinned = ring.read(&clock, now, Duration::from_secs(10), 3);
    assert_eq!(thinned.iter().map(|p| p.0).collect::<Vec<_>>(), [9_500, 6_500, 3_500, 500]);
}

#[test]
fn times_survive_the_wrap_of_their_32_bits() {
    let (clock, mut ring) = (clock(10), Ring::default());
    let wrap = u64::from(u32::MAX);
    ring.push(&clock, after(&clock, wrap - 500), &worker("a", "1"), 10);
    ring.push(&clock, after(&clock, wrap + 500), &worker("a", "1"), 10);
    let points = ring.read(&clock, after(&clock, wrap + 1_000), Duration::from_secs(10), 1);
    assert_eq!(points.iter().map(|p| p.0).collect::<Vec<_>>(), [1_500, 500]);
}

#[test]
fn absurd_figures_are_clamped() {
    let (clock, mut ring) = (clock(10), Ring::default());
    let mut absurd = worker("a", "1");
    absurd.cpu_pct = 1e300;
    absurd.vram_mb = u64::MAX;
    ring.push(&clock, after(&clock, 0), &absurd, 10);
    let points = ring.read(&clock, after(&clock, 0), Duration::from_secs(1), 1);
    assert_eq!((points[0].1, points[0].4), (f32::MAX, u32::MAX));
}

#[test]
fn rings_follow_their_workers_through_reordering() {
    let clock = clock(10);
    let old = [worker("a", "1"), worker("a", "2"), worker("a", "3")];
    let mut rings: Vec<Ring> = (0..3).map(|_| Ring::default()).collect();
    for (i, ring) in rings.iter_mut().enumerate() {
        for _ in 0..=i {
            ring.push(&clock, after(&clock, 0), &old[i], 10);
        }
    }
    let new = [worker("a", "3"), worker("b", "1"), worker("a", "1")];
    let lengths: Vec<_> = carry_over(&old, rings, &new).iter().map(Ring::len).collect();
    assert_eq!(lengths, [3, 0, 1]);
}

proptest! {
    #[test]
    fn a_ring_never_exceeds_its_part(
        steps in proptest::collection::vec((0u64..2_000, 0usize..40), 1..300)
    ) {
        let (clock, mut ring, mut now) = (clock(30), Ring::default(), 0);
        for (wait, limit) in steps {
            now += wait;
            ring.push(&clock, after(&clock, now), &worker("a", "1"), limit);
            prop_assert!(ring.bytes() <= limit * POINT_BYTES);
            prop_assert!(limit == 0 || ring.len() >= 1);
        }
    }
}
