//! What a worker uses of the GPUs, and what the queen makes of it, with NVML's fake.

use crate::support::{Gpus, Site, eventually, node_when, pids, secs, tree_of_three};
use serde_json::{Value, json};
use std::{path::Path, process::Command};

const TWO: &str = "gpu GPU-aaaaaaaa NVIDIA_A100 40000 9000 60 45 98500\n\
                   gpu GPU-bbbbbbbb NVIDIA_A100 80000 4000 40 50 120000\n";

fn share<'a>(worker: &'a Value, uuid: &str) -> &'a Value {
    let shares = worker["gpus"].as_array().unwrap();
    shares.iter().find(|share| share["uuid"] == uuid).unwrap_or(&Value::Null)
}

#[actix_web::test]
async fn a_tree_of_three_processes_on_two_gpus_is_summed() {
    let site = Site::new();
    let gpus = Gpus::new(&site, TWO);
    let (queen, hive) = gpus.both(json!([tree_of_three("tree"), tree_of_three("other")])).await;
    let [a, b, c] = pids(hive.hive(), "g/tree", 3).await[..] else { unreachable!() };
    let other = pids(hive.hive(), "g/other", 3).await[0];
    // The first computes and draws on the first GPU; somebody else, who is no worker, is there too.
    let stranger = std::process::id();
    gpus.say(&format!(
        "{TWO}process 0 compute {a} 1000\nprocess 0 graphics {a} 1000\nprocess 0 compute {b} 500\n\
         process 0 compute {stranger} 7000\nprocess 1 compute {b} 2000\nprocess 1 graphics {c} 300\n\
         process 1 compute {other} 1700\n\
         sample 0 {a} 20 50\nsample 0 {a} 90 150\nsample 0 {b} 5 60\nsample 0 {stranger} 35 50\n\
         sample 1 {b} 40 50\nsample 1 {other} 99 60000\n"
    ));
    let summed = |worker: &Value| worker["vram_mb"] == 3800 && worker["idle"].is_boolean();
    let worker = hive.hive().worker_when("g/tree", secs(5), summed).await;
    assert_eq!(worker["gpu_util_pct"], 65.0, "the newest sample of each counts: {worker}");
    assert_eq!(worker["total_vram_mb"], 120_000);
    assert_eq!(
        *share(&worker, "GPU-aaaaaaaa"),
        json!({"uuid": "GPU-aaaaaaaa", "util_pct": 25.0, "vram_mb": 1500})
    );
    assert_eq!(
        *share(&worker, "GPU-bbbbbbbb"),
        json!({"uuid": "GPU-bbbbbbbb", "util_pct": 40.0, "vram_mb": 2300})
    );
    assert_eq!(worker["idle"], false);

    // A sample a minute old is none.
    let other = hive.hive().worker_when("g/other", secs(5), |worker| worker["idle"] == true).await;
    assert_eq!((&other["gpu_util_pct"], &other["vram_mb"]), (&json!(0.0), &json!(1700)));
    assert_eq!(other["total_vram_mb"], 80_000);

    let node = node_when(queen.queen(), |node| node["gpu_source"] == "nvml").await;
    let first = json!({
        "id": "0", "uuid": "GPU-aaaaaaaa", "name": "NVIDIA A100", "util_pct": 60.0,
        "vram_used_mb": 9000, "vram_total_mb": 40000, "temp_c": 45.0, "power_w": 98.5, "health": "ok",
    });
    assert_eq!(node["gpus"][0], first);
    assert_eq!(node["gpus"][1]["uuid"], "GPU-bbbbbbbb");
}

#[actix_web::test]
async fn free_memory_is_what_the_gpus_of_a_worker_have_left() {
    let site = Site::new();
    let gpus = Gpus::new(&site, TWO);
    // Named like a port, it has an address that requests could be sent to.
    let (queen, hive) = gpus.both(json!([tree_of_three("65000")])).await;
    let pid = pids(hive.hive(), "g/65000", 3).await[1];
    gpus.say(&format!("{TWO}process 0 compute {pid} 5000\n"));
    let with_free = async |mb: u64| {
        let list = queen.queen().get(&format!("/v1/workers?min_free_vram_mb={mb}")).await;
        list.expect(200)["workers"].as_array().unwrap().len()
    };
    eventually(secs(5), async || if with_free(31_000).await == 1 { Ok(()) } else { Err("none") })
        .await;
    assert_eq!(with_free(31_001).await, 0, "9,000 of 40,000 MiB are in use on it");
    let schedule = async |mb: u64| queen.queen().post("/v1/schedule", json!({"vram_mb": mb})).await;
    let refused = schedule(31_001).await.expect(503);
    assert!(refused.to_string().contains("31000 MiB of 31001 MiB"), "{refused}");
    let taken = schedule(31_000).await.expect(200);
    assert_eq!(taken["worker"]["instance"], "65000");
}

#[actix_web::test]
async fn where_there_is_a_gpu_one_who_uses_none_is_idle() {
    let site = Site::new();
    let gpus = Gpus::new(&site, TWO);
    let busy = json!({"group": "g", "instance": "cpu", "command": "/bin/sh",
                      "args": ["-c", "while :; do :; done"]});
    let hive = gpus.hive(json!([busy])).await;
    let idle = |worker: &Value| worker["idle"] == true && worker["cpu_pct"].as_f64() > Some(5.0);
    let worker = hive.hive().worker_when("g/cpu", secs(10), idle).await;
    assert_eq!((&worker["gpu_util_pct"], &worker["vram_mb"]), (&json!(0.0), &json!(0)));
    assert_eq!((&worker["gpus"], &worker["total_vram_mb"]), (&json!([]), &Value::Null));
}

#[actix_web::test]
async fn what_a_driver_does_not_support_is_absent_and_not_zero() {
    let site = Site::new();
    let bare = "gpu GPU-aaaaaaaa Old_Card 0 0 0 0 0 bare\n";
    let gpus = Gpus::new(&site, bare);
    let (queen, hive) = gpus.both(json!([tree_of_three("one")])).await;
    let pid = pids(hive.hive(), "g/one", 3).await[0];
    let absent = json!({
        "id": "0", "uuid": "GPU-aaaaaaaa", "name": "Old Card", "util_pct": null,
        "vram_used_mb": null, "vram_total_mb": null, "temp_c": null, "power_w": null, "health": "ok",
    });
    node_when(queen.queen(), |node| node["gpus"][0] == absent).await;
    gpus.say(&format!("{bare}process 0 compute {pid} 12\n"));
    let worker = hive.hive().worker_when("g/one", secs(5), |worker| worker["vram_mb"] == 12).await;
    assert_eq!(worker["total_vram_mb"], Value::Null);
}

#[actix_web::test]
async fn processes_that_cannot_be_told_apart_are_not_idle() {
    let site = Site::new();
    let gpus = Gpus::new(&site, TWO);
    let (queen, hive) = gpus.both(json!([tree_of_three("one")])).await;
    let one = pids(hive.hive(), "g/one", 3).await[0];
    let first = |mark: &str| format!("gpu GPU-aaaaaaaa A100 40000 9000 60 45 98500 {mark}\n");
    // No process has the largest PID there may be: it is one of another namespace.
    let foreign = "process 0 compute 4194304 500\n";
    for state in [
        first("mig"),
        first("no-process-utilisation") + &format!("process 0 compute {one} 12\n"),
        first("hidden-memory") + &format!("process 0 compute {one} 12\n"),
        first("") + foreign,
    ] {
        gpus.say(TWO);
        node_when(queen.queen(), |node| node["gpu_source"] == "nvml").await;
        hive.hive().worker_when("g/one", secs(5), |worker| worker["idle"] == true).await;
        gpus.say(&state);
        let node = node_when(queen.queen(), |node| node["gpu_source"] == "unknown").await;
        assert_eq!(node["gpus"][0]["vram_used_mb"], 9000, "what is told is true: {state}");
        let worker = hive.hive().worker("g/one").await;
        assert_eq!(worker["idle"], Value::Null, "{state}");
    }
}

#[actix_web::test]
async fn a_machine_without_a_gpu_says_so_and_judges_by_the_processor() {
    let site = Site::new();
    let gpus = Gpus::new(&site, "");
    let queen = site.start("queen", &site.queen_config()).await;
    let mut config = gpus.hive_config(Some(queen.queen().url()));
    config["hive"]["gpu"]["nvml_path"] = json!(site.path("no-such-library.so"));
    config["hive"]["gpu"]["nvidia_smi_path"] = json!(site.path("no-such-program"));
    config["hive"]["workers"] = json!([tree_of_three("one")]);
    let hive = site.start("hive", &config).await;
    let has_gpu = Path::new("/proc/driver/nvidia/gpus").exists();
    let wanted = if has_gpu { "unknown" } else { "none" };
    let node = node_when(queen.queen(), |node| node["gpu_source"] == wanted).await;
    assert_eq!(node["gpus"], json!([]));
    if !has_gpu {
        hive.hive().worker_when("g/one", secs(5), |worker| worker["idle"] == true).await;
    }
}

#[actix_web::test]
async fn a_gpu_that_is_not_for_us_costs_no_other() {
    let site = Site::new();
    let gpus = Gpus::new(&site, &TWO.replace(" 98500", " 98500 not-ours"));
    let (queen, _hive) = gpus.both(json!([])).await;
    let node = node_when(queen.queen(), |node| node["gpu_source"] == "nvml").await;
    assert_eq!(node["gpus"].as_array().unwrap().len(), 1);
    assert_eq!(node["gpus"][0]["uuid"], "GPU-bbbbbbbb");
}

#[actix_web::test]
async fn capabilities_list_the_gpus() {
    let site = Site::new();
    let gpus = Gpus::new(&site, TWO);
    let hive = gpus.hive(json!([])).await;
    let devices = eventually(secs(5), async || {
        let devices = hive.hive().get("/capabilities").await.expect(200)["devices"].clone();
        if devices.as_array().unwrap().len() == 3 { Ok(devices) } else { Err(devices) }
    })
    .await;
    assert_eq!(devices[0]["device_type"], "cpu");
    let first =
        json!({"id": "GPU-0", "name": "NVIDIA A100", "device_type": "gpu", "vram_gb": 39.06});
    assert_eq!(devices[1], first);
    assert_eq!(devices[2]["id"], "GPU-1");
}

#[actix_web::test]
async fn a_source_that_is_off_is_not_asked() {
    let site = Site::new();
    let gpus = Gpus::new(&site, TWO);
    let mut config = gpus.hive_config(None);
    config["hive"]["gpu"]["source"] = json!("off");
    let hive = site.start("hive", &config).await;
    let devices = hive.hive().get("/capabilities").await.expect(200)["devices"].clone();
    assert_eq!(devices.as_array().unwrap().len(), 1);
    assert!(crate::support::proc::threads_named(hive.pid(), "gpu-probe").is_empty());
}

#[test]
fn the_check_on_real_gpus_says_so_where_there_are_none() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/gpu-check");
    let which = ["-c", "import sys; print(sys.executable)"];
    let found = Command::new("python3").args(which).output().expect("python3 is installed");
    let python = String::from_utf8(found.stdout).unwrap();
    // Without a PATH to look in there is no nvidia-smi, whatever machine this is.
    let output = Command::new(python.trim()).arg(script).env("PATH", "/nowhere").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(77), "{said}");
    assert!(said.contains("Nothing was checked"), "{said}");
}
