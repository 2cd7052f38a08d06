//! The directory in which a hive keeps what must outlive it. Only one hive can have it.
//!
//! Every file in it is written whole or not at all: to a name of its own, then renamed.

use super::kept_file::read_once;
use rustix::fs::{FlockOperation, flock};
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};
use thiserror::Error;

/// Why the directory cannot be used.
#[derive(Debug, Error)]
pub enum StateDirError {
    /// It cannot be made or opened.
    #[error("cannot use the state directory {}", .path.display())]
    Io {
        /// It.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another user could change what is in it.
    #[error("the state directory {} belongs to another user, or others can write to it", .0.display())]
    NotOurs(PathBuf),
    /// Another hive has it.
    #[error("another hive uses the state directory {}", .0.display())]
    InUse(PathBuf),
}

/// See the module. The lock is held as long as this lives.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    _lock: File,
}

impl StateDir {
    /// Makes it if need be, and takes it.
    pub fn open(path: &Path) -> Result<Self, StateDirError> {
        let failed = |source| StateDirError::Io { path: path.to_path_buf(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
        let path = path.canonicalize().map_err(failed)?;
        let meta = fs::metadata(&path).map_err(failed)?;
        if meta.uid() != nix::unistd::geteuid().as_raw() || meta.mode() & 0o022 != 0 {
            return Err(StateDirError::NotOurs(path));
        }
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path.join("lock"))
            .map_err(failed)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { path, _lock: lock }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(StateDirError::InUse(path)),
            Err(errno) => Err(failed(errno.into())),
        }
    }

    /// Where workers' logs are.
    pub fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }

    fn record_path(&self, group: &str, instance: &str) -> PathBuf {
        self.path.join("workers").join(group).join(format!("{instance}.json"))
    }

    /// Writes a worker's record, whole or not at all.
    pub fn write_record(&self, group: &str, instance: &str, text: &[u8]) -> io::Result<()> {
        let path = self.record_path(group, instance);
        let draft = path.with_extension("json.new");
        if let Some(dir) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        }
        let written = write_draft(&draft, text).and_then(|()| fs::rename(&draft, &path));
        // On a full disk half of it would be in the way.
        written.inspect_err(|_| drop(fs::remove_file(&draft)))
    }

    /// Removes a worker's record. That there is none is no error.
    pub fn remove_record(&self, group: &str, instance: &str) -> io::Result<()> {
        let path = self.record_path(group, instance);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        if let Some(dir) = path.parent() {
            let _ = fs::remove_dir(dir);
        }
        Ok(())
    }

    /// Every worker's record, as it was written: group, instance, text.
    pub fn records(&self) -> Vec<(String, String, io::Result<String>)> {
        let mut found = Vec::new();
        for group in names(&self.path.join("workers")) {
            for file in names(&self.path.join("workers").join(&group)) {
                let Some(instance) = file.strip_suffix(".json") else { continue };
                let text = read_once(&self.record_path(&group, instance));
                found.push((group.clone(), instance.to_owned(), text));
            }
        }
        found.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        found
    }
}

fn write_draft(draft: &Path, text: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(true).mode(0o600);
    options.open(draft)?.write_all(text)
}

fn names(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects")]
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_second_hive_is_refused_until_the_first_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let first = StateDir::open(dir.path()).unwrap();
        assert!(matches!(StateDir::open(dir.path()), Err(StateDirError::InUse(_))));
        drop(first);
        assert!(StateDir::open(dir.path()).is_ok());
    }

    #[test]
    fn a_directory_that_others_can_write_to_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(StateDir::open(dir.path()), Err(StateDirError::NotOurs(_))));
    }

    #[test]
    fn records_come_back_as_they_were_written() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(&dir.path().join("a/b")).unwrap();
        state.write_record("g", "1", b"one").unwrap();
        state.write_record("g", "1", b"two").unwrap();
        state.write_record("g", "x.json", b"three").unwrap();
        let found: Vec<_> =
            state.records().into_iter().map(|(g, i, text)| (g, i, text.unwrap())).collect();
        assert_eq!(
            found,
            [
                ("g".into(), "1".into(), "two".to_owned()),
                ("g".into(), "x.json".into(), "three".to_owned())
            ]
        );
        state.remove_record("g", "1").unwrap();
        state.remove_record("g", "1").unwrap();
        assert_eq!(state.records().len(), 1);
    }
}
