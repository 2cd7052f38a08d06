//! The machine as a whole, and what this process itself costs.

use super::{kept_file::KeptFile, process::ProcessStat};
use procfs::{Current, FromRead, LoadAverage, Meminfo};
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
        let memory = self.meminfo.read(|text| Meminfo::from_read(text.as_bytes()))?;
        let memory = memory.map_err(io::Error::other)?;
        let load = self.loadavg.read(|text| LoadAverage::from_read(text.as_bytes()))?;
        let load = load.map_err(io::Error::other)?;
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "not the text of a stat file");
        let own = self.own_stat.read(ProcessStat::parse)?.ok_or_else(damaged)?;
        let own_pages = self.own_statm.read(resident_pages)?;
        Ok(NodeFigures {
            busy,
            load1: f64::from(load.one),
            ram_total_bytes: memory.mem_total,
            ram_available_bytes: memory.mem_available.unwrap_or(memory.mem_free),
            own_cpu: own.own_cpu,
            own_rss_bytes: own_pages.unwrap_or(0) * procfs::page_size(),
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
        .sum();
    Ok(Duration::from_secs_f64(busy as f64 / rate as f64))
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
}
