//! Which of the workers that fit is taken. The load is what a test's own heartbeats say.

use crate::support::{Api, Heartbeats, Site, gpu, report};
use serde_json::{Value, json};
use std::collections::HashMap;

/// Asks for a place, and says which worker it is at.
pub(crate) async fn place(queen: &Api, wanted: Value) -> String {
    let taken = queen.post("/v1/schedule", wanted).await.expect(200);
    name(&taken["worker"])
}

/// `hive/group/instance`
pub(crate) fn name(worker: &Value) -> String {
    let part = |key: &str| worker[key].as_str().expect("a worker has a name").to_owned();
    format!("{}/{}/{}", part("hive_id"), part("group"), part("instance"))
}

/// What is taken with these two workers, `a` and `b`, asked a few times over without keeping it.
async fn taken_of(a: Value, b: Value) -> String {
    let site = Site::new();
    let queen = site.start("queen", &site.queen_config()).await;
    let workers = json!([report("a", a), report("b", b)]);
    let _hive = Heartbeats::start(queen.queen(), "h", workers).await;
    let mut taken = Vec::new();
    for _ in 0..8 {
        let place = queen.queen().post("/v1/schedule", json!({"model": "m"})).await.expect(200);
        taken.push(name(&place["worker"]));
        let id = place["reservation_id"].as_str().expect("it has an id");
        assert_eq!(queen.queen().delete(&format!("/v1/reservations/{id}")).await.status, 204);
    }
    taken.dedup();
    assert_eq!(taken.len(), 1, "one of them is better: {taken:?}");
    taken.remove(0)
}

#[actix_web::test]
async fn the_worker_with_fewer_requests_in_each_slot_is_taken() {
    let more_but_wider = json!({"slots": 8, "requests_running": 3});
    let fewer_but_narrower = json!({"slots": 2, "requests_running": 1});
    assert_eq!(taken_of(more_but_wider, fewer_but_narrower).await, "h/llm/a");
}

#[actix_web::test]
async fn requests_that_wait_count_like_those_that_run() {
    let waiting = json!({"requests_running": 0, "requests_waiting": 3});
    let running = json!({"requests_running": 1, "requests_waiting": 0});
    assert_eq!(taken_of(waiting, running).await, "h/llm/b");
}

#[actix_web::test]
async fn at_the_same_load_the_emptier_kv_cache_is_taken() {
    assert_eq!(
        taken_of(json!({"kv_cache_pct": 80.0}), json!({"kv_cache_pct": 5.0})).await,
        "h/llm/b"
    );
}

#[actix_web::test]
async fn at_the_same_load_the_less_busy_gpu_is_taken() {
    assert_eq!(
        taken_of(json!({"gpu_util_pct": 5.0}), json!({"gpu_util_pct": 95.0})).await,
        "h/llm/a"
    );
}

#[actix_web::test]
async fn at_the_same_load_the_gpu_with_more_free_memory_is_taken() {
    let site = Site::new();
    let queen = site.start("queen", &site.queen_config()).await;
    let on = |instance: &str, uuid: &str| {
        let share = json!([{"uuid": uuid, "util_pct": 0.0, "vram_mb": 0}]);
        report(instance, json!({"gpus": share, "total_vram_mb": 24_000}))
    };
    let node = json!({"gpus": [gpu("GPU-a", 20_000, 24_000), gpu("GPU-b", 1_000, 24_000)]});
    let workers = json!([on("a", "GPU-a"), on("b", "GPU-b")]);
    let _hive = Heartbeats::with_node(queen.queen(), "h", workers, node).await;
    assert_eq!(place(queen.queen(), json!({})).await, "h/llm/b");
}

#[actix_web::test]
async fn a_worker_without_slots_counts_as_one_slot_and_is_never_full() {
    let site = Site::new();
    let queen = site.start("queen", &site.queen_config()).await;
    let busy = report("a", json!({"slots": null, "requests_running": 1}));
    let free = report("b", json!({"slots": 4, "requests_running": 3}));
    let _hive = Heartbeats::start(queen.queen(), "h", json!([busy, free])).await;
    assert_eq!(place(queen.queen(), json!({})).await, "h/llm/b", "3 of 4 is less than 1 of 1");
    for _ in 0..20 {
        assert_eq!(place(queen.queen(), json!({})).await, "h/llm/a");
    }
}

#[actix_web::test]
async fn ties_are_spread() {
    let site = Site::new();
    let queen = site.start("queen", &site.queen_config()).await;
    let workers = ["a", "b", "c", "d"].map(|instance| report(instance, json!({"slots": 100})));
    let _hive = Heartbeats::start(queen.queen(), "h", json!(workers)).await;
    let mut counts = HashMap::<String, u32>::new();
    for _ in 0..64 {
        let taken = queen.queen().post("/v1/schedule", json!({})).await.expect(200);
        *counts.entry(name(&taken["worker"])).or_default() += 1;
        let id = taken["reservation_id"].as_str().expect("it has an id");
        queen.queen().delete(&format!("/v1/reservations/{id}")).await;
    }
    assert_eq!(counts.len(), 4, "{counts:?}");
    assert!(counts.values().all(|count| *count < 40), "{counts:?}");
}

#[actix_web::test]
async fn reservations_count_as_load_so_that_places_are_dealt_out_evenly() {
    let site = Site::new();
    let queen = site.start("queen", &site.queen_config()).await;
    let workers = ["a", "b", "c"].map(|instance| report(instance, json!({"slots": 4})));
    let _hive = Heartbeats::start(queen.queen(), "h", json!(workers)).await;
    let mut counts = HashMap::<String, u32>::new();
    for _ in 0..6 {
        *counts.entry(place(queen.queen(), json!({})).await).or_default() += 1;
    }
    assert!(counts.len() == 3 && counts.values().all(|count| *count == 2), "{counts:?}");
}

#[actix_web::test]
async fn a_session_stays_with_its_worker_until_that_one_is_full() {
    let site = Site::new();
    let queen = site.start("queen", &site.queen_config()).await;
    let workers = ["a", "b", "c"].map(|instance| report(instance, json!({"slots": 2})));
    let _hive = Heartbeats::start(queen.queen(), "h", json!(workers)).await;
    let wanted = json!({"session": "one conversation"});

    let mut places = Vec::new();
    for _ in 0..6 {
        let place = queen.queen().post("/v1/schedule", wanted.clone()).await.expect(200);
        let id = place["reservation_id"].as_str().expect("it has an id");
        queen.queen().delete(&format!("/v1/reservations/{id}")).await;
        places.push(name(&place["worker"]));
    }
    places.dedup();
    assert_eq!(places.len(), 1, "{places:?}");

    // Held now: the third of them no longer fits where the session is at home.
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(place(queen.queen(), wanted.clone()).await);
    }
    assert!(held.iter().any(|worker| *worker != places[0]), "{held:?}");
}
