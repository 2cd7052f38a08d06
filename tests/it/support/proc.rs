//! Processes as /proc shows them, read without the product's help so as to check it.

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
};

/// The parts of `/proc/PID/stat` that tests look at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stat {
    pub(crate) state: char,
    pub(crate) parent: u32,
    /// User and system time of the process, and of the children that it has waited for, in ticks.
    pub(crate) cpu_ticks: u64,
    /// Ticks between the machine's start and the process's.
    pub(crate) start_ticks: u64,
}

/// `None` once there is no such process.
pub(crate) fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything, so that counting starts after its last parenthesis.
    let (_, rest) = text.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(Stat {
        state: fields.first()?.chars().next()?,
        parent: number(1)? as u32,
        cpu_ticks: number(11)? + number(12)? + number(13)? + number(14)?,
        start_ticks: number(19)?,
    })
}

/// Whether there is such a process, a zombie included.
pub(crate) fn exists(pid: u32) -> bool {
    stat(pid).is_some()
}

/// Whether there is such a process and it is no zombie.
pub(crate) fn alive(pid: u32) -> bool {
    stat(pid).is_some_and(|stat| !matches!(stat.state, 'Z' | 'X'))
}

/// Every PID there is.
pub(crate) fn all() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The children of `pid`, zombies included.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    all().into_iter().filter(|p| stat(*p).is_some_and(|stat| stat.parent == pid)).collect()
}

/// The zombies among the children of `pid`.
pub(crate) fn zombies(pid: u32) -> Vec<u32> {
    let dead = |p: &u32| stat(*p).is_some_and(|stat| stat.state == 'Z');
    children(pid).into_iter().filter(dead).collect()
}

/// `pid` and all below it.
pub(crate) fn tree(pid: u32) -> HashSet<u32> {
    let parents: Vec<(u32, u32)> =
        all().into_iter().filter_map(|p| Some((p, stat(p)?.parent))).collect();
    let mut found = HashSet::from([pid]);
    loop {
        let size = found.len();
        let below = parents.iter().filter(|(_, parent)| found.contains(parent)).map(|(p, _)| *p);
        found.extend(below.collect::<Vec<_>>());
        if found.len() == size {
            return found;
        }
    }
}

/// Processes with `marker` as one of their arguments.
pub(crate) fn with_argument(marker: &str) -> HashSet<u32> {
    let marked = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|argument| argument == marker.as_bytes())
    };
    all().into_iter().filter(marked).collect()
}

/// Bytes that the processes caused to be written, from `write_bytes` in `/proc/PID/io`.
pub(crate) fn written_bytes(pids: impl IntoIterator<Item = u32>) -> u64 {
    let of_one = |pid| {
        let text = fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
        text.lines().find_map(|line| line.strip_prefix("write_bytes: "))?.trim().parse::<u64>().ok()
    };
    pids.into_iter().filter_map(of_one).sum()
}

/// `VmRSS` in MiB.
pub(crate) fn rss_mb(pid: u32) -> Option<f64> {
    status_mb(pid, "VmRSS:")
}

/// `VmHWM` in MiB: the most that `VmRSS` ever was.
pub(crate) fn peak_rss_mb(pid: u32) -> Option<f64> {
    status_mb(pid, "VmHWM:")
}

fn status_mb(pid: u32, name: &str) -> Option<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kb: f64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    Some(kb / 1024.0)
}

/// Clock ticks in a second.
pub(crate) fn ticks_per_second() -> f64 {
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK);
    ticks.ok().flatten().map_or(100.0, |ticks| ticks as f64)
}

/// Seconds since the process started, by the kernel's clock.
pub(crate) fn age_s(pid: u32) -> Option<f64> {
    let uptime = fs::read_to_string("/proc/uptime").ok()?;
    let uptime: f64 = uptime.split_ascii_whitespace().next()?.parse().ok()?;
    Some(uptime - stat(pid)?.start_ticks as f64 / ticks_per_second())
}

/// Sends a signal; that the process is gone already is fine.
pub(crate) fn signal(pid: u32, signal: Signal) {
    let _ = kill(Pid::from_raw(pid as i32), signal);
}

/// The threads of a process that have this name.
pub(crate) fn threads_named(pid: u32, name: &str) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let named = |tid: &u32| {
        let comm = fs::read_to_string(format!("/proc/{pid}/task/{tid}/comm"));
        comm.is_ok_and(|comm| comm.trim() == name)
    };
    tasks.filter_map(|task| task.file_name().to_str()?.parse().ok()).filter(named).collect()
}

/// Nanoseconds that a thread has had on a processor.
pub(crate) fn thread_cpu_ns(pid: u32, tid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{tid}/schedstat")).ok()?;
    text.split_ascii_whitespace().next()?.parse().ok()
}

/// A variable of a process's environment.
pub(crate) fn variable(pid: u32, name: &str) -> Option<String> {
    let all = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let all = String::from_utf8_lossy(&all).into_owned();
    let found = all.split('\0').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    found.map(str::to_owned)
}

/// Where cgroup v2 is mounted, if it is.
pub(crate) fn cgroup_mount() -> Option<PathBuf> {
    let text = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let of_v2 =
        |line: &&str| line.split(" - ").nth(1).is_some_and(|rest| rest.starts_with("cgroup2 "));
    let line = text.lines().find(of_v2)?;
    line.split(' ').nth(4).map(PathBuf::from)
}

/// The directory of the process's cgroup v2.
pub(crate) fn cgroup_of(pid: u32) -> Option<PathBuf> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(cgroup_mount()?.join(path))
}

/// Kills what is in the cgroup and removes it with all below it.
pub(crate) fn remove_cgroup(directory: &Path) {
    let _ = fs::write(directory.join("cgroup.kill"), "1");
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.path().is_dir()) {
        remove_cgroup(&entry.path());
    }
    // The kernel needs a moment to let go of what was killed.
    for _ in 0..100 {
        if fs::remove_dir(directory).is_ok() || !directory.exists() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}
