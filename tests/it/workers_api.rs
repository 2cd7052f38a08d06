//! `/v1/workers` of a hive: what may be asked, what is answered, what is refused and how.

use crate::support::{RBEE, Site, assert_is_error, eventually, proc, secs};
use serde_json::{Value, json};
use std::{fs, os::unix::fs::PermissionsExt};

fn sleeper(instance: &str) -> Value {
    json!({"group": "g", "instance": instance, "command": "/bin/sleep", "args": ["86400"]})
}

#[actix_web::test]
async fn a_worker_is_made_shown_listed_and_ended() {
    let site = Site::new();
    let hive = site.start_hive(json!([])).await;
    let api = hive.hive();
    assert_eq!(api.get("/v1/workers").await.expect(200), json!({"workers": []}));

    let made = api.spawn(sleeper("one")).await;
    let pid = made["pid"].as_u64().expect("201 comes with the PID") as u32;
    assert!(proc::alive(pid));
    assert_eq!((&made["group"], &made["instance"]), (&json!("g"), &json!("one")));
    let mut other = sleeper("two");
    other["group"] = json!("h");
    api.spawn(other).await;

    let one = api.worker("g/one").await;
    assert_eq!(one["pid"], pid);
    assert_eq!(one["spec"]["command"], "/bin/sleep");
    assert_eq!(one["spec"]["args"], json!(["86400"]));
    let instances = async |path: &str| {
        let list = api.get(path).await.expect(200);
        let workers = list["workers"].as_array().expect("a list").iter();
        let mut names: Vec<_> = workers.map(|worker| worker["instance"].to_string()).collect();
        names.sort();
        names
    };
    assert_eq!(instances("/v1/workers").await, ["\"one\"", "\"two\""]);
    assert_eq!(instances("/v1/workers?group=h").await, ["\"two\""]);
    assert!(instances("/v1/workers?group=none").await.is_empty());

    api.delete("/v1/workers/g/one").await.expect(200);
    assert!(!proc::exists(pid));
    assert_is_error(&api.delete("/v1/workers/g/one").await, 404, "g/one");
    assert_is_error(&api.get("/v1/workers/g/one").await, 404, "g/one");
    assert_is_error(&api.post("/v1/workers/g/one/restart", json!({})).await, 404, "g/one");
    assert_is_error(&api.get("/v1/workers/g/one/logs").await, 404, "g/one");
    assert_eq!(instances("/v1/workers").await, ["\"two\""]);
}

#[actix_web::test]
async fn a_name_that_is_taken_is_answered_with_who_has_it() {
    let site = Site::new();
    let hive = site.start_hive(json!([])).await;
    let made = hive.hive().spawn(sleeper("one")).await;
    let answer = hive.hive().post("/v1/workers", sleeper("one")).await;
    let there = answer.expect(409);
    assert_eq!((&there["pid"], &there["instance"]), (&made["pid"], &json!("one")));
}

#[actix_web::test]
async fn a_name_that_was_given_up_is_free_again() {
    let site = Site::new();
    let hive = site.start_hive(json!([])).await;
    let first = hive.hive().spawn(sleeper("one")).await;
    hive.hive().delete("/v1/workers/g/one").await.expect(200);
    let second = hive.hive().spawn(sleeper("one")).await;
    assert_ne!(first["pid"], second["pid"]);
    assert_eq!(second["restarts"], 0);
}

#[actix_web::test]
async fn a_command_outside_the_list_is_refused() {
    let site = Site::new();
    let hive = site.start_hive(json!([])).await;
    let mut spec = sleeper("one");
    for command in ["/opt/tools/engine", "/bin/../opt/engine", "/usr/bin/deeper/engine"] {
        spec["command"] = json!(command);
        let answer = hive.hive().post("/v1/workers", spec.clone()).await;
        assert_is_error(&answer, 403, command);
        assert_is_error(&answer, 403, "allow_commands");
    }
    spec["command"] = json!(RBEE);
    spec["args"] = json!(["echo-worker", "--port", "0"]);
    hive.hive().spawn(spec).await;
}

#[actix_web::test]
async fn a_hive_that_allows_nothing_runs_nothing() {
    let site = Site::new();
    let mut config = site.hive_config(None);
    config["hive"]["admin"]["allow_commands"] = json!([]);
    config["hive"]["workers"] = json!([sleeper("from-file")]);
    let hive = site.start("hive", &config).await;
    let answer = hive.hive().post("/v1/workers", sleeper("one")).await;
    assert_is_error(&answer, 403, "/bin/sleep");
    hive.hive().worker_in_state("g/from-file", "ready").await;
}

#[actix_web::test]
async fn a_bad_spec_is_refused_naming_the_field() {
    let site = Site::new();
    let hive = site.start_hive(json!([])).await;
    let not_executable = site.path("plain-file");
    fs::write(&not_executable, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&not_executable, fs::Permissions::from_mode(0o644)).unwrap();
    let cases = [
        ("cpu_limit", json!("lots")),
        ("cpu_limit", json!("0%")),
        ("memory_limit", json!("4X")),
        ("memory_limit", json!("-1")),
        ("group", json!("../x")),
        ("group", json!("")),
        ("group", json!("cgroup.procs")),
        ("group", json!("a b")),
        ("group", json!("x".repeat(65))),
        ("instance", json!("a.service")),
        ("instance", json!("a/b")),
        ("instance", json!(8080)),
        ("instance", Value::Null),
        ("command", json!("")),
        ("command", json!("bin/sleep")),
        ("command", json!("/bin/no-such-program")),
        ("command", json!(not_executable)),
        ("args", json!("86400")),
        ("args", json!([86400])),
        ("env", json!({"A=B": "c"})),
        ("slots", json!(-1)),
        ("restart.policy", json!("sometimes")),
        ("ready.http", json!("not a url")),
        ("stop_grace_ms", json!(1.5)),
        ("colour", json!("red")),
    ];
    for (field, value) in cases {
        let mut spec = sleeper("one");
        match field.split_once('.') {
            Some((table, key)) => spec[table] = json!({key: value}),
            None => spec[field] = value,
        }
        println!("{spec}");
        assert_is_error(&hive.hive().post("/v1/workers", spec).await, 422, field);
    }
    let list = hive.hive().get("/v1/workers").await.expect(200);
    assert_eq!(list, json!({"workers": []}), "nothing of a refused worker is left");
}

#[actix_web::test]
async fn several_faults_are_named_at_once() {
    let site = Site::new();
    let hive = site.start_hive(json!([])).await;
    let mut spec = sleeper("one");
    spec["cpu_limit"] = json!("lots");
    spec["memory_limit"] = json!("4X");
    let answer = hive.hive().post("/v1/workers", spec).await;
    assert_is_error(&answer, 422, "cpu_limit");
    assert_is_error(&answer, 422, "memory_limit");
}

#[actix_web::test]
async fn what_is_no_request_is_answered_with_an_error_all_the_same() {
    let site = Site::new();
    let hive = site.start_hive(json!([])).await;
    for body in ["{", "[]", "\"x\""] {
        let answer = hive.hive().post_text("/v1/workers", body).await;
        assert!(matches!(answer.status, 400 | 422), "{body}: {answer:?}");
        assert_is_error(&answer, answer.status, "");
    }
    assert_is_error(&hive.hive().get("/v1/nothing").await, 404, "");
    assert_is_error(&hive.hive().delete("/v1/workers").await, 405, "");
    assert_is_error(&hive.hive().get("/v1/workers/..%2f..%2fetc/passwd").await, 404, "");
}

#[actix_web::test]
async fn limits_are_told_as_they_were_asked_for() {
    let site = Site::new();
    let mut limited = sleeper("limited");
    limited["cpu_limit"] = json!("150%");
    limited["memory_limit"] = json!("64M");
    let hive = site.start_hive(json!([limited, sleeper("free")])).await;

    let limited = hive.hive().worker_in_state("g/limited", "ready").await;
    assert_eq!(limited["cpu_limit_pct"], 150.0);
    assert_eq!(limited["memory_limit_mb"], 64);
    let applied = limited["limits_applied"].as_bool().expect("asked for, so applied or not");
    if applied {
        let pid = limited["pid"].as_u64().unwrap() as u32;
        let cgroup = proc::cgroup_of(pid).expect("only a cgroup can apply them");
        let read = |name: &str| fs::read_to_string(cgroup.join(name)).unwrap();
        assert_eq!(read("memory.max").trim(), (64 << 20).to_string());
        assert_eq!(read("cpu.max").trim(), "150000 100000");
    }
    let free = hive.hive().worker_in_state("g/free", "ready").await;
    for field in ["limits_applied", "cpu_limit_pct", "memory_limit_mb"] {
        assert_eq!(free[field], Value::Null, "{field}");
    }
}

#[actix_web::test]
async fn a_worker_runs_in_the_environment_and_the_place_that_were_asked_for() {
    let site = Site::new();
    let mut config = site.hive_config(None);
    config["hive"]["admin"]["allow_env"] = json!(["BEE"]);
    let hive = site.start("hive", &config).await;
    let script = "echo $BEE $PYTHONUNBUFFERED; pwd; exit 0";
    let spec = json!({
        "group": "g", "instance": "one", "command": "/bin/sh", "args": ["-c", script],
        "env": {"BEE": "buzz"}, "cwd": "/usr",
    });
    hive.hive().spawn(spec.clone()).await;
    let worker = hive.hive().worker_in_state("g/one", "stopped").await;
    assert_eq!(worker["last_exit"]["log_tail"], json!(["buzz 1", "/usr"]));

    let mut forbidden = spec;
    forbidden["instance"] = json!("two");
    forbidden["env"] = json!({"LD_PRELOAD": "/tmp/evil.so"});
    let answer = hive.hive().post("/v1/workers", forbidden).await;
    assert!(matches!(answer.status, 403 | 422), "{answer:?}");
    assert_is_error(&answer, answer.status, "LD_PRELOAD");
}

#[actix_web::test]
async fn a_hive_says_that_it_is_well_and_what_it_has() {
    let site = Site::new();
    let hive = site.start_hive(json!([])).await;
    let health = hive.hive().get("/health").await.expect(200);
    assert_eq!((&health["status"], &health["role"]), (&json!("ok"), &json!("hive")));
    assert_eq!(health["version"], env!("CARGO_PKG_VERSION"));
    assert!(health["uptime_s"].is_u64());
    let capabilities = hive.hive().get("/capabilities").await.expect(200);
    assert!(capabilities["devices"].is_array() && capabilities["cgroup"].is_object());
}

#[actix_web::test]
async fn the_queen_passes_admin_calls_on_to_a_hive_of_its_own_machine() {
    let site = Site::new();
    let (queen, hive) = site.start_both(json!([])).await;
    eventually(secs(5), async || {
        let hives = queen.queen().get("/v1/hives/test-hive").await;
        if hives.status == 200 { Ok(()) } else { Err(hives.text) }
    })
    .await;
    let at = |rest: &str| format!("/v1/hives/test-hive/workers{rest}");
    let spec = json!({"group": "g", "instance": "a", "command": "/bin/sh",
                      "args": ["-c", "echo hello; exec /bin/sleep 1000"]});
    let made = queen.queen().post(&at(""), spec.clone()).await.expect(201);
    assert_eq!(hive.hive().worker("g/a").await["pid"], made["pid"]);
    queen.queen().post(&at(""), spec).await.expect(409);
    assert_eq!(
        queen.queen().get(&at("?group=g")).await.expect(200)["workers"][0]["pid"],
        made["pid"]
    );
    assert_eq!(queen.queen().get(&at("/g/a")).await.expect(200)["spec"]["command"], "/bin/sh");
    eventually(secs(5), async || {
        let logs = queen.queen().get(&at("/g/a/logs?tail=1")).await.text;
        if logs == "hello\n" { Ok(()) } else { Err(logs) }
    })
    .await;
    queen.queen().post(&at("/g/a/drain"), json!({})).await.expect(200);
    queen.queen().post(&at("/g/a/restart"), json!({})).await.expect(200);
    let bad = queen.queen().post(&at(""), json!({"group": "g"})).await;
    assert_is_error(&bad, 422, "instance");
    queen.queen().delete(&at("/g/a")).await.expect(200);
    hive.hive().get("/v1/workers/g/a").await.expect(404);
    let unknown = queen.queen().get("/v1/hives/nobody/workers").await;
    assert_is_error(&unknown, 404, "nobody");
}

#[actix_web::test]
async fn what_a_queen_passed_on_and_answered_it_knows() {
    let site = Site::new();
    let (queen, _hive) = site.start_both(json!([])).await;
    eventually(secs(5), async || {
        let hives = queen.queen().get("/v1/hives/test-hive").await;
        if hives.status == 200 { Ok(()) } else { Err(hives.text) }
    })
    .await;
    let workers = "/v1/hives/test-hive/workers";
    for name in ["a", "b", "c", "d", "e"] {
        let spec = json!({"group": "g", "instance": name, "command": "/bin/sleep", "args": ["1000"],
                          "url": "http://127.0.0.1:1", "model": name});
        let made = queen.queen().post(workers, spec).await.expect(201);
        let known = queen.queen().get(&format!("/v1/workers/test-hive/g/{name}")).await.expect(200);
        assert_eq!(known["pid"], made["pid"]);
    }
    let ask = json!({"model": "a", "ttl_ms": 1});
    for _ in 0..3 {
        queen.queen().post("/v1/schedule", ask.clone()).await.expect(200);
        queen.queen().post(&format!("{workers}/g/a/drain"), json!({})).await.expect(200);
        queen.queen().post("/v1/schedule", ask.clone()).await.expect(503);
        queen.queen().post(&format!("{workers}/g/a/resume"), json!({})).await.expect(200);
    }
    let again = queen.queen().post(&format!("{workers}/g/a/restart"), json!({})).await.expect(200);
    let known = queen.queen().get("/v1/workers/test-hive/g/a").await.expect(200);
    assert_eq!(known["pid"], again["pid"]);
}

#[actix_web::test]
async fn the_queen_passes_nothing_on_to_where_a_heartbeat_points() {
    let site = Site::new();
    let mut config = site.queen_config();
    config["queen"]["hives"] = json!([{"id": "listed", "url": "http://127.0.0.1:9"}]);
    let queen = site.start("queen", &config).await;
    let beat = json!({
        "hive": {"id": "elsewhere", "hostname": "169.254.169.254", "port": 80},
        "timestamp": "2026-01-01T00:00:00Z", "workers": [],
    });
    queen.queen().post("/v1/hive-heartbeat", beat.clone()).await.expect(200);
    let refused = queen.queen().get("/v1/hives/elsewhere/workers").await;
    assert_is_error(&refused, 403, "[[queen.hives]]");
    // The address of the configuration counts, whatever the hive says of itself.
    let mut listed = beat;
    listed["hive"]["id"] = json!("listed");
    queen.queen().post("/v1/hive-heartbeat", listed).await.expect(200);
    let gone = queen.queen().get("/v1/hives/listed/workers").await;
    assert_is_error(&gone, 502, "127.0.0.1:9");
}
