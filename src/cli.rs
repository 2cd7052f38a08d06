//! The command line: what there is, and the exit status of each.
//!
//! Exit status: 0 done, 1 not done, 64 bad command line, 66 no such worker, hive or file, 69 nobody
//! answers, 77 no token or not the right one, 78 bad configuration.

mod daemon;

use crate::{
    client::{
        Failure, Output,
        admin::{self, Action, AdminArgs, DrainArgs, StopArgs},
        explain::{self, ExplainArgs},
        logs::{self, LogsArgs},
        spawn::{self, SpawnArgs},
        status::{self, StatusArgs},
        workers::{self, WorkersArgs},
    },
    doctor::{self, DoctorArgs},
    echo_worker::{self, EchoArgs},
    top::{self, TopArgs},
};
use clap::{CommandFactory, Parser, Subcommand, error::ErrorKind};
use clap_complete::Shell;
use std::{path::PathBuf, process::ExitCode};

/// `EX_USAGE` of sysexits.h.
const BAD_COMMAND_LINE: u8 = 64;

/// `EX_CONFIG` of sysexits.h.
const BAD_CONFIGURATION: u8 = 78;

/// Spawns, watches and routes to your LLM and image workers, without their cooperation.
#[derive(Debug, Parser)]
#[command(about = "\
Spawns, watches and routes to your LLM and image workers, without their cooperation.

A worker is any program that serves: llama.cpp, vLLM, ComfyUI. A hive runs on each machine: it starts \
the workers there, watches them, and restarts what dies. A queen gathers what the hives tell, gives \
each request to a worker (for clients of OpenAI's API), and shows all of it at http://127.0.0.1:7833/.")]
#[command(version, args_conflicts_with_subcommands = true, arg_required_else_help = true)]
#[command(override_usage = "rbee --config <FILE> [--check] [--insecure]\n       rbee <COMMAND>")]
#[command(subcommand_help_heading = "Client commands", disable_help_subcommand = true)]
#[command(after_help = "\
Run it:
  rbee --config config/local.toml      try it: queen, hive and echo workers on loopback
  rbee --config config/hive.toml       a hive; the file lists every key with its default
  rbee --config config/queen.toml      a queen; likewise
  systemctl enable --now rbee-hive     where rbee is a package: with /etc/rbee/hive.toml
  RBEE__HIVE__QUEEN_URL=… overrides a key of the file, RUST_LOG sets what is logged

Ask it (the local queen, unless --url or RBEE_URL names another):
  rbee status                          is it up, and what needs a look
  rbee workers --model llama --idle    who could take a request now
  rbee explain --model llama           who would, and why the others would not
  rbee spawn llm/8080 -- /usr/bin/llama-server --model m.gguf --port 8080
  rbee logs -f llm/8080                what it writes; Ctrl-C ends
  rbee top                             all of it, live
  rbee doctor --config config/hive.toml

Workers are named hive/group/instance, or group/instance where that names one. Where tokens are
asked for, give one with --token-file FILE (mode 0600) or in RBEE_TOKEN; where an https address has
an authority of your own, name it with --ca-file FILE or in RBEE_CA_FILE. `rbee <COMMAND> --help`
tells the rest.

Exit status: 0 done, 1 not done, 64 bad command line, 66 no such worker, hive or file,
69 nobody answers, 77 no token or not the right one, 78 bad configuration.")]
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
    /// Is it up, who belongs to it, and what needs a look
    Status(StatusArgs),
    /// Who is there; with a name, one of them in full
    Workers(WorkersArgs),
    /// Start a worker; it runs when this returns
    Spawn(SpawnArgs),
    /// End workers and all that they started
    Stop(StopArgs),
    /// End workers and start them anew; also those that failed
    Restart(AdminArgs),
    /// Give workers no new requests, and wait for what they are at
    Drain(DrainArgs),
    /// Give drained workers requests again
    Resume(AdminArgs),
    /// What a worker wrote; -f goes on
    Logs(LogsArgs),
    /// Who would take a request now, and why the others would not
    Explain(ExplainArgs),
    /// All workers, live
    Top(TopArgs),
    /// Walk the whole chain, say what is wrong and what to do
    Doctor(DoctorArgs),
    /// Print completions: eval "$(rbee completions bash)"
    Completions {
        /// Whose
        shell: Shell,
    },
    /// A small stand-in for an inference server, for trying things without a model
    EchoWorker(EchoArgs),
}

/// Reads the command line and does what it says.
pub fn main() -> ExitCode {
    match Cli::try_parse() {
        Ok(Cli { command: Some(command), .. }) => run(command),
        Ok(Cli { config: Some(path), check, insecure, .. }) => daemon::run(&path, check, insecure),
        Ok(_) => ExitCode::from(BAD_COMMAND_LINE),
        Err(error) => {
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            let _ = error.print();
            if asked { ExitCode::SUCCESS } else { ExitCode::from(BAD_COMMAND_LINE) }
        }
    }
}

fn run(command: Command) -> ExitCode {
    let done = actix::System::new().block_on(async {
        let output = Output::detect();
        match command {
            Command::Status(args) => status::run(&args, output).await,
            Command::Workers(args) => workers::run(&args, output).await,
            Command::Spawn(args) => spawn::run(&args, output).await,
            Command::Stop(StopArgs { admin: args, grace_ms }) => {
                admin::run(Action::Stop, &args, grace_ms, output).await
            }
            Command::Restart(args) => admin::run(Action::Restart, &args, None, output).await,
            Command::Drain(DrainArgs { admin: args, drain_timeout_ms }) => {
                admin::run(Action::Drain, &args, drain_timeout_ms, output).await
            }
            Command::Resume(args) => admin::run(Action::Resume, &args, None, output).await,
            Command::Logs(args) => logs::run(&args, output).await,
            Command::Explain(args) => explain::run(&args, output).await,
            Command::Top(args) => top::run(&args).await,
            Command::Doctor(args) => doctor::run(&args, std::env::vars_os(), output).await,
            Command::Completions { shell } => completions(shell, output),
            Command::EchoWorker(args) => {
                echo_worker::run(args).await.map_err(|error| Failure::Refused(error.to_string()))
            }
        }
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("rbee: {failure}");
            ExitCode::from(failure.status())
        }
    }
}

fn completions(shell: Shell, output: Output) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "rbee", &mut script);
    output.bytes(&script).map(|_| ())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test says what it expects")]
mod tests {
    use super::*;

    #[test]
    fn fuzz_command_line() {
        crate::fuzz::fuzz_text("command-line", |text| {
            let words = text.split('\n').filter(|word| !word.is_empty());
            let Err(error) = Cli::try_parse_from(std::iter::once("rbee").chain(words)) else {
                return;
            };
            assert!(!error.to_string().is_empty());
        });
    }
}
