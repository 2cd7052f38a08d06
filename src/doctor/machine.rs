//! What a hive needs of its machine: a cgroup tree, a directory, open files, programs to run.

use super::Finding;
use crate::{
    platform::cgroup::find_root,
    settings::{CgroupMode, CgroupSettings, HiveSettings},
};
use nix::{
    sys::resource::{Resource, getrlimit},
    unistd::{AccessFlags, access, geteuid},
};
use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// What a worker's telemetry and limits come from.
const CONTROLLERS: [&str; 4] = ["cpu", "memory", "io", "pids"];

/// Files that a monitor keeps open, and a hive without any worker.
const FILES_PER_WORKER: u64 = 12;
const FILES_OF_HIVE: u64 = 256;

pub(super) fn examine(hive: &HiveSettings) -> Vec<Finding> {
    let mut findings = cgroup(&hive.cgroup);
    findings.push(state_dir(&hive.state_dir));
    findings.push(open_files(hive.workers.len() as u64));
    findings.extend(commands(hive));
    findings
}

/// What is missing is an error only where it is required.
fn lacking(mode: CgroupMode, found: String, remedy: &str) -> Finding {
    if mode == CgroupMode::Require {
        return Finding::fail(
            "cgroup",
            found,
            format!("{remedy}; or set hive.cgroup.mode = \"auto\""),
        );
    }
    let found = format!("{found}: workers run without limits, figures come from /proc");
    Finding::warn("cgroup", found, remedy)
}

fn cgroup(settings: &CgroupSettings) -> Vec<Finding> {
    if settings.mode == CgroupMode::Off {
        return vec![Finding::ok("cgroup", "off, as configured: no limits, figures from /proc")];
    }
    let root = match find_root(settings.root.as_deref()) {
        Ok(root) => root,
        Err(error) => {
            let remedy = "mount it (`mount -t cgroup2 none /sys/fs/cgroup`), boot with \
                          systemd.unified_cgroup_hierarchy=1, or set hive.cgroup.root";
            return vec![lacking(settings.mode, crate::startup::chain(&error), remedy)];
        }
    };
    let slice = root.join(&settings.slice);
    let place = if slice.is_dir() { &slice } else { &root };
    if let Err(errno) = access(place, AccessFlags::W_OK | AccessFlags::X_OK) {
        let found = format!("{} is not writable: {errno}", place.display());
        let remedy = "run the hive as root, or set hive.cgroup.root to a directory that is \
                      delegated to its user (systemd: Delegate=yes)";
        return vec![lacking(settings.mode, found, remedy)];
    }
    vec![Finding::ok("cgroup", format!("{} is writable", place.display())), controllers(&root)]
}

fn controllers(root: &Path) -> Finding {
    let there = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
    let missing = missing_controllers(&there);
    if missing.is_empty() {
        return Finding::ok("controllers", CONTROLLERS.join(", "));
    }
    let found = format!(
        "{} has no {}: what they limit and measure is missing or comes from /proc",
        root.display(),
        missing.join(", ")
    );
    Finding::warn(
        "controllers",
        found,
        "boot with cgroup_no_v1=all, or enable them in the parent's cgroup.subtree_control",
    )
}

fn missing_controllers(there: &str) -> Vec<&'static str> {
    let has = |name: &&&str| !there.split_ascii_whitespace().any(|word| word == **name);
    CONTROLLERS.iter().filter(has).copied().collect()
}

/// The directory, or the nearest one above it in which it would be made.
fn state_dir(path: &Path) -> Finding {
    let shown = path.display();
    let Ok(meta) = fs::metadata(path) else {
        let above = path.ancestors().skip(1).find(|above| above.exists());
        let above = above.map_or_else(|| PathBuf::from("."), Path::to_path_buf);
        return match access(&above, AccessFlags::W_OK | AccessFlags::X_OK) {
            Ok(()) if above.is_dir() => {
                Finding::ok("state_dir", format!("{shown} will be made in {}", above.display()))
            }
            _ => Finding::fail(
                "state_dir",
                format!("{shown} is not there, and cannot be made in {}", above.display()),
                "make it for the hive's user, or set hive.state_dir to one that it can write",
            ),
        };
    };
    let (uid, mode) = (meta.uid(), meta.mode() & 0o7777);
    if !meta.is_dir() {
        Finding::fail("state_dir", format!("{shown} is no directory"), "set hive.state_dir to one")
    } else if uid != geteuid().as_raw() || mode & 0o022 != 0 {
        Finding::fail(
            "state_dir",
            format!("{shown} belongs to user {uid} with mode {mode:04o}: others could change it"),
            format!("chown it to the hive's user ({}), chmod 700 {shown}", geteuid()),
        )
    } else if let Err(errno) = access(path, AccessFlags::W_OK | AccessFlags::X_OK) {
        let remedy =
            format!("chmod 700 {shown}, and look whether its filesystem is mounted read-only");
        Finding::fail("state_dir", format!("{shown} is not writable: {errno}"), remedy)
    } else {
        Finding::ok("state_dir", format!("{shown} is writable"))
    }
}

fn open_files(workers: u64) -> Finding {
    let needed = FILES_OF_HIVE + FILES_PER_WORKER * workers;
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((_, hard)) if hard < needed => Finding::fail(
            "open files",
            format!("at most {hard} (RLIMIT_NOFILE), {workers} workers need about {needed}"),
            "raise it: LimitNOFILE= in the unit, or `ulimit -Hn`",
        ),
        Ok((soft, hard)) => {
            Finding::ok("open files", format!("up to {hard} ({soft} before the hive raises it)"))
        }
        Err(errno) => {
            Finding::warn("open files", format!("cannot be asked: {errno}"), "look at `ulimit -n`")
        }
    }
}

/// Of the configured workers, those whose program cannot be run.
fn commands(hive: &HiveSettings) -> Vec<Finding> {
    let bad = hive.workers.iter().filter(|spec| !can_run(&spec.command)).map(|spec| {
        let found = format!("{}/{}: {:?} cannot be run", spec.group, spec.instance, spec.command);
        Finding::fail("worker command", found, "install it, make it executable, or name its path")
    });
    let bad: Vec<_> = bad.collect();
    if bad.is_empty() && !hive.workers.is_empty() {
        let found = format!("all {} can be run", hive.workers.len());
        return vec![Finding::ok("worker command", found)];
    }
    bad
}

fn can_run(command: &str) -> bool {
    let runs = |path: &Path| path.is_file() && access(path, AccessFlags::X_OK).is_ok();
    if command == "rbee" || command.contains('/') {
        return command == "rbee" || runs(Path::new(command));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| runs(&dir.join(command)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects")]
    use super::*;
    use crate::doctor::Mark;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_state_dir_that_others_can_write_to_is_told_with_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(state_dir(&dir.path().join("a/b")).mark, Mark::Ok);
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let finding = state_dir(dir.path());
        assert_eq!(finding.mark, Mark::Fail);
        assert!(finding.found.contains("0777"), "{finding:?}");
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(state_dir(&file).mark, Mark::Fail);
        assert_eq!(state_dir(&file.join("below")).mark, Mark::Fail);
    }

    #[test]
    fn a_plain_directory_is_no_cgroup_tree_and_matters_where_one_is_required() {
        let dir = tempfile::tempdir().unwrap();
        let of = |mode| CgroupSettings { mode, root: Some(dir.path().into()), slice: "s".into() };
        assert_eq!(cgroup(&of(CgroupMode::Auto))[0].mark, Mark::Warn);
        assert_eq!(cgroup(&of(CgroupMode::Require))[0].mark, Mark::Fail);
        assert_eq!(cgroup(&of(CgroupMode::Off))[0].mark, Mark::Ok);
        assert_eq!(missing_controllers("cpuset cpu io\n"), ["memory", "pids"]);
    }

    #[test]
    fn a_program_is_looked_for_where_the_hive_would() {
        assert!(can_run("sh") && can_run("/bin/sh") && can_run("rbee"));
        assert!(!can_run("no-such-program") && !can_run("/etc/passwd") && !can_run("/"));
    }
}
