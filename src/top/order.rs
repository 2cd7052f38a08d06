//! Which workers are shown, in which order.

use super::fleet::Fleet;
use crate::client::model::Worker;
use std::cmp::Ordering;

/// What rows are sorted by. Figures come with the largest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sort {
    #[default]
    Name,
    State,
    Model,
    Cpu,
    Ram,
    Gpu,
    Vram,
    Requests,
    Restarts,
    Uptime,
}

/// In the order in which `s` goes through them: key, title.
pub(super) const SORTS: [(Sort, char, &str); 10] = [
    (Sort::Name, 'n', "name"),
    (Sort::State, 't', "state"),
    (Sort::Model, 'o', "model"),
    (Sort::Cpu, 'c', "cpu"),
    (Sort::Ram, 'm', "ram"),
    (Sort::Gpu, 'g', "gpu"),
    (Sort::Vram, 'v', "vram"),
    (Sort::Requests, 'e', "requests"),
    (Sort::Restarts, 'x', "restarts"),
    (Sort::Uptime, 'u', "uptime"),
];

impl Sort {
    pub(super) fn title(self) -> &'static str {
        SORTS.iter().find(|(sort, ..)| *sort == self).map_or("", |(_, _, title)| title)
    }

    /// The one after it, or before it.
    pub(super) fn step(self, back: bool) -> Self {
        let at = SORTS.iter().position(|(sort, ..)| *sort == self).unwrap_or(0);
        let by = if back { SORTS.len() - 1 } else { 1 };
        SORTS[(at + by) % SORTS.len()].0
    }

    fn compare(self, a: &Worker, b: &Worker) -> Ordering {
        let most = |of: fn(&Worker) -> Option<f64>| {
            let value = |worker| of(worker).unwrap_or(-1.0);
            value(b).total_cmp(&value(a))
        };
        match self {
            Self::Name => Ordering::Equal,
            Self::State => a.state.cmp(&b.state),
            Self::Model => a.model.cmp(&b.model),
            Self::Cpu => most(|w| w.cpu_pct),
            Self::Ram => most(|w| w.working_set_mb.or(w.rss_mb).map(|n| n as f64)),
            Self::Gpu => most(|w| w.gpu_util_pct),
            Self::Vram => most(|w| w.vram_mb.map(|n| n as f64)),
            Self::Requests => most(|w| w.requests_running.map(|n| n as f64)),
            Self::Restarts => most(|w| w.restarts.map(|n| n as f64)),
            Self::Uptime => most(|w| w.uptime_s.map(|n| n as f64)),
        }
    }
}

/// Those with every word of `filter` in their name, model or state. Equal ones are sorted by name.
pub(super) fn shown<'a>(
    fleet: &'a Fleet,
    filter: &str,
    sort: Sort,
    reversed: bool,
) -> Vec<&'a Worker> {
    let words: Vec<String> = filter.split_whitespace().map(str::to_lowercase).collect();
    let mut workers: Vec<&Worker> =
        fleet.workers().filter(|worker| words.is_empty() || matches(worker, &words)).collect();
    let name = |a: &Worker, b: &Worker| {
        (&a.hive_id, &a.group, &a.instance).cmp(&(&b.hive_id, &b.group, &b.instance))
    };
    workers.sort_by(|a, b| {
        let order = sort.compare(a, b);
        if reversed && sort != Sort::Name { order.reverse() } else { order }
            .then_with(|| name(a, b))
    });
    if reversed && sort == Sort::Name {
        workers.reverse();
    }
    workers
}

fn matches(worker: &Worker, words: &[String]) -> bool {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let activity = worker.activity().unwrap_or_default();
    let all =
        format!("{} {} {} {activity}", worker.name(), text(&worker.model), text(&worker.state));
    let all = all.to_lowercase();
    words.iter().all(|word| all.contains(word))
}
