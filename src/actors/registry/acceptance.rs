//! Which heartbeats of one hive id count: newer ones of the newest start, and no others.
//!
//! Each start of a hive has a `boot_id`; a new one supersedes the one before for good, so that two
//! hives with one id are told apart from one hive that restarted: the older of them is refused.

use crate::limits::{HIVE_BOOTS_MAX, Limit};
use std::collections::VecDeque;

/// What to do with a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The next one of the same start, or one that does not say.
    Next,
    /// The first one of a new start.
    NewBoot,
    /// Repeated, or older than what is known: answered, and nothing changes.
    Repeated,
    /// From a start that another one has superseded.
    Superseded,
}

/// The starts of one hive id.
#[derive(Debug, Default)]
pub(super) struct Lineage {
    current: Option<String>,
    seq: Option<u64>,
    superseded: VecDeque<String>,
}

impl Lineage {
    /// Judges a heartbeat without recording it. One without a `boot_id` always counts.
    pub(super) fn judge(&self, boot_id: Option<&str>, seq: Option<u64>) -> Verdict {
        let Some(boot_id) = boot_id else { return Verdict::Next };
        if self.current.as_deref() == Some(boot_id) {
            return match (seq, self.seq) {
                (Some(seq), Some(known)) if seq <= known => Verdict::Repeated,
                _ => Verdict::Next,
            };
        }
        if self.superseded.iter().any(|old| old == boot_id) {
            Verdict::Superseded
        } else {
            Verdict::NewBoot
        }
    }

    /// Records a heartbeat that was judged [`Verdict::Next`] or [`Verdict::NewBoot`].
    pub(super) fn record(&mut self, boot_id: Option<&str>, seq: Option<u64>) {
        let Some(boot_id) = boot_id else { return };
        if self.current.as_deref() == Some(boot_id) {
            self.seq = seq.or(self.seq);
            return;
        }
        if let Some(old) = self.current.replace(boot_id.to_owned()) {
            if self.superseded.len() == HIVE_BOOTS_MAX {
                Limit::HiveBoots.reached();
                self.superseded.pop_front();
            }
            self.superseded.push_back(old);
        }
        self.seq = seq;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::tests::Counting;
    use proptest::prelude::*;

    fn offer(lineage: &mut Lineage, boot: &str, seq: u64) -> Verdict {
        let verdict = lineage.judge(Some(boot), Some(seq));
        if matches!(verdict, Verdict::Next | Verdict::NewBoot) {
            lineage.record(Some(boot), Some(seq));
        }
        verdict
    }

    #[test]
    fn repeated_and_older_heartbeats_change_nothing() {
        let mut lineage = Lineage::default();
        assert_eq!(offer(&mut lineage, "a", 5), Verdict::NewBoot);
        assert_eq!(offer(&mut lineage, "a", 5), Verdict::Repeated);
        assert_eq!(offer(&mut lineage, "a", 4), Verdict::Repeated);
        assert_eq!(offer(&mut lineage, "a", 6), Verdict::Next);
    }

    #[test]
    fn a_new_boot_supersedes_the_old_one_for_good() {
        let mut lineage = Lineage::default();
        offer(&mut lineage, "a", 50);
        assert_eq!(offer(&mut lineage, "b", 1), Verdict::NewBoot);
        assert_eq!(offer(&mut lineage, "a", 51), Verdict::Superseded);
        assert_eq!(offer(&mut lineage, "b", 2), Verdict::Next);
    }

    #[test]
    fn a_program_that_tells_no_boot_id_always_counts() {
        let mut lineage = Lineage::default();
        offer(&mut lineage, "a", 50);
        assert_eq!(lineage.judge(None, Some(1)), Verdict::Next);
        assert_eq!(lineage.judge(None, None), Verdict::Next);
        assert_eq!(lineage.judge(Some("a"), None), Verdict::Next);
    }

    proptest! {
        #[test]
        fn accepted_seqs_only_rise_within_a_boot_and_boots_never_return(
            offers in proptest::collection::vec((0u8..6, 0u64..20), 1..200)
        ) {
            let mut lineage = Lineage::default();
            let mut accepted: Vec<(u8, u64)> = Vec::new();
            for (boot, seq) in offers {
                let verdict = offer(&mut lineage, &boot.to_string(), seq);
                if matches!(verdict, Verdict::Next | Verdict::NewBoot) {
                    accepted.push((boot, seq));
                }
            }
            for pair in accepted.windows(2) {
                prop_assert!(pair[0].0 != pair[1].0 || pair[0].1 < pair[1].1);
            }
            let mut boots: Vec<u8> = accepted.iter().map(|(boot, _)| *boot).collect();
            boots.dedup();
            let mut unique = boots.clone();
            unique.sort_unstable();
            unique.dedup();
            prop_assert_eq!(boots.len(), unique.len());
        }

        #[test]
        fn what_is_remembered_is_bounded(boots in 1usize..200) {
            let mut lineage = Lineage::default();
            for boot in 0..boots {
                offer(&mut lineage, &boot.to_string(), 0);
            }
            prop_assert!(lineage.superseded.len() <= HIVE_BOOTS_MAX);
        }
    }

    #[test]
    fn so_many_superseded_starts_are_remembered() {
        let (mut lineage, mut boots) = (Lineage::default(), 0..);
        let mut start = |lineage: &mut Lineage, n| {
            boots.by_ref().take(n).for_each(|boot: u64| {
                offer(lineage, &boot.to_string(), 1);
            });
        };
        // The newest is not superseded.
        start(&mut lineage, HIVE_BOOTS_MAX + 1);
        assert_eq!(lineage.judge(Some("0"), Some(2)), Verdict::Superseded);
        let counting = Counting::of(Limit::HiveBoots);
        start(&mut lineage, 1);
        assert_eq!(lineage.judge(Some("0"), Some(2)), Verdict::NewBoot);
        assert_eq!(lineage.judge(Some("1"), Some(2)), Verdict::Superseded);
        counting.counted();
    }
}
