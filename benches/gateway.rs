//! What the gateway adds to asking a worker directly, beside nginx: `cargo bench --bench gateway`.
//!
//! On loopback, all processes on this machine: the figures are of all of them together, and comparable
//! only within one run. Each is a median of rounds in which rbee and nginx take turns.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a measurement ends at what it did not expect"
)]

#[path = "gateway/client.rs"]
mod client;
#[path = "gateway/site.rs"]
mod site;

use client::{Line, chat};
use site::{Queen, Server, nginx, worker};
use std::{net::SocketAddr, thread::sleep, time::Duration};

/// Requests asked one after the other, of each.
const REQUESTS: usize = 10_000;
/// Before these, not counted.
const WARM_UP: usize = 500;
/// Connections that ask at once, how long, and how often.
const CONNECTIONS: usize = 64;
const LOAD_FOR: Duration = Duration::from_secs(3);
const LOAD_ROUNDS: usize = 3;
/// Answers streamed at once, how often, and what each is of.
const STREAMS: u32 = 200;
const STREAMS_FEW: u32 = 20;
const STREAM_ROUNDS: usize = 4;
const STREAM_WORDS: u32 = 300;
const WORD_MS: u64 = 16;
/// Begin, end, and `[DONE]` beside the words.
const STREAM_CHUNKS: u32 = STREAM_WORDS + 3;

/// The addresses and requests of one way to the workers.
pub(crate) struct Target {
    name: &'static str,
    small: (SocketAddr, Vec<u8>),
    stream: (SocketAddr, Vec<u8>),
}

impl Target {
    fn new(name: &'static str, small: SocketAddr, stream: SocketAddr) -> Self {
        Self {
            name,
            small: (small, chat("small", 1, false)),
            stream: (stream, chat("stream", STREAM_WORDS as usize, true)),
        }
    }
}

fn main() {
    // `cargo test --all-targets` runs this, too.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let directory = tempfile::tempdir().unwrap();
    let (small, stream) = (worker("small", 0), worker("stream", WORD_MS));
    let workers = [("small", small.address), ("stream", stream.address)];
    let queen = Queen::start(directory.path(), &workers);
    let nginx = nginx(directory.path(), &[small.address, stream.address]);
    let direct = Target::new("direct", small.address, stream.address);
    let address = queen.server.address;
    let mut proxies = vec![(Target::new("rbee", address, address), &queen.server)];
    if let Some((server, addresses)) = &nginx {
        proxies.push((Target::new("nginx", addresses[0], addresses[1]), server));
    } else {
        println!("nginx is not on PATH: rbee alone");
    }
    // First, while no proxy has memory left over from something else.
    let streamed = streamed(&proxies);
    let mut latency = latency(&direct, &proxies, "");
    let throughput = throughput(&proxies);
    // Last: nothing is let go of again.
    let servers = [&small].into_iter().chain(proxies.iter().map(|(_, server)| *server));
    latency.extend(latency_on_one_processor(&direct, &proxies, servers));
    println!("\n{:<46}{}", format!("{cpus} processors"), names(&proxies));
    for row in [latency, throughput, streamed].iter().flatten() {
        println!("{row}");
    }
}

fn names(proxies: &[(Target, &Server)]) -> String {
    proxies.iter().map(|(target, _)| format!("{:>12}", target.name)).collect()
}

fn row(name: &str, decimals: usize, figures: impl IntoIterator<Item = f64>) -> String {
    let figures: String =
        figures.into_iter().map(|figure| format!("{figure:>12.decimals$}")).collect();
    format!("{name:<46}{figures}")
}

/// Of a hundred, the one at `percent`.
fn at(figures: &mut [f64], percent: usize) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[(figures.len() * percent / 100).min(figures.len() - 1)]
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// As [`latency`], without what it costs to wake another, idle processor: on a small or virtual machine
/// that is most of it, and depends on where the kernel happens to put whom.
fn latency_on_one_processor<'a>(
    direct: &Target,
    proxies: &[(Target, &Server)],
    mut servers: impl Iterator<Item = &'a Server>,
) -> Vec<String> {
    let cpu = site::some_cpu();
    if site::pin(std::process::id(), &cpu) && servers.all(|server| server.pin(&cpu)) {
        return latency(direct, proxies, " (on 1 processor)");
    }
    vec!["processes cannot be pinned: taskset is missing or fails".to_owned()]
}

/// One request after the other, each way in turn.
fn latency(direct: &Target, proxies: &[(Target, &Server)], how: &str) -> Vec<String> {
    let targets: Vec<_> = std::iter::once(direct).chain(proxies.iter().map(|(t, _)| t)).collect();
    let mut lines: Vec<_> = targets.iter().map(|target| Line::open(target.small.0)).collect();
    let mut took = vec![Vec::with_capacity(REQUESTS); targets.len()];
    for number in 0..WARM_UP + REQUESTS {
        for ((target, line), took) in targets.iter().zip(&mut lines).zip(&mut took) {
            let time = line.ask(&target.small.1);
            if number >= WARM_UP {
                took.push(micros(time));
            }
        }
    }
    let (p50, p99): (Vec<_>, Vec<_>) =
        took.iter_mut().map(|took| (at(took, 50), at(took, 99))).unzip();
    let added = |of: &[f64]| of.iter().skip(1).map(|time| time - of[0]).collect::<Vec<_>>();
    vec![
        row(&format!("direct{how}: p50, p99, µs"), 1, [p50[0], p99[0]]),
        row(&format!("added{how} at p50, µs"), 1, added(&p50)),
        row(&format!("added{how} at p99, µs"), 1, added(&p99)),
    ]
}

fn throughput(proxies: &[(Target, &Server)]) -> Vec<String> {
    let mut figures = vec![(Vec::new(), Vec::new()); proxies.len()];
    for _ in 0..LOAD_ROUNDS {
        for ((target, server), (rates, costs)) in proxies.iter().zip(&mut figures) {
            let before = server.cpu();
            let answered = client::run(client::load(target, CONNECTIONS, LOAD_FOR)) as f64;
            rates.push(answered / LOAD_FOR.as_secs_f64());
            costs.push(micros(server.cpu() - before) / answered);
        }
    }
    let (rates, costs): (Vec<_>, Vec<_>) =
        figures.iter_mut().map(|(rates, costs)| (at(rates, 50), at(costs, 50))).unzip();
    vec![
        row(&format!("requests/s, {CONNECTIONS} connections"), 0, rates),
        row("processor time a request, µs", 1, costs),
    ]
}

/// What streaming costs: the processor time in rounds of many streams, the memory by how much more many
/// open ones take than a few, so that what is taken once is left out.
fn streamed(proxies: &[(Target, &Server)]) -> Vec<String> {
    let few: Vec<_> = proxies.iter().map(|proxy| stream_at_once(proxy, STREAMS_FEW)).collect();
    let mut rounds = vec![Vec::with_capacity(STREAM_ROUNDS); proxies.len()];
    for _ in 0..STREAM_ROUNDS {
        for (proxy, rounds) in proxies.iter().zip(&mut rounds) {
            rounds.push(stream_at_once(proxy, STREAMS));
        }
    }
    let median = |pick: fn(&Streamed) -> f64| {
        let of = |rounds: &Vec<Streamed>| at(&mut rounds.iter().map(pick).collect::<Vec<_>>(), 50);
        rounds.iter().map(of).collect::<Vec<_>>()
    };
    // Of the first round: what is freed at its end the later ones use again.
    let grown = few.iter().zip(&rounds).map(|(few, many)| {
        (many[0].rss_kib - few.rss_kib) as f64 / f64::from(STREAMS - STREAMS_FEW)
    });
    vec![
        row("processor time a streamed chunk, µs", 2, median(|round| round.chunk_us)),
        row("chunks a read of the client (1: none joined)", 2, median(|round| round.joined)),
        row("memory an open stream, KiB", 1, grown),
    ]
}

/// Of one round.
#[derive(Clone)]
struct Streamed {
    chunk_us: f64,
    /// Chunks for each time that the client had something to read.
    joined: f64,
    /// While all were open.
    rss_kib: i64,
}

fn stream_at_once((target, server): &(Target, &Server), streams: u32) -> Streamed {
    let spread = Duration::from_millis(WORD_MS * 20);
    // All have begun and none has ended.
    let midway = Duration::from_millis(WORD_MS * u64::from(STREAM_WORDS) / 2);
    let before = server.cpu();
    let (reads, rss_kib) = std::thread::scope(|scope| {
        let midway = scope.spawn(|| {
            sleep(midway);
            server.rss_kib()
        });
        (client::run(client::streams(target, streams, spread)), midway.join().unwrap())
    });
    let chunks = f64::from(streams * STREAM_CHUNKS);
    let chunk_us = micros(server.cpu() - before) / chunks;
    Streamed { chunk_us, joined: chunks / reads as f64, rss_kib }
}
