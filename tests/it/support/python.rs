//! Programs from Python's package index: other people's view of the same contract.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The directory of programs of a Python with these packages, made once as `name` and kept between runs.
/// Tests that run at once have a name each.
pub(crate) fn python_with(name: &str, packages: &[&str]) -> PathBuf {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let (programs, marker) = (home.join("bin"), home.join("installed"));
    let wanted = packages.join(" ");
    if fs::read_to_string(&marker).is_ok_and(|installed| installed == wanted) {
        return programs;
    }
    run_tool(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&home));
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    run_tool(Command::new(programs.join("python")).args(pip).args(packages));
    fs::write(&marker, wanted).expect("the directory is ours");
    programs
}

/// Runs it to its end, which must be a good one. No proxy is between it and loopback.
#[track_caller]
pub(crate) fn run_tool(command: &mut Command) -> String {
    if !command.get_args().any(|argument| argument == "pip") {
        for proxy in
            ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"]
        {
            command.env_remove(proxy);
        }
    }
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}\n{err}", output.status);
    out.into_owned()
}
