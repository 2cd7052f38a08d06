//! What it costs to watch a large machine: 8 GPUs with 200 processes each.

use crate::support::{Gpus, Site, eventually, pids, proc, secs};
use serde_json::{Value, json};
use std::time::Instant;

/// Of one processor, ns a second.
const CPU_MAX_NS: f64 = 5e6;

#[actix_web::test]
async fn eight_gpus_with_200_processes_each_cost_less_than_5_ms_a_second() {
    let site = Site::new();
    let gpus = Gpus::new(&site, "");
    let queen = site.start("queen", &site.queen_config()).await;
    let mut config = gpus.hive_config(Some(queen.queen().url()));
    config["hive"]["sample_interval_ms"] = json!(1000);
    config["hive"]["heartbeat_interval_ms"] = json!(1000);
    let script = "n=1; while [ $n -lt 200 ]; do sleep 86400 & n=$((n+1)); done; wait";
    config["hive"]["workers"] =
        json!([{"group": "g", "instance": "one", "command": "/bin/sh", "args": ["-c", script]}]);
    let hive = site.start("hive", &config).await;
    let all = pids(hive.hive(), "g/one", 200).await;
    let mut state = String::new();
    for gpu in 0..8 {
        state += &format!("gpu GPU-{gpu:08} A100 80000 4000 40 50 120000\n");
        for pid in &all {
            state += &format!("process {gpu} compute {pid} 10\nsample {gpu} {pid} 1 50\n");
        }
    }
    gpus.say(&state);
    let summed = |worker: &Value| worker["vram_mb"] == 8 * 200 * 10;
    // The hive had no GPU at first, and looks for one each ten seconds.
    let worker = hive.hive().worker_when("g/one", secs(20), summed).await;
    assert_eq!(worker["gpu_util_pct"], 800.0);
    let probe = proc::threads_named(hive.pid(), "gpu-probe")[0];
    let cpu = || proc::thread_cpu_ns(hive.pid(), probe).expect("the thread lives");
    let (before, began) = (cpu(), Instant::now());
    eventually(
        secs(20),
        async || {
            if began.elapsed() > secs(8) { Ok(()) } else { Err(began.elapsed()) }
        },
    )
    .await;
    let a_second = (cpu() - before) as f64 / began.elapsed().as_secs_f64();
    println!("the probe takes {:.2} ms of CPU a second, the fake library included", a_second / 1e6);
    assert!(a_second > 0.0 && a_second < CPU_MAX_NS, "{:.2} ms a second", a_second / 1e6);
}
