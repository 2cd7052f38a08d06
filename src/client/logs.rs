//! `rbee logs`: what a worker wrote, and with `-f` what it writes. Ctrl-C ends following, in order.

use super::{Api, Connection, Failure, Output, admin, name::WorkerName};
use futures_util::StreamExt;
use tokio::signal::unix::{SignalKind, signal};

/// `rbee logs`
#[derive(Clone, Debug, clap::Args)]
pub struct LogsArgs {
    /// hive/group/instance, or group/instance where that names one
    #[arg(value_name = "WORKER")]
    pub worker: WorkerName,

    /// Go on with what it writes, until Ctrl-C or until the worker is gone
    #[arg(short, long)]
    pub follow: bool,

    /// Lines to begin with
    #[arg(short = 'n', long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(0..=10_000))]
    pub tail: u64,

    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would show it")]
    pub connection: Connection,
}

/// Where the log of a worker is.
pub fn path(name: &WorkerName, tail: u64, follow: bool) -> String {
    format!("{}/logs?tail={tail}&follow={follow}", admin::path_of(name))
}

/// Copies it, byte for byte.
pub async fn run(args: &LogsArgs, output: Output) -> Result<(), Failure> {
    let api = Api::new(&args.connection)?;
    let role = api.role().await?;
    let name = admin::locate(&api, role, &args.worker).await?;
    let path = path(&name, args.tail, args.follow);
    let opened = api.open(&path, "text/plain").await;
    let mut body = match opened {
        Err(Failure::NotFound(_)) => {
            return Err(super::name::unknown(&args.worker, &admin::known(&api, role).await?));
        }
        other => other?,
    };
    let failed = |error| Failure::Refused(format!("cannot listen to signals: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    loop {
        let patience = async {
            if args.follow {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(api.timeout).await;
        };
        tokio::select! {
            piece = body.next() => match piece {
                Some(Ok(bytes)) if output.bytes(&bytes)? => {}
                Some(Ok(_)) | None => return Ok(()),
                Some(Err(error)) => {
                    return Err(Failure::Unreachable(format!("the log broke off: {error}")));
                }
            },
            _ = interrupt.recv() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
            () = patience => {
                let message = format!("the log stopped coming for {} s", api.timeout.as_secs());
                return Err(Failure::Unreachable(message));
            }
        }
    }
}
