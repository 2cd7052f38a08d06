//! Tokens: who may do what, on both roles, and between them.

use crate::support::{Api, Daemon, Site, ask, assert_is_error, eventually, ms, proc, secs};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

pub(super) const ADMIN: &str = "admin-0a1b2c3d4e5f";
pub(super) const HIVE: &str = "hive-6a7b8c9d0e1f";
pub(super) const INFERENCE: &str = "inference-2a3b4c5d";
pub(super) const HIVES_OWN: &str = "hives-own-9f8e7d6c";

/// A queen's configuration with all three tokens.
pub(super) fn queen_with_tokens(site: &Site) -> Value {
    let mut config = site.queen_config();
    config["queen"]["auth"] = json!({
        "token_file": site.secret("admin", &format!("{ADMIN}\n")),
        "hive_token_file": site.secret("hive-token", HIVE),
        "inference_token_file": site.secret("inference", INFERENCE),
    });
    config
}

fn heartbeat() -> Value {
    json!({"hive": {"id": "beat", "hostname": "127.0.0.1", "port": 1},
           "timestamp": "2026-01-01T00:00:00Z", "workers": []})
}

/// What each kind of call answers to this token.
async fn statuses(queen: &Api) -> [u16; 6] {
    [
        queen.get("/health").await.status,
        queen.get("/v1/workers").await.status,
        queen.post("/v1/hive-heartbeat", heartbeat()).await.status,
        queen.get("/v1/models").await.status,
        queen.post("/v1/schedule", json!({})).await.status,
        queen.get("/v1/hives/nobody/workers").await.status,
    ]
}

#[actix_web::test]
async fn each_token_may_what_it_is_for() {
    let site = Site::new();
    let daemon = site.start("queen", &queen_with_tokens(&site)).await;
    let queen = daemon.queen();
    assert_eq!(statuses(&queen.with_token(ADMIN)).await, [200, 200, 200, 200, 503, 404]);
    assert_eq!(statuses(&queen.with_token(HIVE)).await, [200, 200, 200, 403, 403, 403]);
    assert_eq!(statuses(&queen.with_token(INFERENCE)).await, [200, 200, 403, 200, 503, 403]);
    for nobody in [queen.clone(), queen.with_token("wrong"), queen.with_token(&ADMIN[1..])] {
        assert_eq!(statuses(&nobody).await, [200, 401, 401, 401, 401, 401]);
    }
    assert_is_error(&queen.get("/v1/workers").await, 401, "Bearer");
    assert_is_error(&queen.with_token(HIVE).get("/v1/models").await, 403, "heartbeat");
    // What is not there is told only to who is known.
    assert_eq!(queen.get("/v1/secret-plans").await.status, 401);
    assert_eq!(queen.with_token(HIVE).get("/v1/secret-plans").await.status, 404);
}

#[actix_web::test]
async fn a_401_says_how_to_ask_and_only_bearer_is_understood() {
    let site = Site::new();
    let daemon = site.start("queen", &queen_with_tokens(&site)).await;
    let bearer = format!("bearer {ADMIN}");
    let basic = format!("Basic {ADMIN}");
    for (headers, status) in [
        (vec![], 401),
        (vec![("authorization", basic.as_str())], 401),
        (vec![("authorization", "Bearer")], 401),
        (vec![("authorization", bearer.as_str()), ("authorization", bearer.as_str())], 401),
        (vec![("cookie", bearer.as_str())], 401),
        (vec![("authorization", bearer.as_str())], 200),
    ] {
        let answer = ask(daemon.queen(), "GET", "/v1/hives", &headers, "").await;
        assert_eq!(answer.status, status, "{headers:?}");
        let challenge = answer.header("www-authenticate");
        assert_eq!(challenge, (status == 401).then_some("Bearer"), "{headers:?}");
        assert!(!answer.has("access-control-allow-origin"));
    }
}

#[actix_web::test]
async fn public_read_opens_reading_and_nothing_else() {
    let site = Site::new();
    let mut config = queen_with_tokens(&site);
    config["queen"]["public_read"] = json!(true);
    let queen = site.start("queen", &config).await;
    assert_eq!(statuses(queen.queen()).await, [200, 200, 401, 401, 401, 401]);
}

/// A queen with tokens, and a hive with one of its own, that know each other's.
async fn pair(site: &Site, listed: bool) -> (Daemon, Daemon) {
    let mut config = site.hive_config(None);
    let port = crate::support::free_port();
    let mut queen = queen_with_tokens(site);
    let own = site.secret("hives-own", HIVES_OWN);
    if listed {
        let url = format!("http://127.0.0.1:{port}");
        queen["queen"]["hives"] = json!([{"id": "test-hive", "url": url, "token_file": own}]);
    }
    let queen = site.start("queen", &queen).await;
    config["hive"]["bind"] = json!(format!("127.0.0.1:{port}"));
    config["hive"]["queen_urls"] = json!([queen.queen().url()]);
    config["hive"]["queen_token_file"] = json!(site.secret("for-queen", HIVE));
    config["hive"]["admin"]["token_file"] = json!(own);
    let hive = site.start("hive", &config).await;
    let admin = queen.queen().with_token(ADMIN);
    eventually(secs(10), async || match admin.get("/v1/hives/test-hive").await {
        answer if answer.status == 200 => Ok(()),
        answer => Err(answer.text),
    })
    .await;
    (queen, hive)
}

#[actix_web::test]
async fn a_hive_shows_its_token_to_the_queen_and_the_queen_the_hives_to_the_hive() {
    let site = Site::new();
    let (queen, hive) = pair(&site, true).await;
    let admin = queen.queen().with_token(ADMIN);
    let sleeper = json!({"group": "g", "instance": "a", "command": "/bin/sleep", "args": ["1000"]});
    admin.post("/v1/hives/test-hive/workers", sleeper).await.expect(201);
    let own = hive.hive().with_token(HIVES_OWN);
    assert_eq!(own.worker("g/a").await["state"], "ready");
    // The hive asks for its own token, whoever comes, and the queen's is none.
    for other in [hive.hive().clone(), hive.hive().with_token(ADMIN), hive.hive().with_token(HIVE)]
    {
        for path in ["/v1/workers", "/v1/workers/g/a", "/v1/workers/g/a/logs", "/capabilities"] {
            assert_eq!(other.get(path).await.status, 401, "{path}");
        }
        assert_eq!(other.delete("/v1/workers/g/a").await.status, 401);
        assert_eq!(other.get("/health").await.status, 200);
    }
    admin.delete("/v1/hives/test-hive/workers/g/a").await.expect(200);
}

#[actix_web::test]
async fn with_tokens_no_hive_is_taken_from_a_heartbeat() {
    let site = Site::new();
    let (queen, _hive) = pair(&site, false).await;
    let admin = queen.queen().with_token(ADMIN);
    let refused = admin.get("/v1/hives/test-hive/workers").await;
    assert_is_error(&refused, 403, "[[queen.hives]]");
}

/// A queen that knows no token; what is shown to it.
async fn refusing_queen(listener: TcpListener, shown: tokio::sync::mpsc::UnboundedSender<String>) {
    while let Ok((mut socket, _)) = listener.accept().await {
        let mut text = Vec::new();
        while !text.windows(4).any(|part| part == b"\r\n\r\n") {
            if socket.read_buf(&mut text).await.unwrap_or(0) == 0 {
                break;
            }
        }
        let answer =
            "HTTP/1.1 401 Unauthorized\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}";
        let _ = socket.write_all(answer.as_bytes()).await;
        // Reads what is left, so that the close is no reset.
        let _ = tokio::time::timeout(ms(100), socket.read_to_end(&mut Vec::new())).await;
        let _ = shown.send(String::from_utf8_lossy(&text).into_owned());
    }
}

#[actix_web::test]
async fn a_hive_that_is_not_believed_warns_once_and_goes_on() {
    let site = Site::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (tell, mut shown) = tokio::sync::mpsc::unbounded_channel();
    let queen = actix_web::rt::spawn(refusing_queen(listener, tell));
    let mut config = site.hive_config(Some(&url));
    config["hive"]["heartbeat_interval_ms"] = json!(50);
    config["hive"]["queen_token_file"] = json!(site.secret("for-queen", HIVE));
    let hive = site.start("hive", &config).await;
    for _ in 0..5 {
        let request = tokio::time::timeout(secs(10), shown.recv()).await.unwrap().unwrap();
        assert!(request.contains(&format!("authorization: Bearer {HIVE}\r\n")), "{request}");
    }
    assert_eq!(hive.log_count("the queen does not take heartbeats"), 1);
    hive.hive().get("/v1/workers").await.expect(200);
    queen.abort();
}

#[actix_web::test]
async fn sighup_takes_other_tokens() {
    let site = Site::new();
    let mut queen = site.start("queen", &queen_with_tokens(&site)).await;
    site.secret("admin", "the-next-one");
    proc::signal(queen.pid(), Signal::SIGHUP);
    queen.log_line(|line| line.contains("configuration read again").then_some(())).await;
    assert_eq!(queen.queen().with_token(ADMIN).get("/v1/hives").await.status, 401);
    assert_eq!(queen.queen().with_token("the-next-one").get("/v1/hives").await.status, 200);
}
