//! One hive as its last accepted heartbeat told it. Never changed once made, so that any number of
//! readers share it.

use super::text::{WorkerText, WorkersText};
use crate::contract::{
    Freshness, GpuSource, HiveHeartbeat, HiveInfo, HiveTelemetry, HiveView, LifecycleEvent,
    NodeStats, WorkerReport,
};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// Below this share of one core a worker without a GPU counts as idle, percent.
const IDLE_CPU_PCT: f64 = 5.0;

/// A hive and its workers.
#[derive(Debug)]
pub struct HiveRecord {
    /// Same as `info.id`, shared.
    pub id: Arc<str>,
    /// As it said.
    pub info: HiveInfo,
    /// Its own clock, RFC 3339.
    pub timestamp: String,
    /// Random for each start of it.
    pub boot_id: Option<String>,
    /// Counts up within one start.
    pub seq: Option<u64>,
    /// How often it means to send, ms.
    pub interval_ms: Option<u64>,
    /// Its machine.
    pub node: NodeStats,
    /// Its workers, in its order, each with `hive_id` set.
    pub workers: Vec<WorkerReport>,
    /// The same in JSON.
    text: WorkersText,
    /// When it came in, by the queen's monotonic clock.
    pub received: Instant,
}

impl HiveRecord {
    /// Takes a heartbeat apart into what is kept and the events that are passed on.
    pub fn new(heartbeat: HiveHeartbeat, received: Instant) -> (Self, Vec<LifecycleEvent>) {
        let HiveHeartbeat {
            hive: info,
            timestamp,
            boot_id,
            seq,
            interval_ms,
            node,
            mut workers,
            events,
        } = heartbeat;
        let id: Arc<str> = info.id.as_str().into();
        for worker in &mut workers {
            worker.hive_id = Some(Arc::clone(&id));
            worker.idle = worker.idle.or_else(|| derive_idle(node.gpu_source, worker));
        }
        let text = WorkersText::of(&workers);
        let record =
            Self { id, info, timestamp, boot_id, seq, interval_ms, node, workers, text, received };
        (record, events)
    }

    /// How long ago it came in.
    pub fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.received)
    }

    /// The worker of that name.
    pub fn find(&self, group: &str, instance: &str) -> Option<(usize, &WorkerReport)> {
        (self.workers.iter().enumerate()).find(|(_, w)| w.instance == instance && w.group == group)
    }

    /// The worker at that position in JSON, with its hive's freshness where that is to be shown.
    pub fn text(&self, position: usize, freshness: Option<Freshness>) -> Option<WorkerText<'_>> {
        let age = self.workers.get(position)?.sample_age_ms;
        Some(WorkerText { text: self.text.at(position)?, age, freshness })
    }

    /// All its workers in JSON.
    pub fn texts(&self, freshness: Option<Freshness>) -> impl Iterator<Item = WorkerText<'_>> {
        (0..self.workers.len()).filter_map(move |position| self.text(position, freshness))
    }

    /// Bytes of its workers' JSON.
    pub fn text_bytes(&self) -> usize {
        self.text.len()
    }

    /// As `GET /v1/hives` shows it.
    pub fn view(&self, freshness: Freshness, now: Instant) -> HiveView {
        HiveView {
            info: self.info.clone(),
            freshness,
            age_ms: millis(self.age(now)),
            worker_count: self.workers.len(),
            timestamp: self.timestamp.clone(),
            boot_id: self.boot_id.clone(),
            seq: self.seq,
            interval_ms: self.interval_ms,
            node: self.node.clone(),
        }
    }

    /// As the stream tells it, but for its workers.
    pub fn telemetry(&self) -> HiveTelemetry<'_> {
        HiveTelemetry {
            hive_id: &self.id,
            timestamp: &self.timestamp,
            node: &self.node,
            workers: &[],
        }
    }
}

/// A hive of this program says whether a worker is idle, and an absent value means that it cannot
/// know. For a program that does not even say where its GPU figures come from, they are taken as they
/// are; one that says it has no GPU is judged by the processor.
fn derive_idle(source: Option<GpuSource>, worker: &WorkerReport) -> Option<bool> {
    match source {
        None => Some(worker.gpu_util_pct == 0.0),
        Some(GpuSource::None) => worker.pid.map(|_| worker.cpu_pct < IDLE_CPU_PCT),
        Some(GpuSource::Nvml | GpuSource::NvidiaSmi) if worker.gpu_util_pct > 0.0 => Some(false),
        Some(GpuSource::Nvml | GpuSource::NvidiaSmi | GpuSource::Unknown) => None,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::fleet::fixtures::{heartbeat, worker};

    #[test]
    fn idle_is_derived_only_where_nobody_else_could_know_better() {
        let mut busy = worker("a", "1");
        busy.gpu_util_pct = 40.0;
        busy.cpu_pct = 90.0;
        let mut calm = worker("a", "2");
        assert_eq!(derive_idle(None, &busy), Some(false));
        assert_eq!(derive_idle(None, &calm), Some(true));
        assert_eq!(derive_idle(Some(GpuSource::None), &calm), None, "it does not run");
        (busy.pid, calm.pid) = (Some(1), Some(2));
        assert_eq!(derive_idle(Some(GpuSource::None), &busy), Some(false));
        assert_eq!(derive_idle(Some(GpuSource::None), &calm), Some(true));
        assert_eq!(derive_idle(Some(GpuSource::Unknown), &calm), None);
        assert_eq!(derive_idle(Some(GpuSource::Nvml), &calm), None);
        assert_eq!(derive_idle(Some(GpuSource::Nvml), &busy), Some(false));
    }

    #[test]
    fn what_a_hive_says_about_idle_is_kept() {
        let mut said = worker("a", "1");
        said.idle = Some(false);
        let (record, _) = HiveRecord::new(heartbeat("h", vec![said]), Instant::now());
        assert_eq!(record.workers[0].idle, Some(false));
        assert_eq!(record.workers[0].hive_id.as_deref(), Some("h"));
    }

    #[test]
    fn a_record_ages_by_the_queens_clock() {
        let received = Instant::now();
        let (record, _) = HiveRecord::new(heartbeat("h", vec![]), received);
        let now = received + Duration::from_millis(60);
        assert_eq!(record.view(Freshness::Healthy, now).age_ms, 60);
    }
}
