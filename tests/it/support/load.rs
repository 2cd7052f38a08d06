//! Offers a queen heartbeats and chats: as many as it answers, or so many a second whether it answers or
//! not. Runs on threads of its own with a lower priority, so that what is measured beside it is the queen.

use std::{
    cell::Cell,
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream as Blocking},
    rc::Rc,
    thread::JoinHandle,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::{LocalSet, spawn_local},
    time::timeout,
};

/// How much lower its priority is.
const NICE: i32 = 10;
/// Connections of an open load at once, and how long each waits for its answer.
const CONNECTIONS_MAX: usize = 1_000;
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two handfuls of an open load.
const TICK: Duration = Duration::from_millis(5);
/// Workers in each heartbeat.
const WORKERS: usize = 100;

/// What became of requests.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// Answered with 200.
    pub done: usize,
    /// Answered with 429 or 503.
    pub refused: usize,
    /// Answered with anything else.
    pub wrong: usize,
    /// Not answered, or not even sent for lack of connections.
    pub lost: usize,
}

/// Whom the load is for.
#[derive(Clone, Copy, Debug)]
pub struct Load(pub SocketAddr);

/// A worker that answers each request with the same, on threads of its own.
pub fn worker() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for socket in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || serve(socket));
        }
    });
    address
}

fn serve(mut socket: Blocking) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let (mut buffer, mut rest) = ([0; 8_192], Vec::new());
    loop {
        match socket.read(&mut buffer)? {
            0 => return Ok(()),
            read => rest.extend_from_slice(&buffer[..read]),
        }
        while let Some(length) = whole(&rest) {
            rest.drain(..length);
            socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")?;
        }
    }
}

/// The length of the message at the beginning, once it is there.
fn whole(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|part| part == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
    let length =
        text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    let all = head + length.unwrap_or(0);
    (bytes.len() >= all).then_some(all)
}

fn request(path: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n{body}")
        .into_bytes()
}

/// A heartbeat of one of fifty hives; of these, hive 0 has the worker that chats go to.
pub fn heartbeat(number: usize, worker: SocketAddr) -> Vec<u8> {
    let hive = number % 50;
    let workers = (0..WORKERS).map(|n| {
        let model = if hive == 0 && n == 0 { "load" } else { "other" };
        format!(
            r#"{{"pid":{n},"group":"llm","instance":"{n}","state":"ready","model":"{model}","url":"http://{worker}","cpu_pct":12.5,"rss_mb":4096,"uptime_s":99,"gpu_util_pct":0.0,"vram_mb":8192}}"#
        )
    });
    let body = format!(
        r#"{{"hive":{{"id":"load-{hive}","hostname":"127.0.0.1","port":1}},"timestamp":"2026-01-01T00:00:00Z","interval_ms":60000,"workers":[{}]}}"#,
        workers.collect::<Vec<_>>().join(",")
    );
    request("/v1/hive-heartbeat", &body)
}

fn chat() -> Vec<u8> {
    request(
        "/v1/chat/completions",
        r#"{"model":"load","messages":[{"role":"user","content":"hi"}]}"#,
    )
}

/// One of each in turn.
struct Requests {
    chat: Vec<u8>,
    heartbeats: Vec<Vec<u8>>,
}

impl Requests {
    fn new(worker: SocketAddr) -> Self {
        Self { chat: chat(), heartbeats: (0..50).map(|n| heartbeat(n, worker)).collect() }
    }

    fn get(&self, number: usize) -> &[u8] {
        if number.is_multiple_of(2) { &self.chat } else { &self.heartbeats[number / 2 % 50] }
    }
}

async fn exchange(socket: &mut TcpStream, request: &[u8]) -> io::Result<u16> {
    socket.write_all(request).await?;
    let (mut answer, mut buffer) = (Vec::new(), [0; 4_096]);
    loop {
        match socket.read(&mut buffer).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => answer.extend_from_slice(&buffer[..read]),
        }
        if whole(&answer).is_some() {
            let status = String::from_utf8_lossy(&answer[9..12]).parse();
            return status.map_err(|_| io::ErrorKind::InvalidData.into());
        }
    }
}

impl Load {
    /// How many requests a second are done when so many ask, each as soon as it is answered.
    pub fn most(self, worker: SocketAddr, connections: usize, time: Duration) -> JoinHandle<f64> {
        let ask = move || async move {
            let (requests, end) = (Rc::new(Requests::new(worker)), Instant::now() + time);
            let asking = (0..connections).map(|first| {
                let requests = Rc::clone(&requests);
                spawn_local(async move {
                    let (mut socket, mut done) = (TcpStream::connect(self.0).await.ok()?, 0_usize);
                    while Instant::now() < end {
                        let answer =
                            exchange(&mut socket, requests.get(first + done)).await.ok()?;
                        done += usize::from(answer == 200);
                    }
                    Some(done)
                })
            });
            let mut all = 0;
            for one in asking.collect::<Vec<_>>() {
                all += one.await.ok().flatten().unwrap_or(0);
            }
            all as f64 / time.as_secs_f64()
        };
        apart(ask)
    }

    /// Sends so many a second, whatever becomes of them.
    pub fn offer(self, worker: SocketAddr, per_second: f64, time: Duration) -> JoinHandle<Outcome> {
        apart(move || async move {
            let requests = Rc::new(Requests::new(worker));
            let (tally, pool) =
                (Rc::<Tally>::default(), Rc::<std::cell::RefCell<Vec<TcpStream>>>::default());
            let (start, mut sent) = (Instant::now(), 0_usize);
            while start.elapsed() < time {
                let due = (start.elapsed().as_secs_f64() * per_second) as usize;
                for number in sent..due {
                    if tally.under_way.get() >= CONNECTIONS_MAX {
                        tally.count(None);
                        continue;
                    }
                    tally.under_way.set(tally.under_way.get() + 1);
                    let (requests, tally, pool) =
                        (Rc::clone(&requests), Rc::clone(&tally), Rc::clone(&pool));
                    spawn_local(async move {
                        let kept = pool.borrow_mut().pop();
                        let asked = timeout(PATIENCE, async {
                            let mut socket = match kept {
                                Some(socket) => socket,
                                None => TcpStream::connect(self.0).await?,
                            };
                            let status = exchange(&mut socket, requests.get(number)).await?;
                            Ok::<_, io::Error>((socket, status))
                        });
                        let answer = asked.await.ok().and_then(Result::ok);
                        tally.count(answer.as_ref().map(|(_, status)| *status));
                        tally.under_way.set(tally.under_way.get() - 1);
                        pool.borrow_mut().extend(answer.map(|(socket, _)| socket));
                    });
                }
                sent = due;
                tokio::time::sleep(TICK).await;
            }
            while tally.under_way.get() > 0 {
                tokio::time::sleep(TICK).await;
            }
            tally.outcome.get()
        })
    }
}

#[derive(Default)]
struct Tally {
    outcome: Cell<Outcome>,
    under_way: Cell<usize>,
}

impl Tally {
    fn count(&self, status: Option<u16>) {
        let mut outcome = self.outcome.get();
        *match status {
            Some(200) => &mut outcome.done,
            Some(429 | 503) => &mut outcome.refused,
            Some(_) => &mut outcome.wrong,
            None => &mut outcome.lost,
        } += 1;
        self.outcome.set(outcome);
    }
}

/// On a thread of its own, whose work everybody else goes before.
fn apart<T: Send + 'static, F: Future<Output = T>>(
    work: impl FnOnce() -> F + Send + 'static,
) -> JoinHandle<T> {
    std::thread::spawn(move || {
        rustix::process::setpriority_process(None, NICE).expect("one may always be nicer");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        LocalSet::new().block_on(&runtime.expect("a runtime"), work())
    })
}
