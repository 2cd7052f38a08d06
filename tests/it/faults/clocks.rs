//! The machine's wall clock jumps by hours, forward and back. Nothing that is measured depends on it:
//! freshness, rates, uptime, restarts, reservations, logins, the order of events.

use super::mortal::{assert_told_once, kill, sleeper, until_told};
use crate::support::{
    Api, Event, Heartbeats, Site, SseClient, ask, eventually, ready_workers, report, secs,
};
use serde_json::{Value, json};
use std::{fs, path::PathBuf};

/// Debian's libfaketime, which stands between a program and its clock.
fn fake_clock() -> PathBuf {
    let libraries = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let found = libraries.map(|dir| dir.path().join("faketime/libfaketimeMT.so.1"));
    let found = found.into_iter().find(|library| library.exists());
    found.expect("this needs libfaketime: apt-get install faketime")
}

/// A clock that the test sets while daemons run.
struct Clock(PathBuf);

impl Clock {
    fn of(site: &Site) -> Self {
        let clock = Self(site.path("clock"));
        clock.set("+0");
        for (name, value) in [
            ("LD_PRELOAD", fake_clock().to_str().unwrap()),
            ("FAKETIME_TIMESTAMP_FILE", clock.0.to_str().unwrap()),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ("DONT_FAKE_MONOTONIC", "1"),
            ("FAKETIME_DISABLE_SHM", "1"),
            ("NO_FAKE_STAT", "1"),
        ] {
            site.set_variable(name, value);
        }
        clock
    }

    /// Its difference from the true time. Never half written.
    fn set(&self, difference: &str) {
        let draft = self.0.with_extension("new");
        fs::write(&draft, format!("{difference}\n")).unwrap();
        fs::rename(&draft, &self.0).unwrap();
    }
}

fn unix_s(event: &Event) -> i64 {
    let text = event.data["timestamp"].as_str().unwrap();
    text.parse::<jiff::Timestamp>().unwrap().as_second()
}

fn busy() -> Value {
    json!({
        "group": "g", "instance": "busy", "command": "/bin/sh", "args": ["-c", "while :; do :; done"],
    })
}

/// A reservation of the one slot in this group, once it is free.
async fn reserve(queen: &Api, group: &str, ttl_ms: u64) -> String {
    let taken = eventually(secs(5), async || {
        let answer = queen.post("/v1/schedule", json!({"ttl_ms": ttl_ms, "group": group})).await;
        if answer.status == 200 { Ok(answer.json) } else { Err(answer) }
    })
    .await;
    taken["reservation_id"].as_str().unwrap().to_owned()
}

/// Figures that only a clock that runs evenly makes.
async fn assert_figures(queen: &Api, hive: &Api) {
    let worker = queen.worker("test-hive/g/busy").await;
    assert_eq!((&worker["freshness"], &worker["restarts"]), (&json!("healthy"), &json!(0)));
    let (cpu, uptime) = (worker["cpu_pct"].as_f64().unwrap(), worker["uptime_s"].as_u64().unwrap());
    assert!((3.0..=130.0).contains(&cpu) && uptime < 120, "{worker}");
    let age = hive.worker("g/busy").await["sample_age_ms"].as_u64();
    assert!(age < Some(1_500), "a sample of {age:?} ms ago");
    let health = queen.get("/health").await.expect(200);
    assert!(health["uptime_s"].as_u64() < Some(120), "{health}");
}

#[actix_web::test]
async fn nothing_that_is_measured_depends_on_the_wall_clock() {
    let site = Site::new();
    let clock = Clock::of(&site);
    let (queen_token, hive_token) =
        (site.secret("admin", "admin-token-a"), site.secret("hive", "hive-token-b"));
    let queen = json!({"queen": {
        "bind": "127.0.0.1:0", "public_read": true,
        "auth": {"token_file": queen_token, "hive_token_file": hive_token},
    }});
    let queen = site.start("queen", &queen).await;
    let mut config = site.hive_config(Some(queen.queen().url()));
    config["hive"]["queen_token_file"] = json!(hive_token);
    config["hive"]["heartbeat_interval_ms"] = json!(300);
    config["hive"]["sample_interval_ms"] = json!(300);
    config["hive"]["workers"] = json!([busy(), sleeper("dies")]);
    let hive = site.start("hive", &config).await;
    let queen = queen.queen().with_token("admin-token-a");
    ready_workers(&queen, 2, secs(15)).await;
    let worker = |group: &str| report(group, json!({"group": group, "slots": 1}));
    let fleet = json!([worker("held"), worker("brief")]);
    let _fleet = Heartbeats::start(&queen, "other", fleet).await;
    let json_body = [("content-type", "application/json")];
    let login = ask(&queen, "POST", "/login", &json_body, r#"{"token":"admin-token-a"}"#).await;
    let cookie = login.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let mut stream =
        SseClient::connect(&format!("{}/v1/heartbeats/stream?hive=test-hive", queen.url())).await;
    let telemetry = |event: &Event| event.kind() == "hive_telemetry";
    let (mut numbers, mut times) = (Vec::new(), 0);
    for (difference, hours) in [("+5h", 5), ("-9h", -14), ("+0", 9)] {
        let before = unix_s(&stream.next_matching("telemetry", secs(5), telemetry).await);
        let held = reserve(&queen, "held", 60_000).await;
        reserve(&queen, "brief", 1_000).await;
        clock.set(difference);
        let jumped =
            |event: &Event| telemetry(event) && (unix_s(event) - before - hours * 3_600).abs() < 60;
        stream.next_matching("a timestamp of the other time", secs(5), jumped).await;
        kill(hive.hive(), times).await;
        times += 1;
        let events = until_told(&mut stream).await;
        assert_told_once(&events, 1);
        assert!(!events.iter().any(|event| event.kind().starts_with("hive_") && !telemetry(event)));
        numbers.extend(
            events.iter().map(|event| event.id.rsplit_once('-').unwrap().1.parse::<u64>().unwrap()),
        );
        assert_figures(&queen, hive.hive()).await;
        queen.put(&format!("/v1/reservations/{held}")).await.expect(200);
        queen.delete(&format!("/v1/reservations/{held}")).await.expect(204);
        reserve(&queen, "brief", 100).await;
        let seen =
            ask(&queen, "GET", "/v1/hives/test-hive/workers", &[("cookie", &cookie)], "").await;
        assert_ne!(seen.status, 401, "the login lasts");
    }
    assert!(numbers.is_sorted(), "{numbers:?}");
}
