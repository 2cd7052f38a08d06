//! What a worker is called on the command line: `hive/group/instance`, or `group/instance` where that
//! names one.

use super::Failure;
use crate::settings::is_name;
use std::{fmt, str::FromStr};

/// Names that are suggested for one that is not known.
const SUGGESTIONS: usize = 3;

/// Below this, a name is not like another.
const ALIKE: f64 = 0.75;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerName {
    /// `None`: whichever hive has it.
    pub hive: Option<String>,
    /// Its group.
    pub group: String,
    /// Its instance.
    pub instance: String,
}

impl fmt::Display for WorkerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(hive) = &self.hive {
            write!(f, "{hive}/")?;
        }
        write!(f, "{}/{}", self.group, self.instance)
    }
}

impl FromStr for WorkerName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split('/').collect();
        let (hive, group, instance) = match parts[..] {
            [group, instance] => (None, group, instance),
            [hive, group, instance] => (Some(hive), group, instance),
            _ => return Err("must be group/instance or hive/group/instance".into()),
        };
        if ![group, instance].into_iter().chain(hive).all(is_name) {
            return Err(
                "a name is 1 to 64 of A-Z a-z 0-9 . _ -, the first a letter or digit".into()
            );
        }
        Ok(Self { hive: hive.map(Into::into), group: group.into(), instance: instance.into() })
    }
}

impl WorkerName {
    /// Whether `other` is one that this names.
    fn names(&self, other: &Self) -> bool {
        (self.hive.is_none() || self.hive == other.hive)
            && self.group == other.group
            && self.instance == other.instance
    }
}

/// The one among `known` that `wanted` names; else who could be meant.
pub fn resolve(wanted: &WorkerName, known: &[WorkerName]) -> Result<WorkerName, Failure> {
    let mut found: Vec<&WorkerName> = known.iter().filter(|name| wanted.names(name)).collect();
    found.sort();
    match found[..] {
        [one] => Ok(one.clone()),
        [] => Err(unknown(wanted, known)),
        _ => {
            let all: Vec<_> = found.iter().map(ToString::to_string).collect();
            let message = format!("{wanted} is ambiguous: {}", all.join(", "));
            Err(Failure::Usage(message))
        }
    }
}

/// That it is not known, and the names that are most like it.
pub fn unknown(wanted: &WorkerName, known: &[WorkerName]) -> Failure {
    let alike = nearest(wanted, known);
    let hint = match &alike[..] {
        [] if known.is_empty() => ": no workers are known".to_owned(),
        [] => format!(": `rbee workers` lists the {} that are known", known.len()),
        alike => format!(", did you mean {}?", alike.join(", ")),
    };
    Failure::NotFound(format!("there is no worker {wanted}{hint}"))
}

/// The best first. Compared without the hive where none was given.
fn nearest(wanted: &WorkerName, known: &[WorkerName]) -> Vec<String> {
    let text = wanted.to_string();
    let mut scored: Vec<(f64, String)> = known
        .iter()
        // What is just going is still known.
        .filter(|name| !wanted.names(name))
        .map(|name| {
            let bare = WorkerName { hive: None, ..name.clone() };
            let compared = if wanted.hive.is_some() { name } else { &bare };
            (strsim::jaro_winkler(&text, &compared.to_string()), name.to_string())
        })
        .filter(|(score, _)| *score >= ALIKE)
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    scored.into_iter().take(SUGGESTIONS).map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects")]
    use super::*;
    use proptest::prelude::*;

    fn named(text: &str) -> WorkerName {
        text.parse().unwrap()
    }

    #[test]
    fn a_short_name_is_enough_where_it_names_one() {
        let known = ["a/llm/8080", "b/llm/8080", "b/llm/8081"].map(named);
        assert_eq!(resolve(&named("llm/8081"), &known).unwrap(), known[2]);
        assert_eq!(resolve(&named("a/llm/8080"), &known).unwrap(), known[0]);
        let ambiguous = resolve(&named("llm/8080"), &known).unwrap_err();
        assert_eq!(
            ambiguous,
            Failure::Usage("llm/8080 is ambiguous: a/llm/8080, b/llm/8080".into())
        );
        let unknown = resolve(&named("lm/8081"), &known).unwrap_err();
        assert_eq!(unknown.status(), 66);
        assert!(unknown.to_string().contains("did you mean b/llm/8081"), "{unknown}");
        // One that went between two questions is not offered instead of itself.
        let gone = super::unknown(&known[1], &known).to_string();
        assert!(gone.contains("did you mean") && !gone.contains("mean b/llm/8080"), "{gone}");
        assert!(resolve(&named("x/y"), &[]).unwrap_err().to_string().contains("no workers"));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in ["", "a", "a/", "/a", "a/b/c/d", "a/../b", "a b/c", "a/b?x=1"] {
            assert!(text.parse::<WorkerName>().is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_name_is_read_as_it_is_written(text in "([a-z0-9]{1,5}/){1,2}[a-z0-9.]{0,4}[a-z]") {
            if let Ok(name) = text.parse::<WorkerName>() {
                prop_assert_eq!(name.to_string(), text);
            }
        }

        #[test]
        fn what_is_resolved_is_known(wanted in "[ab]/[12]", known in prop::collection::vec("[xy]/[ab]/[12]", 0..6)) {
            let known: Vec<_> = known.iter().map(|text| named(text)).collect();
            if let Ok(found) = resolve(&named(&wanted), &known) {
                prop_assert!(known.contains(&found) && found.to_string().ends_with(&wanted));
            }
        }
    }
}
