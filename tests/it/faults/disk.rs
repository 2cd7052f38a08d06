//! A full disk, and one that cannot be written to, below `state_dir`. Workers, samples and the API go on;
//! it is told once; what is half written is never read; once there is room, all of it is written.

use super::mortal::{kill, main_pid, sleeper};
use crate::support::{Api, Site, as_str, assert_is_error, eventually, proc, rbee, secs};
use serde_json::{Value, json};
use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

/// A file system of half a MiB. Gone with this value.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn at(path: PathBuf) -> Self {
        fs::create_dir_all(&path).unwrap();
        let disk = Self(path);
        disk.mount("size=512k,mode=700");
        disk
    }

    fn mount(&self, options: &str) {
        let words = ["-t", "tmpfs", "-o", options, "tmpfs", as_str(&self.0)];
        let done = Command::new("mount").args(words).output().expect("mount is there");
        assert!(done.status.success(), "this needs root, to mount a small disk: {done:?}");
    }

    /// Until nothing more fits. The disk may get room again when something on it shrinks.
    fn fill(&self) {
        let mut options = fs::OpenOptions::new();
        let mut file = options.create(true).append(true).open(self.0.join("fill")).unwrap();
        for size in [4_096, 1] {
            while file.write_all(&vec![b'x'; size]).is_ok() {}
        }
    }

    fn make_room(&self) {
        fs::remove_file(self.0.join("fill")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-l", as_str(&self.0)]).status();
    }
}

/// A worker that always has something to say.
fn chatty() -> Value {
    let script =
        "while :; do echo 'a line of a log that is not short at all'; /bin/sleep 0.02; done";
    json!({"group": "g", "instance": "chatty", "command": "/bin/sh", "args": ["-c", script]})
}

/// What is written of the workers, which is JSON to its end, always.
fn records(state: &Path) -> Vec<(String, Value)> {
    let files = fs::read_dir(state.join("workers/g")).into_iter().flatten().flatten();
    let named = files.filter_map(|file| file.file_name().into_string().ok());
    let whole = named.filter(|name| name.ends_with(".json"));
    let read = |name: String| {
        let text = fs::read_to_string(state.join("workers/g").join(&name)).unwrap();
        let json =
            serde_json::from_str(&text).unwrap_or_else(|e| panic!("{name}: {e} in {text:?}"));
        (name, json)
    };
    whole.map(read).collect()
}

async fn assert_samples_go_on(hive: &Api) {
    for name in ["g/chatty", "g/stays", "g/dies"] {
        let fresh = |w: &Value| w["sample_age_ms"].as_u64() < Some(1_000);
        hive.worker_when(name, secs(5), fresh).await;
    }
}

#[actix_web::test]
async fn a_full_disk_stops_no_worker_and_is_told_once_and_made_up_for() {
    // Unmounted after the hive has ended.
    let place = Site::new();
    let disk = SmallDisk::at(place.path("disk"));
    let site = Site::new();
    let mut config = site.hive_config(None);
    config["hive"]["state_dir"] = json!(disk.0.join("state"));
    config["hive"]["on_exit"] = json!("leave");
    config["hive"]["sample_interval_ms"] = json!(200);
    let mut hive = site.start("hive", &config).await;
    for spec in [chatty(), sleeper("stays"), sleeper("dies")] {
        hive.hive().spawn(spec).await;
    }
    let talker = main_pid(&hive.hive().worker_in_state("g/chatty", "ready").await);
    disk.fill();

    kill(hive.hive(), 0).await;
    for call in ["drain", "resume", "drain"] {
        hive.hive().post(&format!("/v1/workers/g/stays/{call}"), json!({})).await.expect(200);
    }
    let refused = hive.hive().post("/v1/workers", sleeper("late")).await;
    assert_is_error(&refused, 503, "No space left on device");
    assert_eq!(hive.hive().get("/v1/workers/g/late").await.status, 404);
    assert_samples_go_on(hive.hive()).await;
    hive.hive().get("/health").await.expect(200);
    assert!(proc::alive(talker));
    assert_eq!(hive.log_count("states cannot be written"), 1, "told once");
    assert_eq!(records(&disk.0.join("state")).len(), 3);

    disk.make_room();
    hive.log_line(|line| line.contains("written again").then_some(())).await;
    hive.hive().spawn(sleeper("late")).await;
    let before = hive.hive().worker("g/dies").await;
    eventually(secs(5), async || {
        let records = records(&disk.0.join("state"));
        let of_dies = records.iter().find(|(name, _)| name == "dies.json").map(|(_, json)| json);
        let pid = of_dies.map(|json| json["run"]["main"]["pid"].clone());
        if pid.as_ref() == Some(&before["pid"]) { Ok(()) } else { Err(pid) }
    })
    .await;
    hive.kill();
    let hive = site.start("hive", &config).await;
    for (name, state) in
        [("dies", "ready"), ("stays", "draining"), ("chatty", "ready"), ("late", "ready")]
    {
        let worker = hive.hive().worker_in_state(&format!("g/{name}"), state).await;
        assert_eq!(worker["adopted"], true, "{name}");
        hive.hive().delete(&format!("/v1/workers/g/{name}?grace_ms=0")).await.expect(200);
    }
}

#[actix_web::test]
async fn a_hive_killed_while_its_disk_is_full_reads_nothing_half_written() {
    let place = Site::new();
    let disk = SmallDisk::at(place.path("disk"));
    let site = Site::new();
    let mut config = site.hive_config(None);
    config["hive"]["state_dir"] = json!(disk.0.join("state"));
    config["hive"]["on_exit"] = json!("leave");
    let mut hive = site.start("hive", &config).await;
    for spec in [sleeper("stays"), sleeper("dies")] {
        hive.hive().spawn(spec).await;
    }
    let stays = main_pid(&hive.hive().worker_in_state("g/stays", "ready").await);
    disk.fill();
    kill(hive.hive(), 0).await;
    assert_eq!(records(&disk.0.join("state")).len(), 2);
    hive.kill();
    let hive = site.start("hive", &config).await;
    let adopted = hive.hive().worker_in_state("g/stays", "ready").await;
    assert_eq!(main_pid(&adopted), stays);
    // Its newest state was never written: it is known all the same, and runs.
    hive.hive().worker_in_state("g/dies", "ready").await;
    assert_eq!(hive.log_count("is damaged"), 0);
    for name in ["stays", "dies"] {
        hive.hive().delete(&format!("/v1/workers/g/{name}?grace_ms=0")).await.expect(200);
    }
}

#[actix_web::test]
async fn a_disk_that_cannot_be_written_to_is_told_before_anything_starts() {
    let place = Site::new();
    let disk = SmallDisk::at(place.path("disk"));
    disk.mount("remount,ro");
    let site = Site::new();
    let mut config = site.hive_config(None);
    config["hive"]["workers"] = json!([sleeper("never")]);
    for state_dir in [disk.0.clone(), disk.0.join("below")] {
        config["hive"]["state_dir"] = json!(state_dir);
        let path = site.write("hive", &config);
        let ended = rbee(&["--config", as_str(&path)], &[]);
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(1), "{said}");
        assert!(said.contains("cannot use the state directory"), "{said}");
        assert!(said.contains("Read-only file system"), "{said}");
    }
}
