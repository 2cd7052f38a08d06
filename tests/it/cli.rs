//! The client commands against a real queen and a real hive.

use crate::support::{
    Daemon, Heartbeats, RBEE, Site, echo, eventually, free_port, proc, rbee, ready_workers, report,
    secs,
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::process::{Command, Output, Stdio};

fn sleeper(instance: &str) -> Value {
    json!({"group": "g", "instance": instance, "command": "/bin/sleep", "args": ["86400"], "model": "m"})
}

/// Runs the command against this address.
fn at(url: &str, arguments: &[&str]) -> Output {
    rbee(arguments, &[("RBEE_URL", url)])
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What it printed, provided that it was done.
#[track_caller]
fn done(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// What it complained of, provided that it ended with this status.
#[track_caller]
fn failed(output: &Output, status: i32) -> String {
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{} {said}", text(&output.stdout));
    said
}

async fn one_worker(site: &Site) -> (Daemon, Daemon) {
    let (queen, hive) = site.start_both(json!([sleeper("one")])).await;
    ready_workers(queen.queen(), 1, secs(5)).await;
    (queen, hive)
}

#[actix_web::test]
async fn a_worker_is_spawned_drained_resumed_restarted_and_stopped_through_the_queen() {
    let site = Site::new();
    let (queen, hive) = one_worker(&site).await;
    let url = queen.queen().url();
    let spawned = done(&at(url, &["spawn", "g/two", "--model", "x", "--", "/bin/sleep", "86400"]));
    let worker = hive.hive().worker("g/two").await;
    let pid = worker["pid"].as_u64().unwrap();
    assert_eq!(spawned, format!("test-hive/g/two started, pid {pid}\n"));
    assert_eq!((&worker["model"], &worker["spec"]["args"]), (&json!("x"), &json!(["86400"])));
    let again = failed(&at(url, &["spawn", "g/two", "--", "/bin/sleep", "1"]), 1);
    assert!(again.contains("already") && again.contains("rbee restart test-hive/g/two"), "{again}");

    ready_workers(queen.queen(), 2, secs(5)).await;
    assert_eq!(done(&at(url, &["drain", "g/two"])), "test-hive/g/two drained\n");
    assert_eq!(hive.hive().worker("g/two").await["state"], "draining");
    assert_eq!(done(&at(url, &["resume", "g/two"])), "test-hive/g/two resumed\n");
    assert_eq!(hive.hive().worker("g/two").await["state"], "ready");
    assert_eq!(done(&at(url, &["restart", "test-hive/g/two"])), "test-hive/g/two restarted\n");
    let next = hive.hive().worker("g/two").await["pid"].as_u64().unwrap();
    assert_ne!(next, pid);
    assert_eq!(
        done(&at(url, &["stop", "g/two", "--grace-ms", "100"])),
        "test-hive/g/two stopped\n"
    );
    assert!(!proc::alive(next as u32), "what is said to be stopped has ended");
    assert_eq!(hive.hive().get("/v1/workers/g/two").await.status, 404);
}

#[actix_web::test]
async fn a_hive_is_asked_for_its_own_workers_at_its_own_address() {
    let site = Site::new();
    let hive = site.start_hive(json!([sleeper("one")])).await;
    hive.hive().worker_in_state("g/one", "ready").await;
    let url = hive.hive().url();
    let list = done(&at(url, &["workers", "--group", "g"]));
    assert!(list.contains("g/one") && list.contains("ready"), "{list}");
    assert!(done(&at(url, &["status"])).contains("1 worker: 1 ready"));
    assert_eq!(done(&at(url, &["restart", "g/one"])), "g/one restarted\n");
    assert!(failed(&at(url, &["stop", "other/g/one"]), 64).contains("is a hive"));
    assert!(failed(&at(url, &["workers", "--idle"]), 64).contains("only --group"));
    assert!(failed(&at(url, &["explain", "--model", "m"]), 64).contains("only a queen"));
    let wrong = failed(&at(url, &["stop", "g/oen"]), 66);
    assert!(wrong.contains("did you mean g/one?"), "{wrong}");
}

#[actix_web::test]
async fn json_is_the_apis_own_and_a_table_says_the_same() {
    let site = Site::new();
    let queen = site.start("queen", &site.queen_config()).await;
    let workers = json!([
        report("1", json!({"idle": true, "model": "a/b"})),
        report(
            "2",
            json!({"idle": false, "state": "failed", "last_exit":
            {"at": "2026-01-01T00:00:00Z", "code": 3, "next": "failed"}})
        ),
    ]);
    let _one = Heartbeats::start(queen.queen(), "h1", workers).await;
    let _two =
        Heartbeats::start(queen.queen(), "h2", json!([report("1", json!({"idle": false}))])).await;
    let url = queen.queen().url();
    let all: Value = serde_json::from_str(&done(&at(url, &["workers", "--json"]))).unwrap();
    assert_eq!(all["workers"].as_array().unwrap().len(), 3);
    assert_eq!(all["workers"][0]["kv_cache_pct"], 0.0, "fields that are not shown are there too");
    let rows = |arguments: &[&str]| {
        done(&at(url, arguments)).lines().skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(rows(&["workers"]).len(), 3);
    let idle = rows(&["workers", "--idle", "--model", "a/b"]);
    assert!(idle.len() == 1 && idle[0].starts_with("h1/llm/1 "), "{idle:?}");
    assert_eq!(rows(&["workers", "--hive", "h2", "--state", "ready", "--group", "llm"]).len(), 1);
    let status = done(&at(url, &["status"]));
    assert!(status.contains("3 workers: 1 failed, 2 ready; 1 idle"), "{status}");
    assert!(status.contains("h1/llm/2 failed: exit 3"), "{status}");
    let status: Value = serde_json::from_str(&done(&at(url, &["status", "--json"]))).unwrap();
    assert_eq!(status["health"]["role"], "queen");
    assert_eq!(status["hives"]["hives"].as_array().unwrap().len(), 2);
    let ambiguous = failed(&at(url, &["stop", "llm/1"]), 64);
    assert!(ambiguous.contains("h1/llm/1, h2/llm/1"), "{ambiguous}");
    let detail = done(&at(url, &["workers", "h1/llm/2"]));
    assert!(detail.contains("last exit  exit 3"), "{detail}");
}

#[actix_web::test]
async fn explain_says_who_and_why_not_and_nobody_is_a_failure() {
    let site = Site::new();
    let queen = site.start("queen", &site.queen_config()).await;
    let workers = json!([report("1", json!({})), report("2", json!({"state": "draining"}))]);
    let _hive = Heartbeats::start(queen.queen(), "h", workers).await;
    let url = queen.queen().url();
    let told = done(&at(url, &["explain", "--model", "m"]));
    let lines: Vec<_> = told.lines().collect();
    assert!(lines[1].starts_with("h/llm/1") && lines[1].contains("first"), "{told}");
    assert!(lines[2].starts_with("h/llm/2") && lines[2].contains("draining"), "{told}");
    let nobody = at(url, &["explain", "--model", "other"]);
    assert!(failed(&nobody, 1).contains("no worker would take it"));
    assert!(text(&nobody.stdout).contains("other model"), "the table is there all the same");
}

#[actix_web::test]
async fn a_log_is_copied_and_following_it_ends_with_ctrl_c() {
    let site = Site::new();
    let go = site.path("go");
    let script = format!(
        "echo one; echo two; until test -e {}; do /bin/sleep 0.02; done; echo three; exec /bin/sleep 1000",
        go.display()
    );
    let worker =
        json!({"group": "g", "instance": "a", "command": "/bin/sh", "args": ["-c", script]});
    let (queen, _hive) = site.start_both(json!([worker])).await;
    ready_workers(queen.queen(), 1, secs(5)).await;
    let url = queen.queen().url();
    eventually(secs(5), async || {
        let said = done(&at(url, &["logs", "g/a", "-n", "1"]));
        if said == "two\n" { Ok(()) } else { Err(said) }
    })
    .await;
    let out = site.path("followed");
    let mut follower = Command::new(RBEE)
        .args(["logs", "-f", "-n", "1", "--url", url, "test-hive/g/a"])
        .stdout(std::fs::File::create(&out).unwrap())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let holds = async |wanted: &str| {
        eventually(secs(5), async || {
            let said = std::fs::read_to_string(&out).unwrap();
            if said == wanted { Ok(()) } else { Err(said) }
        })
        .await;
    };
    holds("two\n").await;
    std::fs::write(go, "").unwrap();
    holds("two\nthree\n").await;
    proc::signal(follower.id(), Signal::SIGINT);
    let status = eventually(secs(5), async || follower.try_wait().unwrap().ok_or("follows")).await;
    assert_eq!(status.code(), Some(0));
}

#[actix_web::test]
async fn a_reader_that_has_enough_is_no_error() {
    let site = Site::new();
    let queen = site.start("queen", &site.queen_config()).await;
    // More than a pipe holds.
    let workers: Vec<_> = (0..2_000).map(|n| report(&n.to_string(), json!({}))).collect();
    let _hive = Heartbeats::start(queen.queen(), "h", json!(workers)).await;
    let script = format!(
        "set -o pipefail; '{RBEE}' workers --url {0} | head -1; '{RBEE}' workers --json --url {0} | head -c 9",
        queen.queen().url()
    );
    let output = Command::new("bash").args(["-c", &script]).output().unwrap();
    let said = done(&output);
    assert!(said.starts_with("WORKER") && said.ends_with("\n{\"workers"), "{said}");
    assert_eq!(text(&output.stderr), "");
}

#[actix_web::test]
async fn an_answer_that_does_not_come_is_not_waited_for() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let start = std::time::Instant::now();
    let said = failed(&at(&url, &["workers", "--timeout", "1"]), 69);
    assert!(said.contains("within 1 s"), "{said}");
    assert!(start.elapsed() < secs(4), "{:?}", start.elapsed());
}

#[actix_web::test]
async fn a_spec_from_a_file_has_every_key_and_options_go_over_it() {
    let site = Site::new();
    let port = free_port();
    let (queen, hive) = site.start_both(json!([])).await;
    eventually(secs(5), async || {
        let hives = queen.queen().get("/v1/hives").await.json;
        if hives["hives"][0]["id"] == "test-hive" { Ok(()) } else { Err(hives) }
    })
    .await;
    let file = site.path("spec.json");
    std::fs::write(&file, echo(port, "of-file", 0, json!({"slots": 3})).to_string()).unwrap();
    let name = format!("echo/{port}");
    let file = file.to_str().unwrap();
    let command = ["spawn", &name, "--spec", file, "--slots", "5", "--json"];
    let answer: Value = serde_json::from_str(&done(&at(queen.queen().url(), &command))).unwrap();
    assert_eq!((&answer["slots"], &answer["model"]), (&json!(5), &json!("of-file")));
    hive.hive().worker_in_state(&name, "ready").await;
}

#[test]
fn completions_work_in_bash() {
    let script = format!(
        "eval \"$('{RBEE}' completions bash)\"\n\
         COMP_WORDS=(rbee workers --i); COMP_CWORD=2; _rbee rbee --i workers; echo \"${{COMPREPLY[@]}}\"\n\
         COMP_WORDS=(rbee st); COMP_CWORD=1; _rbee rbee st rbee; echo \"${{COMPREPLY[@]}}\"\n"
    );
    let output = Command::new("bash").args(["--norc", "-c", &script]).output().unwrap();
    assert_eq!(done(&output), "--idle\nstatus stop\n");
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        assert!(done(&rbee(&["completions", shell], &[])).contains("explain"), "{shell}");
    }
}

#[test]
fn help_teaches() {
    let help = done(&rbee(&["--help"], &[]));
    for taught in [
        "A hive",
        "A queen",
        "config/local.toml",
        "rbee top",
        "RBEE_TOKEN",
        "RBEE_CA_FILE",
        "69 nobody answers",
    ] {
        assert!(help.contains(taught), "{taught} in {help}");
    }
    assert!(help.lines().all(|line| line.chars().count() <= 100), "{help}");
    assert!(done(&rbee(&["spawn", "--help"], &[])).contains("allow_commands"));
    assert_eq!(done(&rbee(&["--version"], &[])), format!("rbee {}\n", env!("CARGO_PKG_VERSION")));
}
