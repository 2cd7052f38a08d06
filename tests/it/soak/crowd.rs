//! Those who use and disturb the daemons: clients of every kind, and deaths. Each goes on until it is told
//! to stop; what must not fail, an answer of a daemon that nobody has ended, fails the test.

use super::GPU;
use crate::support::{Api, Gpus, chat_body, ms, proc, secs, send};
use futures_util::future::{LocalBoxFuture, join_all};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fmt,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

/// A socket that nobody reads stays open for so long: longer than the queen has patience for.
const SILENT_FOR: Duration = Duration::from_secs(40);

/// What must have happened in any soak.
const EXPECTED: [&str; 13] = [
    "GPU faults",
    "SIGHUPs",
    "answers left in the middle",
    "answers read to the end",
    "hives restarted with their workers adopted",
    "logs followed",
    "pages read, and nonsense sent",
    "queens restarted",
    "reservations left to end",
    "streams opened",
    "streams that nobody reads",
    "workers killed",
    "workers made and deleted",
];

/// What has been done so far, by its name.
#[derive(Default)]
pub(super) struct Deeds(RefCell<BTreeMap<&'static str, u64>>);

impl Deeds {
    pub(super) fn note(&self, deed: &'static str) {
        *self.0.borrow_mut().entry(deed).or_default() += 1;
    }

    /// A soak in which something did not happen would show nothing.
    pub(super) fn assert_all_done(&self) {
        let done = self.0.borrow();
        let missing: Vec<_> = EXPECTED.iter().filter(|deed| !done.contains_key(*deed)).collect();
        assert!(missing.is_empty(), "never happened: {missing:?}");
    }
}

impl fmt::Display for Deeds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.borrow().iter().try_for_each(|(deed, times)| writeln!(f, "{times:>8} {deed}"))
    }
}

/// See the module.
pub(super) struct Crowd<'a> {
    queen: &'a Api,
    hive: &'a Api,
    hive_id: &'a str,
    marker: &'a str,
    gpus: &'a Gpus<'a>,
    deeds: &'a Deeds,
    goes_on: &'a Cell<bool>,
    /// Makes names of workers that nobody had before.
    made: Cell<u64>,
}

impl<'a> Crowd<'a> {
    /// They use this queen and this hive, as long as it `goes_on`.
    pub(super) fn new(
        (queen, hive): (&'a Api, &'a Api),
        hive_id: &'a str,
        marker: &'a str,
        gpus: &'a Gpus<'a>,
        deeds: &'a Deeds,
        goes_on: &'a Cell<bool>,
    ) -> Self {
        Self { queen, hive, hive_id, marker, gpus, deeds, goes_on, made: Cell::new(0) }
    }

    /// All of them, until it no longer goes on.
    pub(super) async fn run(&self) {
        let all: Vec<LocalBoxFuture<'_, ()>> = vec![
            Box::pin(self.deaths()),
            Box::pin(self.comings_and_goings()),
            Box::pin(self.readers()),
            Box::pin(self.silent_ones()),
            Box::pin(self.chats()),
            Box::pin(self.chats()),
            Box::pin(self.reservations()),
            Box::pin(self.followers()),
            Box::pin(self.gpu_faults()),
            Box::pin(self.askers()),
        ];
        join_all(all).await;
    }

    /// A moment of about `mean`; false when it is over.
    async fn after(&self, mean: Duration) -> bool {
        sleep(mean.mul_f64(0.5 + fastrand::f64())).await;
        self.goes_on.get()
    }

    async fn deaths(&self) {
        while self.after(ms(300)).await {
            let list = self.hive.get("/v1/workers").await.expect(200);
            let workers = list["workers"].as_array().expect("a list");
            let pids = workers.iter().filter_map(|w| w["pid"].as_u64()).collect::<Vec<_>>();
            if let Some(pid) = fastrand::choice(pids) {
                let signal = fastrand::choice([Signal::SIGKILL, Signal::SIGTERM, Signal::SIGSEGV]);
                proc::signal(pid as u32, signal.expect("there are some"));
                self.deeds.note("workers killed");
            }
        }
    }

    /// Made and deleted, at the hive and through the queen.
    async fn comings_and_goings(&self) {
        while self.after(ms(150)).await {
            let number = self.made.get();
            self.made.set(number + 1);
            let through = format!("/v1/hives/{}/workers", self.hive_id);
            let (api, path) = match number % 2 {
                0 => (self.hive, "/v1/workers"),
                _ => (self.queen, through.as_str()),
            };
            let script = "echo up; while :; do sleep 1; done";
            let spec = json!({
                "group": format!("made{}", number % 7), "instance": format!("n{number}"),
                "command": "/bin/sh", "args": ["-c", script, self.marker],
                "restart": {"backoff_ms": 20},
            });
            let name = format!(
                "{}/{}",
                spec["group"].as_str().unwrap(),
                spec["instance"].as_str().unwrap()
            );
            api.post(path, spec).await.expect(201);
            sleep(ms(fastrand::u64(0..400))).await;
            api.delete(&format!("{path}/{name}?grace_ms=100")).await.expect(200);
            self.deeds.note("workers made and deleted");
        }
    }

    async fn open_stream(&self) -> TcpStream {
        let mut socket = TcpStream::connect(self.queen.address()).await.expect("the queen listens");
        let path = fastrand::choice(["", "?hive=steady"]).expect("there are two");
        let request = format!(
            "GET /v1/heartbeats/stream{path} HTTP/1.1\r\nhost: {}\r\n\r\n",
            self.queen.address()
        );
        socket.write_all(request.as_bytes()).await.expect("the queen takes it");
        socket
    }

    /// They read for a while and leave, mostly in the middle of something.
    async fn readers(&self) {
        while self.after(ms(100)).await {
            let mut socket = self.open_stream().await;
            let mut bytes = vec![0; 4096];
            let reading = async {
                while socket.read(&mut bytes).await.is_ok_and(|count| count > 0) {
                    self.deeds.note("pieces of a stream read");
                }
            };
            // The queen goes on, so that it ends here only.
            assert!(
                timeout(ms(fastrand::u64(1..600)), reading).await.is_err(),
                "the queen ended a stream"
            );
            self.deeds.note("streams opened");
        }
    }

    async fn silent_ones(&self) {
        let mut open = Vec::new();
        while self.after(secs(1)).await {
            open.push((self.open_stream().await, tokio::time::Instant::now()));
            open.retain(|(_, since)| since.elapsed() < SILENT_FOR);
            self.deeds.note("streams that nobody reads");
        }
    }

    /// Streamed or not, read to the end or left.
    async fn chats(&self) {
        while self.after(ms(80)).await {
            let streamed = fastrand::bool();
            let body = chat_body(self.marker, "one two three four five six", streamed).to_string();
            let sending = send(self.queen, "POST", "/v1/chat/completions", &[], &body);
            // Some leave before there is an answer.
            let patience = fastrand::choice([ms(20), secs(30), secs(30)]).expect("there are some");
            let Ok(answer) = timeout(patience, sending).await else {
                self.deeds.note("requests left before an answer");
                continue;
            };
            let mut answer = answer.expect("the queen answers");
            assert!(matches!(answer.status, 200 | 429 | 502 | 503 | 404), "{}", answer.status);
            let pieces = fastrand::choice([1, usize::MAX]).expect("there are two");
            let mut read = 0;
            let ended = loop {
                match answer.next().await {
                    // A worker that is killed breaks its answer off.
                    Ok(None) | Err(_) => break true,
                    Ok(Some(_)) if read >= pieces => break false,
                    Ok(Some(_)) => read += 1,
                }
            };
            self.deeds.note(match (answer.status, ended) {
                (200, true) => "answers read to the end",
                (200, false) => "answers left in the middle",
                _ => "requests refused",
            });
        }
    }

    /// Taken and left to end, or given back.
    async fn reservations(&self) {
        while self.after(ms(60)).await {
            let wanted = json!({"ttl_ms": fastrand::u64(100..1500), "session": format!("s{}", fastrand::u32(..))});
            let answer = self.queen.post("/v1/schedule", wanted).await;
            match (answer.status, answer.json["reservation_id"].as_str()) {
                (200, Some(id)) if fastrand::u8(..) < 64 => {
                    let given = self.queen.delete(&format!("/v1/reservations/{id}")).await;
                    assert!(matches!(given.status, 204 | 404), "{}", given.text);
                    self.deeds.note("reservations given back");
                }
                (200, Some(_)) => self.deeds.note("reservations left to end"),
                (503, None) => self.deeds.note("reservations refused"),
                _ => panic!("{}", answer.text),
            }
        }
    }

    async fn followers(&self) {
        while self.after(ms(200)).await {
            let through = format!("/v1/hives/{}/workers", self.hive_id);
            let (api, path) = if fastrand::bool() {
                (self.hive, "/v1/workers")
            } else {
                (self.queen, through.as_str())
            };
            let path = format!("{path}/base/talks/logs?follow=true&tail=5");
            let mut log = send(api, "GET", &path, &[], "").await.expect("an answer");
            assert_eq!(log.status, 200);
            let time = ms(fastrand::u64(1..800));
            // A run that ends does not end its log's followers, but the hive may have none to read yet.
            let reading = async { while let Ok(Some(_)) = log.next().await {} };
            let _ = timeout(time, reading).await;
            self.deeds.note("logs followed");
        }
    }

    async fn gpu_faults(&self) {
        while self.after(secs(1)).await {
            let broken = [
                "library hang\n",
                "library fail\n",
                "library no-driver\n",
                "gpu GPU-cccc A100 1 1 0 0 0 lost\n",
            ];
            self.gpus.say(&format!("{}{GPU}", fastrand::choice(broken).expect("there are some")));
            self.deeds.note("GPU faults");
            sleep(ms(fastrand::u64(200..2000))).await;
            self.gpus.say(GPU);
        }
        self.gpus.say(GPU);
    }

    /// Whoever looks at pages and lists, and sends what is none.
    async fn askers(&self) {
        const PATHS: [&str; 9] = [
            "/",
            "/metrics",
            "/v1/workers",
            "/v1/history?s=5",
            "/v1/hives",
            "/v1/models",
            "/v1/schedule/explain?model=none",
            "/openapi.json",
            "/health",
        ];
        while self.after(ms(100)).await {
            let path = fastrand::choice(PATHS).expect("there are some");
            let answer = self.queen.get(path).await;
            assert_eq!(answer.status, 200, "{path}: {}", answer.text);
            self.hive.get("/metrics").await.expect(200);
            for api in [self.queen, self.hive] {
                let refused = api.post_text("/v1/workers", "{\"group\": ").await;
                assert!((400..500).contains(&refused.status), "{}", refused.text);
            }
            let bad: Value = json!({"hive": {"id": "x"}});
            self.queen.post("/v1/hive-heartbeat", bad).await.expect(400);
            self.deeds.note("pages read, and nonsense sent");
        }
    }
}
