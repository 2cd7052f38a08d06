//! Starts workers, keeps them as they are meant to be, and ends them. The one writer of what a hive
//! says about its workers.
//!
//! What happens to a worker is decided by its [`lifecycle`]; this actor carries out the effects and
//! turns what the world does into events. All that blocks is done off its thread and comes back as a
//! message that names the run it is about; one about an earlier run is dropped.

mod adopt;
mod archive;
mod effects;
mod errors;
pub mod lifecycle;
mod messages;
mod model;
mod monitors;
mod probe;
mod record;
mod restart;
mod rolling;
mod run;
mod runs;
mod worker;

pub use archive::Archive;
pub use errors::{SpawnRefusal, WorkerCommandError};
pub use messages::{
    DrainWorker, Reload, RestartWorker, ResumeWorker, Shutdown, SpawnWorker, StopWorker,
};
pub use record::Origin;
pub use run::{LaunchError, base_environment, chain as error_chain};

use super::{
    heartbeat_sender::TellQueen,
    hive_board::{HiveBoard, RunNumber, WorkerName},
};
use crate::{
    contract::WorkerSpec,
    platform::{
        cgroup::CgroupTree,
        log_file::{LogDir, LogFile},
        process::TableCache,
        sampler::{Sample, SampledRun},
    },
};
use actix::prelude::*;
use rolling::RollingRestart;
use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::Arc,
    time::Duration,
};
use tokio::sync::{Semaphore, oneshot};
use worker::Worker;

/// Runs that are made or ended at the same moment: each holds a thread while it blocks.
const JOBS_AT_ONCE: usize = 16;

/// Opens what a monitor reads.
pub type OpenSampler =
    Box<dyn Fn(&WorkerName, SampledRun<'_>) -> io::Result<Box<dyn Sample>> + Send>;

/// What the spawner works with. Plain values and handles.
pub struct SpawnerConfig {
    /// A monitor's tick, unless its worker has its own.
    pub sample_interval: Duration,
    /// How a run is sampled: through the kernel's files, outside of tests.
    pub open_sampler: OpenSampler,
    /// Our slice; `None`: plain spawns.
    pub tree: Option<CgroupTree>,
    /// Where logs are.
    pub logs: LogDir,
    /// What workers' environments start from.
    pub base_env: Arc<BTreeMap<String, String>>,
    /// How long a worker that is to have certain GPUs waits until it is known which there are.
    pub gpu_timeout: Duration,
    /// File limits that the hive was started with.
    pub open_files: Option<(u64, u64)>,
    /// Where workers are written down.
    pub archive: Archive,
    /// What is written there already, and the workers of the configuration.
    pub records: Vec<(String, String, io::Result<String>)>,
    /// `[[hive.workers]]`
    pub wanted: Vec<WorkerSpec>,
}

/// See the module.
pub struct SpawnerActor {
    config: SpawnerConfig,
    board: Arc<HiveBoard>,
    queen: Recipient<TellQueen>,
    monitors: ArbiterHandle,
    loads: ArbiterHandle,
    table: Arc<TableCache>,
    client: awc::Client,
    workers: HashMap<WorkerName, Worker>,
    last_run: RunNumber,
    jobs: Arc<Semaphore>,
    /// Once told to end, nothing is started any more.
    ending: bool,
    ended: Option<oneshot::Sender<()>>,
    rolling: RollingRestart,
}

impl SpawnerActor {
    /// To be made on the arbiter that it lives on. Monitors live on `monitors`,
    /// who asks engines for their load on `loads`.
    pub fn new(
        config: SpawnerConfig,
        board: Arc<HiveBoard>,
        queen: Recipient<TellQueen>,
        monitors: ArbiterHandle,
        loads: ArbiterHandle,
    ) -> Self {
        /// A scan of /proc is shared by all monitors that tick within this time.
        const SCAN_AGE: Duration = Duration::from_millis(200);
        Self {
            config,
            board,
            queen,
            monitors,
            loads,
            table: Arc::new(TableCache::new("/proc", SCAN_AGE)),
            client: awc::Client::builder().disable_redirects().finish(),
            workers: HashMap::new(),
            last_run: 0,
            jobs: Arc::new(Semaphore::new(JOBS_AT_ONCE)),
            ending: false,
            ended: None,
            rolling: RollingRestart::default(),
        }
    }

    fn log_of(&self, name: &WorkerName) -> LogFile {
        self.config.logs.of(&name.group, &name.instance)
    }

    fn next_run(&mut self) -> RunNumber {
        self.last_run += 1;
        self.last_run
    }

    /// Runs `job` off this thread, a bounded number at a time, and hands its result to `then`.
    /// A job that panics gives `None`.
    fn off_thread<T: Send + 'static>(
        &self,
        ctx: &mut Context<Self>,
        job: impl FnOnce() -> T + Send + 'static,
        then: impl FnOnce(Option<T>, &mut Self, &mut Context<Self>) + 'static,
    ) {
        let jobs = Arc::clone(&self.jobs);
        let work = async move {
            let _turn = jobs.acquire_owned().await.ok()?;
            tokio::task::spawn_blocking(job).await.ok()
        };
        ctx.spawn(work.into_actor(self).map(then));
    }

    /// Once nobody runs any more, whoever waits for the end is told.
    fn check_end(&mut self) {
        let busy = self.workers.values().any(Worker::has_processes);
        if !busy && let Some(done) = self.ended.take() {
            let _ = done.send(());
        }
    }
}

impl Actor for SpawnerActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.watch_orphans(ctx);
        self.adopt_what_runs(ctx);
    }
}

#[cfg(test)]
mod tests;
