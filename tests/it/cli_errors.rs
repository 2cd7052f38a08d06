//! What the client says when it cannot do what it was asked: why, and what to do about it.

use crate::support::{RawWorker, Reply, Site, rbee};
use std::{fs, os::unix::fs::PermissionsExt, process::Output};

#[track_caller]
fn failed(output: &Output, status: i32) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(status), "{said}");
    assert!(output.stdout.is_empty(), "an error is no output");
    said
}

#[test]
fn a_queen_that_is_not_there_is_named_with_its_address() {
    for command in [&["status"][..], &["workers"], &["stop", "a/b"], &["logs", "a/b"], &["explain"]]
    {
        let said = failed(&rbee(command, &[("RBEE_URL", "http://127.0.0.1:1")]), 69);
        assert!(
            said.contains("queen not reachable at http://127.0.0.1:1, is it running?"),
            "{said}"
        );
    }
}

#[test]
fn a_bad_command_line_is_64_and_says_what_is_allowed() {
    for (command, allowed) in [
        (&["workers", "--state", "asleep"][..], "draining"),
        (&["stop", "no-slash"], "group/instance"),
        (&["stop"], "WORKER"),
        (&["spawn", "a/b"], "COMMAND"),
        (&["workers", "--url", "ftp://x"], "http://"),
        (&["top"], "needs a terminal"),
        (&["no-such-command"], "unrecognized"),
    ] {
        let said = failed(&rbee(command, &[]), 64);
        assert!(said.contains(allowed), "{command:?}: {said}");
    }
}

#[test]
fn a_token_file_that_others_can_read_is_refused_and_its_token_not_told() {
    let site = Site::new();
    let file = site.path("token");
    fs::write(&file, "very-secret\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let path = file.to_str().unwrap();
    let said = failed(&rbee(&["status", "--token-file", path], &[]), 77);
    assert!(said.contains("chmod 600") && !said.contains("very-secret"), "{said}");
    let missing = site.path("none");
    let said = failed(&rbee(&["status", "--token-file", missing.to_str().unwrap()], &[]), 66);
    assert!(said.contains("cannot read the token file"), "{said}");
}

/// A queen that is well, and answers everything else with this.
async fn answering(status: &'static str) -> RawWorker {
    const ERROR: &str = r#"{"error":{"message":"the reason","type":"t","code":"c"}}"#;
    const HEALTH: &str = r#"{"status":"ok","role":"queen","version":"1","uptime_s":1}"#;
    RawWorker::start(move |request| match request.head.start.contains("/health") {
        true => Reply::whole("200 OK", "content-type: application/json\r\n", HEALTH.as_bytes()),
        false => Reply::whole(status, "content-type: application/json\r\n", ERROR.as_bytes()),
    })
    .await
}

#[actix_web::test]
async fn what_the_queen_refuses_is_told_in_its_own_words() {
    for (answer, status, told) in [
        ("401 Unauthorized", 77, "--token-file FILE, or in RBEE_TOKEN (the reason)"),
        ("403 Forbidden", 77, "the reason"),
        ("500 Internal Server Error", 1, "the reason (500)"),
        ("503 Service Unavailable", 1, "the reason (503)"),
    ] {
        let server = answering(answer).await;
        let url = server.url();
        let said = failed(&in_thread(&["workers"], &[("RBEE_URL", url)]).await, status);
        assert!(said.contains(told), "{answer}: {said}");
    }
}

#[actix_web::test]
async fn the_token_is_sent_and_never_printed() {
    let server = answering("401 Unauthorized").await;
    let variables = [("RBEE_URL", server.url()), ("RBEE_TOKEN", "very-secret")];
    let said = failed(&in_thread(&["workers"], &variables).await, 77);
    assert!(said.contains("this token is not taken") && !said.contains("very-secret"), "{said}");
    let sent = server.requests();
    assert_eq!(sent[1].head.get("authorization"), Some("Bearer very-secret"));
}

/// The server lives on this thread: it must not be held up.
async fn in_thread(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let own = |text: &&str| (*text).to_owned();
    let arguments: Vec<String> = arguments.iter().map(own).collect();
    let variables: Vec<(String, String)> =
        variables.iter().map(|(name, value)| (own(name), own(value))).collect();
    let run = move || {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let variables: Vec<_> = variables.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        rbee(&arguments, &variables)
    };
    tokio::task::spawn_blocking(run).await.expect("it does not panic")
}
