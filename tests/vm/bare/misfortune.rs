//! What can happen to a worker's cgroup while it runs.

use crate::{
    machine::{CONTROLLERS, Cgroup, PATIENCE, ROOT, main_pid, sampled_twice, shell, sleeper},
    support::{Site, assert_is_error, eventually, proc, secs},
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::{fs, path::Path, time::Instant};

#[actix_web::test]
async fn a_cgroup_that_disappears_under_its_worker_costs_that_workers_figures_only() {
    let site = Site::new();
    let mut hive = site.start_hive(json!([sleeper("moved"), sleeper("other")])).await;
    let worker = hive.hive().worker_in_state("g/moved", "ready").await;
    let own = proc::cgroup_of(main_pid(&worker)).unwrap();
    // Somebody with the right to do so moves the process away and removes what was its own.
    fs::write(Path::new(ROOT).join("cgroup.procs"), main_pid(&worker).to_string()).unwrap();
    fs::remove_dir(&own).unwrap();
    let ages = |w: &Value| w["sample_age_ms"].as_u64() > Some(2_000);
    let worker = hive.hive().worker_when("g/moved", PATIENCE, ages).await;
    assert_eq!((&worker["state"], &worker["pid"]), (&json!("ready"), &json!(main_pid(&worker))));
    let line = hive.log_line(|l| l.contains("cannot sample").then(|| l.to_owned())).await;
    println!("{line}");
    sampled_twice(hive.hive(), "g/other").await;

    hive.hive().post("/v1/workers/g/moved/restart", json!({})).await.expect(200);
    let again = hive.hive().worker_in_state("g/moved", "ready").await;
    assert!(main_pid(&again) != main_pid(&worker) && !proc::exists(main_pid(&worker)));
    assert_eq!(proc::cgroup_of(main_pid(&again)).unwrap(), own);
    sampled_twice(hive.hive(), "g/moved").await;
}

#[actix_web::test]
async fn a_worker_without_its_cgroup_is_ended_whole_all_the_same() {
    let site = Site::new();
    let marker = site.marker();
    let hive = site.start_hive(json!([shell("moved", &format!("sleep {marker} & wait"))])).await;
    let worker = hive
        .hive()
        .worker_when("g/moved", PATIENCE, |w| w["pids"].as_array().is_some_and(|p| p.len() == 2))
        .await;
    let own = proc::cgroup_of(main_pid(&worker)).unwrap();
    for pid in crate::machine::pids(&worker) {
        fs::write(Path::new(ROOT).join("cgroup.procs"), pid.to_string()).unwrap();
    }
    fs::remove_dir(&own).unwrap();
    hive.hive().delete("/v1/workers/g/moved?grace_ms=500").await.expect(200);
    assert!(!proc::exists(main_pid(&worker)) && proc::with_argument(&marker).is_empty());
    assert!(!own.parent().unwrap().exists());
}

#[actix_web::test]
async fn a_frozen_worker_is_shown_as_it_is_and_hears_that_it_is_to_end() {
    let site = Site::new();
    let ended = site.path("ended");
    let script = format!("trap ': > {}; exit 0' TERM; while :; do :; done", ended.display());
    let mut spec = shell("frozen", &script);
    spec["stop_grace_ms"] = json!(20_000);
    let hive = site.start_hive(json!([spec])).await;
    hive.hive().worker_when("g/frozen", PATIENCE, |w| w["cpu_pct"].as_f64() > Some(50.0)).await;
    let worker = hive.hive().worker("g/frozen").await;
    let own = proc::cgroup_of(main_pid(&worker)).unwrap();
    fs::write(own.join("cgroup.freeze"), "1").unwrap();
    let still = |w: &Value| w["cpu_pct"].as_f64() == Some(0.0);
    let worker = hive.hive().worker_when("g/frozen", PATIENCE, still).await;
    assert_eq!((&worker["state"], &worker["idle"]), (&json!("ready"), &json!(true)));
    assert!(worker["sample_age_ms"].as_u64() < Some(5_000));

    let start = Instant::now();
    hive.hive().delete("/v1/workers/g/frozen").await.expect(200);
    println!("ended after {:?}", start.elapsed());
    assert!(ended.exists(), "it was killed, and could not end by itself");
    assert!(!own.exists());
}

#[actix_web::test]
async fn a_frozen_worker_that_will_not_end_is_killed() {
    let site = Site::new();
    let hive =
        site.start_hive(json!([shell("deaf", "trap '' TERM; while :; do sleep 1; done")])).await;
    let worker = hive.hive().worker_in_state("g/deaf", "ready").await;
    let own = proc::cgroup_of(main_pid(&worker)).unwrap();
    fs::write(own.join("cgroup.freeze"), "1").unwrap();
    // A parent of it may be frozen too: that is not the hive's to undo.
    fs::write(own.parent().unwrap().join("cgroup.freeze"), "1").unwrap();
    hive.hive().delete("/v1/workers/g/deaf?grace_ms=500").await.expect(200);
    assert!(!proc::exists(main_pid(&worker)) && !own.exists());
}

#[actix_web::test]
async fn a_tree_that_is_full_refuses_the_next_worker_and_says_why() {
    let (site, cgroup) = (Site::new(), Cgroup::with("full", &CONTROLLERS));
    let mut config = site.hive_config(None);
    config["hive"]["cgroup"]["root"] = json!(cgroup.path());
    let hive = site.start("hive", &config).await;
    hive.hive().spawn(sleeper("a")).await;
    // The slice, the group, one run.
    fs::write(cgroup.path().join("cgroup.max.descendants"), "3").unwrap();
    let refused = hive.hive().post("/v1/workers", sleeper("b")).await;
    println!("{}", refused.text);
    assert_is_error(&refused, 503, "cgroup.max.descendants");
    let mut other = sleeper("b");
    other["group"] = json!("other");
    assert_is_error(&hive.hive().post("/v1/workers", other).await, 503, "cgroup.max.descendants");
    assert_eq!(hive.hive().worker("g/a").await["state"], "ready");
    assert_eq!(hive.hive().get("/v1/workers").await.json["workers"].as_array().unwrap().len(), 1);

    fs::write(cgroup.path().join("cgroup.max.descendants"), "max").unwrap();
    hive.hive().spawn(sleeper("b")).await;
}

#[actix_web::test]
async fn a_group_that_got_no_worker_for_want_of_room_leaves_no_directory() {
    let (site, cgroup) = (Site::new(), Cgroup::with("nearly-full", &CONTROLLERS));
    let mut config = site.hive_config(None);
    config["hive"]["cgroup"]["root"] = json!(cgroup.path());
    let hive = site.start("hive", &config).await;
    // The slice and a group, but no run in it.
    fs::write(cgroup.path().join("cgroup.max.descendants"), "2").unwrap();
    let refused = hive.hive().post("/v1/workers", sleeper("a")).await;
    assert_is_error(&refused, 503, "cgroup.max.descendants");
    assert!(!cgroup.path().join(site.slice()).join("g").exists());
}

#[actix_web::test]
async fn a_worker_that_dies_while_the_tree_is_full_comes_back_when_it_is_not() {
    let (site, cgroup) = (Site::new(), Cgroup::with("refill", &CONTROLLERS));
    let mut config = site.hive_config(None);
    config["hive"]["cgroup"]["root"] = json!(cgroup.path());
    let mut spec = sleeper("a");
    spec["restart"] = json!({"backoff_ms": 200, "backoff_max_ms": 200, "max_restarts": 1000});
    config["hive"]["workers"] = json!([spec]);
    let hive = site.start("hive", &config).await;
    let worker = hive.hive().worker_in_state("g/a", "ready").await;
    fs::write(cgroup.path().join("cgroup.max.descendants"), "2").unwrap();
    proc::signal(main_pid(&worker), Signal::SIGKILL);
    let refused = |w: &Value| w["last_exit"]["log_tail"].to_string().contains("max.descendants");
    hive.hive().worker_when("g/a", PATIENCE, refused).await;
    fs::write(cgroup.path().join("cgroup.max.descendants"), "max").unwrap();
    let again = hive.hive().worker_in_state("g/a", "ready").await;
    eventually(secs(1), async || proc::alive(main_pid(&again)).then_some(()).ok_or("dead")).await;
}
