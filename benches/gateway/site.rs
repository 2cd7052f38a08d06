//! What is measured: a queen, its workers, and an nginx before the same workers. All on loopback, all
//! ended when dropped.

use super::client;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{JoinHandle, sleep, spawn},
    time::{Duration, Instant},
};

const RBEE: &str = env!("CARGO_BIN_EXE_rbee");
/// How often the workers are reported to the queen.
const HEARTBEAT: Duration = Duration::from_millis(500);
/// How long a process may take until it listens.
const PATIENCE: Duration = Duration::from_secs(10);

/// A process, and those that it forks, which listens on a port.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Server {
    fn start(command: &mut Command, address: SocketAddr) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let server = Self { child: command.spawn().unwrap(), address };
        let begun = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(begun.elapsed() < PATIENCE, "{command:?} does not listen");
            sleep(Duration::from_millis(10));
        }
        server
    }

    /// The process and its children.
    fn pids(&self) -> Vec<u32> {
        let own = self.child.id();
        let children = fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap();
        let children = children.split_whitespace().map(|pid| pid.parse().unwrap());
        children.chain([own]).collect()
    }

    /// Whether it runs on the processor with this number alone, from now on.
    pub(crate) fn pin(&self, cpu: &str) -> bool {
        self.pids().into_iter().all(|pid| pin(pid, cpu))
    }

    /// Time on a processor of all its threads.
    pub(crate) fn cpu(&self) -> Duration {
        self.pids().into_iter().map(cpu_of).sum()
    }

    /// Resident memory, KiB.
    pub(crate) fn rss_kib(&self) -> i64 {
        self.pids().into_iter().map(rss_kib_of).sum()
    }
}

fn cpu_of(pid: u32) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    // schedstat: ns on a processor, ns waiting for one, number of turns.
    let of_task = |path: &Path| {
        let text = fs::read_to_string(path.join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    };
    Duration::from_nanos(tasks.filter_map(|task| of_task(&task.ok()?.path())).sum())
}

fn rss_kib_of(pid: u32) -> i64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

impl Drop for Server {
    fn drop(&mut self) {
        // Asked to end, a process takes those along that it forked.
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        let _ = kill(pid, Signal::SIGTERM);
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE && matches!(self.child.try_wait(), Ok(None)) {
            sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Pins all threads of a process; `false` where there is no `taskset`.
pub(crate) fn pin(pid: u32, cpu: &str) -> bool {
    let mut command = Command::new("taskset");
    command.args(["-a", "-c", "-p", cpu, &pid.to_string()]).stdout(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// The number of one processor that this process may use.
pub(crate) fn some_cpu() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap();
    list.rsplit([',', '-']).next().unwrap().trim().to_owned()
}

fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

/// An echo worker, whose words take `delay_ms` each.
pub(crate) fn worker(model: &str, delay_ms: u64) -> Server {
    let address = free_address();
    let (port, delay_ms) = (address.port().to_string(), delay_ms.to_string());
    let arguments = ["echo-worker", "--port", &port, "--model", model, "--delay-ms", &delay_ms];
    Server::start(Command::new(RBEE).args(arguments), address)
}

/// A queen that is told of workers.
pub(crate) struct Queen {
    pub(crate) server: Server,
    ended: Arc<AtomicBool>,
    heartbeats: Option<JoinHandle<()>>,
}

impl Queen {
    pub(crate) fn start(directory: &Path, workers: &[(&str, SocketAddr)]) -> Self {
        let (address, config) = (free_address(), directory.join("queen.toml"));
        fs::write(&config, format!("[queen]\nbind = \"{address}\"\n")).unwrap();
        let server = Server::start(Command::new(RBEE).arg("--config").arg(config), address);
        let report = report(workers);
        assert!(tell(address, &report), "the queen takes no heartbeat");
        let ended = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&ended);
        let heartbeats = spawn(move || {
            while !until.load(Ordering::Relaxed) {
                sleep(HEARTBEAT);
                tell(address, &report);
            }
        });
        Self { server, ended, heartbeats: Some(heartbeats) }
    }
}

impl Drop for Queen {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        self.heartbeats.take().map(JoinHandle::join);
    }
}

fn report(workers: &[(&str, SocketAddr)]) -> Vec<u8> {
    let worker = |(model, address): &(&str, SocketAddr)| {
        serde_json::json!({
            "group": "bench", "instance": model, "model": model, "url": format!("http://{address}"),
            "state": "ready", "pid": 1,
        })
    };
    let body = serde_json::json!({
        "hive": {"id": "bench", "hostname": "localhost", "port": 1},
        "timestamp": "2000-01-01T00:00:00Z",
        "workers": workers.iter().map(worker).collect::<Vec<_>>(),
    });
    client::post("/v1/hive-heartbeat", &body.to_string(), "close")
}

/// Whether it was taken.
fn tell(queen: SocketAddr, report: &[u8]) -> bool {
    let mut answer = String::new();
    let told = TcpStream::connect(queen).and_then(|mut tcp| {
        tcp.set_read_timeout(Some(PATIENCE))?;
        tcp.write_all(report)?;
        tcp.read_to_string(&mut answer)
    });
    told.is_ok() && answer.starts_with("HTTP/1.1 2")
}

/// One address for each of the workers' addresses, or `None` without an nginx on this machine.
pub(crate) fn nginx(directory: &Path, workers: &[SocketAddr]) -> Option<(Server, Vec<SocketAddr>)> {
    Command::new("nginx").arg("-v").stderr(Stdio::null()).status().ok()?;
    let addresses: Vec<_> = workers.iter().map(|_| free_address()).collect();
    let config = directory.join("nginx.conf");
    fs::write(&config, nginx_config(directory, workers, &addresses)).unwrap();
    let mut command = Command::new("nginx");
    command.arg("-e").arg(directory.join("nginx.log")).arg("-p").arg(directory);
    let server = Server::start(command.arg("-c").arg(config), *addresses.first()?);
    Some((server, addresses))
}

fn nginx_config(directory: &Path, workers: &[SocketAddr], addresses: &[SocketAddr]) -> String {
    let pair = |(number, (worker, address)): (usize, (&SocketAddr, &SocketAddr))| {
        format!(
            "upstream w{number} {{ server {worker}; keepalive 256; keepalive_requests 1000000000; }}
             server {{
                 listen {address};
                 location / {{
                     proxy_pass http://w{number};
                     proxy_http_version 1.1;
                     proxy_set_header Connection \"\";
                     proxy_buffering off;
                 }}
             }}\n"
        )
    };
    let pairs: String = workers.iter().zip(addresses).enumerate().map(pair).collect();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {}/{kind};\n", directory.display()))
        .concat();
    format!(
        "daemon off; worker_processes auto;
         pid {}/nginx.pid;
         events {{ worker_connections 4096; }}
         http {{
             access_log off;
             tcp_nodelay on;
             keepalive_requests 1000000000;
             {temporary}{pairs}
         }}\n",
        directory.display()
    )
}
