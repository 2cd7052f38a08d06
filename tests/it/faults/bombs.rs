//! Heartbeats that are made to hurt. Each is refused with a reason, the queen's memory has a bound, and who
//! asks for `/health` meanwhile is answered.

use super::cost::Latencies;
use crate::support::{Api, Daemon, Site, ms, proc, report, secs};
use awc::Client;
use flate2::{Compression, write::GzEncoder};
use serde_json::json;
use std::{fmt::Write as _, io::Write as _, rc::Rc};
use tokio::task::JoinSet;

/// Of each bomb, so many at once.
const AT_ONCE: usize = 8;
/// What all of them together may cost: each its body and what is read of it, then its parts.
const GROWTH_MB: f64 = 160.0;
/// Hives that a queen knows at most.
const HIVES: usize = 4_096;
/// Bytes of a heartbeat, at most.
const LIMIT: usize = 4 << 20;

#[derive(Clone)]
struct Bomb {
    name: &'static str,
    encoding: &'static str,
    body: Rc<Vec<u8>>,
    answer: &'static [u16],
}

fn plain(name: &'static str, body: impl Into<Vec<u8>>, answer: &'static [u16]) -> Bomb {
    Bomb { name, encoding: "identity", body: Rc::new(body.into()), answer }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A heartbeat with this in place of its workers, and more after them.
fn heartbeat(workers: &str, more: &str) -> String {
    format!(
        r#"{{"hive":{{"id":"bomb","hostname":"127.0.0.1","port":1}},"timestamp":"2026-01-01T00:00:00Z","workers":{workers}{more}}}"#
    )
}

fn array_of(item: &str, bytes: usize) -> String {
    format!("[{}{item}]", format!("{item},").repeat(bytes / (item.len() + 1)))
}

fn many_workers(count: usize) -> String {
    let workers = (0..count).map(|n| format!(r#"{{"group":"g","instance":"{n}"}}"#));
    format!("[{}]", workers.collect::<Vec<_>>().join(","))
}

fn many_keys() -> String {
    let mut keys = String::new();
    for n in 0..250_000 {
        write!(keys, r#","k{n}":{{}}"#).unwrap();
    }
    keys
}

fn bombs() -> Vec<Bomb> {
    let zeros = vec![b' '; 64 << 20];
    let zstd = zstd::encode_all(&zeros[..], 1).unwrap();
    let twice = gzip(&gzip(&zeros));
    let compressed =
        |name, encoding, body, answer| Bomb { name, encoding, body: Rc::new(body), answer };
    let number = |figure: &str| {
        heartbeat(&format!(r#"[{{"group":"g","instance":"1","cpu_pct":{figure}}}]"#), "")
    };
    let depth = LIMIT / 2 - 1_000;
    vec![
        plain("nested arrays", "[".repeat(LIMIT - 1), &[400]),
        plain("nested objects", "{\"a\":".repeat(LIMIT / 5), &[400]),
        plain(
            "nested in a field",
            heartbeat("[]", &format!(",\"x\":{}{}", "[".repeat(depth), "]".repeat(depth))),
            &[400],
        ),
        plain("too long", " ".repeat(LIMIT + 1), &[413]),
        plain("far too long", " ".repeat(LIMIT * 8), &[413]),
        compressed("gzip", "gzip", gzip(&zeros), &[413]),
        compressed("zstd", "zstd", zstd, &[413]),
        compressed("gzip twice", "gzip", twice, &[400, 413]),
        compressed(
            "no gzip",
            "gzip",
            vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xff, 0xff, 0xff],
            &[400],
        ),
        plain("a million workers", heartbeat(&array_of("{}", LIMIT - 200), ""), &[400]),
        plain("a million arrays", heartbeat(&array_of("[]", LIMIT - 200), ""), &[400]),
        plain("a million unknown keys", heartbeat("[]", &many_keys()), &[400, 200]),
        plain("a worker too many", heartbeat(&many_workers(4_097), ""), &[400]),
        plain("a number out of range", number("1e999"), &[400]),
        plain("a number without an end", number(&"9".repeat(LIMIT - 1_000)), &[400]),
        plain("a negative number", number("-1"), &[400]),
        plain("no number", number("NaN"), &[400]),
        plain("a key twice", heartbeat("[]", r#","workers":[]"#), &[400]),
        plain(
            "a hive twice",
            heartbeat("[]", r#","hive":{"id":"b","hostname":"h","port":2}"#),
            &[400],
        ),
        plain(
            "a long name",
            heartbeat("[]", "").replace("bomb", &"b".repeat(LIMIT - 1_000)),
            &[400],
        ),
        plain("escapes", format!("\"{}\"", "\\u0000".repeat(LIMIT / 6 - 10)), &[400]),
    ]
}

async fn throw(api: Api, bomb: Bomb) -> (&'static str, u16, &'static [u16]) {
    let client = Client::builder().timeout(secs(60)).finish();
    let request = client.post(format!("{}/v1/hive-heartbeat", api.url())).force_close();
    let request = request.insert_header(("content-encoding", bomb.encoding));
    // A body that is refused for its length need not be taken to its end.
    let status = match request.send_body(bomb.body.to_vec()).await {
        Ok(answer) => answer.status().as_u16(),
        Err(_) if bomb.body.len() > LIMIT => 413,
        Err(error) => panic!("{}: {error}", bomb.name),
    };
    (bomb.name, status, bomb.answer)
}

/// All at once; how soon `/health` was answered meanwhile.
async fn throw_all(queen: &Daemon, bombs: Vec<Bomb>) -> Latencies {
    let (mut under_way, mut latencies) = (JoinSet::new(), Latencies::default());
    for bomb in bombs {
        under_way.spawn_local(throw(queen.queen().clone(), bomb));
    }
    while !under_way.is_empty() {
        latencies.ask(queen.queen()).await;
        tokio::time::sleep(ms(10)).await;
        while let Some(done) = under_way.try_join_next() {
            let (name, status, expected) = done.unwrap();
            assert!(expected.contains(&status), "{name}: {status}");
        }
    }
    latencies
}

#[actix_web::test]
async fn heartbeats_that_are_made_to_hurt_are_refused_and_cost_a_bounded_amount() {
    let site = Site::new();
    let queen = site.start("queen", &site.queen_config()).await;
    let before = proc::rss_mb(queen.pid()).unwrap();
    for bomb in bombs() {
        let latencies = throw_all(&queen, vec![bomb.clone(); AT_ONCE]).await;
        let worst = latencies.percentile(100);
        let peak = proc::peak_rss_mb(queen.pid()).unwrap() - before;
        eprintln!("{}: /health within {worst:?}, {peak:.0} MiB more at most", bomb.name);
        assert!(peak < GROWTH_MB, "{}: {peak} MiB", bomb.name);
    }
    assert_eq!(queen.queen().get("/v1/hives").await.json["hives"].as_array().unwrap().len(), 0);
}

#[actix_web::test]
async fn more_hives_than_a_queen_takes_are_told_so_and_those_that_it_has_go_on() {
    let site = Site::new();
    let queen = site.start("queen", &site.queen_config()).await;
    let before = proc::rss_mb(queen.pid()).unwrap();
    let beat = async |n: usize| {
        let heartbeat = json!({
            "hive": {"id": format!("h{n}"), "hostname": "127.0.0.1", "port": 1},
            "timestamp": "2026-01-01T00:00:00Z", "interval_ms": 60_000,
            "workers": [report("1", json!({}))],
        });
        queen.queen().post("/v1/hive-heartbeat", heartbeat).await
    };
    for n in 0..HIVES {
        beat(n).await.expect(200);
    }
    let refused = beat(HIVES).await;
    assert_eq!((refused.status, &refused.json["error"]["code"]), (503, &json!("overloaded")));
    beat(0).await.expect(200);
    let mut latencies = Latencies::default();
    for _ in 0..20 {
        latencies.ask(queen.queen()).await;
    }
    latencies.assert_prompt();
    let growth = proc::peak_rss_mb(queen.pid()).unwrap() - before;
    eprintln!("{HIVES} hives cost {growth:.0} MiB");
    assert!(growth < GROWTH_MB, "{growth} MiB");
}
