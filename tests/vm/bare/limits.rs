//! `cpu.max` and `memory.max` as specified, and really limiting.

use crate::{
    machine::{PATIENCE, cgroup_file, main_pid, pids, sampled_twice, shell},
    support::{Site, proc, secs},
};
use serde_json::json;

#[actix_web::test]
async fn a_busy_worker_gets_half_a_processor_when_its_limit_says_so() {
    let site = Site::new();
    let mut busy = shell("busy", "while :; do :; done");
    busy["cpu_limit"] = json!("50%");
    busy["sample_interval_ms"] = json!(2000);
    let hive = site.start_hive(json!([busy])).await;
    let worker = hive.hive().worker_in_state("g/busy", "ready").await;
    assert_eq!((&worker["isolation"], &worker["limits_applied"]), (&json!("cgroup"), &json!(true)));
    assert_eq!(cgroup_file(&worker, "cpu.max"), "50000 100000");
    sampled_twice(hive.hive(), "g/busy").await;
    for _ in 0..3 {
        let worker = sampled_twice(hive.hive(), "g/busy").await;
        let figure = |name: &str| worker[name].as_f64().unwrap();
        let (cpu, throttled) = (figure("cpu_pct"), figure("throttled_pct"));
        println!("cpu_pct {cpu}, throttled_pct {throttled}, pressure {}", worker["pressure"]);
        assert!((45.0..=55.0).contains(&cpu), "{cpu}");
        assert!(throttled > 50.0, "{throttled}");
        assert_eq!(worker["cpu_limit_pct"], 50.0);
    }
}

#[actix_web::test]
async fn limits_are_in_the_kernels_files_as_they_were_asked_for() {
    let site = Site::new();
    let hive = site.start_hive(json!([])).await;
    for (instance, cpu, memory, cpu_max, memory_max) in [
        ("1", "200%", "4G", "200000 100000", "4294967296"),
        ("2", "1.5%", "100M", "1500 100000", "104857600"),
        ("3", "150%", "16777216", "150000 100000", "16777216"),
    ] {
        let mut spec = shell(instance, "exec sleep 86400");
        spec["cpu_limit"] = json!(cpu);
        spec["memory_limit"] = json!(memory);
        let worker = hive.hive().spawn(spec).await;
        assert_eq!(worker["limits_applied"], true);
        assert_eq!(cgroup_file(&worker, "cpu.max"), cpu_max);
        assert_eq!(cgroup_file(&worker, "memory.max"), memory_max);
        assert_eq!(cgroup_file(&worker, "memory.oom.group"), "1");
    }
    let free = hive.hive().spawn(shell("free", "exec sleep 86400")).await;
    assert_eq!(free["limits_applied"], json!(null));
    assert_eq!(cgroup_file(&free, "cpu.max"), "max 100000");
    assert_eq!(cgroup_file(&free, "memory.max"), "max");
}

#[actix_web::test]
async fn a_worker_that_takes_too_much_memory_is_ended_whole_and_its_record_says_why() {
    let site = Site::new();
    // A helper beside it, which takes little: it goes too.
    let marker = site.marker();
    let script =
        format!("sleep {marker} & sleep 1; dd if=/dev/zero of=/dev/null bs=300M count=3; sleep 60");
    let mut greedy = shell("greedy", &script);
    greedy["memory_limit"] = json!("64M");
    let hive = site.start_hive(json!([greedy])).await;
    let worker = hive.hive().worker_when("g/greedy", PATIENCE, |w| w["state"] == "failed").await;
    let exit = &worker["last_exit"];
    println!("last_exit {exit}");
    assert_eq!((&exit["signal"], &exit["code"]), (&json!("SIGKILL"), &json!(null)));
    // The kernel counts the shell, dd and the helper; the first that it chose, twice.
    assert!((3..=4).contains(&exit["oom_killed"].as_u64().unwrap()), "{exit}");
    assert!((60..=64).contains(&exit["peak_rss_mb"].as_u64().unwrap()), "{exit}");
    assert!(proc::with_argument(&marker).is_empty(), "half of it lives on");
}

#[actix_web::test]
async fn counts_and_peaks_are_each_runs_own() {
    let site = Site::new();
    let flag = site.path("second");
    let flag = flag.display();
    // The first run is killed for memory, the second ends by itself, with little.
    let script = format!(
        "[ -e {flag} ] && {{ sleep 1; exit 3; }}; : > {flag}; exec dd if=/dev/zero of=/dev/null bs=300M"
    );
    let mut spec = shell("twice", &script);
    spec["memory_limit"] = json!("64M");
    spec["restart"] = json!({"max_restarts": 1, "backoff_ms": 1500});
    let hive = site.start_hive(json!([spec])).await;
    let first = hive
        .hive()
        .worker_when("g/twice", PATIENCE, |w| w["last_exit"]["oom_killed"].as_u64() > Some(0));
    let first = first.await["last_exit"].clone();
    assert_eq!(first["signal"], "SIGKILL");
    let second = hive.hive().worker_when("g/twice", PATIENCE, |w| w["state"] == "failed").await;
    let second = &second["last_exit"];
    println!("first {first}, second {second}");
    assert_eq!((&second["code"], &second["oom_killed"]), (&json!(3), &json!(0)));
    assert!(second["peak_rss_mb"].as_u64() < Some(16), "{second}");
}

#[actix_web::test]
async fn a_limit_holds_for_what_a_worker_starts_too() {
    let site = Site::new();
    let script = "for i in 1 2 3; do sh -c 'while :; do :; done' & done; wait";
    let mut spec = shell("many", script);
    spec["cpu_limit"] = json!("60%");
    spec["sample_interval_ms"] = json!(2000);
    let hive = site.start_hive(json!([spec])).await;
    let four = |worker: &serde_json::Value| pids(worker).len() == 4;
    let worker = hive.hive().worker_when("g/many", secs(20), four).await;
    assert_eq!(pids(&worker)[0], main_pid(&worker));
    sampled_twice(hive.hive(), "g/many").await;
    let worker = sampled_twice(hive.hive(), "g/many").await;
    let cpu = worker["cpu_pct"].as_f64().unwrap();
    println!("cpu_pct {cpu}, pressure {}", worker["pressure"]);
    assert!((54.0..=66.0).contains(&cpu), "{cpu}");
}
