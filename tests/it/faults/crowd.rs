//! Ten thousand clients of the stream, of which a fifth never reads. The others get each event, `/health` is
//! answered, memory is bounded; who does not read is dropped after half a minute, and who comes too late
//! is told so.

use super::cost::{Cost, Latencies};
use crate::support::{Api, Daemon, Heartbeats, Site, eventually, ms, report, secs, send};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::json;
use std::{
    cell::RefCell,
    io,
    rc::Rc,
    time::{Duration, Instant},
};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpSocket, TcpStream},
    task::{JoinHandle, JoinSet},
};

/// Clients at once, the most that a queen takes.
const CLIENTS: usize = 10_000;
/// Those that never read.
const SILENT: usize = CLIENTS / 5;
/// Descriptors on each side, beside one for each client.
const OTHERS: u64 = 500;
/// Connections that are being made at once.
const AT_ONCE: usize = 200;
/// Bytes of models in a heartbeat that is so long that a few fill what the kernel holds for a client.
const BULK: usize = 30_000;

/// Raises this test's own limit.
fn need_descriptors() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let needed = CLIENTS as u64 + OTHERS;
    assert!(hard >= needed, "this needs {needed} open files, the hard limit is {hard}: ulimit -Hn");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
}

/// What one client has of its stream.
#[derive(Debug, Default)]
struct Seen {
    /// The number of each event, in the order in which they came.
    numbers: Vec<u32>,
    newest_at: Option<Instant>,
    /// What came last and is not read to its end.
    rest: Vec<u8>,
}

impl Seen {
    /// Looks for `id: {start}-{number}` at the beginnings of lines.
    fn read(&mut self, bytes: &[u8]) {
        const MARK: &[u8] = b"\nid: ";
        self.rest.extend_from_slice(bytes);
        let mut at = 0;
        while let Some(found) = self.rest[at..].windows(MARK.len()).position(|part| part == MARK) {
            let line = at + found + MARK.len();
            let Some(end) = self.rest[line..].iter().position(|byte| *byte == b'\n') else {
                at += found;
                self.rest.drain(..at);
                return;
            };
            let id = String::from_utf8_lossy(&self.rest[line..line + end]).into_owned();
            self.note(id.rsplit_once('-').unwrap().1.parse().unwrap());
            at = line + end;
        }
        let kept = self.rest.len().saturating_sub(MARK.len()).max(at);
        self.rest.drain(..kept);
    }

    fn note(&mut self, number: u32) {
        self.newest_at = Some(Instant::now());
        self.numbers.push(number);
    }

    fn newest(&self) -> u32 {
        self.numbers.last().copied().unwrap_or(0)
    }

    /// What came after one event and until another.
    fn between(&self, from: u32, upto: u32) -> Vec<u32> {
        self.numbers.iter().copied().filter(|n| (from + 1..=upto).contains(n)).collect()
    }
}

async fn connect(api: Api, hive: &'static str, silent: bool) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if silent {
        socket.set_recv_buffer_size(4_096)?;
    }
    let mut stream = socket.connect(api.address().parse().expect("an address")).await?;
    let (path, host) = (format!("/v1/heartbeats/stream{hive}"), api.address());
    let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    Ok(stream)
}

async fn connect_all(api: &Api, count: usize, hive: &'static str, silent: bool) -> Vec<TcpStream> {
    let mut under_way = JoinSet::<io::Result<TcpStream>>::new();
    let mut streams = Vec::with_capacity(count);
    for _ in 0..count {
        if under_way.len() == AT_ONCE {
            streams.push(under_way.join_next().await.unwrap().unwrap().unwrap());
        }
        under_way.spawn_local(connect(api.clone(), hive, silent));
    }
    while let Some(stream) = under_way.join_next().await {
        streams.push(stream.unwrap().unwrap());
    }
    streams
}

fn reader(stream: TcpStream) -> Reader {
    let seen = Rc::<RefCell<Seen>>::default();
    let noted = Rc::clone(&seen);
    let reading = actix_web::rt::spawn(async move {
        let mut buffer = [0; 2_048];
        while stream.readable().await.is_ok() {
            match stream.try_read(&mut buffer) {
                Ok(0) => return,
                Ok(read) => noted.borrow_mut().read(&buffer[..read]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    });
    (seen, reading)
}

async fn gauge(queen: &Api, name: &str) -> u64 {
    let page = queen.get("/metrics").await.text;
    let value = page.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
    value.unwrap_or_else(|| panic!("no {name}")) as u64
}

async fn clients(queen: &Api, wanted: usize, deadline: Duration) {
    eventually(deadline, async || match gauge(queen, "rbee_sse_clients ").await {
        count if count == wanted as u64 => Ok(()),
        count => Err(count),
    })
    .await;
}

type Reader = (Rc<RefCell<Seen>>, JoinHandle<()>);

fn newest_of(readers: &[Reader]) -> u32 {
    readers.iter().map(|(seen, _)| seen.borrow().newest()).max().expect("there are readers")
}

/// How long after a heartbeat the last of the readers has its event.
async fn last_after_heartbeat(beats: &Heartbeats, readers: &[Reader], n: u64) -> Duration {
    let before = newest_of(readers);
    let start = Instant::now();
    beats.set("/workers/0/requests_running", json!(n)).await;
    let behind = || readers.iter().filter(|(seen, _)| seen.borrow().newest() <= before).count();
    eventually(secs(10), async || if behind() == 0 { Ok(()) } else { Err(behind()) }).await;
    let last = readers.iter().filter_map(|(seen, _)| seen.borrow().newest_at).max().unwrap();
    last.saturating_duration_since(start)
}

fn rss_kb_each(before: Cost, queen: &Daemon, clients: usize) -> f64 {
    (Cost::of(queen).rss_mb - before.rss_mb) * 1_024.0 / clients as f64
}

#[actix_web::test]
async fn of_ten_thousand_clients_a_fifth_that_never_reads_costs_the_others_nothing() {
    need_descriptors();
    let site = Site::new();
    let queen = site.start("queen", &site.queen_config()).await;
    let api = queen.queen();
    let small = Heartbeats::start(api, "small", json!([report("1", json!({}))])).await;
    let bulky = Heartbeats::start(api, "bulky", json!([])).await;
    let before = Cost::of(&queen);

    let start = Instant::now();
    let reading = connect_all(api, CLIENTS - SILENT, "?hive=small", false).await;
    let readers: Vec<_> = reading.into_iter().map(reader).collect();
    let silent = connect_all(api, SILENT, "?hive=bulky", true).await;
    clients(api, CLIENTS, secs(120)).await;
    eprintln!("{CLIENTS} clients within {:?}", start.elapsed());
    let refused = send(api, "GET", "/v1/heartbeats/stream", &[], "").await.unwrap();
    refused.expect_retry_after(503).await;

    let all_there = newest_of(&readers);
    // Only now is there so much to read that who does not is noticed.
    let long = |n: usize| report(&n.to_string(), json!({"model": "m".repeat(1_000)}));
    bulky.set("/workers", (0..BULK / 1_000).map(long).collect()).await;
    let bulk_since = Instant::now();
    let (mut latencies, mut slowest) = (Latencies::default(), Duration::ZERO);
    for n in 0..5 {
        slowest = slowest.max(last_after_heartbeat(&small, &readers, n).await);
        for _ in 0..10 {
            latencies.ask(api).await;
            tokio::time::sleep(ms(20)).await;
        }
    }
    let each = rss_kb_each(before, &queen, CLIENTS);
    eprintln!(
        "the last of {} had an event after {slowest:?}; {each:.1} KiB a client",
        readers.len()
    );
    assert!(each < 64.0, "{each} KiB a client");
    latencies.assert_half_prompt();

    clients(api, CLIENTS - SILENT, secs(90)).await;
    eprintln!("the silent were closed {:?} after there was much to read", bulk_since.elapsed());
    last_after_heartbeat(&small, &readers, 99).await;
    let upto = readers.iter().map(|(seen, _)| seen.borrow().newest()).min().unwrap();
    let expected = readers[0].0.borrow().between(all_there, upto);
    assert!(expected.len() > 10 && expected.is_sorted(), "{expected:?}");
    for (seen, reading) in &readers {
        // One that had missed something would have been told so, by an event that the others have not.
        assert_eq!(seen.borrow().between(all_there, upto), expected);
        assert!(!reading.is_finished());
    }
    eventually(secs(45), async || {
        let open = Cost::of(&queen).descriptors;
        if open <= before.descriptors + CLIENTS - SILENT + 50 { Ok(()) } else { Err(open) }
    })
    .await;
    drop(silent);
}
