//! A worker is a process tree: all of it is seen, and all of it ends.

use crate::support::{Site, eventually, proc, secs};
use serde_json::{Value, json};
use std::{collections::HashSet, path::PathBuf};

fn pids(worker: &Value) -> HashSet<u32> {
    let pids = worker["pids"].as_array().expect("pids");
    pids.iter().map(|pid| pid.as_u64().expect("a PID") as u32).collect()
}

/// A shell that forks at once: a grandchild in a session of its own, an orphan whose parent is
/// gone, and a child that stays.
fn forking(marker: &str, orphan: &str) -> Value {
    let script = format!(
        "/usr/bin/setsid /bin/sh -c '/bin/sleep {marker}; :' & \
         {orphan}; \
         /bin/sleep {marker}"
    );
    json!({
        "group": "g", "instance": "forks", "command": "/bin/sh", "args": ["-c", script],
        "stop_grace_ms": 500, "sample_interval_ms": 200,
    })
}

/// Everything of the worker is in `pids`; after DELETE nothing of it is left.
async fn every_process_is_seen_and_ended(site: &Site, mode: &str, spec: Value, marker: &str) {
    let mut config = site.hive_config(None);
    config["hive"]["cgroup"]["mode"] = json!(mode);
    let hive = site.start("hive", &config).await;
    let worker = hive.hive().spawn(spec).await;
    let main = worker["pid"].as_u64().expect("it has a PID") as u32;

    let sleepers = eventually(secs(5), async || {
        let sleepers = proc::with_argument(marker);
        if sleepers.len() == 3 { Ok(sleepers) } else { Err(sleepers) }
    })
    .await;
    let worker = hive
        .hive()
        .worker_when("g/forks", secs(5), |worker| sleepers.is_subset(&pids(worker)))
        .await;
    let seen = pids(&worker);
    assert!(proc::tree(main).is_subset(&seen), "{seen:?}");
    assert_eq!(worker["pids"][0], main, "the main process comes first");
    if mode == "off" {
        assert_eq!(worker["isolation"], "plain");
    }
    let cgroup: Option<PathBuf> = match worker["isolation"].as_str() {
        Some("cgroup") => Some(proc::cgroup_of(main).expect("it is in a cgroup")),
        _ => None,
    };
    if let Some(cgroup) = &cgroup {
        // One of the shells in between may have ended since.
        for inside in
            seen.iter().filter(|pid| proc::alive(**pid)).filter_map(|p| proc::cgroup_of(*p))
        {
            assert_eq!(inside, *cgroup);
        }
    }

    hive.hive().delete("/v1/workers/g/forks").await.expect(200);
    // The answer means that it has happened: no waiting here.
    let left: Vec<u32> = seen.into_iter().filter(|pid| proc::exists(*pid)).collect();
    assert!(left.is_empty(), "still there, zombies included: {left:?}");
    assert_eq!(proc::with_argument(marker), HashSet::new());
    assert_eq!(proc::zombies(hive.pid()), Vec::<u32>::new());
    if let Some(cgroup) = cgroup {
        assert!(!cgroup.exists(), "{} is still there", cgroup.display());
    }
}

#[actix_web::test]
async fn a_worker_that_forks_detaches_and_orphans_is_seen_and_ended_whole() {
    let site = Site::new();
    let marker = site.marker();
    let orphan = format!("(/usr/bin/setsid /bin/sh -c '/bin/sleep {marker} &' &)");
    every_process_is_seen_and_ended(&site, "auto", forking(&marker, &orphan), &marker).await;
}

#[actix_web::test]
async fn without_a_cgroup_the_tree_is_seen_and_ended_whole_too() {
    let site = Site::new();
    let marker = site.marker();
    // An orphan in the worker's own session: in plain mode that is what it is known by.
    let orphan = format!("(/bin/sh -c '/bin/sleep {marker} &' &)");
    every_process_is_seen_and_ended(&site, "off", forking(&marker, &orphan), &marker).await;
}

#[actix_web::test]
async fn a_death_of_the_main_process_ends_the_rest_before_a_restart() {
    let site = Site::new();
    let marker = site.marker();
    let script = format!("/usr/bin/setsid /bin/sleep {marker} & exec /bin/sleep 86400");
    let spec = json!({
        "group": "g", "instance": "dies", "command": "/bin/sh", "args": ["-c", script],
        "restart": {"backoff_ms": 50, "backoff_max_ms": 50},
    });
    let hive = site.start_hive(json!([spec])).await;
    let worker = hive.hive().worker_in_state("g/dies", "ready").await;
    let only_sleeper = async || {
        let sleepers = proc::with_argument(&marker);
        if sleepers.len() == 1 { Ok(sleepers) } else { Err(sleepers) }
    };
    let first = eventually(secs(5), only_sleeper).await;

    proc::signal(worker["pid"].as_u64().unwrap() as u32, nix::sys::signal::Signal::SIGKILL);
    let again = |worker: &Value| worker["restarts"] == 1 && worker["state"] == "ready";
    hive.hive().worker_when("g/dies", secs(5), again).await;
    let second = eventually(secs(5), only_sleeper).await;
    assert!(first.is_disjoint(&second), "the first run's process outlived it");
}
