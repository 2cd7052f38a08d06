//! Where tokens come from, and what is refused before anything starts.

use super::auth::ADMIN;
use crate::support::{Site, as_str, rbee};
use nix::{sys::stat::Mode, unistd::mkfifo};
use serde_json::{Value, json};
use std::{fs, os::unix::fs::PermissionsExt as _, process::Output};

fn check(site: &Site, config: &Value, variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let path = site.write("checked", config);
    let Output { status, stdout, stderr } =
        rbee(&["--config", as_str(&path), "--check"], variables);
    let text = String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned();
    assert!(!text.contains(ADMIN), "a token is shown: {text}");
    (status.code(), text)
}

fn with_token_file(site: &Site, path: &std::path::Path) -> [(Value, &'static str); 5] {
    let mut all = [
        (site.queen_config(), "queen.auth.token_file"),
        (site.queen_config(), "queen.auth.hive_token_file"),
        (site.queen_config(), "queen.hives[0].token_file"),
        (site.hive_config(None), "hive.admin.token_file"),
        (site.hive_config(None), "hive.queen_token_file"),
    ];
    all[0].0["queen"]["auth"] = json!({"token_file": path});
    all[1].0["queen"]["auth"] = json!({"hive_token_file": path});
    all[2].0["queen"]["hives"] =
        json!([{"id": "a", "url": "http://10.0.0.1:1", "token_file": path}]);
    all[3].0["hive"]["admin"]["token_file"] = json!(path);
    all[4].0["hive"]["queen_token_file"] = json!(path);
    all
}

#[test]
fn a_token_file_that_others_can_read_is_refused_by_name_and_mode() {
    let site = Site::new();
    let path = site.secret("token", ADMIN);
    for (config, _) in with_token_file(&site, &path) {
        assert_eq!(check(&site, &config, &[]).0, Some(0));
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    for (config, key) in with_token_file(&site, &path) {
        let (status, text) = check(&site, &config, &[]);
        assert_eq!(status, Some(78));
        let line = text.lines().find(|line| line.contains(key)).expect("the key is named");
        for part in [as_str(&path), "0644", "0600"] {
            assert!(line.contains(part), "{line}");
        }
    }
}

#[test]
fn what_holds_no_token_is_refused_at_once() {
    let site = Site::new();
    let fifo = site.path("fifo");
    mkfifo(&fifo, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    let huge = site.secret("huge", "");
    fs::OpenOptions::new().write(true).open(&huge).unwrap().set_len(1 << 40).unwrap();
    let odd = site.secret("odd", "two words");
    for path in [&fifo, &huge, &odd, &site.secret("empty", "\n"), &site.path("absent")] {
        for (config, key) in with_token_file(&site, path) {
            let (status, text) = check(&site, &config, &[]);
            assert_eq!(status, Some(78), "{path:?}");
            assert!(text.contains(key) && text.contains(as_str(path)), "{text}");
        }
    }
}

#[test]
fn two_roles_with_one_token_are_refused() {
    let site = Site::new();
    let path = site.secret("token", ADMIN);
    let mut config = site.queen_config();
    config["queen"]["auth"] = json!({"token_file": path, "inference_token_file": path});
    let (status, text) = check(&site, &config, &[]);
    assert_eq!(status, Some(78));
    assert!(text.contains("queen.auth.inference_token_file"), "{text}");
}

#[test]
fn a_token_may_be_in_the_environment_and_not_in_the_file() {
    let site = Site::new();
    for (name, mut config, section, key) in [
        ("RBEE__QUEEN__AUTH__TOKEN", site.queen_config(), "queen", "auth"),
        ("RBEE__HIVE__ADMIN__TOKEN", site.hive_config(None), "hive", "admin"),
    ] {
        assert_eq!(check(&site, &config, &[(name, ADMIN)]).0, Some(0), "{name}");
        assert_eq!(check(&site, &config, &[(name, &format!("{ADMIN} x"))]).0, Some(78));
        let misspelt = name.replace("TOKEN", "TOKN_SECRET");
        assert_eq!(check(&site, &config, &[(&misspelt, ADMIN)]).0, Some(78));
        config[section][key] = json!({"token": ADMIN});
        let (status, text) = check(&site, &config, &[]);
        assert_eq!(status, Some(78));
        assert!(text.contains(&format!("{section}.{key}.token_file")), "{text}");
    }
}

#[test]
fn a_file_that_is_no_toml_is_refused_without_its_text() {
    let site = Site::new();
    let path = site.path("broken.toml");
    fs::write(&path, format!("[queen]\n[queen.auth]\ntoken = {ADMIN}\n")).unwrap();
    let output = rbee(&["--config", as_str(&path), "--check"], &[]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(78));
    assert!(text.contains("line 3") && !text.contains(ADMIN), "{text}");
}

#[test]
fn a_token_opens_the_address_to_others() {
    let site = Site::new();
    let token = site.secret("token", ADMIN);
    let (mut queen, mut hive) = (site.queen_config(), site.hive_config(None));
    queen["queen"]["bind"] = json!("0.0.0.0:0");
    hive["hive"]["bind"] = json!("0.0.0.0:0");
    assert_eq!(check(&site, &queen, &[]).0, Some(78));
    assert_eq!(check(&site, &hive, &[]).0, Some(78));
    queen["queen"]["auth"] = json!({"token_file": token});
    hive["hive"]["admin"]["token_file"] = json!(token);
    assert_eq!(check(&site, &queen, &[]).0, Some(0));
    assert_eq!(check(&site, &hive, &[]).0, Some(0));
}

#[test]
fn allowed_hosts_and_addresses_with_tls_are_checked() {
    let site = Site::new();
    let mut config = site.queen_config();
    config["queen"]["allowed_hosts"] = json!(["rbee.example", "*", "http://x"]);
    config["queen"]["hives"] = json!([{"id": "a", "url": "https://10.0.0.1:1"}]);
    config["queen"]["tls"] = json!({"cert_file": "/absent.pem"});
    // Nobody is trusted by this system.
    let (status, text) = check(&site, &config, &[("SSL_CERT_FILE", "/absent.pem")]);
    assert_eq!(status, Some(78));
    for part in
        ["allowed_hosts[1]", "allowed_hosts[2]", "tls_ca_file", "queen.tls.key_file: is required"]
    {
        assert!(text.contains(part), "no {part} in {text}");
    }
    assert!(!text.contains("allowed_hosts[0]"), "{text}");
}
