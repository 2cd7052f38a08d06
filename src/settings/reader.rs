//! Reads a tree of values key by key and collects every problem instead of stopping at the first.
//!
//! Invariant: whatever is read, a value comes back (the default when the input is bad), so that
//! one pass over a document finds all that is wrong with it. A caller must look at the problems
//! before it uses any of the values.

use crate::limits::{Limit, SPEC_LIST_MAX};
use serde_json::{Map, Value};
use std::{fmt, ops::RangeInclusive, time::Duration};

/// One thing that is wrong with a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The full key, such as `hive.workers[2].cpu_limit`.
    pub key: String,
    /// The offending value as it was written; empty when it is the key's absence that is wrong.
    pub value: String,
    /// What is allowed there.
    pub allowed: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.value.is_empty() {
            write!(f, "{}: {}", self.key, self.allowed)
        } else {
            write!(f, "{} = {}: {}", self.key, self.value, self.allowed)
        }
    }
}

/// What has been found wrong so far, and how strictly types are taken.
#[derive(Debug, Default)]
pub struct Findings {
    /// In the order in which they were found.
    pub problems: Vec<Problem>,
    /// Whether a string may stand for a number, a boolean or a comma-separated list, as it must
    /// where a value can come from the environment.
    pub text_values: bool,
}

impl Findings {
    /// Notes a problem. Long values are cut: an error is for people. Those that may be secrets are not
    /// shown at all.
    pub fn add(&mut self, key: impl Into<String>, value: impl fmt::Display, allowed: &str) {
        const SHOWN: usize = 120;
        let key = key.into();
        let mut value = value.to_string();
        if may_be_secret(&key) || (value.contains("://") && value.contains('@')) {
            value.clear();
        }
        if value.chars().count() > SHOWN {
            value = value.chars().take(SHOWN).chain(['…']).collect();
        }
        let key = key.chars().fold(String::new(), |mut shown, c| {
            if c.is_control() {
                shown.extend(c.escape_default())
            } else {
                shown.push(c)
            }
            shown
        });
        self.problems.push(Problem { key, value, allowed: allowed.to_owned() });
    }
}

/// Variables of a worker, and whatever is named like a secret; the name of a file is none.
fn may_be_secret(key: &str) -> bool {
    const NAMES: [&str; 6] = ["token", "secret", "password", "passwd", "auth", "credential"];
    let last = key.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
    let named = NAMES.iter().any(|name| last.contains(name)) && !last.ends_with("_file");
    named
        || key.ends_with(".env")
        || key.starts_with("env.")
        || key.contains(".env.")
        || key == "env"
}

/// One table of the document. Keys are taken out as they are read; what is left is unknown.
#[derive(Debug)]
pub struct Table {
    path: String,
    map: Map<String, Value>,
    known: Vec<&'static str>,
}

impl Table {
    /// The table at `path` (empty for the document itself); anything but a table is a problem.
    pub fn new(path: impl Into<String>, value: Value, findings: &mut Findings) -> Self {
        let path = path.into();
        let map = match value {
            Value::Object(map) => map,
            Value::Null => Map::new(),
            other => {
                findings.add(path.as_str(), other, "must be a table of keys and values");
                Map::new()
            }
        };
        Self { path, map, known: Vec::new() }
    }

    /// The full name of one of its keys.
    pub fn key(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn take(&mut self, key: &'static str) -> Option<Value> {
        self.known.push(key);
        self.map.remove(key).filter(|value| !value.is_null())
    }

    /// Whether `key` is there and not null.
    pub fn has(&self, key: &str) -> bool {
        self.map.get(key).is_some_and(|value| !value.is_null())
    }

    /// Whether `key` is there and not an empty string.
    pub fn has_text(&self, key: &str) -> bool {
        self.has(key) && self.map.get(key).and_then(Value::as_str) != Some("")
    }

    /// Reads `key` with `parse`, which says what is allowed when it refuses.
    pub fn parse<T>(
        &mut self,
        key: &'static str,
        findings: &mut Findings,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = self.string(key, findings)?;
        parse(&text).map_err(|allowed| findings.add(self.key(key), quoted(&text), &allowed)).ok()
    }

    /// Like [`Table::parse`], and its absence is a problem.
    pub fn require<T>(
        &mut self,
        key: &'static str,
        findings: &mut Findings,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        if !self.has(key) {
            self.known.push(key);
            findings.add(self.key(key), "", "is required");
            return None;
        }
        self.parse(key, findings, parse)
    }

    /// A string. Control characters are refused: none of the keys has a use for them.
    pub fn string(&mut self, key: &'static str, findings: &mut Findings) -> Option<String> {
        let value = self.take(key)?;
        let text = match value {
            Value::String(text) => text,
            Value::Number(number) if findings.text_values => number.to_string(),
            Value::Bool(flag) if findings.text_values => flag.to_string(),
            other => {
                findings.add(self.key(key), other, "must be a string");
                return None;
            }
        };
        self.checked_text(key, text, findings)
    }

    fn checked_text(&self, key: &str, text: String, findings: &mut Findings) -> Option<String> {
        if text.contains('\0') {
            findings.add(self.key(key), quoted(&text), "must not contain a NUL character");
            return None;
        }
        Some(text)
    }

    /// A string that may be written as a number too, such as a size in plain bytes.
    pub fn string_or_number(
        &mut self,
        key: &'static str,
        findings: &mut Findings,
    ) -> Option<String> {
        match self.map.get(key) {
            Some(Value::Number(number)) => {
                let text = number.to_string();
                self.known.push(key);
                self.map.remove(key);
                Some(text)
            }
            _ => self.string(key, findings),
        }
    }

    /// A string; empty counts as absent.
    pub fn non_empty(&mut self, key: &'static str, findings: &mut Findings) -> Option<String> {
        self.string(key, findings).filter(|text| !text.is_empty())
    }

    /// One of the named values.
    pub fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        findings: &mut Findings,
        choices: &[(&'static str, T)],
        default: T,
    ) -> T {
        self.parse(key, findings, |text| {
            choices.iter().find(|(name, _)| *name == text).map(|(_, value)| *value).ok_or_else(
                || {
                    let names: Vec<_> =
                        choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
                    format!("must be one of {}", names.join(", "))
                },
            )
        })
        .unwrap_or(default)
    }

    /// A whole number within `range`.
    pub fn number(
        &mut self,
        key: &'static str,
        findings: &mut Findings,
        range: RangeInclusive<u64>,
    ) -> Option<u64> {
        let value = self.take(key)?;
        let number = match &value {
            Value::String(text) if findings.text_values => text.trim().parse().ok(),
            other => other.as_u64(),
        };
        if let Some(number) = number.filter(|number| range.contains(number)) {
            return Some(number);
        }
        let allowed = format!("must be a whole number from {} to {}", range.start(), range.end());
        findings.add(self.key(key), value, &allowed);
        None
    }

    /// Milliseconds within `range`.
    pub fn millis(
        &mut self,
        key: &'static str,
        findings: &mut Findings,
        range: RangeInclusive<u64>,
        default: u64,
    ) -> Duration {
        Duration::from_millis(self.number(key, findings, range).unwrap_or(default))
    }

    /// `true` or `false`.
    pub fn flag(&mut self, key: &'static str, findings: &mut Findings, default: bool) -> bool {
        let Some(value) = self.take(key) else { return default };
        let flag = match &value {
            Value::String(text) if findings.text_values => text.parse().ok(),
            other => other.as_bool(),
        };
        flag.unwrap_or_else(|| {
            findings.add(self.key(key), value, "must be true or false");
            default
        })
    }

    /// A list of strings; from the environment, separated by commas.
    pub fn strings(&mut self, key: &'static str, findings: &mut Findings) -> Option<Vec<String>> {
        let items = match self.take(key)? {
            Value::Array(items) if items.len() <= SPEC_LIST_MAX => items,
            Value::String(text) if findings.text_values => {
                let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
                return Some(parts.map(str::to_owned).collect());
            }
            other => {
                if other.is_array() {
                    Limit::SpecList.reached();
                }
                findings.add(self.key(key), other, "must be a list of at most 4096 strings");
                return None;
            }
        };
        let mut strings = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            match item {
                Value::String(text) if !text.contains('\0') => strings.push(text),
                other => findings.add(
                    format!("{}[{index}]", self.key(key)),
                    other,
                    "must be a string without NUL characters",
                ),
            }
        }
        Some(strings)
    }

    /// A table of strings.
    pub fn string_map(
        &mut self,
        key: &'static str,
        findings: &mut Findings,
    ) -> Vec<(String, String)> {
        let Some(value) = self.take(key) else { return Vec::new() };
        let table = Table::new(self.key(key), value, findings);
        let mut pairs = Vec::with_capacity(table.map.len());
        for (name, value) in table.map {
            let full = format!("{}.{name}", table.path);
            let named_well = !name.is_empty() && !name.contains(['=', '\0']);
            match value {
                Value::String(text) if named_well && !text.contains('\0') => {
                    pairs.push((name, text));
                }
                _ if !named_well => {
                    findings.add(
                        full,
                        "",
                        "a variable's name must not be empty or contain = or NUL",
                    );
                }
                other => findings.add(full, other, "must be a string without NUL characters"),
            }
        }
        pairs
    }

    /// A table within this one; empty when absent.
    pub fn table(&mut self, key: &'static str, findings: &mut Findings) -> Table {
        let value = self.take(key).unwrap_or(Value::Null);
        Table::new(self.key(key), value, findings)
    }

    /// A table within this one, if it is there.
    pub fn optional_table(&mut self, key: &'static str, findings: &mut Findings) -> Option<Table> {
        let value = self.take(key)?;
        Some(Table::new(self.key(key), value, findings))
    }

    /// An array of tables; empty when absent.
    pub fn tables(&mut self, key: &'static str, findings: &mut Findings) -> Vec<Table> {
        let items = match self.take(key) {
            None => return Vec::new(),
            Some(Value::Array(items)) => items,
            Some(other) => {
                findings.add(self.key(key), other, "must be an array of tables");
                return Vec::new();
            }
        };
        let path = self.key(key);
        let numbered = items.into_iter().enumerate();
        numbered.map(|(i, item)| Table::new(format!("{path}[{i}]"), item, findings)).collect()
    }

    /// Ends the reading: whatever was not asked for is unknown, and a problem.
    pub fn finish(self, findings: &mut Findings) {
        for (key, value) in &self.map {
            let mut allowed = self.known.clone();
            allowed.sort_unstable();
            let allowed = format!("is not a known key, allowed: {}", allowed.join(", "));
            findings.add(self.key(key), value, &allowed);
        }
    }
}

fn quoted(text: &str) -> Value {
    Value::String(text.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects")]
    use super::*;
    use serde_json::json;

    #[test]
    fn all_problems_are_found_in_one_pass() {
        let mut findings = Findings::default();
        let mut table =
            Table::new("hive", json!({"a": "x", "b": -1, "c": [1], "typo": true}), &mut findings);
        assert_eq!(table.number("a", &mut findings, 1..=9), None);
        assert_eq!(table.number("b", &mut findings, 1..=9), None);
        assert_eq!(table.strings("c", &mut findings), Some(vec![]));
        table.finish(&mut findings);
        let keys: Vec<_> = findings.problems.iter().map(|p| p.key.as_str()).collect();
        assert_eq!(keys, ["hive.a", "hive.b", "hive.c[0]", "hive.typo"]);
        assert!(findings.problems[3].allowed.contains("a, b, c"));
    }

    #[test]
    fn what_may_be_a_secret_is_never_shown() {
        let mut findings = Findings::default();
        let document =
            json!({"token": 1234, "tokn_secret": "1234", "env": {"HF": 1234}, "auth": "1234"});
        let mut table = Table::new("queen", document, &mut findings);
        assert_eq!(table.string("token", &mut findings), None);
        assert!(table.string_map("env", &mut findings).is_empty());
        table.table("auth", &mut findings).finish(&mut findings);
        table.finish(&mut findings);
        assert_eq!(findings.problems.len(), 4);
        assert!(findings.problems.iter().all(|p| !p.to_string().contains("1234")), "{findings:?}");
        findings.add("queen.auth.token_file", "/etc/token", "must be there");
        assert!(findings.problems[4].to_string().contains("/etc/token"));
    }

    #[test]
    fn text_stands_for_other_types_only_where_it_may_come_from_the_environment() {
        let document = json!({"n": "12", "f": "true", "l": "a, b"});
        let mut lenient = Findings { text_values: true, ..Findings::default() };
        let mut table = Table::new("", document.clone(), &mut lenient);
        assert_eq!(table.number("n", &mut lenient, 0..=99), Some(12));
        assert!(table.flag("f", &mut lenient, false));
        assert_eq!(table.strings("l", &mut lenient).unwrap(), ["a", "b"]);
        assert!(lenient.problems.is_empty());

        let mut strict = Findings::default();
        let mut table = Table::new("", document, &mut strict);
        assert_eq!(table.number("n", &mut strict, 0..=99), None);
        assert!(!table.flag("f", &mut strict, false));
        assert_eq!(table.strings("l", &mut strict), None);
        assert_eq!(strict.problems.len(), 3);
    }
}
