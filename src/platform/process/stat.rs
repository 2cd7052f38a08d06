//! `/proc/PID/stat` (proc_pid_stat(5)), as far as it is used. The command's name is in parentheses
//! and may hold anything, parentheses and newlines too; what follows the last one is numbers.

use super::clock::ticks;
use std::time::Duration;

/// The fields that are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessStat {
    /// `R`, `S`, `D`, `Z`, …
    pub state: char,
    /// Parent.
    pub ppid: u32,
    /// Session.
    pub session: u32,
    /// Own processor time.
    pub own_cpu: Duration,
    /// Processor time of children that were waited for, and of theirs.
    pub waited_for_cpu: Duration,
    /// Ticks since boot.
    pub start_ticks: u64,
}

impl ProcessStat {
    /// `None` for what is no such text.
    pub fn parse(text: &str) -> Option<Self> {
        let (_, rest) = text.rsplit_once(')')?;
        let mut fields = rest.split_ascii_whitespace();
        let mut next = || fields.next();
        let state = next()?.chars().next()?;
        let ppid = next()?.parse().ok()?;
        let _pgrp = next()?;
        let session = next()?.parse().ok()?;
        // tty_nr, tpgid, flags, minflt, cminflt, majflt, cmajflt
        for _ in 0..7 {
            next()?;
        }
        let mut number = || next()?.parse::<u64>().ok();
        let own_cpu = ticks(number()?.saturating_add(number()?));
        let waited_for_cpu = ticks(number()?.saturating_add(number()?));
        // priority, nice, num_threads, itrealvalue
        for _ in 0..4 {
            next()?;
        }
        let start_ticks = next()?.parse().ok()?;
        Some(Self { state, ppid, session, own_cpu, waited_for_cpu, start_ticks })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects")]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_may_hold_anything() {
        let text =
            "42 (a) R 9 (b\n) S 7 42 41 0 -1 4194560 1 2 3 4 150 50 30 -20 20 0 1 0 8675309 5 6\n";
        assert_eq!(ProcessStat::parse(text), None, "cstime is negative");
        let text = text.replace("-20", "20");
        let stat = ProcessStat::parse(&text).unwrap();
        assert_eq!((stat.state, stat.ppid, stat.session), ('S', 7, 41));
        assert_eq!(stat.start_ticks, 8_675_309);
        assert_eq!(stat.own_cpu, ticks(200));
        assert_eq!(stat.waited_for_cpu, ticks(50));
    }

    #[test]
    fn our_own_can_be_read() {
        let text = std::fs::read_to_string("/proc/self/stat").unwrap();
        let stat = ProcessStat::parse(&text).unwrap();
        assert!(stat.start_ticks > 0 && "RSD".contains(stat.state), "{stat:?}");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(\\PC|[()0-9 -]){0,80}") {
            let _ = ProcessStat::parse(&text);
        }
    }
}
