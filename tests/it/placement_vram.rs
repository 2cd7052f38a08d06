//! Memory of GPUs: reserved per GPU, whoever reserved it, until it shows up as used.

use crate::support::{Api, Heartbeats, Site, gpu, report};
use serde_json::{Value, json};

/// A worker on one GPU of 24,000 MiB, holding `vram_mb` of it.
fn on_gpu(instance: &str, uuid: &str, vram_mb: u64) -> Value {
    let share = json!([{"uuid": uuid, "util_pct": 0.0, "vram_mb": vram_mb}]);
    report(instance, json!({"gpus": share, "vram_mb": vram_mb, "total_vram_mb": 24_000}))
}

/// Two workers of 2,000 MiB each on one GPU: 20,000 are free.
async fn shared_gpu(queen: &Api) -> Heartbeats {
    let workers = json!([on_gpu("a", "GPU-a", 2_000), on_gpu("b", "GPU-a", 2_000)]);
    let node = json!({"gpus": [gpu("GPU-a", 4_000, 24_000)]});
    Heartbeats::with_node(queen, "h", workers, node).await
}

async fn assert_refused_for_vram(queen: &Api, vram_mb: u64) {
    let answer = queen.post("/v1/schedule", json!({"vram_mb": vram_mb})).await.expect(503);
    let rejected = answer["rejected"].as_array().expect("a list");
    let of_vram = |one: &Value| {
        one["reason"].as_str().is_some_and(|reason| reason.to_lowercase().contains("vram"))
    };
    assert!(!rejected.is_empty() && rejected.iter().all(of_vram), "{answer}");
}

async fn with_free(queen: &Api, mb: u64) -> usize {
    let list = queen.get(&format!("/v1/workers?min_free_vram_mb={mb}")).await.expect(200);
    list["workers"].as_array().expect("a list").len()
}

#[actix_web::test]
async fn what_one_worker_reserved_is_gone_for_the_other_on_its_gpu() {
    let site = Site::new();
    let queen = site.start("queen", &site.queen_config()).await;
    let _hive = shared_gpu(queen.queen()).await;
    assert_refused_for_vram(queen.queen(), 20_001).await;
    let taken = queen.queen().post("/v1/schedule", json!({"vram_mb": 12_000})).await.expect(200);
    assert_refused_for_vram(queen.queen(), 8_001).await;
    queen.queen().post("/v1/schedule", json!({"vram_mb": 8_000})).await.expect(200);
    assert_refused_for_vram(queen.queen(), 1).await;

    let id = taken["reservation_id"].as_str().expect("it has an id");
    assert_eq!(queen.queen().delete(&format!("/v1/reservations/{id}")).await.status, 204);
    queen.queen().post("/v1/schedule", json!({"vram_mb": 12_000})).await.expect(200);
}

#[actix_web::test]
async fn a_reservation_on_one_gpu_leaves_the_other_alone() {
    let site = Site::new();
    let queen = site.start("queen", &site.queen_config()).await;
    let workers = json!([on_gpu("a", "GPU-a", 0), on_gpu("b", "GPU-b", 0)]);
    let node = json!({"gpus": [gpu("GPU-a", 0, 24_000), gpu("GPU-b", 0, 24_000)]});
    let _hive = Heartbeats::with_node(queen.queen(), "h", workers, node).await;
    let mut taken = Vec::new();
    for _ in 0..2 {
        let place =
            queen.queen().post("/v1/schedule", json!({"vram_mb": 20_000})).await.expect(200);
        taken.push(place["worker"]["instance"].clone());
    }
    taken.sort_by_key(Value::to_string);
    assert_eq!(taken, ["a", "b"]);
    assert_refused_for_vram(queen.queen(), 20_000).await;
}

#[actix_web::test]
async fn the_list_of_workers_with_free_memory_honours_reservations() {
    let site = Site::new();
    let queen = site.start("queen", &site.queen_config()).await;
    let _hive = shared_gpu(queen.queen()).await;
    assert_eq!(with_free(queen.queen(), 20_000).await, 2);
    assert_eq!(with_free(queen.queen(), 20_001).await, 0);
    queen.queen().post("/v1/schedule", json!({"vram_mb": 12_000})).await.expect(200);
    assert_eq!(with_free(queen.queen(), 8_000).await, 2);
    assert_eq!(with_free(queen.queen(), 8_001).await, 0);
}

#[actix_web::test]
async fn a_reservation_gives_way_to_the_use_that_it_was_made_for() {
    let site = Site::new();
    let queen = site.start("queen", &site.queen_config()).await;
    let hive = shared_gpu(queen.queen()).await;
    let taken = queen.queen().post("/v1/schedule", json!({"vram_mb": 12_000})).await.expect(200);
    let index = if taken["worker"]["instance"] == "a" { 0 } else { 1 };
    assert_eq!(with_free(queen.queen(), 8_000).await, 2);

    // Half of it is in use now, then all: what is free for others stays as it is.
    for (used, held) in [(10_000, 8_000), (16_000, 14_000)] {
        hive.set("/node/gpus/0/vram_used_mb", json!(used)).await;
        hive.set(&format!("/workers/{index}/vram_mb"), json!(held)).await;
        hive.set(&format!("/workers/{index}/gpus/0/vram_mb"), json!(held)).await;
        assert_eq!(with_free(queen.queen(), 8_000).await, 2, "{used} MiB in use");
        assert_eq!(with_free(queen.queen(), 8_001).await, 0, "{used} MiB in use");
    }
}

#[actix_web::test]
async fn memory_in_use_by_strangers_is_not_free() {
    let site = Site::new();
    let queen = site.start("queen", &site.queen_config()).await;
    let hive = shared_gpu(queen.queen()).await;
    hive.set("/node/gpus/0/vram_used_mb", json!(23_000)).await;
    assert_refused_for_vram(queen.queen(), 1_001).await;
    queen.queen().post("/v1/schedule", json!({"vram_mb": 1_000})).await.expect(200);
}

#[actix_web::test]
async fn a_worker_whose_gpu_memory_is_unknown_takes_nothing_that_needs_it() {
    let site = Site::new();
    let queen = site.start("queen", &site.queen_config()).await;
    let _hive = Heartbeats::start(queen.queen(), "h", json!([report("a", json!({}))])).await;
    assert_refused_for_vram(queen.queen(), 1).await;
    assert_eq!(with_free(queen.queen(), 1).await, 0);
    queen.queen().post("/v1/schedule", json!({})).await.expect(200);
}
