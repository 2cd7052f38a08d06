//! `rbee doctor` on machines that are well, and on broken ones.

use crate::support::{Gpus, Site, as_str, free_port, ms, proc, rbee, ready_workers, secs};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt};

/// The findings, and whether all is well by the exit status too.
fn findings(site: &Site, config: &Value) -> (bool, Vec<Value>) {
    let path = site.write("examined", config);
    let output = rbee(&["doctor", "--config", as_str(&path), "--json", "--timeout", "2"], &[]);
    let text = String::from_utf8_lossy(&output.stdout);
    let report: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    let code = output.status.code().unwrap();
    assert_eq!(report["ok"], code == 0, "{report}");
    assert!(code == 0 || code == 1, "{code}");
    (code == 0, report["findings"].as_array().unwrap().clone())
}

/// The one about this with this mark; what is wrong says what to do.
#[track_caller]
fn found(findings: &[Value], about: &str, mark: &str) -> String {
    let one = findings.iter().find(|f| f["about"] == about && f["mark"] == mark);
    let one = one.unwrap_or_else(|| panic!("no {mark} about {about}: {findings:#?}"));
    assert_eq!(one["remedy"].is_string(), mark != "ok", "{one}");
    one["found"].as_str().unwrap().to_owned()
}

fn sleeper() -> Value {
    json!({"group": "g", "instance": "a", "command": "/bin/sleep", "args": ["86400"], "model": "m"})
}

#[actix_web::test]
async fn a_whole_chain_is_well() {
    let site = Site::new();
    let bind = format!("127.0.0.1:{}", free_port());
    let mut config = site.hive_config(Some(&format!("http://{bind}")));
    config["queen"] = json!({"bind": bind});
    config["hive"]["bind"] = json!(format!("127.0.0.1:{}", free_port()));
    config["hive"]["workers"] = json!([sleeper()]);
    let both = site.start("both", &config).await;
    ready_workers(both.queen(), 1, secs(5)).await;
    let (well, all) = findings(&site, &config);
    assert!(well, "{all:#?}");
    let pid = format!("(pid {})", both.pid());
    for about in ["queen's port", "hive's port"] {
        assert!(found(&all, about, "ok").contains(&pid));
    }
    for about in [
        "configuration",
        "state_dir",
        "open files",
        "worker command",
        "workers",
        "queen",
        "heartbeats",
        "stream",
    ] {
        found(&all, about, "ok");
    }
    let path = site.write("examined", &config);
    let output = rbee(&["doctor", "--config", as_str(&path)], &[]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("ok   stream         flows"), "{text}");
}

#[actix_web::test]
async fn a_machine_on_which_much_is_wrong_is_told_all_of_it() {
    let site = Site::new();
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = site.hive_config(None);
    config["hive"]["bind"] = json!(holder.local_addr().unwrap().to_string());
    config["hive"]["cgroup"] = json!({"mode": "require", "root": site.path("no-tree")});
    config["hive"]["workers"] = json!([
        {"group": "g", "instance": "a", "command": "/no/such/program"},
    ]);
    fs::create_dir(site.path("state")).unwrap();
    fs::set_permissions(site.path("state"), fs::Permissions::from_mode(0o777)).unwrap();
    let (well, all) = findings(&site, &config);
    assert!(!well);
    assert!(found(&all, "cgroup", "fail").contains("no-tree"));
    assert!(found(&all, "state_dir", "fail").contains("0777"));
    assert!(found(&all, "worker command", "fail").contains("/no/such/program"));
    let port = found(&all, "hive's port", "fail");
    assert!(port.contains(&format!("(pid {})", std::process::id())), "{port}");
    assert!(found(&all, "queen", "fail").contains("is it running?"));
}

#[test]
fn a_bad_file_is_told_problem_by_problem() {
    let site = Site::new();
    let mut config = site.hive_config(None);
    config["hive"]["sample_interval_ms"] = json!(0);
    config["hive"]["colour"] = json!("red");
    let (well, all) = findings(&site, &config);
    assert!(!well && all.len() == 2, "{all:#?}");
    assert!(
        all.iter().all(|finding| finding["about"] == "configuration" && finding["mark"] == "fail")
    );
}

#[actix_web::test]
async fn a_worker_that_dies_and_a_queen_that_is_gone_are_told() {
    let site = Site::new();
    let mut queen = site.start("queen", &site.queen_config()).await;
    let mut config = site.hive_config(Some(queen.queen().url()));
    config["hive"]["bind"] = json!(format!("127.0.0.1:{}", free_port()));
    let mut worker = sleeper();
    worker["restart"] = json!({"policy": "never"});
    config["hive"]["workers"] = json!([worker]);
    let hive = site.start("hive", &config).await;
    let pid = ready_workers(queen.queen(), 1, secs(5)).await[0]["pid"].as_u64().unwrap() as u32;
    proc::signal(pid, Signal::SIGKILL);
    hive.hive().worker_in_state("g/a", "failed").await;
    let (well, all) = findings(&site, &config);
    assert!(!well);
    assert!(found(&all, "workers", "fail").contains("g/a is failed: SIGKILL"));
    found(&all, "stream", "ok");
    assert!(queen.terminate(secs(5)).await.success());
    let (_, all) = findings(&site, &config);
    assert!(found(&all, "queen", "fail").contains("queen not reachable"));
}

#[actix_web::test]
async fn a_hive_that_its_queen_does_not_hear_is_told() {
    let site = Site::new();
    let queen = site.start("queen", &site.queen_config()).await;
    let mut config = site.hive_config(None);
    config["hive"]["bind"] = json!(format!("127.0.0.1:{}", free_port()));
    let _hive = site.start("hive", &config).await;
    // As if the file had been changed, and the hive not been started again.
    config["hive"]["queen_urls"] = json!([queen.queen().url()]);
    let (well, all) = findings(&site, &config);
    assert!(!well);
    assert!(found(&all, "heartbeats", "fail").contains("does not know test-hive"));
}

#[actix_web::test]
async fn gpus_are_asked_column_by_column() {
    let site = Site::new();
    let config = |gpus: &Gpus| {
        let mut config = gpus.hive_config(None);
        config["hive"]["bind"] = json!(format!("127.0.0.1:{}", free_port()));
        config["hive"]["gpu"]["timeout_ms"] = json!(500);
        config
    };
    let gpus = Gpus::new(&site, "library fail\n");
    const PMON: &str = "# gpu         pid   type     sm    mem    enc    dec    jpg    ofa    command \n\
                        # Idx           #    C/G      %      %      %      %      %      %    name \n    \
                        0          -     -      -      -      -      -      -      -    -              \n";
    let query = "0, GPU-aaaaaaaa, NVIDIA A100, 60, 40000, 31000, [N/A], [N/A], 0, Disabled\n";
    gpus.smi("ok", query, "", PMON);
    let mut smi = config(&gpus);
    smi["hive"]["gpu"]["source"] = json!("nvidia-smi");
    let (_, all) = findings(&site, &smi);
    let columns = found(&all, "gpu", "warn");
    assert!(columns.contains("A100") && columns.contains("temperature, power"), "{columns}");
    gpus.smi("hang", "", "", "");
    let start = std::time::Instant::now();
    let (well, all) = findings(&site, &smi);
    assert!(!well && start.elapsed() < ms(9_000));
    assert!(found(&all, "gpu", "fail").contains("nvidia-smi"));
}
