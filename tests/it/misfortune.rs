//! Workers that misbehave, clients that are slow, and moments that come together.

use crate::support::{Api, Site, eventually, proc, secs};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    time::Instant,
};

fn shell(instance: &str, script: &str) -> Value {
    json!({"group": "g", "instance": instance, "command": "/bin/sh", "args": ["-c", script]})
}

fn sleeper(instance: &str) -> Value {
    json!({"group": "g", "instance": instance, "command": "/bin/sleep", "args": ["86400"]})
}

fn pids(worker: &Value) -> Vec<u32> {
    worker["pids"].as_array().unwrap().iter().map(|pid| pid.as_u64().unwrap() as u32).collect()
}

#[actix_web::test]
async fn a_worker_that_moves_out_of_its_cgroup_is_ended_all_the_same() {
    let Some(mount) = proc::cgroup_mount().filter(|_| nix::unistd::geteuid().is_root()) else {
        return;
    };
    let site = Site::new();
    let hive = site.start_hive(json!([])).await;
    let (up, marker) = (site.path("up"), site.marker());
    let script = format!(
        "echo $$ > {0}/cgroup.procs; trap '' TERM; setsid /bin/sleep {marker} & : > {1}; \
         while :; do /bin/sleep 1; done",
        mount.display(),
        up.display()
    );
    let worker = hive.hive().spawn(shell("escapes", &script)).await;
    eventually(secs(5), async || up.exists().then_some(()).ok_or("not up yet")).await;
    let start = Instant::now();
    hive.hive().delete("/v1/workers/g/escapes?grace_ms=200").await.expect(200);
    assert!(start.elapsed() < secs(5), "took {:?}", start.elapsed());
    assert!(!proc::exists(worker["pid"].as_u64().unwrap() as u32));
    assert!(proc::with_argument(&marker).is_empty());
}

#[actix_web::test]
async fn without_a_cgroup_what_was_seen_of_a_tree_is_ended_whatever_it_did_to_its_environment() {
    let site = Site::new();
    let mut config = site.hive_config(None);
    config["hive"]["cgroup"]["mode"] = json!("off");
    config["hive"]["sample_interval_ms"] = json!(100);
    let hive = site.start("hive", &config).await;
    let marker = site.marker();
    let script = format!(
        "env -i setsid /bin/sleep {marker} & env -i setsid /bin/sh -c '/bin/sleep {marker} & exec /bin/sleep {marker}' & \
         exec /bin/sleep 86400"
    );
    hive.hive().spawn(shell("hides", &script)).await;
    let worker =
        hive.hive().worker_when("g/hides", secs(5), |worker| pids(worker).len() == 4).await;
    assert_eq!(proc::with_argument(&marker).len(), 3);
    hive.hive().delete("/v1/workers/g/hides").await.expect(200);
    assert!(pids(&worker).iter().all(|pid| !proc::exists(*pid)));
    assert!(proc::with_argument(&marker).is_empty());
}

#[actix_web::test]
async fn a_worker_in_uninterruptible_sleep_holds_up_nobody() {
    let site = Site::new();
    let mut config = site.hive_config(None);
    config["hive"]["sample_interval_ms"] = json!(100);
    config["hive"]["cgroup"]["mode"] = json!("off");
    // The parent of a vfork sleeps so until its child has gone its own way.
    let stuck = "import ctypes, time; ctypes.CDLL(None).vfork(); time.sleep(1000)";
    let mut spec = sleeper("stuck");
    spec["command"] = json!("python3");
    spec["args"] = json!(["-c", stuck]);
    config["hive"]["workers"] = json!([spec, sleeper("other")]);
    let hive = site.start("hive", &config).await;
    let stuck = hive.hive().worker_in_state("g/stuck", "ready").await;
    let pid = stuck["pid"].as_u64().unwrap() as u32;
    eventually(secs(10), async || match proc::stat(pid).map(|stat| stat.state) {
        Some('D') => Ok(()),
        state => Err(state),
    })
    .await;
    for _ in 0..20 {
        for name in ["g/other", "g/stuck"] {
            let fresh = |w: &Value| w["sample_age_ms"].as_u64() < Some(250);
            let worker = hive.hive().worker_when(name, secs(2), fresh).await;
            assert_eq!(worker["state"], "ready");
        }
    }
    hive.hive().delete("/v1/workers/g/stuck?grace_ms=100").await.expect(200);
    assert!(!proc::exists(pid));
}

#[actix_web::test]
async fn sighup_does_not_count_as_the_second_signal() {
    let site = Site::new();
    let up = site.path("up");
    let script = format!("trap '' TERM; : > {}; while :; do /bin/sleep 1; done", up.display());
    let mut deaf = shell("deaf", &script);
    deaf["stop_grace_ms"] = json!(800);
    let mut hive = site.start_hive(json!([deaf])).await;
    let worker = hive.hive().worker_in_state("g/deaf", "ready").await;
    eventually(secs(5), async || up.exists().then_some(()).ok_or("not up yet")).await;
    proc::signal(hive.pid(), Signal::SIGTERM);
    hive.log_line(|line| line.contains("stopping").then_some(())).await;
    proc::signal(hive.pid(), Signal::SIGHUP);
    let refused = hive.hive().post("/v1/workers", sleeper("late")).await;
    assert_eq!(refused.status, 503, "{}", refused.text);
    let pid = hive.pid();
    eventually(secs(5), async || if proc::alive(pid) { Err("still there") } else { Ok(()) }).await;
    assert!(!proc::exists(worker["pid"].as_u64().unwrap() as u32));
    assert_eq!(hive.terminate(secs(1)).await.code(), Some(0));
}

#[actix_web::test]
async fn a_death_that_no_hive_saw_is_judged_by_the_workers_policy() {
    let site = Site::new();
    let mut config = site.hive_config(None);
    config["hive"]["on_exit"] = json!("leave");
    let mut hive = site.start("hive", &config).await;
    let (mut never, mut again) = (sleeper("never"), sleeper("again"));
    never["restart"] = json!({"policy": "never"});
    again["restart"] = json!({"backoff_ms": 10, "backoff_max_ms": 10});
    let first = [hive.hive().spawn(never).await, hive.hive().spawn(again).await];
    hive.kill();
    for worker in &first {
        let pid = worker["pid"].as_u64().unwrap() as u32;
        proc::signal(pid, Signal::SIGKILL);
        eventually(secs(5), async || if proc::alive(pid) { Err("alive") } else { Ok(()) }).await;
    }
    let hive = site.start("hive", &config).await;
    let failed = hive.hive().worker_in_state("g/never", "failed").await;
    let exit = &failed["last_exit"];
    assert_eq!(
        (&exit["code"], &exit["signal"], &exit["next"]),
        (&Value::Null, &Value::Null, &json!("failed"))
    );
    let restarted = |w: &Value| w["state"] == "ready" && w["restarts"] == 1;
    let worker = hive.hive().worker_when("g/again", secs(5), restarted).await;
    assert_eq!(worker["last_exit"]["next"], "backoff");
    hive.hive().delete("/v1/workers/g/again").await.expect(200);
}

#[actix_web::test]
async fn a_second_delete_can_cut_the_grace_short() {
    let site = Site::new();
    let up = site.path("up");
    let script = format!("trap '' TERM; : > {}; while :; do /bin/sleep 1; done", up.display());
    let hive = site.start_hive(json!([shell("deaf", &script)])).await;
    hive.hive().worker_in_state("g/deaf", "ready").await;
    eventually(secs(5), async || up.exists().then_some(()).ok_or("not up yet")).await;
    let patient = Api::new(hive.hive().url().to_owned());
    let patient = actix_web::rt::spawn(async move {
        patient.delete("/v1/workers/g/deaf?grace_ms=600000").await.status
    });
    hive.hive().worker_in_state("g/deaf", "stopping").await;
    let start = Instant::now();
    hive.hive().delete("/v1/workers/g/deaf?grace_ms=0").await.expect(200);
    assert!(start.elapsed() < secs(3), "took {:?}", start.elapsed());
    assert_eq!(patient.await.unwrap(), 200);
}

#[actix_web::test]
async fn workers_of_one_group_come_and_go_at_once() {
    let site = Site::new();
    let hive = site.start_hive(json!([])).await;
    let lives = (0..4).map(|n| {
        let api = Api::new(hive.hive().url().to_owned());
        actix_web::rt::spawn(async move {
            for _ in 0..40 {
                api.post("/v1/workers", sleeper(&format!("w{n}"))).await.expect(201);
                let gone = api.delete(&format!("/v1/workers/g/w{n}?grace_ms=0")).await;
                gone.expect(200);
            }
        })
    });
    for life in lives.collect::<Vec<_>>() {
        life.await.unwrap();
    }
    let slice = proc::cgroup_mount().map(|mount| mount.join(site.slice()).join("g"));
    assert!(slice.is_none_or(|slice| !slice.exists()), "its group's directory went with the last");
    assert!(proc::zombies(hive.pid()).is_empty());
}

#[actix_web::test]
async fn one_name_asked_for_many_times_at_once_is_one_worker() {
    let site = Site::new();
    let hive = site.start_hive(json!([])).await;
    let asked = (0..20).map(|_| {
        let api = Api::new(hive.hive().url().to_owned());
        actix_web::rt::spawn(async move { api.post("/v1/workers", sleeper("one")).await.status })
    });
    let mut answers = Vec::new();
    for answer in asked.collect::<Vec<_>>() {
        answers.push(answer.await.unwrap());
    }
    answers.sort_unstable();
    assert_eq!(answers[0], 201);
    assert!(answers[1..].iter().all(|status| *status == 409), "{answers:?}");
}

#[actix_web::test]
async fn a_failed_start_leaves_nothing_behind() {
    let site = Site::new();
    let hive = site.start_hive(json!([])).await;
    let mut spec = sleeper("a");
    spec["command"] = json!("/bin/no-such-program");
    hive.hive().post("/v1/workers", spec).await.expect(422);
    for left in ["state/logs/g", "state/workers/g"] {
        assert!(!site.path(left).exists(), "{left}");
    }
    let group = proc::cgroup_mount().map(|mount| mount.join(site.slice()).join("g"));
    assert!(group.is_none_or(|group| !group.exists()));
}

#[actix_web::test]
async fn a_client_that_sends_its_request_too_slowly_is_told_so() {
    let site = Site::new();
    let hive = site.start_hive(json!([])).await;
    let mut slow = TcpStream::connect(hive.hive().address()).unwrap();
    slow.set_read_timeout(Some(secs(20))).unwrap();
    slow.write_all(
        b"POST /v1/workers HTTP/1.1\r\nHost: localhost\r\ncontent-length: 1000\r\n\r\n{",
    )
    .unwrap();
    let start = Instant::now();
    let reader = actix_web::rt::task::spawn_blocking(move || {
        let mut answer = [0; 512];
        let read = slow.read(&mut answer).unwrap_or(0);
        String::from_utf8_lossy(&answer[..read]).into_owned()
    });
    let answer = reader.await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(start.elapsed() < secs(15));
    hive.hive().get("/health").await.expect(200);
}

#[actix_web::test]
async fn two_hundred_workers_come_and_go_without_leaving_anything_open() {
    let site = Site::new();
    let hive = site.start_hive(json!([])).await;
    let open = || fs::read_dir(format!("/proc/{}/fd", hive.pid())).unwrap().count();
    let round = async |n: usize| {
        hive.hive().spawn(sleeper(&format!("w{n}"))).await;
        hive.hive().delete(&format!("/v1/workers/g/w{n}")).await.expect(200);
    };
    for n in 0..20 {
        round(n).await;
    }
    let before = open();
    for n in 0..200 {
        round(n).await;
    }
    eventually(secs(5), async || match open() {
        now if now <= before + 3 => Ok(()),
        now => Err((before, now)),
    })
    .await;
    let leftover = proc::children(hive.pid());
    assert!(leftover.is_empty(), "{leftover:?}");
}

#[actix_web::test]
async fn a_death_is_a_warning_that_explains_it_and_a_stop_is_not() {
    let site = Site::new();
    let mut hive = site.start("hive", &site.hive_config(None)).await;
    let mut crash = shell("crash", "echo out of ideas; exit 3");
    crash["restart"] = json!({"policy": "never"});
    hive.hive().spawn(sleeper("calm")).await;
    hive.hive().spawn(crash).await;
    let of = |name: &'static str| {
        move |line: &str| (line.contains("ended") && line.contains(name)).then(|| line.to_owned())
    };
    let told = hive.log_line(of("g/crash")).await;
    for part in ["WARN", "code=3", "peak_rss_mb=", "out of ideas"] {
        assert!(told.contains(part), "no {part}: {told}");
    }
    hive.hive().delete("/v1/workers/g/calm").await.expect(200);
    let told = hive.log_line(of("g/calm")).await;
    assert!(told.contains("INFO"), "{told}");
}
