//! GPUs and drivers that break: what is known is told, what is not is never taken for idle.

use crate::support::{Gpus, Site, eventually, ms, node_when, pids, proc, secs, tree_of_three};
use nix::{sys::stat::Mode, unistd::mkfifo};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const ONE: &str = "gpu GPU-aaaaaaaa A100 40000 9000 60 45 98500\n";
const OTHER: &str = "gpu GPU-bbbbbbbb A100 80000 4000 40 50 120000\n";
const QUERY: &str = "0, GPU-aaaaaaaa, A100, 60, 40000, 31000, 45, 98.50, 0, Disabled\n";
const PMON: &str = "# gpu         pid   type     sm    mem    enc    dec    jpg    ofa    command \n\
                    # Idx           #    C/G      %      %      %      %      %      %    name \n";

fn probe_threads(hive: &crate::support::Daemon) -> usize {
    proc::threads_named(hive.pid(), "gpu-probe").len()
}

#[actix_web::test]
async fn a_library_that_hangs_for_half_a_minute_costs_one_thread_and_no_sample() {
    let site = Site::new();
    let gpus = Gpus::new(&site, ONE);
    let (queen, hive) = gpus.both(json!([tree_of_three("one")])).await;
    let pid = pids(hive.hive(), "g/one", 3).await[0];
    let busy = format!("{ONE}process 0 compute {pid} 700\nsample 0 {pid} 55 50\n");
    gpus.say(&busy);
    hive.hive().worker_when("g/one", secs(5), |worker| worker["gpu_util_pct"] == 55.0).await;

    gpus.say(&format!("library hang\n{busy}"));
    let hung = Instant::now();
    // The last values hold, ageing, until the timeout of a second.
    let aged = node_when(queen.queen(), |node| node["gpu_age_ms"].as_u64() > Some(400)).await;
    assert_eq!(aged["gpu_source"], "nvml");
    let unknown = |worker: &Value| worker["gpu_util_pct"] == 0.0;
    let worker = hive.hive().worker_when("g/one", secs(5), unknown).await;
    assert!((ms(800)..secs(3)).contains(&hung.elapsed()), "{:?}", hung.elapsed());
    assert_eq!((&worker["vram_mb"], &worker["idle"]), (&json!(0), &Value::Null));
    let node = node_when(queen.queen(), |node| node["gpu_source"] == "unknown").await;
    let gpu = &node["gpus"][0];
    assert_eq!((&gpu["uuid"], &gpu["vram_used_mb"]), (&json!("GPU-aaaaaaaa"), &Value::Null));

    let (mut oldest, mut looks) = (Duration::ZERO, 0);
    eventually(secs(40), async || {
        let worker = hive.hive().worker("g/one").await;
        oldest = oldest.max(ms(worker["sample_age_ms"].as_u64().unwrap()));
        looks += 1;
        assert_eq!(probe_threads(&hive), 1);
        assert_eq!((&worker["idle"], &worker["gpu_util_pct"]), (&Value::Null, &json!(0.0)));
        if hung.elapsed() > secs(30) { Ok(()) } else { Err(hung.elapsed()) }
    })
    .await;
    println!("{looks} looks in 30 s, the oldest CPU sample {oldest:?}, a tick is 100 ms");
    assert!(oldest < ms(600), "a sample was {oldest:?} old");
    assert_eq!(hive.log_count("what GPUs do is not known"), 1);

    gpus.say(&busy);
    hive.hive().worker_when("g/one", secs(5), |worker| worker["gpu_util_pct"] == 55.0).await;
    assert_eq!(probe_threads(&hive), 1, "the same one goes on");
    node_when(queen.queen(), |node| node["gpu_source"] == "nvml").await;
}

#[actix_web::test]
async fn a_hive_ends_in_order_while_its_library_hangs() {
    let site = Site::new();
    let gpus = Gpus::new(&site, &format!("library hang\n{ONE}"));
    let mut hive = gpus.hive(json!([tree_of_three("one")])).await;
    hive.hive().worker_in_state("g/one", "ready").await;
    assert_eq!(probe_threads(&hive), 1);
    assert!(hive.terminate(secs(8)).await.success());
}

#[actix_web::test]
async fn where_the_library_fails_the_program_tells_and_the_library_comes_back() {
    let site = Site::new();
    let gpus = Gpus::new(&site, ONE);
    let (queen, hive) = gpus.both(json!([tree_of_three("one")])).await;
    let pid = pids(hive.hive(), "g/one", 3).await[0];
    let busy = format!("{ONE}process 0 compute {pid} 700\nsample 0 {pid} 55 50\n");
    gpus.say(&busy);
    hive.hive().worker_when("g/one", secs(5), |worker| worker["gpu_util_pct"] == 55.0).await;

    let pmon = format!(
        "{PMON}    0 {pid:10}     C     33     10      -      -      -      -    sh             \n"
    );
    gpus.smi("ok", QUERY, &format!("GPU-aaaaaaaa, {pid}, 701\n"), &pmon);
    gpus.say("library fail\n");
    let told = |worker: &Value| worker["gpu_util_pct"] == 33.0;
    let worker = hive.hive().worker_when("g/one", secs(5), told).await;
    assert_eq!((&worker["vram_mb"], &worker["idle"]), (&json!(701), &json!(false)));
    let node = node_when(queen.queen(), |node| node["gpu_source"] == "nvidia-smi").await;
    assert_eq!(
        (&node["gpus"][0]["vram_used_mb"], &node["gpus"][0]["power_w"]),
        (&json!(9000), &json!(98.5))
    );

    gpus.say(&busy);
    node_when(queen.queen(), |node| node["gpu_source"] == "nvml").await;
    hive.hive().worker_when("g/one", secs(5), |worker| worker["gpu_util_pct"] == 55.0).await;
    assert_eq!(hive.log_count("GPUs are sampled source=\"nvidia-smi\""), 1, "said once");
    assert_eq!(
        hive.log_count("GPUs are sampled source=\"nvml\""),
        2,
        "at first, and when it was back"
    );
    assert_eq!(probe_threads(&hive), 1);
}

#[actix_web::test]
async fn a_driver_that_goes_away_is_not_an_idle_one_and_comes_back() {
    let site = Site::new();
    let gpus = Gpus::new(&site, ONE);
    let (queen, hive) = gpus.both(json!([tree_of_three("one")])).await;
    hive.hive().worker_when("g/one", secs(10), |worker| worker["idle"] == true).await;
    for gone in ["library no-driver\n", "library fail\n"] {
        gpus.say(gone);
        node_when(queen.queen(), |node| node["gpu_source"] == "unknown").await;
        assert_eq!(hive.hive().worker("g/one").await["idle"], Value::Null);
        gpus.say(ONE);
        node_when(queen.queen(), |node| node["gpu_source"] == "nvml").await;
        hive.hive().worker_when("g/one", secs(5), |worker| worker["idle"] == true).await;
    }
}

#[actix_web::test]
async fn nothing_new_is_placed_on_a_gpu_that_is_broken() {
    let site = Site::new();
    let gpus = Gpus::new(&site, &format!("{ONE}{OTHER}"));
    let (queen, hive) = gpus.both(json!([tree_of_three("65001"), tree_of_three("65002")])).await;
    let one = pids(hive.hive(), "g/65001", 3).await[0];
    let two = pids(hive.hive(), "g/65002", 3).await[0];
    let rest = format!("{OTHER}process 0 compute {one} 700\nprocess 1 compute {two} 700\n");
    let both_are_taken = async || {
        eventually(secs(5), async || {
            let all = queen.queen().get("/v1/schedule/explain").await.expect(200);
            if all.to_string().contains("unhealthy") { Err(all) } else { Ok(()) }
        })
        .await;
    };
    for (broken, health) in [
        (ONE.replace("\n", " lost\n"), "lost: it does not answer any more"),
        (ONE.replace("\n", " remap-failed\n"), "rows of its memory failed"),
        (ONE.replace("\n", " ecc=3\n"), "3 uncorrected memory errors"),
        (String::new(), "lost: its driver does not list it"),
        (format!("{ONE}xid 0 79\n"), "Xid 79"),
    ] {
        gpus.say(&format!("{ONE}{rest}"));
        hive.hive().worker_when("g/65001", secs(5), |worker| worker["vram_mb"] == 700).await;
        both_are_taken().await;
        // A GPU that is not listed any more moves the others up.
        let rest = if broken.is_empty() {
            format!("{OTHER}process 0 compute {two} 700\n")
        } else {
            rest.clone()
        };
        gpus.say(&format!("{broken}{rest}"));
        let ill = |node: &Value| {
            let gpus = node["gpus"].as_array().unwrap();
            let of =
                |uuid: &str| gpus.iter().find(|gpu| gpu["uuid"] == uuid).unwrap()["health"].clone();
            of("GPU-aaaaaaaa").as_str().is_some_and(|text| text.contains(health))
                && of("GPU-bbbbbbbb") == "ok"
        };
        node_when(queen.queen(), ill).await;
        for _ in 0..4 {
            let taken = queen.queen().post("/v1/schedule", json!({})).await.expect(200);
            assert_eq!(taken["worker"]["instance"], "65002", "{health}");
        }
        let why = queen.queen().get("/v1/schedule/explain").await.expect(200);
        assert!(why.to_string().contains(health), "{why}");
    }
}

#[actix_web::test]
async fn a_fault_of_the_program_that_ran_is_none_of_the_gpu() {
    let site = Site::new();
    let gpus = Gpus::new(&site, ONE);
    let (queen, _hive) = gpus.both(json!([])).await;
    node_when(queen.queen(), |node| node["gpus"][0]["health"] == "ok").await;
    gpus.say(&format!("{ONE}xid 0 31\nxid 0 43\n").replace(" 9000 ", " 9001 "));
    // The events were there at the reading that told this.
    let node = node_when(queen.queen(), |node| node["gpus"][0]["vram_used_mb"] == 9001).await;
    assert_eq!(node["gpus"][0]["health"], "ok");
}

#[actix_web::test]
async fn whoever_is_on_a_lost_gpu_is_not_idle() {
    let site = Site::new();
    let gpus = Gpus::new(&site, &format!("{ONE}{OTHER}"));
    let hive = gpus.hive(json!([tree_of_three("one"), tree_of_three("two")])).await;
    let one = pids(hive.hive(), "g/one", 3).await[0];
    let two = pids(hive.hive(), "g/two", 3).await[0];
    let rest = format!("{OTHER}process 0 compute {one} 700\nprocess 1 compute {two} 700\n");
    gpus.say(&format!("{ONE}{rest}"));
    hive.hive()
        .worker_when("g/one", secs(5), |worker| worker["idle"] == true && worker["vram_mb"] == 700)
        .await;
    gpus.say(&format!("{}{rest}", ONE.replace("\n", " lost\n")));
    let worker = hive.hive().worker_when("g/one", secs(5), |worker| worker["idle"].is_null()).await;
    assert_eq!(worker["gpus"][0]["uuid"], "GPU-aaaaaaaa", "it is still on it");
    assert_eq!(hive.hive().worker("g/two").await["idle"], true);
}

#[actix_web::test]
async fn a_fatal_xid_stays_when_the_library_was_away() {
    let site = Site::new();
    let gpus = Gpus::new(&site, ONE);
    let (queen, _hive) = gpus.both(json!([])).await;
    node_when(queen.queen(), |node| node["gpus"][0]["health"] == "ok").await;
    gpus.say(&format!("{ONE}xid 0 79\n"));
    let ill = |node: &Value| node["gpus"][0]["health"] == "fatal error: Xid 79";
    node_when(queen.queen(), ill).await;
    gpus.say("library fail\n");
    let node = node_when(queen.queen(), |node| node["gpu_source"] == "unknown").await;
    assert!(ill(&node), "{node}");
    gpus.say(ONE);
    let node = node_when(queen.queen(), |node| node["gpu_source"] == "nvml").await;
    assert!(ill(&node), "{node}");
}

#[actix_web::test]
async fn what_is_no_library_is_told_and_waited_for_by_nobody() {
    for make in ["fifo", "text"] {
        let site = Site::new();
        let gpus = Gpus::new(&site, ONE);
        let path = site.path("no-library");
        match make {
            "fifo" => mkfifo(&path, Mode::S_IRWXU).unwrap(),
            _ => std::fs::write(&path, "not a library").unwrap(),
        }
        let queen = site.start("queen", &site.queen_config()).await;
        let mut config = gpus.hive_config(Some(queen.queen().url()));
        config["hive"]["gpu"]["nvml_path"] = json!(path);
        config["hive"]["workers"] = json!([tree_of_three("one")]);
        let hive = site.start("hive", &config).await;
        node_when(queen.queen(), |node| node["gpu_source"] == "unknown").await;
        let said = |count: usize| if count == 1 { Ok(()) } else { Err((make, count)) };
        eventually(secs(5), async || said(hive.log_count("what GPUs do is not known"))).await;
        assert_eq!(hive.hive().worker_in_state("g/one", "ready").await["idle"], Value::Null);
    }
}
