//! The command line and the configuration: what is wrong is said at once, and all of it.

use crate::support::{Site, as_str, rbee};
use serde_json::{Value, json};
use std::process::Output;

fn check(site: &Site, config: &Value, variables: &[(&str, &str)]) -> Output {
    let path = site.write("checked", config);
    rbee(&["--config", as_str(&path), "--check"], variables)
}

fn printed(output: &Output) -> String {
    let both = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&both).into_owned()
}

#[track_caller]
fn assert_ended(output: &Output, status: i32) {
    assert_eq!(output.status.code(), Some(status), "{}", printed(output));
}

/// Asserts that the configuration is refused, with one line for each of these.
#[track_caller]
fn assert_refused(output: &Output, lines: &[[&str; 3]]) {
    assert_ended(output, 78);
    let text = printed(output);
    for parts in lines {
        let line = text.lines().find(|line| parts.iter().all(|part| line.contains(part)));
        assert!(line.is_some(), "no line with {parts:?} in:\n{text}");
    }
}

fn both_roles(site: &Site) -> Value {
    let mut config = site.hive_config(None);
    config["queen"] = site.queen_config()["queen"].clone();
    config
}

#[test]
fn a_good_configuration_passes_the_check() {
    let site = Site::new();
    let mut config = both_roles(&site);
    config["hive"]["workers"] = json!([{
        "group": "g", "instance": "8080", "command": "/bin/sleep", "args": ["1"],
        "cpu_limit": "200%", "memory_limit": "4G", "stop_grace_ms": 100,
        "restart": {"policy": "always", "max_restarts": 3, "window_s": 10},
        "ready": {"http": "http://127.0.0.1:8080/health"},
    }]);
    assert_ended(&check(&site, &config, &[]), 0);
}

#[test]
fn the_files_that_come_with_it_pass_the_check() {
    for name in ["local", "hive", "queen"] {
        let path = format!("{}/config/{name}.toml", env!("CARGO_MANIFEST_DIR"));
        assert_ended(&rbee(&["--config", &path, "--check"], &[]), 0);
    }
}

#[test]
fn everything_wrong_is_listed_with_its_key_its_value_and_what_is_allowed() {
    let site = Site::new();
    let mut config = both_roles(&site);
    config["hive"]["bind"] = json!("nowhere");
    config["hive"]["heartbeat_interval_ms"] = json!(-5);
    config["hive"]["on_exit"] = json!("explode");
    config["hive"]["cgroup"]["mode"] = json!("sometimes");
    config["hive"]["colour"] = json!("red");
    config["hive"]["workers"] =
        json!([{"group": "g", "instance": "1", "command": "/bin/true", "cpu_limit": "lots"}]);
    config["queen"]["degraded_after_ms"] = json!("soon");
    assert_refused(
        &check(&site, &config, &[]),
        &[
            ["hive.bind", "nowhere", ""],
            ["hive.heartbeat_interval_ms", "-5", ""],
            ["hive.on_exit", "explode", "leave"],
            ["hive.cgroup.mode", "sometimes", "require"],
            ["hive.colour", "red", "on_exit"],
            ["hive.workers[0].cpu_limit", "lots", "%"],
            ["queen.degraded_after_ms", "soon", ""],
        ],
    );
}

#[test]
fn what_is_no_toml_and_what_is_not_there_are_refused_by_name() {
    let site = Site::new();
    let path = site.path("broken.toml");
    std::fs::write(&path, "[hive\nid =").unwrap();
    let output = rbee(&["--config", as_str(&path), "--check"], &[]);
    assert_refused(&output, &[["broken.toml", "", ""]]);
    let output = rbee(&["--config", as_str(&site.path("absent.toml"))], &[]);
    assert_refused(&output, &[["absent.toml", "", ""]]);
    std::fs::write(&path, "").unwrap();
    let output = rbee(&["--config", as_str(&path)], &[]);
    assert_refused(&output, &[["[hive]", "[queen]", ""]]);
}

#[test]
fn nothing_is_started_from_a_configuration_with_a_fault() {
    let site = Site::new();
    let witness = site.path("witness");
    let mut config = site.hive_config(None);
    config["hive"]["workers"] =
        json!([{"group": "g", "instance": "1", "command": "/bin/touch", "args": [witness]}]);
    config["hive"]["colour"] = json!("red");
    let path = site.write("faulty", &config);
    assert_refused(&rbee(&["--config", as_str(&path)], &[]), &[["hive.colour", "red", ""]]);
    assert!(!witness.exists() && !site.path("state").exists());
}

#[test]
fn the_environment_overrides_the_file() {
    let site = Site::new();
    let mut config = site.hive_config(None);
    config["hive"]["bind"] = json!("nowhere");
    assert_ended(&check(&site, &config, &[]), 78);
    assert_ended(&check(&site, &config, &[("RBEE__HIVE__BIND", "127.0.0.1:0")]), 0);

    let config = site.hive_config(None);
    let output = check(&site, &config, &[("RBEE__HIVE__CGROUP__MODE", "sometimes")]);
    assert_refused(&output, &[["hive.cgroup.mode", "sometimes", "auto"]]);
    let output = check(&site, &config, &[("RBEE__HIVE__COLOUR", "red")]);
    assert_refused(&output, &[["colour", "red", ""]]);
    let number = [("RBEE__HIVE__HEARTBEAT_INTERVAL_MS", "250")];
    assert_ended(&check(&site, &config, &number), 0);
}

#[test]
fn an_address_for_others_needs_insistence() {
    let site = Site::new();
    for role in ["hive", "queen"] {
        let mut config = both_roles(&site);
        config[role]["bind"] = json!("0.0.0.0:0");
        let key = format!("{role}.bind");
        assert_refused(&check(&site, &config, &[]), &[[&key, "0.0.0.0:0", "--insecure"]]);
        let path = site.write("insecure", &config);
        let output = rbee(&["--config", as_str(&path), "--insecure", "--check"], &[]);
        assert_ended(&output, 0);
    }
}

#[test]
fn a_bad_command_line_is_told_from_a_bad_configuration() {
    assert_ended(&rbee(&[], &[]), 64);
    assert_ended(&rbee(&["--nonsense"], &[]), 64);
    assert_ended(&rbee(&["echo-worker", "--port", "many"], &[]), 64);
    let version = rbee(&["--version"], &[]);
    assert_ended(&version, 0);
    assert!(printed(&version).contains(env!("CARGO_PKG_VERSION")));
    let help = rbee(&["--help"], &[]);
    assert_ended(&help, 0);
    assert!(printed(&help).contains("--config") && printed(&help).contains("echo-worker"));
}
