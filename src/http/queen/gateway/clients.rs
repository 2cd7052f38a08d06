//! The HTTP clients of one server thread, and what their failures mean.

use super::worker_io::{Dropped, WorkerIo};
use actix_tls::connect::{ConnectError, ConnectInfo, ConnectorService};
use actix_web::{
    dev::{Service, fn_service},
    error::ParseError,
    http::Uri,
};
use awc::{Client, error::SendRequestError};
use std::{cell::RefCell, io, time::Duration};
use tokio::time::Instant;

/// How long an unused connection is kept. Uvicorn and cpp-httplib close theirs after 5 s: one that is
/// about to be closed is not used again.
const KEPT_FOR: Duration = Duration::from_secs(4);
/// How long a worker may take to accept a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);

/// How long one pool is used. A pool looks at a connection only when its worker is asked again: of a
/// worker that has gone, on a port of its own, it would keep the closed connections for ever.
const POOL_FOR: Duration = Duration::from_secs(60);

pub(super) struct Clients {
    /// Since when, and the client whose connections are used again.
    pooled: RefCell<(Instant, Client)>,
    /// Its connections serve one request: for the second try when a kept one was stale.
    pub(super) fresh: Client,
}

impl Clients {
    pub(super) fn new() -> Self {
        Self { pooled: RefCell::new((Instant::now(), client())), fresh: client() }
    }

    /// The client whose connections are used again. What an older one has in hand goes on.
    pub(super) fn pooled(&self) -> Client {
        let mut pooled = self.pooled.borrow_mut();
        if pooled.0.elapsed() > POOL_FOR {
            *pooled = (Instant::now(), client());
        }
        pooled.1.clone()
    }
}

/// Without limits of its own: placement bounds what a worker gets, and the gateway how long it takes.
fn client() -> Client {
    let tcp = ConnectorService::default();
    let service = fn_service(move |to: ConnectInfo<Uri>| {
        let connected = tcp.call(to);
        async move {
            let (io, connection) = connected.await?.replace_io(());
            io.set_nodelay(true).map_err(ConnectError::Io)?;
            Ok(connection.replace_io(WorkerIo::new(io)).1)
        }
    });
    let connector = awc::Connector::new()
        .connector(service)
        .limit(0)
        .timeout(CONNECT_WITHIN)
        .conn_keep_alive(KEPT_FOR)
        .conn_lifetime(Duration::MAX);
    Client::builder()
        .disable_timeout()
        .disable_redirects()
        .no_default_headers()
        .connector(connector)
        .finish()
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// A kept connection had been closed by the worker; a new one may well do.
    Stale,
    /// No connection, or a new one that was lost before the answer began.
    Refused,
    /// The answer had begun, or it is none.
    Bad,
}

pub(super) fn judge(error: &SendRequestError) -> Failure {
    match error {
        SendRequestError::Connect(_) | SendRequestError::Url(_) | SendRequestError::Http(_) => {
            Failure::Refused
        }
        SendRequestError::Send(error) | SendRequestError::Response(ParseError::Io(error)) => {
            match dropped(error) {
                Some(Dropped { reused: true }) => Failure::Stale,
                Some(Dropped { reused: false }) => Failure::Refused,
                None => Failure::Bad,
            }
        }
        _ => Failure::Bad,
    }
}

fn dropped(error: &io::Error) -> Option<&Dropped> {
    error.get_ref()?.downcast_ref()
}

#[cfg(test)]
#[path = "clients/tests.rs"]
mod tests;
