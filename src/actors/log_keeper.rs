//! Keeps workers' logs from filling the disk, on a tick of its own and off every actor's thread.

use crate::platform::log_file::LogDir;
use actix::prelude::*;
use std::{collections::HashSet, path::PathBuf, time::Duration};

/// Between two looks at all logs.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Debug)]
pub struct LogKeeper {
    logs: LogDir,
    /// Those that could not be cut when it last looked: each is told once.
    failed: HashSet<PathBuf>,
}

impl LogKeeper {
    /// Looks at the logs that are known there.
    pub fn new(logs: LogDir) -> Self {
        Self { logs, failed: HashSet::new() }
    }

    fn look(&mut self, ctx: &mut Context<Self>) {
        let logs = self.logs.clone();
        let cut = tokio::task::spawn_blocking(move || logs.cap_all());
        ctx.spawn(cut.into_actor(self).map(|failed, keeper, ctx: &mut Context<Self>| {
            let failed = failed.unwrap_or_default();
            for (path, error) in &failed {
                if !keeper.failed.contains(path) {
                    tracing::warn!(path = %path.display(), %error, "cannot cut a log");
                }
            }
            keeper.failed = failed.into_iter().map(|(path, _)| path).collect();
            ctx.run_later(LOOK_EVERY, Self::look);
        }));
    }
}

impl Actor for LogKeeper {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.look(ctx);
    }
}
