//! The virtual machine as tests use it: cgroups of their own making, and hives that are started in them, or
//! by somebody else.

use crate::support::{Api, RBEE, Site, as_str, eventually, free_port, proc, secs};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// Where the tree is, in this machine.
pub(crate) const ROOT: &str = "/sys/fs/cgroup";

/// What is emulated takes its time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What rbee uses.
pub(crate) const CONTROLLERS: [&str; 4] = ["cpu", "memory", "io", "pids"];

/// A cgroup of a test's own, below the machine's root; gone with all that is in it when dropped.
pub(crate) struct Cgroup(PathBuf);

impl Cgroup {
    /// One that may give these controllers to what is below it.
    pub(crate) fn with(name: &str, controllers: &[&str]) -> Self {
        let above = Path::new(ROOT).join(format!("test-{name}"));
        enable(Path::new(ROOT), controllers);
        fs::create_dir(&above).unwrap();
        enable(&above, controllers);
        fs::create_dir(above.join("given")).unwrap();
        let made = Self(above.join("given"));
        for name in CONTROLLERS {
            assert_eq!(made.read("cgroup.controllers").contains(name), controllers.contains(&name));
        }
        made
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn read(&self, file: &str) -> String {
        fs::read_to_string(self.0.join(file)).unwrap()
    }

    /// As a service manager gives it to a user.
    pub(crate) fn give_to(&self, user: &str) {
        let user = nix::unistd::User::from_name(user).unwrap().unwrap();
        for file in ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
            nix::unistd::chown(&self.0.join(file), Some(user.uid), Some(user.gid)).unwrap();
        }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        proc::remove_cgroup(self.0.parent().unwrap());
    }
}

fn enable(path: &Path, controllers: &[&str]) {
    for name in controllers {
        fs::write(path.join("cgroup.subtree_control"), format!("+{name}")).unwrap();
    }
}

/// A hive that was not started by the test itself, but through other commands.
pub(crate) struct Hive {
    child: Child,
    log: PathBuf,
    api: Api,
}

impl Hive {
    /// Starts a hive as `user` (and nobody else's groups) with its first moment in `cgroup`.
    pub(crate) async fn start_in(
        site: &Site,
        cgroup: &Path,
        user: Option<&str>,
        config: &Value,
    ) -> Self {
        let (port, mut config) = (free_port(), config.clone());
        config["hive"]["bind"] = json!(format!("127.0.0.1:{port}"));
        let (file, log) = (site.write("inside", &config), site.path("inside.log"));
        let mut command = Command::new("/bin/sh");
        let enter = "echo 0 > \"$0\"/cgroup.procs && exec \"$@\"";
        command.args(["-c", enter, as_str(cgroup)]);
        if let Some(user) = user {
            let user = nix::unistd::User::from_name(user).unwrap().unwrap();
            let (uid, gid) = (user.uid.to_string(), user.gid.to_string());
            command.args(["setpriv", "--reuid", &uid, "--regid", &gid, "--clear-groups"]);
        }
        let output = fs::File::create(&log).unwrap();
        command
            .args([RBEE, "--config", as_str(&file)])
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output);
        let child = command.spawn().unwrap();
        let mut hive = Self { child, log, api: Api::new(format!("http://127.0.0.1:{port}")) };
        hive.listening().await;
        hive
    }

    async fn listening(&mut self) {
        let (child, log, api) = (&mut self.child, &self.log, &self.api);
        eventually(PATIENCE, async || {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("rbee ended: {status}: {}", fs::read_to_string(log).unwrap());
            }
            api.try_get("/health").await.map(|_| ())
        })
        .await;
    }

    pub(crate) fn api(&self) -> &Api {
        &self.api
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Lines of its log with `part` in them.
    pub(crate) fn log_lines(&self, part: &str) -> Vec<String> {
        let text = fs::read_to_string(&self.log).unwrap();
        text.lines().filter(|line| line.contains(part)).map(str::to_owned).collect()
    }

    /// Sends SIGTERM and waits for an end in order.
    pub(crate) async fn stop(mut self) {
        proc::signal(self.pid(), Signal::SIGTERM);
        let status =
            eventually(PATIENCE, async || self.child.try_wait().unwrap().ok_or("still running"))
                .await;
        assert!(status.success(), "{status}");
    }
}

impl Drop for Hive {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log ---\n{}---", fs::read_to_string(&self.log).unwrap_or_default());
        }
        proc::signal(self.pid(), Signal::SIGTERM);
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A worker's main process.
pub(crate) fn main_pid(worker: &Value) -> u32 {
    worker["pid"].as_u64().expect("it has a PID") as u32
}

/// The PIDs of a worker.
pub(crate) fn pids(worker: &Value) -> Vec<u32> {
    worker["pids"].as_array().unwrap().iter().map(|pid| pid.as_u64().unwrap() as u32).collect()
}

/// A worker's own file of cgroupfs.
pub(crate) fn cgroup_file(worker: &Value, file: &str) -> String {
    let cgroup = proc::cgroup_of(main_pid(worker)).unwrap();
    fs::read_to_string(cgroup.join(file)).unwrap().trim().to_owned()
}

/// A worker that runs a shell script.
pub(crate) fn shell(instance: &str, script: &str) -> Value {
    json!({
        "group": "g", "instance": instance, "command": "/bin/sh", "args": ["-c", script],
        "sample_interval_ms": 500, "restart": {"policy": "never"},
    })
}

/// A worker that does nothing.
pub(crate) fn sleeper(instance: &str) -> Value {
    shell(instance, "exec sleep 86400")
}

/// Forgets what was read from the disk, so that whoever reads it next is charged for it.
pub(crate) fn drop_caches() {
    nix::unistd::sync();
    fs::write("/proc/sys/vm/drop_caches", "1").unwrap();
}

/// Runs a command to its end and returns what it printed, provided that it succeeded.
pub(crate) fn run(command: &str) -> String {
    let output = Command::new("/bin/sh").args(["-c", command]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {}: {text}{errors}", output.status);
    text
}

/// Two samples later than now.
pub(crate) async fn sampled_twice(api: &Api, name: &str) -> Value {
    let age = |worker: &Value| worker["sample_age_ms"].as_u64().unwrap_or(u64::MAX);
    for _ in 0..2 {
        let mut last = 0;
        let fresh = |worker: &Value| {
            let newer = age(worker) < last;
            last = age(worker);
            newer
        };
        api.worker_when(name, secs(20), fresh).await;
    }
    api.worker(name).await
}
