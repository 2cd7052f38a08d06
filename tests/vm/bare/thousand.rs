//! A thousand workers, each in a cgroup with all controllers.

use crate::{
    machine::ROOT,
    support::{Site, eventually, proc, secs},
};
use serde_json::{Value, json};
use std::{fs, path::Path, time::Instant};

const WORKERS: usize = 1_000;

const GROUPS: usize = 10;

#[actix_web::test]
async fn a_thousand_workers_are_started_sampled_and_ended_and_nothing_is_left() {
    let site = Site::new();
    let marker = site.marker();
    let workers: Vec<_> = (0..WORKERS)
        .map(|n| {
            json!({
                "group": format!("g{}", n % GROUPS), "instance": format!("w{n}"),
                "command": "/usr/local/bin/busybox", "args": ["sleep", marker],
                "cpu_limit": "50%", "memory_limit": "16M", "sample_interval_ms": 5_000,
            })
        })
        .collect();
    let start = Instant::now();
    let mut hive = site.start_hive(json!(workers)).await;
    // The kernel is asked, and not the hive, which has enough to do.
    let slice = Path::new(ROOT).join(site.slice());
    eventually(secs(240), async || {
        let inside = fs::read_to_string(slice.join("pids.current")).unwrap_or_default();
        if inside.trim() == WORKERS.to_string() { Ok(()) } else { Err(inside) }
    })
    .await;

    let all = async |wanted: &dyn Fn(&Value) -> bool, patience| {
        for group in 0..GROUPS {
            eventually(patience, async || {
                let path = format!("/v1/workers?group=g{group}");
                let answer = hive.hive().get(&path).await.expect(200);
                let workers = answer["workers"].as_array().unwrap();
                let good = workers.iter().filter(|worker| wanted(worker)).count();
                if good == WORKERS / GROUPS { Ok(()) } else { Err(good) }
            })
            .await;
        }
    };
    let running = |w: &Value| w["state"] == "ready" && w["limits_applied"] == true;
    all(&running, secs(60)).await;
    println!("started after {:?}", start.elapsed());
    assert_eq!(proc::with_argument(&marker).len(), WORKERS);
    let sampled = |w: &Value| {
        let known = w["pids"].as_array().is_some_and(|pids| pids.len() == 1);
        known
            && w["rss_mb"].is_u64()
            && w["throttled_pct"].is_f64()
            && w["sample_age_ms"].as_u64() < Some(10_000)
    };
    all(&sampled, secs(60)).await;
    println!("sampled after {:?}", start.elapsed());

    let start = Instant::now();
    assert_eq!(hive.terminate(secs(120)).await.code(), Some(0));
    println!("ended within {:?}", start.elapsed());
    assert!(proc::with_argument(&marker).is_empty(), "processes are left");
    assert!(!slice.exists(), "cgroups are left");
}
