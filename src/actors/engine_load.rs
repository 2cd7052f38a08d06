//! What one worker's engine says of its own load, asked for on a tick of its own.
//!
//! One request at a time, on a thread that samples nothing: a page that hangs costs its own worker's
//! three figures and nothing else. What an answer is worth, and for how long, is the board's to say.

mod page;

pub use page::EngineLoad;

use super::monitor::{MonitorSeat, StopMonitoring};
use crate::limits::{ENGINE_ANSWERS_WITHIN, ENGINE_PAGE_MAX, Limit};
use actix::prelude::*;
use awc::{Client, Connector, error::PayloadError, http::StatusCode};
use std::time::Duration;
use thiserror::Error;

/// Engines make their page on the thread that serves requests: it is not asked for more often.
const TICK_MIN: Duration = Duration::from_millis(100);

/// Asked less often, an answer would not count until the next one is there.
const TICK_MAX: Duration = Duration::from_secs(2);

/// Shorter than the servers of engines keep an idle connection (uvicorn: 5 s), so that a request
/// never meets its end.
const KEEP_ALIVE: Duration = Duration::from_secs(3);

/// Why a page tells nothing.
#[derive(Debug, Error)]
enum EngineLoadError {
    #[error("no answer: {0}")]
    NoAnswer(String),
    #[error("the answer was {0}")]
    Status(StatusCode),
    #[error("the page cannot be read: {0}")]
    Unreadable(String),
    #[error("no answer within {} ms", ENGINE_ANSWERS_WITHIN.as_millis())]
    TooLate,
    #[error("the page has no gauge that is known")]
    NothingKnown,
}

/// See the module.
pub struct EngineLoadActor {
    seat: MonitorSeat,
    url: String,
    client: Client,
    /// `None`: it was not asked yet.
    answers: Option<bool>,
}

impl EngineLoadActor {
    /// To be made on the arbiter that it lives on; asks `url` when it is started.
    pub fn new(mut seat: MonitorSeat, url: String) -> Self {
        seat.interval = seat.interval.clamp(TICK_MIN, TICK_MAX);
        let connector = Connector::new().conn_keep_alive(KEEP_ALIVE);
        // The deadline is ours: it holds for the whole page.
        let client = Client::builder().connector(connector).disable_redirects().disable_timeout();
        let client = client.finish();
        Self { seat, url, client, answers: None }
    }

    /// The next one is asked for only when this one has been answered, or is too late.
    fn tick(&mut self, ctx: &mut Context<Self>) {
        let asked = ask(self.client.clone(), self.url.clone()).into_actor(self);
        ctx.spawn(asked.map(|answer, actor, ctx| {
            actor.take(answer);
            ctx.run_later(actor.seat.next_tick(), Self::tick);
        }));
    }

    /// A page that tells nothing leaves the last load where it is, ageing.
    fn take(&mut self, answer: Result<EngineLoad, EngineLoadError>) {
        let (worker, before) = (&self.seat.name, self.answers.replace(answer.is_ok()));
        match (answer, before) {
            (Ok(load), _) => {
                tracing::trace!(%worker, ?load, "load");
                if before == Some(false) {
                    tracing::info!(%worker, "its load page answers");
                }
                self.seat.board.publish_load(worker, self.seat.run, load);
            }
            (Err(_), Some(false)) => {}
            // Until its model is loaded, an engine does not answer.
            (Err(error), None) => {
                tracing::info!(%worker, %error, "its load page does not answer yet")
            }
            (Err(error), _) => tracing::warn!(%worker, %error, "its load page does not answer"),
        }
    }
}

async fn ask(client: Client, url: String) -> Result<EngineLoad, EngineLoadError> {
    use EngineLoadError::{NoAnswer, NothingKnown, Status, TooLate, Unreadable};
    let exchange = async {
        let request = client.get(url).send();
        let mut response = request.await.map_err(|error| NoAnswer(error.to_string()))?;
        if !response.status().is_success() {
            return Err(Status(response.status()));
        }
        response.body().limit(ENGINE_PAGE_MAX).await.map_err(|error| {
            if matches!(error, PayloadError::Overflow) {
                Limit::EnginePage.reached();
            }
            Unreadable(error.to_string())
        })
    };
    let in_time = tokio::time::timeout(ENGINE_ANSWERS_WITHIN, exchange).await;
    let body = in_time.map_err(|_| {
        Limit::EngineTime.reached();
        TooLate
    })??;
    let load = page::read(&body);
    if load == EngineLoad::default() { Err(NothingKnown) } else { Ok(load) }
}

impl Actor for EngineLoadActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.tick(ctx);
    }
}

impl Handler<StopMonitoring> for EngineLoadActor {
    type Result = ();

    fn handle(&mut self, _: StopMonitoring, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test says what it expects")]
mod tests {
    use super::*;
    use crate::limits::tests::Counting;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// Answers the first request with a page of so many bytes; or does not, without one.
    async fn engine(bytes: Option<usize>) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/metrics", listener.local_addr().unwrap());
        actix::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            if let Some(bytes) = bytes {
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {bytes}\r\n\r\n");
                let mut page = b"vllm:num_requests_running 3\n".to_vec();
                page.resize(bytes, b'\n');
                let _ = stream.write_all(head.as_bytes()).await;
                let _ = stream.write_all(&page).await;
            }
            let _ = stream.read(&mut [0; 1]).await;
        });
        url
    }

    #[actix::test]
    async fn a_page_is_read_up_to_its_most() {
        let read = |bytes| async move { ask(Client::default(), engine(Some(bytes)).await).await };
        assert_eq!(read(ENGINE_PAGE_MAX).await.unwrap().running, Some(3));
        let counting = Counting::of(Limit::EnginePage);
        assert!(matches!(read(ENGINE_PAGE_MAX + 1).await, Err(EngineLoadError::Unreadable(_))));
        counting.counted();
    }

    #[actix::test]
    async fn an_engine_that_does_not_answer_is_not_waited_for() {
        let (counting, url) = (Counting::of(Limit::EngineTime), engine(None).await);
        let asked = ask(Client::default(), url).await;
        assert!(matches!(asked, Err(EngineLoadError::TooLate)));
        counting.counted();
    }
}
