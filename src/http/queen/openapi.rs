//! The queen's OpenAPI document. A new route is documented on its handler, and listed here; what is
//! passed on, to a hive or to a worker, has no handler of its own and is described here.

use super::{heartbeat, metrics, schedule, stream};
use crate::{
    contract,
    http::{
        auth, dashboard,
        docs::{self, operations, retry_after},
        hive,
    },
};
use serde_json::{Value, json};
use std::sync::LazyLock;
use utoipa::OpenApi;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "rbee queen",
        description = "All hives and their workers, and the gateway to them. What is read with GET may be asked for \
            with HEAD. Every error has the form of `ErrorBody`. A key of a query that is not known, or given twice, \
            is an error."
    ),
    servers((url = "/")),
    tags(
        (name = "gateway", description = "For OpenAI's clients: a worker that serves the model answers"),
        (name = "registry", description = "Hives and workers as they last told"),
        (name = "stream", description = "Everything as it happens"),
        (name = "scheduling", description = "A worker's slot, for whoever goes to it himself"),
        (name = "hive calls", description = "A hive's own calls, passed on to it"),
        (name = "heartbeats", description = "How the queen comes to know"),
        (name = "machine", description = "The queen itself"),
        (name = "login", description = "For browsers"),
        (name = "dashboard", description = "A page, and its files"),
        (name = "documents", description = "What you are reading"),
    ),
    paths(
        super::hives,
        super::hive,
        super::workers,
        super::worker,
        super::history,
        super::health,
        stream::get,
        schedule::schedule,
        schedule::explain,
        schedule::renew,
        schedule::cancel,
        heartbeat::post,
        metrics::get,
        dashboard::page,
        dashboard::file,
        auth::login::session,
        auth::login::login,
        auth::login::logout,
        docs::openapi,
        docs::page,
        docs::script,
        docs::style,
    ),
    components(schemas(
        contract::ErrorBody,
        contract::Snapshot,
        contract::HiveTelemetry,
        contract::QueenHeartbeat,
        contract::StreamLifecycle,
        contract::Lagged,
    ))
)]
struct Api;

static TEXT: LazyLock<String> = LazyLock::new(|| build().to_string());

/// The document.
pub fn document() -> &'static str {
    &TEXT
}

fn build() -> Value {
    let mut document = docs::finish(Api::openapi());
    hive_calls(&mut document);
    gateway(&mut document);
    docs::guard(&mut document, super::ACCESS);
    // An empty one says nothing, and is fine.
    for (path, method) in [("/v1/schedule", "post"), ("/v1/reservations/{id}", "put")] {
        document["paths"][path][method]["requestBody"]["required"] = json!(false);
    }
    document
}

/// The hive's calls, as it describes them, each with what can go wrong on the way.
fn hive_calls(document: &mut Value) {
    let mut hive = hive::build();
    for operation in operations(&mut hive) {
        let id = operation["operationId"].as_str().unwrap_or_default().to_owned();
        operation["operationId"] = json!(format!("{id}_of_hive"));
        operation["tags"] = json!(["hive calls"]);
        let mut parameters = vec![json!({
            "name": "id", "in": "path", "required": true, "description": "The hive's id",
            "schema": {"type": "string"}, "example": "localhost",
        })];
        if id == "drain_worker" {
            parameters.push(json!({
                "name": "timeout_ms", "in": "query", "required": false,
                "description": "How long to wait for what is in flight",
                "schema": {"type": "integer", "minimum": 0, "maximum": 3_600_000, "default": 30_000},
            }));
            let late = "It takes no new requests, but some are still in flight";
            add_error(operation, "504", late);
        }
        parameters.extend(operation["parameters"].as_array().into_iter().flatten().cloned());
        operation["parameters"] = json!(parameters);
        for (status, description) in [
            ("400", "The query or the body makes no sense"),
            ("403", "The hive is on another machine, and not in `[[queen.hives]]`"),
            ("404", "No such hive or worker is known"),
            ("408", "The body took longer than 10 s"),
            ("413", "The body is too large"),
            ("502", "The hive does not answer"),
        ] {
            add_error(operation, status, description);
        }
    }
    for (path, item) in hive["paths"].as_object_mut().into_iter().flatten() {
        if let Some(rest) = path.strip_prefix("/v1/workers") {
            document["paths"][format!("/v1/hives/{{id}}/workers{rest}")] = item.take();
        }
    }
    for (name, schema) in hive["components"]["schemas"].as_object_mut().into_iter().flatten() {
        let known = &mut document["components"]["schemas"][name];
        if known.is_null() {
            *known = schema.take();
        }
    }
}

fn add_error(operation: &mut Value, status: &str, description: &str) {
    let responses = &mut operation["responses"][status];
    if responses.is_null() {
        *responses = error(description);
    }
}

fn error(description: &str) -> Value {
    let schema = json!({"$ref": "#/components/schemas/ErrorBody"});
    json!({"description": description, "content": {"application/json": {"schema": schema}}})
}

/// What workers answer is theirs; what the queen answers itself is here.
fn gateway(document: &mut Value) {
    document["components"]["schemas"]["ModelList"] = models();
    document["paths"]["/v1/models"]["get"] = json!({
        "tags": ["gateway"], "operationId": "list_models",
        "summary": "The models that workers serve, in the form of OpenAI's list",
        "responses": {"200": {"description": "Sorted", "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/ModelList"}}}}},
    });
    let chat = json!({"model": "echo-small", "messages": [{"role": "user", "content": "hello"}]});
    for (path, id, summary, example) in [
        ("/v1/chat/completions", "create_chat_completion", "A chat's next message", chat),
        (
            "/v1/completions",
            "create_completion",
            "A text's continuation",
            json!({"model": "echo-small", "prompt": "hello"}),
        ),
        (
            "/v1/embeddings",
            "create_embeddings",
            "A text as a vector",
            json!({"model": "echo-small", "input": "hello"}),
        ),
    ] {
        document["paths"][path]["post"] = inference(id, summary, &example);
    }
}

fn models() -> Value {
    json!({"type": "object", "required": ["object", "data"], "properties": {
        "object": {"const": "list"},
        "data": {"type": "array", "items": {
            "type": "object", "required": ["id", "object", "created", "owned_by"], "properties": {
                "id": {"type": "string"},
                "object": {"const": "model"},
                "created": {"type": "integer", "description": "When the queen started, Unix time"},
                "owned_by": {"const": "rbee"},
            }}},
    }})
}

fn inference(id: &str, summary: &str, example: &Value) -> Value {
    let name = json!({"type": "string", "minLength": 1, "maxLength": 256, "pattern": "^[ -~]+$"});
    let header = |name_of: &str, description: &str| json!({"name": name_of, "in": "header", "required": false, "description": description, "schema": name});
    let worker = json!({"x-rbee-worker": {
        "description": "Who answers: `{hive_id}/{group}/{instance}`", "schema": {"type": "string"}}});
    let mut operation = json!({
        "tags": ["gateway"], "operationId": id, "summary": summary,
        "description": "The queen reads `model` and nothing else; all the rest is the worker's, and its answer comes \
            as it is, streamed where `stream` is true. When all that serve the model are full the request waits.",
        "parameters": [
            header("x-rbee-session", "The same one goes to the same worker, while that one is not full"),
            header("x-rbee-reservation", "A `reservation_id`, which is used up by this"),
        ],
        "requestBody": {
            "required": true, "description": "As OpenAI's; 32 MiB at most, without a `Content-Encoding`",
            "content": {"application/json": {"example": example, "schema": {
                "type": "object", "required": ["model"],
                "properties": {"model": {"type": "string", "minLength": 1, "maxLength": 4_096}}}}},
        },
        "responses": {
            "200": {"description": "The worker's answer", "headers": worker, "content": {
                "application/json": {"schema": {}},
                "text/event-stream": {"schema": {"type": "string"}}}},
            "default": {"description": "The worker's answer, with a status of its own", "headers": worker,
                "content": {"*/*": {"schema": {}}}},
        },
    });
    for (status, description) in [
        ("400", "The body is not a JSON object with `model`, or a header is wrong"),
        ("404", "No worker declares the model, or no such reservation is known"),
        ("408", "The body came too slowly"),
        ("409", "The reservation is in use already, or for another model"),
        ("413", "The body is too large"),
        ("415", "The body has a `Content-Encoding`"),
        ("429", "The queue is full"),
        ("502", "No worker could be reached, or its answer cannot be read"),
        ("503", "No worker is up or became free in time, or the queen has too much in hand"),
        ("504", "The worker did not begin its answer in time"),
        ("508", "A worker's URL is a queen's"),
    ] {
        operation["responses"][status] = error(description);
        if matches!(status, "429" | "503") {
            operation["responses"][status]["headers"]["Retry-After"] = retry_after();
        }
    }
    operation
}
