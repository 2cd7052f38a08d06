//! Everything at once, for a while: workers that die and are made and deleted, clients that come, leave and
//! do not read, daemons that are killed and ended and started again, GPUs that break, SIGHUPs. What the daemons
//! that live through it hold afterwards is what they held before.
//!
//! `RBEE_SOAK_S` seconds, after some for warming up; `scripts/soak` runs it for long.

mod crowd;
mod fleet;
mod gauge;

use crate::support::{Gpus, Site, eventually, ms, proc, secs};
use crowd::{Crowd, Deeds};
use fleet::Fleet;
use gauge::{Figures, Series, Verdict, Watched};
use std::{
    cell::Cell,
    time::{Duration, Instant},
};

/// Without `RBEE_SOAK_S`, s.
const SHORT_S: u64 = 8;

/// The machine's GPU while nothing is wrong with it.
const GPU: &str = "gpu GPU-aaaaaaaa A100 40000 1000 0 40 50000\n";

/// Nothing moves any more when this returns: the same counts for a while.
async fn calm(watched: &Watched<'_>) -> Figures {
    let (mut last, mut since) = (watched.counts(), Instant::now());
    eventually(secs(90), async || {
        let now = watched.counts();
        if now != last {
            (last, since) = (now, Instant::now());
        }
        if since.elapsed() > secs(2) { Ok(last.clone()) } else { Err(last.clone()) }
    })
    .await
}

/// What is held once that is no more than before, or what is too much still after a while: connections and
/// threads that nobody uses end after some seconds.
async fn back_to(before: &Figures, watched: &Watched<'_>) -> Figures {
    let deadline = Instant::now() + secs(60);
    loop {
        let now = watched.counts();
        let flat = gauge::judge_counts(before, &now).iter().all(Verdict::is_flat);
        if flat || Instant::now() > deadline {
            return now;
        }
        tokio::time::sleep(ms(100)).await;
    }
}

/// Memory until `time` is over, under load.
async fn watch(watched: &Watched<'_>, time: Duration, goes_on: &Cell<bool>) -> Series {
    let (begun, mut series) = (Instant::now(), Series::default());
    while begun.elapsed() < time {
        series.note(begun.elapsed(), watched.memory());
        tokio::time::sleep(ms(500)).await;
    }
    goes_on.set(false);
    series
}

fn soak_time() -> Duration {
    let wanted = std::env::var("RBEE_SOAK_S").ok();
    secs(wanted.map_or(SHORT_S, |text| text.parse().expect("RBEE_SOAK_S is a number of seconds")))
}

#[actix_web::test]
async fn whatever_happens_nothing_piles_up() {
    let sites = [Site::new(), Site::new(), Site::new(), Site::new()];
    let marker = format!("soak-{}", sites[0].unique());
    let gpus = Gpus::new(&sites[0], GPU);
    let mut fleet = Fleet::start(&sites, &gpus, &marker).await;
    let (queen, hive) = fleet.steady_apis();
    let watched =
        Watched { daemons: fleet.steady_pids(), sites: sites.iter().collect(), marker: &marker };
    let (deeds, goes_on) = (Deeds::default(), Cell::new(true));
    let crowd = Crowd::new((&queen, &hive), "steady", &marker, &gpus, &deeds, &goes_on);

    let measured = soak_time();
    let warming_up = (measured / 4).clamp(secs(4), secs(120));
    let (mut before, mut memory) = (Figures::new(), Series::default());
    for time in [warming_up, measured] {
        goes_on.set(true);
        let watching = watch(&watched, time, &goes_on);
        let disturbing = fleet.disturb(&deeds, &goes_on);
        (memory, _, _) = tokio::join!(watching, crowd.run(), disturbing);
        fleet.whole().await;
        if before.is_empty() {
            before = calm(&watched).await;
        }
    }

    let mut verdicts = gauge::judge_counts(&before, &back_to(&before, &watched).await);
    verdicts.extend(gauge::judge_memory(&memory, measured));
    let (table, bad) = gauge::table(&verdicts);
    println!(
        "{deeds}{} s, after {} s to warm up\n{table}",
        measured.as_secs(),
        warming_up.as_secs()
    );
    assert!(bad.is_empty(), "not flat: {bad:?}\n{table}");
    deeds.assert_all_done();

    fleet.end().await;
    assert!(proc::with_argument(&marker).is_empty(), "workers are left");
    let left = watched.counts();
    assert_eq!(left["cgroups"], 0.0, "{left:?}");
}
