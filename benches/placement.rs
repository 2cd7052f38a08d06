//! How long the placement and the queries take with 100,000 workers registered: `cargo bench --bench placement`.
//!
//! Each call is timed by itself, since what counts is how long the slowest of them hold up a request.
//! Once with nothing else going on, and once while heartbeats of all hives come in, one second's worth
//! each second.
#![allow(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "a benchmark says what it expects"
)]

use rbee::{
    actors::{
        fleet::{FoundWorker, FreshnessLimits, HiveRecord, WorkerFilter, write_with_workers},
        placement::{Admission, InferenceAsk, Placement, PlacementConfig},
    },
    contract::{Freshness, HiveHeartbeat, ScheduleRequest, WorkerList, WorkerState},
};
use serde_json::json;
use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

const HIVES: usize = 100;
const WORKERS: usize = 1_000;
const MODELS: usize = 2_000;
const CALLS: usize = 20_000;
/// The slowest of a hundred calls may take this long.
const GOAL: Duration = Duration::from_micros(200);

fn heartbeat(hive: usize, turn: usize) -> Arc<HiveRecord> {
    let workers: Vec<_> = (0..WORKERS)
        .map(|i| {
            let number = hive * WORKERS + i;
            json!({
                "group": format!("g{}", number % 50), "instance": i.to_string(), "pid": number + 1,
                "state": if (number / MODELS).is_multiple_of(20) { "starting" } else { "ready" },
                "model": format!("model-{}", number % MODELS), "slots": 4,
                "model_aliases": [format!("alias-{}", number % MODELS)],
                "url": format!("http://127.0.0.1:{}", 1_024 + number % 60_000),
                "gpu_util_pct": (number * 7 + turn * 13) % 100,
                "gpus": [{"uuid": format!("GPU-{hive}-{}", i / 4), "vram_mb": 4_000}],
            })
        })
        .collect();
    let gpus: Vec<_> = (0..WORKERS / 4)
        .map(|i| {
            json!({"id": i.to_string(), "uuid": format!("GPU-{hive}-{i}"), "name": "GPU",
                   "vram_used_mb": 20_000 + (i + turn) % 50, "vram_total_mb": 81_920})
        })
        .collect();
    let heartbeat: HiveHeartbeat = serde_json::from_value(json!({
        "hive": {"id": format!("hive-{hive}"), "hostname": "127.0.0.1", "port": 7835},
        "timestamp": "2026-01-01T00:00:00Z", "interval_ms": 3_600_000,
        "node": {"gpus": gpus, "gpu_source": "nvml"}, "workers": workers,
    }))
    .unwrap();
    Arc::new(HiveRecord::new(heartbeat, tokio::time::Instant::now()).0)
}

/// Times each call, and prints the percentiles. Returns whether the goal is met.
fn measure(name: &str, mut call: impl FnMut(usize)) -> bool {
    for i in 0..CALLS / 10 {
        call(i);
    }
    let mut times: Vec<Duration> = (0..CALLS)
        .map(|i| {
            let start = Instant::now();
            call(i);
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    let at = |part: f64| times[((times.len() as f64 * part) as usize).min(times.len() - 1)];
    let met = at(0.99) < GOAL;
    let micros = |time: Duration| time.as_nanos() as f64 / 1_000.0;
    println!(
        "{name:<44} p50 {:>8.2} µs  p99 {:>8.2} µs  max {:>9.2} µs  {}",
        micros(at(0.5)),
        micros(at(0.99)),
        micros(times[times.len() - 1]),
        if met { "" } else { "ABOVE THE GOAL" },
    );
    met
}

fn measure_all(placement: &Placement) -> bool {
    let schedule = |request: ScheduleRequest| {
        let reserved = placement.schedule(&request).unwrap();
        placement.cancel(reserved.id).unwrap();
    };
    let select = |filter: &WorkerFilter| black_box(placement.select(filter)).len();
    let model = |i: usize| format!("model-{}", i * 31 % MODELS);
    let mut met = true;
    met &= measure("gateway: a slot for a model, and back", |i| {
        let model = model(i);
        let admitted = placement.admit(InferenceAsk { model: &model, ..InferenceAsk::default() });
        assert!(matches!(admitted, Admission::Granted(_)));
    });
    met &= measure("schedule for a model, and cancel", |i| {
        schedule(ScheduleRequest { model: Some(model(i)), ..ScheduleRequest::default() });
    });
    met &= measure("schedule with memory, and cancel", |i| {
        let vram_mb = 4_096;
        schedule(ScheduleRequest { model: Some(model(i)), vram_mb, ..ScheduleRequest::default() });
    });
    met &= measure("schedule for a group, and cancel", |i| {
        let group = Some(format!("g{}", i % 50));
        schedule(ScheduleRequest { group, ..ScheduleRequest::default() });
    });
    met &= measure("schedule for anybody, and cancel", |_| schedule(ScheduleRequest::default()));
    met &= measure("workers of a model (50 of 100,000)", |i| {
        let filter = WorkerFilter { model: Some(model(i)), ..WorkerFilter::default() };
        assert_eq!(select(&filter), 50);
    });
    met &= measure("the same, as the JSON that is answered", |i| {
        let filter = WorkerFilter { model: Some(model(i)), ..WorkerFilter::default() };
        let found = placement.select(&filter).into_iter();
        let mut found: Vec<_> =
            found.filter_map(|(hive, at)| FoundWorker::at(hive, at, Freshness::Healthy)).collect();
        FoundWorker::sort(&mut found);
        let mut out = Vec::with_capacity(found.len() * 1024);
        let texts = found.iter().filter_map(FoundWorker::text);
        write_with_workers(&mut out, &WorkerList { workers: Vec::new() }, texts).unwrap();
        black_box(out.len());
    });
    met &= measure("workers of a model, ready, with memory", |i| {
        let filter = WorkerFilter {
            model: Some(model(i)),
            state: Some(WorkerState::Ready),
            min_free_vram_mb: Some(1_000),
            ..WorkerFilter::default()
        };
        select(&filter);
    });
    met &= measure("workers with more memory than there is (none)", |_| {
        let filter = WorkerFilter { min_free_vram_mb: Some(80_000), ..WorkerFilter::default() };
        assert_eq!(select(&filter), 0);
    });
    met
}

fn main() {
    // `cargo test --all-targets` runs this, too.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    // Nobody is late here, however long it takes.
    let hour = Duration::from_secs(3_600);
    let limits = FreshnessLimits { degraded_after: hour, down_after: hour, evict_after: hour };
    let placement = Placement::new(PlacementConfig { limits, queue_limit: 128 });
    let beats: Vec<_> = (0..2)
        .map(|turn| (0..HIVES).map(|hive| heartbeat(hive, turn)).collect::<Vec<_>>())
        .collect();
    for beat in &beats[0] {
        placement.observe(beat, tokio::time::Instant::now());
    }
    println!(
        "{} workers on {HIVES} hives, {MODELS} models; nothing else going on:",
        HIVES * WORKERS
    );
    let quiet = measure_all(&placement);
    let start = Instant::now();
    for beat in beats[1].iter().chain(&beats[0]) {
        placement.observe(beat, tokio::time::Instant::now());
    }
    let each = start.elapsed() / (2 * HIVES as u32);
    println!("a heartbeat of {WORKERS} workers, every one changed, takes {each:?}");

    println!("while each hive's heartbeat comes once a second, every worker of it changed:");
    let stop = Arc::new(AtomicBool::new(false));
    let heart = {
        let (placement, stop) = (placement.clone(), Arc::clone(&stop));
        thread::spawn(move || {
            let (mut spent, mut told) = (Duration::ZERO, 0u32);
            for beat in beats.iter().cycle().flatten() {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let start = Instant::now();
                placement.observe(beat, tokio::time::Instant::now());
                let took = start.elapsed();
                (spent, told) = (spent + took, told + 1);
                thread::sleep((Duration::from_secs(1) / HIVES as u32).saturating_sub(took));
            }
            spent / told.max(1)
        })
    };
    let busy = measure_all(&placement);
    stop.store(true, Ordering::Relaxed);
    println!("such a heartbeat then takes {:?}", heart.join().unwrap());
    if !(quiet && busy) {
        std::process::exit(1);
    }
}
