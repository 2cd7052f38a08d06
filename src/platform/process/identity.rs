//! A process by PID and start time. PIDs are used again, the pair is not within one boot.

use super::{clock, table::ProcessEntry};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use serde::{Deserialize, Serialize};
use std::{
    io,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// Process id.
    pub pid: u32,
    /// `starttime` of `/proc/PID/stat`: ticks since boot.
    pub start_ticks: u64,
}

impl Identity {
    /// Of the process that has this PID now.
    pub fn of(pid: u32) -> io::Result<Self> {
        let entry = ProcessEntry::read("/proc".as_ref(), pid)?;
        Ok(entry.identity)
    }

    /// How long it has run.
    pub fn uptime(&self) -> Duration {
        clock::since_boot().saturating_sub(clock::ticks(self.start_ticks))
    }

    /// A descriptor of exactly this process: ESRCH if its PID has passed to another.
    pub fn open(&self) -> io::Result<OwnedFd> {
        let gone = || io::Error::from(rustix::io::Errno::SRCH);
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw).ok_or_else(gone)?;
        let fd = pidfd_open(pid, PidfdFlags::NONBLOCK)?;
        // Looked at with the descriptor in hand, so that what is seen is what is held.
        if Self::of(self.pid)? == *self { Ok(fd) } else { Err(gone()) }
    }

    /// Whether it runs; a zombie does not.
    pub fn is_running(&self) -> bool {
        let entry = ProcessEntry::read("/proc".as_ref(), self.pid);
        entry.is_ok_and(|entry| entry.identity == *self && !entry.is_zombie())
    }

    /// Signals exactly this process. That it is gone is no error.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let sent = self.open().and_then(|fd| Ok(pidfd_send_signal(fd, signal)?));
        match sent {
            Err(error) if is_gone(&error) => Ok(()),
            other => other,
        }
    }
}

/// Kills all of these, and returns when they have ended or the time is up.
pub fn kill_and_wait(processes: &[Identity], at_most: Duration) {
    let deadline = Instant::now() + at_most;
    // All are signalled before any is waited for; one that cannot be opened has ended.
    let held: Vec<OwnedFd> = processes.iter().filter_map(|process| process.open().ok()).collect();
    for pidfd in &held {
        let _ = pidfd_send_signal(pidfd, Signal::KILL);
    }
    for pidfd in &held {
        let left = deadline.saturating_duration_since(Instant::now());
        let Ok(timeout) = Timespec::try_from(left) else { return };
        let _ = poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&timeout));
    }
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects")]
    use super::*;

    #[test]
    fn a_pid_with_another_start_time_is_another_process() {
        let me = Identity::of(std::process::id()).unwrap();
        assert!(me.is_running() && me.open().is_ok());
        let other = Identity { start_ticks: me.start_ticks + 1, ..me };
        assert!(!other.is_running() && other.open().is_err());
        assert!(other.signal(Signal::TERM).is_ok(), "it must not reach this process");
    }

    #[test]
    fn the_killed_have_ended_when_it_returns_and_the_gone_are_not_waited_for() {
        let mut sleeper = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let sleeping = Identity::of(sleeper.id()).unwrap();
        let gone = Identity { start_ticks: sleeping.start_ticks + 1, ..sleeping };
        let start = Instant::now();
        kill_and_wait(&[gone, sleeping], Duration::from_secs(10));
        assert!(!sleeping.is_running() && start.elapsed() < Duration::from_secs(5));
        sleeper.wait().unwrap();
    }
}
