//! Workers as JSON, written once, when their hive told them. Whoever shows them copies the text and
//! adds what only the moment knows: how old the figures are, and how fresh the hive is.
//!
//! Invariant: what is copied is, byte for byte, what serde would write of that worker's report or view.

use crate::contract::{Age, Freshness, WorkerReport};
use serde::Serialize;
use std::io::Write;

/// About as long as a worker is in JSON.
const WORKER_BYTES: usize = 1_024;

/// The workers of one hive, in its order, each up to where its age begins.
#[derive(Debug, Default)]
pub struct WorkersText {
    text: Box<[u8]>,
    ends: Box<[usize]>,
}

impl WorkersText {
    /// Writes them.
    pub fn of(workers: &[WorkerReport]) -> Self {
        let mut text = Vec::with_capacity(workers.len() * WORKER_BYTES);
        let ends = workers.iter().map(|worker| {
            let start = text.len();
            if let Err(error) = serde_json::to_writer(&mut text, worker) {
                tracing::error!(%error, group = worker.group, "a worker could not be encoded");
                text.truncate(start);
            }
            // The age is the last field.
            let age = text[start..].iter().rposition(|byte| *byte == b':').map_or(0, |at| at + 1);
            text.truncate(start + age);
            text.len()
        });
        Self { ends: ends.collect(), text: text.into() }
    }

    /// The text of the worker at that position; `None` if there is none.
    pub fn at(&self, position: usize) -> Option<&[u8]> {
        let end = *self.ends.get(position)?;
        let start = position.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.text.get(start..end).filter(|text| !text.is_empty())
    }

    /// Bytes that it holds.
    pub fn len(&self) -> usize {
        self.text.len()
    }
}

/// One worker, ready to be copied.
#[derive(Clone, Copy, Debug)]
pub struct WorkerText<'a> {
    /// Up to its age.
    pub text: &'a [u8],
    /// How old its figures are.
    pub age: Age,
    /// Of its hive, where that is to be shown.
    pub freshness: Option<Freshness>,
}

impl WorkerText<'_> {
    fn copy_to(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.text);
        // Writing to memory does not fail.
        let _ = write!(out, "{}", self.age.ms());
        if let Some(freshness) = self.freshness {
            out.extend_from_slice(b",\"freshness\":\"");
            out.extend_from_slice(freshness.name().as_bytes());
            out.push(b'"');
        }
        out.push(b'}');
    }
}

/// Appends `shell`, whose last field is a list of workers and empty, with `workers` in that list.
///
/// # Errors
/// If `shell` cannot be written.
pub fn write_with_workers<'a>(
    out: &mut Vec<u8>,
    shell: &impl Serialize,
    workers: impl Iterator<Item = WorkerText<'a>>,
) -> Result<(), serde_json::Error> {
    serde_json::to_writer(&mut *out, shell)?;
    out.truncate(out.len().saturating_sub(b"]}".len()));
    for (position, worker) in workers.enumerate() {
        if position > 0 {
            out.push(b',');
        }
        worker.copy_to(out);
    }
    out.extend_from_slice(b"]}");
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test says what it expects")]
mod tests {
    use super::*;
    use crate::actors::fleet::fixtures::worker;
    use crate::contract::{WorkerList, WorkerView};
    use proptest::prelude::*;

    fn report(
        group: &str,
        instance: &str,
        model: &str,
        cpu_pct: f64,
        running: bool,
    ) -> WorkerReport {
        let mut report = worker(group, instance);
        report.hive_id = Some("h".into());
        report.model = Some(model.into());
        report.model_aliases = vec![model.into(); 2];
        report.cpu_pct = cpu_pct;
        report.pid = running.then_some(7);
        // An age that stands still.
        report.sample_age_ms = Age::default();
        report
    }

    proptest! {
        #[test]
        fn what_is_copied_is_what_serde_writes(
            models in proptest::collection::vec(".*", 0..5), cpu_pct: f64, running: bool
        ) {
            let freshness = Freshness::Degraded;
            let reports: Vec<_> = models.iter().enumerate()
                .map(|(i, model)| report("g", &i.to_string(), model, cpu_pct, running)).collect();
            let view = |report| WorkerView { report, freshness, history: None };
            let expected = serde_json::to_vec(&WorkerList { workers: reports.iter().map(view).collect() }).unwrap();
            let texts = WorkersText::of(&reports);
            let shown = |i| WorkerText { text: texts.at(i).unwrap(), age: Age::default(), freshness: Some(freshness) };
            let mut copied = Vec::new();
            write_with_workers(&mut copied, &WorkerList { workers: vec![] }, (0..reports.len()).map(shown)).unwrap();
            prop_assert_eq!(String::from_utf8(copied), String::from_utf8(expected));
            prop_assert!(texts.at(reports.len()).is_none());
        }

        #[test]
        fn the_order_of_texts_is_the_order_of_names(
            a in "[A-Za-z0-9][A-Za-z0-9._-]{0,2}/[A-Za-z0-9][A-Za-z0-9._-]{0,2}",
            b in "[A-Za-z0-9][A-Za-z0-9._-]{0,2}/[A-Za-z0-9][A-Za-z0-9._-]{0,2}",
        ) {
            let names: Vec<_> = [&a, &b].map(|name| name.split_once('/').unwrap()).into();
            let reports: Vec<_> = names.iter().map(|(g, i)| report(g, i, "m", 0.0, true)).collect();
            let texts = WorkersText::of(&reports);
            let order = names[0].cmp(&names[1]);
            prop_assume!(order.is_ne());
            prop_assert_eq!(texts.at(0).cmp(&texts.at(1)), order);
        }
    }
}
