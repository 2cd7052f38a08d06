//! A queen that is dead, hung, slow, flapping, or lies. The hive's own API answers within a tenth of a
//! second, each tick is sampled, and what happened to workers is told once, when there is a queen again.

use super::{
    cost::{Cost, Latencies},
    detour::{Detour, Fault},
    mortal::{assert_told_once, kill, sleeper, until_told},
};
use crate::support::{Daemon, Site, SseClient, eventually, ms, ready_workers, secs};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// How long a queen is away here.
const AWAY: Duration = Duration::from_millis(2_500);
/// How soon a queen that is back has heard all. The longest that one is left alone is 10 s.
const TOLD_WITHIN: Duration = Duration::from_secs(20);
/// What a hive may grow by meanwhile: pages that it had not touched before.
const GROWTH_MB: f64 = 12.0;

fn hurried(site: &Site, queens: Value) -> Value {
    let mut config = site.hive_config(None);
    let hive = &mut config["hive"];
    hive["queen_urls"] = queens;
    hive["heartbeat_interval_ms"] = json!(200);
    hive["heartbeat_timeout_ms"] = json!(500);
    hive["sample_interval_ms"] = json!(200);
    config
}

/// A hive with two workers behind a detour, and a client of the queen.
struct Stage {
    hive: Daemon,
    detour: Detour,
    stream: SseClient,
    _queen: Daemon,
}

async fn stage(site: &Site) -> Stage {
    let queen = site.start("queen", &site.queen_config()).await;
    let detour = Detour::to(queen.queen()).await;
    let mut config = hurried(site, json!([detour.url()]));
    config["hive"]["workers"] = json!([sleeper("stays"), sleeper("dies")]);
    let hive = site.start("hive", &config).await;
    ready_workers(queen.queen(), 2, secs(10)).await;
    let stream = SseClient::connect(&format!("{}/v1/heartbeats/stream", queen.queen().url())).await;
    Stage { hive, detour, stream, _queen: queen }
}

/// Looks at the hive for as long as the queen is away.
async fn assert_works_alone(hive: &Daemon) {
    let (start, mut latencies) = (Instant::now(), Latencies::default());
    while start.elapsed() < AWAY {
        latencies.ask(hive.hive()).await;
        let worker = hive.hive().worker("g/stays").await;
        let age = worker["sample_age_ms"].as_u64().unwrap();
        assert!(age < 1_000, "a sample of {age} ms ago");
        tokio::time::sleep(ms(20)).await;
    }
    latencies.assert_prompt();
}

const BROKEN: &str = "does not take heartbeats";
const CONNECTED: &str = "connected to the queen";

/// Asserts that each change of the connection is logged once, and waits until this is the newest.
async fn newest_change_is(hive: &Daemon, wanted: &str) {
    eventually(secs(15), async || {
        let log = hive.log_text();
        let kind = |line: &str| [BROKEN, CONNECTED].into_iter().find(|kind| line.contains(kind));
        let changes: Vec<_> = log.lines().filter_map(kind).collect();
        assert!(changes.windows(2).all(|two| two[0] != two[1]), "each once: {changes:?}");
        if changes.last() == Some(&wanted) { Ok(()) } else { Err(changes.len()) }
    })
    .await;
}

async fn assert_goes_on_without(fault: Fault) {
    let site = Site::new();
    let Stage { hive, detour, mut stream, _queen } = stage(&site).await;
    detour.fail_with(fault).await;
    detour.met(1).await;
    kill(hive.hive(), 0).await;
    let before = Cost::of(&hive);
    assert_works_alone(&hive).await;
    before.assert_flat(Cost::of(&hive), GROWTH_MB);
    newest_change_is(&hive, BROKEN).await;
    detour.heal().await;
    let healed = Instant::now();
    assert_told_once(&until_told(&mut stream).await, 1);
    newest_change_is(&hive, CONNECTED).await;
    assert!(healed.elapsed() < TOLD_WITHIN, "told {:?} after the queen was back", healed.elapsed());
}

#[actix_web::test]
async fn a_hive_goes_on_without_a_queen_that_is_dead() {
    assert_goes_on_without(Fault::Dead).await;
}

#[actix_web::test]
async fn a_hive_goes_on_without_a_queen_that_takes_and_never_answers() {
    assert_goes_on_without(Fault::Hung).await;
}

#[actix_web::test]
async fn a_hive_goes_on_without_a_queen_that_answers_too_late() {
    assert_goes_on_without(Fault::Slow).await;
}

#[actix_web::test]
async fn a_hive_goes_on_without_a_queen_whose_answers_get_lost() {
    assert_goes_on_without(Fault::Lost).await;
}

#[actix_web::test]
async fn a_hive_goes_on_without_a_queen_that_has_only_errors() {
    assert_goes_on_without(Fault::Error).await;
}

#[actix_web::test]
async fn what_answers_200_and_is_no_queen_gets_no_events_to_lose() {
    assert_goes_on_without(Fault::Rubbish).await;
}

#[actix_web::test]
async fn an_answer_without_an_end_costs_a_hive_no_memory() {
    assert_goes_on_without(Fault::Huge).await;
}

#[actix_web::test]
async fn headers_without_an_end_cost_a_hive_no_memory() {
    assert_goes_on_without(Fault::EndlessHead).await;
}

#[actix_web::test]
async fn an_answer_that_breaks_off_counts_as_none() {
    assert_goes_on_without(Fault::Cut).await;
}

#[actix_web::test]
async fn a_queen_that_sends_elsewhere_is_not_followed() {
    assert_goes_on_without(Fault::Redirect).await;
}

#[actix_web::test]
async fn an_answer_byte_by_byte_is_given_up_in_time() {
    assert_goes_on_without(Fault::Trickle).await;
}

#[actix_web::test]
async fn a_queen_that_wants_to_be_left_alone_for_years_is_asked_again_soon() {
    assert_goes_on_without(Fault::AbsurdWait).await;
}

#[actix_web::test]
async fn a_queen_that_comes_and_goes_is_told_everything_once_and_each_change_logged_once() {
    const TIMES: usize = 4;
    let site = Site::new();
    let Stage { hive, detour, mut stream, _queen } = stage(&site).await;
    let mut events = Vec::new();
    for times in 0..TIMES {
        let faults = [Fault::Dead, Fault::Lost, Fault::Error, Fault::Hung];
        detour.fail_with(faults[times % faults.len()]).await;
        kill(hive.hive(), times as u64).await;
        newest_change_is(&hive, BROKEN).await;
        detour.heal().await;
        events.extend(until_told(&mut stream).await);
        newest_change_is(&hive, CONNECTED).await;
    }
    assert_told_once(&events, TIMES);
}

#[actix_web::test]
async fn the_next_queen_takes_over_from_each_kind_of_bad_one() {
    let site = Site::new();
    let queen = site.start("queen", &site.queen_config()).await;
    let (mut detours, mut hives) = (Vec::new(), Vec::new());
    for fault in Fault::ALL {
        let detour = Detour::to(queen.queen()).await;
        detour.fail_with(fault).await;
        let mut config = hurried(&site, json!([detour.url(), queen.queen().url()]));
        let name = format!("{fault:?}");
        config["hive"]["id"] = json!(name);
        config["hive"]["state_dir"] = json!(site.path(&name));
        config["hive"]["cgroup"]["mode"] = json!("off");
        hives.push(site.start(&name, &config).await);
        detours.push(detour);
    }
    for hive in &mut hives {
        hive.log_line(|line| line.contains(CONNECTED).then_some(())).await;
    }
    for fault in Fault::ALL {
        queen.queen().get(&format!("/v1/hives/{fault:?}")).await.expect(200);
    }
}
