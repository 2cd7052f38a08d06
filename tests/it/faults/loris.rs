//! Thousands of clients that send a byte now and then, or nothing. One beside them is answered within a
//! tenth of a second, and each of them is closed within a time that is known.

use super::cost::Latencies;
use crate::support::{Api, Authority, Site, TlsConnection, ms, secs};
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};

/// Clients of each kind.
const EACH: usize = 250;
/// All are closed by then: a body may take 10 s, and what is idle lasts 15 s and a look each second.
const CLOSED_WITHIN: Duration = Duration::from_secs(40);

/// What such a client sends at once, and what it goes on with, a byte each time.
#[derive(Clone)]
struct Habit {
    name: &'static str,
    first: String,
    then: &'static str,
}

impl Habit {
    fn new(name: &'static str, first: impl Into<String>, then: &'static str) -> Self {
        Self { name, first: first.into(), then }
    }
}

const WHOLE: &str = "GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n";

fn habits(post: &str) -> Vec<Habit> {
    let head = |more: &str| format!("POST {post} HTTP/1.1\r\nhost: localhost\r\n{more}\r\n");
    vec![
        Habit::new("silent", "", ""),
        Habit::new("head", "GET /health HTTP/1.1\r\nhost: localhost\r\nx: ", "x"),
        Habit::new(
            "second head",
            format!("{WHOLE}GET /health HTTP/1.1\r\nhost: localhost\r\nx: "),
            "x",
        ),
        Habit::new("body", head("content-length: 1000\r\n"), " "),
        Habit::new("chunks", head("transfer-encoding: chunked\r\n"), "1\r\n \r\n"),
        Habit::new("idle", WHOLE, ""),
        Habit::new(
            "unread body",
            "GET /health HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n",
            "1\r\nx\r\n",
        ),
    ]
}

/// How long the server let this one.
async fn endure(address: String, habit: Habit) -> Result<(&'static str, Duration), String> {
    let broken = |error: std::io::Error| format!("{}: {error}", habit.name);
    let mut socket = TcpStream::connect(address).await.map_err(broken)?;
    let start = Instant::now();
    socket.write_all(habit.first.as_bytes()).await.map_err(broken)?;
    let mut next = habit.then.bytes().cycle();
    let mut buffer = [0; 512];
    while start.elapsed() < CLOSED_WITHIN {
        match timeout(ms(400), socket.read(&mut buffer)).await {
            Ok(Ok(0) | Err(_)) => return Ok((habit.name, start.elapsed())),
            Ok(Ok(_)) => {}
            Err(_) => {
                if let Some(byte) = next.next()
                    && socket.write_all(&[byte]).await.is_err()
                {
                    return Ok((habit.name, start.elapsed()));
                }
            }
        }
    }
    Err(format!("{} is still connected after {CLOSED_WITHIN:?}", habit.name))
}

/// Lets them all loose, and asks for `/health` beside them until the last one is closed.
async fn assert_endures(api: &Api, habits: Vec<Habit>) {
    let mut clients = JoinSet::new();
    for habit in habits {
        for _ in 0..EACH {
            clients.spawn_local(endure(api.address().to_owned(), habit.clone()));
        }
    }
    let (mut latencies, mut longest) = (Latencies::default(), std::collections::BTreeMap::new());
    while !clients.is_empty() {
        latencies.ask(api).await;
        tokio::time::sleep(ms(50)).await;
        while let Some(done) = clients.try_join_next() {
            let (name, lasted) = done.unwrap().unwrap();
            let most = longest.entry(name).or_insert(lasted);
            *most = lasted.max(*most);
        }
    }
    eprintln!("closed within: {longest:?}");
    latencies.assert_prompt();
}

#[actix_web::test]
async fn a_queen_answers_beside_clients_that_take_their_time_and_closes_them() {
    let site = Site::new();
    let queen = site.start("queen", &site.queen_config()).await;
    assert_endures(queen.queen(), habits("/v1/hive-heartbeat")).await;
}

#[actix_web::test]
async fn a_hive_answers_beside_clients_that_take_their_time_and_closes_them() {
    let site = Site::new();
    let hive = site.start_hive(json!([])).await;
    assert_endures(hive.hive(), habits("/v1/workers")).await;
}

#[actix_web::test]
async fn handshakes_that_are_never_finished_keep_nobody_out() {
    let site = Site::new();
    let authority = Authority::new();
    let mut config = site.queen_config();
    config["queen"]["tls"] = authority.issue(&site, "queen");
    let queen = site.start("queen", &config).await;
    let address = queen.queen().address().to_owned();
    let mut clients = JoinSet::new();
    // The beginning of a ClientHello, whose length says that there is more.
    let hello = String::from_utf8(vec![0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00]).unwrap();
    for _ in 0..EACH * 8 {
        clients.spawn_local(endure(address.clone(), Habit::new("handshake", hello.clone(), "\0")));
    }
    let start = Instant::now();
    let config = authority.trusting();
    let (mut taken, mut longest) = (Vec::new(), Duration::ZERO);
    while !clients.is_empty() {
        let (address, config) = (address.clone(), config.clone());
        let asked = actix_web::rt::task::spawn_blocking(move || {
            let begun = Instant::now();
            let mut connection = TlsConnection::open(&address, &config).unwrap();
            assert_eq!(connection.get("/health", &[]).unwrap().status, 200);
            begun.elapsed()
        });
        taken.push(asked.await.unwrap());
        while let Some(done) = clients.try_join_next() {
            longest = longest.max(done.unwrap().unwrap().1);
        }
        assert!(start.elapsed() < secs(60));
    }
    taken.sort_unstable();
    let (most, worst) = (taken[taken.len() * 9 / 10], taken[taken.len() - 1]);
    eprintln!(
        "{} handshakes beside them: nine of ten within {most:?}, all within {worst:?}; closed within {longest:?}",
        taken.len()
    );
    // Those of the first moment, too, when all of them come at once.
    assert!(most < ms(300) && worst < ms(2_500), "{most:?}, {worst:?}");
}
