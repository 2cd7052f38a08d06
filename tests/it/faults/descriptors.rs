//! A daemon that has no descriptor left: what it does already goes on, it does not burn its processor, and
//! when connections end it takes new ones again.

use super::mortal::{main_pid, sleeper};
use crate::support::{
    Api, Daemon, Heartbeats, Site, SseClient, eventually, ms, proc, ready_workers, report, secs,
};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::json;
use std::{collections::HashSet, fs, time::Instant};
use tokio::net::TcpStream;

/// From now on it may open so many descriptors and no more.
fn leave(daemon: &Daemon, more: usize) {
    let entries = fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap().flatten();
    let open: HashSet<u64> =
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    // The limit is of their numbers, and there are gaps.
    let last = (0..).filter(|number| !open.contains(number)).nth(more).expect("there are many");
    let limit = Rlimit { current: Some(last), maximum: Some(last) };
    prlimit(Pid::from_raw(daemon.pid() as i32), Resource::Nofile, limit)
        .expect("it may be lowered");
}

/// More connections than there are descriptors for; they are kept open.
async fn crowd(api: &Api) -> Vec<TcpStream> {
    let mut held = Vec::new();
    for _ in 0..100 {
        held.push(TcpStream::connect(api.address()).await.expect("the kernel takes it"));
    }
    held
}

/// Watches it for two seconds, in which it has no descriptor and `goes_on` holds. The share of a core that
/// it used.
async fn cpu_meanwhile(daemon: &Daemon, mut goes_on: impl AsyncFnMut()) -> f64 {
    let ticks = || proc::stat(daemon.pid()).expect("it lives").cpu_ticks as f64;
    let (start, before) = (Instant::now(), ticks());
    while start.elapsed() < secs(2) {
        goes_on().await;
        tokio::time::sleep(ms(20)).await;
    }
    (ticks() - before) / proc::ticks_per_second() / start.elapsed().as_secs_f64()
}

async fn assert_answers_again(api: &Api) {
    eventually(secs(10), async || match api.try_get("/health").await {
        Ok(answer) if answer.status == 200 => Ok(()),
        other => Err(other),
    })
    .await;
}

#[actix_web::test]
async fn a_hive_without_descriptors_goes_on_sampling_and_answers_once_there_are_some() {
    let site = Site::new();
    let queen = site.start("queen", &site.queen_config()).await;
    let mut config = site.hive_config(Some(queen.queen().url()));
    config["hive"]["heartbeat_interval_ms"] = json!(200);
    config["hive"]["sample_interval_ms"] = json!(200);
    config["hive"]["workers"] = json!([sleeper("a"), sleeper("b")]);
    let hive = site.start("hive", &config).await;
    let before = ready_workers(queen.queen(), 2, secs(10)).await;
    // Its connection to the queen is there already.
    leave(&hive, 8);
    let held = crowd(hive.hive()).await;
    let cpu = cpu_meanwhile(&hive, async || {
        for worker in ready_workers(queen.queen(), 2, secs(1)).await {
            let age = worker["sample_age_ms"].as_u64();
            assert!(age < Some(1_000), "{age:?}");
        }
    })
    .await;
    assert!(cpu < 0.5, "{cpu} of a core");
    drop(held);
    assert_answers_again(hive.hive()).await;
    let after = ready_workers(queen.queen(), 2, secs(5)).await;
    assert_eq!(
        before.iter().map(main_pid).collect::<Vec<_>>(),
        after.iter().map(main_pid).collect::<Vec<_>>()
    );
    // A start needs more than there are; what there is goes on.
    leave(&hive, 4);
    let refused = hive.hive().post("/v1/workers", sleeper("c")).await;
    assert_eq!(refused.status, 503, "{}", refused.text);
    ready_workers(queen.queen(), 2, secs(5)).await;
    eprintln!("{cpu:.3} of a core while there were none");
}

#[actix_web::test]
async fn a_queen_without_descriptors_keeps_its_streams_and_answers_once_there_are_some() {
    let site = Site::new();
    let queen = site.start("queen", &site.queen_config()).await;
    let api = queen.queen();
    let beats = Heartbeats::start(api, "other", json!([report("1", json!({}))])).await;
    let mut stream = SseClient::connect(&format!("{}/v1/heartbeats/stream", api.url())).await;
    leave(&queen, 8);
    let held = crowd(api).await;
    let cpu = cpu_meanwhile(&queen, async || {
        stream.next_matching("the queen's own", secs(5), |event| event.kind() == "queen").await;
    })
    .await;
    assert!(cpu < 0.5, "{cpu} of a core");
    drop(held);
    assert_answers_again(api).await;
    beats.set("/workers/0/requests_running", json!(3)).await;
    let told = |event: &crate::support::Event| {
        event.worker("1").is_some_and(|worker| worker["requests_running"] == 3)
    };
    stream.next_matching("a new heartbeat", secs(5), told).await;
    eprintln!("{cpu:.3} of a core while there were none");
}
