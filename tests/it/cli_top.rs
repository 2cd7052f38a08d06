//! `rbee top`, driven in a pseudo-terminal.

use crate::support::{Daemon, Heartbeats, Pty, Site, free_port, ready_workers, report, secs};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

const ESCAPE: &str = "\x1b";
const DOWN: &str = "\x1b[B";

async fn queen(site: &Site) -> Daemon {
    site.start("queen", &site.queen_config()).await
}

fn top(queen: &Daemon, rows: u16, columns: u16) -> Pty {
    Pty::start(&["top", "--url", queen.queen().url()], rows, columns)
}

fn workers(cpu: &[f64]) -> Value {
    let all = cpu.iter().enumerate();
    all.map(|(n, cpu)| report(&n.to_string(), json!({"cpu_pct": cpu, "idle": true}))).collect()
}

/// Instances in the order of their rows.
fn rows(screen: &str) -> Vec<String> {
    let names = screen.lines().filter_map(|line| line.strip_prefix("h/llm/"));
    names.filter_map(|rest| rest.split(' ').next().map(str::to_owned)).collect()
}

#[actix_web::test]
async fn it_is_live_sorted_filtered_and_leaves_the_terminal_as_it_was() {
    let site = Site::new();
    let queen = queen(&site).await;
    let hive = Heartbeats::start(queen.queen(), "h", workers(&[1.0, 90.0, 40.0])).await;
    let mut top = top(&queen, 20, 110);
    top.shows(|text| rows(text) == ["0", "1", "2"]).await;
    assert!(top.has_screen() && !top.is_cooked());
    top.press("c");
    top.shows(|text| rows(text) == ["1", "2", "0"] && text.contains("CPU▼")).await;
    hive.set("/workers/0/cpu_pct", json!(250.0)).await;
    top.shows(|text| rows(text) == ["0", "1", "2"] && text.contains("250%")).await;
    top.press("r");
    top.shows(|text| rows(text) == ["2", "1", "0"]).await;
    top.press("/llm/1");
    top.shows(|text| rows(text) == ["1"] && text.contains("filter: llm/1")).await;
    top.press(ESCAPE);
    top.shows(|text| rows(text).len() == 3).await;
    top.press("?");
    top.shows(|text| text.contains("the worker in full")).await;
    top.press("x");
    top.press("q");
    assert_eq!(top.ended(secs(5)).await.code(), Some(0));
    assert!(!top.has_screen() && top.is_cooked());
}

#[actix_web::test]
async fn a_worker_is_shown_in_full_and_its_log_live() {
    let site = Site::new();
    let script =
        "echo hello from inside; n=0; while :; do n=$((n+1)); echo line $n; /bin/sleep 0.1; done";
    let worker =
        json!({"group": "g", "instance": "a", "command": "/bin/sh", "args": ["-c", script]});
    let (queen, _hive) = site.start_both(json!([worker])).await;
    let known = ready_workers(queen.queen(), 1, secs(5)).await;
    let mut top = top(&queen, 30, 100);
    top.shows(|text| text.contains("test-hive/g/a")).await;
    top.press("\r");
    let pid = format!("pid        {}", known[0]["pid"]);
    top.shows(|text| text.contains(&pid) && text.contains("isolation")).await;
    top.press("l");
    top.shows(|text| text.contains("log, live") && text.contains("line ")).await;
    let number = |text: &str| {
        let last = text
            .lines()
            .rev()
            .find_map(|line| line.split("line ").nth(1)?.split(' ').next()?.parse::<u32>().ok());
        last.unwrap_or(0)
    };
    let before = number(&top.text());
    top.shows(|text| number(text) > before + 2).await;
    top.press(ESCAPE);
    top.shows(|text| text.contains("WORKER") && text.contains("enter detail")).await;
    // What ctrl-C means to a terminal in raw mode is a key.
    top.press("\x03");
    assert_eq!(top.ended(secs(5)).await.code(), Some(0));
    assert!(top.is_cooked());
}

#[actix_web::test]
async fn another_size_is_another_picture() {
    let site = Site::new();
    let queen = queen(&site).await;
    let _hive = Heartbeats::start(queen.queen(), "h", workers(&[0.0; 40])).await;
    let mut top = top(&queen, 12, 120);
    top.shows(|text| rows(text).len() == 9 && text.contains("VRAM")).await;
    top.resize(30, 50);
    top.shows(|text| rows(text).len() == 27 && !text.contains("VRAM")).await;
    for _ in 0..39 {
        top.press(DOWN);
    }
    top.shows(|text| rows(text).last().is_some_and(|last| last == "9")).await;
    top.resize(3, 10);
    top.shows(|text| text.starts_with("rbee top")).await;
    top.resize(12, 120);
    top.shows(|text| rows(text).len() == 9).await;
    top.press("q");
    assert!(top.ended(secs(5)).await.success());
}

#[actix_web::test]
async fn a_queen_that_goes_away_is_told_and_found_again() {
    let site = Site::new();
    let bind = format!("127.0.0.1:{}", free_port());
    let config = json!({"queen": {"bind": bind}});
    let mut first = site.start("queen", &config).await;
    let hive = Heartbeats::start(first.queen(), "h", workers(&[7.0])).await;
    let mut top = top(&first, 12, 140);
    top.shows(|text| rows(text) == ["0"] && text.contains("live")).await;
    drop(hive);
    assert!(first.terminate(secs(5)).await.success());
    let text = top.shows(|text| text.contains("figures are old")).await;
    assert_eq!(rows(&text), ["0"], "what was known stays");
    top.shows(|text| text.contains("is it running?")).await;
    let second = site.start("queen", &config).await;
    let _hive = Heartbeats::start(second.queen(), "h", workers(&[7.0, 8.0])).await;
    top.shows(|text| rows(text) == ["0", "1"] && !text.contains("figures are old")).await;
    top.press("q");
    assert!(top.ended(secs(5)).await.success());
}

#[actix_web::test]
async fn a_signal_gives_the_terminal_back() {
    let site = Site::new();
    let queen = queen(&site).await;
    let _hive = Heartbeats::start(queen.queen(), "h", workers(&[0.0])).await;
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT] {
        let mut top = top(&queen, 12, 100);
        top.shows(|text| rows(text).len() == 1).await;
        top.signal(signal);
        assert_eq!(top.ended(secs(5)).await.code(), Some(0), "{signal}");
        assert!(!top.has_screen() && top.is_cooked(), "{signal}");
    }
}

#[actix_web::test]
async fn what_goes_wrong_on_the_screen_gives_the_terminal_back_and_is_told() {
    let site = Site::new();
    let queen = queen(&site).await;
    // More than there are addresses: no thread can be made, so there are no keys.
    let stack = u64::MAX.to_string();
    let variables = [("RUST_MIN_STACK", stack.as_str())];
    let mut top = Pty::start_with(&variables, &["top", "--url", queen.queen().url()], 12, 100);
    assert_eq!(top.ended(secs(10)).await.code(), Some(1));
    top.shows(|text| text.contains("keys cannot be read")).await;
    assert!(top.raw().contains("\x1b[?1049h"), "it had the screen before");
    assert!(!top.has_screen() && top.is_cooked());
}

#[actix_web::test]
async fn it_never_clears_what_stays_and_draws_in_one_go() {
    let site = Site::new();
    let queen = queen(&site).await;
    let hive = Heartbeats::start(queen.queen(), "h", workers(&[0.0, 1.0])).await;
    let mut top = top(&queen, 12, 100);
    top.shows(|text| rows(text).len() == 2).await;
    let before = top.raw().len();
    for cpu in [11.0, 22.0, 33.0] {
        hive.set("/workers/0/cpu_pct", json!(cpu)).await;
        top.shows(|text| text.contains(&format!("{cpu}%"))).await;
    }
    let drawn = top.raw()[before..].to_owned();
    assert!(!drawn.contains("\x1b[2J"), "the screen is never wiped");
    assert_eq!(drawn.matches("\x1b[?2026h").count(), drawn.matches("\x1b[?2026l").count());
    assert!(!drawn.contains("h/llm/1"), "a row that stays is not written again: {drawn:?}");
    top.press("q");
    assert!(top.ended(secs(5)).await.success());
}

#[actix_web::test]
async fn where_no_queen_is_the_terminal_is_not_touched() {
    let mut top = Pty::start(&["top", "--url", "http://127.0.0.1:1"], 12, 100);
    assert_eq!(top.ended(secs(5)).await.code(), Some(69));
    top.shows(|text| text.contains("is it running?")).await;
    assert!(!top.raw().contains("\x1b[?1049h"));
}

#[actix_web::test]
async fn a_table_fits_its_terminal_and_has_colours_only_there() {
    let site = Site::new();
    let queen = queen(&site).await;
    let long = json!([report("1", json!({"model": "a".repeat(200), "state": "failed"}))]);
    let _hive = Heartbeats::start(queen.queen(), "h", long).await;
    let mut table = Pty::start(&["workers", "--url", queen.queen().url()], 12, 60);
    assert_eq!(table.ended(secs(5)).await.code(), Some(0));
    let text = table.shows(|text| text.contains("h/llm/1")).await;
    assert_eq!(text.lines().count(), 2, "no line is broken: {text}");
    assert!(text.contains('…'), "{text}");
    assert!(!table.raw().contains("\x1b["), "the tests set NO_COLOR");
}
