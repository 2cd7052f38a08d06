//! The units are well-formed, and what they take away is nothing that a worker needs.

use crate::{
    machine::{PATIENCE, run, shell, sleeper},
    support::eventually,
    unit::Unit,
};
use serde_json::json;
use std::{fs, path::Path};

#[actix_web::test]
async fn the_units_are_clean() {
    let files = "/etc/systemd/system/rbee-hive.service /etc/systemd/system/rbee-workers.service \
                 /etc/systemd/system/rbee-queen.service /etc/systemd/system/rbee.slice";
    assert_eq!(run(&format!("systemd-analyze verify {files} 2>&1")), "");
}

#[actix_web::test]
async fn a_worker_has_its_home_its_devices_memory_to_run_code_from_and_the_machines_tmp() {
    let script = "set -e; mkdir -p /root/.cache; echo model > /root/.cache/vm-test; \
        echo shared > /tmp/vm-test; \
        head -c 1 /dev/vda | wc -c; \
        perl -e 'exit(syscall(9, 0, 4096, 7, 0x22, -1, 0) == -1)'; \
        echo all of it; exec sleep 86400";
    let hive = Unit::start(json!([shell("needs", script)])).await;
    let log = eventually(PATIENCE, async || {
        let text = hive.api().get("/v1/workers/g/needs/logs").await.text;
        if text.contains("all of it") { Ok(text) } else { Err(text) }
    });
    assert_eq!(log.await, "1\nall of it\n");
    assert_eq!(fs::read_to_string("/tmp/vm-test").unwrap(), "shared\n");
    assert!(Path::new("/root/.cache/vm-test").exists());
}

#[actix_web::test]
async fn a_worker_cannot_change_the_system_or_load_its_kernel_anew() {
    let script =
        "echo x > /usr/vm-test; echo x > /etc/vm-test; cat /dev/kmsg; echo tried; exec sleep 86400";
    let mut spec = sleeper("tries");
    spec["args"] = json!(["-c", script]);
    let hive = Unit::start(json!([spec])).await;
    let log = eventually(PATIENCE, async || {
        let text = hive.api().get("/v1/workers/g/tries/logs").await.text;
        if text.contains("tried") { Ok(text) } else { Err(text) }
    })
    .await;
    assert_eq!(log.matches("Read-only file system").count(), 2, "{log}");
    assert!(!Path::new("/usr/vm-test").exists() && !Path::new("/etc/vm-test").exists());
}

#[actix_web::test]
async fn a_worker_can_be_another_user() {
    let mut spec = shell("user", "id -un; touch ~/vm-test && echo home; exec sleep 86400");
    run("id vm-worker 2>/dev/null || useradd --create-home vm-worker");
    spec["user"] = json!("vm-worker");
    spec["memory_limit"] = json!("64M");
    let hive = Unit::start(json!([spec])).await;
    let worker = hive.api().worker_in_state("g/user", "ready").await;
    assert_eq!(worker["limits_applied"], true);
    let log = eventually(PATIENCE, async || {
        let text = hive.api().get("/v1/workers/g/user/logs").await.text;
        if text.contains("home") { Ok(text) } else { Err(text) }
    });
    assert_eq!(log.await, "vm-worker\nhome\n");
    assert_eq!(hive.api().worker("g/user").await["pid"], worker["pid"]);
}
