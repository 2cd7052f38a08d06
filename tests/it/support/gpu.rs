//! GPUs that are not there: NVML's library and the nvidia-smi program, both saying what a test writes.

use super::{Daemon, Site, secs};
use serde_json::{Value, json};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

/// Where the sources of the fakes are.
const FAKES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fakes");

/// A tick, ms: short, so that a test sees many.
const TICK_MS: u64 = 100;

/// The GPUs of a site's hives.
pub(crate) struct Gpus<'a> {
    site: &'a Site,
    library: PathBuf,
}

impl<'a> Gpus<'a> {
    /// A machine whose library says `state`, in the fake's own words, and whose nvidia-smi fails.
    pub(crate) fn new(site: &'a Site, state: &str) -> Self {
        let gpus = Self { site, library: built_library() };
        site.set_variable("RBEE_FAKE_NVML", super::as_str(&gpus.path("nvml")));
        fs::copy(Path::new(FAKES).join("nvidia-smi"), gpus.path("nvidia-smi")).unwrap();
        gpus.smi("fail", "", "", "");
        gpus.say(state);
        gpus
    }

    fn path(&self, name: &str) -> PathBuf {
        self.site.path(name)
    }

    /// From the next call on the library says this.
    pub(crate) fn say(&self, state: &str) {
        self.write("nvml", state);
    }

    /// From the next call on nvidia-smi prints this.
    pub(crate) fn smi(&self, mode: &str, query: &str, apps: &str, pmon: &str) {
        for (name, text) in [("query-gpu", query), ("compute-apps", apps), ("pmon", pmon)] {
            self.write(name, text);
        }
        self.write("mode", mode);
    }

    /// All at once, never half.
    fn write(&self, name: &str, text: &str) {
        let new = self.path(&format!("{name}.new"));
        fs::write(&new, text).unwrap();
        fs::rename(new, self.path(name)).unwrap();
    }

    /// A hive on this machine.
    pub(crate) fn hive_config(&self, queen: Option<&str>) -> Value {
        let mut config = self.site.hive_config(queen);
        config["hive"]["sample_interval_ms"] = json!(TICK_MS);
        config["hive"]["heartbeat_interval_ms"] = json!(TICK_MS);
        config["hive"]["gpu"] = json!({
            "nvml_path": self.library,
            "nvidia_smi_path": self.path("nvidia-smi"),
            "timeout_ms": 1_000,
        });
        config
    }

    /// A hive with these workers, alone.
    pub(crate) async fn hive(&self, workers: Value) -> Daemon {
        let mut config = self.hive_config(None);
        config["hive"]["workers"] = workers;
        self.site.start("hive", &config).await
    }

    /// A queen, and a hive with these workers.
    pub(crate) async fn both(&self, workers: Value) -> (Daemon, Daemon) {
        let queen = self.site.start("queen", &self.site.queen_config()).await;
        let mut config = self.hive_config(Some(queen.queen().url()));
        config["hive"]["workers"] = workers;
        let hive = self.site.start("hive", &config).await;
        (queen, hive)
    }
}

/// The machine as the queen tells it, once `wanted` holds.
pub(crate) async fn node_when(queen: &super::Api, wanted: impl Fn(&Value) -> bool) -> Value {
    super::eventually(secs(20), async || {
        let answer = queen.get("/v1/hives/test-hive").await;
        let node = answer.json["node"].clone();
        if answer.status == 200 && wanted(&node) { Ok(node) } else { Err(answer.text) }
    })
    .await
}

/// A worker that is a tree of three processes and does nothing.
pub(crate) fn tree_of_three(instance: &str) -> Value {
    let script = "sleep 86400 & sleep 86400 & wait";
    json!({"group": "g", "instance": instance, "command": "/bin/sh", "args": ["-c", script]})
}

/// The PIDs of a worker's tree, once there are so many, the main process first.
pub(crate) async fn pids(hive: &super::Api, name: &str, count: usize) -> Vec<u32> {
    let all = |worker: &Value| worker["pids"].as_array().is_some_and(|pids| pids.len() == count);
    let worker = hive.worker_when(name, secs(10), all).await;
    let pids = worker["pids"].as_array().unwrap().iter();
    pids.map(|pid| pid.as_u64().unwrap() as u32).collect()
}

/// Builds the library, once for all tests and again when its source has changed. Tests run in processes
/// of their own: a lock has the others wait.
fn built_library() -> PathBuf {
    let source = Path::new(FAKES).join("nvml/lib.rs");
    let built = Path::new(env!("CARGO_TARGET_TMPDIR")).join("libfake-nvml.so");
    let lock = File::create(built.with_extension("lock")).expect("the lock file is made");
    lock.lock().expect("the lock is taken");
    let changed = |path: &Path| fs::metadata(path).and_then(|file| file.modified()).ok();
    if changed(&built) < changed(&source) {
        let new = built.with_extension("new");
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let mut command = Command::new(rustc);
        command.args(["--edition=2024", "--crate-type=cdylib", "--crate-name=fake_nvml"]);
        command.args(["-O", "-D", "warnings", "-o"]).args([&new, &source]);
        let output = command.output().expect("rustc is there");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        fs::rename(new, &built).expect("it has its name");
    }
    built
}
