//! What is the same for all of a document, added to what utoipa makes of types and handlers: the one shape
//! of errors, the bounds of numbers, how tokens are sent.

use super::shape;
use serde_json::{Map, Value, json};
use utoipa::openapi::OpenApi;

/// The document whole.
pub(in crate::http) fn finish(api: OpenApi) -> Value {
    let mut document = serde_json::to_value(api).unwrap_or_default();
    document["components"]["securitySchemes"]["bearerAuth"] = json!({
        "type": "http", "scheme": "bearer",
        "description": "The content of a `token_file`, where the configuration names one.",
    });
    bound(&mut document);
    shape::tell_apart(&mut document);
    errors(&mut document);
    document
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

/// Whole numbers are no larger than their types.
fn bound(value: &mut Value) {
    if let Some(object) = value.as_object_mut() {
        let most = match object.get("format").and_then(Value::as_str) {
            Some("uint16") => Some(u64::from(u16::MAX)),
            Some("uint32") => Some(u64::from(u32::MAX)),
            Some("uint64") => Some(u64::MAX),
            _ => None,
        };
        if let Some(most) = most {
            object.entry("minimum").or_insert(json!(0));
            object.entry("maximum").or_insert(json!(most));
        }
    }
    each_child(value, bound);
}

/// Calls `visit` for all that is directly in `value`.
pub(super) fn each_child(value: &mut Value, mut visit: impl FnMut(&mut Value)) {
    match value {
        Value::Object(map) => map.values_mut().for_each(visit),
        Value::Array(items) => items.iter_mut().for_each(&mut visit),
        _ => {}
    }
}
