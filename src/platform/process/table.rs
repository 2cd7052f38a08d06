//! Who is whose child: one pass over /proc, shared by all who ask within a moment.

use super::{Identity, ProcessStat, marker::MarkerCache};
use crate::platform::kept_file::read_once;
use std::{
    collections::{HashMap, HashSet},
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

/// All processes at one moment, and who is whose.
#[derive(Debug, Default)]
pub struct ProcessTable {
    by_pid: HashMap<u32, ProcessEntry>,
    children: HashMap<u32, Vec<Identity>>,
    sessions: HashMap<u32, Vec<Identity>>,
    marked_orphans: HashMap<Arc<str>, Vec<Identity>>,
}

impl ProcessTable {
    /// Puts entries in order. `run_of` tells which run an orphan was started in, if any.
    pub(super) fn new(
        entries: impl Iterator<Item = ProcessEntry>,
        mut run_of: impl FnMut(Identity) -> Option<Arc<str>>,
    ) -> Self {
        let mut table = Self::default();
        for entry in entries {
            table.by_pid.insert(entry.identity.pid, entry);
            table.children.entry(entry.ppid).or_default().push(entry.identity);
            table.sessions.entry(entry.session).or_default().push(entry.identity);
        }
        for parent in table.foster_parents() {
            for orphan in table.children.get(&parent).cloned().unwrap_or_default() {
                // The environment of a sleeper in D cannot be read; the next scan asks again.
                let readable = table.get(orphan).is_some_and(|e| !e.is_zombie() && e.state != 'D');
                if let Some(run) = readable.then(|| run_of(orphan)).flatten() {
                    table.marked_orphans.entry(run).or_default().push(orphan);
                }
            }
        }
        table
    }

    /// Where a process ends up when its parent dies: with us, with one of our ancestors, or with init.
    fn foster_parents(&self) -> HashSet<u32> {
        let mut found = HashSet::from([0, 1]);
        let mut at = std::process::id();
        while found.insert(at) {
            at = self.by_pid.get(&at).map_or(1, |entry| entry.ppid);
        }
        found
    }

    /// Reads one scan of `proc_root`. A process that ends meanwhile is left out.
    pub fn scan(proc_root: &Path, markers: &MarkerCache) -> io::Result<Self> {
        let pids = std::fs::read_dir(proc_root)?
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let entries = pids.filter_map(|pid| ProcessEntry::read(proc_root, pid).ok());
        let table = Self::new(entries, |identity| markers.run_of(proc_root, identity));
        markers.forget_the_gone(&table);
        Ok(table)
    }

    /// The entry of exactly this process.
    pub fn get(&self, identity: Identity) -> Option<&ProcessEntry> {
        self.by_pid.get(&identity.pid).filter(|entry| entry.identity == identity)
    }

    /// Every process.
    pub fn iter(&self) -> impl Iterator<Item = &ProcessEntry> {
        self.by_pid.values()
    }

    /// The children of a process.
    pub fn children(&self, pid: u32) -> &[Identity] {
        self.children.get(&pid).map_or(&[], Vec::as_slice)
    }

    /// The processes of a session.
    pub fn session(&self, leader: u32) -> &[Identity] {
        self.sessions.get(&leader).map_or(&[], Vec::as_slice)
    }

    /// Processes that lost their parent and carry the marker of a run.
    pub fn marked_orphans(&self, run_id: &str) -> &[Identity] {
        self.marked_orphans.get(run_id).map_or(&[], Vec::as_slice)
    }
}

/// The last scan, made anew when it is older than its age limit: a thousand monitors that tick
/// at different moments cost a few scans a second, not a thousand.
#[derive(Debug)]
pub struct TableCache {
    proc_root: PathBuf,
    max_age: Duration,
    markers: MarkerCache,
    last: Mutex<Option<(Instant, Arc<ProcessTable>)>>,
}

impl TableCache {
    /// A cache over `proc_root`, `/proc` outside of tests.
    pub fn new(proc_root: impl Into<PathBuf>, max_age: Duration) -> Self {
        let (proc_root, markers) = (proc_root.into(), MarkerCache::default());
        Self { proc_root, max_age, markers, last: Mutex::new(None) }
    }

    /// Where it reads.
    pub fn proc_root(&self) -> &Path {
        &self.proc_root
    }

    /// A scan that is at most `max_age` old.
    pub fn get(&self) -> io::Result<Arc<ProcessTable>> {
        let now = Instant::now();
        self.get_since(now.checked_sub(self.max_age).unwrap_or(now))
    }

    /// A scan that began at `moment` or later. Who waits for another's scan shares the next one.
    pub fn get_since(&self, moment: Instant) -> io::Result<Arc<ProcessTable>> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((begun, table)) = last.as_ref()
            && *begun >= moment
        {
            return Ok(Arc::clone(table));
        }
        let begun = Instant::now();
        let table = Arc::new(ProcessTable::scan(&self.proc_root, &self.markers)?);
        *last = Some((begun, Arc::clone(&table)));
        Ok(table)
    }
}
