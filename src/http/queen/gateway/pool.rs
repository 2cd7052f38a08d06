//! The connections to workers of one server thread: one that an answer has left whole serves the next
//! request.

use super::{
    connection::{Body, Connection, Failure},
    target::Target,
};
use actix_http::{ResponseHead, ServiceConfig, error::PayloadError, h1::ClientCodec};
use bytes::Bytes;
use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, sleep};

/// How long an unused connection is kept. Uvicorn and cpp-httplib close theirs after 5 s: one that is
/// about to be closed is not used again.
const KEPT_FOR: Duration = Duration::from_secs(4);

/// See the module.
#[derive(Clone)]
pub(super) struct Pool(Rc<Inner>);

struct Inner {
    /// By authority, the one used last at the end.
    kept: RefCell<HashMap<Box<str>, Vec<Kept>>>,
    /// Whether somebody is at it to close those that were not used for too long.
    sweeping: Cell<bool>,
    /// Has a clock task: made once.
    codec: ServiceConfig,
}

struct Kept {
    until: Instant,
    connection: Connection,
}

impl Pool {
    /// To be called where tasks can be spawned, on the thread that uses it.
    pub(super) fn new() -> Self {
        let (kept, sweeping) = (RefCell::default(), Cell::new(false));
        Self(Rc::new(Inner { kept, sweeping, codec: ServiceConfig::default() }))
    }

    /// Sends a request, and waits for the head of its answer: over a kept connection, and where the worker
    /// has closed that meanwhile, over a new one.
    pub(super) async fn ask(
        &self,
        target: Target,
        head: Bytes,
        body: Bytes,
    ) -> Result<WorkerAnswer, Failure> {
        let codec = || ClientCodec::new(self.0.codec.clone());
        let kept = match self.take(&target.authority) {
            Some(kept) => kept.ask(head.clone(), body.clone(), codec).await,
            None => Err(Failure::Stale),
        };
        let (head, body) = match kept {
            Err(Failure::Stale) => Connection::open(&target).await?.ask(head, body, codec).await?,
            kept => kept?,
        };
        let body = WorkerBody { open: Some((body, target.authority)), pool: self.clone() };
        Ok(WorkerAnswer { head, body })
    }

    fn take(&self, authority: &str) -> Option<Connection> {
        let mut kept = self.0.kept.borrow_mut();
        let kept = kept.get_mut(authority)?;
        let now = Instant::now();
        std::iter::from_fn(|| kept.pop())
            .find(|kept| kept.until > now && kept.connection.is_quiet())
            .map(|kept| kept.connection)
    }

    fn keep(&self, authority: &str, connection: Connection) {
        let (until, mut kept) = (Instant::now() + KEPT_FOR, self.0.kept.borrow_mut());
        let one = Kept { until, connection };
        match kept.get_mut(authority) {
            Some(kept) => kept.push(one),
            None => drop(kept.insert(authority.into(), vec![one])),
        }
        if !self.0.sweeping.replace(true) {
            actix_web::rt::spawn(self.clone().sweep());
        }
    }

    /// Closes what was not used for too long, until nothing is kept.
    async fn sweep(self) {
        while self.0.sweeping.get() {
            sleep(KEPT_FOR).await;
            let (now, mut kept) = (Instant::now(), self.0.kept.borrow_mut());
            kept.retain(|_, kept| {
                kept.retain(|one| one.until > now);
                !kept.is_empty()
            });
            self.0.sweeping.set(!kept.is_empty());
        }
    }
}

/// A worker's answer.
pub(super) struct WorkerAnswer {
    pub(super) head: ResponseHead,
    pub(super) body: WorkerBody,
}

/// Its body. Dropped before its end, it closes the connection, which cancels the request.
pub(super) struct WorkerBody {
    /// Until the end, and which connections it is one of.
    open: Option<(Body, String)>,
    pool: Pool,
}

impl WorkerBody {
    /// As [`Body::poll_next`]. At the end the connection is kept for the next request.
    pub(super) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, PayloadError>>> {
        let Some((body, _)) = &mut self.open else { return Poll::Ready(None) };
        let piece = ready!(body.poll_next(cx));
        if !matches!(piece, Some(Ok(_)))
            && let Some((body, authority)) = self.open.take()
            && piece.is_none()
            && let Some(connection) = body.into_reusable()
        {
            self.pool.keep(&authority, connection);
        }
        Poll::Ready(piece)
    }
}

#[cfg(test)]
#[path = "pool/tests.rs"]
mod tests;
