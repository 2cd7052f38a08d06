//! Builds a hive, a queen or both, and runs them until told to stop.
//!
//! Everything that can fail for the operator to see is tried first (addresses, the state directory,
//! the cgroup tree), so that a daemon either starts whole or not at all.

mod hive;
mod open_files;
mod queen;

use crate::{
    actors::supervise::ActorExit,
    http::{
        auth::{Guard, GuardConfig, Rules},
        error::HttpError,
        idle::{Connection, Connections, HeldBody},
        in_flight::InFlightCount,
        metrics::RequestDurations,
        socket::on_connect,
        wire,
    },
    platform::tls::{Authorities, CurrentIdentity, Identity},
    settings::{Settings, SettingsError},
};
use actix_web::{
    App, HttpServer, ResponseError as _,
    dev::{ServerHandle, Service},
    web,
};
use hive::Hive;
use nix::sys::socket::{self, Backlog};
use queen::Queen;
use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use thiserror::Error;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};

pub use crate::actors::spawner::error_chain as chain;

/// What is in flight when the daemon stops may take this long, seconds.
const FINISH_WITHIN_S: u64 = 10;

/// Once all is answered, the last bytes get this long on their way.
const FLUSH_WITHIN: Duration = Duration::from_millis(200);

/// TLS handshakes in progress on each thread: as many as connections. Were it fewer, some hundreds of
/// clients that never finish theirs would keep out everybody else.
const TLS_HANDSHAKES_MAX: usize = 25_600;

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

fn listen(address: SocketAddr) -> Result<TcpListener, StartupError> {
    let failed = |source| StartupError::Bind { address, source };
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    // The standard library's 128 are fewer than the hives or dashboards that come back at once after a
    // restart: whoever finds the queue full waits a second and more for the next try.
    socket::listen(&listener, Backlog::MAXCONN).map_err(|errno| failed(errno.into()))?;
    Ok(listener)
}

/// A running server, and how many requests it has in hand.
struct Server {
    handle: ServerHandle,
    in_flight: InFlightCount,
    closing: Arc<AtomicBool>,
    front: Front,
}

/// What stands between the network and a server's handlers.
#[derive(Clone)]
struct Front {
    guard: Arc<Guard>,
    /// `None`: plain HTTP.
    tls: Option<Arc<CurrentIdentity>>,
}

/// Trusts whom the configuration says now, for connections from now on.
fn change_authorities(trusted: Option<&Authorities>, changed: Option<&Authorities>) {
    match (trusted, changed) {
        (Some(trusted), Some(changed)) => trusted.change(changed),
        (None, None) => {}
        _ => tracing::warn!("the first https URL, or the last, counts after a restart only"),
    }
}

impl Front {
    fn new(guard: GuardConfig, identity: Option<Identity>) -> Self {
        if guard.rules.required() && identity.is_none() && !guard.own.bind.ip().is_loopback() {
            let addr = guard.own.bind;
            tracing::warn!(%addr, "tokens travel here in the clear: set tls, or have a proxy with it");
        }
        Self { guard: Guard::new(guard), tls: identity.map(CurrentIdentity::new) }
    }

    /// Other tokens, and another certificate for connections from then on.
    fn reload(&self, rules: Rules, identity: Option<Identity>) {
        self.guard.change_rules(rules);
        match (&self.tls, identity) {
            (Some(current), Some(identity)) => current.change(identity),
            (None, None) => {}
            _ => tracing::warn!("tls is turned on or off by a restart only"),
        }
    }
}

impl Server {
    /// Answers what is in flight, within the time that there is for that, and refuses what comes, but
    /// heartbeats.
    async fn finish(&self) {
        self.closing.store(true, Ordering::Relaxed);
        let within = Duration::from_secs(FINISH_WITHIN_S);
        let _ = tokio::time::timeout(within, self.in_flight.none()).await;
    }

    /// Takes no new connections, and returns when what is in flight has been answered. A client that
    /// does not read its answer is not waited for.
    async fn stop(self) {
        let stopped = self.handle.stop(true);
        let answered = async {
            self.in_flight.none().await;
            tokio::time::sleep(FLUSH_WITHIN).await;
        };
        tokio::select! {
            () = stopped => {}
            () = answered => {}
        }
    }
}

/// Serves `configure`'s routes on `listener` until told to stop; nothing passes but what the guard admits.
fn serve<S: Clone + Send + 'static>(
    listener: TcpListener,
    threads: usize,
    state: S,
    front: Front,
    configure: fn(&mut web::ServiceConfig),
) -> io::Result<Server> {
    let in_flight = InFlightCount::default();
    let (count, guard) = (in_flight.clone(), Arc::clone(&front.guard));
    let durations = RequestDurations::new().map_err(io::Error::other)?;
    let closing = Arc::new(AtomicBool::new(false));
    let closed = Arc::clone(&closing);
    let connections = Connections::default();
    actix::spawn(connections.clone().watch());
    let server = HttpServer::new(move || {
        let (count, guard, durations) = (count.clone(), Arc::clone(&guard), durations.clone());
        let closed = Arc::clone(&closed);
        App::new()
            .app_data(web::Data::new(state.clone()))
            .app_data(web::Data::from(Arc::clone(&guard)))
            .app_data(count.clone())
            .app_data(web::Data::new(durations.clone()))
            .wrap(actix_web_lab::middleware::CatchPanic::default())
            .wrap_fn(move |request, service| {
                let (in_flight, durations) = (count.enter(), durations.clone());
                let in_hand = Connection::take_in_hand(&request);
                let begun = Instant::now();
                let refused = match guard.admit(&request) {
                    Ok(()) if closed.load(Ordering::Relaxed) => {
                        wire::refuse_while_closing(&request)
                    }
                    Ok(()) => wire::refuse_upgrade(&request),
                    Err(refused) => Some(refused),
                };
                let answer = match refused {
                    None => Ok(service.call(request)),
                    Some(refused) => Err(request.into_response(refused.error_response())),
                };
                async move {
                    let _in_flight = in_flight;
                    let mut answer = match answer {
                        // Only a panic gets here as an error; the log has it already.
                        Ok(answer) => answer.await.map_err(faulty)?.map_into_left_body(),
                        Err(refused) => refused.map_into_right_body(),
                    };
                    wire::suit_version(&mut answer);
                    durations.answered(&answer, begun.elapsed());
                    Ok(answer.map_body(|_, body| HeldBody::new(body, in_hand)))
                }
            })
            .configure(configure)
    })
    .workers(threads)
    .disable_signals()
    .tcp_nodelay(true)
    .shutdown_timeout(FINISH_WITHIN_S)
    .max_connection_rate(TLS_HANDSHAKES_MAX)
    .on_connect(on_connect(connections));
    let server = match &front.tls {
        None => server.listen(listener)?,
        Some(identity) => {
            let config = identity.server_config().map_err(io::Error::other)?;
            server.listen_rustls_0_23(listener, config)?
        }
    };
    let server = server.run();
    let handle = server.handle();
    actix::spawn(server);
    Ok(Server { handle, in_flight, closing, front })
}

/// A request that met a panic.
fn faulty(_: actix_web::Error) -> actix_web::Error {
    HttpError::internal("the server failed at this request; its log says how").into()
}

/// Threads that serve HTTP: as many as there are processors, within reason.
fn http_threads(most: usize) -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).clamp(1, most)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic, clippy::unwrap_used, reason = "a panic is what is tested")]
    use super::*;
    use crate::actors::supervise::start_guarded;
    use crate::http::{
        auth::{Access, Class, origin::OwnNames},
        fallback,
    };
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

    async fn panics() -> &'static str {
        panic!("beyond repair")
    }

    #[actix::test]
    async fn a_handler_that_panics_is_answered_as_all_errors_are_and_costs_no_other_request() {
        const ACCESS: &[Access] = &[Access::new("/panics", Class::Open)];
        let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let bind = listener.local_addr().unwrap();
        let own = OwnNames { bind, hostname: None, allowed: Vec::new(), tls: false };
        let guard = GuardConfig { rules: Rules::default(), own, access: ACCESS };
        let server = serve(listener, 1, (), Front::new(guard, None), |config| {
            config.service(fallback::get("/panics", panics));
        });
        let server = server.unwrap();
        for _ in 0..2 {
            let url = format!("http://{bind}/panics");
            let mut answer = awc::Client::default().get(url).send().await.unwrap();
            assert_eq!(answer.status().as_u16(), 500);
            let body: serde_json::Value = answer.json().await.unwrap();
            assert_eq!(body["error"]["code"], "internal_error", "{body}");
            assert!(!body.to_string().contains("beyond repair"), "{body}");
        }
        server.stop().await;
    }
}
