//! The limit of open files. A hive keeps several open for each worker, a queen one for each connection;
//! what a daemon is started with is for programs that need few.

use crate::limits::HIVE_WORKERS_MAX;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Files that a hive keeps open for a worker.
const A_WORKER: u64 = 10;
/// Files that a daemon keeps open for itself.
const OWN: u64 = 1_024;
/// For as many workers as there may be.
const WANTED: u64 = HIVE_WORKERS_MAX as u64 * A_WORKER + OWN;

/// The limit now, and before.
#[derive(Clone, Copy, Debug)]
pub(super) struct OpenFiles {
    now: u64,
    /// Soft and hard, as this process was started with; its workers get that. `None`: not known.
    pub(super) started_with: Option<(u64, u64)>,
}

/// Raises the limit as far as this process may.
pub(super) fn raise() -> OpenFiles {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return OpenFiles { now: WANTED, started_with: None };
    };
    // Beyond its hard limit only a privileged process gets: what it has is what others make do with.
    let tries = [hard.max(WANTED), hard];
    let got = tries.into_iter().find(|n| setrlimit(Resource::RLIMIT_NOFILE, *n, *n).is_ok());
    OpenFiles { now: got.unwrap_or(soft), started_with: Some((soft, hard)) }
}

impl OpenFiles {
    /// Tells how many workers the limit allows, where that is less than there may be.
    pub(super) fn warn_if_few(self) {
        if self.now < WANTED {
            let workers = self.now.saturating_sub(OWN) / A_WORKER;
            tracing::warn!(
                open_files = self.now,
                workers,
                "the limit of open files allows so many workers; raise it (ulimit -Hn, LimitNOFILE=) for more"
            );
        }
    }
}
