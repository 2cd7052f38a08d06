//! Samples one run's cgroup through files that are kept open.

use super::parse::{CpuStat, IoStat, MemoryStat, pressure_some_avg10};
use crate::platform::kept_file::{KeptFile, parsed};
use rustix::fs::{Mode, OFlags, fstat, open};
use std::{
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// The kernel computes the averages of pressure anew every two seconds; asking more often costs it work
/// and tells nothing.
const PRESSURE_PERIOD: Duration = Duration::from_secs(2);

/// What the files say at one moment. `None`: there is no such file, or it held rubbish.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CgroupFigures {
    /// `cpu.stat`
    pub cpu: CpuStat,
    /// `memory.current`, bytes.
    pub memory_current_bytes: Option<u64>,
    /// `memory.stat`
    pub memory: MemoryStat,
    /// `io.stat`
    pub io: Option<IoStat>,
    /// `cgroup.procs`, nested ones too.
    pub pids: Vec<u32>,
    /// `some avg10` of `cpu.pressure`, `memory.pressure` and `io.pressure`, percent.
    pub pressure: [Option<f64>; 3],
}

/// See the module.
#[derive(Debug)]
pub struct CgroupReader {
    path: PathBuf,
    dir: OwnedFd,
    procs: KeptFile,
    cpu_stat: Option<KeptFile>,
    memory_current: Option<KeptFile>,
    memory_stat: Option<KeptFile>,
    io_stat: Option<KeptFile>,
    cpu_pressure: Option<KeptFile>,
    memory_pressure: Option<KeptFile>,
    io_pressure: Option<KeptFile>,
    pressures: Option<(Instant, [Option<f64>; 3])>,
}

impl CgroupReader {
    /// Opens what there is below `path`; `cgroup.procs` at least.
    pub fn open(path: &Path) -> io::Result<Self> {
        let kept = |name: &str| KeptFile::open(&path.join(name)).ok();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self {
            path: path.to_path_buf(),
            dir: open(path, flags, Mode::empty())?,
            procs: KeptFile::open(&path.join("cgroup.procs"))?,
            cpu_stat: kept("cpu.stat"),
            memory_current: kept("memory.current"),
            memory_stat: kept("memory.stat"),
            io_stat: kept("io.stat"),
            cpu_pressure: kept("cpu.pressure"),
            memory_pressure: kept("memory.pressure"),
            io_pressure: kept("io.pressure"),
            pressures: None,
        })
    }

    /// Whether the kernel charges memory here.
    pub fn has_memory(&self) -> bool {
        self.memory_current.is_some()
    }

    /// Whether the kernel counts bytes here.
    pub fn has_io(&self) -> bool {
        self.io_stat.is_some()
    }

    /// Reads all of it. An error means that the cgroup is gone; a single damaged file costs its
    /// own figures only.
    pub fn sample(&mut self) -> io::Result<CgroupFigures> {
        let pids = self.pids()?;
        let cpu = parsed(self.cpu_stat.as_ref(), |text| {
            Some(CpuStat::parse(text)).filter(|stat| stat.usage_usec.is_some())
        });
        let memory = parsed(self.memory_stat.as_ref(), |text| {
            Some(MemoryStat::parse(text)).filter(|stat| stat.anon.is_some())
        });
        Ok(CgroupFigures {
            pids,
            cpu: cpu.unwrap_or_default(),
            memory: memory.unwrap_or_default(),
            memory_current_bytes: parsed(self.memory_current.as_ref(), |s| s.trim().parse().ok()),
            io: parsed(self.io_stat.as_ref(), |text| Some(IoStat::parse(text))),
            pressure: self.pressure(),
        })
    }

    /// cpu, memory and io.
    fn pressure(&mut self) -> [Option<f64>; 3] {
        if let Some((read, pressures)) = self.pressures
            && read.elapsed() < PRESSURE_PERIOD
        {
            return pressures;
        }
        let files = [&self.cpu_pressure, &self.memory_pressure, &self.io_pressure];
        let pressures = files.map(|file| parsed(file.as_ref(), pressure_some_avg10));
        self.pressures = Some((Instant::now(), pressures));
        pressures
    }

    /// A directory of cgroupfs has two links and one for each directory in it; only where a
    /// worker made cgroups of its own is the tree walked.
    fn pids(&mut self) -> io::Result<Vec<u32>> {
        const LINKS_OF_A_LEAF: u64 = 2;
        if fstat(&self.dir)?.st_nlink as u64 > LINKS_OF_A_LEAF {
            return Ok(super::tree::RunCgroup::at(&self.path).pids());
        }
        self.procs.read(|text| text.lines().filter_map(|line| line.parse().ok()).collect())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects")]
    use super::*;
    use std::fs;

    #[test]
    fn a_missing_controller_and_a_damaged_file_cost_only_their_own_figures() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write("cgroup.procs", "10\n11\nx\n");
        write("cpu.stat", "usage_usec 5\n");
        write("memory.current", "rubbish");
        let mut reader = CgroupReader::open(dir.path()).unwrap();
        let figures = reader.sample().unwrap();
        assert_eq!(figures.pids, [10, 11]);
        assert_eq!(figures.cpu.usage_usec, Some(5));
        assert_eq!((figures.memory_current_bytes, figures.io), (None, None));
        assert!(reader.has_memory() && !reader.has_io());
    }

    #[test]
    fn nested_cgroups_belong_to_the_tree() {
        let dir = tempfile::tempdir().unwrap();
        let nested = dir.path().join("a/b");
        fs::create_dir_all(&nested).unwrap();
        fs::write(dir.path().join("cgroup.procs"), "1\n").unwrap();
        fs::write(nested.join("cgroup.procs"), "2\n").unwrap();
        let mut reader = CgroupReader::open(dir.path()).unwrap();
        let mut pids = reader.sample().unwrap().pids;
        pids.sort_unstable();
        assert_eq!(pids, [1, 2]);
    }
}
