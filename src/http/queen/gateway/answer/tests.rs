#![allow(clippy::unwrap_used, reason = "a test says what it expects")]

use super::*;
use crate::limits::{Limit, tests::Counting};
use crate::{
    actors::registry::Intake,
    http::{
        idle::Connections,
        queen::gateway::{pool::Pool, target::Target},
        socket,
    },
};
use actix_web::{App, HttpRequest, HttpServer, web};
use std::{
    future::poll_fn,
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    time::timeout,
};

const DEADLINE: Duration = Duration::from_secs(10);

/// Counted while it is held.
struct Slot(Arc<AtomicUsize>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A gateway of one worker, which sends `said` and then stays or closes.
struct Site {
    gateway: SocketAddr,
    slots: Arc<AtomicUsize>,
    /// Told once the worker sees its connection end.
    worker_left: oneshot::Receiver<()>,
}

async fn site(said: &'static str, stays: bool, idle: Duration) -> Site {
    let (url, worker_left) = worker(said, stays).await;
    let slots = Arc::new(AtomicUsize::new(0));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let gateway = listener.local_addr().unwrap();
    let counted = Arc::clone(&slots);
    let server = HttpServer::new(move || {
        let (url, slots, pool) = (url.clone(), Arc::clone(&counted), Pool::new());
        App::new().default_service(web::to(move |request: HttpRequest| {
            let (url, slots, pool) = (url.clone(), Arc::clone(&slots), pool.clone());
            async move {
                let head = Bytes::from_static(b"POST / HTTP/1.1\r\ncontent-length: 4\r\n\r\n");
                let asked = pool.ask(Target::of(&url).unwrap(), head, "ping".into());
                let answer = asked.await.unwrap();
                slots.fetch_add(1, Ordering::SeqCst);
                let upstream = Upstream { worker_id: "h/g/1".into(), url };
                let held = Held {
                    slot: Slot(slots),
                    upstream: Arc::new(upstream),
                    load: Arc::new(Intake::default()).begin(),
                    in_flight: None,
                    peer: request.conn_data::<Peer>().cloned(),
                    counters: QueenCounters::new().unwrap(),
                };
                pass_on(answer, held, idle)
            }
        }))
    });
    let server =
        server.workers(1).disable_signals().on_connect(socket::on_connect(Connections::default()));
    actix::spawn(server.listen(listener).unwrap().run());
    Site { gateway, slots, worker_left }
}

async fn worker(said: &'static str, stays: bool) -> (String, oneshot::Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (tell, left) = oneshot::channel();
    actix::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut heard = Vec::new();
        while !heard.ends_with(b"ping") {
            assert_ne!(stream.read_buf(&mut heard).await.unwrap(), 0);
        }
        stream.write_all(said.as_bytes()).await.unwrap();
        if stays {
            let _ = stream.read(&mut [0]).await;
        }
        let _ = tell.send(());
    });
    (url, left)
}

impl Site {
    async fn ask(&self, more: &str) -> TcpStream {
        let mut client = TcpStream::connect(self.gateway).await.unwrap();
        let request = format!("GET / HTTP/1.1\r\nhost: x\r\n{more}\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        client
    }

    async fn all_slots_free(&self) {
        let free = async {
            while self.slots.load(Ordering::SeqCst) > 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(DEADLINE, free).await.unwrap();
    }
}

/// All until the connection ends, in lower case.
async fn to_end(client: &mut TcpStream) -> String {
    let mut told = Vec::new();
    // A reset ends it as well.
    let _ = timeout(DEADLINE, client.read_to_end(&mut told)).await.unwrap();
    String::from_utf8(told).unwrap().to_ascii_lowercase()
}

async fn to_text(client: &mut TcpStream, text: &str) {
    let mut told = Vec::new();
    while !String::from_utf8_lossy(&told).contains(text) {
        let read = timeout(DEADLINE, client.read_buf(&mut told)).await.unwrap().unwrap();
        assert_ne!(read, 0, "{told:?}");
    }
}

const SIZED: &str = "HTTP/1.1 418 Tea\r\ncontent-length: 4\r\nx-own: 1\r\n\r\npong";
const BEGUN: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\npong\r\n";

#[actix::test]
async fn an_answer_passes_with_status_and_length_and_its_connection_ends_with_the_servers() {
    let site = site(SIZED, true, DEADLINE).await;
    let told = to_end(&mut site.ask("connection: close\r\n").await).await;
    assert!(told.starts_with("http/1.1 418 "), "{told}");
    assert!(told.contains("\r\ncontent-length: 4\r\n"), "{told}");
    assert!(told.contains("\r\nx-rbee-worker: h/g/1\r\n"), "{told}");
    assert!(told.contains("\r\nx-own: 1\r\n") && told.ends_with("\r\n\r\npong"), "{told}");
    site.all_slots_free().await;
}

#[actix::test]
async fn a_cut_answer_reaches_the_client_as_a_cut_one() {
    let site = site(BEGUN, false, DEADLINE).await;
    let told = to_end(&mut site.ask("").await).await;
    assert!(!told.ends_with("0\r\n\r\n"), "{told}");
    site.all_slots_free().await;
}

#[actix::test]
async fn an_answer_that_pauses_too_long_is_broken_off() {
    let counting = Counting::of(Limit::GatewayIdle);
    let mut site = site(BEGUN, true, Duration::from_millis(100)).await;
    let told = to_end(&mut site.ask("").await).await;
    assert!(told.ends_with("pong\r\n"), "{told}");
    counting.counted();
    site.all_slots_free().await;
    timeout(DEADLINE, &mut site.worker_left).await.unwrap().unwrap();
}

#[actix::test]
async fn a_client_that_hangs_up_between_two_chunks_frees_the_worker() {
    let mut site = site(BEGUN, true, Duration::from_secs(3600)).await;
    let mut client = site.ask("").await;
    to_text(&mut client, "pong").await;
    assert_eq!(site.slots.load(Ordering::SeqCst), 1);
    drop(client);
    timeout(DEADLINE, &mut site.worker_left).await.unwrap().unwrap();
    site.all_slots_free().await;
}

#[tokio::test(start_paused = true)]
async fn idle_is_measured_from_the_last_chunk_with_one_timer() {
    let limit = Duration::from_secs(60);
    let mut idle = Idle::new(limit);
    let begun = Instant::now();
    for _ in 0..5 {
        let pause = tokio::time::sleep(Duration::from_secs(45));
        tokio::select! {
            () = poll_fn(|cx| idle.poll(cx)) => {}
            () = pause => {}
        }
        idle.touch();
    }
    assert_eq!(begun.elapsed().as_secs(), 225);
    poll_fn(|cx| idle.poll(cx)).await;
    assert_eq!(begun.elapsed().as_secs(), 225 + 60);
}

#[test]
fn a_length_is_kept_and_nothing_else_is_one() {
    let of = |name, value| {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_static(value));
        size_of(StatusCode::OK, &headers)
    };
    assert_eq!(of(header::CONTENT_LENGTH, "12"), BodySize::Sized(12));
    assert_eq!(of(header::CONTENT_LENGTH, "0"), BodySize::Sized(0));
    assert_eq!(of(header::TRANSFER_ENCODING, "chunked"), BodySize::Stream);
    assert_eq!(of(header::CONTENT_TYPE, "12"), BodySize::Stream);
    assert_eq!(size_of(StatusCode::NO_CONTENT, &HeaderMap::new()), BodySize::None);
}
