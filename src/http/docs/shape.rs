//! What is read and what is written is not quite the same, though one type stands for both: what may be
//! left out of a request, because it has a default, is always in an answer. A schema that is used for
//! both becomes two: `X` as it is written, `XInput` as it is read.

use super::document::{each_child, operations};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

type Names = BTreeSet<String>;

const PREFIX: &str = "#/components/schemas/";

/// What an answer leaves out rather than saying `null`; of `StreamLifecycle` all that a hive's event has not.
const LEFT_OUT: [(&str, &[&str]); 5] = [
    ("WorkerReport", &["hive_id"]),
    ("WorkerView", &["history"]),
    ("NodeStats", &["gpu_age_ms"]),
    ("Unscheduled", &["rejected", "rejected_omitted"]),
    ("StreamLifecycle", &["worker_id", "group", "instance", "pid", "state", "last_exit"]),
];

/// Makes two of each schema that is not the same when read and when written, and says of each what is
/// always there.
pub(super) fn tell_apart(document: &mut Value) {
    let Some(schemas) = document["components"]["schemas"].as_object().cloned() else { return };
    let (mut read, mut written) = (Names::new(), Names::new());
    for operation in operations(document) {
        reach(&operation["requestBody"], &schemas, &mut read);
        reach(&operation["responses"], &schemas, &mut written);
    }
    // What no operation names is the data of an event.
    for (name, schema) in schemas.iter().filter(|(name, _)| !read.contains(*name)) {
        written.insert(name.clone());
        reach(schema, &schemas, &mut written);
    }
    let twofold = twofold(&schemas, &read, &written);
    let mut told = Map::new();
    for (name, schema) in &schemas {
        if read.contains(name) {
            let mut input = as_read(schema);
            rename(&mut input, &twofold);
            told.insert(input_name(name, &twofold), input);
        }
        if written.contains(name) {
            told.insert(name.clone(), as_written(name, schema));
        }
    }
    for operation in operations(document) {
        if let Some(body) = operation.get_mut("requestBody") {
            rename(body, &twofold);
        }
    }
    document["components"]["schemas"] = Value::Object(told);
}

/// Those that differ, and all that lead to one that does.
fn twofold(schemas: &Map<String, Value>, read: &Names, written: &Names) -> Names {
    let both =
        || schemas.iter().filter(|(name, _)| read.contains(*name) && written.contains(*name));
    let differ = |name: &str, schema| as_read(schema) != as_written(name, schema);
    let differing: Names =
        both().filter(|(name, of)| differ(name, of)).map(|(name, _)| name.clone()).collect();
    let leads_there = |schema: &Value| {
        let mut found = Names::new();
        reach(schema, schemas, &mut found);
        !found.is_disjoint(&differing)
    };
    let twofold = both().filter(|(name, of)| differing.contains(*name) || leads_there(of));
    twofold.map(|(name, _)| name.clone()).collect()
}

fn input_name(name: &str, twofold: &Names) -> String {
    if twofold.contains(name) { format!("{name}Input") } else { name.to_owned() }
}

/// The names of all schemas that `value` leads to.
fn reach(value: &Value, schemas: &Map<String, Value>, found: &mut Names) {
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
fn rename(value: &mut Value, written: &Names) {
    if let Some(Value::String(to)) = value.get_mut("$ref")
        && let Some(name) = to.strip_prefix(PREFIX)
    {
        *to = format!("{PREFIX}{}", input_name(name, written));
    }
    each_child(value, |child| rename(child, written));
}

/// What has a default need not be said.
fn as_read(schema: &Value) -> Value {
    let mut input = schema.clone();
    let has_default = |name: &Value| {
        let name = name.as_str().unwrap_or_default();
        schema["properties"][name].get("default").is_some()
    };
    if let Some(required) = input.get_mut("required").and_then(Value::as_array_mut) {
        required.retain(|name| !has_default(name));
        required.sort_by_key(ToString::to_string);
    }
    input
}

fn as_written(name: &str, schema: &Value) -> Value {
    let mut output = schema.clone();
    let left_out = LEFT_OUT.iter().find(|(of, _)| *of == name).map_or(&[][..], |it| it.1);
    require(&mut output, left_out);
    output
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
    if property.get("default").is_some_and(Value::is_null)
        && let Some(property) = property.as_object_mut()
    {
        property.remove("default");
    }
    if let Some(types) = property.get_mut("type").and_then(Value::as_array_mut) {
        types.retain(|kind| kind != "null");
        if let [only] = &types[..] {
            property["type"] = only.clone();
        }
    }
    if let Some(kinds) = property.get_mut("oneOf").and_then(Value::as_array_mut) {
        kinds.retain(|kind| kind["type"] != "null");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document() -> Value {
        json!({
            "paths": {"/x": {"post": {
                "requestBody": {"$ref": "#/components/schemas/Outer"},
                "responses": {"200": {"$ref": "#/components/schemas/Outer"}},
            }}},
            "components": {"schemas": {
                "Outer": {"type": "object", "required": ["a"], "properties": {
                    "a": {"$ref": "#/components/schemas/NodeStats"},
                    "same": {"$ref": "#/components/schemas/Same"},
                }},
                "NodeStats": {"type": "object", "required": ["n"], "properties": {
                    "n": {"type": "integer", "default": 1},
                    "gpu_age_ms": {"type": ["integer", "null"], "default": null},
                }},
                "Same": {"type": "string"},
            }},
        })
    }

    #[test]
    fn what_differs_becomes_two_and_what_leads_to_it_too() {
        let mut document = document();
        tell_apart(&mut document);
        let schemas = &document["components"]["schemas"];
        let names: Vec<_> = schemas.as_object().into_iter().flat_map(Map::keys).collect();
        assert_eq!(names, ["NodeStats", "NodeStatsInput", "Outer", "OuterInput", "Same"]);
        assert_eq!(schemas["NodeStatsInput"]["required"], json!([]));
        assert_eq!(schemas["NodeStats"]["required"], json!(["n"]));
        assert_eq!(
            schemas["OuterInput"]["properties"]["a"]["$ref"],
            format!("{PREFIX}NodeStatsInput")
        );
        assert_eq!(schemas["OuterInput"]["properties"]["same"]["$ref"], format!("{PREFIX}Same"));
        let operation = &document["paths"]["/x"]["post"];
        assert_eq!(operation["requestBody"]["$ref"], format!("{PREFIX}OuterInput"));
        assert_eq!(operation["responses"]["200"]["$ref"], format!("{PREFIX}Outer"));
    }

    #[test]
    fn what_is_left_out_is_never_null() {
        let mut document = document();
        tell_apart(&mut document);
        let schemas = &document["components"]["schemas"];
        assert_eq!(schemas["NodeStats"]["properties"]["gpu_age_ms"], json!({"type": "integer"}));
        let read = json!({"type": ["integer", "null"], "default": null});
        assert_eq!(schemas["NodeStatsInput"]["properties"]["gpu_age_ms"], read);
    }
}
