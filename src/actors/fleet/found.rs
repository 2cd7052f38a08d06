//! A worker that was asked for, kept with all that its hive told so that nothing of it is copied.

use super::{HiveRecord, WorkerText};
use crate::contract::{Freshness, HistoryPoint, WorkerReport, WorkerView};
use std::sync::Arc;

/// See the module.
#[derive(Clone, Debug)]
pub struct FoundWorker {
    record: Arc<HiveRecord>,
    position: usize,
    freshness: Freshness,
    history: Option<Vec<HistoryPoint>>,
}

impl FoundWorker {
    /// The worker at that position of the record, if there is one.
    pub fn at(record: Arc<HiveRecord>, position: usize, freshness: Freshness) -> Option<Self> {
        let found = Self { record, position, freshness, history: None };
        found.report().is_some().then_some(found)
    }

    /// With its history, oldest first.
    pub fn with_history(self, history: Vec<HistoryPoint>) -> Self {
        Self { history: Some(history), ..self }
    }

    /// As its hive last said.
    pub fn report(&self) -> Option<&WorkerReport> {
        self.record.workers.get(self.position)
    }

    /// Puts them in the order of hive, group and instance.
    pub fn sort(found: &mut [Self]) {
        // Names are the first fields of the text, and no character of a name sorts before the quote
        // that ends it.
        found.sort_unstable_by(|a, b| a.text().map(|t| t.text).cmp(&b.text().map(|t| t.text)));
    }

    /// As a list shows it: without history.
    pub fn text(&self) -> Option<WorkerText<'_>> {
        self.record.text(self.position, Some(self.freshness))
    }

    /// As the queen's answers show it.
    pub fn view(&self) -> Option<WorkerView<'_>> {
        let history = self.history.as_deref();
        self.report().map(|report| WorkerView { report, freshness: self.freshness, history })
    }
}
