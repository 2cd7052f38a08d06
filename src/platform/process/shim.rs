//! The other side of a spawn: this very binary, between fork and the worker's program.
//!
//! It runs before anything else of the daemon does: no runtime, no log, one thread. Its standard
//! input is a socket on which the plan comes and the failure goes; its output is the worker's log.

use super::spawn::{ExecPlan, ShimFailure, SpawnError, SpawnStage};
use nix::{
    sys::{
        prctl,
        resource::{Resource, setrlimit},
    },
    unistd::{User, dup2_stdin, initgroups, setgid, setsid, setuid},
};
use std::{
    ffi::CString,
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::{net::UnixStream, process::CommandExt},
    process::{Command, ExitCode},
};

/// The first argument that makes this binary the shim.
pub const SHIM_ARGUMENT: &str = "__exec";

/// The exit code of a shim that did not become its program, as of a shell.
const NOT_RUN: u8 = 127;

/// Does what the plan says. Returns only when that failed.
pub fn run_shim() -> ExitCode {
    let Ok(mut socket) = take_stdin() else { return ExitCode::from(NOT_RUN) };
    let failure = match read_plan(&mut socket).and_then(|plan| become_worker(&plan)) {
        Ok(never) => match never {},
        Err(failure) => failure,
    };
    let words = ShimFailure {
        stage: failure.stage,
        errno: failure.source.raw_os_error(),
        message: failure.source.to_string(),
    };
    if let Ok(text) = serde_json::to_vec(&words) {
        let _ = socket.write_all(&text);
    }
    ExitCode::from(NOT_RUN)
}

/// Moves the socket to a descriptor that the exec closes, and puts /dev/null in its place.
fn take_stdin() -> io::Result<UnixStream> {
    let stdin = io::stdin();
    let moved = rustix::io::fcntl_dupfd_cloexec(&stdin, 3)?;
    dup2_stdin(File::open("/dev/null")?)?;
    Ok(UnixStream::from(moved))
}

fn read_plan(socket: &mut UnixStream) -> Result<ExecPlan, SpawnError> {
    let shim = |source| SpawnError { stage: SpawnStage::Shim, source };
    let mut text = Vec::new();
    socket.read_to_end(&mut text).map_err(shim)?;
    serde_json::from_slice(&text).map_err(|error| shim(error.into()))
}

fn become_worker(plan: &ExecPlan) -> Result<std::convert::Infallible, SpawnError> {
    // First of all: whatever is started from here on is inside.
    if let Some(file) = &plan.cgroup_procs {
        fs::write(file, "0").map_err(SpawnError::at(SpawnStage::Cgroup))?;
    }
    // A session of its own: the terminal's signals are not for it, and its tree can be told by it.
    setsid().map_err(|errno| SpawnError { stage: SpawnStage::Shim, source: errno.into() })?;
    if let Some((soft, hard)) = plan.open_files {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, soft, hard);
    }
    if let Some(user) = &plan.user {
        become_user(user).map_err(SpawnError::at(SpawnStage::User))?;
    }
    if let Some(cwd) = &plan.cwd {
        std::env::set_current_dir(cwd).map_err(SpawnError::at(SpawnStage::Cwd))?;
    }
    let mut command = Command::new(&plan.command);
    command.args(&plan.args).env_clear().envs(&plan.env);
    Err(SpawnError { stage: SpawnStage::Exec, source: command.exec() })
}

/// Groups first: without root they could not be set any more.
fn become_user(name: &str) -> io::Result<()> {
    let missing = || io::Error::new(io::ErrorKind::NotFound, format!("no user {name}"));
    let user = User::from_name(name)?.ok_or_else(missing)?;
    initgroups(&CString::new(name)?, user.gid)?;
    setgid(user.gid)?;
    setuid(user.uid)?;
    Ok(prctl::set_no_new_privs()?)
}
