//! The official client of OpenAI, unchanged, against the gateway.

use crate::support::{Site, echo, free_port, ready_workers, secs};
use serde_json::json;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The client's version: the test is of this gateway, not of a release that came out overnight.
const CLIENT: &str = "openai==3.57.0";

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/openai_client.py");

/// A Python that has the client, made once and kept between runs.
fn python_with_client() -> PathBuf {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("openai-client");
    let (python, marker) = (home.join("bin/python"), home.join("installed"));
    if fs::read_to_string(&marker).is_ok_and(|installed| installed == CLIENT) {
        return python;
    }
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&home));
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", CLIENT];
    run(Command::new(&python).args(pip));
    fs::write(&marker, CLIENT).expect("the directory is ours");
    python
}

fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}\n{err}", output.status);
}

#[actix_web::test]
async fn the_official_client_works_unchanged() {
    let python = python_with_client();
    let site = Site::new();
    let workers = json!([
        echo(free_port(), "echo-small", 0, json!({})),
        echo(free_port(), "echo-large", 0, json!({})),
    ]);
    let (queen, _hive) = site.start_both(workers).await;
    ready_workers(queen.queen(), 2, secs(10)).await;
    let base = format!("{}/v1", queen.queen().url());
    let mut command = Command::new(python);
    command.arg(SCRIPT).env("OPENAI_BASE_URL", base).env("OPENAI_API_KEY", "any");
    // The client blocks; the daemons have processes of their own.
    for proxy in
        ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"]
    {
        command.env_remove(proxy);
    }
    run(&mut command);
}
