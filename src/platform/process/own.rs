//! What this process costs itself, for whoever asks now and then.

use procfs::{page_size, process::Process, ticks_per_second};
use std::time::Duration;

/// From `/proc/self`.
#[derive(Clone, Copy, Debug)]
pub struct OwnFigures {
    /// Processor time of all threads.
    pub cpu: Duration,
    /// Resident memory.
    pub rss_bytes: u64,
    /// Open descriptors.
    pub open_fds: usize,
    /// Threads.
    pub threads: i64,
    /// When it began, Unix time.
    pub started_unix_s: f64,
}

/// `None` where /proc does not tell.
pub fn own_figures() -> Option<OwnFigures> {
    let own = Process::myself().ok()?;
    let stat = own.stat().ok()?;
    let seconds = |ticks: u64| ticks as f64 / ticks_per_second().max(1) as f64;
    Some(OwnFigures {
        cpu: Duration::from_secs_f64(seconds(stat.utime + stat.stime)),
        rss_bytes: stat.rss.saturating_mul(page_size()),
        open_fds: own.fd_count().ok()?,
        threads: stat.num_threads,
        started_unix_s: procfs::boot_time_secs().ok()? as f64 + seconds(stat.starttime),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_knows_itself() {
        let own = own_figures();
        assert!(own.is_some_and(|own| {
            own.rss_bytes > 0 && own.open_fds > 2 && own.threads > 0 && own.started_unix_s > 1e9
        }));
    }
}
