//! What takes time about a run: making it, looking at its end, ending what is left of it. Plain
//! functions that block for a moment; the spawner calls them off its own thread.

use super::{archive::Archive, record::RunRecord};
use crate::{
    actors::hive_board::{HiveBoard, WorkerName},
    contract::{Isolation, WorkerSpec},
    platform::{
        cgroup::{CgroupError, CgroupTree, Limits, RunCgroup},
        limits,
        log_file::LogFile,
        process::{
            ExecPlan, RUN_MARKER, SharedTracker, SpawnError, SpawnStage, Spawned, TableCache,
            kill_and_wait, reap_orphans, spawn,
        },
    },
};
use std::{
    collections::BTreeMap,
    fmt, io,
    sync::Arc,
    time::{Duration, Instant},
};
use thiserror::Error;

/// Lines of a worker's log that an exit record holds.
const EXIT_LOG_LINES: usize = 20;

/// How long a killed tree may take to be gone. A process in uninterruptible sleep can outlast it.
const GONE_WITHIN: Duration = Duration::from_secs(10);

/// Variables that are the hive's alone: its own settings, its tokens, its service manager's handles.
const NOT_FOR_WORKERS: [&str; 8] = [
    "CREDENTIALS_DIRECTORY",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "LISTEN_FDNAMES",
    "LISTEN_FDS",
    "LISTEN_PID",
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
];

/// The environment that every worker starts from: the hive's, less what is the hive's alone.
pub fn base_environment(own: impl Iterator<Item = (String, String)>) -> BTreeMap<String, String> {
    let mut env: BTreeMap<_, _> = own
        .filter(|(name, _)| !name.starts_with("RBEE_") && !NOT_FOR_WORKERS.contains(&&**name))
        .collect();
    // A worker's last words must not die in its buffer.
    env.entry("PYTHONUNBUFFERED".into()).or_insert_with(|| "1".into());
    env
}

/// Why a run did not come about.
#[derive(Debug, Error)]
pub enum LaunchError {
    /// Its process.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// Its cgroup.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// Its log.
    #[error("cannot open its log")]
    Log(#[source] io::Error),
    /// Its record.
    #[error("cannot write its state")]
    State(#[source] io::Error),
    /// A GPU that it is to have.
    #[error("GPU {0}")]
    Gpu(String),
    /// The job that makes it ended without a word.
    #[error("the start was interrupted")]
    Interrupted,
}

impl LaunchError {
    /// The key of the spec that is to blame, if one is.
    pub fn field(&self) -> Option<&'static str> {
        match self {
            Self::Spawn(SpawnError { stage: SpawnStage::Exec, .. }) => Some("command"),
            Self::Spawn(SpawnError { stage: SpawnStage::Cwd, .. }) => Some("cwd"),
            Self::Spawn(SpawnError { stage: SpawnStage::User, .. }) => Some("user"),
            Self::Gpu(_) => Some("gpus"),
            _ => None,
        }
    }

    /// Whether a limit of the machine was reached, of cgroups, of processes, of open files or of the disk:
    /// later it may work.
    pub fn is_exhausted(&self) -> bool {
        match self {
            Self::Spawn(error) => is_lack(&error.source),
            Self::Cgroup(error) => error.is_exhausted(),
            Self::Log(error) | Self::State(error) => is_lack(error),
            _ => false,
        }
    }

    /// The whole chain in one line.
    pub fn chain(&self) -> String {
        chain(self)
    }
}

fn is_lack(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, StorageFull, WouldBlock};
    use nix::libc::{EMFILE, ENFILE};
    matches!(error.kind(), StorageFull | QuotaExceeded | WouldBlock)
        || matches!(error.raw_os_error(), Some(EMFILE | ENFILE))
}

/// An error and what caused it, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        fmt::Write::write_fmt(&mut text, format_args!(": {error}")).ok();
        source = error.source();
    }
    text
}

/// All that a run needs.
#[derive(Debug)]
pub struct LaunchOrder {
    /// The worker.
    pub name: WorkerName,
    /// What it is to be.
    pub spec: Arc<WorkerSpec>,
    /// Names the run in its environment.
    pub run_id: String,
    /// Where its output goes.
    pub log: LogFile,
    /// Our slice; `None`: a plain spawn.
    pub tree: Option<CgroupTree>,
    /// What its environment starts from.
    pub base_env: Arc<BTreeMap<String, String>>,
    /// Which GPUs there are.
    pub board: Arc<HiveBoard>,
    /// How long it may take until that is known.
    pub gpu_timeout: Duration,
    /// File limits that the hive was started with.
    pub open_files: Option<(u64, u64)>,
    /// Where it is written down, so that the next hive finds it.
    pub archive: Archive,
    /// What is written.
    pub record: super::record::WorkerRecord,
    /// Whether it is started all the same where that cannot be written.
    pub unrecorded_too: bool,
}

/// A run that came about.
#[derive(Debug)]
pub struct Launched {
    /// Its main process.
    pub spawned: Spawned,
    /// Its cgroup.
    pub cgroup: Option<RunCgroup>,
    /// Whether its limits are in force.
    pub limits_applied: Option<bool>,
}

/// Makes a run. It is written down before it is made, so that a hive that is killed at any moment loses
/// no worker: until its PID is written down too, its marker tells which process it is.
pub fn launch(mut order: LaunchOrder) -> Result<Launched, LaunchError> {
    let gpus = visible_gpus(&order)?;
    let limits = limits_of(&order.spec);
    let cgroup = match &order.tree {
        Some(tree) => Some(tree.create(&order.name.group, &order.name.instance)?),
        None => None,
    };
    let limits_applied = match &cgroup {
        Some(cgroup) => cgroup.apply(limits),
        None => (limits != Limits::default()).then_some(false),
    };
    let run = RunRecord {
        boot_id: crate::platform::process::boot_id(),
        run_id: order.run_id.clone(),
        main: None,
        isolation: if cgroup.is_some() { Isolation::Cgroup } else { Isolation::Plain },
        limits_applied,
        ready: false,
        draining: false,
    };
    let made = make(&mut order, run, cgroup.as_ref(), gpus);
    if made.is_err()
        && let Some(cgroup) = &cgroup
    {
        let _ = cgroup.remove();
        if let Some(tree) = &order.tree {
            tree.remove_group_if_empty(&order.name.group);
        }
    }
    Ok(Launched { spawned: made?, cgroup, limits_applied })
}

fn make(
    order: &mut LaunchOrder,
    run: RunRecord,
    cgroup: Option<&RunCgroup>,
    gpus: Option<String>,
) -> Result<Spawned, LaunchError> {
    let log = order.log.begin_run().map_err(LaunchError::Log)?;
    order.record.run = Some(run);
    match order.archive.write_now(&order.name, &order.record) {
        // It will be written once there is room.
        Err(_) if order.unrecorded_too => order.archive.write(&order.name, &order.record),
        written => written.map_err(LaunchError::State)?,
    }
    Ok(spawn(&plan(order, cgroup, gpus), &log)?)
}

/// The GPUs that it may see; `None`: all.
fn visible_gpus(order: &LaunchOrder) -> Result<Option<String>, LaunchError> {
    if order.spec.gpus.is_empty() {
        return Ok(None);
    }
    let there = order.board.gpus_once_told(order.gpu_timeout);
    there.resolve(&order.spec.gpus).map(Some).map_err(LaunchError::Gpu)
}

fn plan(order: &LaunchOrder, cgroup: Option<&RunCgroup>, gpus: Option<String>) -> ExecPlan {
    let spec = &order.spec;
    let mut env = (*order.base_env).clone();
    if let Some(user) = &spec.user
        && let Ok(Some(found)) = nix::unistd::User::from_name(user)
    {
        env.insert("USER".into(), user.clone());
        env.insert("LOGNAME".into(), user.clone());
        env.insert("HOME".into(), found.dir.to_string_lossy().into_owned());
        env.insert("SHELL".into(), found.shell.to_string_lossy().into_owned());
    }
    env.extend(spec.env.iter().map(|(name, value)| (name.clone(), value.clone())));
    if let Some(gpus) = gpus {
        // Where the name is an index, it is the driver's, not one by speed.
        env.insert("CUDA_DEVICE_ORDER".into(), "PCI_BUS_ID".into());
        env.insert("ROCR_VISIBLE_DEVICES".into(), gpus.clone());
        env.insert("CUDA_VISIBLE_DEVICES".into(), gpus);
    }
    env.insert(RUN_MARKER.into(), order.run_id.clone());
    ExecPlan {
        command: own_binary_or(&spec.command),
        args: spec.args.clone(),
        env,
        cwd: spec.cwd.clone(),
        cgroup_procs: cgroup.map(RunCgroup::procs_file),
        user: spec.user.clone(),
        open_files: order.open_files,
    }
}

/// `rbee` is this very binary, wherever it is.
fn own_binary_or(command: &str) -> String {
    if command != "rbee" {
        return command.to_owned();
    }
    let own = std::env::current_exe().ok();
    let there = own.filter(|path| path.exists()).and_then(|path| path.to_str().map(str::to_owned));
    there.unwrap_or_else(|| "/proc/self/exe".to_owned())
}

fn limits_of(spec: &WorkerSpec) -> Limits {
    Limits {
        cpu_quota_usec: spec.cpu_limit.as_deref().and_then(|s| limits::cpu_quota_usec(s).ok()),
        memory_max_bytes: spec.memory_limit.as_deref().and_then(|s| limits::memory_bytes(s).ok()),
    }
}

/// What is left to be learnt of a run that has ended.
#[derive(Debug, Default)]
pub struct Autopsy {
    /// Processes that the kernel killed for memory.
    pub oom_killed: Option<u64>,
    /// The most memory that it held, bytes, where the kernel counted.
    pub memory_peak_bytes: Option<u64>,
    /// Its last lines.
    pub log_tail: Vec<String>,
}

/// Looks before anything of the run is removed.
pub fn examine(cgroup: Option<&RunCgroup>, log: &LogFile) -> Autopsy {
    Autopsy {
        oom_killed: cgroup.and_then(RunCgroup::oom_kills),
        memory_peak_bytes: cgroup.and_then(RunCgroup::memory_peak_bytes),
        log_tail: log.tail_lines(EXIT_LOG_LINES),
    }
}

/// Before a run is told to end: notes who belongs to it, while parents still tell, and lets it hear what it
/// is told.
pub fn prepare_to_end(tracker: &SharedTracker, cgroup: Option<&RunCgroup>, processes: &TableCache) {
    if let Ok(table) = processes.get() {
        tracker.update(&table);
    }
    if let Some(cgroup) = cgroup {
        cgroup.thaw();
    }
}

/// Ends every process of a run, for good. Returns once none is left: in its cgroup, nor of its tree,
/// which may have moved elsewhere.
pub fn kill_tree(
    tracker: &SharedTracker,
    cgroup: Option<&RunCgroup>,
    processes: &TableCache,
) -> Result<(), LaunchError> {
    if let Some(cgroup) = cgroup {
        cgroup.kill()?;
    }
    kill_followed(tracker, processes)?;
    reap_orphans();
    Ok(())
}

/// And removes its cgroup.
pub fn clear(
    tracker: &SharedTracker,
    cgroup: Option<&RunCgroup>,
    tree: Option<&CgroupTree>,
    processes: &TableCache,
    name: &WorkerName,
) -> Result<(), LaunchError> {
    kill_tree(tracker, cgroup, processes)?;
    if let Some(cgroup) = cgroup {
        cgroup.remove()?;
    }
    if let Some(tree) = tree {
        tree.remove_group_if_empty(&name.group);
    }
    Ok(())
}

/// Whoever is found is killed, until nobody is: a process that forks meanwhile is found next time.
fn kill_followed(tracker: &SharedTracker, processes: &TableCache) -> Result<(), SpawnError> {
    let deadline = Instant::now() + GONE_WITHIN;
    let failed = |source| SpawnError { stage: SpawnStage::Shim, source };
    loop {
        let table = processes.get_since(Instant::now()).map_err(failed)?;
        let running = tracker.update(&table);
        if running.is_empty() {
            return Ok(());
        }
        let left_time = deadline.saturating_duration_since(Instant::now());
        if left_time.is_zero() {
            let left = match running.len() {
                1 => "a process is left".to_owned(),
                n => format!("{n} processes are left"),
            };
            return Err(failed(io::Error::new(io::ErrorKind::TimedOut, left)));
        }
        kill_and_wait(&running, left_time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hives_own_secrets_are_not_in_a_workers_environment() {
        let own = [
            ("RBEE__HIVE__QUEEN_TOKEN_FILE", "x"),
            ("RBEE_TOKEN", "secret"),
            ("NOTIFY_SOCKET", "/run/x"),
            ("PATH", "/bin"),
        ];
        let env = base_environment(own.map(|(k, v)| (k.to_owned(), v.to_owned())).into_iter());
        let names: Vec<_> = env.keys().map(String::as_str).collect();
        assert_eq!(names, ["PATH", "PYTHONUNBUFFERED"]);
    }
}
