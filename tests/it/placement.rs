//! Who takes a request: filters, scores, sessions and reservations, by heartbeats that a test posts.

use crate::support::{Api, Heartbeats, Site, assert_is_error, eventually, gpu, report, secs};
use serde_json::{Value, json};
use std::collections::HashSet;

async fn schedule(queen: &Api, request: Value) -> Value {
    queen.post("/v1/schedule", request).await.expect(200)
}

/// The instance of the worker that takes it.
fn instance(scheduled: &Value) -> &str {
    scheduled["worker"]["instance"].as_str().expect("it names a worker")
}

fn id(scheduled: &Value) -> &str {
    scheduled["reservation_id"].as_str().expect("it has an id")
}

/// Why each worker does not take it.
async fn reasons(queen: &Api, request: Value) -> Vec<(String, String)> {
    let answer = queen.post("/v1/schedule", request).await;
    assert_eq!(answer.status, 503, "{}", answer.text);
    assert_eq!(answer.json["error"]["code"], "no_worker");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let rejected = answer.json["rejected"].as_array().unwrap().iter();
    rejected.map(|one| (text(&one["worker"]), text(&one["reason"]))).collect()
}

#[actix_web::test]
async fn the_least_loaded_worker_is_taken_then_the_emptier_cache_then_the_freer_memory() {
    let site = Site::new();
    let queen = site.start("queen", &site.queen_config()).await;
    let queen = queen.queen();
    let beats = Heartbeats::start(
        queen,
        "h",
        json!([
            report("busy", json!({"requests_running": 3})),
            report("waiting", json!({"requests_waiting": 2})),
            report("calm", json!({"requests_running": 1, "kv_cache_pct": 90.0})),
        ]),
    )
    .await;
    assert_eq!(instance(&schedule(queen, json!({"model": "m"})).await), "calm");
    beats
        .set(
            "/workers",
            json!([
                report("full-cache", json!({"kv_cache_pct": 80.0, "gpu_util_pct": 0.0})),
                report("empty-cache", json!({"kv_cache_pct": 10.0, "gpu_util_pct": 100.0})),
            ]),
        )
        .await;
    assert_eq!(instance(&schedule(queen, json!({"model": "m"})).await), "empty-cache");
    beats
        .set(
            "/workers",
            json!([
                report("little", json!({"total_vram_mb": 24_000, "vram_mb": 20_000})),
                report("plenty", json!({"total_vram_mb": 24_000, "vram_mb": 4_000})),
            ]),
        )
        .await;
    assert_eq!(instance(&schedule(queen, json!({"model": "m"})).await), "plenty");
    // Two of four slots weigh less than one of one.
    beats
        .set(
            "/workers",
            json!([
                report("small", json!({"slots": 2, "requests_running": 1})),
                report("large", json!({"slots": 8, "requests_running": 2})),
            ]),
        )
        .await;
    assert_eq!(instance(&schedule(queen, json!({"model": "m"})).await), "large");
}

#[actix_web::test]
async fn equal_workers_take_turns() {
    let site = Site::new();
    let queen = site.start("queen", &site.queen_config()).await;
    let queen = queen.queen();
    let workers: Value = (0..4).map(|i| report(&i.to_string(), json!({}))).collect();
    let _beats = Heartbeats::start(queen, "h", workers).await;
    let mut taken = HashSet::new();
    for _ in 0..4 {
        let scheduled = schedule(queen, json!({})).await;
        taken.insert(instance(&scheduled).to_owned());
        queen.delete(&format!("/v1/reservations/{}", id(&scheduled))).await.expect(204);
    }
    assert_eq!(taken.len(), 4, "{taken:?}");
}

#[actix_web::test]
async fn every_worker_that_does_not_take_it_has_its_reason_and_explain_says_the_same() {
    let site = Site::new();
    let queen = site.start("queen", &site.queen_config()).await;
    let queen = queen.queen();
    let on = |uuid: &str| json!([{"uuid": uuid, "util_pct": 0.0, "vram_mb": 10}]);
    let mut broken = gpu("GPU-b", 10, 1_000);
    broken["health"] = json!("fatal Xid 79");
    let node = json!({"gpus": [gpu("GPU-a", 900, 1_000), broken]});
    let workers = json!([
        report("draining", json!({"state": "draining"})),
        report("starting", json!({"state": "starting"})),
        report("full", json!({"slots": 1, "requests_running": 1})),
        report("other", json!({"model": "other"})),
        report("nowhere", json!({"url": null})),
        report("broken", json!({"gpus": on("GPU-b")})),
        report("little", json!({"gpus": on("GPU-a"), "slots": null})),
        report("unknown", json!({})),
    ]);
    let _beats = Heartbeats::with_node(queen, "h", workers, node).await;
    let expected = [
        ("h/llm/broken", "GPU is unhealthy: fatal Xid 79"),
        ("h/llm/draining", "draining"),
        ("h/llm/full", "free VRAM is not known"),
        ("h/llm/little", "not enough free VRAM: 100 MiB of 4096 MiB"),
        ("h/llm/nowhere", "no url"),
        ("h/llm/other", "other model"),
        ("h/llm/starting", "not ready: starting"),
        ("h/llm/unknown", "free VRAM is not known"),
    ]
    .map(|(worker, reason)| (worker.to_owned(), reason.to_owned()));
    let mut rejected = reasons(queen, json!({"model": "m", "vram_mb": 4096})).await;
    rejected.sort();
    assert_eq!(rejected, expected);
    let path = "/v1/schedule/explain?model=m&vram_mb=4096";
    let explained = queen.get(path).await.expect(200);
    assert_eq!(explained["chosen"], Value::Null);
    let told =
        |one: &Value| (one["worker"].clone(), one["eligible"].clone(), one["reason"].clone());
    let told: Vec<_> = explained["workers"].as_array().unwrap().iter().map(told).collect();
    for (worker, reason) in expected {
        assert!(told.contains(&(json!(worker), json!(false), json!(reason))), "{told:?}");
    }
    let easy = queen.get("/v1/schedule/explain?model=m").await.expect(200);
    let chosen = easy["chosen"].as_str().unwrap();
    assert!(["h/llm/little", "h/llm/unknown"].contains(&chosen), "{chosen}");
    let full = reasons(queen, json!({"model": "m", "group": "elsewhere"})).await;
    assert!(full.iter().all(|(_, reason)| reason == "other group"), "{full:?}");
}

#[actix_web::test]
async fn a_hive_that_is_late_gets_nothing_from_that_moment() {
    let site = Site::new();
    let mut config = site.queen_config();
    config["queen"]["degraded_after_ms"] = json!(300);
    let queen = site.start("queen", &config).await;
    let queen = queen.queen();
    let body = json!({
        "hive": {"id": "h", "hostname": "127.0.0.1", "port": 1}, "timestamp": "2026-01-01T00:00:00Z",
        "workers": [report("1", json!({}))],
    });
    queen.post("/v1/hive-heartbeat", body).await.expect(200);
    schedule(queen, json!({"model": "m"})).await;
    eventually(secs(2), async || {
        let answer = queen.post("/v1/schedule", json!({"model": "m"})).await;
        let reason = &answer.json["rejected"][0]["reason"];
        if reason == "hive is degraded" { Ok(()) } else { Err(answer) }
    })
    .await;
}

#[actix_web::test]
async fn a_session_goes_back_to_its_worker_until_that_one_is_full() {
    let site = Site::new();
    let queen = site.start("queen", &site.queen_config()).await;
    let queen = queen.queen();
    let workers: Value = (0..3).map(|i| report(&i.to_string(), json!({}))).collect();
    let _beats = Heartbeats::start(queen, "h", workers).await;
    let ask = json!({"model": "m", "session": "s"});
    let first = schedule(queen, ask.clone()).await;
    for _ in 0..3 {
        assert_eq!(instance(&schedule(queen, ask.clone()).await), instance(&first));
    }
    assert_ne!(instance(&schedule(queen, ask).await), instance(&first), "its four slots are taken");
}

#[actix_web::test]
async fn memory_on_a_gpu_is_promised_once_whoever_is_on_it() {
    let site = Site::new();
    let queen = site.start("queen", &site.queen_config()).await;
    let queen = queen.queen();
    let on = |mb: u64| json!([{"uuid": "GPU-a", "util_pct": 0.0, "vram_mb": mb}]);
    let workers =
        json!([report("1", json!({"gpus": on(500)})), report("2", json!({"gpus": on(500)})),]);
    let node = json!({"gpus": [gpu("GPU-a", 1_000, 10_000)]});
    let beats = Heartbeats::with_node(queen, "h", workers, node).await;
    let with_free = async |least: u64| {
        let answer = queen.get(&format!("/v1/workers?min_free_vram_mb={least}")).await;
        answer.expect(200)["workers"].as_array().unwrap().len()
    };
    assert_eq!((with_free(9_000).await, with_free(9_001).await), (2, 0));
    let ask = json!({"model": "m", "vram_mb": 6_000});
    let scheduled = schedule(queen, ask.clone()).await;
    assert_eq!((with_free(3_000).await, with_free(3_001).await), (2, 0));
    let refused = reasons(queen, ask.clone()).await;
    assert!(refused.iter().all(|(_, why)| why.starts_with("not enough free VRAM: 3000 MiB")));
    // What was promised is in use now, and does not count twice.
    let position = if instance(&scheduled) == "1" { 0 } else { 1 };
    beats.set("/node/gpus/0/vram_used_mb", json!(7_000)).await;
    beats.set(&format!("/workers/{position}/gpus"), on(6_500)).await;
    assert_eq!((with_free(3_000).await, with_free(3_001).await), (2, 0));
    queen.delete(&format!("/v1/reservations/{}", id(&scheduled))).await.expect(204);
    assert_eq!((with_free(3_000).await, with_free(3_001).await), (2, 0));
}

#[actix_web::test]
async fn a_reservation_ends_with_its_time_with_its_holder_and_with_its_worker() {
    let site = Site::new();
    let queen = site.start("queen", &site.queen_config()).await;
    let queen = queen.queen();
    let beats = Heartbeats::start(queen, "h", json!([report("1", json!({"slots": 1}))])).await;
    let free = async || {
        let answer = queen.get("/v1/schedule/explain?model=m").await.expect(200);
        if answer["chosen"].is_null() { Err(answer) } else { Ok(()) }
    };
    let held = schedule(queen, json!({"model": "m", "ttl_ms": 400})).await;
    assert_eq!(held["url"], "http://127.0.0.1:1");
    assert!((1..=400).contains(&held["expires_in_ms"].as_u64().unwrap()));
    assert_eq!(reasons(queen, json!({"model": "m"})).await[0].1, "no free slot");
    let path = format!("/v1/reservations/{}", id(&held));
    let renewed = queen.put(&path).await.expect(200);
    assert_eq!(renewed["reservation_id"], held["reservation_id"]);
    eventually(secs(2), free).await;
    assert_is_error(&queen.delete(&path).await, 404, "reservation");
    assert_is_error(&queen.put(&path).await, 404, "reservation");
    let held = schedule(queen, json!({"model": "m"})).await;
    let path = format!("/v1/reservations/{}", id(&held));
    beats.set("/workers/0/state", json!("backoff")).await;
    assert_is_error(&queen.delete(&path).await, 404, "reservation");
    beats.set("/workers/0/state", json!("ready")).await;
    free().await.unwrap();
}

#[actix_web::test]
async fn what_makes_no_sense_is_refused_with_its_name() {
    let site = Site::new();
    let queen = site.start("queen", &site.queen_config()).await;
    let queen = queen.queen();
    for (body, named) in [
        (r#"{"vram_mb": -1}"#, "vram_mb"),
        (r#"{"ttl_ms": 0}"#, "ttl_ms"),
        (r#"{"ttl_ms": 99999999999}"#, "ttl_ms"),
        (r#"{"model": 7}"#, "model"),
        (r#"{"model": ""}"#, "model"),
        (r#"{"group": "../x"}"#, "group"),
        (r#"{"session": "a\u0000b"}"#, "session"),
        ("[]", "object"),
        ("nonsense", "object"),
    ] {
        assert_is_error(&queen.post_text("/v1/schedule", body).await, 400, named);
    }
    assert_is_error(&queen.get("/v1/schedule/explain?vram_mb=x").await, 400, "vram_mb");
    assert_is_error(&queen.get("/v1/schedule/explain?colour=x").await, 400, "colour");
    assert_is_error(&queen.delete("/v1/reservations/nonsense").await, 404, "reservation");
    let nobody = queen.post_text("/v1/schedule", r#"{"future": 1, "model": null}"#).await;
    assert_eq!((nobody.status, &nobody.json["rejected"]), (503, &json!([])));
}

#[actix_web::test]
async fn a_thousand_callers_at_once_get_each_last_slot_once() {
    const SLOTS: [usize; 3] = [11, 13, 13];
    let site = Site::new();
    let queen = site.start("queen", &site.queen_config()).await;
    let queen = queen.queen();
    let mut beats = Vec::new();
    for (hive, slots) in SLOTS.iter().enumerate() {
        let workers = json!([report("1", json!({"slots": slots}))]);
        beats.push(Heartbeats::start(queen, &format!("h{hive}"), workers).await);
    }
    for _ in 0..2 {
        let callers = (0..1_000).map(|_| queen.post("/v1/schedule", json!({"model": "m"})));
        let answers = futures_util::future::join_all(callers).await;
        let taken: Vec<_> = answers.iter().filter(|answer| answer.status == 200).collect();
        assert!(answers.iter().all(|answer| [200, 503].contains(&answer.status)));
        let ids: HashSet<_> = taken.iter().map(|answer| id(&answer.json)).collect();
        assert_eq!((taken.len(), ids.len()), (37, 37));
        for (hive, slots) in SLOTS.iter().enumerate() {
            let name = format!("h{hive}");
            let of_hive = taken.iter().filter(|a| a.json["worker"]["hive_id"] == name.as_str());
            assert_eq!(of_hive.count(), *slots);
        }
        for id in ids {
            queen.delete(&format!("/v1/reservations/{id}")).await.expect(204);
        }
    }
    drop(beats);
}
