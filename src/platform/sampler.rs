//! One run's raw figures: from its cgroup where there is one, from /proc over its tree for whatever
//! the cgroup does not tell.

use super::{
    cgroup::{CgroupFigures, CgroupReader, RunCgroup},
    process::{Identity, SharedTracker, TableCache, TreeFigures, TreeReader, Wanted},
};
use std::{io, sync::Arc, time::Duration};

/// Counters and levels at one moment. Counters only grow within a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RawSample {
    /// Processor time of the tree.
    pub cpu_time: Duration,
    /// As the kernel charges it, page cache included, else the sum of RSS, bytes.
    pub rss_bytes: u64,
    /// Less what would be the first to go, bytes.
    pub working_set_bytes: u64,
    /// Anonymous memory, bytes.
    pub anon_bytes: u64,
    /// Bytes read from devices.
    pub read_bytes: u64,
    /// Bytes written to devices.
    pub write_bytes: u64,
    /// Scheduling periods, and those in which it was held back; `None` without the cpu controller.
    pub periods: Option<(u64, u64)>,
    /// `some avg10` of cpu, memory and io, percent.
    pub pressure: [Option<f64>; 3],
    /// The tree, main process first.
    pub pids: Vec<u32>,
}

/// Takes one run's raw figures.
pub trait Sample: Send {
    /// Reads everything once.
    fn sample(&mut self) -> io::Result<RawSample>;
}

/// Which run is to be sampled.
#[derive(Debug)]
pub struct SampledRun<'a> {
    /// Its main process.
    pub main: Identity,
    /// Follows its tree where it has no cgroup.
    pub tracker: SharedTracker,
    /// Its cgroup, if it has one.
    pub cgroup: Option<&'a RunCgroup>,
    /// Who is whose child.
    pub table: Arc<TableCache>,
}

/// Reads one run from the kernel. Files are opened once.
#[derive(Debug)]
pub struct Sampler {
    main: Identity,
    cgroup: Option<CgroupReader>,
    tracker: SharedTracker,
    table: Arc<TableCache>,
    tree: Option<TreeReader>,
}

impl Sampler {
    /// Opens the files of a run.
    pub fn open(run: SampledRun<'_>) -> io::Result<Self> {
        let SampledRun { main, tracker, cgroup, table } = run;
        let cgroup = cgroup.map(|run| CgroupReader::open(run.path())).transpose()?;
        let wanted = Wanted {
            cpu: cgroup.is_none(),
            memory: !cgroup.as_ref().is_some_and(CgroupReader::has_memory),
            io: !cgroup.as_ref().is_some_and(CgroupReader::has_io),
        };
        let any = wanted.cpu || wanted.memory || wanted.io;
        let tree = any.then(|| TreeReader::new(table.proc_root(), wanted));
        Ok(Self { main, cgroup, tracker, table, tree })
    }

    fn tree_pids(&mut self) -> io::Result<Vec<u32>> {
        let table = self.table.get()?;
        let members = self.tracker.update(&table);
        Ok(members.into_iter().map(|identity| identity.pid).collect())
    }
}

impl Sample for Sampler {
    fn sample(&mut self) -> io::Result<RawSample> {
        let mut cgroup = match &mut self.cgroup {
            Some(reader) => reader.sample()?,
            None => CgroupFigures { pids: self.tree_pids()?, ..CgroupFigures::default() },
        };
        let mut pids = std::mem::take(&mut cgroup.pids);
        if let Some(at) = pids.iter().position(|pid| *pid == self.main.pid) {
            pids[..=at].rotate_right(1);
        }
        let tree = self.tree.as_mut().map(|tree| tree.sample(pids.iter().copied()));
        Ok(combine(cgroup, tree.unwrap_or_default(), pids))
    }
}

/// What the cgroup tells goes first.
fn combine(cgroup: CgroupFigures, tree: TreeFigures, pids: Vec<u32>) -> RawSample {
    let charged = cgroup.memory_current_bytes;
    let inactive = cgroup.memory.inactive_file.unwrap_or(0);
    let io = cgroup.io.unwrap_or_default();
    let has_io = cgroup.io.is_some();
    RawSample {
        cpu_time: cgroup.cpu.usage_usec.map_or(tree.cpu_time, Duration::from_micros),
        rss_bytes: charged.unwrap_or(tree.rss_bytes),
        working_set_bytes: charged.map_or(tree.rss_bytes, |bytes| bytes.saturating_sub(inactive)),
        anon_bytes: cgroup.memory.anon.unwrap_or(tree.anon_bytes),
        read_bytes: if has_io { io.rbytes } else { tree.read_bytes },
        write_bytes: if has_io { io.wbytes } else { tree.write_bytes },
        periods: cgroup.cpu.nr_periods.zip(cgroup.cpu.nr_throttled),
        pressure: cgroup.pressure,
        pids,
    }
}

#[cfg(test)]
mod tests;
