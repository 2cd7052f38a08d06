//! The last that happens before the machine is rebooted: `rebooted` finds it.

use crate::{
    machine::{PATIENCE, run, sleeper},
    unit::Unit,
};
use serde_json::json;

#[actix_web::test]
async fn a_hive_that_is_enabled_is_left_with_workers_of_both_kinds() {
    let hive = Unit::start(json!([sleeper("file")])).await;
    run("systemctl enable rbee-hive 2>&1");
    hive.api().worker_when("g/file", PATIENCE, |w| w["state"] == "ready").await;
    hive.api().spawn(sleeper("api")).await;
    let mut stopped = sleeper("stopped");
    stopped["args"] = json!(["-c", "exit 0"]);
    stopped["restart"] = json!({"policy": "on-failure"});
    hive.api().spawn(stopped).await;
    hive.api().worker_in_state("g/stopped", "stopped").await;
    run("cp /proc/sys/kernel/random/boot_id /var/lib/boot-before");
    hive.leave();
}
