//! Stands between a hive and its queen, and passes heartbeats on or does something worse with them.

use crate::support::{Api, RawWorker, Reply, eventually, free_port, ms, secs};
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};
use tokio::sync::mpsc::UnboundedSender;

/// A heartbeat that the queen has may be answered this late by a [`Fault::Slow`] one.
const SLOW_MS: u64 = 1_000;

/// What becomes of a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The connection is refused.
    Dead,
    /// It is taken and never answered.
    Hung,
    /// The queen gets it, and answers when nobody listens any more.
    Slow,
    /// The queen gets it, and the answer breaks off.
    Lost,
    /// 500.
    Error,
    /// 200 with something that no queen says.
    Rubbish,
    /// 200 with a body without an end.
    Huge,
    /// Headers without an end.
    EndlessHead,
    /// A body that breaks off.
    Cut,
    /// It is sent elsewhere.
    Redirect,
    /// A byte now and then.
    Trickle,
    /// 503 and a wait of years.
    AbsurdWait,
}

impl Fault {
    pub(super) const ALL: [Self; 12] = [
        Self::Dead,
        Self::Hung,
        Self::Slow,
        Self::Lost,
        Self::Error,
        Self::Rubbish,
        Self::Huge,
        Self::EndlessHead,
        Self::Cut,
        Self::Redirect,
        Self::Trickle,
        Self::AbsurdWait,
    ];
}

/// See the module.
pub(super) struct Detour {
    address: String,
    queen: Api,
    fault: Rc<Cell<Option<Fault>>>,
    met: Rc<Cell<usize>>,
    listener: RefCell<Option<RawWorker>>,
}

impl Detour {
    /// Passes everything on.
    pub(super) async fn to(queen: &Api) -> Self {
        let detour = Self {
            address: format!("127.0.0.1:{}", free_port()),
            queen: queen.clone(),
            fault: Rc::default(),
            met: Rc::default(),
            listener: RefCell::default(),
        };
        detour.heal().await;
        detour
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on this happens.
    pub(super) async fn fail_with(&self, fault: Fault) {
        self.met.set(0);
        self.fault.set(Some(fault));
        if fault == Fault::Dead {
            self.listener.replace(None);
        }
    }

    /// Everything is passed on again.
    pub(super) async fn heal(&self) {
        self.fault.set(None);
        if self.listener.borrow().is_none() {
            let (queen, fault, met) = (self.queen.clone(), self.fault.clone(), self.met.clone());
            let answer = move |request: &crate::support::Request| match fault.get() {
                None => pass(queen.clone(), request.text(), |head, body| [head, body].concat()),
                Some(fault) => {
                    met.set(met.get() + 1);
                    answer(fault, &queen, request.text())
                }
            };
            let listener = RawWorker::at(&self.address, answer).await;
            self.listener.replace(Some(listener));
        }
    }

    /// Waits until so many heartbeats have met with the fault.
    pub(super) async fn met(&self, times: usize) {
        if self.fault.get() == Some(Fault::Dead) {
            return;
        }
        let enough = async || if self.met.get() >= times { Ok(()) } else { Err(self.met.get()) };
        eventually(secs(10), enough).await;
    }
}

fn answer(fault: Fault, queen: &Api, heartbeat: String) -> Reply {
    let text = |text: &str| Reply::Close(text.as_bytes().to_vec());
    match fault {
        // Before the listener was gone.
        Fault::Dead => Reply::Close(Vec::new()),
        Fault::Hung => Reply::Never,
        Fault::Slow => late(queen.clone(), heartbeat),
        Fault::Lost => pass(queen.clone(), heartbeat, |head, _| head[..head.len() / 2].to_vec()),
        Fault::Error => Reply::whole("500 Internal Server Error", "", b"oh"),
        Fault::Rubbish => Reply::whole("200 OK", "content-type: text/html\r\n", b"<html>Welcome"),
        Fault::Huge => Reply::Flood(u64::MAX),
        Fault::EndlessHead => in_pieces("x: ".to_owned() + &"x".repeat(32 << 10) + "\r\n", 1),
        Fault::Cut => text("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"status\":\"ok\""),
        Fault::Redirect => text(
            "HTTP/1.1 307 Temporary Redirect\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
        ),
        Fault::Trickle => in_pieces("x".to_owned(), 20),
        Fault::AbsurdWait => {
            Reply::whole("503 Service Unavailable", "retry-after: 999999999\r\n", b"{}")
        }
    }
}

/// What `change` makes of the queen's own head and body.
fn pass(queen: Api, heartbeat: String, change: fn(&[u8], &[u8]) -> Vec<u8>) -> Reply {
    let (sender, reply) = Reply::steps();
    actix_web::rt::spawn(async move {
        if let Some((head, body)) = ask(&queen, heartbeat).await {
            let _ = sender.send(change(head.as_bytes(), body.as_bytes()));
        }
    });
    reply
}

fn late(queen: Api, heartbeat: String) -> Reply {
    let (sender, reply) = Reply::steps();
    actix_web::rt::spawn(async move {
        if let Some((head, body)) = ask(&queen, heartbeat).await {
            tokio::time::sleep(ms(SLOW_MS)).await;
            let _ = sender.send((head + &body).into_bytes());
        }
    });
    reply
}

async fn ask(queen: &Api, heartbeat: String) -> Option<(String, String)> {
    let heartbeat = serde_json::from_str(&heartbeat).expect("a hive sends JSON");
    // The queen's end is the end of the test.
    let answer = queen.try_post("/v1/hive-heartbeat", heartbeat).await.ok()?;
    let length = answer.text.len();
    let head = format!("HTTP/1.1 {} -\r\ncontent-length: {length}\r\n\r\n", answer.status);
    Some((head, answer.text))
}

/// A head that goes on like this, a piece each so many milliseconds, until the client has enough.
fn in_pieces(piece: String, pause_ms: u64) -> Reply {
    let (sender, reply) = Reply::steps();
    actix_web::rt::spawn(send_pieces(sender, piece.into_bytes(), pause_ms));
    reply
}

async fn send_pieces(sender: UnboundedSender<Vec<u8>>, piece: Vec<u8>, pause_ms: u64) {
    let mut taken = sender.send(b"HTTP/1.1 200 OK\r\nx-more: ".to_vec());
    while taken.is_ok() {
        tokio::time::sleep(ms(pause_ms)).await;
        taken = sender.send(piece.clone());
    }
}
