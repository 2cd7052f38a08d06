//! Enables the controllers on the way down, making room for them where need be.
//!
//! A cgroup that holds processes cannot give controllers to its children (the kernel's rule of no internal
//! processes; only the machine's own root is exempt). It is not even tried: cpu and pids can be enabled there
//! all the same, and make every child "domain invalid", which no process can enter. Where this very process
//! is what stands in the way, as in a container or a unit of its own, it moves to a leaf beside the slice.
//! Others are never moved.

use super::tree::{CgroupError, make_dir};
use crate::platform::kept_file::read_once;
use std::{fs, path::Path};

/// Of what the kernel has, what is enabled on the way down.
pub(super) const CONTROLLERS: [&str; 4] = ["cpu", "memory", "io", "pids"];

/// Each by itself: one that cannot be had must not cost the others. Whether processes in `path` were in
/// the way.
pub(super) fn enable_controllers(path: &Path) -> bool {
    let there = read_once(&path.join("cgroup.controllers")).unwrap_or_default();
    let control = path.join("cgroup.subtree_control");
    let enabled = read_once(&control).unwrap_or_default();
    let mut wanted = wanted(&there, &enabled).peekable();
    if wanted.peek().is_some() && is_occupied(path) {
        return true;
    }
    for name in wanted {
        if let Err(error) = fs::write(&control, format!("+{name}")) {
            tracing::debug!(controller = name, path = %path.display(), %error, "controller not enabled");
        }
    }
    false
}

/// As [`enable_controllers`], and this process makes room if it is in the way: it moves to `{root}/{leaf}`.
pub(super) fn enable_controllers_making_room(root: &Path, leaf: &str) -> Result<(), CgroupError> {
    if enable_controllers(root) && holds_us(root) {
        let leaf = root.join(leaf);
        make_dir(&leaf)?;
        let procs = leaf.join("cgroup.procs");
        fs::write(&procs, "0").map_err(CgroupError::at("move this process to", &procs))?;
        tracing::info!(path = %leaf.display(), "moved here, to make room for controllers");
        enable_controllers(root);
    }
    Ok(())
}

/// The machine's own root, which alone has no type, may hold processes beside children with controllers.
fn is_occupied(path: &Path) -> bool {
    let inside = read_once(&path.join("cgroup.procs")).unwrap_or_default();
    path.join("cgroup.type").exists() && !inside.trim().is_empty()
}

fn holds_us(path: &Path) -> bool {
    let text = read_once(&path.join("cgroup.procs")).unwrap_or_default();
    let own = std::process::id();
    text.lines().any(|line| line.parse() == Ok(own))
}

/// What is there and not enabled yet.
fn wanted(there: &str, enabled: &str) -> impl Iterator<Item = &'static str> {
    CONTROLLERS.into_iter().filter(|name| has(there, name) && !has(enabled, name))
}

fn has(text: &str, name: &str) -> bool {
    text.split_ascii_whitespace().any(|word| word == name)
}

/// Which controllers `slice` does without, why, and what can be done about it, in one line. `None`: it has
/// all of them.
pub(super) fn shortfall(root: &Path, slice: &Path) -> Option<String> {
    let read = |path: &Path, name: &str| read_once(&path.join(name)).unwrap_or_default();
    let given = read(root, "cgroup.controllers");
    explain(root, &given, &read(slice, "cgroup.subtree_control"), is_occupied(root))
}

fn explain(root: &Path, given: &str, enabled: &str, occupied: bool) -> Option<String> {
    let lacking = CONTROLLERS.into_iter().filter(|name| !has(enabled, name));
    let (refused, absent): (Vec<&str>, Vec<&str>) = lacking.partition(|name| has(given, name));
    let root = root.display();
    let absent = (!absent.is_empty()).then(|| {
        let names = absent.join(", ");
        format!(
            "no {names} in {root}/cgroup.controllers: enable them in the cgroups above it (systemd: Delegate=yes)"
        )
    });
    let refused = (!refused.is_empty()).then(|| {
        let names = refused.join(", ");
        let why = if occupied {
            "other processes are in it: give the hive a cgroup of its own as hive.cgroup.root"
        } else {
            "its cgroup.subtree_control cannot be written: give the hive a delegated cgroup as hive.cgroup.root"
        };
        format!("{names} cannot be enabled in {root}: {why}")
    });
    [absent, refused].into_iter().flatten().reduce(|a, b| format!("{a}; {b}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects")]
    use super::*;
    use proptest::prelude::*;

    const ALL: &str = "cpuset cpu io memory hugetlb pids";

    #[test]
    fn nothing_is_enabled_where_processes_are() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write("cgroup.controllers", ALL);
        write("cgroup.subtree_control", "");
        write("cgroup.procs", "1\n");
        write("cgroup.type", "domain\n");
        assert!(enable_controllers(dir.path()));
        assert_eq!(fs::read_to_string(dir.path().join("cgroup.subtree_control")).unwrap(), "");
        // The machine's own root has no type.
        fs::remove_file(dir.path().join("cgroup.type")).unwrap();
        assert!(!enable_controllers(dir.path()));
        assert_ne!(fs::read_to_string(dir.path().join("cgroup.subtree_control")).unwrap(), "");
    }

    #[test]
    fn what_is_lacking_is_told_with_its_cause_and_its_remedy() {
        let told = |given, enabled, occupied| {
            explain(Path::new("/c"), given, enabled, occupied).unwrap_or_default()
        };
        assert_eq!(told(ALL, "cpu io memory pids", false), "");
        let text = told("cpu pids", "cpu pids", false);
        assert!(text.starts_with("no memory, io in /c/cgroup.controllers: "), "{text}");
        let text = told(ALL, "", true);
        assert!(text.contains("cpu, memory, io, pids cannot be enabled in /c: other"), "{text}");
        let text = told("cpu io pids", "io pids", false);
        assert!(text.contains("no memory ") && text.contains("; cpu cannot be enabled"), "{text}");
    }

    proptest! {
        #[test]
        fn each_controller_is_either_enabled_or_told_of(
            given in prop::sample::subsequence(CONTROLLERS.to_vec(), 0..=4),
            enabled in prop::sample::subsequence(CONTROLLERS.to_vec(), 0..=4),
            occupied: bool,
        ) {
            let told = explain(Path::new("/x"), &given.join(" "), &enabled.join(" "), occupied);
            prop_assert_eq!(told.is_none(), enabled.len() == CONTROLLERS.len());
            let told = told.unwrap_or_default().replace("cgroup.", "");
            prop_assert!(!told.contains('\n'));
            for name in CONTROLLERS {
                let named = told.split([' ', ',']).any(|word| word == name);
                prop_assert_eq!(named, !enabled.contains(&name));
            }
        }
    }
}
