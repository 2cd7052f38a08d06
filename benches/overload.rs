//! A queen that is offered twice what it can take: `cargo bench --bench overload`. Heartbeats of 100 workers
//! and small chats in turn, from threads of a lower priority on the same machine; beside them `/health` is
//! asked for, each time on a connection of its own. Fails where one of ten answers takes longer than a tenth
//! of a second; whatever else the machine does is in the figures, too.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a measurement ends at what it did not expect"
)]

#[path = "../tests/it/support/load.rs"]
mod load;

use load::{Load, Outcome, heartbeat, worker};
use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    thread::{JoinHandle, sleep},
    time::{Duration, Instant},
};

/// What an operator's `/health` may take.
const HEALTH_WITHIN: Duration = Duration::from_millis(100);
/// How often it is asked for.
const ASK_EVERY: Duration = Duration::from_millis(10);
const CONNECTIONS: usize = 64;
const MEASURE: Duration = Duration::from_secs(5);
const OFFER: Duration = Duration::from_secs(10);

struct Queen(Child, SocketAddr);

impl Drop for Queen {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn queen() -> Queen {
    let directory = tempfile::tempdir().unwrap();
    let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let config = directory.path().join("queen.toml");
    fs::write(&config, format!("[queen]\nbind = \"{address}\"\n")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_rbee"));
    command.arg("--config").arg(&config).stdout(Stdio::null()).stderr(Stdio::null());
    let queen = Queen(command.spawn().unwrap(), address);
    let begun = Instant::now();
    while TcpStream::connect(address).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(10), "the queen does not listen");
        sleep(Duration::from_millis(10));
    }
    queen
}

/// One request on a connection of its own; how long it took.
fn ask(address: SocketAddr, request: &[u8]) -> Duration {
    let begun = Instant::now();
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    socket.write_all(request).unwrap();
    let mut answer = [0; 512];
    let read = socket.read(&mut answer).unwrap();
    assert!(answer[..read].starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    begun.elapsed()
}

/// Half, nine of ten, 99 of 100 of the answers beside the load came within these.
fn beside<T>(address: SocketAddr, load: JoinHandle<T>) -> ([Duration; 3], T) {
    let mut took = Vec::new();
    while !load.is_finished() {
        took.push(ask(address, b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n"));
        sleep(ASK_EVERY);
    }
    took.sort_unstable();
    let at = |percent: usize| took[(took.len() * percent / 100).min(took.len() - 1)];
    ([at(50), at(90), at(99)], load.join().unwrap())
}

fn main() {
    // `cargo test --all-targets` runs this, too.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let (queen, worker) = (queen(), worker());
    ask(queen.1, &heartbeat(0, worker));
    let load = Load(queen.1);
    let row = |what: &str, [half, most, nearly]: [Duration; 3]| {
        println!("{what:<42} /health: half {half:.1?}, 90 % {most:.1?}, 99 % {nearly:.1?}");
    };
    let (took, most) = beside(queen.1, load.most(worker, CONNECTIONS, MEASURE));
    row(&format!("as much as it takes: {most:.0} requests/s"), took);
    let (took, outcome) = beside(queen.1, load.offer(worker, 2.0 * most, OFFER));
    row("twice as much", took);
    let Outcome { done, refused, wrong, lost } = outcome;
    let second = |count: usize| count as f64 / OFFER.as_secs_f64();
    println!(
        "  of these {:.0}/s done, {:.0}/s refused with 429 or 503, {:.0}/s not sent or not answered, {wrong} wrong",
        second(done),
        second(refused),
        second(lost)
    );
    assert!(took[1] <= HEALTH_WITHIN && wrong == 0, "{took:?}");
    let (took, outcome) = beside(queen.1, load.offer(worker, most / 2.0, MEASURE));
    row("half as much, right after", took);
    assert_eq!((outcome.refused, outcome.wrong, outcome.lost), (0, 0, 0), "it has recovered");
}
