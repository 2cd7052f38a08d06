//! The directories of our slice: `{root}/{slice}/{group}/{instance}`, the last one made anew for
//! each run of a worker, so that its peaks and counts are that run's own.

use super::{
    parse::oom_kills,
    room::{enable_controllers, enable_controllers_making_room, shortfall},
};
use crate::platform::{
    kept_file::{KeptFile, read_once},
    limits::CPU_PERIOD_USEC,
};
use rustix::fs::{FlockOperation, flock};
use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use thiserror::Error;

/// How long a killed cgroup may take to be empty. A process in uninterruptible sleep can outlast it.
const EMPTY_WITHIN: Duration = Duration::from_secs(10);

/// Nested cgroups deeper than this are not followed.
const DEPTH_MAX: usize = 16;

/// What failed, where.
#[derive(Debug, Error)]
#[error("cannot {operation} {}", .path.display())]
pub struct CgroupError {
    operation: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl CgroupError {
    pub(super) fn at(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self { operation, path, source }
    }

    /// Whether it is a limit of the tree that was reached: with fewer cgroups in it, it would have worked.
    pub fn is_exhausted(&self) -> bool {
        self.source.kind() == io::ErrorKind::WouldBlock
    }
}

/// What a run may use; `None`: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Microseconds per [`CPU_PERIOD_USEC`].
    pub cpu_quota_usec: Option<u64>,
    /// Bytes.
    pub memory_max_bytes: Option<u64>,
}

/// Our slice of the tree.
#[derive(Clone, Debug)]
pub struct CgroupTree {
    slice: PathBuf,
    root: PathBuf,
    /// Held open for [`CgroupTree::lock`].
    dir: Arc<File>,
    /// A group's directory must not go while a worker's is made in it.
    changing: Arc<Mutex<()>>,
}

impl CgroupTree {
    /// Takes `{root}/{slice}` for ours, making it if need be. Fails where the tree is not writable. A
    /// process that is in `root` itself is moved to `{root}/{slice}-hive`, if nothing else will do.
    pub fn open(root: PathBuf, slice: &str) -> Result<Self, CgroupError> {
        enable_controllers_making_room(&root, &format!("{slice}-hive"))?;
        let slice = root.join(slice);
        make_dir(&slice)?;
        enable_controllers(&slice);
        let dir = File::open(&slice).map_err(CgroupError::at("open", &slice))?;
        let tree = Self { slice, root, dir: Arc::new(dir), changing: Arc::default() };
        tree.prove_writable()?;
        Ok(tree)
    }

    /// A directory that exists may still be someone else's.
    fn prove_writable(&self) -> Result<(), CgroupError> {
        let probe = self.slice.join(format!("probe-{}", std::process::id()));
        make_dir(&probe)?;
        fs::remove_dir(&probe).map_err(CgroupError::at("remove", &probe))
    }

    /// `{root}/{slice}`
    pub fn slice(&self) -> &Path {
        &self.slice
    }

    /// Takes the slice for this process, as long as a clone of this lives. `false`: another has it.
    pub fn lock(&self) -> bool {
        flock(&*self.dir, FlockOperation::NonBlockingLockExclusive).is_ok()
    }

    /// The controllers that runs get.
    pub fn controllers(&self) -> Vec<String> {
        let enabled = read_once(&self.slice.join("cgroup.subtree_control")).unwrap_or_default();
        enabled.split_ascii_whitespace().map(str::to_owned).collect()
    }

    /// Which controllers runs do not get, why, and what to do about it, in one line; `None`: they get all.
    pub fn shortfall(&self) -> Option<String> {
        shortfall(&self.root, &self.slice)
    }

    /// What is there already: `(group, instance)` of each directory.
    pub fn list(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for group in child_names(&self.slice) {
            for instance in child_names(&self.slice.join(&group)) {
                found.push((group.clone(), instance));
            }
        }
        found
    }

    /// The directory of a worker, whether it is there or not.
    pub fn run(&self, group: &str, instance: &str) -> RunCgroup {
        RunCgroup { path: self.slice.join(group).join(instance) }
    }

    /// Makes a fresh directory for a run and writes its limits. What an earlier run left is
    /// removed first; one that still has processes is an error.
    pub fn create(&self, group: &str, instance: &str) -> Result<RunCgroup, CgroupError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let parent = self.slice.join(group);
        make_dir(&parent)?;
        enable_controllers(&parent);
        let run = self.run(group, instance);
        if let Err(error) = run.remove().and_then(|()| make_dir(&run.path)) {
            // Fails where another worker is in it.
            let _ = fs::remove_dir(&parent);
            return Err(error);
        }
        Ok(run)
    }

    /// Removes our slice, unless something is left in it.
    pub fn remove_if_empty(&self) {
        let _ = fs::remove_dir(&self.slice);
    }

    /// Removes the group's directory, unless another worker has it.
    pub fn remove_group_if_empty(&self, group: &str) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = fs::remove_dir(self.slice.join(group));
    }
}

/// One run's directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunCgroup {
    path: PathBuf,
}

impl RunCgroup {
    pub(super) fn at(path: &Path) -> Self {
        Self { path: path.to_path_buf() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file that a process writes `0` to, to move itself here.
    pub fn procs_file(&self) -> PathBuf {
        self.path.join("cgroup.procs")
    }

    /// Whether it is there.
    pub fn exists(&self) -> bool {
        self.path.is_dir()
    }

    /// Writes the limits. `None` when none was asked for, else whether all of them are in force.
    pub fn apply(&self, limits: Limits) -> Option<bool> {
        // A half-dead engine is worse than a dead one: the tree goes as a whole.
        let _ = fs::write(self.path.join("memory.oom.group"), "1");
        let cpu = limits
            .cpu_quota_usec
            .map(|quota| self.set("cpu.max", &format!("{quota} {CPU_PERIOD_USEC}")));
        let memory =
            limits.memory_max_bytes.map(|bytes| self.set("memory.max", &bytes.to_string()));
        match (cpu, memory) {
            (None, None) => None,
            (cpu, memory) => Some(cpu.unwrap_or(true) && memory.unwrap_or(true)),
        }
    }

    /// The file is never created: where the controller is missing there is none.
    fn set(&self, file: &str, value: &str) -> bool {
        let open = fs::OpenOptions::new().write(true).open(self.path.join(file));
        open.and_then(|mut file| io::Write::write_all(&mut file, value.as_bytes())).is_ok()
    }

    /// Every process in it and in what it made below.
    pub fn pids(&self) -> Vec<u32> {
        let mut pids = Vec::new();
        collect_pids(&self.path, DEPTH_MAX, &mut pids);
        pids
    }

    /// Processes that the kernel killed for memory; `None` without a memory controller.
    pub fn oom_kills(&self) -> Option<u64> {
        oom_kills(&read_once(&self.path.join("memory.events")).ok()?)
    }

    /// The most memory it ever held, bytes; `None` without a memory controller or on an old kernel.
    pub fn memory_peak_bytes(&self) -> Option<u64> {
        read_once(&self.path.join("memory.peak")).ok()?.trim().parse().ok()
    }

    /// Lets it go on if it was frozen: a frozen process hears no signal but the last.
    pub fn thaw(&self) {
        self.set("cgroup.freeze", "0");
    }

    /// Kills everything in it, at once and for good, and waits until it is empty.
    /// Blocks; not for an actor's thread.
    pub fn kill(&self) -> Result<(), CgroupError> {
        let file = self.path.join("cgroup.kill");
        match fs::write(&file, "1") {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.exists() => {
                return Ok(());
            }
            other => other.map_err(CgroupError::at("write", &file))?,
        }
        self.wait_until_empty().map_err(CgroupError::at("empty", &self.path))
    }

    /// The kernel tells when the last process has left.
    fn wait_until_empty(&self) -> io::Result<()> {
        let deadline = Instant::now() + EMPTY_WITHIN;
        let events = KeptFile::open(&self.path.join("cgroup.events"))?;
        while events.read(|text| text.lines().any(|line| line == "populated 1"))? {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "processes are left"));
            }
            events.wait_for_change(left)?;
        }
        Ok(())
    }

    /// Removes it and what is below. That it is not there is no error.
    pub fn remove(&self) -> Result<(), CgroupError> {
        remove_tree(&self.path, DEPTH_MAX).map_err(CgroupError::at("remove", &self.path))
    }
}

pub(super) fn make_dir(path: &Path) -> Result<(), CgroupError> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            let full = "a cgroup above it is at its cgroup.max.descendants or cgroup.max.depth";
            Err(CgroupError::at("create", path)(io::Error::new(error.kind(), full)))
        }
        other => other.map_err(CgroupError::at("create", path)),
    }
}

fn child_names(path: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
    entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

fn collect_pids(path: &Path, depth: usize, pids: &mut Vec<u32>) {
    let text = read_once(&path.join("cgroup.procs")).unwrap_or_default();
    pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
    if depth > 0 {
        for child in child_names(path) {
            collect_pids(&path.join(child), depth - 1, pids);
        }
    }
}

fn remove_tree(path: &Path, depth: usize) -> io::Result<()> {
    if depth > 0 {
        for child in child_names(path) {
            remove_tree(&path.join(child), depth - 1)?;
        }
    }
    match fs::remove_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
