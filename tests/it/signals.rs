//! SIGTERM, a second one, SIGHUP.

use crate::support::{Site, SseClient, eventually, free_port, proc, secs};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

fn sleeper(instance: &str, time: &str) -> Value {
    json!({"group": "g", "instance": instance, "command": "/bin/sleep", "args": [time]})
}

#[actix_web::test]
async fn with_nothing_in_flight_the_end_takes_less_than_a_second() {
    let site = Site::new();
    let mut queen = site.start("queen", &site.queen_config()).await;
    let mut config = site.hive_config(Some(queen.queen().url()));
    config["hive"]["workers"] = (0..20).map(|n| sleeper(&format!("w{n}"), "86400")).collect();
    let mut hive = site.start("hive", &config).await;
    hive.hive().worker_in_state("g/w19", "ready").await;
    let mut stream =
        SseClient::connect(&format!("{}/v1/heartbeats/stream", queen.queen().url())).await;
    stream.next_matching("telemetry", secs(5), |event| event.kind() == "hive_telemetry").await;

    let start = Instant::now();
    assert_eq!(hive.terminate(secs(5)).await.code(), Some(0));
    let hive_took = start.elapsed();
    let goodbye = |hives: &Value| hives["hives"][0]["operational_status"] == "stopping";
    eventually(secs(2), async || {
        let hives = queen.queen().get("/v1/hives").await.json;
        if goodbye(&hives) { Ok(()) } else { Err(hives) }
    })
    .await;
    let start = Instant::now();
    assert_eq!(queen.terminate(secs(5)).await.code(), Some(0));
    let queen_took = start.elapsed();
    stream.ended(secs(1)).await;
    println!("hive with 20 workers: {hive_took:?}, queen with a stream: {queen_took:?}");
    assert!(hive_took < Duration::from_secs(1) && queen_took < Duration::from_secs(1));
}

#[actix_web::test]
async fn a_second_signal_ends_it_at_once() {
    let site = Site::new();
    let up = site.path("up");
    let script = format!("trap '' TERM; : > {}; while :; do /bin/sleep 1; done", up.display());
    let mut deaf = sleeper("deaf", "");
    deaf["command"] = json!("/bin/sh");
    deaf["args"] = json!(["-c", script]);
    deaf["stop_grace_ms"] = json!(60_000);
    let mut hive = site.start_hive(json!([deaf])).await;
    eventually(secs(5), async || up.exists().then_some(()).ok_or("not up yet")).await;
    proc::signal(hive.pid(), Signal::SIGTERM);
    hive.log_line(|line| line.contains("stopping").then_some(())).await;
    let start = Instant::now();
    let status = hive.terminate(secs(2)).await;
    assert!(start.elapsed() < Duration::from_secs(1), "took {:?}", start.elapsed());
    assert_ne!(status.code(), Some(0));
}

#[actix_web::test]
async fn sighup_starts_what_is_new_stops_what_is_gone_and_touches_nothing_else() {
    let site = Site::new();
    let mut config = site.hive_config(None);
    config["hive"]["workers"] = json!([sleeper("same", "1000"), sleeper("gone", "1000")]);
    let hive = site.start("hive", &config).await;
    let same = hive.hive().worker_in_state("g/same", "ready").await;
    let gone = hive.hive().worker_in_state("g/gone", "ready").await;
    let made = hive.hive().spawn(sleeper("by-api", "1000")).await;

    config["hive"]["workers"] = json!([sleeper("same", "1000"), sleeper("new", "1000")]);
    site.write("hive", &config);
    proc::signal(hive.pid(), Signal::SIGHUP);
    hive.hive().worker_in_state("g/new", "ready").await;
    eventually(secs(5), async || match hive.hive().get("/v1/workers/g/gone").await {
        answer if answer.status == 404 => Ok(()),
        answer => Err(answer.text),
    })
    .await;
    assert!(!proc::exists(gone["pid"].as_u64().unwrap() as u32));
    for before in [same, made] {
        let name = format!("g/{}", before["instance"].as_str().unwrap());
        assert_eq!(hive.hive().worker(&name).await["pid"], before["pid"]);
    }
}

#[actix_web::test]
async fn sighup_restarts_what_changed_one_at_a_time() {
    let site = Site::new();
    let names = ["a", "b", "c"];
    let mut config = site.hive_config(None);
    config["hive"]["workers"] = names.iter().map(|name| sleeper(name, "1000")).collect();
    let hive = site.start("hive", &config).await;
    for name in names {
        hive.hive().worker_in_state(&format!("g/{name}"), "ready").await;
    }
    config["hive"]["workers"] = names.iter().map(|name| sleeper(name, "2000")).collect();
    site.write("hive", &config);
    proc::signal(hive.pid(), Signal::SIGHUP);
    eventually(secs(15), async || {
        let workers = hive.hive().get("/v1/workers").await.json["workers"].clone();
        let workers = workers.as_array().unwrap();
        let out = workers.iter().filter(|worker| worker["state"] != "ready").count();
        assert!(out <= 1, "{out} are out at once: {workers:#?}");
        let done =
            workers.iter().all(|w| w["spec"]["args"] == json!(["2000"]) && w["state"] == "ready");
        if done { Ok(()) } else { Err(workers.len()) }
    })
    .await;
}

#[actix_web::test]
async fn a_bad_configuration_at_sighup_is_refused_whole() {
    let site = Site::new();
    let mut config = site.hive_config(None);
    config["hive"]["workers"] = json!([sleeper("a", "1000")]);
    let mut hive = site.start("hive", &config).await;
    let before = hive.hive().worker_in_state("g/a", "ready").await;
    config["hive"]["workers"] = json!([sleeper("b", "1000"), sleeper("../x", "1")]);
    site.write("hive", &config);
    proc::signal(hive.pid(), Signal::SIGHUP);
    hive.log_line(|line| line.contains("configuration not taken").then_some(())).await;
    assert_eq!(hive.hive().worker("g/a").await["pid"], before["pid"]);
    assert_eq!(hive.hive().get("/v1/workers/g/b").await.status, 404);
}

#[actix_web::test]
async fn what_is_in_flight_is_answered_before_its_worker_is_ended() {
    let site = Site::new();
    let mut config = site.hive_config(None);
    config["queen"] = site.queen_config()["queen"].clone();
    config["hive"]["on_exit"] = json!("stop");
    let port = free_port();
    let address = format!("127.0.0.1:{}", free_port());
    let queen = format!("http://{address}");
    config["queen"]["bind"] = json!(address);
    config["hive"]["queen_urls"] = json!([queen]);
    config["hive"]["workers"] = json!([
        {"group": "g", "instance": port.to_string(), "command": "rbee", "model": "m",
         "args": ["echo-worker", "--port", port.to_string(), "--model", "m", "--delay-ms", "300"],
         "ready": {"http": format!("http://127.0.0.1:{port}/health"), "interval_ms": 50}},
        {"group": "g", "instance": "deaf", "command": "/bin/sh", "stop_grace_ms": 2000,
         "args": ["-c", "trap '' TERM; while :; do sleep 0.1; done"]},
    ]);
    let mut both = site.start("both", &config).await;
    let api = both.queen().clone();
    eventually(secs(10), async || {
        let placed = api.post("/v1/schedule", json!({"model": "m", "ttl_ms": 1})).await;
        if placed.status == 200 { Ok(()) } else { Err(placed.text) }
    })
    .await;
    let mut stream = SseClient::connect(&format!("{queen}/v1/heartbeats/stream")).await;
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "a b c d e f"}]});
    let asked = actix_web::rt::spawn({
        let api = api.clone();
        async move { api.post("/v1/chat/completions", body).await }
    });
    eventually(secs(5), async || {
        let page = api.get("/metrics").await.text;
        let busy = page.lines().any(|line| {
            line.starts_with("rbee_gateway_requests_in_flight") && !line.ends_with(" 0")
        });
        if busy { Ok(()) } else { Err("nothing is in flight") }
    })
    .await;
    let told = Instant::now();
    let ended = both.terminate(secs(10));
    let (answer, status, streamed) = tokio::join!(asked, ended, async {
        stream.ended(secs(5)).await;
        told.elapsed()
    });
    let answer = answer.expect("it is asked");
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert!(answer.text.contains("a b c d e f"), "{}", answer.text);
    assert!(status.success());
    assert!(
        streamed < told.elapsed() / 2,
        "the stream ended with the queen, not with the workers: {streamed:?}"
    );
}
