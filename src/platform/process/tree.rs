//! Which processes belong to a worker that has no cgroup to hold them, or have left it.
//!
//! A child belongs to its parent's tree. One whose parent is gone belongs to whom its session, what
//! was seen of it before, or a marker in its environment says: a daemon that forks twice and makes a
//! session of its own loses its parent and its session, and still carries the marker.

use super::{Identity, ProcessTable};
use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

/// Follows one run's tree from scan to scan.
#[derive(Debug)]
pub struct TreeTracker {
    main: Option<Identity>,
    run_id: String,
    members: HashSet<Identity>,
}

impl TreeTracker {
    /// A tree that begins with `main`, whose environment has the marker of the run `run_id`.
    /// Without `main`, every orphan that carries the marker begins one.
    pub fn new(main: Option<Identity>, run_id: impl Into<String>) -> Self {
        Self { main, run_id: run_id.into(), members: main.into_iter().collect() }
    }

    /// The members that run, the main process first, then by PID. Zombies are not counted.
    pub fn update(&mut self, table: &ProcessTable) -> Vec<Identity> {
        let mut found = HashSet::new();
        let mut queue: Vec<Identity> =
            self.members.iter().copied().filter(|id| table.get(*id).is_some()).collect();
        queue.extend(table.marked_orphans(&self.run_id));
        if let Some(main) = self.main {
            let ours = |id: &&Identity| id.start_ticks >= main.start_ticks;
            queue.extend(table.session(main.pid).iter().filter(ours));
        }
        while let Some(identity) = queue.pop() {
            if found.insert(identity) {
                queue.extend(table.children(identity.pid));
            }
        }
        self.members = found;
        let runs = |id: &&Identity| table.get(**id).is_some_and(|entry| !entry.is_zombie());
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
    pub fn update(&self, table: &ProcessTable) -> Vec<Identity> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).update(table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::process::ProcessEntry;
    use proptest::prelude::*;

    const MAIN: Identity = Identity { pid: 100, start_ticks: 100 };

    fn entry(pid: u32, ppid: u32, session: u32) -> ProcessEntry {
        let identity = Identity { pid, start_ticks: u64::from(pid) };
        ProcessEntry { identity, ppid, session, state: 'S' }
    }

    /// 130 carries our marker, 140 another's.
    fn table(entries: &[ProcessEntry]) -> ProcessTable {
        ProcessTable::new(entries.iter().copied(), |identity| match identity.pid {
            130 => Some("mine".into()),
            140 => Some("other".into()),
            _ => None,
        })
    }

    fn pids(tracker: &mut TreeTracker, table: &ProcessTable) -> Vec<u32> {
        tracker.update(table).into_iter().map(|identity| identity.pid).collect()
    }

    #[test]
    fn descendants_sessions_and_marked_orphans_are_ours_and_others_are_not() {
        let mut tracker = TreeTracker::new(Some(MAIN), "mine");
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
        assert_eq!(pids(&mut tracker, &all), [100, 110, 111, 120, 130, 131]);

        let orphaned = table(&[entry(111, 1, 110), entry(140, 1, 140)]);
        assert_eq!(pids(&mut tracker, &orphaned), [111], "seen before its parent died");
    }

    #[test]
    fn without_a_main_process_the_marker_alone_tells() {
        let all =
            table(&[entry(1, 0, 1), entry(130, 1, 130), entry(131, 130, 0), entry(140, 1, 0)]);
        assert_eq!(pids(&mut TreeTracker::new(None, "mine"), &all), [130, 131]);
    }

    #[test]
    fn a_pid_that_is_used_again_is_not_ours() {
        let mut reused = entry(100, 1, 100);
        reused.identity.start_ticks = 7;
        assert!(pids(&mut TreeTracker::new(Some(MAIN), "r"), &table(&[reused])).is_empty());
    }

    proptest! {
        #[test]
        fn any_table_ends_and_every_descendant_is_found(parents in prop::collection::vec(0_u32..40, 1..40)) {
            let mut entries = vec![entry(100, 1, 100)];
            for (index, parent) in parents.iter().enumerate() {
                entries.push(entry(101 + index as u32, 100 + parent, 5));
            }
            let all = ProcessTable::new(entries.iter().copied(), |_| None);
            let found = pids(&mut TreeTracker::new(Some(MAIN), "r"), &all);
            for e in &entries {
                let mut at = e.identity.pid;
                let climbs = (0..100).any(|_| {
                    let ours = at == 100;
                    at = entries.iter().find(|e| e.identity.pid == at).map_or(0, |e| e.ppid);
                    ours
                });
                prop_assert_eq!(climbs, found.contains(&e.identity.pid));
            }
        }
    }
}
