//! A queen that is offered twice what it can take, heartbeats and chats together: `/health` does not wait
//! behind them, and it recovers by itself. `cargo bench --bench overload` measures it with a release build.

use super::cost::{Cost, Latencies};
use crate::support::{Api, Load, Site, load_heartbeat, load_worker, ms, secs};
use std::{net::SocketAddr, thread::JoinHandle, time::Duration};

/// Asks beside the load until that is over.
async fn beside<T>(queen: &Api, load: JoinHandle<T>) -> (Latencies, T) {
    let mut latencies = Latencies::default();
    while !load.is_finished() {
        latencies.ask(queen).await;
        tokio::time::sleep(ms(20)).await;
    }
    (latencies, load.join().unwrap())
}

#[actix_web::test]
async fn under_twice_the_load_that_a_queen_can_take_health_is_answered_and_it_recovers() {
    let site = Site::new();
    let daemon = site.start("queen", &site.queen_config()).await;
    let queen = daemon.queen();
    let (address, worker): (SocketAddr, _) = (queen.address().parse().unwrap(), load_worker());
    let first = load_heartbeat(0, worker);
    let body = String::from_utf8(first).unwrap();
    queen.post_text("/v1/hive-heartbeat", body.split_once("\r\n\r\n").unwrap().1).await.expect(200);

    let load = Load(address);
    let (_, most) = beside(queen, load.most(worker, 16, secs(3))).await;
    let before = Cost::of(&daemon);
    let (latencies, outcome) = beside(queen, load.offer(worker, 2.0 * most, secs(5))).await;
    eprintln!("it does {most:.0} a second; of twice as many: {outcome:?}");
    assert!(outcome.done > 0 && outcome.wrong == 0, "{outcome:?}");
    // A thousand wait at any time; in a build without optimisations, beside other tests, the time of a few
    // of them may be more than a tenth of a second.
    let bound = ms(100).max(Duration::from_secs_f64(150.0 / most));
    let usual = latencies.percentile(50);
    assert!(usual <= bound, "half within {usual:?}, {bound:?} would do");
    eprintln!("{} answers beside them: half within {usual:?}", latencies.count());
    before.assert_flat(Cost { descriptors: before.descriptors, ..Cost::of(&daemon) }, 100.0);

    let (after, outcome) = beside(queen, load.offer(worker, most / 4.0, secs(2))).await;
    assert_eq!((outcome.refused, outcome.wrong, outcome.lost), (0, 0, 0), "it has recovered");
    after.assert_half_prompt();
}
