//! Configuration files from JSON, so that one value serves the file and the API alike.

use serde_json::Value;
use std::fmt::Write;

/// The document as TOML: a table for each top-level key, everything below it inline.
pub(crate) fn to_toml(document: &Value) -> String {
    let mut text = String::new();
    for (section, keys) in document.as_object().expect("a document is an object") {
        writeln!(text, "[{section}]").unwrap();
        for (key, value) in keys.as_object().expect("a section is an object") {
            writeln!(text, "{key} = {}", inline(value)).unwrap();
        }
    }
    text
}

fn inline(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let pairs: Vec<_> =
                map.iter().map(|(key, value)| format!("{key} = {}", inline(value))).collect();
            format!("{{ {} }}", pairs.join(", "))
        }
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(inline).collect();
            format!("[{}]", items.join(", "))
        }
        // JSON's escapes are TOML's too.
        other => other.to_string(),
    }
}
