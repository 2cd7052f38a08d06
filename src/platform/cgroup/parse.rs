//! The texts of cgroup v2's files (Documentation/admin-guide/cgroup-v2.rst). A line that does not
//! parse is left out; a figure that is not there is `None`.

/// `cpu.stat`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuStat {
    /// Processor time of the tree, microseconds.
    pub usage_usec: Option<u64>,
    /// Scheduling periods in which it ran; only with the cpu controller.
    pub nr_periods: Option<u64>,
    /// Of these, the ones in which it was held back.
    pub nr_throttled: Option<u64>,
}

/// Of `memory.stat`, what is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryStat {
    /// Anonymous memory, bytes.
    pub anon: Option<u64>,
    /// Page cache that would be the first to go, bytes.
    pub inactive_file: Option<u64>,
}

/// `io.stat`, summed over devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IoStat {
    /// Bytes read.
    pub rbytes: u64,
    /// Bytes written.
    pub wbytes: u64,
}

/// The value of `key` in a file of `key value` lines.
fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

impl CpuStat {
    /// Reads the text of `cpu.stat`.
    pub fn parse(text: &str) -> Self {
        Self {
            usage_usec: keyed(text, "usage_usec"),
            nr_periods: keyed(text, "nr_periods"),
            nr_throttled: keyed(text, "nr_throttled"),
        }
    }
}

impl MemoryStat {
    /// Reads the text of `memory.stat`.
    pub fn parse(text: &str) -> Self {
        Self { anon: keyed(text, "anon"), inactive_file: keyed(text, "inactive_file") }
    }
}

impl IoStat {
    /// Reads the text of `io.stat`: a line per device, `8:0 rbytes=1 wbytes=2 …`.
    pub fn parse(text: &str) -> Self {
        let mut sum = Self::default();
        for pair in text.split_ascii_whitespace() {
            match pair.split_once('=') {
                Some(("rbytes", value)) => sum.rbytes = add(sum.rbytes, value),
                Some(("wbytes", value)) => sum.wbytes = add(sum.wbytes, value),
                _ => {}
            }
        }
        sum
    }
}

fn add(sum: u64, value: &str) -> u64 {
    sum.saturating_add(value.parse().unwrap_or(0))
}

/// `oom_kill` of `memory.events`: processes of the tree that the kernel killed for memory.
pub fn oom_kills(text: &str) -> Option<u64> {
    keyed(text, "oom_kill")
}

/// `some avg10` of a pressure file (Documentation/accounting/psi.rst), percent.
pub fn pressure_some_avg10(text: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let value = line.split(' ').find_map(|pair| pair.strip_prefix("avg10="))?;
    value.parse().ok().filter(|pct: &f64| pct.is_finite() && *pct >= 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn figures_are_read_from_real_texts() {
        let cpu = CpuStat::parse("usage_usec 123\nuser_usec 100\nnr_periods 7\nnr_throttled 2\n");
        assert_eq!(
            (cpu.usage_usec, cpu.nr_periods, cpu.nr_throttled),
            (Some(123), Some(7), Some(2))
        );
        let memory = MemoryStat::parse("anon 42\nfile 9\ninactive_file 8\nactive_file 1\n");
        assert_eq!((memory.anon, memory.inactive_file), (Some(42), Some(8)));
        let io =
            IoStat::parse("8:0 rbytes=1 wbytes=2 rios=3\n253:0 rbytes=10 wbytes=20 rios=1\n7:0 \n");
        assert_eq!(io, IoStat { rbytes: 11, wbytes: 22 });
        assert_eq!(oom_kills("low 0\noom 3\noom_kill 2\noom_group_kill 1\n"), Some(2));
        let pressure = "some avg10=1.53 avg60=0.20 avg300=0.00 total=5\nfull avg10=0.00\n";
        assert_eq!(pressure_some_avg10(pressure), Some(1.53));
    }

    #[test]
    fn what_is_missing_or_damaged_is_none() {
        assert_eq!(CpuStat::parse("usage_usec x\n").usage_usec, None);
        assert_eq!(CpuStat::parse("usage_usecs 5\n").usage_usec, None);
        assert_eq!(oom_kills(""), None);
        assert_eq!(pressure_some_avg10("some avg10=nan"), None);
        assert_eq!(pressure_some_avg10("some avg10=-1"), None);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(usage_usec |anon |rbytes=|some avg10=|oom_kill |\\PC{0,8}|\n){0,12}") {
            let _ = (CpuStat::parse(&text), MemoryStat::parse(&text), IoStat::parse(&text));
            let _ = (oom_kills(&text), pressure_some_avg10(&text));
        }
    }

    #[test]
    fn fuzz_cgroup() {
        crate::fuzz::fuzz_text("cgroup", |text| {
            let _ = (CpuStat::parse(text), MemoryStat::parse(text), IoStat::parse(text));
            let _ = oom_kills(text);
            let pressure = pressure_some_avg10(text);
            assert!(pressure.is_none_or(|percent| percent.is_finite() && percent >= 0.0));
        });
    }
}
