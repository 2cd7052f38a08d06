//! Which workers a question means: the filters of `GET /v1/workers`, and what memory is free.

use crate::contract::{NodeStats, WorkerReport, WorkerState};

/// All that is set must hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WorkerFilter {
    /// On this hive.
    pub hive: Option<String>,
    /// In this group.
    pub group: Option<String>,
    /// In this state.
    pub state: Option<WorkerState>,
    /// Serving this model, by its name or an alias.
    pub model: Option<String>,
    /// Known to be idle, or known not to be.
    pub idle: Option<bool>,
    /// With at least this much free memory on its GPUs, MiB.
    pub min_free_vram_mb: Option<u64>,
}

impl WorkerFilter {
    /// Whether `worker`, on a machine like `node`, is meant. The hive is for the caller to check.
    pub fn matches(&self, node: &NodeStats, worker: &WorkerReport) -> bool {
        self.group.as_ref().is_none_or(|group| *group == worker.group)
            && self.state.is_none_or(|state| state == worker.state)
            && self.model.as_ref().is_none_or(|model| serves(worker, model))
            && self.idle.is_none_or(|idle| worker.idle == Some(idle))
            && self
                .min_free_vram_mb
                .is_none_or(|least| free_vram_mb(node, worker).is_some_and(|free| free >= least))
    }
}

/// Whether the worker answers to that model name.
pub fn serves(worker: &WorkerReport, model: &str) -> bool {
    worker.model.as_deref() == Some(model) || worker.model_aliases.iter().any(|a| a == model)
}

/// MiB free on the worker's GPUs: what they have, less what anyone uses on them; `None` when not
/// known. A worker that names no GPUs its machine lists, but does tell how much memory they have, is
/// taken to be alone on them.
pub fn free_vram_mb(node: &NodeStats, worker: &WorkerReport) -> Option<u64> {
    let gpu_of = |uuid: &str| node.gpus.iter().find(|gpu| gpu.uuid == uuid);
    let listed = !worker.gpus.is_empty() && worker.gpus.iter().all(|s| gpu_of(&s.uuid).is_some());
    if !listed {
        return worker.total_vram_mb.map(|total| total.saturating_sub(worker.vram_mb));
    }
    worker.gpus.iter().try_fold(0u64, |free, share| {
        let gpu = gpu_of(&share.uuid)?;
        Some(free.saturating_add(gpu.vram_total_mb?.saturating_sub(gpu.vram_used_mb?)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::registry::fixtures::worker;
    use crate::contract::{GpuShare, GpuStats};
    use proptest::prelude::*;

    fn gpu(uuid: &str, used: Option<u64>, total: Option<u64>) -> GpuStats {
        GpuStats {
            uuid: uuid.into(),
            vram_used_mb: used,
            vram_total_mb: total,
            ..GpuStats::default()
        }
    }

    fn on(uuids: &[&str]) -> WorkerReport {
        let mut on = worker("llm", "1");
        on.vram_mb = 1;
        on.gpus = uuids
            .iter()
            .map(|uuid| GpuShare { uuid: (*uuid).into(), ..GpuShare::default() })
            .collect();
        on
    }

    fn node(gpus: Vec<GpuStats>) -> NodeStats {
        NodeStats { gpus, ..NodeStats::default() }
    }

    #[test]
    fn free_memory_is_what_nobody_uses_on_the_gpus_of_the_worker() {
        let node = node(vec![
            gpu("a", Some(6), Some(10)),
            gpu("b", Some(1), Some(10)),
            gpu("c", None, Some(10)),
        ]);
        assert_eq!(free_vram_mb(&node, &on(&["a"])), Some(4));
        assert_eq!(free_vram_mb(&node, &on(&["a", "b"])), Some(13));
        assert_eq!(free_vram_mb(&node, &on(&["c"])), None);
        assert_eq!(free_vram_mb(&node, &on(&["elsewhere"])), None);
        assert_eq!(free_vram_mb(&node, &on(&[])), None);
    }

    #[test]
    fn a_worker_without_gpus_of_its_own_is_judged_by_its_total() {
        let mut alone = on(&[]);
        alone.total_vram_mb = Some(100);
        alone.vram_mb = 30;
        assert_eq!(free_vram_mb(&node(vec![]), &alone), Some(70));
        alone.vram_mb = 300;
        assert_eq!(free_vram_mb(&node(vec![]), &alone), Some(0));
    }

    #[test]
    fn an_unknown_total_never_matches() {
        let filter = WorkerFilter { min_free_vram_mb: Some(0), ..WorkerFilter::default() };
        assert!(!filter.matches(&node(vec![]), &on(&[])));
    }

    #[test]
    fn a_model_is_found_by_name_and_by_alias_and_only_whole() {
        let mut serving = on(&[]);
        serving.model = Some("/models/llama.gguf".into());
        serving.model_aliases = vec!["llama".into()];
        assert!(serves(&serving, "/models/llama.gguf") && serves(&serving, "llama"));
        assert!(!serves(&serving, "lla"));
    }

    #[test]
    fn a_worker_of_unknown_idleness_is_neither() {
        let mut unknown = on(&[]);
        unknown.idle = None;
        for idle in [true, false] {
            let filter = WorkerFilter { idle: Some(idle), ..WorkerFilter::default() };
            assert!(!filter.matches(&node(vec![]), &unknown));
        }
    }

    proptest! {
        #[test]
        fn filters_combine(group in "[ab]", idle: bool, want_group in "[ab]", want_idle: bool) {
            let mut one = worker(&group, "1");
            one.idle = Some(idle);
            let filter = WorkerFilter {
                group: Some(want_group.clone()), idle: Some(want_idle), ..WorkerFilter::default()
            };
            let both = group == want_group && idle == want_idle;
            prop_assert_eq!(filter.matches(&NodeStats::default(), &one), both);
        }
    }
}
