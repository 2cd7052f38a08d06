//! No root anywhere: a user's own service manager, and a unit of root's that is a user's.

use crate::{
    machine::{PATIENCE, ROOT, cgroup_file, main_pid, run, sleeper},
    support::{Api, Site, as_str, eventually, proc},
    unit::config,
};
use serde_json::{Value, json};
use std::{fs, path::Path};

const USER: &str = "vm-operator";

fn limited(instance: &str) -> Value {
    let mut spec = sleeper(instance);
    spec["memory_limit"] = json!("64M");
    spec["cpu_limit"] = json!("50%");
    spec
}

fn uid() -> u32 {
    run(&format!("id {USER} >/dev/null 2>&1 || useradd --create-home {USER}"));
    run(&format!("id -u {USER}")).trim().parse().unwrap()
}

/// A command of the user's, with his service manager.
fn as_user(command: &str) -> String {
    let uid = uid();
    run(&format!(
        "cd /home/{USER} && runuser -u {USER} -- env HOME=/home/{USER} XDG_RUNTIME_DIR=/run/user/{uid} {command} 2>&1"
    ))
}

async fn listening(api: &Api) {
    eventually(PATIENCE, async || api.try_get("/health").await.map(|_| ())).await;
}

#[actix_web::test]
async fn a_users_own_service_manager_restarts_the_hive_and_not_the_workers() {
    let (uid, site) = (uid(), Site::new());
    run(&format!("loginctl enable-linger {USER}"));
    let socket = format!("/run/user/{uid}/systemd/private");
    eventually(PATIENCE, async || Path::new(&socket).exists().then_some(()).ok_or("no manager"))
        .await;
    let mut config = config(json!([limited("a")]));
    config["hive"]["bind"] = json!("127.0.0.1:7836");
    let (file, folder) = (site.write("user", &config), format!("/home/{USER}/.config/rbee"));
    run(&format!("install -D -o {USER} {} {folder}/hive.toml", as_str(&file)));
    as_user("systemctl --user start rbee-hive");
    let api = Api::new("http://127.0.0.1:7836".into());
    listening(&api).await;
    let worker = api.worker_in_state("g/a", "ready").await;
    assert_eq!((&worker["isolation"], &worker["limits_applied"]), (&json!("cgroup"), &json!(true)));
    assert_eq!(cgroup_file(&worker, "memory.max"), "67108864");
    let place =
        format!("user.slice/user-{uid}.slice/user@{uid}.service/rbee.slice/rbee-workers.service");
    assert_eq!(
        proc::cgroup_of(main_pid(&worker)).unwrap(),
        Path::new(ROOT).join(place).join("workers/g/a")
    );
    // Debian's user@.service does not delegate it.
    let capability = api.get("/capabilities").await.expect(200)["cgroup"].clone();
    println!("{capability}");
    assert!(capability["reason"].as_str().unwrap().starts_with("no io in "), "{capability}");
    assert_eq!(run(&format!("stat -c %U /proc/{}", main_pid(&worker))).trim(), USER);

    as_user("systemctl --user restart rbee-hive");
    listening(&api).await;
    let after = api.worker_when("g/a", PATIENCE, |w| w["adopted"] == true).await;
    assert_eq!((&after["pid"], &after["state"]), (&worker["pid"], &json!("ready")));

    let units = "/etc/systemd/user/rbee-hive.service /etc/systemd/user/rbee-workers.service";
    assert_eq!(as_user(&format!("systemd-analyze --user verify {units}")), "");
    as_user("systemctl --user stop rbee-workers rbee-hive");
    assert!(!proc::exists(main_pid(&worker)));
    run(&format!("loginctl disable-linger {USER}"));
}

#[actix_web::test]
async fn a_unit_that_is_a_users_and_delegated_holds_hive_and_workers() {
    let (uid, site) = (uid(), Site::new());
    let mut config = config(json!([limited("a")]));
    config["hive"]["bind"] = json!("127.0.0.1:7837");
    config["hive"]["on_exit"] = json!("stop");
    config["hive"]["cgroup"] = json!({"mode": "require", "root": format!("{ROOT}/system.slice/own.service"), "slice": "workers"});
    let file = format!("/home/{USER}/own.toml");
    run(&format!("install -o {USER} {} {file}", as_str(&site.write("own", &config))));
    let unit = format!(
        "[Service]\nType=exec\nUser={uid}\nDelegate=yes\nRestart=on-failure\nExecStart=/usr/local/bin/rbee --config {file}\n"
    );
    fs::write("/run/systemd/system/own.service", unit).unwrap();
    run("systemctl daemon-reload && systemctl start own");
    let api = Api::new("http://127.0.0.1:7837".into());
    listening(&api).await;
    let worker = api.worker_in_state("g/a", "ready").await;
    assert_eq!((&worker["isolation"], &worker["limits_applied"]), (&json!("cgroup"), &json!(true)));
    assert_eq!(cgroup_file(&worker, "memory.max"), "67108864");

    // Here the workers are the unit's: they end with it, and it can be started again.
    run("systemctl restart own");
    listening(&api).await;
    let fresh = api
        .worker_when("g/a", PATIENCE, |w| w["state"] == "ready" && w["pid"] != worker["pid"])
        .await;
    assert_eq!(fresh["limits_applied"], true);
    run("systemctl stop own && rm /run/systemd/system/own.service && systemctl daemon-reload");
    assert!(!proc::exists(main_pid(&fresh)));
    assert!(!Path::new(ROOT).join("system.slice/own.service").exists());
}
