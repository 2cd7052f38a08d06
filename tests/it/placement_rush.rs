//! A thousand at once for a few places: everybody gets an answer, no place two of them.

use crate::support::{
    Api, Daemon, Heartbeats, Site, chat, chat_body, echo, free_port, in_progress, ms,
    ready_workers, report, secs, send,
};
use actix_web::rt::spawn;
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    rc::Rc,
};

const CALLERS: usize = 1000;

/// The answers of all callers, each on a connection of its own.
async fn all_ask(queen: &Api) -> Vec<(u16, Value)> {
    let one = async || {
        let answer = send(queen, "POST", "/v1/schedule", &[], "{\"ttl_ms\":120000}").await;
        let answer = answer.unwrap_or_else(|error| panic!("a caller got no answer: {error}"));
        let status = answer.status;
        (status, serde_json::from_slice(&answer.rest().await).unwrap_or_default())
    };
    join_all((0..CALLERS).map(|_| one())).await
}

/// The ids of those who got a place; the others were told so.
fn assert_places(answers: &[(u16, Value)], slots: &HashMap<String, usize>) -> Vec<String> {
    let mut taken = HashMap::<String, usize>::new();
    let mut ids = HashSet::new();
    for (status, answer) in answers {
        if *status == 200 {
            *taken.entry(crate::placement::name(&answer["worker"])).or_default() += 1;
            ids.insert(answer["reservation_id"].as_str().expect("it has an id").to_owned());
        } else {
            assert_eq!(*status, 503, "{answer}");
        }
    }
    assert_eq!(&taken, slots, "every slot once");
    assert_eq!(ids.len(), slots.values().sum::<usize>(), "an id was given twice");
    ids.into_iter().collect()
}

#[actix_web::test]
async fn a_thousand_callers_get_the_last_slots_once_each() {
    let site = Site::new();
    let queen = site.start("queen", &site.queen_config()).await;
    // 37 slots on three hives.
    let plan = [("h1", [5, 7]), ("h2", [1, 12]), ("h3", [9, 3])];
    let (mut hives, mut slots) = (Vec::new(), HashMap::new());
    for (hive, counts) in plan {
        let named = ["a", "b"].into_iter().zip(counts);
        let workers: Vec<_> =
            named.clone().map(|(name, count)| report(name, json!({"slots": count}))).collect();
        slots.extend(named.map(|(name, count)| (format!("{hive}/llm/{name}"), count)));
        hives.push(Heartbeats::start(queen.queen(), hive, json!(workers)).await);
    }
    for _ in 0..2 {
        let ids = assert_places(&all_ask(queen.queen()).await, &slots);
        assert_eq!(ids.len(), 37);
        for id in ids {
            assert_eq!(queen.queen().delete(&format!("/v1/reservations/{id}")).await.status, 204);
        }
    }
}

/// A hive with echo workers of these slots, 20 ms for a word.
async fn hive(site: &Site, id: &str, queen: &Api, slots: &[u64]) -> Daemon {
    let mut config = site.hive_config(Some(queen.url()));
    config["hive"]["id"] = json!(id);
    let workers: Vec<_> =
        slots.iter().map(|slots| echo(free_port(), "m", 20, json!({"slots": slots}))).collect();
    config["hive"]["workers"] = json!(workers);
    site.start(id, &config).await
}

/// Looks at one worker again and again, and notes the most that it was at.
async fn watch(url: String, most: Rc<RefCell<HashMap<String, u64>>>) {
    let api = Api::new(url.clone());
    loop {
        let now = in_progress(&api).await;
        most.borrow_mut()
            .entry(url.clone())
            .and_modify(|seen| *seen = now.max(*seen))
            .or_insert(now);
        tokio::time::sleep(ms(10)).await;
    }
}

#[actix_web::test]
async fn a_thousand_requests_are_all_answered_and_no_worker_is_above_its_slots() {
    // A place of its own for each hive: two do not share one.
    let (first, second, third) = (Site::new(), Site::new(), Site::new());
    let mut config = first.queen_config();
    config["queen"]["gateway"] = json!({"queue_limit": 2000, "queue_timeout_ms": 60_000});
    let queen = first.start("queen", &config).await;
    let _one = hive(&first, "h1", queen.queen(), &[2, 3]).await;
    let _two = hive(&second, "h2", queen.queen(), &[4, 2]).await;
    let _three = hive(&third, "h3", queen.queen(), &[3, 4]).await;
    let workers = ready_workers(queen.queen(), 6, secs(10)).await;

    let most = Rc::<RefCell<HashMap<String, u64>>>::default();
    let url = |worker: &Value| worker["url"].as_str().expect("it serves").to_owned();
    let watchers: Vec<_> =
        workers.iter().map(|worker| spawn(watch(url(worker), Rc::clone(&most)))).collect();
    let ask = async |number: usize| {
        let said = format!("number {number}");
        let answer = chat(queen.queen(), &[], &chat_body("m", &said, false)).await;
        let answer = answer.expect(200).await;
        assert_eq!(answer["choices"][0]["message"]["content"], said);
    };
    join_all((0..CALLERS).map(ask)).await;
    watchers.iter().for_each(|watcher| watcher.abort());

    let most = most.borrow();
    for worker in &workers {
        let (seen, slots) = (most[&url(worker)], worker["slots"].as_u64().expect("it has slots"));
        assert!((1..=slots).contains(&seen), "{seen} at once with {slots} slots");
    }
}
