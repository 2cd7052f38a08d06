//! Who is whose child: one pass over /proc, shared by all who ask within a moment.

use super::{Identity, ProcessStat};
use crate::platform::kept_file::read_once;
use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Of `/proc/PID/stat`, what the tree is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessEntry {
    /// Itself.
    pub identity: Identity,
    /// Its parent now: the nearest subreaper once the real one is gone.
    pub ppid: u32,
    /// Its session.
    pub session: u32,
    /// `R`, `S`, `D`, `Z`, …
    pub state: char,
}

impl ProcessEntry {
    /// Reads one process's entry.
    pub fn read(proc_root: &Path, pid: u32) -> io::Result<Self> {
        let text = read_once(&proc_root.join(pid.to_string()).join("stat"))?;
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "not the text of a stat file");
        let stat = ProcessStat::parse(&text).ok_or_else(damaged)?;
        Ok(Self {
            identity: Identity { pid, start_ticks: stat.start_ticks },
            ppid: stat.ppid,
            session: stat.session,
            state: stat.state,
        })
    }

    /// Whether it has ended and waits to be reaped.
    pub fn is_zombie(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }
}

/// All processes at one moment, by PID.
#[derive(Debug, Default)]
pub struct ProcessTable {
    /// Every process that could be read.
    pub by_pid: HashMap<u32, ProcessEntry>,
}

impl ProcessTable {
    /// Reads all of `proc_root`. A process that ends meanwhile is left out.
    pub fn scan(proc_root: &Path) -> io::Result<Self> {
        let pids = std::fs::read_dir(proc_root)?
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let entries = pids.filter_map(|pid| Some((pid, ProcessEntry::read(proc_root, pid).ok()?)));
        Ok(Self { by_pid: entries.collect() })
    }
}

/// The last scan, made anew when it is older than its age limit: a thousand monitors that tick
/// at different moments cost a few scans a second, not a thousand.
#[derive(Debug)]
pub struct TableCache {
    proc_root: PathBuf,
    max_age: Duration,
    last: Mutex<Option<(Instant, Arc<ProcessTable>)>>,
}

impl TableCache {
    /// A cache over `proc_root`, `/proc` outside of tests.
    pub fn new(proc_root: impl Into<PathBuf>, max_age: Duration) -> Self {
        Self { proc_root: proc_root.into(), max_age, last: Mutex::new(None) }
    }

    /// Where it reads.
    pub fn proc_root(&self) -> &Path {
        &self.proc_root
    }

    /// A scan that is at most `max_age` old.
    pub fn get(&self) -> io::Result<Arc<ProcessTable>> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((taken, table)) = last.as_ref()
            && taken.elapsed() < self.max_age
        {
            return Ok(Arc::clone(table));
        }
        let table = Arc::new(ProcessTable::scan(&self.proc_root)?);
        *last = Some((Instant::now(), Arc::clone(&table)));
        Ok(table)
    }
}
