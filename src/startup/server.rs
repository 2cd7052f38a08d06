//! HTTP on a listener: what stands before a role's routes, and how a server ends.

use super::StartupError;
use crate::{
    http::{
        auth::{Guard, GuardConfig, Rules},
        error::HttpError,
        idle::{Connection, Connections, HeldBody},
        in_flight::InFlightCount,
        metrics::RequestDurations,
        socket::on_connect,
        wire,
    },
    platform::tls::{CurrentIdentity, Identity},
};
use actix_web::{
    App, HttpServer, ResponseError as _,
    dev::{ServerHandle, Service},
    web,
};
use nix::sys::socket::{self, Backlog};
use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::{Duration, Instant},
};

/// What is in flight when the daemon stops may take this long, seconds.
const FINISH_WITHIN_S: u64 = 10;

/// Once all is answered, the last bytes get this long on their way.
const FLUSH_WITHIN: Duration = Duration::from_millis(200);

/// TLS handshakes in progress on each thread: as many as connections. Were it fewer, some hundreds of
/// clients that never finish theirs would keep out everybody else.
const TLS_HANDSHAKES_MAX: usize = 25_600;

pub(super) fn listen(address: SocketAddr) -> Result<TcpListener, StartupError> {
    let failed = |source| StartupError::Bind { address, source };
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    // The standard library's 128 are fewer than the hives or dashboards that come back at once after a
    // restart: whoever finds the queue full waits a second and more for the next try.
    socket::listen(&listener, Backlog::MAXCONN).map_err(|errno| failed(errno.into()))?;
    Ok(listener)
}

/// A running server, and how many requests it has in hand.
pub(super) struct Server {
    handle: ServerHandle,
    in_flight: InFlightCount,
    pub(super) front: Front,
}

/// What stands between the network and a server's handlers.
#[derive(Clone)]
pub(super) struct Front {
    guard: Arc<Guard>,
    /// `None`: plain HTTP.
    tls: Option<Arc<CurrentIdentity>>,
}

impl Front {
    pub(super) fn new(guard: GuardConfig, identity: Option<Identity>) -> Self {
        if guard.rules.required() && identity.is_none() && !guard.own.bind.ip().is_loopback() {
            let addr = guard.own.bind;
            tracing::warn!(%addr, "tokens travel here in the clear: set tls, or have a proxy with it");
        }
        Self { guard: Guard::new(guard), tls: identity.map(CurrentIdentity::new) }
    }

    /// Other tokens, and another certificate for connections from then on.
    pub(super) fn reload(&self, rules: Rules, identity: Option<Identity>) {
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
    pub(super) async fn finish(&self) {
        self.front.guard.close();
        let within = Duration::from_secs(FINISH_WITHIN_S);
        let _ = tokio::time::timeout(within, self.in_flight.none()).await;
    }

    /// Takes no new connections, and returns when what is in flight has been answered. A client that
    /// does not read its answer is not waited for.
    pub(super) async fn stop(self) {
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
pub(super) fn serve<S: Clone + Send + 'static>(
    listener: TcpListener,
    threads: usize,
    state: S,
    front: Front,
    configure: fn(&mut web::ServiceConfig),
) -> io::Result<Server> {
    let in_flight = InFlightCount::default();
    let (count, guard) = (in_flight.clone(), Arc::clone(&front.guard));
    let durations = RequestDurations::new().map_err(io::Error::other)?;
    let connections = Connections::default();
    actix::spawn(connections.clone().watch());
    let server = HttpServer::new(move || {
        let (count, guard, durations) = (count.clone(), Arc::clone(&guard), durations.clone());
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
    Ok(Server { handle, in_flight, front })
}

/// A request that met a panic.
fn faulty(_: actix_web::Error) -> actix_web::Error {
    HttpError::internal("the server failed at this request; its log says how").into()
}

/// Threads that serve HTTP: as many as there are processors, within reason.
pub(super) fn http_threads(most: usize) -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).clamp(1, most)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic, clippy::unwrap_used, reason = "a panic is what is tested")]
    use super::*;
    use crate::http::{
        auth::{Access, Class, origin::OwnNames},
        fallback,
    };

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
