//! What is the same for all of a document, added to what utoipa makes of types and handlers: the one shape
//! of errors, the bounds of numbers, how tokens are sent.

use super::shape;
use crate::http::auth::{Access, Class};
use serde_json::{Map, Value, json};
use utoipa::openapi::OpenApi;

/// The document whole.
pub(in crate::http) fn finish(api: OpenApi) -> Value {
    let mut document = serde_json::to_value(api).unwrap_or_default();
    document["components"]["securitySchemes"]["bearerAuth"] = json!({
        "type": "http", "scheme": "bearer",
        "description": "The content of a `token_file`, where the configuration names one.",
    });
    correct(&mut document);
    shape::tell_apart(&mut document);
    errors(&mut document);
    document
}

/// Where a token is asked for, if there is one in the configuration.
pub(in crate::http) fn guard(document: &mut Value, access: &[Access]) {
    let paths = document["paths"].as_object_mut().into_iter().flatten();
    for (path, item) in paths {
        let open = access.iter().any(|a| a.path == path && a.reading == Class::Open);
        for operation in item.as_object_mut().into_iter().flat_map(Map::values_mut) {
            if open {
                continue;
            }
            operation["security"] = json!([{"bearerAuth": []}, {}]);
            let refused =
                [("401", "No token, or one that is not known"), ("403", "Not with this token")];
            for (status, why) in refused {
                if operation["responses"][status].is_null() {
                    let error = json!({"$ref": "#/components/schemas/ErrorBody"});
                    operation["responses"][status] = json!({
                        "description": why,
                        "content": {"application/json": {"schema": error}},
                    });
                }
            }
        }
    }
}

/// Every operation of a document.
pub(in crate::http) fn operations(document: &mut Value) -> impl Iterator<Item = &mut Value> {
    let paths = document["paths"].as_object_mut().into_iter().flat_map(Map::values_mut);
    paths.filter_map(Value::as_object_mut).flat_map(Map::values_mut)
}

/// Every error has the same form; whoever is told to come back later is told when.
fn errors(document: &mut Value) {
    for operation in operations(document) {
        let responses = operation["responses"].as_object_mut();
        for (status, response) in responses.into_iter().flatten() {
            if !status.starts_with(['4', '5']) {
                continue;
            }
            if response.get("content").is_none() {
                let error = json!({"$ref": "#/components/schemas/ErrorBody"});
                response["content"]["application/json"]["schema"] = error;
            }
            if status == "503" {
                response["headers"]["Retry-After"] = retry_after();
            }
        }
    }
}

/// The header that says when.
pub(in crate::http) fn retry_after() -> Value {
    json!({"description": "Seconds to wait", "required": true,
        "schema": {"type": "integer", "minimum": 1}})
}

/// Whole numbers are no larger than their types, whose names utoipa spells in a way of its own; and what
/// Rust calls `None` is `null` here.
fn correct(value: &mut Value) {
    if let Some(object) = value.as_object_mut() {
        let bounded = match object.get("format").and_then(Value::as_str) {
            Some("u-int16") => Some(("uint16", u64::from(u16::MAX))),
            Some("u-int32") => Some(("uint32", u64::from(u32::MAX))),
            Some("u-int64") => Some(("uint64", u64::MAX)),
            _ => None,
        };
        if let Some((format, most)) = bounded {
            object.insert("format".into(), json!(format));
            object.entry("minimum").or_insert(json!(0));
            object.entry("maximum").or_insert(json!(most));
        }
    }
    if let Some(Value::String(description)) = value.get_mut("description") {
        *description = description.replace("`None`", "`null`");
    }
    each_child(value, correct);
}

/// Calls `visit` for all that is directly in `value`.
pub(super) fn each_child(value: &mut Value, mut visit: impl FnMut(&mut Value)) {
    match value {
        Value::Object(map) => map.values_mut().for_each(visit),
        Value::Array(items) => items.iter_mut().for_each(&mut visit),
        _ => {}
    }
}
