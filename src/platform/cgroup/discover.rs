//! Finds the cgroup v2 tree. It is not always at `/sys/fs/cgroup`: on a hybrid system that is a
//! tmpfs, where mkdir makes a plain directory that limits nothing, so the filesystem is asked.

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use std::{
    io,
    path::{Path, PathBuf},
};
use thiserror::Error;

/// Why there is no tree to use.
#[derive(Debug, Error)]
pub enum DiscoverError {
    /// The list of mounts cannot be read.
    #[error("cannot read /proc/self/mountinfo")]
    MountInfo(#[source] io::Error),
    /// No cgroup2 filesystem is mounted.
    #[error("no cgroup2 filesystem is mounted")]
    NotMounted,
    /// The path that was configured is something else.
    #[error("{} is not on a cgroup2 filesystem", .0.display())]
    NotCgroup2(PathBuf),
}

/// The configured root, if it really is cgroup v2, else the first cgroup2 mount.
pub fn find_root(configured: Option<&Path>) -> Result<PathBuf, DiscoverError> {
    if let Some(root) = configured {
        return if is_cgroup2(root) {
            Ok(root.to_path_buf())
        } else {
            Err(DiscoverError::NotCgroup2(root.to_path_buf()))
        };
    }
    let mounts =
        std::fs::read_to_string("/proc/self/mountinfo").map_err(DiscoverError::MountInfo)?;
    cgroup2_mounts(&mounts).find(|path| is_cgroup2(path)).ok_or(DiscoverError::NotMounted)
}

fn is_cgroup2(path: &Path) -> bool {
    statfs(path).is_ok_and(|stat| stat.filesystem_type() == CGROUP2_SUPER_MAGIC)
}

/// Mount points of type cgroup2 in the text of `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
fn cgroup2_mounts(mountinfo: &str) -> impl Iterator<Item = PathBuf> {
    mountinfo.lines().filter_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        (after.split(' ').next()? == "cgroup2").then_some(())?;
        before.split(' ').nth(4).map(|path| PathBuf::from(unescape(path)))
    })
}

/// Undoes the kernel's `\040`, which it writes for a blank and the like.
fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        plain.push_str(&rest[..at]);
        let digits = rest.get(at + 1..at + 4);
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                plain.push(char::from(byte));
                rest = &rest[at + 4..];
            }
            None => {
                plain.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    plain + rest
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects")]
    use super::*;

    #[test]
    fn a_hybrid_system_has_its_tree_beside_v1() {
        let text = "\
            31 23 0:27 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
            32 31 0:28 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
            41 31 0:37 / /sys/fs/cgroup/unified rw shared:5 master:2 - cgroup2 cgroup2 rw\n\
            42 31 0:38 / /a\\040b rw - cgroup2 none rw\nrubbish\n - cgroup2 x\n";
        let found: Vec<_> = cgroup2_mounts(text).collect();
        assert_eq!(found, [Path::new("/sys/fs/cgroup/unified"), Path::new("/a b")]);
    }

    #[test]
    fn a_plain_directory_is_not_taken_for_a_tree() {
        let dir = tempfile::tempdir().unwrap();
        let refused = find_root(Some(dir.path()));
        assert!(matches!(refused, Err(DiscoverError::NotCgroup2(path)) if path == dir.path()));
    }

    #[test]
    fn fuzz_mountinfo() {
        crate::fuzz::fuzz_text("mountinfo", |text| {
            let lines = text.lines().count();
            assert!(cgroup2_mounts(text).count() <= lines);
        });
    }
}
