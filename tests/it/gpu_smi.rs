//! nvidia-smi as the only source, and all that a program can do wrong.

use crate::support::{Daemon, Gpus, Site, eventually, node_when, pids, proc, secs, tree_of_three};
use nix::{sys::stat::Mode, unistd::mkfifo};
use serde_json::{Value, json};

const QUERY: &str = "0, GPU-aaaaaaaa, NVIDIA A100, 60, 40000, 31000, 45, 98.50, 0, Disabled\n";
const PMON: &str = "# gpu         pid   type     sm    mem    enc    dec    jpg    ofa    command \n\
                    # Idx           #    C/G      %      %      %      %      %      %    name \n";
const NOBODY: &str =
    "    0          -     -      -      -      -      -      -      -    -              \n";

/// A queen, and a hive that asks the program only.
async fn both(site: &Site, gpus: &Gpus<'_>, program: Option<Value>) -> (Daemon, Daemon) {
    let queen = site.start("queen", &site.queen_config()).await;
    let mut config = gpus.hive_config(Some(queen.queen().url()));
    config["hive"]["gpu"]["source"] = json!("nvidia-smi");
    if let Some(program) = program {
        config["hive"]["gpu"]["nvidia_smi_path"] = program;
    }
    config["hive"]["workers"] = json!([tree_of_three("one")]);
    let hive = site.start("hive", &config).await;
    (queen, hive)
}

fn row(pid: u32, sm: &str) -> String {
    format!("    0 {pid:10}     C {sm:>6}      -      -      -      -      -    python         \n")
}

#[actix_web::test]
async fn what_the_program_prints_is_told_of_each_worker() {
    let site = Site::new();
    let gpus = Gpus::new(&site, "library fail\n");
    gpus.smi("ok", QUERY, "", &format!("{PMON}{NOBODY}"));
    let (queen, hive) = both(&site, &gpus, None).await;
    hive.hive().worker_when("g/one", secs(10), |worker| worker["idle"] == true).await;
    let [a, b, _] = pids(hive.hive(), "g/one", 3).await[..] else { unreachable!() };
    gpus.smi(
        "ok",
        QUERY,
        &format!("GPU-aaaaaaaa, {a}, 500\nGPU-aaaaaaaa, {b}, 40\n"),
        &format!("{PMON}{}{}", row(a, "12"), row(b, "-")),
    );
    let worker = hive.hive().worker_when("g/one", secs(5), |worker| worker["vram_mb"] == 540).await;
    assert_eq!((&worker["gpu_util_pct"], &worker["total_vram_mb"]), (&json!(12.0), &json!(40000)));
    let node = node_when(queen.queen(), |node| node["gpu_source"] == "nvidia-smi").await;
    assert_eq!(node["gpus"][0]["name"], "NVIDIA A100");
}

#[actix_web::test]
async fn values_that_are_not_told_are_absent_everywhere() {
    let site = Site::new();
    let gpus = Gpus::new(&site, "library fail\n");
    let bare =
        "0, GPU-aaaaaaaa, [N/A], [N/A], [Not Supported], [N/A], -, [Unknown Error], [N/A], [N/A]\n";
    gpus.smi("ok", bare, "", &format!("{PMON}{NOBODY}"));
    let (queen, hive) = both(&site, &gpus, None).await;
    let absent = json!({
        "id": "0", "uuid": "GPU-aaaaaaaa", "name": "[N/A]", "util_pct": null, "vram_used_mb": null,
        "vram_total_mb": null, "temp_c": null, "power_w": null, "health": "ok",
    });
    let node = node_when(queen.queen(), |node| node["gpus"][0] == absent).await;
    assert_eq!(node["gpu_source"], "nvidia-smi");
    let pid = pids(hive.hive(), "g/one", 3).await[0];
    // A process whose memory, or utilisation, is not told is there and not known to be idle.
    for (memory, sm) in [("[N/A]", "-"), ("5", "[N/A]"), ("-", "x")] {
        gpus.smi(
            "ok",
            bare,
            &format!("GPU-aaaaaaaa, {pid}, {memory}\n"),
            &format!("{PMON}{}", row(pid, sm)),
        );
        node_when(queen.queen(), |node| node["gpu_source"] == "unknown").await;
        assert_eq!(hive.hive().worker("g/one").await["idle"], Value::Null);
        gpus.smi("ok", bare, "", &format!("{PMON}{NOBODY}"));
        node_when(queen.queen(), |node| node["gpu_source"] == "nvidia-smi").await;
    }
    // An old card refuses pmon, which looks at some GPUs of many only, and cannot tell parts of one apart.
    let in_parts = bare.replace("[N/A]\n", "Enabled\n");
    for (mode, query, pmon) in [
        ("no-pmon", bare, String::new()),
        ("ok", bare, PMON.to_owned()),
        ("ok", in_parts.as_str(), format!("{PMON}{NOBODY}")),
    ] {
        gpus.smi(mode, query, &format!("GPU-aaaaaaaa, {pid}, 5\n"), &pmon);
        node_when(queen.queen(), |node| node["gpu_source"] == "unknown").await;
        gpus.smi("ok", bare, "", &format!("{PMON}{NOBODY}"));
        node_when(queen.queen(), |node| node["gpu_source"] == "nvidia-smi").await;
    }
}

#[actix_web::test]
async fn a_program_that_goes_wrong_is_ended_and_leaves_nothing() {
    let site = Site::new();
    let gpus = Gpus::new(&site, "library fail\n");
    let well = || gpus.smi("ok", QUERY, "", &format!("{PMON}{NOBODY}"));
    well();
    let (queen, hive) = both(&site, &gpus, None).await;
    for mode in ["hang", "flood", "garbage", "fail"] {
        node_when(queen.queen(), |node| node["gpu_source"] == "nvidia-smi").await;
        gpus.smi(mode, QUERY, "", "");
        node_when(queen.queen(), |node| node["gpu_source"] == "unknown").await;
        let worker = hive.hive().worker("g/one").await;
        assert_eq!(worker["idle"], Value::Null, "{mode}");
        assert_eq!(proc::threads_named(hive.pid(), "gpu-probe").len(), 1);
        let worker = worker["pid"].as_u64().unwrap() as u32;
        let of_the_program = children_but(&hive, worker).len();
        assert!(of_the_program <= 1, "{mode}: {of_the_program} at once");
        well();
    }
    node_when(queen.queen(), |node| node["gpu_source"] == "nvidia-smi").await;
    let worker = hive.hive().worker("g/one").await["pid"].as_u64().unwrap() as u32;
    eventually(secs(5), async || match children_but(&hive, worker) {
        left if left.is_empty() => Ok(()),
        left => Err(left),
    })
    .await;
    assert!(proc::zombies(hive.pid()).is_empty());
}

/// The hive's children, less the worker.
fn children_but(hive: &Daemon, worker: u32) -> Vec<u32> {
    proc::children(hive.pid()).into_iter().filter(|pid| *pid != worker).collect()
}

#[actix_web::test]
async fn what_is_no_program_is_told_and_waited_for_by_nobody() {
    for make in ["fifo", "file", "directory"] {
        let site = Site::new();
        let gpus = Gpus::new(&site, "library fail\n");
        let path = site.path("no-program");
        match make {
            "fifo" => mkfifo(&path, Mode::S_IRWXU).unwrap(),
            "file" => std::fs::write(&path, "#!/bin/sh\necho\n").unwrap(),
            _ => std::fs::create_dir(&path).unwrap(),
        }
        let (queen, hive) = both(&site, &gpus, Some(json!(path))).await;
        node_when(queen.queen(), |node| node["gpu_source"] == "unknown").await;
        assert_eq!(hive.hive().worker_in_state("g/one", "ready").await["idle"], Value::Null);
        eventually(secs(5), async || match hive.log_count("what GPUs do is not known") {
            1 => Ok(()),
            count => Err((make, count)),
        })
        .await;
    }
}
