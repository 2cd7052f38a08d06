//! The telemetry against what /proc says about the same processes over the same time.

use crate::support::{Api, Site, eventually, ms, proc, secs};
use serde_json::{Value, json};
use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

/// What /proc said at a moment.
#[derive(Clone, Copy, Debug)]
struct Reading {
    at: Instant,
    cpu_ticks: u64,
    written_bytes: u64,
}

impl Reading {
    fn now(pids: &HashSet<u32>) -> Self {
        Self {
            at: Instant::now(),
            cpu_ticks: pids.iter().filter_map(|pid| Some(proc::stat(*pid)?.cpu_ticks)).sum(),
            written_bytes: proc::written_bytes(pids.iter().copied()),
        }
    }
}

/// A sample of the product's, with the moment at which it was taken.
#[derive(Clone, Debug)]
struct Sample {
    at: Instant,
    cpu_pct: f64,
    io_w_mb_s: f64,
}

/// A worker watched for a while, from both sides.
#[derive(Debug, Default)]
struct Watch {
    readings: Vec<Reading>,
    samples: Vec<Sample>,
}

impl Watch {
    /// Looks often enough that a sample's moment lies between two close readings.
    async fn worker(hive: &Api, name: &str, pids: HashSet<u32>, samples: usize) -> Self {
        let mut watch = Self::default();
        let mut last_age = Duration::MAX;
        eventually(secs(20), async || {
            watch.readings.push(Reading::now(&pids));
            let worker = hive.worker(name).await;
            let age = ms(worker["sample_age_ms"].as_u64().expect("an age"));
            if age < last_age {
                watch.samples.push(Sample {
                    at: Instant::now() - age,
                    cpu_pct: worker["cpu_pct"].as_f64().expect("cpu_pct"),
                    io_w_mb_s: worker["io_w_mb_s"].as_f64().expect("io_w_mb_s"),
                });
            }
            last_age = age;
            // Before the first there is no reading to compare with.
            if watch.samples.len() > samples + 1 { Ok(()) } else { Err(watch.samples.len()) }
        })
        .await;
        watch.readings.push(Reading::now(&pids));
        watch.samples.remove(0);
        watch
    }

    /// The mean of the product's figures, weighted by the time that each stands for.
    fn told(&self, figure: impl Fn(&Sample) -> f64) -> f64 {
        let weighted: f64 = self
            .samples
            .windows(2)
            .map(|two| figure(&two[1]) * (two[1].at - two[0].at).as_secs_f64())
            .sum();
        weighted / self.seconds()
    }

    /// The rate of a counter of /proc over the same time, a second.
    fn measured(&self, counter: impl Fn(&Reading) -> u64) -> f64 {
        let at = |when: Instant| {
            let after = self.readings.iter().position(|reading| reading.at >= when);
            let after = after.unwrap_or(self.readings.len() - 1).max(1);
            let (a, b) = (&self.readings[after - 1], &self.readings[after]);
            let span = (b.at - a.at).as_secs_f64();
            let part = (when.saturating_duration_since(a.at).as_secs_f64() / span).clamp(0.0, 1.0);
            counter(a) as f64 + part * (counter(b) - counter(a)) as f64
        };
        (at(self.end()) - at(self.start())) / self.seconds()
    }

    fn start(&self) -> Instant {
        self.samples[0].at
    }

    fn end(&self) -> Instant {
        self.samples[self.samples.len() - 1].at
    }

    fn seconds(&self) -> f64 {
        (self.end() - self.start()).as_secs_f64()
    }
}

fn shell(instance: &str, script: &str) -> Value {
    json!({"group": "g", "instance": instance, "command": "/bin/sh", "args": ["-c", script]})
}

fn main_pid(worker: &Value) -> u32 {
    worker["pid"].as_u64().expect("it runs") as u32
}

#[track_caller]
fn assert_close(what: &str, told: f64, measured: f64, relative: f64, absolute: f64) {
    println!("{what}: told {told:.3}, measured {measured:.3}");
    let allowed = (measured * relative).max(absolute);
    assert!((told - measured).abs() <= allowed, "{what}: told {told}, measured {measured}");
}

#[actix_web::test]
async fn cpu_of_a_busy_worker_is_what_the_kernel_counted() {
    let site = Site::new();
    let hive = site.start_hive(json!([shell("busy", "while :; do :; done")])).await;
    let worker = hive.hive().worker_in_state("g/busy", "ready").await;
    let watch = Watch::worker(hive.hive(), "g/busy", HashSet::from([main_pid(&worker)]), 3).await;
    let measured = 100.0 * watch.measured(|r| r.cpu_ticks) / proc::ticks_per_second();
    assert!(measured > 10.0, "it got no CPU to speak of: {measured} %");
    assert_close("cpu_pct", watch.told(|sample| sample.cpu_pct), measured, 0.1, 0.0);
    assert_eq!(hive.hive().worker("g/busy").await["idle"], false);
}

#[actix_web::test]
async fn writes_of_a_worker_are_what_the_kernel_counted() {
    let site = Site::new();
    // One writer that lives as long as the worker, fed slowly, past the page cache.
    let script = format!(
        "(while :; do head -c 65536 /dev/zero; sleep 0.02; done) \
         | dd of={} bs=65536 iflag=fullblock oflag=dsync 2>/dev/null",
        site.path("written").display()
    );
    let hive = site.start_hive(json!([shell("writer", &script)])).await;
    let worker = hive.hive().worker_in_state("g/writer", "ready").await;
    let writer = eventually(secs(5), async || {
        let tree = proc::tree(main_pid(&worker));
        let writer = tree.iter().copied().find(|pid| proc::written_bytes([*pid]) > 100_000);
        writer.ok_or(tree)
    })
    .await;
    let watch = Watch::worker(hive.hive(), "g/writer", HashSet::from([writer]), 3).await;
    let measured = watch.measured(|reading| reading.written_bytes) / (1024.0 * 1024.0);
    assert!(measured > 0.1, "it hardly wrote: {measured} MiB/s");
    assert_close("io_w_mb_s", watch.told(|sample| sample.io_w_mb_s), measured, 0.15, 0.05);
}

#[actix_web::test]
async fn a_worker_that_sleeps_is_idle() {
    let site = Site::new();
    let sleeper = json!({
        "group": "g", "instance": "sleeper", "command": "/bin/sh", "sample_interval_ms": 250,
        "args": ["-c", "sleep 86400; :", "--model", "tiny-7b"],
    });
    let hive = site.start_hive(json!([sleeper])).await;
    // Its start is over and its second sample taken.
    let idle = |worker: &Value| worker["idle"] == true && worker["uptime_s"].as_u64() >= Some(1);
    let worker = hive.hive().worker_when("g/sleeper", secs(5), idle).await;
    let pid = main_pid(&worker);

    assert!(worker["cpu_pct"].as_f64().unwrap() < 5.0, "{worker}");
    assert_eq!(worker["model"], "tiny-7b");
    let told: HashSet<u32> =
        worker["pids"].as_array().unwrap().iter().map(|pid| pid.as_u64().unwrap() as u32).collect();
    assert_eq!(told, proc::tree(pid));
    assert_eq!(worker["pids"][0], pid, "the main process comes first");
    let age = proc::age_s(pid).unwrap();
    assert!((worker["uptime_s"].as_f64().unwrap() - age).abs() <= 1.5, "{age} s by /proc");
    assert_eq!(worker["gpu_util_pct"], 0.0);
    assert_eq!(worker["vram_mb"], 0);
}

#[actix_web::test]
async fn memory_of_a_worker_is_what_it_holds() {
    let site = Site::new();
    // A shell variable of some 40 MB; dash keeps it in anonymous memory.
    let script = "X=$(head -c 20000000 /dev/zero | tr '\\0' x); Y=$X; while :; do sleep 60; done";
    let hive = site.start_hive(json!([shell("holder", script)])).await;
    let worker = hive.hive().worker_in_state("g/holder", "ready").await;
    let pid = main_pid(&worker);
    let held = |worker: &Value| worker["rss_mb"].as_f64() > Some(30.0);
    let worker = hive.hive().worker_when("g/holder", secs(10), held).await;
    // With a memory controller the kernel charges more than the resident pages; never less here.
    let resident = proc::rss_mb(pid).unwrap();
    let told = worker["rss_mb"].as_f64().unwrap();
    println!("rss_mb: told {told}, VmRSS {resident:.1}");
    assert!(told > 0.5 * resident && told < 3.0 * resident + 16.0);
}

#[actix_web::test]
async fn a_model_is_read_from_either_form_of_the_argument() {
    let site = Site::new();
    let model = |instance: &str, arguments: &[&str]| {
        let arguments = [&["-c", "exec sleep 86400", "sh"], arguments].concat();
        json!({"group": "g", "instance": instance, "command": "/bin/sh", "args": arguments})
    };
    let mut explicit = model("explicit", &["--model", "from-args"]);
    explicit["model"] = json!("from-spec");
    let hive = site
        .start_hive(json!([
            model("two", &["--model", "a/b.gguf"]),
            model("one", &["--model=c"]),
            model("none", &[]),
            explicit,
        ]))
        .await;
    for (instance, wanted) in [
        ("two", json!("a/b.gguf")),
        ("one", json!("c")),
        ("none", Value::Null),
        ("explicit", json!("from-spec")),
    ] {
        let name = format!("g/{instance}");
        let worker = hive.hive().worker_in_state(&name, "ready").await;
        assert_eq!(worker["model"], wanted, "{instance}");
    }
    let aliases = hive.hive().worker("g/two").await["model_aliases"].clone();
    assert!(aliases.as_array().unwrap().contains(&json!("b")), "{aliases}");
}
