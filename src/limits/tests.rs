//! That no limit is without its count and its test; and what those tests count with.
#![allow(clippy::unwrap_used, reason = "a test says what it expects")]

use super::*;
use std::{collections::BTreeSet, fs, path::Path};

/// How often a limit was reached when a test began to look.
pub(crate) struct Counting(Limit, u64);

impl Counting {
    pub(crate) fn of(limit: Limit) -> Self {
        Self(limit, limit.count())
    }

    /// It was reached since then, at least so often: other tests may be at it too.
    pub(crate) fn at_least(&self, times: u64) {
        let Self(limit, before) = *self;
        let since = limit.count() - before;
        assert!(since >= times, "{limit:?} was counted {since} times, and reached {times} times");
    }

    pub(crate) fn counted(&self) {
        self.at_least(1);
    }
}

/// Each file of Rust below `dir`: what it does, and what it tests.
fn sources(dir: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let name = path.to_string_lossy();
            let of_tests = name.ends_with("tests.rs") || name.contains("/tests/");
            let at = if of_tests { 0 } else { text.find("#[cfg(test)]").unwrap_or(text.len()) };
            let (product, tests) = text.split_at(at);
            found.push((product.to_owned(), tests.to_owned()));
        }
    }
}

/// Whether `text` names the variant, and not merely one that begins so.
fn names(text: &str, limit: Limit) -> bool {
    let name = format!("Limit::{limit:?}");
    text.match_indices(&name)
        .any(|(at, _)| !text[at + name.len()..].starts_with(|c: char| c.is_alphanumeric()))
}

/// A new limit fails here until something counts it and a test goes beyond it and looks at the count: by
/// [`Counting`], or on the page of a running daemon.
#[test]
fn every_limit_is_counted_and_has_a_test_of_its_count() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = Vec::new();
    sources(&root.join("src/actors"), &mut all);
    sources(&root.join("src/http"), &mut all);
    sources(&root.join("src/platform"), &mut all);
    sources(&root.join("src/settings"), &mut all);
    sources(&root.join("tests/it"), &mut all);
    for limit in Limit::ALL {
        assert!(all.iter().any(|(product, _)| names(product, *limit)), "nothing counts {limit:?}");
        let page = format!("reached(\"{}\")", limit.name());
        let tests = |text: &String| {
            (names(text, *limit) && text.contains("Counting::of(")) || text.contains(&page)
        };
        assert!(all.iter().any(|(_, text)| tests(text)), "no test goes beyond {limit:?}");
    }
}

#[test]
fn labels_are_unique_and_of_the_form_that_prometheus_wants() {
    let labels: BTreeSet<_> = Limit::ALL.iter().map(|limit| limit.name()).collect();
    assert_eq!(labels.len(), Limit::ALL.len());
    for limit in Limit::ALL {
        let plain = |c: char| c.is_ascii_lowercase() || c == '_';
        assert!(limit.name().chars().all(plain), "{limit:?}");
        let snake = limit.name().replace('_', "");
        assert_eq!(snake, format!("{limit:?}").to_lowercase());
        assert!(limit.is_of("queen") || limit.is_of("hive"), "{limit:?}");
    }
}

#[test]
fn what_is_reached_is_counted_for_itself_alone() {
    let (one, other) = (Counting::of(Limit::SpecGpus), Limit::SpecList.count());
    Limit::SpecGpus.reached();
    one.counted();
    assert_eq!(Limit::SpecList.count(), other);
}
