//! TLS on both roles: who is believed, what is spoken, and another certificate while it runs.

use super::auth::{ADMIN, queen_with_tokens};
use crate::support::{
    Authority, Site, TlsConnection, eventually, free_port, plain_request, proc, secs,
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

/// A queen's configuration with TLS.
fn queen_with_tls(site: &Site, authority: &Authority) -> Value {
    let mut config = site.queen_config();
    config["queen"]["tls"] = authority.issue(site, "queen");
    config
}

#[actix_web::test]
async fn queen_and_hive_speak_tls_with_each_other() {
    let (site, authority) = (Site::new(), Authority::new());
    let port = free_port();
    let mut config = queen_with_tls(&site, &authority);
    let url = format!("https://127.0.0.1:{port}");
    config["queen"]["hives"] = json!([{"id": "test-hive", "url": url}]);
    config["queen"]["tls_ca_file"] = authority.bundle(&site);
    let queen = site.start("queen", &config).await;
    let queen = queen.queen().secure(authority.trusting());
    let mut config = site.hive_config(Some(queen.url()));
    config["hive"]["bind"] = json!(format!("127.0.0.1:{port}"));
    config["hive"]["tls"] = authority.issue(&site, "hive");
    config["hive"]["tls_ca_file"] = authority.bundle(&site);
    let hive = site.start("hive", &config).await;
    eventually(secs(10), async || match queen.get("/v1/hives/test-hive").await {
        answer if answer.status == 200 => Ok(()),
        answer => Err(answer.text),
    })
    .await;
    let sleeper = json!({"group": "g", "instance": "a", "command": "/bin/sleep", "args": ["1000"]});
    queen.post("/v1/hives/test-hive/workers", sleeper).await.expect(201);
    let hive = hive.hive().secure(authority.trusting());
    assert_eq!(hive.worker("g/a").await["state"], "ready");
}

#[actix_web::test]
async fn a_queen_that_is_not_trusted_gets_no_heartbeat() {
    let (site, authority, other) = (Site::new(), Authority::new(), Authority::new());
    let queen = site.start("queen", &queen_with_tls(&site, &authority)).await;
    let queen = queen.queen().secure(authority.trusting());
    let mut config = site.hive_config(Some(queen.url()));
    config["hive"]["tls_ca_file"] = other.bundle(&site);
    let mut hive = site.start("hive", &config).await;
    hive.log_line(|line| {
        (line.contains("does not take heartbeats") && line.contains("certificate")).then_some(())
    })
    .await;
    assert_eq!(queen.get("/v1/hives").await.expect(200)["hives"], json!([]));
}

/// Sends bytes, and returns what comes back until the end.
fn exchange(address: &str, bytes: &[u8]) -> Vec<u8> {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(secs(10))).unwrap();
    socket.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    if let Err(error) = socket.read_to_end(&mut answer) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "the connection is ended");
    }
    answer
}

/// A fatal alert is `21`, a version, a length of 2, `2`, and what it says.
fn fatal_alert(answer: &[u8]) -> Option<u8> {
    match answer {
        [21, 3, _, 0, 2, 2, description] => Some(*description),
        _ => None,
    }
}

#[actix_web::test]
async fn plain_http_on_a_port_with_tls_is_refused_at_once() {
    let (site, authority) = (Site::new(), Authority::new());
    let queen = site.start("queen", &queen_with_tls(&site, &authority)).await;
    let address = queen.queen().address();
    let answer = exchange(address, plain_request(address, "GET", "/health", &[], "").as_bytes());
    assert!(fatal_alert(&answer).is_some(), "{answer:?}");
}

#[actix_web::test]
async fn versions_below_1_2_are_not_spoken() {
    let (site, authority) = (Site::new(), Authority::new());
    let queen = site.start("queen", &queen_with_tls(&site, &authority)).await;
    let address = queen.queen().address();
    let newest = TlsConnection::open(address, &authority.trusting()).unwrap();
    assert_eq!(newest.version(), rustls::ProtocolVersion::TLSv1_3);
    // A ClientHello of TLS 1.1 with one of its cipher suites and nothing else.
    let mut hello = vec![3, 2];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0xc0, 0x13, 1, 0]);
    let length = hello.len() as u8;
    let record = [&[22, 3, 1, 0, length + 4, 1, 0, 0, length][..], &hello].concat();
    // 70: protocol_version; 40: handshake_failure, for what only newer versions can send.
    let alert = fatal_alert(&exchange(address, &record));
    assert!(matches!(alert, Some(70 | 40)), "{alert:?}");
}

#[actix_web::test]
async fn sighup_takes_another_certificate_and_drops_no_connection() {
    let (site, authority) = (Site::new(), Authority::new());
    let mut queen = site.start("queen", &queen_with_tls(&site, &authority)).await;
    let address = queen.queen().address().to_owned();
    let trusting = authority.trusting();
    let mut before = TlsConnection::open(&address, &trusting).unwrap();
    assert_eq!(before.get("/health", &[]).unwrap().status, 200);

    authority.issue(&site, "queen");
    proc::signal(queen.pid(), Signal::SIGHUP);
    queen.log_line(|line| line.contains("configuration read again").then_some(())).await;
    // A client of its own: one that resumes a session is shown nothing.
    let mut after = TlsConnection::open(&address, &authority.trusting()).unwrap();
    assert_ne!(after.certificate(), before.certificate());
    assert_eq!(after.get("/health", &[]).unwrap().status, 200);
    assert_eq!(before.get("/health", &[]).unwrap().status, 200, "the old connection goes on");
}

#[actix_web::test]
async fn a_bad_certificate_is_refused_and_the_old_one_kept() {
    let (site, authority) = (Site::new(), Authority::new());
    let mut queen = site.start("queen", &queen_with_tls(&site, &authority)).await;
    let address = queen.queen().address().to_owned();
    let trusting = authority.trusting();
    let before = TlsConnection::open(&address, &trusting).unwrap().certificate();
    // A key of another certificate.
    let other = authority.issue(&site, "other");
    std::fs::copy(other["key_file"].as_str().unwrap(), site.path("queen.key.pem")).unwrap();
    proc::signal(queen.pid(), Signal::SIGHUP);
    let line = queen
        .log_line(|line| line.contains("configuration not taken").then(|| line.to_owned()))
        .await;
    assert!(line.contains("queen.key.pem") && line.contains("queen.cert.pem"), "{line}");
    assert_eq!(queen.log_count("configuration not taken"), 1);
    // A client of its own: one that resumes a session is shown nothing.
    let mut after = TlsConnection::open(&address, &authority.trusting()).unwrap();
    assert_eq!(after.certificate(), before);
    assert_eq!(after.get("/health", &[]).unwrap().status, 200);
}

#[actix_web::test]
async fn a_cookie_of_a_queen_with_tls_is_for_tls_only() {
    let (site, authority) = (Site::new(), Authority::new());
    let mut config = queen_with_tokens(&site);
    config["queen"]["tls"] = authority.issue(&site, "queen");
    let queen = site.start("queen", &config).await;
    let mut connection =
        TlsConnection::open(queen.queen().address(), &authority.trusting()).unwrap();
    let body = json!({"token": ADMIN}).to_string();
    let answer = connection.post("/login", &[("content-type", "application/json")], &body).unwrap();
    assert_eq!(answer.status, 200);
    assert!(answer.header("set-cookie").unwrap().contains("; Secure"), "{answer:?}");
}

#[actix_web::test]
async fn sighup_takes_other_authorities_and_other_hives() {
    let (site, authority, other) = (Site::new(), Authority::new(), Authority::new());
    let port = free_port();
    let mut config = queen_with_tls(&site, &authority);
    let elsewhere = json!([{"id": "another", "url": "https://127.0.0.1:1"}]);
    config["queen"]["hives"] = elsewhere;
    config["queen"]["tls_ca_file"] = other.bundle(&site);
    let mut queen = site.start("queen", &config).await;
    let api = queen.queen().secure(authority.trusting());
    let mut hive = site.hive_config(Some(api.url()));
    hive["hive"]["bind"] = json!(format!("127.0.0.1:{port}"));
    hive["hive"]["hostname"] = json!("10.0.0.1");
    hive["hive"]["tls"] = authority.issue(&site, "hive");
    hive["hive"]["tls_ca_file"] = other.bundle(&site);
    let mut hive = site.start("hive", &hive).await;
    hive.log_line(|line| line.contains("certificate").then_some(())).await;

    authority.bundle(&site);
    proc::signal(hive.pid(), Signal::SIGHUP);
    eventually(secs(10), async || match api.get("/v1/hives/test-hive").await {
        answer if answer.status == 200 => Ok(()),
        answer => Err(answer.text),
    })
    .await;
    assert_eq!(api.get("/v1/hives/test-hive/workers").await.status, 403, "it is not listed");

    let listed = json!([{"id": "test-hive", "url": format!("https://127.0.0.1:{port}")}]);
    config["queen"]["hives"] = listed;
    site.write("queen", &config);
    proc::signal(queen.pid(), Signal::SIGHUP);
    queen.log_line(|line| line.contains("configuration read again").then_some(())).await;
    api.get("/v1/hives/test-hive/workers").await.expect(200);
}
