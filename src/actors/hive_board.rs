//! What a hive knows of its workers, for whoever reads: the API and the heartbeat.
//!
//! Each writer has its own part of it: the spawner says what a worker is, its monitor what it uses, its
//! engine's page how busy it is; the machine's figures are the node monitor's, its GPUs the GPU sampler's.
//! Figures and load count only for the run that they were taken of.

mod report;

use super::{
    engine_load::EngineLoad,
    gpu_sampler::GpuView,
    rates::{Counted, Figures},
};
use crate::{
    contract::{Age, ExitRecord, Isolation, NodeStats, WorkerReport, WorkerSpec, WorkerState},
    platform::process::Identity,
};
use arc_swap::ArcSwap;
use dashmap::{DashMap, mapref::multiple::RefMulti};
use report::report;
use std::{
    fmt,
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// An engine's load is not told any more when it has not been heard for this long.
const LOAD_COUNTS_FOR: Duration = Duration::from_secs(5);

/// A worker's name on its hive.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerName {
    /// Such as `llm`.
    pub group: Arc<str>,
    /// Such as `8080`.
    pub instance: Arc<str>,
}

impl WorkerName {
    /// From its two parts.
    pub fn new(group: &str, instance: &str) -> Self {
        Self { group: group.into(), instance: instance.into() }
    }
}

impl fmt::Display for WorkerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.group, self.instance)
    }
}

/// Counts a hive's runs; no two of them have the same number.
pub type RunNumber = u64;

/// What the spawner says of a worker.
#[derive(Clone, Debug)]
pub struct WorkerStatus {
    /// What it was asked to be; `None` for one that was found and is only watched.
    pub spec: Option<Arc<WorkerSpec>>,
    /// Where it stands.
    pub state: WorkerState,
    /// Its main process.
    pub main: Option<Identity>,
    /// Its run.
    pub run: RunNumber,
    /// How its tree is held together.
    pub isolation: Isolation,
    /// Whether its limits are in force.
    pub limits_applied: Option<bool>,
    /// Restarts after a death.
    pub restarts: u64,
    /// When it will be started again, RFC 3339.
    pub retry_at: Option<String>,
    /// Whether it was found running.
    pub adopted: bool,
    /// Whether the configuration asks for something else.
    pub spec_changed: bool,
    /// How its last run ended.
    pub last_exit: Option<Arc<ExitRecord>>,
    /// The model it serves.
    pub model: Option<String>,
    /// Other names of the model.
    pub model_aliases: Vec<String>,
}

#[derive(Debug)]
struct Sample {
    taken: Instant,
    figures: Figures,
    peak_rss_mb: u64,
}

#[derive(Debug)]
struct Entry {
    status: Arc<WorkerStatus>,
    sample: Option<Sample>,
    load: Option<(EngineLoad, Instant)>,
    /// Processes of all its runs that the kernel killed for memory.
    oom_kills: u64,
}

impl Entry {
    fn is_running(&self, run: RunNumber) -> bool {
        self.status.run == run && self.status.main.is_some()
    }

    /// What its engine last said; nothing once that is too long ago.
    fn load(&self, now: Instant) -> EngineLoad {
        let counts = |taken| now.saturating_duration_since(taken) <= LOAD_COUNTS_FOR;
        self.load
            .filter(|(_, taken)| counts(*taken))
            .map_or_else(EngineLoad::default, |(load, _)| load)
    }
}

/// A worker with what was counted of it.
#[derive(Clone, Debug)]
pub struct Measured {
    /// As it is told, without log lines.
    pub report: WorkerReport,
    /// Of its run; `None` before the first sample.
    pub counted: Option<Counted>,
    /// Processes of all its runs that the kernel killed for memory, since the hive began.
    pub oom_kills: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct HiveBoard {
    workers: DashMap<WorkerName, Entry>,
    node: ArcSwap<NodeStats>,
    gpus: ArcSwap<GpuView>,
    gpus_told: (Mutex<bool>, Condvar),
}

impl HiveBoard {
    /// The spawner's word on a worker. Figures and load of an earlier run go.
    pub fn set_status(&self, name: &WorkerName, status: WorkerStatus) {
        let status = Arc::new(status);
        let mut entry = self.workers.entry(name.clone()).or_insert_with(|| Entry {
            status: Arc::clone(&status),
            sample: None,
            load: None,
            oom_kills: 0,
        });
        if let Some(exit) = new_exit(entry.status.last_exit.as_ref(), status.last_exit.as_ref()) {
            entry.oom_kills = entry.oom_kills.saturating_add(exit.oom_killed.unwrap_or(0));
        }
        if entry.status.run != status.run || status.main.is_none() {
            entry.sample = None;
            entry.load = None;
        }
        entry.status = status;
    }

    /// The worker is forgotten.
    pub fn remove(&self, name: &WorkerName) {
        self.workers.remove(name);
    }

    /// A monitor's figures. `false` when they are of a run that is over.
    pub fn publish(&self, name: &WorkerName, run: RunNumber, figures: Figures) -> bool {
        let Some(mut entry) = self.workers.get_mut(name) else { return false };
        if !entry.is_running(run) {
            return false;
        }
        let peak = entry.sample.as_ref().map_or(0, |sample| sample.peak_rss_mb);
        let peak_rss_mb = peak.max(figures.rss_mb);
        entry.sample = Some(Sample { taken: Instant::now(), figures, peak_rss_mb });
        true
    }

    /// What an engine says of its load. `false` when it is of a run that is over.
    pub fn publish_load(&self, name: &WorkerName, run: RunNumber, load: EngineLoad) -> bool {
        let Some(mut entry) = self.workers.get_mut(name) else { return false };
        let counts = entry.is_running(run);
        if counts {
            entry.load = Some((load, Instant::now()));
        }
        counts
    }

    /// The most memory that was seen of the worker's run, MiB.
    pub fn peak_rss_mb(&self, name: &WorkerName) -> u64 {
        let entry = self.workers.get(name);
        entry.and_then(|e| e.sample.as_ref().map(|sample| sample.peak_rss_mb)).unwrap_or(0)
    }

    /// The machine's figures, without its GPUs.
    pub fn set_node(&self, node: NodeStats) {
        self.node.store(Arc::new(node));
    }

    /// The machine's figures, with its GPUs.
    pub fn node(&self) -> NodeStats {
        let gpus = self.gpus();
        NodeStats {
            gpus: gpus.stats().to_vec(),
            gpu_source: Some(gpus.source()),
            gpu_age_ms: gpus.taken().map(Age::since),
            ..(**self.node.load()).clone()
        }
    }

    /// What the machine's GPUs do.
    pub fn set_gpus(&self, gpus: GpuView) {
        self.gpus.store(Arc::new(gpus));
        *self.gpus_told.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.gpus_told.1.notify_all();
    }

    /// What the machine's GPUs do.
    pub fn gpus(&self) -> Arc<GpuView> {
        self.gpus.load_full()
    }

    /// Likewise, once somebody has said so, or could not for as long as `patience`. Blocks.
    pub fn gpus_once_told(&self, patience: Duration) -> Arc<GpuView> {
        let told = self.gpus_told.0.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.gpus_told.1.wait_timeout_while(told, patience, |told| !*told));
        self.gpus()
    }

    /// One worker, with its spec.
    pub fn get(&self, name: &WorkerName) -> Option<(WorkerReport, Option<Arc<WorkerSpec>>)> {
        let entry = self.workers.get(name)?;
        Some((report(name, &entry, &self.gpus.load(), true), entry.status.spec.clone()))
    }

    /// All workers, by name. `log_tails`: with the last lines of their last exit, which a heartbeat
    /// leaves out: they went with the event.
    pub fn reports(&self, log_tails: bool) -> Vec<WorkerReport> {
        let gpus = self.gpus.load();
        let each = self.workers.iter().map(|e| report(e.key(), e.value(), &gpus, log_tails));
        let mut reports: Vec<_> = each.collect();
        reports.sort_unstable_by(|a, b| (&a.group, &a.instance).cmp(&(&b.group, &b.instance)));
        reports
    }

    /// All workers with what was counted of them, in any order.
    pub fn measured(&self) -> Vec<Measured> {
        let gpus = self.gpus.load();
        let measured = |entry: RefMulti<'_, WorkerName, Entry>| Measured {
            report: report(entry.key(), entry.value(), &gpus, false),
            counted: entry.sample.as_ref().map(|sample| sample.figures.counted),
            oom_kills: entry.oom_kills,
        };
        self.workers.iter().map(measured).collect()
    }

    /// All names, sorted.
    pub fn names(&self) -> Vec<WorkerName> {
        let mut names: Vec<_> = self.workers.iter().map(|entry| entry.key().clone()).collect();
        names.sort_unstable();
        names
    }
}

/// The exit of a run that ended since.
fn new_exit(
    before: Option<&Arc<ExitRecord>>,
    now: Option<&Arc<ExitRecord>>,
) -> Option<Arc<ExitRecord>> {
    let same = |now: &&Arc<ExitRecord>| before.is_some_and(|before| Arc::ptr_eq(before, now));
    now.filter(|now| !same(now)).map(Arc::clone)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects")]
    use super::*;

    fn status(run: RunNumber, main: Option<u32>) -> WorkerStatus {
        WorkerStatus {
            spec: None,
            state: WorkerState::Ready,
            main: main.map(|pid| Identity { pid, start_ticks: 1 }),
            run,
            isolation: Isolation::Plain,
            limits_applied: None,
            restarts: 0,
            retry_at: None,
            adopted: false,
            spec_changed: false,
            last_exit: None,
            model: None,
            model_aliases: Vec::new(),
        }
    }

    fn busy(cpu_pct: f64, rss_mb: u64) -> Figures {
        Figures { cpu_pct, rss_mb, has_rates: true, ..Figures::default() }
    }

    #[test]
    fn figures_of_an_earlier_run_are_not_shown() {
        let (board, name) = (HiveBoard::default(), WorkerName::new("a", "b"));
        assert!(!board.publish(&name, 1, busy(1.0, 1)), "nobody knows it yet");
        board.set_status(&name, status(1, Some(10)));
        assert!(board.publish(&name, 1, busy(50.0, 7)));
        assert!(board.publish(&name, 1, busy(40.0, 3)));
        assert_eq!(board.peak_rss_mb(&name), 7);
        board.set_status(&name, status(2, Some(11)));
        assert!(!board.publish(&name, 1, busy(99.0, 9)));
        let (report, _) = board.get(&name).unwrap();
        assert_eq!((report.cpu_pct, report.rss_mb, report.pids), (0.0, 0, vec![11]));
    }

    #[test]
    fn a_load_is_told_for_its_run_only_and_not_for_long() {
        let (board, name) = (HiveBoard::default(), WorkerName::new("a", "b"));
        let load = EngineLoad { running: Some(2), waiting: Some(1), kv_cache_pct: Some(50.0) };
        let told = || {
            let report = board.get(&name).unwrap().0;
            (report.requests_running, report.requests_waiting, report.kv_cache_pct)
        };
        assert!(!board.publish_load(&name, 1, load), "nobody knows it yet");
        board.set_status(&name, status(1, Some(10)));
        assert!(board.publish_load(&name, 1, load));
        assert_eq!(told(), (Some(2), Some(1), Some(50.0)));
        board.set_status(&name, status(1, Some(10)));
        assert_eq!(told(), (Some(2), Some(1), Some(50.0)), "the same run");
        {
            let entry = board.workers.get(&name).unwrap();
            let (_, taken) = entry.load.unwrap();
            assert_eq!(entry.load(taken + LOAD_COUNTS_FOR), load);
            let later = taken + LOAD_COUNTS_FOR + Duration::from_millis(1);
            assert_eq!(entry.load(later), EngineLoad::default());
        }
        board.set_status(&name, status(2, Some(11)));
        assert_eq!(told(), (None, None, None));
        assert!(!board.publish_load(&name, 1, load));
        assert_eq!(told(), (None, None, None));
        board.publish_load(&name, 2, load);
        board.set_status(&name, status(2, None));
        assert_eq!(told(), (None, None, None), "it does not run");
    }

    #[test]
    fn idle_is_judged_only_where_it_can_be() {
        let (board, name) = (HiveBoard::default(), WorkerName::new("a", "b"));
        let idle = |gpus, figures: Figures| {
            board.set_gpus(gpus);
            board.set_status(&name, status(1, Some(10)));
            board.publish(&name, 1, figures);
            board.get(&name).unwrap().0.idle
        };
        assert_eq!(idle(GpuView::without_gpu(), busy(4.9, 1)), Some(true));
        assert_eq!(idle(GpuView::without_gpu(), busy(5.0, 1)), Some(false));
        assert_eq!(idle(GpuView::without_gpu(), Figures::default()), None);
        assert_eq!(idle(GpuView::unasked(), busy(0.0, 1)), None);
    }
}
