#![allow(clippy::unwrap_used, clippy::unwrap_in_result, reason = "a test says what it expects")]

use super::*;
use crate::actors::fleet::fixtures::{heartbeat, worker};
use proptest::prelude::*;

fn valid() -> HiveHeartbeat {
    heartbeat("h", vec![worker("llm", "1"), worker("llm", "2")])
}

fn path_of(heartbeat: &HiveHeartbeat) -> String {
    validate(heartbeat).err().map_or_else(|| "valid".to_owned(), |invalid| invalid.path)
}

#[test]
fn an_ordinary_heartbeat_is_valid() {
    assert_eq!(validate(&valid()), Ok(()));
}

type Damage = fn(&mut HiveHeartbeat);

#[test]
fn what_is_wrong_is_named_by_its_path() {
    let cases: [(&str, Damage); 24] = [
        ("workers[0].url", |h| h.workers[0].url = Some("http://[]:80".into())),
        ("workers[0].url", |h| h.workers[0].url = Some("http://127.0.0.1:99999".into())),
        ("hive.id", |h| h.hive.id = "../etc".into()),
        ("hive.hostname", |h| h.hive.hostname = String::new()),
        ("hive.hostname", |h| h.hive.hostname = "a\nb".into()),
        ("hive.hostname", |h| h.hive.hostname = "a".repeat(254)),
        ("hive.port", |h| h.hive.port = 0),
        ("hive.version", |h| h.hive.version = "\u{7f}".into()),
        ("timestamp", |h| h.timestamp = "yesterday".into()),
        ("boot_id", |h| h.boot_id = Some("\0".into())),
        ("node.cpu_pct", |h| h.node.cpu_pct = f64::NAN),
        ("node.rbee.cpu_pct", |h| h.node.rbee.cpu_pct = -1.0),
        ("node.gpus", |h| h.node.gpus = vec![GpuStats::default(); HEARTBEAT_GPUS_MAX + 1]),
        ("node.gpus[0].power_w", |h| {
            h.node.gpus = vec![GpuStats { power_w: Some(-3.0), ..GpuStats::default() }];
        }),
        ("workers[1].group", |h| h.workers[1].group = ".hidden".into()),
        ("workers[0].instance", |h| h.workers[0].instance = "a b".into()),
        ("workers[1].cpu_pct", |h| h.workers[1].cpu_pct = f64::INFINITY),
        ("workers[0].pressure.io", |h| h.workers[0].pressure.io = Some(-0.5)),
        ("workers[0].model", |h| h.workers[0].model = Some("a\u{85}b".into())),
        ("workers[0].model_aliases[1]", |h| {
            h.workers[0].model_aliases = vec!["fine".into(), "a\tb".into()];
        }),
        ("workers[0].url", |h| h.workers[0].url = Some("x".repeat(TEXT_MAX + 1))),
        ("workers[1]", |h| h.workers[1].instance = "1".into()),
        ("workers", |h| h.workers = (0..=4_096).map(|i| worker("a", &i.to_string())).collect()),
        ("timestamp", |h| h.timestamp = "2026-01-01T00:00:00".into()),
    ];
    for (path, damage) in cases {
        let mut damaged = valid();
        damage(&mut damaged);
        assert_eq!(path_of(&damaged), path);
    }
}

#[test]
fn a_message_shows_the_value_and_what_is_allowed_and_stays_short() {
    let mut damaged = valid();
    damaged.workers[1].cpu_pct = -4.5;
    let message = validate(&damaged).unwrap_err().to_string();
    assert_eq!(
        message,
        "workers[1].cpu_pct: -4.5 is not allowed; allowed: a finite number, 0 or more"
    );
    damaged.hive.id = "\u{1}".repeat(100_000);
    let message = validate(&damaged).unwrap_err().to_string();
    assert!(message.len() < 300 && !message.contains('\u{1}'), "{message}");
}

#[test]
fn a_host_has_no_port_and_no_user_is_in_a_url() {
    let with = |hostname: &str, url: &str| {
        let mut one = valid();
        one.hive.hostname = hostname.into();
        one.workers[0].url = Some(url.into());
        validate(&one).map_err(|invalid| invalid.path)
    };
    for host in ["gpu-1", "10.0.0.1", "::1", "[fe80::1%eth0]"] {
        assert_eq!(with(host, "http://a:1"), Ok(()), "{host}");
    }
    for host in ["host:80", "10.0.0.1:80", "a%b", "[x]"] {
        assert_eq!(with(host, "http://a:1"), Err("hive.hostname".into()), "{host}");
    }
    assert_eq!(with("h", "http://user:word@a:1"), Err("workers[0].url".into()));
}

proptest! {
    #[test]
    fn names_are_what_the_contract_says(name in "[A-Za-z0-9][A-Za-z0-9._-]{0,63}") {
        prop_assert!(is_name(&name));
    }

    #[test]
    fn other_names_are_refused(name in ".{0,80}") {
        let allowed = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
        let expected = (1..=64).contains(&name.chars().count())
            && name.chars().all(allowed)
            && name.starts_with(|c: char| c.is_ascii_alphanumeric());
        prop_assert_eq!(is_name(&name), expected);
    }

    #[test]
    fn numbers_are_finite_and_not_negative(value: f64) {
        let mut one = valid();
        one.workers[0].cpu_pct = value;
        let fine = value.is_finite() && value >= 0.0;
        prop_assert_eq!(validate(&one).is_ok(), fine);
    }

    #[test]
    fn no_text_makes_it_panic(model in ".*", hostname in ".*", timestamp in ".*") {
        let mut one = valid();
        one.workers[0].model = Some(model.clone());
        one.hive.hostname = hostname;
        one.timestamp = timestamp;
        let _ = validate(&one);
        let control = model.chars().any(char::is_control);
        let mut model_only = valid();
        model_only.workers[0].model = Some(model);
        prop_assert_eq!(validate(&model_only).is_err(), control);
    }
}
