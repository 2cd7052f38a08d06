//! From a worker's process to a client of the queen's stream: hive, heartbeat, registry, stream.

use crate::support::{Api, RBEE, Site, SseClient, free_port, ms, proc, ready_workers, secs};
use serde_json::{Value, json};

const STREAM: &str = "/v1/heartbeats/stream";

fn sleeper(instance: &str) -> Value {
    json!({"group": "g", "instance": instance, "command": "/bin/sleep", "args": ["86400"]})
}

fn echo(port: u16, model: &str, command: &str) -> Value {
    json!({
        "group": "echo", "instance": port.to_string(), "command": command,
        "args": ["echo-worker", "--port", port.to_string(), "--model", model],
        "ready": {"http": format!("http://127.0.0.1:{port}/health"), "interval_ms": 50},
    })
}

#[actix_web::test]
async fn one_process_with_both_roles_is_whole_within_three_seconds() {
    let site = Site::new();
    let queen_bind = format!("127.0.0.1:{}", free_port());
    let mut config = site.hive_config(Some(&format!("http://{queen_bind}")));
    config["queen"] = json!({"bind": queen_bind});
    let ports = [free_port(), free_port(), free_port()];
    config["hive"]["workers"] = json!([
        echo(ports[0], "echo-small", "rbee"),
        echo(ports[1], "echo-small", "rbee"),
        echo(ports[2], "echo-large", RBEE),
    ]);
    let local = site.start("local", &config).await;

    let workers = ready_workers(local.queen(), 3, secs(3)).await;
    for (port, model) in ports.iter().zip(["echo-small", "echo-small", "echo-large"]) {
        let instance = port.to_string();
        let worker = workers.iter().find(|worker| worker["instance"] == instance).unwrap();
        assert_eq!(worker["hive_id"], "test-hive");
        assert_eq!(worker["model"], model);
        assert_eq!(worker["url"], format!("http://127.0.0.1:{port}"));
        assert_eq!(worker["freshness"], "healthy");
        let pid = worker["pid"].as_u64().expect("it has a PID") as u32;
        assert!(proc::tree(local.pid()).contains(&pid), "{pid} does not run below the hive");
        let url = worker["url"].as_str().unwrap().to_owned();
        Api::new(url).get("/health").await.expect(200);
    }
}

#[actix_web::test]
async fn the_stream_is_a_snapshot_then_each_heartbeat() {
    let site = Site::new();
    let (queen, _hive) = site.start_both(json!([sleeper("one"), sleeper("two")])).await;
    ready_workers(queen.queen(), 2, secs(5)).await;

    let mut stream = SseClient::connect(&format!("{}{STREAM}", queen.queen().url())).await;
    assert_eq!(stream.headers.get("x-accel-buffering").unwrap(), "no");
    let content_type = stream.headers.get("content-type").unwrap().to_str().unwrap();
    assert!(content_type.starts_with("text/event-stream"), "{content_type}");

    let first = stream.next(secs(2)).await;
    assert_eq!((first.name.as_str(), first.kind()), ("snapshot", "snapshot"));
    assert_eq!(first.data["hives"][0]["id"], "test-hive");
    assert_eq!(first.data["workers"].as_array().unwrap().len(), 2);

    let mut telemetry = Vec::new();
    while telemetry.len() < 3 {
        let heartbeat = |event: &crate::support::Event| event.kind() == "hive_telemetry";
        telemetry.push(stream.next_matching("hive_telemetry", secs(5), heartbeat).await);
    }
    for event in &telemetry {
        assert_eq!(event.name, "heartbeat");
        assert_eq!(event.data["hive_id"], "test-hive");
        assert!(event.data["node"]["cpu_count"].as_u64().unwrap() >= 1);
        let worker = event.worker("one").expect("every worker is in every heartbeat");
        assert!(proc::alive(worker["pid"].as_u64().unwrap() as u32));
    }
    // The first may have been on its way; between the others lies the interval of a second.
    let gap = telemetry[2].at - telemetry[1].at;
    assert!((ms(500)..ms(2000)).contains(&gap), "{gap:?} between two heartbeats");
    assert_ids_count_up(telemetry.iter().map(|event| event.id.as_str()));
}

/// Ids are `{queen start}-{number}`.
fn assert_ids_count_up<'a>(ids: impl Iterator<Item = &'a str>) {
    let split = |id: &'a str| {
        let (start, number) = id.rsplit_once('-').expect("an id has two parts");
        (start, number.parse::<u64>().expect("the second is a number"))
    };
    let ids: Vec<_> = ids.map(split).collect();
    assert!(ids.windows(2).all(|two| two[0].0 == two[1].0 && two[0].1 < two[1].1), "{ids:?}");
}

#[actix_web::test]
async fn the_queen_tells_its_own_counts() {
    let site = Site::new();
    let (queen, _hive) = site.start_both(json!([sleeper("one"), sleeper("two")])).await;
    ready_workers(queen.queen(), 2, secs(5)).await;
    let mut stream = SseClient::connect(&format!("{}{STREAM}", queen.queen().url())).await;
    let event = stream.next_matching("queen", secs(4), |event| event.kind() == "queen").await;
    assert_eq!(event.name, "heartbeat");
    assert_eq!(event.data["workers_online"], 2);
    assert_eq!(event.data["hives_online"], 1);
    assert_eq!(event.data["hives_available"], 1);
    assert_eq!(event.data["hive_ids"], json!(["test-hive"]));
    assert_eq!(event.data["worker_ids"], json!(["test-hive/g/one", "test-hive/g/two"]));
}

#[actix_web::test]
async fn a_hive_that_was_there_first_is_found_by_its_queen() {
    let site = Site::new();
    let bind = format!("127.0.0.1:{}", free_port());
    let mut config = site.hive_config(Some(&format!("http://{bind}")));
    config["hive"]["workers"] = json!([sleeper("one")]);
    let hive = site.start("hive", &config).await;
    let worker = hive.hive().worker_in_state("g/one", "ready").await;

    let queen = site.start("queen", &json!({"queen": {"bind": bind}})).await;
    let workers = ready_workers(queen.queen(), 1, secs(3)).await;
    assert_eq!(workers[0]["pid"], worker["pid"]);
}

#[actix_web::test]
async fn a_queen_that_comes_back_is_whole_again_and_the_hive_never_noticed() {
    let site = Site::new();
    let (mut queen, hive) = site.start_both(json!([sleeper("one"), sleeper("two")])).await;
    let before = ready_workers(queen.queen(), 2, secs(5)).await;
    let bind = queen.queen().address().to_owned();

    assert!(queen.terminate(secs(5)).await.success());
    hive.hive().get("/health").await.expect(200);
    let queen = site.start("queen", &json!({"queen": {"bind": bind}})).await;

    // One heartbeat later, and a second more for a busy machine.
    let after = ready_workers(queen.queen(), 2, secs(2)).await;
    let identity = |workers: &[Value]| {
        let mut all: Vec<_> = workers
            .iter()
            .map(|worker| (worker["instance"].to_string(), worker["pid"].as_u64()))
            .collect();
        all.sort();
        all
    };
    assert_eq!(identity(&before), identity(&after));
    assert!(after.iter().all(|worker| worker["restarts"] == 0));
}

#[actix_web::test]
async fn a_queen_that_stops_ends_its_streams_at_once() {
    let site = Site::new();
    let mut queen = site.start("queen", &site.queen_config()).await;
    let mut stream = SseClient::connect(&format!("{}{STREAM}", queen.queen().url())).await;
    stream.next(secs(2)).await;
    assert!(queen.terminate(secs(2)).await.success());
    stream.ended(secs(1)).await;
}
