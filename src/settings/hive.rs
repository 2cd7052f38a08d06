//! `[hive]`

use super::{
    checks::{Openness, allowed_hosts, authorities, bind, names_token, tls, token, trust},
    host_name::HostName,
    names,
    reader::{Findings, Table},
    worker,
};
use crate::limits::{HIVE_WORKERS_MAX, Limit, NAME_MAX};
use crate::{
    contract::WorkerSpec,
    platform::{
        secret::Secret,
        tls::{Authorities, Identity},
    },
};
use glob::Pattern;
use std::{collections::HashSet, env, net::SocketAddr, path::PathBuf, time::Duration};

/// Whether workers get a cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupMode {
    /// Where there is a writable cgroup v2 tree.
    Auto,
    /// Always; none is an error.
    Require,
    /// Never.
    Off,
}

/// What becomes of the workers when the hive ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExit {
    /// They go on, and the next hive adopts them.
    Leave,
    /// They are stopped.
    Stop,
}

/// `[hive.cgroup]`
#[derive(Clone, Debug)]
pub struct CgroupSettings {
    /// Whether workers get a cgroup.
    pub mode: CgroupMode,
    /// Where the tree is; `None`: where it is mounted.
    pub root: Option<PathBuf>,
    /// Its directory for everything of ours.
    pub slice: String,
}

/// Who is asked about GPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GpuSourceChoice {
    /// NVML, and nvidia-smi where that does not answer.
    Auto,
    /// NVML only.
    Nvml,
    /// nvidia-smi only.
    NvidiaSmi,
    /// Nobody.
    Off,
}

/// `[hive.gpu]`
#[derive(Clone, Debug)]
pub struct GpuSettings {
    /// Who is asked.
    pub source: GpuSourceChoice,
    /// NVML's library; `None`: where the loader finds it.
    pub nvml_path: Option<PathBuf>,
    /// The program: a path, or a name that is looked up in PATH.
    pub nvidia_smi_path: String,
    /// After this long without an answer nothing is known.
    pub timeout: Duration,
}

/// `[hive.admin]`
#[derive(Clone, Debug, Default)]
pub struct AdminSettings {
    /// What whoever asks has to show; `None`: nobody is asked.
    pub token: Option<Secret>,
    /// What `POST /v1/workers` may run.
    pub allow_commands: Vec<Pattern>,
    /// The variables that it may set.
    pub allow_env: HashSet<String>,
}

/// A hive.
#[derive(Clone, Debug)]
pub struct HiveSettings {
    /// Unique among the hives of a queen.
    pub id: String,
    /// Where its API listens.
    pub bind: SocketAddr,
    /// How others reach this machine's workers.
    pub hostname: String,
    /// Hosts that it answers to beside its own address and `hostname`.
    pub allowed_hosts: Vec<HostName>,
    /// What it shows as a TLS server; `None`: it speaks plain HTTP.
    pub tls: Option<Identity>,
    /// Whom it trusts as a client of queens; `None`: no `https`.
    pub authorities: Option<Authorities>,
    /// What it shows to a queen.
    pub queen_token: Option<Secret>,
    /// Where heartbeats go; the next one takes over when one does not answer.
    pub queen_urls: Vec<String>,
    /// Between heartbeats.
    pub heartbeat_interval: Duration,
    /// How long a queen may take to answer.
    pub heartbeat_timeout: Duration,
    /// A monitor's tick, unless its worker has its own.
    pub sample_interval: Duration,
    /// Where logs and the state of workers are.
    pub state_dir: PathBuf,
    /// What becomes of the workers when the hive ends.
    pub on_exit: OnExit,
    /// `[hive.cgroup]`
    pub cgroup: CgroupSettings,
    /// `[hive.gpu]`
    pub gpu: GpuSettings,
    /// `[hive.admin]`
    pub admin: AdminSettings,
    /// `[[hive.workers]]`
    pub workers: Vec<WorkerSpec>,
}

pub(super) fn read(mut t: Table, insecure: bool, f: &mut Findings) -> Option<HiveSettings> {
    let id = match t.non_empty("id", f) {
        Some(text) => checked_id(&text, &t, f),
        None => Some(default_id()),
    };
    let admin = t.table("admin", f);
    let has_token = names_token(&admin, &["token_file", "token"]);
    let bind = bind(&mut t, "127.0.0.1:7835", Openness { has_token, insecure }, f);
    let hostname = t.parse("hostname", f, hostname).unwrap_or_else(|| "127.0.0.1".into());
    let allowed_hosts = allowed_hosts(&mut t, f);
    let tls = tls(&mut t, f);
    let mut authorities = authorities(&mut t, f);
    let queen_token = token(&mut t, "queen_token_file", Some("queen_token"), f);
    let queen_urls = read_queen_urls(&mut t, &mut authorities, f);
    let heartbeat_interval = t.millis("heartbeat_interval_ms", f, 10..=600_000, 1_000);
    let heartbeat_timeout = t.millis("heartbeat_timeout_ms", f, 10..=600_000, 2_000);
    let sample_interval = t.millis("sample_interval_ms", f, 10..=3_600_000, 1_000);
    let state_dir = t.non_empty("state_dir", f).map_or_else(default_state_dir, PathBuf::from);
    let on_exit = [("leave", OnExit::Leave), ("stop", OnExit::Stop)];
    let on_exit = t.choice("on_exit", f, &on_exit, OnExit::Leave);
    let cgroup = t.table("cgroup", f);
    let cgroup = read_cgroup(cgroup, f);
    let gpu = t.table("gpu", f);
    let gpu = read_gpu(gpu, f);
    let admin = read_admin(admin, f);
    let workers = read_workers(&mut t, &hostname, f);
    t.finish(f);
    Some(HiveSettings {
        id: id?,
        bind: bind?,
        hostname,
        allowed_hosts,
        tls,
        authorities,
        queen_token,
        queen_urls,
        heartbeat_interval,
        heartbeat_timeout,
        sample_interval,
        state_dir,
        on_exit,
        cgroup,
        gpu,
        admin,
        workers,
    })
}

fn checked_id(text: &str, t: &Table, f: &mut Findings) -> Option<String> {
    names::hive_id(text).map_err(|allowed| f.add(t.key("id"), format!("{text:?}"), &allowed)).ok()
}

/// The host's name, less what an id may not hold.
fn default_id() -> String {
    let name = nix::unistd::gethostname().unwrap_or_default();
    let plain: String = name
        .to_string_lossy()
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || ".-_".contains(*c))
        .take(NAME_MAX)
        .collect();
    names::hive_id(&plain).unwrap_or_else(|_| "localhost".into())
}

fn hostname(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-_:".contains(c);
    let port = text.contains(':') && text.parse::<std::net::Ipv6Addr>().is_err();
    if !text.is_empty() && text.len() <= 253 && text.chars().all(plain) && !port {
        return Ok(text.to_owned());
    }
    Err("must be a host name or an IP address, without brackets and without a port".into())
}

/// `queen_url` wins over `queen_urls`, so that the environment can name a single queen over a file's list.
fn read_queen_urls(
    t: &mut Table,
    authorities: &mut Option<Authorities>,
    f: &mut Findings,
) -> Vec<String> {
    let single = t.non_empty("queen_url", f).map(|url| vec![url]);
    let several = t.strings("queen_urls", f);
    let single_key = single.is_some();
    let key = t.key(if single_key { "queen_url" } else { "queen_urls" });
    let named = |index| if single_key { key.clone() } else { format!("{key}[{index}]") };
    let urls = single.or(several).unwrap_or_else(|| vec!["http://127.0.0.1:7833".into()]);
    if urls.is_empty() {
        f.add(key.as_str(), "[]", "must name at least one queen");
    }
    let mut good = Vec::with_capacity(urls.len());
    for (index, url) in urls.iter().enumerate() {
        match worker::url(url) {
            Ok(url) => {
                trust(&named(index), &url, authorities, f);
                good.push(url);
            }
            Err(allowed) => f.add(named(index), format!("{url:?}"), &allowed),
        }
    }
    good
}

fn read_cgroup(mut t: Table, f: &mut Findings) -> CgroupSettings {
    let modes =
        [("auto", CgroupMode::Auto), ("require", CgroupMode::Require), ("off", CgroupMode::Off)];
    let settings = CgroupSettings {
        mode: t.choice("mode", f, &modes, CgroupMode::Auto),
        root: t.non_empty("root", f).map(PathBuf::from),
        slice: t.parse("slice", f, slice).unwrap_or_else(|| "rbee.slice".into()),
    };
    if let Some(root) = settings.root.as_ref().filter(|root| !root.is_absolute()) {
        f.add(t.key("root"), format!("{root:?}"), "must be an absolute path");
    }
    t.finish(f);
    settings
}

/// The directory's name below the root; systemd's own naming is allowed here.
fn slice(text: &str) -> Result<String, String> {
    names::hive_id(text)
}

fn read_gpu(mut t: Table, f: &mut Findings) -> GpuSettings {
    use GpuSourceChoice::{Auto, NvidiaSmi, Nvml, Off};
    let sources = [("auto", Auto), ("nvml", Nvml), ("nvidia-smi", NvidiaSmi), ("off", Off)];
    let settings = GpuSettings {
        source: t.choice("source", f, &sources, Auto),
        nvml_path: t.non_empty("nvml_path", f).map(PathBuf::from),
        nvidia_smi_path: t.non_empty("nvidia_smi_path", f).unwrap_or_else(|| "nvidia-smi".into()),
        timeout: t.millis("timeout_ms", f, 10..=600_000, 5_000),
    };
    t.finish(f);
    settings
}

fn read_admin(mut t: Table, f: &mut Findings) -> AdminSettings {
    let token = token(&mut t, "token_file", Some("token"), f);
    let key = t.key("allow_commands");
    let mut allow_commands = Vec::new();
    for (index, text) in t.strings("allow_commands", f).unwrap_or_default().iter().enumerate() {
        let absolute = text.starts_with('/') || text == "rbee";
        match Pattern::new(text).ok().filter(|_| absolute) {
            Some(pattern) => allow_commands.push(pattern),
            None => f.add(
                format!("{key}[{index}]"),
                format!("{text:?}"),
                "must be an absolute path or a glob of absolute paths, such as \"/usr/bin/*\", or \"rbee\"",
            ),
        }
    }
    let allow_env = t.strings("allow_env", f).unwrap_or_default().into_iter().collect();
    t.finish(f);
    AdminSettings { token, allow_commands, allow_env }
}

fn read_workers(t: &mut Table, hostname: &str, f: &mut Findings) -> Vec<WorkerSpec> {
    let tables = t.tables("workers", f);
    let key = t.key("workers");
    if tables.len() > HIVE_WORKERS_MAX {
        Limit::HiveWorkers.reached();
        let allowed = format!("must be at most {HIVE_WORKERS_MAX} workers");
        f.add(key.as_str(), tables.len(), &allowed);
        return Vec::new();
    }
    let mut seen = HashSet::new();
    let mut workers = Vec::with_capacity(tables.len());
    for (index, table) in tables.into_iter().enumerate() {
        let Some(spec) = worker::read(table, hostname, f) else { continue };
        if !seen.insert((spec.group.clone(), spec.instance.clone())) {
            let name = format!("{}/{}", spec.group, spec.instance);
            f.add(format!("{key}[{index}]"), name, "must have a name of its own");
        }
        workers.push(spec);
    }
    workers
}

fn default_state_dir() -> PathBuf {
    if nix::unistd::geteuid().is_root() {
        return PathBuf::from("/var/lib/rbee");
    }
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
        .unwrap_or_else(env::temp_dir)
        .join("rbee")
}
