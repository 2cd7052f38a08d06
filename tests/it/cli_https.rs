//! The client under https: whom it believes, and what it says where it does not.

use crate::support::{
    Authority, Daemon, Pty, RBEE, Site, as_str, eventually, free_port, proc, rbee, secs,
    without_settings,
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

fn bundle(site: &Site, authority: &Authority) -> PathBuf {
    PathBuf::from(authority.bundle(site).as_str().unwrap())
}

/// Of an authority that has signed nothing here.
fn other_bundle(site: &Site, other: &Authority) -> PathBuf {
    let path = site.path("other-ca.pem");
    std::fs::rename(bundle(site, other), &path).unwrap();
    path
}

/// A queen with TLS, by its https address.
async fn queen(site: &Site, tls: Value) -> (Daemon, String) {
    let mut config = site.queen_config();
    config["queen"]["tls"] = tls;
    let queen = site.start("queen", &config).await;
    let url = format!("https://{}", queen.queen().address());
    (queen, url)
}

fn status(url: &str, ca_file: &Path, variables: &[(&str, &str)]) -> Output {
    rbee(&["status", "--url", url, "--ca-file", as_str(ca_file)], variables)
}

#[track_caller]
fn done(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[track_caller]
fn failed(output: &Output, code: i32, parts: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{said}");
    for part in parts {
        assert!(said.contains(part), "no {part} in {said}");
    }
}

#[actix_web::test]
async fn what_is_asked_over_tls_is_answered_and_followed() {
    let (site, authority) = (Site::new(), Authority::new());
    let ca = bundle(&site, &authority);
    let hive_port = free_port();
    let mut config = site.queen_config();
    config["queen"]["tls"] = authority.issue(&site, "queen");
    config["queen"]["tls_ca_file"] = json!(ca);
    config["queen"]["hives"] =
        json!([{"id": "test-hive", "url": format!("https://127.0.0.1:{hive_port}")}]);
    let queen = site.start("queen", &config).await;
    let url = format!("https://{}", queen.queen().address());
    let mut config = site.hive_config(Some(&url));
    config["hive"]["bind"] = json!(format!("127.0.0.1:{hive_port}"));
    config["hive"]["tls"] = authority.issue(&site, "hive");
    let script = "n=0; while :; do n=$((n+1)); echo line $n; /bin/sleep 0.1; done";
    config["hive"]["workers"] =
        json!([{"group": "g", "instance": "a", "command": "/bin/sh", "args": ["-c", script]}]);
    // Without a file of its own the hive believes whom the system does.
    site.set_variable("SSL_CERT_FILE", as_str(&ca));
    let _hive = site.start("hive", &config).await;

    let variables = [("RBEE_URL", url.as_str()), ("RBEE_CA_FILE", as_str(&ca))];
    eventually(secs(20), async || {
        let said = done(&rbee(&["workers"], &variables));
        if said.contains("test-hive/g/a") { Ok(()) } else { Err(said) }
    })
    .await;
    assert!(done(&status(&url, &ca, &[])).contains(&format!("queen 0.1.0 at {url}")));
    // As the system does, so does the client.
    let of_the_system = [("SSL_CERT_FILE", as_str(&ca))];
    assert!(done(&rbee(&["status", "--url", &url], &of_the_system)).contains("test-hive"));
    let hive_url = format!("https://127.0.0.1:{hive_port}");
    assert!(done(&status(&hive_url, &ca, &[])).contains("hive"));
    done(&rbee(&["restart", "g/a"], &variables));

    let out = site.path("followed");
    let mut follower = without_settings(&mut Command::new(RBEE))
        .args(["logs", "-f", "g/a"])
        .envs(variables)
        .stdout(std::fs::File::create(&out).unwrap())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let follows = eventually(secs(20), async || {
        let said = std::fs::read_to_string(&out).unwrap();
        if said.contains("line 5\n") { Ok(()) } else { Err(said) }
    });
    follows.await;
    proc::signal(follower.id(), Signal::SIGINT);
    let ended = eventually(secs(20), async || follower.try_wait().unwrap().ok_or("follows"));
    assert_eq!(ended.await.code(), Some(0));

    let arguments = ["top", "--url", &url, "--ca-file", as_str(&ca)];
    let mut top = Pty::start(&arguments, 20, 110);
    top.shows(|text| text.contains("test-hive/g/a") && text.contains("ready")).await;
    top.press("q");
    assert_eq!(top.ended(secs(20)).await.code(), Some(0));

    let path = site.write("hive-again", &config);
    let doctor = ["doctor", "--config", as_str(&path), "--json", "--ca-file", as_str(&ca)];
    let report: Value = serde_json::from_slice(&rbee(&doctor, &[]).stdout).unwrap();
    for about in ["hive's port", "queen", "heartbeats", "stream"] {
        let findings = report["findings"].as_array().unwrap();
        let one = findings.iter().find(|finding| finding["about"] == about);
        assert_eq!(one.unwrap_or_else(|| panic!("no {about}: {report}"))["mark"], "ok", "{report}");
    }
}

#[actix_web::test]
async fn who_is_not_trusted_is_told_with_what_to_do() {
    let (site, authority) = (Site::new(), Authority::new());
    let other = other_bundle(&site, &Authority::named("another"));
    let (_queen, url) = queen(&site, authority.issue(&site, "queen")).await;
    let of_the_system = [("SSL_CERT_FILE", as_str(&other))];
    let told = [&url, "is not trusted", "--ca-file FILE", "RBEE_CA_FILE"];
    failed(&rbee(&["status", "--url", &url], &of_the_system), 69, &told);
    failed(&status(&url, &other, &[]), 69, &["is not trusted", as_str(&other)]);
    let other = other_bundle(&site, &Authority::new());
    failed(&status(&url, &other, &[]), 69, &["is not trusted", as_str(&other)]);
    let ca = bundle(&site, &authority);
    let nobody = [("SSL_CERT_FILE", "/absent.pem")];
    failed(&rbee(&["status", "--url", &url], &nobody), 66, &["--ca-file FILE"]);
    done(&status(&url, &ca, &[]));

    failed(&status(&url, &site.path("absent.pem"), &[]), 66, &["absent.pem", "cannot be used"]);
    let rubbish = site.path("rubbish.pem");
    std::fs::write(&rubbish, "no certificate").unwrap();
    failed(&status(&url, &rubbish, &[]), 64, &["rubbish.pem", "no certificate"]);
}

#[actix_web::test]
async fn a_certificate_for_another_name_or_time_is_refused() {
    let (site, authority) = (Site::new(), Authority::new());
    let ca = bundle(&site, &authority);
    let names = ["queen.example", "10.1.2.3"];
    let (_queen, url) = queen(&site, authority.issue_for(&site, "named", &names, 2040)).await;
    let told = ["is for queen.example, 10.1.2.3, not for 127.0.0.1"];
    failed(&status(&url, &ca, &[]), 69, &told);
    let expired = authority.issue_for(&site, "expired", &["127.0.0.1"], 2001);
    let (_queen, url) = queen(&site, expired).await;
    failed(&status(&url, &ca, &[]), 69, &["has expired"]);
}

#[actix_web::test]
async fn the_wrong_scheme_is_told_both_ways() {
    let (site, authority) = (Site::new(), Authority::new());
    let ca = bundle(&site, &authority);
    let plain = site.start("plain", &site.queen_config()).await;
    let (plain, secure) = (plain.queen().url(), queen(&site, authority.issue(&site, "q")).await);
    let as_secure = plain.replacen("http://", "https://", 1);
    let told = ["does not speak TLS", &format!("--url {plain}")];
    failed(&status(&as_secure, &ca, &[]), 69, &told);
    let as_plain = secure.1.replacen("https://", "http://", 1);
    let told = ["speaks TLS", &format!("--url {}", secure.1)];
    failed(&rbee(&["status", "--url", &as_plain], &[]), 69, &told);

    // One that hangs up on everybody speaks nothing that is known.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    std::thread::spawn(move || while silent.accept().is_ok() {});
    let output = rbee(&["status", "--url", &format!("http://{address}")], &[]);
    failed(&output, 69, &["queen not reachable"]);
}
