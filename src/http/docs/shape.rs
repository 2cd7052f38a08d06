//! What is read and what is written is not quite the same, though one type stands for both: what may be
//! left out of a request, because it has a default, is always in an answer. A schema that is used for
//! both becomes two: `X` as it is written, `XInput` as it is read.

use super::document::{each_child, operations};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

const PREFIX: &str = "#/components/schemas/";

/// What an answer leaves out rather than saying `null`; of `StreamLifecycle` all that a hive's event has not.
const LEFT_OUT: [(&str, &[&str]); 5] = [
    ("WorkerReport", &["hive_id"]),
    ("WorkerView", &["history"]),
    ("NodeStats", &["gpu_age_ms"]),
    ("Unscheduled", &["rejected_omitted"]),
    ("StreamLifecycle", &["worker_id", "group", "instance", "pid", "state", "last_exit"]),
];

/// Makes two of each schema that is both read and written, and says of each what is always there.
pub(super) fn tell_apart(document: &mut Value) {
    let Some(schemas) = document["components"]["schemas"].as_object().cloned() else { return };
    let mut read = BTreeSet::new();
    for operation in operations(document) {
        reach(&operation["requestBody"], &schemas, &mut read);
    }
    let mut written = BTreeSet::new();
    for operation in operations(document) {
        reach(&operation["responses"], &schemas, &mut written);
    }
    // What no operation names is the data of an event.
    for (name, schema) in schemas.iter().filter(|(name, _)| !read.contains(*name)) {
        written.insert(name.clone());
        reach(schema, &schemas, &mut written);
    }
    let mut told = Map::new();
    for (name, mut schema) in schemas {
        if read.contains(&name) {
            let mut input = schema.clone();
            spare(&mut input);
            rename(&mut input, &written);
            told.insert(input_name(&name, &written), input);
        }
        if written.contains(&name) {
            let left_out = LEFT_OUT.iter().find(|(of, _)| *of == name).map_or(&[][..], |it| it.1);
            require(&mut schema, left_out);
            told.insert(name, schema);
        }
    }
    for operation in operations(document) {
        if let Some(body) = operation.get_mut("requestBody") {
            rename(body, &written);
        }
    }
    document["components"]["schemas"] = Value::Object(told);
}

fn input_name(name: &str, written: &BTreeSet<String>) -> String {
    if written.contains(name) { format!("{name}Input") } else { name.to_owned() }
}

/// The names of all schemas that `value` leads to.
fn reach(value: &Value, schemas: &Map<String, Value>, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            let name = map.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix(PREFIX));
            if let Some(name) = name
                && found.insert(name.to_owned())
                && let Some(schema) = schemas.get(name)
            {
                reach(schema, schemas, found);
            }
            map.values().for_each(|value| reach(value, schemas, found));
        }
        Value::Array(items) => items.iter().for_each(|value| reach(value, schemas, found)),
        _ => {}
    }
}

/// References lead to what is read.
fn rename(value: &mut Value, written: &BTreeSet<String>) {
    if let Some(Value::String(to)) = value.get_mut("$ref")
        && let Some(name) = to.strip_prefix(PREFIX)
    {
        *to = format!("{PREFIX}{}", input_name(name, written));
    }
    each_child(value, |child| rename(child, written));
}

/// What has a default need not be said.
fn spare(schema: &mut Value) {
    let has_default = |name: &Value| {
        let name = name.as_str().unwrap_or_default();
        schema["properties"][name].get("default").is_some()
    };
    if let Some(required) = schema["required"].as_array() {
        let required: Vec<_> = required.iter().filter(|name| !has_default(name)).cloned().collect();
        schema["required"] = Value::Array(required);
    }
}

/// All is there but what is left out, and that is never `null`.
fn require(schema: &mut Value, left_out: &[&str]) {
    if let Some(parts) = schema.get_mut("allOf").and_then(Value::as_array_mut) {
        parts.iter_mut().for_each(|part| require(part, left_out));
    }
    let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else {
        return;
    };
    let mut required = Vec::new();
    for (name, property) in properties {
        if left_out.contains(&name.as_str()) {
            not_null(property);
        } else {
            required.push(json!(name));
        }
    }
    schema["required"] = Value::Array(required);
}

fn not_null(property: &mut Value) {
    if let Some(types) = property.get_mut("type").and_then(Value::as_array_mut) {
        types.retain(|kind| kind != "null");
    }
    if let Some(kinds) = property.get_mut("oneOf").and_then(Value::as_array_mut) {
        kinds.retain(|kind| kind["type"] != "null");
    }
}
