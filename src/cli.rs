//! The command line. Exit status: 0 done, 64 bad command line, 78 bad configuration, 1 anything else.

use crate::{
    echo_worker::{self, EchoArgs},
    settings::{self, SettingsError},
    startup,
};
use clap::{Parser, Subcommand, error::ErrorKind};
use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
    process::ExitCode,
};
use tracing_subscriber::EnvFilter;

/// `EX_USAGE` of sysexits.h.
const BAD_COMMAND_LINE: u8 = 64;

/// `EX_CONFIG` of sysexits.h.
const BAD_CONFIGURATION: u8 = 78;

/// Spawns, watches and routes to your LLM and image workers, without their cooperation.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true, arg_required_else_help = true)]
#[command(after_help = "\
Try it: rbee --config config/local.toml, then open another terminal and
  curl http://127.0.0.1:7833/v1/workers
  curl -N http://127.0.0.1:7833/v1/heartbeats/stream

Environment: RBEE__SECTION__KEY overrides a key of the file, such as
  RBEE__HIVE__QUEEN_URL=http://10.0.0.1:7833
RUST_LOG sets what is logged (error, warn, info, debug, trace; default info).")]
struct Cli {
    /// Run every role that FILE has a section for: [hive], [queen] or both
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Only say whether FILE is good
    #[arg(long, requires = "config")]
    check: bool,

    /// Bind to addresses that others can reach, although no token is configured
    #[arg(long, requires = "config")]
    insecure: bool,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// A small stand-in for an inference server, for trying things without a model
    EchoWorker(EchoArgs),
}

/// Reads the command line and does what it says.
pub fn main() -> ExitCode {
    match Cli::try_parse() {
        Ok(Cli { command: Some(Command::EchoWorker(arguments)), .. }) => echo(arguments),
        Ok(Cli { config: Some(path), check, insecure, .. }) => daemon(&path, check, insecure),
        Ok(_) => ExitCode::from(BAD_COMMAND_LINE),
        Err(error) => {
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            let _ = error.print();
            if asked { ExitCode::SUCCESS } else { ExitCode::from(BAD_COMMAND_LINE) }
        }
    }
}

fn echo(arguments: EchoArgs) -> ExitCode {
    match actix::System::new().block_on(echo_worker::run(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rbee echo-worker: {error}");
            ExitCode::FAILURE
        }
    }
}

fn daemon(path: &Path, check: bool, insecure: bool) -> ExitCode {
    let environment = || {
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
    };
    let settings = match settings::load(path, environment(), insecure) {
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
        move || settings::load(&path, environment(), insecure)
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

/// Events with fields on standard error; colours only for a terminal. What clients and workers do wrong on
/// a connection is told where it is known whose it is: the HTTP library calls each an error.
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
