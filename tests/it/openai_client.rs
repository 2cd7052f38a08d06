//! The official `openai` package for Python talks to the gateway. It is installed where it is missing.

use crate::support::{Site, echo, free_port, ready_workers, secs};
use serde_json::json;
use std::{
    path::{Path, PathBuf},
    process::Command,
};

const PACKAGE: &str = "openai==3.57.0";

/// The Python of an environment that has the package.
fn python() -> PathBuf {
    let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join("openai-venv");
    let (python, done) = (venv.join("bin/python"), venv.join(PACKAGE));
    if !done.exists() {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv));
        run(Command::new(&python).args(["-m", "pip", "install", "--quiet", PACKAGE]));
        std::fs::write(done, "").unwrap();
    }
    python
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

#[actix_web::test]
async fn the_official_client_talks_to_the_gateway() {
    let site = Site::new();
    let port = free_port();
    let (queen, _hive) = site.start_both(json!([echo(port, "tiny", 0, json!({}))])).await;
    ready_workers(queen.queen(), 1, secs(10)).await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/openai_client.py");
    let url = queen.queen().url().to_owned();
    let talk = move || run(Command::new(python()).arg(script).arg(url));
    let said = actix_web::rt::task::spawn_blocking(talk).await.unwrap();
    assert!(said.contains("all is well"), "{said}");
}
