//! Builds a hive, a queen or both, and runs them until told to stop.
//!
//! Everything that can fail for the operator to see is tried first (addresses, the state directory,
//! the cgroup tree), so that a daemon either starts whole or not at all.

mod hive;
mod open_files;
mod queen;
mod server;

use crate::{
    actors::supervise::ActorExit,
    platform::tls::Authorities,
    settings::{Settings, SettingsError},
};
use hive::Hive;
use queen::Queen;
use server::{Front, Server, http_threads, listen, serve};
use std::{io, net::SocketAddr};
use thiserror::Error;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};

pub use crate::actors::spawner::error_chain as chain;

/// Why the daemon does not run, or not any more.
#[derive(Debug, Error)]
pub enum StartupError {
    /// Its address cannot be had.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Its state directory cannot be had.
    #[error(transparent)]
    StateDir(#[from] crate::platform::state_dir::StateDirError),
    /// It must have a cgroup tree, and there is none to use.
    #[error("hive.cgroup.mode is \"require\", and there is no cgroup to use: {0}")]
    NoCgroup(String),
    /// Another hive has the slice.
    #[error("another hive uses the cgroup {0}")]
    SliceInUse(String),
    /// The system does not give what it needs.
    #[error("cannot {0}")]
    System(&'static str, #[source] io::Error),
    /// A part of it that everything depends on is gone.
    #[error("the {0} ended: {1}")]
    Broken(&'static str, String),
}

/// Told when an actor ends that nothing works without.
#[derive(Clone, Debug)]
struct Vital(mpsc::UnboundedSender<(&'static str, String)>);

impl Vital {
    /// What to call when the actor of this name ends.
    fn watch(&self, name: &'static str) -> impl FnOnce(ActorExit) + Send + 'static {
        let tell = self.0.clone();
        move |exit| {
            if let ActorExit::Panicked(panic) = exit {
                let _ = tell.send((name, panic));
            }
        }
    }
}

/// Runs the roles until SIGTERM or SIGINT. `reload` reads the configuration again, for SIGHUP.
pub fn run(
    settings: Settings,
    reload: impl Fn() -> Result<Settings, SettingsError>,
) -> Result<(), StartupError> {
    actix::System::new().block_on(run_roles(settings, reload))
}

async fn run_roles(
    settings: Settings,
    reload: impl Fn() -> Result<Settings, SettingsError>,
) -> Result<(), StartupError> {
    let mut signals = Signals::new().map_err(|e| StartupError::System("listen to signals", e))?;
    let (tell, mut broken) = mpsc::unbounded_channel();
    let vital = Vital(tell);
    let hive_listener = settings.hive.as_ref().map(|hive| listen(hive.bind)).transpose()?;
    let queen_listener = settings.queen.as_ref().map(|queen| listen(queen.bind)).transpose()?;
    let open_files = open_files::raise();
    let queen = match settings.queen.zip(queen_listener) {
        Some((settings, listener)) => Some(Queen::start(settings, listener, &vital)?),
        None => None,
    };
    let hive = match settings.hive.zip(hive_listener) {
        Some((settings, listener)) => Some(Hive::start(settings, listener, open_files, &vital)?),
        None => None,
    };
    loop {
        tokio::select! {
            stop = signals.next() => match stop {
                Asked::Stop => break,
                Asked::Reload => match reload() {
                    Ok(settings) => {
                        if let Some((queen, settings)) = queen.as_ref().zip(settings.queen) {
                            queen.reload(settings);
                        }
                        if let Some((hive, settings)) = hive.as_ref().zip(settings.hive) {
                            hive.reload(settings).await;
                        }
                        tracing::info!("configuration read again");
                    }
                    Err(error) => tracing::error!(error = chain(&error), "configuration not taken"),
                },
            },
            Some((name, panic)) = broken.recv() => {
                return Err(StartupError::Broken(name, panic));
            }
        }
    }
    tracing::info!("stopping");
    tokio::select! {
        () = stop_roles(hive, queen) => Ok(()),
        () = signals.stop() => Err(StartupError::Broken("shutdown", "told to stop twice".into())),
    }
}

/// What the queen's clients still wait for comes before the workers that it comes from. Then the hive: in
/// one process with a queen its goodbye still finds somebody.
async fn stop_roles(hive: Option<Hive>, queen: Option<Queen>) {
    if let Some(queen) = &queen {
        queen.finish().await;
    }
    if let Some(hive) = hive {
        hive.stop().await;
    }
    if let Some(queen) = queen {
        queen.stop().await;
    }
    tracing::info!("stopped");
}

enum Asked {
    Stop,
    Reload,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// SIGTERM or SIGINT, whatever else comes.
    async fn stop(&mut self) {
        while let Asked::Reload = self.next().await {}
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.hangup.recv() => Asked::Reload,
        }
    }
}

/// Trusts whom the configuration says now, for connections from now on.
fn change_authorities(trusted: Option<&Authorities>, changed: Option<&Authorities>) {
    match (trusted, changed) {
        (Some(trusted), Some(changed)) => trusted.change(changed),
        (None, None) => {}
        _ => tracing::warn!("the first https URL, or the last, counts after a restart only"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic, clippy::unwrap_used, reason = "a panic is what is tested")]
    use super::*;
    use crate::actors::supervise::start_guarded;
    use actix::{Actor, Arbiter, Context};

    struct Fragile;

    impl Actor for Fragile {
        type Context = Context<Self>;
        fn started(&mut self, _: &mut Self::Context) {
            panic!("beyond repair");
        }
    }

    #[actix::test]
    async fn a_panic_of_what_everything_depends_on_ends_the_daemon_with_its_name() {
        let (tell, mut broken) = mpsc::unbounded_channel();
        let vital = Vital(tell);
        start_guarded(&Arbiter::current(), |_| Fragile, vital.watch("registry"));
        let told = broken.recv().await;
        assert_eq!(told, Some(("registry", "beyond repair".to_owned())));
        let error = told.map(|(name, panic)| StartupError::Broken(name, panic).to_string());
        assert_eq!(error.as_deref(), Some("the registry ended: beyond repair"));
    }
}
