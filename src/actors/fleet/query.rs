//! Which workers a question means: the filters of `GET /v1/workers`.

use crate::contract::{WorkerReport, WorkerState};

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
    /// Whether `worker`, with this much free memory, is meant. The hive is for the caller to check.
    pub fn matches(&self, worker: &WorkerReport, free_vram_mb: Option<u64>) -> bool {
        self.group.as_ref().is_none_or(|group| *group == worker.group)
            && self.state.is_none_or(|state| state == worker.state)
            && self.model.as_ref().is_none_or(|model| serves(worker, model))
            && self.idle.is_none_or(|idle| worker.idle == Some(idle))
            && self.min_free_vram_mb.is_none_or(|least| free_vram_mb.is_some_and(|f| f >= least))
    }
}

/// Whether the worker answers to that model name.
pub fn serves(worker: &WorkerReport, model: &str) -> bool {
    worker.model.as_deref() == Some(model) || worker.model_aliases.iter().any(|a| a == model)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::fleet::fixtures::worker;
    use proptest::prelude::*;

    #[test]
    fn an_unknown_total_never_matches() {
        let filter = WorkerFilter { min_free_vram_mb: Some(0), ..WorkerFilter::default() };
        assert!(!filter.matches(&worker("llm", "1"), None));
    }

    #[test]
    fn a_model_is_found_by_name_and_by_alias_and_only_whole() {
        let mut serving = worker("llm", "1");
        serving.model = Some("/models/llama.gguf".into());
        serving.model_aliases = vec!["llama".into()];
        assert!(serves(&serving, "/models/llama.gguf") && serves(&serving, "llama"));
        assert!(!serves(&serving, "lla"));
    }

    #[test]
    fn a_worker_of_unknown_idleness_is_neither() {
        let mut unknown = worker("llm", "1");
        unknown.idle = None;
        for idle in [true, false] {
            let filter = WorkerFilter { idle: Some(idle), ..WorkerFilter::default() };
            assert!(!filter.matches(&unknown, None));
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
            prop_assert_eq!(filter.matches(&one, None), both);
        }
    }
}
