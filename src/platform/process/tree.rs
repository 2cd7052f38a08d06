//! Which processes belong to a worker that has no cgroup to hold them.
//!
//! A child belongs to its parent's tree. One whose parent is gone belongs to whom its session, what
//! was seen of it before, or a marker in its environment says: a daemon that forks twice and makes a
//! session of its own loses its parent and its session, and still carries the marker.

use super::{Identity, ProcessEntry, ProcessTable};
use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

/// The variable whose value names a run; inherited by whatever the run starts.
pub const RUN_MARKER: &str = "RBEE_RUN_ID";

/// The longest environment that is searched for the marker, bytes.
const ENVIRON_MAX: u64 = 4 << 20;

/// Follows one run's tree from scan to scan.
#[derive(Debug)]
pub struct TreeTracker {
    main: Option<Identity>,
    run_id: String,
    members: HashSet<Identity>,
    /// Orphans whose environment has been looked at and has another marker, or none.
    strangers: HashSet<Identity>,
}

impl TreeTracker {
    /// A tree that begins with `main`, whose environment has [`RUN_MARKER`] set to `run_id`.
    /// Without `main`, every process that carries the marker begins one.
    pub fn new(main: Option<Identity>, run_id: impl Into<String>) -> Self {
        Self {
            main,
            run_id: run_id.into(),
            members: main.into_iter().collect(),
            strangers: HashSet::new(),
        }
    }

    /// The members that run, the main process first, then by PID. Zombies are not counted.
    pub fn update(&mut self, table: &ProcessTable, proc_root: &Path) -> Vec<Identity> {
        let children = children_of(table);
        let mut queue: Vec<Identity> =
            table.by_pid.values().filter(|e| self.has_root(e)).map(|e| e.identity).collect();
        queue.extend(self.marked_orphans(table, proc_root));
        let mut found = HashSet::new();
        while let Some(identity) = queue.pop() {
            if found.insert(identity) {
                queue.extend(children.get(&identity.pid).into_iter().flatten().copied());
            }
        }
        self.members = found;
        self.strangers.retain(|identity| is_there(table, identity));
        self.running(table)
    }

    /// Whether it needs no parent to be one of us: it is the main process, was seen before, or is
    /// in the session that the main process leads.
    fn has_root(&self, entry: &ProcessEntry) -> bool {
        self.members.contains(&entry.identity)
            || self.main.is_some_and(|main| {
                entry.session == main.pid && entry.identity.start_ticks >= main.start_ticks
            })
    }

    /// Processes whose parent is init, us, or whoever took the main process in: a process ends up
    /// there when its parent dies.
    fn marked_orphans(&mut self, table: &ProcessTable, proc_root: &Path) -> Vec<Identity> {
        let us = std::process::id();
        let foster = self.main.and_then(|main| table.by_pid.get(&main.pid)).map(|e| e.ppid);
        let oldest = self.main.map_or(0, |main| main.start_ticks);
        let mut marked = Vec::new();
        for entry in table.by_pid.values() {
            let orphan = entry.ppid <= 1
                || entry.ppid == us
                || foster == Some(entry.ppid)
                || self.main.is_none();
            let young = entry.identity.start_ticks >= oldest;
            let known = self.members.contains(&entry.identity)
                || self.strangers.contains(&entry.identity)
                || entry.is_zombie()
                // Its environment cannot be read while it sleeps so; the next scan asks again.
                || entry.state == 'D';
            if !orphan || !young || known {
                continue;
            }
            if carries_marker(proc_root, entry.identity.pid, &self.run_id) {
                marked.push(entry.identity);
            } else {
                self.strangers.insert(entry.identity);
            }
        }
        marked
    }

    fn running(&self, table: &ProcessTable) -> Vec<Identity> {
        let runs = |id: &&Identity| {
            table.by_pid.get(&id.pid).is_some_and(|e| e.identity == **id && !e.is_zombie())
        };
        let mut running: Vec<_> = self.members.iter().filter(runs).copied().collect();
        running.sort_unstable_by_key(|identity| (Some(*identity) != self.main, identity.pid));
        running
    }
}

/// One run's tracker for all who need it: what a sample has seen, a kill does not overlook.
#[derive(Clone, Debug)]
pub struct SharedTracker(Arc<Mutex<TreeTracker>>);

impl SharedTracker {
    /// See [`TreeTracker::new`].
    pub fn new(main: Option<Identity>, run_id: impl Into<String>) -> Self {
        Self(Arc::new(Mutex::new(TreeTracker::new(main, run_id))))
    }

    /// See [`TreeTracker::update`].
    pub fn update(&self, table: &ProcessTable, proc_root: &Path) -> Vec<Identity> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).update(table, proc_root)
    }
}

fn children_of(table: &ProcessTable) -> HashMap<u32, Vec<Identity>> {
    let mut children: HashMap<u32, Vec<Identity>> = HashMap::new();
    for entry in table.by_pid.values() {
        children.entry(entry.ppid).or_default().push(entry.identity);
    }
    children
}

fn is_there(table: &ProcessTable, identity: &Identity) -> bool {
    table.by_pid.get(&identity.pid).is_some_and(|entry| entry.identity == *identity)
}

/// Whether a process was started within a run whose id begins with `run_id`. `/proc/PID/environ` is
/// NUL-separated; that it cannot be read means no.
pub fn carries_marker(proc_root: &Path, pid: u32, run_id: &str) -> bool {
    use std::io::Read;
    let wanted = format!("{RUN_MARKER}={run_id}");
    let mut bytes = Vec::new();
    let file = std::fs::File::open(proc_root.join(pid.to_string()).join("environ"));
    let read = file.and_then(|file| file.take(ENVIRON_MAX).read_to_end(&mut bytes));
    read.is_ok() && bytes.split(|byte| *byte == 0).any(|part| part.starts_with(wanted.as_bytes()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects")]
    use super::*;
    use proptest::prelude::*;
    use std::fs;

    fn entry(pid: u32, ppid: u32, session: u32) -> ProcessEntry {
        let identity = Identity { pid, start_ticks: u64::from(pid) };
        ProcessEntry { identity, ppid, session, state: 'S' }
    }

    fn table(entries: &[ProcessEntry]) -> ProcessTable {
        ProcessTable { by_pid: entries.iter().map(|e| (e.identity.pid, *e)).collect() }
    }

    fn pids(tracker: &mut TreeTracker, table: &ProcessTable, root: &Path) -> Vec<u32> {
        tracker.update(table, root).into_iter().map(|identity| identity.pid).collect()
    }

    #[test]
    fn descendants_sessions_and_marked_orphans_are_ours_and_others_are_not() {
        let root = tempfile::tempdir().unwrap();
        for (pid, run) in [(130, "mine"), (140, "other")] {
            let dir = root.path().join(pid.to_string());
            fs::create_dir(&dir).unwrap();
            fs::write(dir.join("environ"), format!("A=1\0{RUN_MARKER}={run}\0")).unwrap();
        }
        let main = Identity { pid: 100, start_ticks: 100 };
        let mut tracker = TreeTracker::new(Some(main), "mine");
        let all = table(&[
            entry(1, 0, 1),
            entry(50, 1, 50),
            entry(100, 50, 100),
            entry(110, 100, 110), // a child in a session of its own
            entry(111, 110, 110), // and its child
            entry(120, 1, 100),   // an orphan in the main process's session
            entry(130, 1, 130),   // an orphan that left the session
            entry(131, 130, 130),
            entry(140, 1, 140), // another worker's
            entry(150, 50, 150),
        ]);
        assert_eq!(pids(&mut tracker, &all, root.path()), [100, 110, 111, 120, 130, 131]);

        let orphaned = table(&[entry(111, 1, 110), entry(140, 1, 140)]);
        assert_eq!(
            pids(&mut tracker, &orphaned, root.path()),
            [111],
            "seen before its parent died"
        );
    }

    #[test]
    fn a_pid_that_is_used_again_is_not_ours() {
        let main = Identity { pid: 100, start_ticks: 100 };
        let mut tracker = TreeTracker::new(Some(main), "r");
        let mut reused = entry(100, 1, 100);
        reused.identity.start_ticks = 7;
        let found = pids(&mut tracker, &table(&[reused]), Path::new("/nonexistent"));
        assert!(found.is_empty());
    }

    proptest! {
        #[test]
        fn any_table_ends_and_every_descendant_is_found(parents in prop::collection::vec(0_u32..40, 1..40)) {
            let mut entries = vec![entry(100, 1, 100)];
            for (index, parent) in parents.iter().enumerate() {
                entries.push(entry(101 + index as u32, 100 + parent, 5));
            }
            let all = table(&entries);
            let main = Identity { pid: 100, start_ticks: 100 };
            let found = pids(&mut TreeTracker::new(Some(main), "r"), &all, Path::new("/nonexistent"));
            for e in &entries {
                let mut at = e.identity.pid;
                let climbs = (0..100).any(|_| {
                    let ours = at == 100;
                    at = all.by_pid.get(&at).map_or(0, |e| e.ppid);
                    ours
                });
                prop_assert_eq!(climbs, found.contains(&e.identity.pid));
            }
        }
    }
}
