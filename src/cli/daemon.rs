//! `rbee --config FILE`: settings → logging → run → exit status.

use super::BAD_CONFIGURATION;
use crate::{
    settings::{self, SettingsError},
    startup,
};
use std::{io::IsTerminal, path::Path, process::ExitCode};
use tracing_subscriber::EnvFilter;

/// Runs the roles of the file, or only says whether it is good.
pub(super) fn run(path: &Path, check: bool, insecure: bool) -> ExitCode {
    let settings = match settings::load(path, std::env::vars_os(), insecure) {
        Ok(settings) => settings,
        Err(error) => {
            report(&error);
            return ExitCode::from(BAD_CONFIGURATION);
        }
    };
    if check {
        println!("{} is good", path.display());
        return ExitCode::SUCCESS;
    }
    start_logging();
    let reload = {
        let path = path.to_path_buf();
        move || settings::load(&path, std::env::vars_os(), insecure)
    };
    match startup::run(settings, reload) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = startup::chain(&error), "rbee cannot go on");
            ExitCode::FAILURE
        }
    }
}

fn report(error: &SettingsError) {
    eprintln!("rbee: {}", startup::chain(error));
}

/// Events with fields on standard error; colours only for a terminal.
fn start_logging() {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("info,actix_server=warn,actix_http=off"));
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colours)
        .init();
    std::panic::set_hook(Box::new(|panic| {
        // Without a backtrace: taking one stalls the actors beside the one that panicked.
        let place = panic.location().map(ToString::to_string);
        let payload = panic.payload();
        let message = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        tracing::error!(place, message, "panic");
    }));
}
