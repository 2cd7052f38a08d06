//! Runs a program for what it prints, and is rid of it in time: whatever it does, its group is killed
//! when it ends, and at the deadline. Invariant: at most one such child at a time; one that not even SIGKILL ends (it
//! sleeps in the kernel) is waited for before another is started.

use super::children;
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::{
    io::{self, Read},
    os::{fd::OwnedFd, unix::process::CommandExt},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};
use thiserror::Error;

/// How long a killed child may take to be gone.
const REAPED_WITHIN: Duration = Duration::from_secs(1);

/// Why there is no output.
#[derive(Debug, Error)]
pub enum RunError {
    /// It could not be started.
    #[error("cannot start it")]
    Start(#[source] io::Error),
    /// Its output could not be read.
    #[error("cannot read its output")]
    Read(#[source] io::Error),
    /// It did not end in time and was killed.
    #[error("it did not end in time and was killed")]
    TimedOut,
    /// It printed more than is taken and was killed.
    #[error("it printed more than {0} bytes and was killed")]
    TooMuch(usize),
    /// The one before cannot be killed.
    #[error("the one before was killed and does not end")]
    Stuck,
    /// It said that it failed.
    #[error("it ended with {status}: {said}")]
    Failed {
        /// Its exit status.
        status: ExitStatus,
        /// What it printed.
        said: String,
    },
}

/// Runs one child at a time.
#[derive(Debug, Default)]
pub struct BoundedRunner {
    stuck: Option<Child>,
}

impl BoundedRunner {
    /// Runs `command` to its end and returns what it printed, `limit` bytes at most.
    pub fn run(
        &mut self,
        command: &mut Command,
        deadline: Instant,
        limit: usize,
    ) -> Result<String, RunError> {
        self.release_stuck()?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
        let mut child = children::spawn_owned(command).map_err(RunError::Start)?;
        let ended = read_to_end(&mut child, deadline, limit)
            .and_then(|printed| Ok((wait(&mut child, deadline)?, printed)));
        match ended {
            Ok((status, printed)) if status.success() => Ok(printed),
            Ok((status, said)) => Err(RunError::Failed { status, said: first_line(&said) }),
            Err(error) => {
                self.kill(child);
                Err(error)
            }
        }
    }

    fn release_stuck(&mut self) -> Result<(), RunError> {
        let Some(mut child) = self.stuck.take() else { return Ok(()) };
        if matches!(child.try_wait(), Ok(None)) {
            self.stuck = Some(child);
            return Err(RunError::Stuck);
        }
        children::forget(child.id());
        Ok(())
    }

    fn kill(&mut self, mut child: Child) {
        kill_group(&child);
        if wait(&mut child, Instant::now() + REAPED_WITHIN).is_err() {
            self.stuck = Some(child);
        }
    }
}

/// Of a child that was not reaped yet: till then its group's number is nobody else's.
fn kill_group(child: &Child) {
    if let Ok(group) = i32::try_from(child.id()) {
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
}

/// What it started and left behind holds its output open: that is killed as soon as it has ended itself.
fn read_to_end(child: &mut Child, deadline: Instant, limit: usize) -> Result<String, RunError> {
    let mut printed = Vec::new();
    let Some(mut pipe) = child.stdout.take() else { return Ok(String::new()) };
    let (ended, mut alive) = (end_of(child)?, true);
    let mut chunk = [0; 16 * 1024];
    loop {
        if alive {
            let both = [PollFd::new(&pipe, PollFlags::IN), PollFd::new(&ended, PollFlags::IN)];
            if await_any(both, deadline)? {
                kill_group(child);
                alive = false;
            }
        }
        await_any([PollFd::new(&pipe, PollFlags::IN)], deadline)?;
        match pipe.read(&mut chunk).map_err(RunError::Read)? {
            0 => return Ok(String::from_utf8_lossy(&printed).into_owned()),
            n if printed.len() + n > limit => return Err(RunError::TooMuch(limit)),
            n => printed.extend_from_slice(&chunk[..n]),
        }
    }
}

/// Its status, once it has ended; it is reaped then.
fn wait(child: &mut Child, deadline: Instant) -> Result<ExitStatus, RunError> {
    let ended = end_of(child)?;
    await_any([PollFd::new(&ended, PollFlags::IN)], deadline)?;
    kill_group(child);
    let status = child.wait().map_err(RunError::Read)?;
    children::forget(child.id());
    Ok(status)
}

/// Readable once the child has ended.
fn end_of(child: &Child) -> Result<OwnedFd, RunError> {
    let pid = rustix::process::Pid::from_child(child);
    let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty());
    pidfd.map_err(|error| RunError::Read(error.into()))
}

/// Waits until one of them has something. Whether the last one has.
fn await_any<const N: usize>(
    mut files: [PollFd<'_>; N],
    deadline: Instant,
) -> Result<bool, RunError> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(|_| RunError::TimedOut)?;
        match poll(&mut files, Some(&timeout)) {
            Ok(0) => return Err(RunError::TimedOut),
            Ok(_) if left.is_zero() => return Err(RunError::TimedOut),
            Ok(_) => return Ok(files.last().is_some_and(|file| !file.revents().is_empty())),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(RunError::Read(error.into())),
        }
    }
}

fn first_line(text: &str) -> String {
    const SHOWN: usize = 200;
    text.lines().find(|line| !line.trim().is_empty()).unwrap_or("").chars().take(SHOWN).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects")]
    use super::*;

    fn run(script: &str, within: Duration) -> Result<String, RunError> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        BoundedRunner::default().run(&mut command, Instant::now() + within, 100_000)
    }

    #[test]
    fn what_it_printed_comes_back_and_a_failure_says_why() {
        assert_eq!(run("echo a; echo b", Duration::from_secs(10)).unwrap(), "a\nb\n");
        let failed = run("echo broken driver; exit 9", Duration::from_secs(10)).unwrap_err();
        assert!(failed.to_string().ends_with("broken driver"), "{failed}");
    }

    /// Until no process has this argument any more.
    fn none_is_left(marker: &str) {
        let began = Instant::now();
        let left = || {
            let all = std::fs::read_dir("/proc").unwrap().flatten();
            all.filter(|entry| {
                let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
                line.split(|byte| *byte == 0).any(|argument| argument == marker.as_bytes())
            })
            .count()
        };
        while left() > 0 {
            assert!(began.elapsed() < Duration::from_secs(10), "its children are left");
            std::thread::yield_now();
        }
    }

    #[test]
    fn one_that_hangs_is_killed_with_its_children() {
        let began = Instant::now();
        let marker = format!("86397.{}", std::process::id());
        let script = format!("sleep {marker} & sleep {marker}");
        let killed = run(&script, Duration::from_millis(200));
        assert!(matches!(killed, Err(RunError::TimedOut)), "{killed:?}");
        assert!(began.elapsed() < Duration::from_secs(5));
        none_is_left(&marker);
    }

    #[test]
    fn what_one_leaves_behind_ends_with_it_whether_or_not_it_holds_the_output() {
        for redirected in [">/dev/null", ""] {
            let marker = format!("86395.{}{}", std::process::id(), redirected.len());
            let script = format!("sleep {marker} {redirected} & echo done");
            let began = Instant::now();
            assert_eq!(run(&script, Duration::from_secs(20)).unwrap(), "done\n");
            assert!(began.elapsed() < Duration::from_secs(10));
            none_is_left(&marker);
        }
    }

    #[test]
    fn one_that_floods_is_killed() {
        let flooded = run("yes", Duration::from_secs(10));
        assert!(matches!(flooded, Err(RunError::TooMuch(_))), "{flooded:?}");
    }

    #[test]
    fn one_that_closes_its_output_and_stays_is_killed() {
        let stays = run("exec >&-; sleep 86396", Duration::from_millis(200));
        assert!(matches!(stays, Err(RunError::TimedOut)), "{stays:?}");
    }
}
