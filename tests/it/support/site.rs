//! A test's own place on the machine: a directory, a cgroup slice, names that nobody else uses.
//!
//! Whatever was started there is gone when the place is dropped, also after a hive was killed.

use super::{Daemon, config::to_toml, daemon::Started, proc};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::{
    cell::{Cell, RefCell},
    io::Write as _,
    net::TcpListener,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    rc::Rc,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// The binary under test.
pub(crate) const RBEE: &str = env!("CARGO_BIN_EXE_rbee");

/// Nobody listens there: for a hive whose test has no queen.
const NO_QUEEN: &str = "http://127.0.0.1:1";

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A test's own place.
pub(crate) struct Site {
    directory: TempDir,
    slice: String,
    unique: String,
    markers: Cell<u32>,
    variables: RefCell<Vec<(&'static str, String)>>,
    launcher: RefCell<Vec<String>>,
    started: Started,
}

impl Site {
    pub(crate) fn new() -> Self {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let unique = format!("{}-{number}", std::process::id());
        Self {
            directory: tempfile::Builder::new()
                .prefix("rbee-")
                .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
                .expect("a temporary directory"),
            slice: format!("rbee-test-{unique}.slice"),
            unique,
            markers: Cell::new(0),
            variables: RefCell::default(),
            launcher: RefCell::default(),
            started: Rc::default(),
        }
    }

    /// A file's path in the test's own directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes what only its owner may read, and says where.
    pub(crate) fn secret(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        let mut options = std::fs::OpenOptions::new();
        let options = options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&path).expect("the secret's file");
        file.write_all(content.as_bytes()).expect("the secret is written");
        path
    }

    /// Daemons that are started from now on have this variable.
    pub(crate) fn set_variable(&self, name: &'static str, value: &str) {
        self.variables.borrow_mut().push((name, value.to_owned()));
    }

    /// Daemons that are started from now on are run by this command in its own place.
    pub(crate) fn set_launcher(&self, words: &[&str]) {
        *self.launcher.borrow_mut() = words.iter().map(|word| (*word).to_owned()).collect();
    }

    /// The directory of cgroups that its hives use.
    pub(crate) fn slice(&self) -> &str {
        &self.slice
    }

    /// What no other test's names have.
    pub(crate) fn unique(&self) -> &str {
        &self.unique
    }

    /// A duration for `sleep` that no other process on the machine has as an argument.
    pub(crate) fn marker(&self) -> String {
        self.markers.set(self.markers.get() + 1);
        // A day and a fraction made of what is unique.
        format!("86400.{}{}", self.unique.replace('-', "0"), self.markers.get())
    }

    /// A hive on a port that the kernel chooses; with `queen`, one that heartbeats there.
    pub(crate) fn hive_config(&self, queen: Option<&str>) -> Value {
        json!({"hive": {
            "id": "test-hive",
            "bind": "127.0.0.1:0",
            "hostname": "127.0.0.1",
            "queen_urls": [queen.unwrap_or(NO_QUEEN)],
            "state_dir": self.path("state"),
            "on_exit": "stop",
            "cgroup": {"slice": self.slice},
            "admin": {"allow_commands": ["/bin/*", "/usr/bin/*", RBEE, self.path("*")]},
            "workers": [],
        }})
    }

    /// A queen on a port that the kernel chooses.
    pub(crate) fn queen_config(&self) -> Value {
        json!({"queen": {"bind": "127.0.0.1:0"}})
    }

    /// Writes the file that a daemon is started with.
    pub(crate) fn write(&self, name: &str, config: &Value) -> PathBuf {
        let path = self.path(&format!("{name}.toml"));
        std::fs::write(&path, to_toml(config)).expect("the configuration is written");
        path
    }

    /// Starts `rbee --config` and waits until every role in `config` listens.
    pub(crate) async fn start(&self, name: &str, config: &Value) -> Daemon {
        let path = self.write(name, config);
        let roles = ["hive", "queen"].into_iter().filter(|role| config.get(role).is_some());
        self.spawn(name, &["--config", as_str(&path)]).listening(roles).await
    }

    /// Starts the binary with these arguments.
    pub(crate) fn spawn(&self, name: &str, arguments: &[&str]) -> Daemon {
        let (launcher, variables) = (self.launcher.borrow(), self.variables.borrow());
        Daemon::spawn(name, &launcher, arguments, &variables, Rc::clone(&self.started))
    }

    /// A hive alone.
    pub(crate) async fn start_hive(&self, workers: Value) -> Daemon {
        let mut config = self.hive_config(None);
        config["hive"]["workers"] = workers;
        self.start("hive", &config).await
    }

    /// A queen and a hive that heartbeats to it, two processes.
    pub(crate) async fn start_both(&self, workers: Value) -> (Daemon, Daemon) {
        let queen = self.start("queen", &self.queen_config()).await;
        let mut config = self.hive_config(Some(queen.queen().url()));
        config["hive"]["workers"] = workers;
        let hive = self.start("hive", &config).await;
        (queen, hive)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for (pid, start_ticks) in self.started.borrow_mut().drain(..) {
            if proc::stat(pid).is_some_and(|stat| stat.start_ticks == start_ticks) {
                proc::signal(pid, Signal::SIGKILL);
            }
        }
        if let Some(slice) = proc::cgroup_mount().map(|mount| mount.join(&self.slice))
            && slice.exists()
        {
            proc::remove_cgroup(&slice);
        }
    }
}

/// Runs the binary to its end, in an environment with `variables` and without any other of rbee's.
pub(crate) fn rbee(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(RBEE);
    without_settings(&mut command)
        .args(arguments)
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("rbee is started");
    let deadline = Instant::now() + Duration::from_secs(10);
    while child.try_wait().expect("it can be waited for").is_none() {
        if Instant::now() > deadline {
            let _ = child.kill();
            panic!("rbee {arguments:?} does not end: {:?}", child.wait_with_output());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().expect("its output can be read")
}

/// A port that nobody listens on, outside the range from which the kernel takes its own choices.
pub(crate) fn free_port() -> u16 {
    const FIRST: u32 = 10_000;
    const COUNT_OF_PORTS: u32 = 20_000;
    // Tests run at once, in processes of their own: the PID spreads them.
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(13);
    loop {
        let offset = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT_OF_PORTS;
        let port = (FIRST + offset) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Takes the caller's own settings out of a command's environment.
pub(crate) fn without_settings(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        let own = ["RBEE", "RUST_LOG", "SSL_CERT_"];
        if name.to_str().is_some_and(|name| own.iter().any(|own| name.starts_with(own))) {
            command.env_remove(name);
        }
    }
    command.env("NO_COLOR", "1")
}

/// A path as an argument.
pub(crate) fn as_str(path: &Path) -> &str {
    path.to_str().expect("the path is UTF-8")
}
