//! A variable in a worker's environment that whatever it starts inherits: it tells which run a process
//! comes from when its parents are gone.

use super::{Identity, ProcessTable};
use std::{
    collections::HashMap,
    io::Read,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

/// Its name; its value is the run's id.
pub const RUN_MARKER: &str = "RBEE_RUN_ID";

/// The longest environment that is searched for it, bytes.
const ENVIRON_MAX: u64 = 4 << 20;

/// What has been read already: each process's environment is read once, however many ask.
#[derive(Debug, Default)]
pub struct MarkerCache(Mutex<HashMap<Identity, Option<Arc<str>>>>);

impl MarkerCache {
    /// The run that a process was started in.
    pub fn run_of(&self, proc_root: &Path, identity: Identity) -> Option<Arc<str>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let read = || marker_of(proc_root, identity.pid).map(Into::into);
        known.entry(identity).or_insert_with(read).clone()
    }

    pub(super) fn forget_the_gone(&self, table: &ProcessTable) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|identity, _| table.get(*identity).is_some());
    }
}

/// `/proc/PID/environ` is NUL-separated; that it cannot be read means that there is none.
pub fn marker_of(proc_root: &Path, pid: u32) -> Option<String> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(proc_root.join(pid.to_string()).join("environ")).ok()?;
    file.take(ENVIRON_MAX).read_to_end(&mut bytes).ok()?;
    bytes.split(|byte| *byte == 0).find_map(|part| {
        let value = part.strip_prefix(RUN_MARKER.as_bytes())?.strip_prefix(b"=")?;
        String::from_utf8(value.to_vec()).ok()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects")]
    use super::*;
    use std::fs;

    #[test]
    fn a_marker_is_read_once() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("7")).unwrap();
        let environ = root.path().join("7/environ");
        fs::write(&environ, format!("A=1\0{RUN_MARKER}X=no\0{RUN_MARKER}=g/a:1\0")).unwrap();
        assert_eq!(marker_of(root.path(), 7).as_deref(), Some("g/a:1"));
        assert_eq!(marker_of(root.path(), 8), None);
        let (cache, process) = (MarkerCache::default(), Identity { pid: 7, start_ticks: 1 });
        assert_eq!(cache.run_of(root.path(), process).as_deref(), Some("g/a:1"));
        fs::write(&environ, "").unwrap();
        assert_eq!(cache.run_of(root.path(), process).as_deref(), Some("g/a:1"));
        cache.forget_the_gone(&ProcessTable::default());
        assert_eq!(cache.run_of(root.path(), process), None, "another process may have the PID");
    }
}
