//! Command line → settings → logging → run → exit status.

use rbee::{cli, platform::process};
use std::process::ExitCode;

fn main() -> ExitCode {
    // Before anything else: this binary also is what becomes a worker.
    if std::env::args_os().nth(1).is_some_and(|argument| argument == process::SHIM_ARGUMENT) {
        return process::run_shim();
    }
    cli::main()
}
