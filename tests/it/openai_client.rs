//! The official client of OpenAI, unchanged, against the gateway.

use crate::support::{Site, echo, free_port, python_with, ready_workers, run_tool, secs};
use serde_json::json;
use std::process::Command;

/// The client's version: the test is of this gateway, not of a release that came out overnight.
const CLIENT: &str = "openai==3.57.0";

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/openai_client.py");

#[actix_web::test]
async fn the_official_client_works_unchanged() {
    let tools = python_with("openai-client", &[CLIENT]);
    let site = Site::new();
    let workers = json!([
        echo(free_port(), "echo-small", 0, json!({})),
        echo(free_port(), "echo-large", 0, json!({})),
    ]);
    let (queen, _hive) = site.start_both(workers).await;
    ready_workers(queen.queen(), 2, secs(10)).await;
    let base = format!("{}/v1", queen.queen().url());
    let mut command = Command::new(tools.join("python"));
    command.arg(SCRIPT).env("OPENAI_BASE_URL", base).env("OPENAI_API_KEY", "any");
    // The client blocks; the daemons have processes of their own.
    run_tool(&mut command);
}
