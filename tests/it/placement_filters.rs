//! Which workers are not taken at all, and what is said of each.

use crate::support::{Api, Heartbeats, Site, assert_is_error, eventually, gpu, report, secs};
use serde_json::{Value, json};

/// The reason for each worker, from an answer that says there is none.
async fn refused(queen: &Api, wanted: Value) -> Vec<(String, String)> {
    let answer = queen.post("/v1/schedule", wanted).await.expect(503);
    assert_eq!(answer["error"]["code"], "no_worker", "{answer}");
    assert!(answer["error"]["message"].is_string() && answer["error"]["type"].is_string());
    let rejected = answer["rejected"].as_array().expect("a list");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let mut all: Vec<_> =
        rejected.iter().map(|one| (text(&one["worker"]), text(&one["reason"]))).collect();
    all.sort();
    all
}

/// The only worker's reason.
async fn reason(queen: &Api, wanted: Value) -> String {
    let mut all = refused(queen, wanted).await;
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0).1
}

#[actix_web::test]
async fn each_worker_that_is_not_taken_has_its_reason() {
    let site = Site::new();
    let queen = site.start("queen", &site.queen_config()).await;
    let workers = json!([
        report("draining", json!({"state": "draining"})),
        report("full", json!({"slots": 2, "requests_running": 2})),
        report("group", json!({"group": "other"})),
        report("model", json!({"model": "other"})),
        report("starting", json!({"state": "starting"})),
    ]);
    let _hive = Heartbeats::start(queen.queen(), "h", workers).await;
    let all = refused(queen.queen(), json!({"model": "m", "group": "llm"})).await;
    let expected = [
        ("h/llm/draining", "draining"),
        ("h/llm/full", "no free slot"),
        ("h/llm/model", "other model"),
        ("h/llm/starting", "not ready: starting"),
        ("h/other/group", "other group"),
    ];
    assert_eq!(all, expected.map(|(worker, reason)| (worker.to_owned(), reason.to_owned())));
}

#[actix_web::test]
async fn without_any_worker_nothing_is_rejected_and_nothing_taken() {
    let site = Site::new();
    let queen = site.start("queen", &site.queen_config()).await;
    assert!(refused(queen.queen(), json!({})).await.is_empty());
}

#[actix_web::test]
async fn what_was_taken_is_told_with_where_it_is_and_how_long() {
    let site = Site::new();
    let queen = site.start("queen", &site.queen_config()).await;
    let worker = report("a", json!({"url": "http://127.0.0.1:4711"}));
    let _hive = Heartbeats::start(queen.queen(), "h", json!([worker])).await;
    let taken = queen.queen().post("/v1/schedule", json!({"ttl_ms": 5000})).await.expect(200);
    assert!(taken["reservation_id"].as_str().is_some_and(|id| !id.is_empty()), "{taken}");
    assert_eq!(taken["url"], "http://127.0.0.1:4711");
    assert_eq!(taken["worker"]["hive_id"], "h");
    assert_eq!(taken["worker"]["instance"], "a");
    let left = taken["expires_in_ms"].as_u64().expect("a number");
    assert!((4000..=5000).contains(&left), "{left}");
}

#[actix_web::test]
async fn a_model_is_found_by_an_alias() {
    let site = Site::new();
    let queen = site.start("queen", &site.queen_config()).await;
    let worker = report("a", json!({"model": "/models/tiny.gguf", "model_aliases": ["tiny"]}));
    let _hive = Heartbeats::start(queen.queen(), "h", json!([worker])).await;
    queen.queen().post("/v1/schedule", json!({"model": "tiny"})).await.expect(200);
    queen.queen().post("/v1/schedule", json!({"model": "/models/tiny.gguf"})).await.expect(200);
    assert_eq!(reason(queen.queen(), json!({"model": "tin"})).await, "other model");
}

#[actix_web::test]
async fn a_hive_that_falls_silent_is_left_out_as_soon_as_it_is_degraded() {
    let site = Site::new();
    // Three intervals of the hive are 1.5 s.
    let config = json!({"queen": {"bind": "127.0.0.1:0", "degraded_after_ms": 500}});
    let queen = site.start("queen", &config).await;
    let hive = Heartbeats::start(queen.queen(), "h", json!([report("a", json!({}))])).await;
    queen.queen().post("/v1/schedule", json!({})).await.expect(200);
    drop(hive);
    eventually(secs(5), async || {
        let hive = queen.queen().get("/v1/hives/h").await.expect(200);
        if hive["freshness"] == "degraded" { Ok(()) } else { Err(hive["freshness"].clone()) }
    })
    .await;
    assert_eq!(reason(queen.queen(), json!({})).await, "hive is degraded");

    let _back = Heartbeats::start(queen.queen(), "h", json!([report("a", json!({}))])).await;
    queen.queen().post("/v1/schedule", json!({})).await.expect(200);
}

#[actix_web::test]
async fn a_gpu_that_is_not_well_takes_nothing_new() {
    let site = Site::new();
    let queen = site.start("queen", &site.queen_config()).await;
    let share = json!([{"uuid": "GPU-a", "util_pct": 0.0, "vram_mb": 10}]);
    let worker = report("a", json!({"gpus": share, "total_vram_mb": 1000}));
    let node = json!({"gpus": [gpu("GPU-a", 10, 1000)]});
    let hive = Heartbeats::with_node(queen.queen(), "h", json!([worker]), node).await;
    queen.queen().post("/v1/schedule", json!({})).await.expect(200);

    hive.set("/node/gpus/0/health", json!("fatal Xid 79")).await;
    let reason = reason(queen.queen(), json!({})).await;
    assert!(reason.to_lowercase().contains("gpu"), "{reason}");
    hive.set("/node/gpus/0/health", json!("ok")).await;
    queen.queen().post("/v1/schedule", json!({})).await.expect(200);
}

#[actix_web::test]
async fn a_worker_that_drains_takes_nothing_until_it_is_ready_again() {
    let site = Site::new();
    let queen = site.start("queen", &site.queen_config()).await;
    let hive = Heartbeats::start(queen.queen(), "h", json!([report("a", json!({}))])).await;
    for (state, expected) in [
        ("draining", "draining"),
        ("starting", "not ready: starting"),
        ("backoff", "not ready: backoff"),
        ("failed", "not ready: failed"),
    ] {
        hive.set("/workers/0/state", json!(state)).await;
        assert_eq!(reason(queen.queen(), json!({})).await, expected);
    }
    hive.set("/workers/0/state", json!("ready")).await;
    queen.queen().post("/v1/schedule", json!({})).await.expect(200);
}

#[actix_web::test]
async fn explain_says_the_same_without_taking_anything() {
    let site = Site::new();
    let queen = site.start("queen", &site.queen_config()).await;
    let workers = json!([
        report("a", json!({"slots": 1})),
        report("b", json!({"slots": 2, "requests_running": 1})),
        report("c", json!({"model": "other"})),
    ]);
    let _hive = Heartbeats::start(queen.queen(), "h", workers).await;
    for _ in 0..3 {
        let told = queen.queen().get("/v1/schedule/explain?model=m").await.expect(200);
        assert_eq!(told["chosen"], "h/llm/a");
        let of = |name: &str| {
            let workers = told["workers"].as_array().expect("a list");
            workers.iter().find(|worker| worker["worker"] == name).expect("each is told").clone()
        };
        let (a, b, c) = (of("h/llm/a"), of("h/llm/b"), of("h/llm/c"));
        assert!(a["eligible"] == true && a["score"].is_number() && a["reason"].is_null(), "{a}");
        assert!(b["eligible"] == true && b["score"].is_number() && b["reason"].is_null(), "{b}");
        assert_ne!(a["score"], b["score"]);
        assert_eq!((&c["eligible"], &c["reason"]), (&json!(false), &json!("other model")));
        assert!(c["score"].is_null(), "{c}");
    }
    queen.queen().post("/v1/schedule", json!({"model": "m"})).await.expect(200);
    let told = queen.queen().get("/v1/schedule/explain?model=none").await.expect(200);
    assert_eq!(told["chosen"], Value::Null);
}

#[actix_web::test]
async fn what_is_wrong_with_the_question_is_named() {
    let site = Site::new();
    let queen = site.start("queen", &site.queen_config()).await;
    let _hive = Heartbeats::start(queen.queen(), "h", json!([report("a", json!({}))])).await;
    for (wanted, field) in [
        (json!({"vram_mb": -1}), "vram_mb"),
        (json!({"vram_mb": "much"}), "vram_mb"),
        (json!({"ttl_ms": 0}), "ttl_ms"),
        (json!({"ttl_ms": 1.5}), "ttl_ms"),
        (json!({"model": 7}), "model"),
        (json!({"group": []}), "group"),
        (json!({"session": {}}), "session"),
    ] {
        assert_is_error(&queen.queen().post("/v1/schedule", wanted).await, 400, field);
    }
    let answer = queen.queen().post_text("/v1/schedule", "not JSON").await;
    assert_is_error(&answer, 400, "");
    let answer = queen.queen().get("/v1/schedule/explain?vram_mb=-1").await;
    assert_is_error(&answer, 400, "vram_mb");
}

#[actix_web::test]
async fn a_field_that_nobody_knows_is_passed_over() {
    let site = Site::new();
    let queen = site.start("queen", &site.queen_config()).await;
    let _hive = Heartbeats::start(queen.queen(), "h", json!([report("a", json!({}))])).await;
    queen.queen().post("/v1/schedule", json!({"model": "m", "colour": "red"})).await.expect(200);
}

#[actix_web::test]
async fn a_hive_that_says_it_is_not_well_takes_nothing_at_once_and_everything_when_it_is_well_again()
 {
    let site = Site::new();
    let queen = site.start("queen", &site.queen_config()).await;
    let hive = Heartbeats::start(queen.queen(), "h", json!([report("a", json!({}))])).await;
    let says = |status: &str, health: &str| {
        json!({"id": "h", "hostname": "127.0.0.1", "port": 1,
            "operational_status": status, "health_status": health})
    };
    for (status, health, why) in [
        ("ready", "Unhealthy", "hive says it is unhealthy"),
        ("ready", "degraded", "hive says it is degraded"),
        ("error", "healthy", "hive says it is in error"),
        ("draining", "healthy", "hive is draining"),
        ("stopped", "healthy", "hive has stopped"),
    ] {
        hive.set("/hive", says(status, health)).await;
        assert_eq!(reason(queen.queen(), json!({})).await, why);
        let explained = queen.queen().get("/v1/schedule/explain").await.expect(200);
        assert_eq!(explained["workers"][0]["reason"], why, "{explained}");
        hive.set("/hive", says("Ready", "Healthy")).await;
        queen.queen().post("/v1/schedule", json!({"ttl_ms": 1})).await.expect(200);
    }
}

#[actix_web::test]
async fn a_hive_that_went_and_left_its_workers_is_asked_until_it_is_down() {
    let site = Site::new();
    let queen = site.start("queen", &site.queen_config()).await;
    let hive = Heartbeats::start(queen.queen(), "h", json!([report("a", json!({}))])).await;
    let stopping =
        json!({"id": "h", "hostname": "127.0.0.1", "port": 1, "operational_status": "stopping"});
    hive.set("/hive", stopping).await;
    drop(hive);
    let degraded = async || {
        let hive = queen.queen().get("/v1/hives/h").await.expect(200);
        if hive["freshness"] == "degraded" { Ok(()) } else { Err(hive) }
    };
    eventually(secs(10), degraded).await;
    queen.queen().post("/v1/schedule", json!({"ttl_ms": 1})).await.expect(200);
    let refused = async || {
        let answer = queen.queen().post("/v1/schedule", json!({"ttl_ms": 1})).await;
        if answer.status == 503 { Ok(()) } else { Err(answer.status) }
    };
    eventually(secs(20), refused).await;
    let hive = queen.queen().get("/v1/hives/h").await.expect(200);
    assert_eq!(hive["freshness"], "down");
}
