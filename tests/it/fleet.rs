//! What the queen knows of its fleet: who is found, and who is gone and for how long still told of.

use crate::support::{
    Api, Event, Gpus, Site, SseClient, assert_is_error, eventually, ms, proc, ready_workers, secs,
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

fn mortal(instance: &str) -> Value {
    json!({"group": "g", "instance": instance, "command": "/bin/sleep", "args": ["86400"],
           "restart": {"policy": "never"}})
}

/// The workers that are taken for a request, by the queen's own word.
async fn taken(queen: &Api) -> Vec<String> {
    let told = queen.get("/v1/schedule/explain").await.expect(200);
    let candidates = told["workers"].as_array().expect("a list").iter();
    candidates
        .filter(|one| one["eligible"] == true)
        .map(|one| one["worker"].as_str().expect("a name").to_owned())
        .collect()
}

#[actix_web::test]
async fn a_dead_worker_is_shown_with_its_end_and_takes_nothing_and_a_deleted_one_is_gone() {
    let site = Site::new();
    let (queen, hive) = site.start_both(json!([mortal("64001"), mortal("64002")])).await;
    ready_workers(queen.queen(), 2, secs(10)).await;
    let both = ["test-hive/g/64001", "test-hive/g/64002"];
    eventually(secs(5), async || {
        let taken = taken(queen.queen()).await;
        if taken.len() == 2 { Ok(()) } else { Err(taken) }
    })
    .await;

    let victim = hive.hive().worker("g/64001").await["pid"].as_u64().unwrap() as u32;
    proc::signal(victim, Signal::SIGKILL);
    let dead = queen.queen().worker_in_state(both[0], "failed").await;
    assert_eq!((&dead["pid"], &dead["last_exit"]["signal"]), (&Value::Null, &json!("SIGKILL")));
    assert_eq!(taken(queen.queen()).await, [both[1]]);

    hive.hive().delete("/v1/workers/g/64001").await.expect(200);
    let gone = eventually(secs(5), async || {
        let answer = queen.queen().get(&format!("/v1/workers/{}", both[0])).await;
        if answer.status == 404 { Ok(answer) } else { Err(answer.text) }
    })
    .await;
    assert_is_error(&gone, 404, "64001");
    assert_eq!(ready_workers(queen.queen(), 1, secs(5)).await[0]["instance"], "64002");
}

#[actix_web::test]
async fn a_hive_that_is_gone_is_forgotten_with_its_workers_and_comes_back_with_the_same() {
    let site = Site::new();
    let freshness = json!({"bind": "127.0.0.1:0", "degraded_after_ms": 1000,
                           "down_after_ms": 2000, "evict_after_ms": 3000});
    let queen = site.start("queen", &json!({"queen": freshness})).await;
    let mut config = site.hive_config(Some(queen.queen().url()));
    config["hive"]["heartbeat_interval_ms"] = json!(200);
    config["hive"]["on_exit"] = json!("leave");
    config["hive"]["workers"] = json!([mortal("64001"), mortal("64002")]);
    let mut hive = site.start("hive", &config).await;
    let before = ready_workers(queen.queen(), 2, secs(10)).await;

    let url = format!("{}/v1/heartbeats/stream", queen.queen().url());
    let mut stream = SseClient::connect(&url).await;
    stream.next(secs(5)).await;
    hive.kill();
    for kind in ["hive_degraded", "hive_down", "hive_evicted"] {
        let told = |event: &Event| event.kind() == kind && event.data["hive_id"] == "test-hive";
        stream.next_matching(kind, secs(10), told).await;
    }
    for path in ["/v1/hives", "/v1/workers"] {
        let list = queen.queen().get(path).await.expect(200);
        assert!(list.as_object().unwrap().values().all(|all| all == &json!([])), "{list}");
    }
    queen.queen().get("/v1/hives/test-hive").await.expect(404);
    let pids = |workers: &[Value]| workers.iter().map(|w| w["pid"].clone()).collect::<Vec<_>>();
    let lives = |pid: &Value| proc::alive(pid.as_u64().unwrap() as u32);
    assert!(pids(&before).iter().all(lives), "workers outlive their hive");

    let _hive = site.start("hive", &config).await;
    let after = ready_workers(queen.queen(), 2, secs(10)).await;
    assert_eq!(pids(&after), pids(&before));
    assert!(after.iter().all(|worker| worker["adopted"] == true && worker["restarts"] == 0));
}

#[actix_web::test]
async fn workers_are_found_by_model_by_idleness_and_by_free_memory() {
    const TWO: &str = "gpu GPU-aaaaaaaa A100 40000 1000 0 40 50000\n\
                       gpu GPU-bbbbbbbb A100 80000 5000 60 45 98500\n";
    let serving = |instance: &str, model: &str, gpus: Value| {
        json!({"group": "g", "instance": instance, "command": "/bin/sh", "gpus": gpus,
               "args": ["-c", "exec sleep 86400", "sh", "--model", model]})
    };
    let site = Site::new();
    let gpus = Gpus::new(&site, TWO);
    let queen = site.start("queen", &site.queen_config()).await;
    let mut config = gpus.hive_config(Some(queen.queen().url()));
    config["hive"]["workers"] = json!([
        serving("64001", "llama", json!(["0"])),
        serving("64002", "mistral", json!(["1"])),
        serving("64003", "llama", json!(["1"])),
    ]);
    let hive = site.start("hive", &config).await;
    ready_workers(queen.queen(), 3, secs(10)).await;
    let pid = async |name: &str| hive.hive().worker(name).await["pid"].as_u64().unwrap();
    let (first, second) = (pid("g/64001").await, pid("g/64002").await);
    gpus.say(&format!(
        "{TWO}process 0 compute {first} 900\nprocess 1 compute {second} 4000\nsample 1 {second} 1 55\n"
    ));

    let found = async |query: &str, wanted: &[&str]| {
        eventually(secs(10), async || {
            let answer = queen.queen().get(&format!("/v1/workers?{query}")).await.expect(200);
            let workers = answer["workers"].as_array().unwrap().iter();
            let names: Vec<_> =
                workers.map(|w| w["instance"].as_str().unwrap().to_owned()).collect();
            if names == wanted { Ok(()) } else { Err((query.to_owned(), names)) }
        })
        .await;
    };
    found("model=llama", &["64001", "64003"]).await;
    found("model=llam", &[]).await;
    found("idle=false", &["64002"]).await;
    found("idle=true&model=llama", &["64001", "64003"]).await;
    found("min_free_vram_mb=39000", &["64001", "64002", "64003"]).await;
    found("min_free_vram_mb=39001", &["64002", "64003"]).await;
    found("min_free_vram_mb=75001", &[]).await;
    found("model=llama&idle=true&min_free_vram_mb=39001", &["64003"]).await;
    let wanted = json!({"model": "llama", "vram_mb": 39_001});
    let place = queen.queen().post("/v1/schedule", wanted).await.expect(200);
    assert_eq!(place["worker"]["instance"], "64003");
    assert!(place["expires_in_ms"].as_u64() <= Some(ms(30_000).as_millis() as u64));
}
