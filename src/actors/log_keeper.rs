//! Keeps workers' logs from filling the disk, on a tick of its own and off every actor's thread.

use crate::platform::log_file::LogDir;
use actix::prelude::*;
use std::time::Duration;

/// Between two looks at all logs.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Debug)]
pub struct LogKeeper {
    logs: LogDir,
}

impl LogKeeper {
    /// Looks at the logs that are known there.
    pub fn new(logs: LogDir) -> Self {
        Self { logs }
    }

    fn look(&mut self, ctx: &mut Context<Self>) {
        let logs = self.logs.clone();
        let cut = tokio::task::spawn_blocking(move || logs.cap_all());
        ctx.spawn(cut.into_actor(self).map(|failed, _, ctx: &mut Context<Self>| {
            for (path, error) in failed.unwrap_or_default() {
                tracing::warn!(path = %path.display(), %error, "cannot cut a log");
            }
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
