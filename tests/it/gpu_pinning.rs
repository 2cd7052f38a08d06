//! A worker's own GPUs: its spec names them, its environment has them by UUID.

use crate::support::{Gpus, Site, assert_is_error, proc, secs, tree_of_three};
use serde_json::{Value, json};

const TWO: &str = "gpu GPU-aaaaaaaa A100 40000 9000 60 45 98500\n\
                   gpu GPU-bbbbbbbb A100 80000 4000 40 50 120000\n";

fn on(instance: &str, gpus: Value) -> Value {
    let mut spec = tree_of_three(instance);
    spec["gpus"] = gpus;
    spec
}

fn visible(worker: &Value) -> Option<String> {
    proc::variable(worker["pid"].as_u64().unwrap() as u32, "CUDA_VISIBLE_DEVICES")
}

#[actix_web::test]
async fn gpus_of_a_spec_become_cuda_visible_devices_by_uuid() {
    let site = Site::new();
    let gpus = Gpus::new(&site, TWO);
    // The one from the file is started together with the hive: before anybody has looked for GPUs.
    let hive =
        gpus.hive(json!([on("file", json!(["1", "GPU-aaaaaaaa"])), tree_of_three("all")])).await;
    let file = hive.hive().worker_in_state("g/file", "ready").await;
    assert_eq!(visible(&file).as_deref(), Some("GPU-bbbbbbbb,GPU-aaaaaaaa"));
    let all = hive.hive().worker_in_state("g/all", "ready").await;
    assert_eq!(visible(&all), std::env::var("CUDA_VISIBLE_DEVICES").ok());
    let one = hive.hive().spawn(on("api", json!(["GPU-bbbb"]))).await;
    assert_eq!(visible(&one).as_deref(), Some("GPU-bbbbbbbb"));
    let its_own = |worker: &Value| worker["total_vram_mb"] == 80_000;
    let one = hive.hive().worker_when("g/api", secs(5), its_own).await;
    let share = json!([{"uuid": "GPU-bbbbbbbb", "util_pct": 0.0, "vram_mb": 0}]);
    assert_eq!(one["gpus"], share, "its own, though it does not use it yet");
}

#[actix_web::test]
async fn a_gpu_that_is_not_there_is_refused_with_those_that_are() {
    let site = Site::new();
    let gpus = Gpus::new(&site, TWO);
    let hive = gpus.hive(json!([])).await;
    let refused = async |wanted: Value| hive.hive().post("/v1/workers", on("one", wanted)).await;
    assert_is_error(&refused(json!(["2"])).await, 422, "gpus: GPU \"2\" is not there");
    let answer = refused(json!(["0", "GPU-cccccccc"])).await;
    assert_is_error(&answer, 422, "\"0\" (GPU-aaaaaaaa), \"1\" (GPU-bbbbbbbb)");
    assert_is_error(&refused(json!(["first"])).await, 422, "gpus[0]");
    assert_is_error(&refused(json!(["0", "0"])).await, 422, "gpus[1]");
    assert_eq!(hive.hive().get("/v1/workers/g/one").await.status, 404);
}

#[actix_web::test]
async fn where_gpus_are_not_known_the_names_are_passed_on_and_where_there_are_none_refused() {
    let site = Site::new();
    let gpus = Gpus::new(&site, "library fail\n");
    let hive = gpus.hive(json!([])).await;
    let worker = hive.hive().spawn(on("one", json!(["1"]))).await;
    assert_eq!(visible(&worker).as_deref(), Some("1"));
    let pid = worker["pid"].as_u64().unwrap() as u32;
    let order = proc::variable(pid, "CUDA_DEVICE_ORDER");
    assert_eq!(order.as_deref(), Some("PCI_BUS_ID"), "the index is the driver's");

    let none = Site::new();
    let gpus = Gpus::new(&none, "");
    let hive = gpus.hive(json!([])).await;
    let answer = hive.hive().post("/v1/workers", on("one", json!(["0"]))).await;
    assert_is_error(&answer, 422, "this machine has no GPU");
}
