//! The machine as a whole, and what this process itself costs.

use super::{kept_file::KeptFile, process::ProcessStat};
use procfs::{Current, FromRead, LoadAverage};
use std::{io, path::Path, time::Duration};

/// What /proc says of the machine at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct NodeFigures {
    /// Processor time spent on anything but idling, all processors.
    pub busy: Duration,
    /// Load average over one minute.
    pub load1: f64,
    /// `MemTotal`, bytes.
    pub ram_total_bytes: u64,
    /// `MemAvailable`, bytes.
    pub ram_available_bytes: u64,
    /// Processor time of this process.
    pub own_cpu: Duration,
    /// Resident memory of this process, bytes.
    pub own_rss_bytes: u64,
}

/// Reads [`NodeFigures`] through files that are kept open.
#[derive(Debug)]
pub struct NodeReader {
    stat: KeptFile,
    meminfo: KeptFile,
    loadavg: KeptFile,
    own_stat: KeptFile,
    own_statm: KeptFile,
}

impl NodeReader {
    /// Opens the files below `proc_root`.
    pub fn open(proc_root: &Path) -> io::Result<Self> {
        let kept = |name: &str| KeptFile::open(&proc_root.join(name));
        Ok(Self {
            stat: kept("stat")?,
            meminfo: kept("meminfo")?,
            loadavg: kept("loadavg")?,
            own_stat: kept("self/stat")?,
            own_statm: kept("self/statm")?,
        })
    }

    /// Reads all of it.
    pub fn sample(&mut self) -> io::Result<NodeFigures> {
        let rate = procfs::ticks_per_second().max(1);
        let busy = self.stat.read(|text| total_busy(text, rate))??;
        let damaged = |what| io::Error::new(io::ErrorKind::InvalidData, what);
        let memory = self.meminfo.read(total_and_available)?;
        let (ram_total_bytes, ram_available_bytes) =
            memory.ok_or_else(|| damaged("not the text of meminfo"))?;
        let load = self.loadavg.read(|text| LoadAverage::from_read(text.as_bytes()))?;
        let load = f64::from(load.map_err(io::Error::other)?.one);
        if !(load.is_finite() && load >= 0.0) {
            return Err(damaged("no load in loadavg"));
        }
        let own =
            self.own_stat.read(ProcessStat::parse)?.ok_or_else(|| damaged("not a stat file"))?;
        let own_pages = self.own_statm.read(resident_pages)?;
        Ok(NodeFigures {
            busy,
            load1: load,
            ram_total_bytes,
            ram_available_bytes,
            own_cpu: own.own_cpu,
            own_rss_bytes: own_pages.unwrap_or(0).saturating_mul(procfs::page_size()),
        })
    }
}

/// The `cpu` line of `/proc/stat` less `idle` and `iowait`. Guests are counted in `user` already.
fn total_busy(text: &str, rate: u64) -> io::Result<Duration> {
    let damaged = || io::Error::new(io::ErrorKind::InvalidData, "no cpu line in stat");
    let line = text.lines().find_map(|line| line.strip_prefix("cpu ")).ok_or_else(damaged)?;
    let ticks = line.split_ascii_whitespace().take(8).enumerate();
    let busy: u64 = ticks
        .filter(|(at, _)| !matches!(at, 3 | 4))
        .filter_map(|(_, n)| n.parse::<u64>().ok())
        .fold(0, u64::saturating_add);
    Ok(Duration::try_from_secs_f64(busy as f64 / rate as f64).unwrap_or(Duration::MAX))
}

/// `MemTotal` and `MemAvailable` of meminfo, bytes; `MemFree` where the kernel is too old to tell the latter.
/// procfs's own reading of it overflows where a figure is damaged.
fn total_and_available(text: &str) -> Option<(u64, u64)> {
    let bytes = |key: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        value.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    };
    Some((bytes("MemTotal")?, bytes("MemAvailable").or_else(|| bytes("MemFree"))?))
}

/// The second field of `statm`.
fn resident_pages(text: &str) -> Option<u64> {
    text.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Processors online.
pub fn cpu_count() -> u32 {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let numbered = |line: &&str| {
        line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    u32::try_from(stat.lines().filter(numbered).count()).unwrap_or(1).max(1)
}

/// The processor's name; empty where the kernel does not tell.
pub fn cpu_name() -> String {
    procfs::CpuInfo::current()
        .ok()
        .and_then(|info| info.model_name(0).map(str::to_owned))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects")]
    use super::*;

    #[test]
    fn idle_and_iowait_are_not_busy() {
        let text = "cpu  100 0 50 900 40 3 2 5 70 0\ncpu0 1 2 3 4\n";
        assert_eq!(total_busy(text, 100).unwrap(), Duration::from_millis(1_600));
        assert!(total_busy("intr 5\n", 100).is_err());
    }

    #[test]
    fn this_machine_has_memory_and_processors() {
        let figures = NodeReader::open("/proc".as_ref()).unwrap().sample().unwrap();
        assert!(figures.ram_total_bytes > figures.ram_available_bytes);
        assert!(figures.own_rss_bytes > 0 && cpu_count() >= 1);
    }

    #[test]
    fn fuzz_node() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("self")).unwrap();
        let names = ["stat", "meminfo", "loadavg", "self/stat", "self/statm"];
        let write =
            |name: &str, bytes: &[u8]| std::fs::write(root.path().join(name), bytes).unwrap();
        names.iter().for_each(|name| write(name, b""));
        let good = |name: &str| std::fs::read(Path::new("/proc").join(name)).unwrap();
        let mut reader = NodeReader::open(root.path()).unwrap();
        crate::fuzz::fuzz("node", |bytes| {
            // One damaged file among good ones: each of them is reached.
            for damaged in names {
                for name in names {
                    let good = if name == damaged { bytes.to_vec() } else { good(name) };
                    write(name, &good);
                }
                let load = reader.sample().map_or(0.0, |figures| figures.load1);
                assert!(load.is_finite() && load >= 0.0, "{damaged}: {load}");
            }
        });
    }

    #[test]
    fn no_figure_of_the_machine_overflows() {
        let most = u64::MAX;
        let text = format!("cpu  {most} {most} 0 0 0 0 0 0\n");
        assert_eq!(total_busy(&text, 1).unwrap(), Duration::MAX);
        assert!(total_busy(&text, 100).unwrap() < Duration::MAX);
        let text = format!("MemTotal: {most} kB\nMemFree: 1 kB\n");
        assert_eq!(total_and_available(&text), None);
        let text = "MemTotal:       16 kB\nMemFree:  4 kB\nMemAvailable:   8 kB\n";
        assert_eq!(total_and_available(text), Some((16 << 10, 8 << 10)));
    }
}
