//! What becomes of the tree: controllers on the way down, nested cgroups, trees that lack something.

use crate::{
    machine::{
        CONTROLLERS, Cgroup, Hive, PATIENCE, ROOT, cgroup_file, main_pid, pids, run, sampled_twice,
        shell, sleeper,
    },
    support::{Site, as_str, eventually, proc, rbee},
};
use serde_json::{Value, json};
use std::{collections::HashSet, fs, path::Path};

fn in_cgroup(site: &Site, root: &Path, workers: Value) -> Value {
    let mut config = site.hive_config(None);
    config["hive"]["cgroup"]["root"] = json!(root);
    config["hive"]["workers"] = workers;
    config
}

#[actix_web::test]
async fn every_controller_is_enabled_on_the_way_down_and_nothing_is_left_after_the_end() {
    let site = Site::new();
    let mut hive = site.start_hive(json!([sleeper("a"), sleeper("b")])).await;
    let worker = hive.hive().worker_in_state("g/a", "ready").await;
    let slice = Path::new(ROOT).join(site.slice());
    assert_eq!(proc::cgroup_of(main_pid(&worker)).unwrap(), slice.join("g/a"));
    for path in [slice.clone(), slice.join("g")] {
        let enabled = fs::read_to_string(path.join("cgroup.subtree_control")).unwrap();
        assert!(CONTROLLERS.iter().all(|name| enabled.contains(name)), "{enabled}");
    }
    let capabilities = hive.hive().get("/capabilities").await.expect(200);
    assert_eq!(capabilities["cgroup"]["reason"], json!(null));
    assert_eq!(capabilities["cgroup"]["slice"], as_str(&slice));
    assert_eq!(hive.terminate(PATIENCE).await.code(), Some(0));
    assert!(!slice.exists(), "{} is left", slice.display());
}

#[actix_web::test]
async fn a_hive_that_sits_in_its_own_root_makes_room_for_the_controllers() {
    let (site, cgroup) = (Site::new(), Cgroup::with("room", &CONTROLLERS));
    let mut spec = sleeper("a");
    spec["cpu_limit"] = json!("50%");
    spec["memory_limit"] = json!("64M");
    let config = in_cgroup(&site, cgroup.path(), json!([spec]));
    let hive = Hive::start_in(&site, cgroup.path(), None, &config).await;
    let worker = hive.api().worker_in_state("g/a", "ready").await;
    assert_eq!((&worker["isolation"], &worker["limits_applied"]), (&json!("cgroup"), &json!(true)));
    assert_eq!(cgroup_file(&worker, "memory.max"), "67108864");
    let leaf = cgroup.path().join(format!("{}-hive", site.slice()));
    assert_eq!(proc::cgroup_of(hive.pid()).unwrap(), leaf);
    assert_eq!(cgroup.read("cgroup.procs"), "");
    hive.stop().await;
    assert!(!cgroup.path().join(site.slice()).exists());
}

#[actix_web::test]
async fn an_ordinary_user_has_limits_in_a_cgroup_that_was_given_to_him() {
    let (site, cgroup) = (Site::new(), Cgroup::with("user", &CONTROLLERS));
    cgroup.give_to("nobody");
    run(&format!("chmod 755 {0} && install -d -o nobody {0}/state", as_str(&site.path(""))));
    let mut spec = sleeper("a");
    spec["memory_limit"] = json!("64M");
    let config = in_cgroup(&site, cgroup.path(), json!([spec]));
    let hive = Hive::start_in(&site, cgroup.path(), Some("nobody"), &config).await;
    let worker = hive.api().worker_in_state("g/a", "ready").await;
    assert_eq!((&worker["isolation"], &worker["limits_applied"]), (&json!("cgroup"), &json!(true)));
    assert_eq!(cgroup_file(&worker, "memory.max"), "67108864");
    let uid = run(&format!("stat -c %U /proc/{}", main_pid(&worker)));
    assert_eq!(uid.trim(), "nobody");
    hive.stop().await;
    assert!(!cgroup.path().join(site.slice()).exists());
}

#[actix_web::test]
async fn other_processes_in_its_root_are_left_where_they_are_and_told_of() {
    let (site, cgroup) = (Site::new(), Cgroup::with("occupied", &CONTROLLERS));
    let marker = site.marker();
    let procs = cgroup.path().join("cgroup.procs");
    run(&format!("(echo 0 > {}; exec sleep {marker}) >/dev/null 2>&1 &", procs.display()));
    eventually(PATIENCE, async || {
        let inside = cgroup.read("cgroup.procs");
        if inside.is_empty() { Err("not inside yet") } else { Ok(()) }
    })
    .await;
    let mut spec = sleeper("a");
    spec["memory_limit"] = json!("64M");
    let config = in_cgroup(&site, cgroup.path(), json!([spec]));
    let hive = Hive::start_in(&site, cgroup.path(), None, &config).await;
    let worker = hive.api().worker_in_state("g/a", "ready").await;
    assert_eq!(
        (&worker["isolation"], &worker["limits_applied"]),
        (&json!("cgroup"), &json!(false))
    );
    let told = hive.log_lines("other processes are in it");
    assert_eq!(told.len(), 1, "{told:?}");
    println!("{}", told[0]);
    let stays: HashSet<u32> =
        cgroup.read("cgroup.procs").lines().filter_map(|l| l.parse().ok()).collect();
    assert_eq!(stays, proc::with_argument(&marker));
}

#[actix_web::test]
async fn a_controller_that_is_missing_costs_what_it_would_do_and_nothing_else() {
    for missing in CONTROLLERS {
        let others: Vec<_> = CONTROLLERS.into_iter().filter(|name| *name != missing).collect();
        let (site, cgroup) = (Site::new(), Cgroup::with(&format!("no-{missing}"), &others));
        let file = site.path("data");
        // Works, holds memory and writes.
        let script = format!(
            "held=$(head -c 4000000 /dev/zero | tr '\\0' x); while :; do dd if=/dev/zero of={} bs=1M count=4 oflag=direct conv=notrunc status=none; done",
            file.display()
        );
        let mut both = shell("both", &script);
        both["cpu_limit"] = json!("90%");
        both["memory_limit"] = json!("64M");
        let free = sleeper("free");
        let config = in_cgroup(&site, cgroup.path(), json!([both, free]));
        let hive = site.start("hive", &config).await;
        hive.hive().worker_in_state("g/both", "ready").await;
        let capability = hive.hive().get("/capabilities").await.expect(200)["cgroup"].clone();
        let reason = capability["reason"].as_str().unwrap();
        println!("without {missing}: {reason}");
        assert!(
            reason.starts_with(&format!("no {missing} in ")) && !reason.contains('\n'),
            "{reason}"
        );
        let enabled: HashSet<_> = capability["controllers"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(Value::as_str)
            .collect();
        assert_eq!(enabled, others.iter().copied().collect());

        let writes = |w: &Value| w["io_w_mb_s"].as_f64() > Some(0.0);
        let worker = hive.hive().worker_when("g/both", PATIENCE, writes).await;
        assert_eq!(worker["isolation"], "cgroup");
        assert_eq!(worker["limits_applied"], !matches!(missing, "cpu" | "memory"));
        assert_eq!(worker["throttled_pct"].is_null(), missing == "cpu");
        assert!(worker["cpu_pct"].as_f64() > Some(0.0) && worker["rss_mb"].as_u64() > Some(0));
        assert_eq!(hive.hive().worker("g/free").await["limits_applied"], json!(null));
        proc::signal(main_pid(&worker), nix::sys::signal::Signal::SIGKILL);
        let dead = hive.hive().worker_in_state("g/both", "failed").await;
        assert_eq!(dead["last_exit"]["oom_killed"].is_null(), missing == "memory");
    }
}

#[actix_web::test]
async fn cgroups_that_a_worker_makes_belong_to_it_and_go_with_it() {
    let site = Site::new();
    let marker = site.marker();
    // Two levels of its own, and a process that works in the deepest.
    let script = format!(
        "own={ROOT}$(sed -n 's/^0:://p' /proc/self/cgroup); mkdir -p $own/a/b $own/c; \
         (echo 0 > $own/a/b/cgroup.procs; exec sh -c 'x={marker}; while :; do :; done' {marker}) & \
         (echo 0 > $own/c/cgroup.procs; exec sleep {marker}) & wait"
    );
    let hive = site.start_hive(json!([shell("nests", &script)])).await;
    let inside = |w: &Value| {
        let nested = pids(w).iter().filter_map(|pid| proc::cgroup_of(*pid)).collect::<HashSet<_>>();
        pids(w).len() == 3 && nested.len() == 3
    };
    let worker = hive.hive().worker_when("g/nests", PATIENCE, inside).await;
    assert_eq!(pids(&worker)[0], main_pid(&worker));
    let worker = sampled_twice(hive.hive(), "g/nests").await;
    assert!(worker["cpu_pct"].as_f64() > Some(50.0), "{}", worker["cpu_pct"]);
    let own = Path::new(ROOT).join(site.slice()).join("g/nests");
    assert!(own.join("a/b").exists());
    hive.hive().delete("/v1/workers/g/nests?grace_ms=300").await.expect(200);
    assert!(proc::with_argument(&marker).is_empty() && !own.exists());
}

#[actix_web::test]
async fn a_tree_that_is_read_only_is_told_in_one_line_with_what_to_do() {
    let site = Site::new();
    let mount = site.path("read-only");
    fs::create_dir(&mount).unwrap();
    let mount = as_str(&mount);
    run(&format!("mount --bind {ROOT} {mount} && mount -o remount,ro,bind {mount}"));
    let mut config = in_cgroup(&site, Path::new(mount), json!([sleeper("a")]));
    config["hive"]["workers"][0]["memory_limit"] = json!("64M");
    let mut hive = site.start("hive", &config).await;
    let worker = hive.hive().worker_in_state("g/a", "ready").await;
    assert_eq!((&worker["isolation"], &worker["limits_applied"]), (&json!("plain"), &json!(false)));
    let line =
        hive.log_line(|l| l.contains("workers run without cgroups").then(|| l.to_owned())).await;
    println!("{line}");
    assert!(line.contains("mounted read-only: mount it writable"), "{line}");
    let reason = hive.hive().get("/capabilities").await.json["cgroup"]["reason"].clone();
    assert!(reason.as_str().unwrap().contains("read-only"));
    drop(hive);

    config["hive"]["cgroup"]["mode"] = json!("require");
    let refused = rbee(&["--config", as_str(&site.write("hive", &config))], &[]);
    run(&format!("umount {mount}"));
    assert_eq!(refused.status.code(), Some(1));
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(told.contains("require") && told.contains("mounted read-only: "), "{told}");
}

#[actix_web::test]
async fn a_tree_of_somebody_else_is_told_in_one_line_with_what_to_do() {
    let (site, cgroup) = (Site::new(), Cgroup::with("others", &CONTROLLERS));
    let outside = Cgroup::with("outside", &CONTROLLERS);
    run(&format!("chmod 755 {0} && install -d -o nobody {0}/state", as_str(&site.path(""))));
    let config = in_cgroup(&site, cgroup.path(), json!([sleeper("a")]));
    let hive = Hive::start_in(&site, outside.path(), Some("nobody"), &config).await;
    let worker = hive.api().worker_in_state("g/a", "ready").await;
    assert_eq!(worker["isolation"], "plain");
    let told = hive.log_lines("workers run without cgroups");
    println!("{told:?}");
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].contains("ermission denied")
            && told[0].contains("as root, or in a cgroup that is delegated")
    );
}
