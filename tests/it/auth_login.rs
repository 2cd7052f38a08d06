//! A browser's way in: a token for a cookie, and what the cookie is good for.

use super::auth::{ADMIN, INFERENCE, queen_with_tokens};
use crate::support::{Api, Plain, Site, ask, eventually, secs};
use futures_util::future::join;
use serde_json::{Value, json};

const JSON: (&str, &str) = ("content-type", "application/json");

async fn login(queen: &Api, token: &str) -> Plain {
    let body = json!({"token": token}).to_string();
    ask(queen, "POST", "/login", &[JSON], &body).await
}

/// `name=value` of what an answer sets.
fn cookie(answer: &Plain) -> String {
    let set = answer.header("set-cookie").expect("a cookie is set");
    set.split(';').next().unwrap().to_owned()
}

async fn session(queen: &Api, cookie: &str) -> Value {
    let answer = ask(queen, "GET", "/v1/session", &[("cookie", cookie)], "").await;
    assert_eq!(answer.status, 200);
    serde_json::from_str(&answer.body).unwrap()
}

#[actix_web::test]
async fn a_token_becomes_a_cookie_that_is_not_the_token() {
    let site = Site::new();
    let daemon = site.start("queen", &queen_with_tokens(&site)).await;
    let queen = daemon.queen();
    assert_eq!(
        session(queen, "").await,
        json!({"required": true, "role": null, "expires_in_s": null})
    );
    let answer = login(queen, ADMIN).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"role":"admin"}"#));
    let set = answer.header("set-cookie").unwrap();
    for part in ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age="] {
        assert!(set.contains(part), "{set}");
    }
    assert!(!set.contains(ADMIN) && !set.contains("Secure"), "{set}");
    let cookie = cookie(&answer);
    assert_eq!(session(queen, &cookie).await["role"], "admin");
    let read = ask(queen, "GET", "/v1/hives", &[("cookie", &cookie)], "").await;
    assert_eq!(read.status, 200);
    assert_ne!(self::cookie(&login(queen, ADMIN).await), cookie, "each login has its own");
    let inference = self::cookie(&login(queen, INFERENCE).await);
    let admin_call = ask(queen, "GET", "/v1/hives/x/workers", &[("cookie", &inference)], "").await;
    assert_eq!(admin_call.status, 403);
}

#[actix_web::test]
async fn a_cookie_writes_only_from_the_dashboards_own_pages() {
    let site = Site::new();
    let daemon = site.start("queen", &queen_with_tokens(&site)).await;
    let queen = daemon.queen();
    let cookie = cookie(&login(queen, ADMIN).await);
    let own = format!("http://{}", queen.address());
    for (header, status) in [
        (("x-nothing", "x"), 403),
        (("sec-fetch-site", "same-origin"), 404),
        (("origin", own.as_str()), 404),
        (("sec-fetch-site", "none"), 403),
        (("sec-fetch-site", "cross-site"), 403),
        (("origin", "http://evil.example"), 403),
        (("origin", "null"), 403),
    ] {
        let headers = [("cookie", cookie.as_str()), header];
        let answer = ask(queen, "DELETE", "/v1/hives/x/workers/a/b", &headers, "").await;
        assert_eq!(answer.status, status, "{header:?}: {}", answer.body);
    }
}

#[actix_web::test]
async fn a_session_ends_with_the_logout() {
    let site = Site::new();
    let daemon = site.start("queen", &queen_with_tokens(&site)).await;
    let queen = daemon.queen();
    let cookie = cookie(&login(queen, ADMIN).await);
    let answer = ask(queen, "POST", "/logout", &[("cookie", &cookie)], "").await;
    assert_eq!(answer.status, 204);
    assert!(answer.header("set-cookie").unwrap().contains("Max-Age=0"));
    assert_eq!(session(queen, &cookie).await["role"], Value::Null);
    let read = ask(queen, "GET", "/v1/hives", &[("cookie", &cookie)], "").await;
    assert_eq!(read.status, 401);
}

#[actix_web::test]
async fn a_session_ends_with_another_login_and_says_how_long_it_lasts() {
    let site = Site::new();
    let daemon = site.start("queen", &queen_with_tokens(&site)).await;
    let queen = daemon.queen();
    let first = cookie(&login(queen, INFERENCE).await);
    let left = session(queen, &first).await["expires_in_s"].as_u64().unwrap();
    assert!((11 * 3600..=12 * 3600).contains(&left), "{left}");
    let body = json!({"token": ADMIN}).to_string();
    let second = ask(queen, "POST", "/login", &[JSON, ("cookie", &first)], &body).await;
    assert_eq!(session(queen, &first).await["role"], Value::Null);
    assert_eq!(session(queen, &cookie(&second)).await["role"], "admin");
}

#[actix_web::test]
async fn a_stream_ends_with_the_session_that_gave_a_right_to_it() {
    let site = Site::new();
    let daemon = site.start("queen", &queen_with_tokens(&site)).await;
    let (queen, admin) = (daemon.queen(), daemon.queen().with_token(ADMIN));
    let cookie = cookie(&login(queen, INFERENCE).await);
    let shown = [("cookie", cookie.as_str())];
    let clients = async |wanted: &str| {
        let line = format!("rbee_sse_clients {wanted}\n");
        eventually(secs(10), async || {
            let metrics = admin.get("/metrics").await.text;
            metrics.contains(&line).then_some(()).ok_or(metrics)
        })
        .await;
    };
    let stream = ask(queen, "GET", "/v1/heartbeats/stream", &shown, "");
    let (stream, ()) = join(stream, async {
        clients("1").await;
        assert_eq!(ask(queen, "POST", "/logout", &shown, "").await.status, 204);
    })
    .await;
    assert!(stream.status == 200 && stream.body.contains("snapshot"), "{stream:?}");
    clients("0").await;
    assert_eq!(ask(queen, "GET", "/v1/heartbeats/stream", &shown, "").await.status, 401);
}

#[actix_web::test]
async fn a_browser_that_opens_the_streams_address_gets_the_page_and_nobody_else_does() {
    let site = Site::new();
    let daemon = site.start("queen", &queen_with_tokens(&site)).await;
    for (accept, method, status) in [
        ("text/html,application/xhtml+xml;q=0.9,*/*;q=0.8", "GET", 200),
        ("text/event-stream", "GET", 401),
        ("text/event-stream,text/html", "GET", 401),
        ("*/*", "GET", 401),
        ("text/html", "POST", 401),
    ] {
        let headers = [("accept", accept), ("sec-fetch-site", "none")];
        let path = "/v1/heartbeats/stream";
        let answer = ask(daemon.queen(), method, path, &headers, "").await;
        assert_eq!(answer.status, status, "{method} {accept}");
        assert_eq!(answer.body.contains("<!doctype html>"), status == 200);
        let guarded = ask(daemon.queen(), method, "/v1/hives", &headers, "").await;
        assert_eq!(guarded.status, 401, "{method} {accept}");
    }
}

#[actix_web::test]
async fn a_form_works_without_a_script_and_a_page_elsewhere_cannot_send_it() {
    let site = Site::new();
    let daemon = site.start("queen", &queen_with_tokens(&site)).await;
    let queen = daemon.queen();
    let form = ("content-type", "application/x-www-form-urlencoded");
    let body = format!("token={ADMIN}");
    let answer = ask(queen, "POST", "/login", &[form], &body).await;
    assert_eq!((answer.status, answer.header("location")), (303, Some("/")));
    assert_eq!(session(queen, &cookie(&answer)).await["role"], "admin");
    let elsewhere = [form, ("origin", "http://evil.example")];
    let answer = ask(queen, "POST", "/login", &elsewhere, &body).await;
    assert_eq!((answer.status, answer.has("set-cookie")), (403, false));
    // A proxy with TLS is before it: the cookie is for that only.
    let mut config = queen_with_tokens(&site);
    config["queen"]["allowed_hosts"] = json!(["rbee.example"]);
    let proxied = site.start("proxied", &config).await;
    let through = [form, ("origin", "https://rbee.example"), ("host", "rbee.example")];
    let answer = ask(proxied.queen(), "POST", "/login", &through, &body).await;
    assert!(answer.header("set-cookie").unwrap().contains("; Secure"), "{answer:?}");
}

#[actix_web::test]
async fn what_is_no_login_is_refused_without_being_shown() {
    let site = Site::new();
    let daemon = site.start("queen", &queen_with_tokens(&site)).await;
    let queen = daemon.queen();
    // A login is of at most 4096 bytes.
    let of_bytes = |n: usize| json!({"token": "x".repeat(n - r#"{"token":""}"#.len())}).to_string();
    let (most, long) = (of_bytes(4096), of_bytes(4097));
    let text = ("content-type", "text/plain");
    for (header, body, status) in [
        (JSON, r#"{"token": 987654321}"#, 400),
        (JSON, r#"{"tokn": "987654321"}"#, 400),
        (JSON, "987654321", 400),
        (text, r#"{"token": "987654321"}"#, 415),
        (JSON, most.as_str(), 401),
        (JSON, long.as_str(), 413),
        (JSON, r#"{"token": "987654321"}"#, 401),
    ] {
        let answer = ask(queen, "POST", "/login", &[header], body).await;
        assert_eq!(answer.status, status, "{body}");
        assert!(!answer.body.contains("987654321") && !answer.has("set-cookie"), "{answer:?}");
    }
    assert_eq!(queen.with_token(ADMIN).reached("login_body").await, 1);
}

#[actix_web::test]
async fn guessing_is_slowed_down_and_being_right_is_not() {
    let site = Site::new();
    let daemon = site.start("queen", &queen_with_tokens(&site)).await;
    let queen = daemon.queen();
    for _ in 0..20 {
        assert_eq!(login(queen, ADMIN).await.status, 200);
    }
    let mut statuses = Vec::new();
    for n in 0..12 {
        statuses.push(login(queen, &format!("guess-{n}")).await.status);
    }
    assert_eq!(statuses[..10], [401; 10]);
    assert_eq!(statuses[11], 429);
    let refused = login(queen, ADMIN).await;
    assert_eq!(refused.status, 429);
    assert!(queen.with_token(ADMIN).reached("login_attempts").await >= 2);
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=7).contains(&wait), "{wait}");
}

#[actix_web::test]
async fn without_tokens_no_login_is_needed() {
    let site = Site::new();
    let daemon = site.start("queen", &site.queen_config()).await;
    let queen = daemon.queen();
    assert_eq!(
        session(queen, "").await,
        json!({"required": false, "role": "admin", "expires_in_s": null})
    );
    let answer = login(queen, "anything").await;
    assert_eq!((answer.status, answer.has("set-cookie")), (200, false));
}
