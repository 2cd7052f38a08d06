//! After a reboot in order: nothing of what ran is there, and what was wanted is started again.

use crate::{
    machine::{PATIENCE, ROOT, main_pid, run},
    support::proc,
    unit::{Unit, WORKERS},
};
use serde_json::json;
use std::path::Path;

#[actix_web::test]
async fn what_was_wanted_from_the_file_and_from_the_api_is_started_again() {
    run("! cmp -s /proc/sys/kernel/random/boot_id /var/lib/boot-before");
    let hive = Unit::found().await;
    for name in ["file", "api"] {
        let path = format!("g/{name}");
        let worker = hive.api().worker_when(&path, PATIENCE, |w| w["state"] == "ready").await;
        assert_eq!((&worker["adopted"], &worker["isolation"]), (&json!(false), &json!("cgroup")));
        let own = Path::new(ROOT).join(WORKERS).join(&path);
        assert_eq!(proc::cgroup_of(main_pid(&worker)).unwrap(), own);
    }
    assert_eq!(hive.api().worker("g/stopped").await["state"], "stopped");
    run("systemctl disable rbee-hive 2>&1");
}
