//! Two hives with one id: the newer one stays and nothing flaps, the older one says so loudly and once, and
//! is taken again when the newer one is gone.

use super::mortal::sleeper;
use crate::support::{Event, Site, SseClient, eventually, ms, secs};
use serde_json::{Value, json};

fn twin(site: &Site, queen: &str, name: &str) -> Value {
    let mut config = site.hive_config(Some(queen));
    config["hive"]["state_dir"] = json!(site.path(name));
    config["hive"]["cgroup"]["mode"] = json!("off");
    config["hive"]["heartbeat_interval_ms"] = json!(200);
    config["hive"]["workers"] = json!([sleeper(name)]);
    config
}

/// Which of the two a heartbeat is from.
fn sender(event: &Event) -> Option<String> {
    let workers = event.data["workers"].as_array().filter(|_| event.kind() == "hive_telemetry")?;
    Some(workers.iter().map(|worker| worker["instance"].as_str().unwrap()).collect())
}

#[actix_web::test]
async fn of_two_hives_with_one_id_the_newer_stays_and_the_older_says_so_once() {
    let site = Site::new();
    let mut config = site.queen_config();
    for (key, ms) in
        [("degraded_after_ms", 700), ("down_after_ms", 1_500), ("evict_after_ms", 3_000)]
    {
        config["queen"][key] = json!(ms);
    }
    let queen = site.start("queen", &config).await;
    let url = queen.queen().url();
    let mut older = site.start("older", &twin(&site, url, "older")).await;
    let mut stream = SseClient::connect(&format!("{url}/v1/heartbeats/stream")).await;
    let from = |name: &'static str| move |event: &Event| sender(event).as_deref() == Some(name);
    stream.next_matching("the older one's", secs(5), from("older")).await;
    let mut newer = site.start("newer", &twin(&site, url, "newer")).await;
    stream.next_matching("the newer one's", secs(5), from("newer")).await;
    older.log_line(|line| line.contains("ANOTHER HIVE HAS THIS ID").then_some(())).await;

    let meanwhile = stream.during(ms(2_500)).await;
    let senders: Vec<_> = meanwhile.iter().filter_map(sender).collect();
    assert!(senders.len() > 3 && senders.iter().all(|name| name == "newer"), "{senders:?}");
    let standing = |event: &&Event| event.kind().starts_with("hive_") && sender(event).is_none();
    assert_eq!(meanwhile.iter().filter(standing).count(), 0, "nothing flaps");
    assert_eq!(older.log_count("ANOTHER HIVE HAS THIS ID"), 1);
    assert_eq!(newer.log_count("ANOTHER HIVE HAS THIS ID"), 0);
    older.hive().worker_in_state("g/older", "ready").await;

    assert!(newer.terminate(secs(5)).await.success());
    stream.next_matching("the older one's again", secs(10), from("older")).await;
    eventually(secs(10), async || match older.log_count("connected to the queen") {
        2 => Ok(()),
        count => Err(count),
    })
    .await;
    assert_eq!(older.log_count("ANOTHER HIVE HAS THIS ID"), 1);
}
