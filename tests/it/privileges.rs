//! What a worker may do: no more than its hive was given, and less where its spec says so.

use crate::support::{Site, eventually, secs};
use serde_json::{Value, json};
use std::fs;

fn status_of(pid: u64, key: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    line.trim_start_matches(':').split_ascii_whitespace().collect::<Vec<_>>().join(" ")
}

fn open_files(pid: u32) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    text.lines().find(|line| line.starts_with("Max open files")).unwrap().to_owned()
}

#[actix_web::test]
async fn a_root_hive_starts_a_worker_as_the_user_of_its_spec() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let site = Site::new();
    let spec = json!({
        "group": "g", "instance": "a", "command": "/bin/sh", "user": "nobody", "cwd": "/",
        "args": ["-c", "echo home=$HOME user=$USER; exec /bin/sleep 86400"],
    });
    let hive = site.start_hive(json!([spec])).await;
    let worker = hive.hive().worker_in_state("g/a", "ready").await;
    let pid = worker["pid"].as_u64().unwrap();
    let user = nix::unistd::User::from_name("nobody").unwrap().unwrap();
    let four = |id: u32| [id; 4].map(|id| id.to_string()).join(" ");
    assert_eq!(status_of(pid, "Uid"), four(user.uid.as_raw()));
    assert_eq!(status_of(pid, "Gid"), four(user.gid.as_raw()));
    assert!(!status_of(pid, "Groups").split(' ').any(|group| group == "0"), "not in root's group");
    assert_eq!(status_of(pid, "NoNewPrivs"), "1");
    assert_eq!(status_of(pid, "CapEff"), "0000000000000000");
    let log = eventually(secs(5), async || {
        let text = hive.hive().get("/v1/workers/g/a/logs").await.text;
        if text.is_empty() { Err(text) } else { Ok(text) }
    });
    assert_eq!(log.await, format!("home={} user=nobody\n", user.dir.display()));
}

#[actix_web::test]
async fn an_unknown_user_is_refused_with_its_key() {
    let site = Site::new();
    let hive = site.start_hive(json!([])).await;
    let spec =
        json!({"group": "g", "instance": "a", "command": "/bin/sleep", "user": "no-such-user"});
    let refused = hive.hive().post("/v1/workers", spec).await;
    assert_eq!(refused.status, 422);
    assert!(refused.text.contains("user"), "{}", refused.text);
}

#[actix_web::test]
async fn file_limits_and_oom_score_are_what_the_hive_was_started_with() {
    let site = Site::new();
    let spec = json!({"group": "g", "instance": "a", "command": "/bin/sleep", "args": ["86400"]});
    let hive = site.start_hive(json!([spec])).await;
    let worker = hive.hive().worker_in_state("g/a", "ready").await;
    let pid = worker["pid"].as_u64().unwrap() as u32;
    // The hive was started by this test and got the same.
    assert_eq!(open_files(pid), open_files(std::process::id()));
    let score = |pid: u32| fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap();
    assert_eq!(score(pid), score(std::process::id()));
}

#[actix_web::test]
async fn the_hives_own_secrets_are_not_in_a_workers_environment() {
    let site = Site::new();
    let spec = json!({
        "group": "g", "instance": "a", "command": "/bin/sh", "env": {"MINE": "yes"},
        "args": ["-c", "env; exec /bin/sleep 86400"],
    });
    let hive = site.start_hive(json!([spec])).await;
    let log = eventually(secs(5), async || {
        let text = hive.hive().get("/v1/workers/g/a/logs").await.text;
        if text.contains("MINE=") { Ok(text) } else { Err(text) }
    })
    .await;
    let names: Vec<_> = log.lines().filter_map(|line| line.split('=').next()).collect();
    assert!(names.contains(&"PYTHONUNBUFFERED") && names.contains(&"PATH"));
    let ours: Vec<_> = names.iter().filter(|name| name.starts_with("RBEE")).collect();
    assert_eq!(ours, [&"RBEE_RUN_ID"]);
    let worker: Value = hive.hive().worker("g/a").await;
    let line = fs::read(format!("/proc/{}/cmdline", worker["pid"])).unwrap();
    assert!(!String::from_utf8_lossy(&line).contains("RBEE"));
}
