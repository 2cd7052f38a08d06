//! What an engine says of its own load, on its page, at its hive and at the queen.

use crate::support::{Api, Daemon, RBEE, Site, eventually, free_port, ms, secs};
use awc::Client;
use futures_util::StreamExt;
use serde_json::{Value, json};
use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

/// Between two samples, and between two looks at a page.
const TICK_MS: u64 = 100;

/// A page of an engine that does not exist.
#[derive(Clone)]
struct Page(Arc<Mutex<Told>>, String);

struct Told {
    /// Status and text; `None`: it accepts and never answers.
    answer: Option<(u16, Vec<u8>)>,
    asked: u32,
    held: Vec<TcpStream>,
}

impl Page {
    fn telling(text: &str) -> Self {
        Self::start(Some((200, text.into())))
    }

    fn start(answer: Option<(u16, Vec<u8>)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/metrics", listener.local_addr().unwrap());
        let told = Arc::new(Mutex::new(Told { answer, asked: 0, held: Vec::new() }));
        let page = Self(told, url);
        let own = page.clone();
        thread::spawn(move || listener.incoming().flatten().for_each(|stream| own.answer(stream)));
        page
    }

    fn answer(&self, mut stream: TcpStream) {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            match stream.read(&mut byte) {
                Ok(1) => request.push(byte[0]),
                _ => return,
            }
        }
        let mut told = self.0.lock().unwrap();
        told.asked += 1;
        let Some((status, text)) = told.answer.clone() else { return told.held.push(stream) };
        drop(told);
        let length = text.len();
        let head =
            format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
        // Who asks may have left.
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&text));
    }

    fn tell(&self, answer: Option<(u16, Vec<u8>)>) {
        self.0.lock().unwrap().answer = answer;
    }

    fn asked(&self) -> u32 {
        self.0.lock().unwrap().asked
    }

    async fn asked_again(&self, times: u32) {
        let before = self.asked();
        eventually(secs(10), async || match self.asked() {
            enough if enough >= before + times => Ok(()),
            few => Err(few),
        })
        .await;
    }

    fn worker(&self, instance: &str) -> Value {
        json!({
            "group": "g", "instance": instance, "command": "/bin/sleep", "args": ["86400"],
            "sample_interval_ms": TICK_MS, "load": {"metrics": self.1},
        })
    }
}

fn load(worker: &Value) -> [&Value; 3] {
    ["requests_running", "requests_waiting", "kv_cache_pct"].map(|key| &worker[key])
}

fn is_null(worker: &Value) -> bool {
    load(worker).iter().all(|value| value.is_null())
}

#[actix_web::test]
async fn a_request_counts_while_it_runs_at_the_hive_and_at_the_queen() {
    let site = Site::new();
    let port = free_port();
    let url = format!("http://127.0.0.1:{port}");
    let worker = json!({
        "group": "echo", "instance": port.to_string(), "command": RBEE,
        "args": ["echo-worker", "--port", port.to_string(), "--delay-ms", "60000"],
        "ready": {"http": format!("{url}/health"), "interval_ms": 50},
        "load": {"metrics": format!("{url}/metrics")}, "sample_interval_ms": TICK_MS,
    });
    let (queen, hive) = site.start_both(json!([worker])).await;
    let told = async |count: u64| {
        let expected = [json!(count), json!(0), json!(null)];
        let wanted = |worker: &Value| load(worker).into_iter().eq(&expected);
        hive.hive().worker_when(&format!("echo/{port}"), secs(10), wanted).await;
        queen.queen().worker_when(&format!("test-hive/echo/{port}"), secs(10), wanted).await;
    };
    told(0).await;
    let messages = json!([{"role": "user", "content": "to be or not to be"}]);
    let body = json!({"model": "echo", "stream": true, "messages": messages});
    let request = Client::default().post(format!("{url}/v1/chat/completions"));
    let mut answer = request.send_json(&body).await.unwrap();
    answer.next().await.expect("a first chunk").unwrap();
    told(1).await;
    drop(answer);
    told(0).await;
}

/// The worker's own figures for a while, at every look.
async fn is_sampled_on_time(hive: &Api, name: &str, span: Duration) {
    hive.worker_when(name, secs(10), |worker| worker["rss_mb"] != 0 || worker["uptime_s"] != 0)
        .await;
    let start = Instant::now();
    eventually(span + secs(5), async || {
        let worker = hive.worker(name).await;
        assert!(worker["sample_age_ms"].as_u64().unwrap() < 1000, "{worker}");
        assert!(is_null(&worker), "{worker}");
        if start.elapsed() >= span { Ok(()) } else { Err("it goes on") }
    })
    .await;
}

async fn says(hive: &mut Daemon, worker: &str, text: &str) {
    hive.log_line(|line| (line.contains(worker) && line.contains(text)).then_some(())).await;
}

#[actix_web::test]
async fn a_page_that_hangs_delays_no_figure_and_is_no_load() {
    let site = Site::new();
    let page = Page::start(None);
    let mut hive = site.start_hive(json!([page.worker("hangs")])).await;
    is_sampled_on_time(hive.hive(), "g/hangs", secs(3)).await;
    says(&mut hive, "g/hangs", "no answer within 2000 ms").await;
    assert!((1..=4).contains(&page.asked()), "asked {} times", page.asked());
    // One that ends leaves nobody waiting for it.
    hive.hive().delete("/v1/workers/g/hangs?grace_ms=0").await.expect(200);
}

#[actix_web::test]
async fn a_page_of_rubbish_is_no_load() {
    let site = Site::new();
    let mut long = vec![b'#'; 5 << 20];
    long.extend_from_slice(b"\ntgi_queue_size 1\n");
    let pages = [
        ("empty", Page::telling("")),
        ("html", Page::telling("<html>tgi_queue_size</html>\n")),
        ("bytes", Page::start(Some((200, (0..=255).cycle().take(10_000).collect())))),
        ("nan", Page::telling("tgi_queue_size NaN\nsglang:token_usage -1\n")),
        ("error", Page::start(Some((500, "tgi_queue_size 1\n".into())))),
        ("long", Page::start(Some((200, long)))),
    ];
    let workers: Vec<_> = pages.iter().map(|(name, page)| page.worker(name)).collect();
    let hive = site.start_hive(json!(workers)).await;
    for (name, page) in &pages {
        page.asked_again(3).await;
        let worker = hive.hive().worker(&format!("g/{name}")).await;
        assert!(is_null(&worker), "{name}: {worker}");
    }
}

#[actix_web::test]
async fn a_page_that_stops_answering_is_null_after_a_while_never_zero_and_comes_back() {
    let site = Site::new();
    let text = "vllm:num_requests_running{engine=\"0\",model_name=\"a b}\"} 3.0\n\
        vllm:num_requests_waiting{engine=\"0\",model_name=\"a b}\"} 2.0\n\
        vllm:kv_cache_usage_perc{engine=\"0\",model_name=\"a b}\"} 0.5\n";
    let page = Page::telling(text);
    let mut hive = site.start_hive(json!([page.worker("vllm")])).await;
    let api = hive.hive().clone();
    let full = [json!(3), json!(2), json!(50.0)];
    let is_full = |worker: &Value| load(worker).into_iter().eq(&full);
    api.worker_when("g/vllm", secs(10), is_full).await;

    page.tell(Some((503, Vec::new())));
    let start = Instant::now();
    api.worker_when("g/vllm", secs(10), |worker| {
        assert!(is_full(worker) || is_null(worker), "{worker}");
        is_null(worker)
    })
    .await;
    assert!(start.elapsed() > ms(4000), "null after {:?}", start.elapsed());
    says(&mut hive, "g/vllm", "does not answer").await;

    page.tell(Some((200, text.into())));
    api.worker_when("g/vllm", secs(10), is_full).await;
    says(&mut hive, "g/vllm", "its load page answers").await;
}
