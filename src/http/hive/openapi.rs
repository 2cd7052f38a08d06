//! The hive's OpenAPI document. A new route is documented on its handler, and listed here.

use crate::{contract, http::docs};
use serde_json::{Value, json};
use std::sync::LazyLock;
use utoipa::OpenApi;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "rbee hive",
        description = "One machine's workers. What is read with GET may be asked for with HEAD. Every error has \
            the form of `ErrorBody`. A key of a query that is not known, or given twice, is an error."
    ),
    servers((url = "/")),
    tags(
        (name = "workers", description = "What runs on this machine, and what is asked of it"),
        (name = "machine", description = "The machine and the hive itself"),
        (name = "documents", description = "What you are reading"),
    ),
    paths(
        super::list,
        super::spawn,
        super::one,
        super::stop,
        super::restart,
        super::drain,
        super::resume,
        super::logs::get,
        super::capabilities,
        super::metrics::get,
        super::health,
        docs::openapi,
        docs::page,
        docs::script,
        docs::style,
    ),
    components(schemas(contract::ErrorBody))
)]
struct Api;

static TEXT: LazyLock<String> = LazyLock::new(|| build().to_string());

/// The document.
pub fn document() -> &'static str {
    &TEXT
}

/// The same before it is text.
pub(in crate::http) fn build() -> Value {
    let mut document = docs::finish(Api::openapi());
    let schemas = &mut document["components"]["schemas"];
    // A key that a spec does not have is a mistake, and refused.
    for name in ["WorkerSpec", "RestartPolicy", "ReadyProbe", "LiveProbe", "LoadSource"] {
        schemas[format!("{name}Input")]["additionalProperties"] = json!(false);
    }
    let memory_limit = &mut schemas["WorkerSpecInput"]["properties"]["memory_limit"];
    memory_limit["type"] = json!(["string", "integer", "null"]);
    memory_limit["minimum"] = json!(1);
    schemas["LiveProbeInput"]["oneOf"] = json!([
        {"required": ["http"], "properties": {"http": {"type": "string"}, "completion": {"const": false}}},
        {"required": ["completion"], "properties": {"http": {"type": "null"}, "completion": {"const": true}}},
    ]);
    docs::guard(&mut document, super::ACCESS);
    document
}
