//! Our own children, and the orphans that come to us.
//!
//! The hive is the child subreaper: a grandchild whose parent dies becomes its child, and would stay
//! a zombie if nobody waited for it. Invariant: each child that somebody here waits for is in
//! `OWNED` from before it can end until it is reaped; every other zombie is an orphan's.

use nix::{
    errno::Errno,
    sys::{
        prctl,
        wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid},
    },
    unistd::Pid,
};
use std::{
    collections::HashSet,
    io,
    process::{Child, Command},
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
};

static OWNED: LazyLock<Mutex<HashSet<u32>>> = LazyLock::new(Mutex::default);

fn owned() -> MutexGuard<'static, HashSet<u32>> {
    OWNED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes this process the one that orphans of its descendants come to.
pub fn adopt_orphans() -> io::Result<()> {
    Ok(prctl::set_child_subreaper(true)?)
}

/// What our own settings in the environment begin with. They may hold tokens.
const OWN_VARIABLES: &str = "RBEE_";

/// Starts a child that its starter waits for. Nobody else reaps it before [`forget`]. Our own settings
/// are not in its environment.
pub(super) fn spawn_owned(command: &mut Command) -> io::Result<Child> {
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(OWN_VARIABLES.as_bytes()) {
            command.env_remove(name);
        }
    }
    let mut owned = owned();
    let child = command.spawn()?;
    owned.insert(child.id());
    Ok(child)
}

/// The child has been reaped, or is to be treated as an orphan.
pub(super) fn forget(pid: u32) {
    owned().remove(&pid);
    reap_orphans();
}

/// Reaps every zombie that nobody here waits for. To be called on SIGCHLD; an owned zombie at the
/// head of the kernel's queue hides those behind it, which is why it is called again once that is reaped.
pub fn reap_orphans() -> usize {
    let owned = owned();
    let mut reaped = 0;
    while let Some(pid) = next_zombie() {
        let ours = u32::try_from(pid.as_raw()).is_ok_and(|pid| owned.contains(&pid));
        if ours || waitpid(pid, Some(WaitPidFlag::WNOHANG)).is_err() {
            break;
        }
        reaped += 1;
    }
    reaped
}

fn next_zombie() -> Option<Pid> {
    let peek = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    loop {
        match waitid(Id::All, peek) {
            Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..)) => return Some(pid),
            Err(Errno::EINTR) => {}
            _ => return None,
        }
    }
}
