//! The hive's unit is started, restarted, reloaded and killed; its workers go on.

use crate::{
    machine::{PATIENCE, ROOT, cgroup_file, main_pid as main_of, run, sleeper},
    support::{RBEE, echo, eventually, free_port, proc, secs},
    unit::{self, Unit, WORKERS, restarting},
};
use awc::Client;
use futures_util::StreamExt;
use nix::sys::signal::Signal;
use serde_json::json;
use std::path::Path;

#[actix_web::test]
async fn a_restart_of_the_hive_leaves_its_workers_and_their_answers_unbroken() {
    let port = free_port();
    let spec = echo(port, "m", 400, json!({"command": RBEE}));
    let hive = Unit::start(json!([spec, sleeper("a")])).await;
    let name = format!("echo/{port}");
    let before = hive.api().worker_when(&name, PATIENCE, |w| w["state"] == "ready").await;
    let idle = hive.api().worker_in_state("g/a", "ready").await;
    let own = Path::new(ROOT).join(WORKERS).join(&name);
    assert_eq!(proc::cgroup_of(main_of(&before)).unwrap(), own);
    let prompt = (0..25).map(|n| format!("w{n}")).collect::<Vec<_>>().join(" ");
    let body = json!({"stream": true, "messages": [{"role": "user", "content": prompt}]});
    let url = format!("http://127.0.0.1:{port}/v1/chat/completions");
    let request = Client::new().post(url).content_type("application/json");
    let mut answer = request.send_body(body.to_string()).await.expect("an answer begins");
    let mut text = answer.next().await.expect("a chunk").expect("unbroken").to_vec();

    hive.restart().await;
    assert!(!String::from_utf8_lossy(&text).contains("[DONE]"), "it was over before");
    for (name, before) in [(name.as_str(), &before), ("g/a", &idle)] {
        let after = hive.api().worker_when(name, PATIENCE, |w| w["state"] == "ready").await;
        assert_eq!((&after["pid"], &after["adopted"]), (&before["pid"], &json!(true)));
        assert_eq!((&after["isolation"], &after["restarts"]), (&json!("cgroup"), &json!(0)));
    }
    while let Some(chunk) = answer.next().await {
        text.extend_from_slice(&chunk.expect("unbroken"));
    }
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("w24") && text.trim_end().ends_with("data: [DONE]"), "{text}");
    assert_eq!(unit::state("rbee-workers"), "active");
}

#[actix_web::test]
async fn a_hive_that_is_killed_is_started_again_and_adopts() {
    let hive = Unit::start(json!([sleeper("a")])).await;
    let before = hive.api().worker_in_state("g/a", "ready").await;
    let killed = unit::main_pid("rbee-hive");
    proc::signal(killed, Signal::SIGKILL);
    eventually(PATIENCE, async || match unit::main_pid("rbee-hive") {
        pid if pid != 0 && pid != killed => Ok(()),
        pid => Err(pid),
    })
    .await;
    hive.listening().await;
    let after = hive.api().worker_when("g/a", PATIENCE, |w| w["adopted"] == true).await;
    assert_eq!((&after["pid"], &after["state"]), (&before["pid"], &json!("ready")));
}

#[actix_web::test]
async fn a_stopped_hive_leaves_its_workers_and_a_stopped_place_ends_them() {
    let hive = Unit::start(json!([restarting("a", "exec sleep 86400")])).await;
    let worker = hive.api().worker_in_state("g/a", "ready").await;
    run("systemctl stop rbee-hive");
    assert!(proc::alive(main_of(&worker)));
    assert_eq!(
        (unit::state("rbee-hive"), unit::state("rbee-workers")),
        ("inactive".into(), "active".into())
    );

    run("systemctl start rbee-hive");
    hive.listening().await;
    let found = hive.api().worker_when("g/a", PATIENCE, |w| w["adopted"] == true).await;
    assert_eq!(found["pid"], worker["pid"]);

    run("systemctl stop rbee-workers");
    assert!(!proc::alive(main_of(&worker)));
    assert_eq!(unit::state("rbee-hive"), "inactive");
    assert!(!Path::new(ROOT).join("rbee.slice/rbee-workers.service").exists());

    run("systemctl start rbee-hive");
    hive.listening().await;
    let fresh = hive
        .api()
        .worker_when("g/a", PATIENCE, |w| w["state"] == "ready" && w["pid"] != worker["pid"])
        .await;
    assert_eq!(
        proc::cgroup_of(main_of(&fresh)).unwrap(),
        Path::new(ROOT).join(WORKERS).join("g/a")
    );
}

#[actix_web::test]
async fn a_reload_takes_the_list_of_workers_and_touches_nothing_else() {
    let hive = Unit::start(json!([sleeper("stays"), sleeper("goes")])).await;
    let stays = hive.api().worker_in_state("g/stays", "ready").await;
    let goes = hive.api().worker_in_state("g/goes", "ready").await;
    let (pid, by_api) = (unit::main_pid("rbee-hive"), hive.api().spawn(sleeper("api")).await);
    hive.configure(json!([sleeper("stays"), sleeper("comes")]));
    run("systemctl reload rbee-hive");
    hive.api().worker_when("g/comes", PATIENCE, |w| w["state"] == "ready").await;
    eventually(secs(10), async || {
        let answer = hive.api().get("/v1/workers/g/goes").await;
        if answer.status == 404 { Ok(()) } else { Err(answer.text) }
    })
    .await;
    assert!(!proc::exists(main_of(&goes)));
    for (name, before) in [("g/stays", stays), ("g/api", by_api)] {
        assert_eq!(hive.api().worker(name).await["pid"], before["pid"]);
    }
    assert_eq!(unit::main_pid("rbee-hive"), pid);
}

#[actix_web::test]
async fn limits_outlast_a_reload_of_systemd_and_a_new_limit_of_the_slice() {
    let mut spec = sleeper("a");
    spec["cpu_limit"] = json!("50%");
    spec["memory_limit"] = json!("64M");
    let hive = Unit::start(json!([spec])).await;
    let worker = hive.api().worker_in_state("g/a", "ready").await;
    assert_eq!(worker["limits_applied"], true);
    for change in [
        "daemon-reload",
        "daemon-reexec",
        "set-property --runtime rbee.slice MemoryMax=1G CPUQuota=150%",
        "set-property --runtime rbee-workers.service TasksMax=5000",
        "revert rbee.slice rbee-workers.service",
        "daemon-reload",
    ] {
        run(&format!("systemctl {change}"));
        assert_eq!(cgroup_file(&worker, "cpu.max"), "50000 100000", "after {change}");
        assert_eq!(cgroup_file(&worker, "memory.max"), "67108864", "after {change}");
    }
    let other = hive.api().spawn({
        let mut spec = sleeper("b");
        spec["memory_limit"] = json!("32M");
        spec
    });
    assert_eq!(cgroup_file(&other.await, "memory.max"), "33554432");
}

#[actix_web::test]
async fn a_worker_that_is_killed_for_memory_is_no_failure_of_the_unit() {
    let greedy = "sleep 1; exec dd if=/dev/zero of=/dev/null bs=300M";
    let mut spec = restarting("greedy", greedy);
    spec["memory_limit"] = json!("64M");
    let hive = Unit::start(json!([spec, sleeper("other")])).await;
    let other = hive.api().worker_in_state("g/other", "ready").await;
    let again = |w: &serde_json::Value| {
        w["restarts"].as_u64() >= Some(2) && w["last_exit"]["oom_killed"].as_u64() > Some(0)
    };
    hive.api().worker_when("g/greedy", PATIENCE, again).await;
    assert_eq!(
        (unit::state("rbee-hive"), unit::state("rbee-workers")),
        ("active".into(), "active".into())
    );
    assert_eq!(hive.api().worker("g/other").await["pid"], other["pid"]);
}
