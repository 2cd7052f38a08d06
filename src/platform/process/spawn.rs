//! Starts a worker: our own binary again, which moves itself to where it belongs and then becomes
//! the worker. So no child of the worker can ever be outside its cgroup, nothing unsafe runs between
//! fork and exec, and starting stays as fast with a large hive as with a small one.

use super::{Identity, children};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read, Write},
    net::Shutdown,
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};
use thiserror::Error;

/// An exec that takes longer, on a dead network filesystem say, is given up.
const EXEC_TIMEOUT: Duration = Duration::from_secs(10);

/// What the shim is to do, in this order. Travels over a socket, so that no secret of the
/// environment is ever in an argument.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExecPlan {
    /// The program; a name without a slash is looked up in the PATH of `env`.
    pub command: String,
    /// Its arguments, without its name.
    pub args: Vec<String>,
    /// The whole environment.
    pub env: BTreeMap<String, String>,
    /// Working directory; `None`: ours.
    pub cwd: Option<String>,
    /// The file to write `0` to, to be in the cgroup.
    pub cgroup_procs: Option<PathBuf>,
    /// User to become.
    pub user: Option<String>,
    /// Soft and hard limit of open files; `None`: ours.
    pub open_files: Option<(u64, u64)>,
}

/// Where a start went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SpawnStage {
    /// Starting ourselves again.
    Shim,
    /// Moving into the cgroup.
    Cgroup,
    /// Becoming the user.
    User,
    /// Changing the directory.
    Cwd,
    /// Becoming the program.
    Exec,
}

/// Why a worker did not start.
#[derive(Debug, Error)]
#[error("cannot {}", match .stage {
    SpawnStage::Shim => "start a process",
    SpawnStage::Cgroup => "enter the cgroup",
    SpawnStage::User => "become the user",
    SpawnStage::Cwd => "enter the working directory",
    SpawnStage::Exec => "run the command",
})]
pub struct SpawnError {
    /// Where.
    pub stage: SpawnStage,
    /// Why.
    pub source: io::Error,
}

impl SpawnError {
    pub(super) fn at(stage: SpawnStage) -> impl FnOnce(io::Error) -> Self {
        move |source| Self { stage, source }
    }
}

/// The shim's last words.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ShimFailure {
    pub(super) stage: SpawnStage,
    pub(super) errno: Option<i32>,
    pub(super) message: String,
}

/// A worker's main process, exec'ed.
#[derive(Debug)]
pub struct Spawned {
    /// It.
    pub identity: Identity,
    /// Its descriptor, taken before anybody could have reaped it.
    pub pidfd: OwnedFd,
}

/// Starts `plan` with its output appended to `log`. Returns once the program runs, or did not.
/// Blocks for about a third of a millisecond; not for an actor's thread.
pub fn spawn(plan: &ExecPlan, log: &File) -> Result<Spawned, SpawnError> {
    let shim = SpawnError::at(SpawnStage::Shim);
    let (mut ours, theirs) = UnixStream::pair().map_err(shim)?;
    let pid = start_shim(theirs, log).map_err(SpawnError::at(SpawnStage::Shim))?;
    let outcome = converse(&mut ours, plan).and_then(|()| {
        let found =
            Identity::of(pid).and_then(|id| Ok(Spawned { identity: id, pidfd: id.open()? }));
        found.map_err(SpawnError::at(SpawnStage::Exec))
    });
    if outcome.is_err() {
        discard(pid);
    }
    outcome
}

fn start_shim(theirs: UnixStream, log: &File) -> io::Result<u32> {
    let mut command = Command::new("/proc/self/exe");
    command
        .arg(super::SHIM_ARGUMENT)
        .env_clear()
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::from(log.try_clone()?))
        .stderr(Stdio::from(log.try_clone()?));
    // Dropping the handle neither waits nor kills; whoever watches the PID does.
    children::spawn_owned(&mut command).map(|child| child.id())
}

/// The exec closes the shim's end: no words are good news.
fn converse(ours: &mut UnixStream, plan: &ExecPlan) -> Result<(), SpawnError> {
    let shim = |source| SpawnError { stage: SpawnStage::Shim, source };
    let text = serde_json::to_vec(plan).map_err(|error| shim(error.into()))?;
    ours.set_read_timeout(Some(EXEC_TIMEOUT)).map_err(shim)?;
    ours.set_write_timeout(Some(EXEC_TIMEOUT)).map_err(shim)?;
    ours.write_all(&text).and_then(|()| ours.shutdown(Shutdown::Write)).map_err(shim)?;
    let mut words = Vec::new();
    ours.read_to_end(&mut words)
        .map_err(|source| SpawnError { stage: SpawnStage::Exec, source })?;
    if words.is_empty() {
        return Ok(());
    }
    let failure: ShimFailure =
        serde_json::from_slice(&words).map_err(|error| shim(error.into()))?;
    let source = match failure.errno {
        Some(errno) => io::Error::from_raw_os_error(errno),
        None => io::Error::other(failure.message),
    };
    Err(SpawnError { stage: failure.stage, source })
}

/// Ends and reaps a shim that did not become the worker.
fn discard(pid: u32) {
    use nix::{sys::signal, sys::wait, unistd::Pid};
    if let Ok(raw) = i32::try_from(pid) {
        let _ = signal::kill(Pid::from_raw(raw), signal::Signal::SIGKILL);
        let _ = wait::waitpid(Pid::from_raw(raw), None);
    }
    children::forget(pid);
}
