//! Samples the processes of a tree through files of /proc that are kept open.

use super::ProcessStat;
use crate::platform::kept_file::{KeptFile, parsed};
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    time::Duration,
};

/// What a tree's processes add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TreeFigures {
    /// Processor time, children that were waited for included.
    pub cpu_time: Duration,
    /// Resident memory, bytes; shared pages are counted for each process.
    pub rss_bytes: u64,
    /// Of these, the anonymous ones, bytes.
    pub anon_bytes: u64,
    /// `read_bytes` of `/proc/PID/io`.
    pub read_bytes: u64,
    /// `write_bytes` of `/proc/PID/io`.
    pub write_bytes: u64,
}

/// Which figures are wanted: what a controller tells is not read twice.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// From `stat`.
    pub cpu: bool,
    /// From `statm`.
    pub memory: bool,
    /// From `io`.
    pub io: bool,
}

#[derive(Debug)]
struct ProcessFiles {
    stat: Option<KeptFile>,
    statm: Option<KeptFile>,
    io: Option<KeptFile>,
    last_io: (u64, u64),
    /// The sample in which it was last there.
    sample: u64,
}

/// See the module.
#[derive(Debug)]
pub struct TreeReader {
    proc_root: PathBuf,
    wanted: Wanted,
    page_bytes: u64,
    files: HashMap<u32, ProcessFiles>,
    /// What processes that are gone had read and written, so that the sum never falls.
    io_of_the_gone: (u64, u64),
    samples: u64,
}

impl TreeReader {
    /// Nothing is opened before the first sample.
    pub fn new(proc_root: &Path, wanted: Wanted) -> Self {
        Self {
            proc_root: proc_root.to_path_buf(),
            wanted,
            page_bytes: procfs::page_size(),
            files: HashMap::new(),
            io_of_the_gone: (0, 0),
            samples: 0,
        }
    }

    /// Adds up the processes. One that is gone meanwhile adds nothing.
    pub fn sample(&mut self, pids: impl Iterator<Item = u32>) -> TreeFigures {
        self.samples += 1;
        let (mut sum, mut there) = (TreeFigures::default(), 0);
        for pid in pids {
            let opened = || ProcessFiles::open(&self.proc_root, pid, self.wanted);
            let files = self.files.entry(pid).or_insert_with(opened);
            files.sample = self.samples;
            files.add_to(&mut sum, self.page_bytes);
            there += 1;
        }
        if self.files.len() > there {
            self.forget_the_gone();
        }
        sum.read_bytes = sum.read_bytes.saturating_add(self.io_of_the_gone.0);
        sum.write_bytes = sum.write_bytes.saturating_add(self.io_of_the_gone.1);
        sum
    }

    fn forget_the_gone(&mut self) {
        let (now, gone) = (self.samples, &mut self.io_of_the_gone);
        self.files.retain(|_, files| {
            let there = files.sample == now;
            if !there {
                gone.0 = gone.0.saturating_add(files.last_io.0);
                gone.1 = gone.1.saturating_add(files.last_io.1);
            }
            there
        });
    }
}

impl ProcessFiles {
    fn open(proc_root: &Path, pid: u32, wanted: Wanted) -> Self {
        let dir = proc_root.join(pid.to_string());
        let kept =
            |want: bool, name: &str| want.then(|| KeptFile::open(&dir.join(name)).ok()).flatten();
        Self {
            stat: kept(wanted.cpu, "stat"),
            statm: kept(wanted.memory, "statm"),
            io: kept(wanted.io, "io"),
            last_io: (0, 0),
            sample: 0,
        }
    }

    fn add_to(&mut self, sum: &mut TreeFigures, page_bytes: u64) {
        let cpu_time = parsed(self.stat.as_ref(), cpu_time).unwrap_or_default();
        sum.cpu_time = sum.cpu_time.saturating_add(cpu_time);
        if let Some((resident, shared)) = parsed(self.statm.as_ref(), resident_and_shared) {
            let add = |sum: u64, pages: u64| sum.saturating_add(pages.saturating_mul(page_bytes));
            sum.rss_bytes = add(sum.rss_bytes, resident);
            sum.anon_bytes = add(sum.anon_bytes, resident.saturating_sub(shared));
        }
        self.last_io = parsed(self.io.as_ref(), io_bytes).unwrap_or(self.last_io);
        sum.read_bytes = sum.read_bytes.saturating_add(self.last_io.0);
        sum.write_bytes = sum.write_bytes.saturating_add(self.last_io.1);
    }
}

/// Of `/proc/PID/stat`. A child's time moves to its parent's `cutime` when it is waited for, so
/// that the sum over a tree counts it once.
fn cpu_time(text: &str) -> Option<Duration> {
    let stat = ProcessStat::parse(text)?;
    Some(stat.own_cpu.saturating_add(stat.waited_for_cpu))
}

/// Of `/proc/PID/statm`, pages.
fn resident_and_shared(text: &str) -> Option<(u64, u64)> {
    let mut numbers = text.split_ascii_whitespace().skip(1);
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// `read_bytes` and `write_bytes` of `/proc/PID/io`.
fn io_bytes(text: &str) -> Option<(u64, u64)> {
    let value = |key: &str| {
        text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": ")?.parse().ok())
    };
    Some((value("read_bytes")?, value("write_bytes")?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects")]
    use super::*;
    use crate::fuzz::fuzz;
    use proptest::prelude::*;
    use std::fs;

    const ALL: Wanted = Wanted { cpu: true, memory: true, io: true };

    #[test]
    fn a_process_that_ends_keeps_its_bytes_in_the_sum() {
        let root = tempfile::tempdir().unwrap();
        for (pid, bytes) in [(10, 100), (11, 50)] {
            let dir = root.path().join(pid.to_string());
            fs::create_dir(&dir).unwrap();
            fs::write(dir.join("statm"), "9 4 1 0 0 0 0\n").unwrap();
            fs::write(dir.join("io"), format!("rchar: 9\nread_bytes: {bytes}\nwrite_bytes: 7\n"))
                .unwrap();
        }
        let mut reader = TreeReader::new(root.path(), ALL);
        let page = procfs::page_size();
        let both = reader.sample([10, 11].into_iter());
        assert_eq!((both.read_bytes, both.write_bytes), (150, 14));
        assert_eq!((both.rss_bytes, both.anon_bytes), (8 * page, 6 * page));
        let one = reader.sample([10].into_iter());
        assert_eq!((one.read_bytes, one.rss_bytes), (150, 4 * page));
    }

    #[test]
    fn own_figures_are_real() {
        let me = std::process::id();
        let mut reader = TreeReader::new("/proc".as_ref(), ALL);
        let figures = reader.sample([me].into_iter());
        assert!(figures.rss_bytes > 0);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,60}") {
            let _ = (cpu_time(&text), resident_and_shared(&text), io_bytes(&text));
        }
    }

    #[test]
    fn fuzz_proc() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("7");
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("stat"), "").unwrap();
        let mut reader = TreeReader::new(root.path(), ALL);
        fuzz("proc", |bytes| {
            for name in ["stat", "statm", "io", "environ"] {
                fs::write(dir.join(name), bytes).unwrap();
            }
            let _ = reader.sample([7].into_iter());
            let _ = super::super::marker_of(root.path(), 7);
            let _ = super::super::ProcessEntry::read(root.path(), 7);
        });
    }

    #[test]
    fn no_figure_of_a_process_overflows_a_sum() {
        let root = tempfile::tempdir().unwrap();
        for pid in ["7", "8"] {
            let dir = root.path().join(pid);
            fs::create_dir(&dir).unwrap();
            let (most, zeros) = (u64::MAX, "0 ".repeat(9));
            fs::write(dir.join("statm"), format!("{most} {most} 0")).unwrap();
            fs::write(dir.join("io"), format!("read_bytes: {most}\nwrite_bytes: {most}\n"))
                .unwrap();
            let times = format!("{pid} (x) R 1 1 {zeros}{most} {most} {most} {most} 0 0 0 0 5");
            fs::write(dir.join("stat"), times).unwrap();
        }
        let mut reader = TreeReader::new(root.path(), ALL);
        let sum = reader.sample([7, 8].into_iter());
        assert_eq!(
            (sum.rss_bytes, sum.read_bytes, sum.write_bytes),
            (u64::MAX, u64::MAX, u64::MAX)
        );
        let gone = reader.sample([7].into_iter());
        assert_eq!(gone.read_bytes, u64::MAX);
    }
}
