//! Telemetry that only a kernel with all controllers has, against a second source.

use crate::{
    machine::{PATIENCE, cgroup_file, drop_caches, sampled_twice, shell},
    support::{Api, Site, eventually, ms, secs},
};
use serde_json::{Value, json};
use std::{fs, time::Instant};

const MIB: f64 = 1_048_576.0;

/// Bytes that the machine's only disk has read and written, as the block layer counts them (bytes in
/// sectors of 512, Documentation/block/stat.rst): not what a cgroup says.
fn disk_bytes() -> [f64; 2] {
    let text = fs::read_to_string("/sys/block/vda/stat").unwrap();
    let fields: Vec<f64> = text.split_ascii_whitespace().map(|s| s.parse().unwrap()).collect();
    [fields[2] * 512.0, fields[6] * 512.0]
}

/// MiB/s, read and written, as the worker's samples and as the disk had them over the same seconds.
async fn told_and_measured(api: &Api, name: &str, samples: usize) -> ([f64; 2], [f64; 2]) {
    let mut seen: Vec<(Instant, [f64; 2], [f64; 2])> = Vec::new();
    let mut last_age = 0;
    eventually(secs(60), async || {
        let (disk, worker) = (disk_bytes(), api.worker(name).await);
        let age = worker["sample_age_ms"].as_u64().unwrap();
        if age < last_age {
            let rates = ["io_r_mb_s", "io_w_mb_s"].map(|name| worker[name].as_f64().unwrap());
            seen.push((Instant::now() - ms(age), rates, disk));
        }
        last_age = age;
        if seen.len() > samples { Ok(()) } else { Err(seen.len()) }
    })
    .await;
    let (first, last) = (&seen[0], &seen[seen.len() - 1]);
    let seconds = (last.0 - first.0).as_secs_f64();
    let told = [0, 1].map(|way| {
        let moved = seen.windows(2).map(|two| two[1].1[way] * (two[1].0 - two[0].0).as_secs_f64());
        moved.sum::<f64>() / seconds
    });
    let measured = [0, 1].map(|way| (last.2[way] - first.2[way]) / MIB / seconds);
    println!("{name}: told {told:.2?} MiB/s, the disk had {measured:.2?}");
    (told, measured)
}

#[track_caller]
fn assert_close(told: f64, measured: f64) {
    assert!((told - measured).abs() <= measured * 0.15, "told {told}, measured {measured}");
}

#[actix_web::test]
async fn io_rates_are_those_of_the_disk() {
    let site = Site::new();
    let file = site.path("data");
    let file = file.display();
    let direct = "bs=1M count=4 conv=notrunc status=none";
    let writes =
        format!("while :; do dd if=/dev/zero of={file} oflag=direct {direct}; sleep 0.05; done");
    let reads =
        format!("while :; do dd if={file} of=/dev/null iflag=direct {direct}; sleep 0.05; done");
    let hive = site.start_hive(json!([shell("writer", &writes)])).await;
    hive.hive().worker_when("g/writer", PATIENCE, |w| w["io_w_mb_s"].as_f64() > Some(0.0)).await;
    let (told, measured) = told_and_measured(hive.hive(), "g/writer", 8).await;
    assert!(measured[1] > 5.0, "{measured:?}");
    assert_close(told[1], measured[1]);
    hive.hive().delete("/v1/workers/g/writer").await.expect(200);

    hive.hive().spawn(shell("reader", &reads)).await;
    hive.hive().worker_when("g/reader", PATIENCE, |w| w["io_r_mb_s"].as_f64() > Some(0.0)).await;
    let (told, measured) = told_and_measured(hive.hive(), "g/reader", 8).await;
    assert!(measured[0] > 5.0, "{measured:?}");
    assert_close(told[0], measured[0]);
}

#[actix_web::test]
async fn the_page_cache_counts_as_charged_and_not_as_used() {
    let site = Site::new();
    let file = site.path("model");
    fs::write(&file, vec![7; 96 << 20]).unwrap();
    drop_caches();
    let script = format!("cat {} > /dev/null; exec sleep 86400", file.display());
    let hive = site.start_hive(json!([shell("reader", &script)])).await;
    let read = |w: &Value| w["rss_mb"].as_u64() >= Some(96);
    let worker = hive.hive().worker_when("g/reader", PATIENCE, read).await;
    let figure = |name: &str| worker[name].as_u64().unwrap();
    println!(
        "rss {} working set {} anon {}",
        worker["rss_mb"], worker["working_set_mb"], worker["anon_mb"]
    );
    assert!((96..110).contains(&figure("rss_mb")));
    assert!(figure("working_set_mb") < 16 && figure("anon_mb") < 8);
    let kernel: u64 = cgroup_file(&worker, "memory.current").parse().unwrap();
    assert!((kernel >> 20).abs_diff(figure("rss_mb")) <= 1, "{kernel}");
}

#[actix_web::test]
async fn waiting_for_a_processor_shows_as_pressure() {
    let site = Site::new();
    let mut spec = shell("many", "for i in 1 2 3 4; do sh -c 'while :; do :; done' & done; wait");
    spec["cpu_limit"] = json!("50%");
    let hive = site.start_hive(json!([spec, shell("calm", "exec sleep 86400")])).await;
    let stalled = |w: &Value| w["pressure"]["cpu"].as_f64() > Some(20.0);
    let worker = hive.hive().worker_when("g/many", secs(60), stalled).await;
    println!("pressure {}", worker["pressure"]);
    let calm = sampled_twice(hive.hive(), "g/calm").await;
    for name in ["cpu", "memory", "io"] {
        assert!(calm["pressure"][name].as_f64().unwrap() < 5.0, "{}", calm["pressure"]);
    }
}

#[actix_web::test]
async fn a_worker_that_does_not_fit_its_memory_shows_pressure_of_memory_and_io() {
    let site = Site::new();
    let file = site.path("model");
    fs::write(&file, vec![7; 48 << 20]).unwrap();
    drop_caches();
    let script = format!("while :; do cat {} > /dev/null; done", file.display());
    let mut spec = shell("thrashes", &script);
    spec["memory_limit"] = json!("24M");
    let hive = site.start_hive(json!([spec])).await;
    let stalled = |w: &Value| {
        let pressure = |name: &str| w["pressure"][name].as_f64().unwrap_or(0.0);
        pressure("memory") > 1.0 && pressure("io") > 1.0
    };
    let worker = hive.hive().worker_when("g/thrashes", secs(60), stalled).await;
    println!("pressure {}, reads {} MiB/s", worker["pressure"], worker["io_r_mb_s"]);
    assert!(worker["io_r_mb_s"].as_f64() > Some(1.0));
    assert!(worker["rss_mb"].as_u64() <= Some(24));
}
