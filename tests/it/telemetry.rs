//! What a hive tells its queen, and when: size, content, interval, and a queen that answers badly.

use crate::support::{
    Event, RawWorker, Reply, Request, Site, SseClient, eventually, ms, ready_workers, report, secs,
};
use serde_json::{Value, json};
use std::{
    cell::RefCell,
    collections::HashSet,
    rc::Rc,
    time::{Duration, Instant},
};

fn sleeper(n: usize) -> Value {
    json!({"group": "g", "instance": format!("w{n}"), "command": "/bin/sleep",
           "args": ["86400"], "model": "/models/llama-3.2-1b-instruct.gguf"})
}

fn stored() -> Reply {
    Reply::whole("200 OK", "content-type: application/json\r\n", b"{\"status\":\"ok\"}")
}

/// How many of a heartbeat's workers have been sampled.
fn sampled(heartbeat: &Value) -> usize {
    let workers = heartbeat["workers"].as_array().map_or(&[][..], Vec::as_slice);
    workers.iter().filter(|w| w["pid"].is_u64() && w["rss_mb"].as_u64() > Some(0)).count()
}

#[actix_web::test]
async fn a_heartbeat_of_100_workers_is_below_100_kb_and_tells_of_each() {
    const WORKERS: usize = 100;
    let site = Site::new();
    let queen = RawWorker::start(|_| stored()).await;
    let mut config = site.hive_config(Some(queen.url()));
    config["hive"]["workers"] = (0..WORKERS).map(sleeper).collect();
    let _hive = site.start("hive", &config).await;
    let (size, heartbeat) = eventually(secs(30), async || {
        let newest = queen.requests().last().map(Request::text).unwrap_or_default();
        let heartbeat: Value = serde_json::from_str(&newest).unwrap_or_default();
        let count = sampled(&heartbeat);
        if count == WORKERS { Ok((newest.len(), heartbeat)) } else { Err(count) }
    })
    .await;
    println!("{WORKERS} workers: {size} bytes");
    assert!(size < 100_000, "{size} bytes");
    let names: HashSet<_> = heartbeat["workers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|worker| worker["instance"].as_str().unwrap())
        .collect();
    assert_eq!(names.len(), WORKERS);
    let newest = queen.requests();
    assert_eq!(newest.last().unwrap().head.start, "POST /v1/hive-heartbeat HTTP/1.1");
}

/// When each heartbeat came.
type Arrivals = Rc<RefCell<Vec<Instant>>>;

async fn queen_that_fails(first: usize) -> (RawWorker, Arrivals) {
    let arrivals = Arrivals::default();
    let noted = Rc::clone(&arrivals);
    let queen = RawWorker::start(move |request| {
        noted.borrow_mut().push(Instant::now());
        if request.number < first {
            Reply::whole("500 Internal Server Error", "", b"broken")
        } else {
            stored()
        }
    })
    .await;
    (queen, arrivals)
}

#[actix_web::test]
async fn a_queen_that_answers_500_is_told_again_at_the_next_interval() {
    const FAILURES: usize = 4;
    let site = Site::new();
    let (queen, arrivals) = queen_that_fails(FAILURES).await;
    let mut config = site.hive_config(Some(queen.url()));
    config["hive"]["workers"] = json!([sleeper(0)]);
    let hive = site.start("hive", &config).await;
    // The workers' events may send one sooner, up to the first that is stored.
    eventually(secs(20), async || {
        let count = queen.requests().len();
        if count >= FAILURES + 3 { Ok(()) } else { Err(count) }
    })
    .await;
    assert_eq!(hive.hive().worker("g/w0").await["state"], "ready");
    let arrivals = arrivals.borrow();
    let mut gaps: Vec<_> = arrivals.windows(2).map(|pair| pair[1] - pair[0]).collect();
    println!("{gaps:?}");
    assert!(gaps.iter().all(|gap| *gap < secs(3)), "{gaps:?}");
    gaps.sort();
    let middle = gaps[gaps.len() / 2];
    assert!((ms(500)..ms(2000)).contains(&middle), "an interval is 1 s: {gaps:?}");
    let seqs: Vec<_> = queen
        .requests()
        .iter()
        .map(|request| serde_json::from_slice::<Value>(&request.body).unwrap()["seq"].clone())
        .collect();
    let seqs: Vec<_> = seqs.iter().map(|seq| seq.as_u64().unwrap()).collect();
    assert!(seqs.windows(2).all(|pair| pair[0] < pair[1]), "{seqs:?}");
    // What was not acknowledged is told until it is.
    let started = |request: &Request| request.text().contains("worker_started");
    let requests = queen.requests().clone();
    let until_stored = requests[..=FAILURES].iter().skip_while(|request| !started(request));
    let until_stored: Vec<_> = until_stored.map(started).collect();
    assert!(until_stored.len() >= FAILURES && until_stored.iter().all(|told| *told));
    assert!(!started(requests.last().unwrap()));
}

#[actix_web::test]
async fn a_heartbeat_reaches_a_client_of_the_stream_within_100_ms() {
    const TIMES: u64 = 9;
    let site = Site::new();
    let queen = site.start("queen", &site.queen_config()).await;
    let url = format!("{}/v1/heartbeats/stream", queen.queen().url());
    let mut stream = SseClient::connect(&url).await;
    stream.next(secs(5)).await;
    let workers: Vec<_> = (0..100).map(|n| report(&n.to_string(), json!({}))).collect();
    let mut delays = Vec::new();
    for seq in 1..=TIMES {
        let body = json!({
            "hive": {"id": "h", "hostname": "127.0.0.1", "port": 1}, "boot_id": "b", "seq": seq,
            "timestamp": "2026-01-01T00:00:00Z", "workers": workers,
        });
        let (sender, sent) = (queen.queen().clone(), Instant::now());
        let sending = actix_web::rt::spawn(async move {
            sender.post("/v1/hive-heartbeat", body).await.expect(200);
        });
        let telemetry = |event: &Event| event.kind() == "hive_telemetry";
        let event = stream.next_matching("the heartbeat", secs(5), telemetry).await;
        assert_eq!(event.data["workers"].as_array().unwrap().len(), 100);
        delays.push(event.at - sent);
        sending.await.unwrap();
    }
    delays.sort();
    println!("from the sending to the client: {delays:?}");
    assert!(delays[TIMES as usize / 2] <= Duration::from_millis(100), "{delays:?}");
}

#[actix_web::test]
async fn who_reads_never_sees_half_a_heartbeat_whoever_writes() {
    const HIVES: usize = 4;
    const BEATS: u32 = 40;
    let site = Site::new();
    let queen = site.start("queen", &site.queen_config()).await;
    let beat = |hive: usize, mark: u32| {
        let worker = |n: usize| report(&n.to_string(), json!({"pid": mark}));
        json!({
            "hive": {"id": format!("h{hive}"), "hostname": "127.0.0.1", "port": 1},
            "boot_id": "b", "seq": mark, "timestamp": "2026-01-01T00:00:00Z",
            "workers": (0..50).map(worker).collect::<Vec<_>>(),
        })
    };
    let mut writers = tokio::task::JoinSet::new();
    for hive in 0..HIVES {
        let api = queen.queen().clone();
        writers.spawn_local(async move {
            for mark in 1..=BEATS {
                api.post("/v1/hive-heartbeat", beat(hive, mark)).await.expect(200);
            }
        });
    }
    let mut newest = [0; HIVES];
    let mut reads = 0;
    while newest.iter().any(|mark| *mark < u64::from(BEATS)) {
        for (hive, newest) in newest.iter_mut().enumerate() {
            let answer = queen.queen().get(&format!("/v1/workers?hive=h{hive}")).await.expect(200);
            let marks: Vec<_> =
                answer["workers"].as_array().unwrap().iter().map(|w| &w["pid"]).collect();
            let Some(mark) = marks.first().and_then(|mark| mark.as_u64()) else { continue };
            assert!(marks.len() == 50 && marks.iter().all(|other| **other == mark), "{marks:?}");
            assert!(mark >= *newest, "h{hive}: {mark} after {newest}");
            *newest = mark;
            reads += 1;
        }
    }
    while let Some(written) = writers.join_next().await {
        written.unwrap();
    }
    assert!(reads >= HIVES);
    assert_eq!(ready_workers(queen.queen(), 50 * HIVES, secs(5)).await.len(), 50 * HIVES);
}
