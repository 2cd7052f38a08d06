//! A running `rbee --config FILE`, its log, and its end.

use super::{Api, eventually, proc, site};
use nix::sys::signal::Signal;
use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    io::{BufRead, BufReader, Read},
    process::{Child, Command, ExitStatus, Stdio},
    rc::Rc,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

/// How long a daemon may take until it listens, and to end when it is dropped.
const PATIENCE: Duration = Duration::from_secs(10);

/// PIDs with their start times, of processes that must not outlive the test.
pub(super) type Started = Rc<RefCell<Vec<(u32, u64)>>>;

/// A daemon. Dropping it ends it and everything that it started.
pub(crate) struct Daemon {
    name: String,
    child: Child,
    log: Log,
    apis: HashMap<&'static str, Api>,
    started: Started,
}

impl Daemon {
    /// Starts the binary with these arguments, and waits for nothing. `launcher` is a command that runs
    /// it in its own place; empty: none.
    pub(super) fn spawn(
        name: &str,
        launcher: &[String],
        arguments: &[&str],
        variables: &[(&str, String)],
        started: Started,
    ) -> Self {
        let words: Vec<&str> = launcher.iter().map(String::as_str).chain([site::RBEE]).collect();
        let mut command = Command::new(words[0]);
        site::without_settings(&mut command)
            .args(&words[1..])
            .args(arguments)
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("rbee is started");
        let log = Log::default();
        log.follow(child.stdout.take().expect("stdout is piped"));
        log.follow(child.stderr.take().expect("stderr is piped"));
        let daemon = Self { name: name.to_owned(), child, log, apis: HashMap::new(), started };
        daemon.remember_processes();
        daemon
    }

    /// Waits until these roles listen.
    pub(super) async fn listening(mut self, roles: impl Iterator<Item = &'static str>) -> Self {
        for role in roles {
            let url = self.listening_url(role).await;
            self.apis.insert(role, Api::new(url));
        }
        self
    }

    /// Reads the address from the log: `… listening role="hive" addr=127.0.0.1:7835`.
    async fn listening_url(&mut self, role: &str) -> String {
        let of_role = |line: &str| {
            let found = line.contains("listening") && field(line, "role") == Some(role);
            found.then(|| format!("http://{}", field(line, "addr").unwrap_or_default()))
        };
        self.log_line(of_role).await
    }

    /// Waits for a line in which `wanted` finds something.
    pub(crate) async fn log_line<T>(&mut self, wanted: impl Fn(&str) -> Option<T>) -> T {
        let (log, child) = (self.log.clone(), &mut self.child);
        eventually(PATIENCE, async || {
            let ended = child.try_wait().unwrap();
            let lines = log.lines();
            match (lines.iter().find_map(|line| wanted(line)), ended) {
                (Some(found), _) => Ok(found),
                (None, Some(status)) => panic!("rbee ended before it said so: {status}"),
                (None, None) => Err(lines),
            }
        })
        .await
    }

    /// How many lines of its log have `text`.
    pub(crate) fn log_count(&self, text: &str) -> usize {
        self.log.lines().iter().filter(|line| line.contains(text)).count()
    }

    /// All that it has printed so far.
    pub(crate) fn log_text(&self) -> String {
        self.log.lines().join("\n")
    }

    /// The daemon's own PID.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The hive's API.
    pub(crate) fn hive(&self) -> &Api {
        self.apis.get("hive").expect("it runs a hive")
    }

    /// The queen's API.
    pub(crate) fn queen(&self) -> &Api {
        self.apis.get("queen").expect("it runs a queen")
    }

    /// Kills it at once. What it started lives on, until the test ends.
    pub(crate) fn kill(&mut self) {
        self.remember_processes();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends SIGTERM and waits for the end.
    pub(crate) async fn terminate(&mut self, deadline: Duration) -> ExitStatus {
        self.remember_processes();
        proc::signal(self.pid(), Signal::SIGTERM);
        let child = &mut self.child;
        eventually(deadline, async || child.try_wait().unwrap().ok_or("still running")).await
    }

    /// Notes what runs below it now, for the site to end.
    fn remember_processes(&self) {
        let tree: HashSet<u32> = proc::tree(self.pid());
        let known = tree.into_iter().filter_map(|pid| Some((pid, proc::stat(pid)?.start_ticks)));
        self.started.borrow_mut().extend(known);
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- log of {} ---\n{}\n---", self.name, self.log.lines().join("\n"));
        }
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        self.remember_processes();
        proc::signal(self.pid(), Signal::SIGTERM);
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
        self.kill();
        if !thread::panicking() {
            panic!("{} did not end within {PATIENCE:?} of SIGTERM", self.name);
        }
    }
}

/// What a daemon printed, line by line.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn follow(&self, output: impl Read + Send + 'static) {
        let lines = Arc::clone(&self.0);
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                lines.lock().expect("no reader panics").push(line);
            }
        });
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().expect("no reader panics").clone()
    }
}

/// The value of `name=value` in a log line, without quotes.
fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(&format!(" {name}="))?;
    Some(rest.split_ascii_whitespace().next()?.trim_matches('"'))
}
