//! Learning that a process ended, the moment it does: a pidfd turns readable.

use super::{Identity, children};
use nix::sys::signal::Signal as Named;
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};
use tokio::io::{Interest, unix::AsyncFd};

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// With this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// The kernel tells only the parent, and that was not us.
    Unknown,
}

/// `SIGKILL` for 9; `SIG34` where there is no name.
pub fn signal_name(number: i32) -> String {
    Named::try_from(number).map_or_else(|_| format!("SIG{number}"), |name| name.as_str().to_owned())
}

/// Waits for the end of one process, a child or not.
#[derive(Debug)]
pub struct ProcessWatch {
    identity: Identity,
    fd: AsyncFd<OwnedFd>,
}

impl ProcessWatch {
    /// Takes the descriptor of `identity`. Needs a tokio runtime around it.
    #[expect(
        deprecated,
        reason = "its successor is unsafe; an OwnedFd keeps its promise by itself"
    )]
    pub fn new(identity: Identity, pidfd: OwnedFd) -> io::Result<Self> {
        Ok(Self { identity, fd: AsyncFd::with_interest(pidfd, Interest::READABLE)? })
    }

    /// Whom it watches.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Returns once the process has ended, and has been reaped if it was our child.
    pub async fn ended(&self) -> ExitStatus {
        if self.fd.readable().await.is_err() {
            return ExitStatus::Unknown;
        }
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let waited = waitid(WaitId::PidFd(self.fd.get_ref().as_fd()), options);
        children::forget(self.identity.pid);
        match waited {
            Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => ExitStatus::Code(code),
                (None, Some(signal)) => ExitStatus::Signal(signal),
                (None, None) => ExitStatus::Unknown,
            },
            _ => ExitStatus::Unknown,
        }
    }

    /// Signals exactly this process. That it is gone is no error.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(self.fd.get_ref(), signal) {
            Err(rustix::io::Errno::SRCH) => Ok(()),
            other => Ok(other?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_their_names() {
        assert_eq!(signal_name(9), "SIGKILL");
        assert_eq!(signal_name(15), "SIGTERM");
        assert_eq!(signal_name(34), "SIG34");
    }
}
