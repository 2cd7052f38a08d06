//! A hive that lies about its workers harms itself only: others' workers are what they were, their requests
//! are answered, and the queen goes on.

use super::cost::{Cost, Latencies};
use crate::support::{
    Api, Daemon, Heartbeats, RawWorker, Site, assert_is_error, chat, chat_body, ms, report, secs,
};
use serde_json::{Value, json};

/// A queen, an honest hive with a worker that serves `honest`, and what the worker is.
async fn with_honest(site: &Site) -> (Daemon, RawWorker, Heartbeats) {
    let queen = site.start("queen", &site.queen_config()).await;
    let worker = RawWorker::obliging().await;
    let honest = report("1", json!({"model": "honest", "url": worker.url()}));
    let beats = Heartbeats::start(queen.queen(), "honest", json!([honest])).await;
    (queen, worker, beats)
}

async fn assert_honest_is_served(queen: &Api) {
    let answer = chat(queen, &[], &chat_body("honest", "hi", false)).await;
    assert_eq!((answer.status, answer.worker()), (200, "honest/llm/1"));
    assert_eq!(queen.worker("honest/llm/1").await["freshness"], "healthy");
}

#[actix_web::test]
async fn a_worker_whose_url_is_the_queen_itself_is_no_loop_without_an_end() {
    let site = Site::new();
    let (queen, _worker, _beats) = with_honest(&site).await;
    let queen = queen.queen();
    let loops = report("1", json!({"model": "loop", "url": queen.url(), "slots": 1_000}));
    let named = |n: u16| {
        report(
            &n.to_string(),
            json!({"model": "loop", "url": format!("http://localhost:{}", queen.address().rsplit_once(':').unwrap().1)}),
        )
    };
    let _liar = Heartbeats::start(queen, "liar", json!([loops, named(2), named(3)])).await;
    let start = std::time::Instant::now();
    for _ in 0..20 {
        let answer = chat(queen, &[], &chat_body("loop", "hi", false)).await;
        assert!(matches!(answer.status, 502 | 503 | 508), "{}", answer.status);
    }
    assert!(start.elapsed() < secs(10), "{:?}", start.elapsed());
    assert_honest_is_served(queen).await;
}

#[actix_web::test]
async fn a_worker_at_an_address_of_the_machines_own_metadata_is_never_asked() {
    let site = Site::new();
    let (queen, worker, _beats) = with_honest(&site).await;
    let queen = queen.queen();
    for url in [
        "http://169.254.169.254/latest/meta-data",
        "http://[fe80::1]:80",
        "http://[fd00:ec2::254]",
        "http://[::ffff:169.254.169.254]",
        "http://0xa9fea9fe/",
    ] {
        let _liar = Heartbeats::start(
            queen,
            "liar",
            json!([report("1", json!({"model": "secret", "url": url}))]),
        )
        .await;
        let start = std::time::Instant::now();
        let answer = chat(queen, &[], &chat_body("secret", "hi", false)).await;
        assert!(matches!(answer.status, 502 | 503), "{url}: {}", answer.status);
        assert!(start.elapsed() < secs(2), "{url} was tried for {:?}", start.elapsed());
    }
    assert!(worker.requests().is_empty());
    assert_honest_is_served(queen).await;
}

#[actix_web::test]
async fn a_model_that_a_liar_claims_too_is_served_by_the_honest_worker() {
    let site = Site::new();
    let (queen, _worker, _beats) = with_honest(&site).await;
    let queen = queen.queen();
    let claims = |n: usize| {
        report(
            &n.to_string(),
            json!({"model": "honest", "url": "http://127.0.0.1:1", "slots": 100}),
        )
    };
    let _liar = Heartbeats::start(queen, "liar", (0..10).map(claims).collect()).await;
    for _ in 0..20 {
        assert_honest_is_served(queen).await;
    }
}

#[actix_web::test]
async fn four_thousand_workers_that_come_and_go_with_each_heartbeat_cost_the_others_nothing() {
    let site = Site::new();
    let (daemon, _worker, _beats) = with_honest(&site).await;
    let queen = daemon.queen();
    let beat = async |round: usize| {
        let name =
            |n: usize| report(&format!("{round}-{n}"), json!({"model": format!("m{round}-{n}")}));
        let workers: Vec<Value> = (0..4_096).map(name).collect();
        let heartbeat = json!({
            "hive": {"id": "liar", "hostname": "127.0.0.1", "port": 1},
            "timestamp": "2126-01-01T00:00:00Z", "workers": workers,
        });
        let start = std::time::Instant::now();
        queen.post("/v1/hive-heartbeat", heartbeat).await.expect(200);
        start.elapsed()
    };
    for round in 0..3 {
        beat(round).await;
    }
    let before = Cost::of(&daemon);
    let mut longest = std::time::Duration::ZERO;
    for round in 3..12 {
        longest = longest.max(beat(round).await);
        assert_honest_is_served(queen).await;
    }
    before.assert_flat(Cost::of(&daemon), 60.0);
    let models = queen.get("/v1/models").await.json["data"].as_array().unwrap().len();
    assert_eq!(models, 4_097, "no model of a worker that has gone");
    eprintln!("a heartbeat of 4,096 new workers within {longest:?}");
}

#[actix_web::test]
async fn figures_that_cannot_be_are_refused_and_those_that_are_odd_harm_nobody() {
    let site = Site::new();
    let (queen, _worker, _beats) = with_honest(&site).await;
    let queen = queen.queen();
    let told = async |more: Value, timestamp: &str| {
        let heartbeat = json!({
            "hive": {"id": "liar", "hostname": "127.0.0.1", "port": 1},
            "timestamp": timestamp, "workers": [report("1", more)],
        });
        queen.post("/v1/hive-heartbeat", heartbeat).await
    };
    let now = "2026-01-01T00:00:00Z";
    for (field, value) in [
        ("cpu_pct", json!(-1.0)),
        ("rss_mb", json!(-1)),
        ("requests_running", json!(-5)),
        ("pid", json!(-1)),
        ("kv_cache_pct", json!(-0.5)),
        ("group", json!("../../etc")),
        ("instance", json!("a/b")),
        ("model", json!("m".repeat(5_000))),
        ("url", json!("not a url \u{7}")),
    ] {
        let mut more = json!({});
        more[field] = value;
        assert_is_error(&told(more, now).await, 400, field);
    }
    for (more, timestamp) in [
        (json!({"model": "m".repeat(4_096)}), now),
        (json!({"cpu_pct": 1e300, "vram_mb": u64::MAX / 2, "rss_mb": u64::MAX}), now),
        (json!({"requests_running": u32::MAX, "requests_waiting": u32::MAX, "slots": 1}), now),
        (
            json!({"uptime_s": u64::MAX, "restarts": u64::MAX, "sample_age_ms": u64::MAX}),
            "9999-12-31T23:59:59Z",
        ),
        (
            json!({"hive_id": "honest", "model": "honest", "freshness": "down"}),
            "0000-01-01T00:00:00Z",
        ),
    ] {
        let status = told(more.clone(), timestamp).await.status;
        assert!(matches!(status, 200 | 400), "{more}: {status}");
        for path in [
            "/v1/workers",
            "/v1/hives",
            "/v1/history",
            "/metrics",
            "/v1/models",
            "/v1/schedule/explain",
        ] {
            queen.get(path).await.expect(200);
        }
        assert_honest_is_served(queen).await;
    }
    let mut latencies = Latencies::default();
    for _ in 0..10 {
        latencies.ask(queen).await;
        tokio::time::sleep(ms(10)).await;
    }
    latencies.assert_prompt();
}
