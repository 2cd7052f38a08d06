//! The spawner with processes that run already, and samplers that go wrong in every way.
#![allow(clippy::unwrap_used, clippy::panic, reason = "panics are what is tested")]

use super::*;
use crate::{
    actors::supervise::start_guarded,
    contract::{Isolation, LifecycleEvent},
    platform::{
        process::{Identity, boot_id},
        sampler::RawSample,
        state_dir::StateDir,
    },
    settings::worker::from_json,
};
use record::{RunRecord, WorkerRecord};
use serde_json::json;
use std::{
    process::{Child, Command},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

const TICK: Duration = Duration::from_millis(20);

/// Takes events as the queen would.
struct Ears(Arc<Mutex<Vec<LifecycleEvent>>>);

impl Actor for Ears {
    type Context = Context<Self>;
}

impl Handler<TellQueen> for Ears {
    type Result = ();
    fn handle(&mut self, TellQueen(event): TellQueen, _: &mut Self::Context) {
        self.0.lock().unwrap().push(event);
    }
}

/// When a worker was sampled, by name.
type Ticks = Arc<Mutex<HashMap<String, Vec<Instant>>>>;

struct Wrong {
    name: String,
    taken: u64,
    ticks: Ticks,
}

impl Sample for Wrong {
    fn sample(&mut self) -> io::Result<RawSample> {
        self.taken += 1;
        self.ticks.lock().unwrap().entry(self.name.clone()).or_default().push(Instant::now());
        match self.name.as_str() {
            "panics-at-once" => panic!("in started"),
            "panics-later" if self.taken == 3 => panic!("in a tick"),
            "vanishes" => Err(io::Error::from(io::ErrorKind::NotFound)),
            _ => Ok(RawSample { rss_bytes: self.taken << 20, ..RawSample::default() }),
        }
    }
}

struct Stage {
    sleepers: Vec<Child>,
    board: Arc<HiveBoard>,
    spawner: Addr<SpawnerActor>,
    ticks: Ticks,
    events: Arc<Mutex<Vec<LifecycleEvent>>>,
    _dir: tempfile::TempDir,
}

impl Stage {
    /// A hive that finds a running process for each name.
    fn new(names: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let state = Arc::new(StateDir::open(dir.path()).unwrap());
        let sleepers: Vec<_> =
            names.iter().map(|_| Command::new("sleep").arg("1000").spawn().unwrap()).collect();
        for (name, sleeper) in names.iter().zip(&sleepers) {
            let text = serde_json::to_vec(&running(name, sleeper)).unwrap();
            state.write_record("g", name, &text).unwrap();
        }
        let (ticks, events) = (Ticks::default(), Arc::default());
        let (board, monitors) = (Arc::new(HiveBoard::default()), Arbiter::new());
        let config = config(&state, Arc::clone(&ticks));
        let queen = Ears(Arc::clone(&events)).start().recipient();
        let (seen, handle) = (Arc::clone(&board), monitors.handle());
        let spawner = start_guarded(
            &Arbiter::current(),
            move |_| SpawnerActor::new(config, seen, queen, handle.clone(), handle),
            |_| {},
        );
        Self { sleepers, board, spawner, ticks, events, _dir: dir }
    }

    async fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !condition(self) {
            assert!(Instant::now() < deadline, "not in time: {what}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn ticks_of(&self, name: &str) -> Vec<Instant> {
        self.ticks.lock().unwrap().get(name).cloned().unwrap_or_default()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for sleeper in &mut self.sleepers {
            let _ = sleeper.kill();
            let _ = sleeper.wait();
        }
    }
}

fn running(name: &str, sleeper: &Child) -> WorkerRecord {
    let spec = json!({"group": "g", "instance": name, "command": "sleep", "args": ["1000"],
                      "restart": {"policy": "never"}});
    WorkerRecord {
        spec: from_json(spec, "127.0.0.1").unwrap(),
        origin: Origin::Api,
        restarts: 0,
        resting: None,
        run: Some(RunRecord {
            boot_id: boot_id(),
            run_id: format!("g/{name}:test"),
            main: Some(Identity::of(sleeper.id()).unwrap()),
            isolation: Isolation::Plain,
            limits_applied: None,
            ready: true,
            draining: false,
        }),
        last_exit: None,
    }
}

fn config(state: &Arc<StateDir>, ticks: Ticks) -> SpawnerConfig {
    let opened = AtomicU64::new(0);
    SpawnerConfig {
        sample_interval: TICK,
        open_sampler: Box::new(move |name, _| {
            let (name, ticks) = (name.instance.to_string(), Arc::clone(&ticks));
            if name == "does-not-open" && opened.fetch_add(1, Ordering::Relaxed) == 0 {
                return Err(io::Error::from(io::ErrorKind::PermissionDenied));
            }
            Ok(Box::new(Wrong { name, taken: 0, ticks }))
        }),
        tree: None,
        logs: LogDir::new(state.logs()),
        base_env: Arc::default(),
        gpu_timeout: Duration::ZERO,
        open_files: None,
        archive: Archive::start(Arc::clone(state)).unwrap(),
        records: state.records(),
        wanted: Vec::new(),
    }
}

#[actix::test]
async fn a_monitor_that_goes_wrong_is_started_again_and_no_others_tick_moves() {
    let names = ["panics-at-once", "panics-later", "vanishes", "does-not-open", "fine"];
    let stage = Stage::new(&names);
    stage.until("a hundred ticks", |stage| stage.ticks_of("fine").len() >= 100).await;

    let fine = stage.ticks_of("fine");
    let mut gaps: Vec<_> = fine.windows(2).map(|pair| pair[1] - pair[0]).collect();
    gaps.sort();
    assert!(gaps[gaps.len() * 95 / 100] < 2 * TICK, "{gaps:?}");
    // 50 ms, 100, 200 and so on after each panic.
    let starts = stage.ticks_of("panics-at-once");
    assert!((3..=7).contains(&starts.len()), "{} starts in two seconds", starts.len());
    assert!(starts.windows(2).all(|pair| pair[1] - pair[0] >= Duration::from_millis(50)));
    assert!(stage.ticks_of("panics-later").len() > 6, "it goes on after each panic");
    assert!(stage.ticks_of("vanishes").len() > 50, "a file may come back");
    stage.until("it opens after all", |stage| !stage.ticks_of("does-not-open").is_empty()).await;
    let shown = stage.board.get(&WorkerName::new("g", "panics-later")).unwrap().0;
    assert!(shown.rss_mb >= 1, "its last figures stay");
    for name in names {
        let worker = stage.board.get(&WorkerName::new("g", name)).unwrap().0;
        assert_eq!(worker.state, crate::contract::WorkerState::Ready, "{name}: it runs");
    }
    assert!(stage.events.lock().unwrap().is_empty(), "nothing happened to a worker");
}

#[actix::test]
async fn a_monitor_ends_with_its_run() {
    let mut stage = Stage::new(&["fine", "other"]);
    stage.until("ticks", |stage| stage.ticks_of("fine").len() > 3).await;
    stage.sleepers[0].kill().unwrap();
    stage.sleepers[0].wait().unwrap();
    let failed = |stage: &Stage| {
        let worker = stage.board.get(&WorkerName::new("g", "fine")).unwrap().0;
        worker.state == crate::contract::WorkerState::Failed
    };
    stage.until("its end is known", failed).await;
    let (taken, other) = (stage.ticks_of("fine").len(), stage.ticks_of("other").len());
    stage.until("ten more of the other", |s| s.ticks_of("other").len() > other + 10).await;
    assert_eq!(stage.ticks_of("fine").len(), taken);
    let stop = StopWorker { name: WorkerName::new("g", "fine"), grace: None };
    stage.spawner.send(stop).await.unwrap().unwrap();
    assert!(stage.board.get(&WorkerName::new("g", "fine")).is_none());
}
