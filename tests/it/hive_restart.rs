//! A hive that ends and another that starts: nothing of the workers is lost, and nothing is invented.

use crate::support::{Api, RBEE, Site, eventually, free_port, proc, rbee, secs};
use awc::Client;
use futures_util::StreamExt;
use nix::{
    sys::{signal::Signal, stat::Mode},
    unistd::mkfifo,
};
use serde_json::{Value, json};
use std::{fs, path::PathBuf};

fn sleeper(instance: &str) -> Value {
    json!({"group": "g", "instance": instance, "command": "/bin/sleep", "args": ["86400"]})
}

fn main_pid(worker: &Value) -> u32 {
    worker["pid"].as_u64().expect("it has a PID") as u32
}

/// A hive whose workers outlive it.
fn leaving(site: &Site, workers: Value) -> Value {
    let mut config = site.hive_config(None);
    config["hive"]["on_exit"] = json!("leave");
    config["hive"]["workers"] = workers;
    config
}

fn record(site: &Site, instance: &str) -> PathBuf {
    site.path(&format!("state/workers/g/{instance}.json"))
}

#[actix_web::test]
async fn a_request_in_flight_does_not_notice_that_its_hive_was_killed_and_replaced() {
    let site = Site::new();
    let port = free_port().to_string();
    let echo = json!({
        "group": "g", "instance": port, "command": RBEE,
        "args": ["echo-worker", "--port", port, "--delay-ms", "100"],
        "ready": {"http": format!("http://127.0.0.1:{port}/health"), "interval_ms": 20},
    });
    let config = leaving(&site, json!([echo]));
    let mut hive = site.start("hive", &config).await;
    let before = hive.hive().worker_in_state(&format!("g/{port}"), "ready").await;
    let prompt = (0..20).map(|n| format!("w{n}")).collect::<Vec<_>>().join(" ");
    let body =
        json!({"stream": true, "messages": [{"role": "user", "content": prompt}]}).to_string();
    let url = format!("http://127.0.0.1:{port}/v1/chat/completions");
    let request = Client::new().post(url).content_type("application/json").send_body(body);
    let mut answer = request.await.expect("an answer begins");
    let first = answer.next().await.expect("a chunk").expect("unbroken");
    let mut text = first.to_vec();

    hive.kill();
    let hive = site.start("hive", &config).await;
    let after = hive.hive().worker_in_state(&format!("g/{port}"), "ready").await;
    assert_eq!(after["pid"], before["pid"]);
    while let Some(chunk) = answer.next().await {
        text.extend_from_slice(&chunk.expect("unbroken"));
    }
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("w19") && text.trim_end().ends_with("data: [DONE]"), "{text}");
}

#[actix_web::test]
async fn the_end_of_an_adopted_worker_is_noticed_at_once_and_followed_by_another_start() {
    let site = Site::new();
    let mut spec = sleeper("a");
    spec["restart"] = json!({"backoff_ms": 20, "backoff_max_ms": 20});
    let config = leaving(&site, json!([spec]));
    let mut hive = site.start("hive", &config).await;
    let first = main_pid(&hive.hive().worker_in_state("g/a", "ready").await);
    hive.kill();
    let hive = site.start("hive", &config).await;
    hive.hive().worker_when("g/a", secs(5), |worker| worker["adopted"] == true).await;
    proc::signal(first, Signal::SIGKILL);
    let again = |w: &Value| w["state"] == "ready" && w["restarts"] == 1 && w["pid"] != first;
    let worker = hive.hive().worker_when("g/a", secs(5), again).await;
    let exit = &worker["last_exit"];
    assert_eq!(exit["next"], "backoff");
    // Only the parent of a process is told how it ended.
    assert_eq!((&exit["code"], &exit["signal"]), (&Value::Null, &Value::Null));
    assert_eq!(worker["adopted"], false);
}

#[actix_web::test]
async fn a_damaged_record_costs_that_workers_spec_and_nothing_else() {
    for mode in ["auto", "off"] {
        let site = Site::new();
        let mut config = leaving(&site, json!([]));
        config["hive"]["cgroup"]["mode"] = json!(mode);
        let mut hive = site.start("hive", &config).await;
        let names = ["cut", "rubbish", "fifo", "other", "whole"];
        let mut pids = Vec::new();
        for name in names {
            pids.push(main_pid(&hive.hive().spawn(sleeper(name)).await));
        }
        hive.kill();
        let text = fs::read_to_string(record(&site, "cut")).unwrap();
        fs::write(record(&site, "cut"), &text[..text.len() / 2]).unwrap();
        fs::write(record(&site, "rubbish"), [0xff, 0, 0xfe]).unwrap();
        fs::remove_file(record(&site, "fifo")).unwrap();
        mkfifo(&record(&site, "fifo"), Mode::S_IRWXU).unwrap();
        fs::copy(record(&site, "whole"), record(&site, "other")).unwrap();

        let mut hive = site.start("hive", &config).await;
        for (name, pid) in names.iter().zip(&pids) {
            let worker = hive.hive().worker_in_state(&format!("g/{name}"), "ready").await;
            assert_eq!(worker["pid"], *pid, "{mode} {name}");
            assert_eq!(worker["adopted"], true, "{mode} {name}");
            assert_eq!(worker["spec"].is_null(), *name != "whole", "{mode} {name}");
        }
        hive.log_line(|line| (line.contains("damaged") && line.contains("g/cut")).then_some(()))
            .await;
        let refused = hive.hive().post("/v1/workers/g/cut/restart", json!({})).await;
        assert_eq!(refused.status, 409, "nobody knows how it was started: {}", refused.text);
        for name in names {
            hive.hive().delete(&format!("/v1/workers/g/{name}")).await.expect(200);
        }
        // Whoever took them in when their hive was killed reaps them in its own time.
        assert!(pids.iter().all(|pid| !proc::alive(*pid)));
    }
}

#[actix_web::test]
async fn after_a_reboot_all_that_was_wanted_starts_again() {
    let site = Site::new();
    let mut rests = sleeper("rests");
    rests["command"] = json!("/bin/true");
    rests["args"] = json!([]);
    let config = leaving(&site, json!([sleeper("from-file"), rests]));
    let mut hive = site.start("hive", &config).await;
    let names = ["from-file", "by-api"];
    let mut before = vec![hive.hive().worker_in_state("g/from-file", "ready").await];
    before.push(hive.hive().spawn(sleeper("by-api")).await);
    hive.hive().worker_in_state("g/rests", "stopped").await;
    hive.kill();
    // What a reboot does: processes are gone, and the kernel's id is another one. The PIDs in the
    // records may belong to anybody now; here they belong to strangers who must not be touched.
    let strangers: Vec<u32> = before.iter().map(main_pid).collect();
    for name in names {
        let text = fs::read_to_string(record(&site, name)).unwrap();
        let mut json: Value = serde_json::from_str(&text).unwrap();
        json["run"]["boot_id"] = json!("another-boot");
        json["run"]["run_id"] = json!("another-run");
        json["run"]["isolation"] = json!("plain");
        fs::write(record(&site, name), json.to_string()).unwrap();
    }
    let mut elsewhere = config.clone();
    elsewhere["hive"]["cgroup"]["slice"] = json!(format!("{}-b.slice", site.unique()));
    let hive = site.start("hive", &elsewhere).await;
    for (name, stranger) in names.iter().zip(&strangers) {
        let worker = hive.hive().worker_in_state(&format!("g/{name}"), "ready").await;
        assert_ne!(main_pid(&worker), *stranger, "{name}");
        assert_eq!(worker["adopted"], false, "{name}");
        assert!(proc::alive(*stranger), "{name}");
    }
    assert_eq!(hive.hive().worker("g/rests").await["state"], "stopped", "it had ended by itself");
    for name in ["from-file", "by-api"] {
        hive.hive().delete(&format!("/v1/workers/g/{name}")).await.expect(200);
    }
}

#[actix_web::test]
async fn a_pid_that_was_used_again_is_not_taken_for_the_worker() {
    let site = Site::new();
    let config = leaving(&site, json!([sleeper("a")]));
    let mut hive = site.start("hive", &config).await;
    let first = main_pid(&hive.hive().worker_in_state("g/a", "ready").await);
    hive.kill();
    let text = fs::read_to_string(record(&site, "a")).unwrap();
    let mut json: Value = serde_json::from_str(&text).unwrap();
    // This very test stands in for the process that got the PID.
    json["run"]["main"]["pid"] = json!(std::process::id());
    fs::write(record(&site, "a"), json.to_string()).unwrap();
    let hive = site.start("hive", &config).await;
    let worker = hive.hive().worker_in_state("g/a", "ready").await;
    assert_ne!(main_pid(&worker), std::process::id());
    assert!(!proc::alive(first), "what was left in its cgroup went first");
    hive.hive().delete("/v1/workers/g/a").await.expect(200);
}

#[actix_web::test]
async fn a_failed_worker_stays_failed_and_its_death_explained() {
    let site = Site::new();
    let spec = json!({
        "group": "g", "instance": "a", "command": "/bin/sh",
        "args": ["-c", "echo why; exit 7"], "restart": {"policy": "never"},
    });
    let config = leaving(&site, json!([spec]));
    let mut hive = site.start("hive", &config).await;
    let before = hive.hive().worker_in_state("g/a", "failed").await;
    hive.terminate(secs(3)).await;
    let hive = site.start("hive", &config).await;
    let after = hive.hive().worker("g/a").await;
    assert_eq!(after["state"], "failed");
    assert_eq!(after["last_exit"], before["last_exit"]);
}

#[actix_web::test]
async fn a_spec_that_changed_is_shown_and_applied_by_a_restart() {
    let site = Site::new();
    let config = leaving(&site, json!([sleeper("a")]));
    let mut hive = site.start("hive", &config).await;
    let before = hive.hive().worker_in_state("g/a", "ready").await;
    hive.terminate(secs(3)).await;
    let mut changed = config.clone();
    changed["hive"]["workers"][0]["args"] = json!(["86401"]);
    let hive = site.start("hive", &changed).await;
    let shown = hive.hive().worker_in_state("g/a", "ready").await;
    assert_eq!((&shown["pid"], &shown["spec_changed"]), (&before["pid"], &json!(true)));
    hive.hive().post("/v1/workers/g/a/restart", json!({})).await.expect(200);
    let applied = hive.hive().worker_in_state("g/a", "ready").await;
    assert_eq!(
        (&applied["spec"]["args"], &applied["spec_changed"]),
        (&json!(["86401"]), &json!(false))
    );
    hive.hive().delete("/v1/workers/g/a").await.expect(200);
}

#[actix_web::test]
async fn a_hive_killed_while_it_starts_workers_loses_none() {
    let site = Site::new();
    let count = 40;
    let specs: Value = (0..count).map(|n| sleeper(&format!("w{n}"))).collect();
    let config = leaving(&site, specs);
    for _ in 0..3 {
        let path = site.write("hive", &config);
        let mut hive = site.spawn("hive", &["--config", path.to_str().unwrap()]);
        // The first ones may have started all of them already.
        let at_work =
            |line: &str| ["started", "found again"].iter().any(|word| line.contains(word));
        hive.log_line(|line| at_work(line).then_some(())).await;
        hive.kill();
    }
    let hive = site.start("hive", &config).await;
    let mut pids = Vec::new();
    for n in 0..count {
        pids.push(main_pid(&hive.hive().worker_in_state(&format!("g/w{n}"), "ready").await));
    }
    eventually(secs(5), async || {
        // One process each, whichever hive started it.
        let slice = proc::cgroup_mount().map(|mount| mount.join(site.slice()));
        let Some(slice) = slice.filter(|slice| slice.exists()) else { return Ok(()) };
        let procs = fs::read_dir(slice.join("g")).unwrap().flatten().map(|dir| {
            fs::read_to_string(dir.path().join("cgroup.procs")).unwrap_or_default().lines().count()
        });
        let procs: Vec<_> = procs.filter(|count| *count > 0).collect();
        if procs == vec![1; count] { Ok(()) } else { Err(procs) }
    })
    .await;
    for n in 0..count {
        hive.hive().delete(&format!("/v1/workers/g/w{n}?grace_ms=500")).await.expect(200);
    }
    // Whoever took them in when their hive was killed reaps them in its own time.
    assert!(pids.iter().all(|pid| !proc::alive(*pid)));
}

#[actix_web::test]
async fn a_second_hive_on_the_same_slice_is_refused() {
    let site = Site::new();
    let first = site.start("hive", &site.hive_config(None)).await;
    let mut config = site.hive_config(None);
    config["hive"]["state_dir"] = json!(site.path("other-state"));
    let path = site.write("second", &config);
    let second = rbee(&["--config", path.to_str().unwrap()], &[]);
    if proc::cgroup_mount().is_some() && nix::unistd::geteuid().is_root() {
        assert_eq!(second.status.code(), Some(1), "{second:?}");
        let said = String::from_utf8_lossy(&second.stderr).into_owned();
        assert!(said.contains("another hive uses the cgroup"), "{said}");
    }
    first.hive().get("/health").await.expect(200);
}

#[actix_web::test]
async fn what_an_earlier_crash_left_empty_is_cleaned_at_the_start() {
    let Some(mount) = proc::cgroup_mount() else { return };
    let site = Site::new();
    let left = mount.join(site.slice()).join("g/left");
    if fs::create_dir_all(&left).is_err() {
        return;
    }
    let hive = site.start_hive(json!([])).await;
    eventually(secs(3), async || if left.exists() { Err("still there") } else { Ok(()) }).await;
    let _: &Api = hive.hive();
}
