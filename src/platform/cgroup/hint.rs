//! What an operator can do when there is no tree to use: one line for each cause.

use super::{CgroupError, DiscoverError};
use std::{error::Error, io};

/// What to do about a tree that cannot be written. `None`: the error says all there is to say.
pub fn hint_for_tree(error: &CgroupError) -> Option<&'static str> {
    let source = error.source()?.downcast_ref::<io::Error>()?;
    match source.kind() {
        io::ErrorKind::PermissionDenied => Some(
            "run the hive as root, or in a cgroup that is delegated to it, named as hive.cgroup.root \
             (config/systemd has units for both)",
        ),
        io::ErrorKind::ReadOnlyFilesystem => Some(
            "the tree is mounted read-only: mount it writable (in a container, with a cgroup namespace of \
             its own), or name a writable directory as hive.cgroup.root",
        ),
        _ => None,
    }
}

/// What to do where no tree is found.
pub fn hint_for_discovery(error: &DiscoverError) -> &'static str {
    match error {
        DiscoverError::MountInfo(_) => "mount /proc",
        DiscoverError::NotMounted => {
            "mount it (mount -t cgroup2 cgroup2 /sys/fs/cgroup), or start the machine with \
             systemd.unified_cgroup_hierarchy=1"
        }
        DiscoverError::NotCgroup2(_) => {
            "hive.cgroup.root must be a directory of the cgroup v2 tree; \"\" stands for where that is mounted"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn each_cause_has_a_remedy_of_its_own() {
        let hint = |kind: io::ErrorKind| {
            hint_for_tree(&CgroupError::at("create", Path::new("/c"))(io::Error::from(kind)))
        };
        let denied = hint(io::ErrorKind::PermissionDenied).unwrap_or_default();
        let read_only = hint(io::ErrorKind::ReadOnlyFilesystem).unwrap_or_default();
        assert!(denied.contains("hive.cgroup.root") && denied.contains("as root"));
        assert!(read_only.contains("read-only"));
        assert_eq!(hint(io::ErrorKind::TimedOut), None);
        assert!(hint_for_discovery(&DiscoverError::NotMounted).contains("mount -t cgroup2"));
    }
}
