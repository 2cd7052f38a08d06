//! A hive, built.

use super::{
    Front, Server, StartupError, Vital, change_authorities, http_threads, open_files::OpenFiles,
    serve,
};
use crate::{
    actors::{
        gpu_sampler::{GpuSampler, GpuSamplerConfig, GpuView},
        heartbeat_sender::{ChangeToken, HeartbeatSender, SayGoodbye, SenderConfig, SenderStats},
        hive_board::HiveBoard,
        log_keeper::LogKeeper,
        node_monitor::NodeMonitor,
        spawner::{Archive, Reload, Shutdown, SpawnerActor, SpawnerConfig, base_environment},
        supervise::start_guarded,
    },
    contract::{Capabilities, CgroupCapability, Device},
    http::{
        auth::{GuardConfig, Role, Rules, origin::OwnNames},
        hive::{ACCESS, HiveState, Readers, admin::AdminPolicy, configure},
    },
    platform::{
        cgroup::{CgroupTree, find_root, hint_for_discovery, hint_for_tree},
        gpu::{self, GpuSource, NvidiaSmi, NvmlLibrary},
        log_file::LogDir,
        node::cpu_name,
        process::adopt_orphans,
        sampler::Sampler,
        state_dir::StateDir,
        tls::Authorities,
    },
    settings::{
        AdminSettings, CgroupMode, CgroupSettings, GpuSettings, GpuSourceChoice, HiveSettings,
        OnExit,
    },
};
use actix::{Addr, Arbiter};
use arc_swap::ArcSwap;
use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// A hive's API is for its operator and its queen.
const HTTP_THREADS_MAX: usize = 2;

pub(super) struct Hive {
    spawner: Addr<SpawnerActor>,
    sender: Addr<HeartbeatSender>,
    server: Server,
    closing: watch::Sender<bool>,
    on_exit: OnExit,
    tree: Option<CgroupTree>,
    policy: Arc<ArcSwap<AdminPolicy>>,
    authorities: Option<Authorities>,
    /// What it was started with and cannot change while it runs, in text.
    running: String,
    arbiters: [Arbiter; 3],
}

impl Hive {
    pub(super) fn start(
        settings: HiveSettings,
        listener: TcpListener,
        open_files: OpenFiles,
        vital: &Vital,
    ) -> Result<Self, StartupError> {
        open_files.warn_if_few();
        let system = StartupError::System;
        let address = listener.local_addr().unwrap_or(settings.bind);
        let state_dir = Arc::new(StateDir::open(&settings.state_dir)?);
        let (tree, cgroup) = open_tree(&settings.cgroup)?;
        adopt_orphans().map_err(|source| system("take in orphans", source))?;
        let board = Arc::new(HiveBoard::default());
        // HTTP to engines has a thread of its own: it never delays a sample.
        let (actors, monitors, loads) = (Arbiter::new(), Arbiter::new(), Arbiter::new());
        start_node_monitor(&settings, &board, &monitors, vital);
        start_gpu_sampler(&settings, &board, &monitors, vital);
        let heartbeats = Arc::new(SenderStats::default());
        let sender = {
            let stats = Arc::clone(&heartbeats);
            start_sender(&settings, address.port(), &board, stats, &actors, vital)
        };
        let config = SpawnerConfig {
            sample_interval: settings.sample_interval,
            open_sampler: Box::new(|_, run| Ok(Box::new(Sampler::open(run)?))),
            tree,
            logs: LogDir::new(state_dir.logs()),
            base_env: Arc::new(base_environment(
                std::env::vars_os()
                    .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))),
            )),
            gpu_timeout: settings.gpu.timeout,
            open_files: open_files.started_with,
            records: state_dir.records(),
            archive: Archive::start(Arc::clone(&state_dir))
                .map_err(|source| system("start a thread", source))?,
            wanted: settings.workers.clone(),
        };
        let (closing, closed) = watch::channel(false);
        let policy = Arc::new(ArcSwap::from_pointee(policy_of(&settings)));
        let running = fixed(&settings);
        let logs = config.logs.clone();
        let keeper = LogKeeper::new(logs.clone());
        start_guarded(&monitors.handle(), |_| keeper, vital.watch("log keeper"));
        let tree = config.tree.clone();
        let spawner = {
            let (board, queen) = (Arc::clone(&board), sender.clone().recipient());
            let (monitors, loads) = (monitors.handle(), loads.handle());
            start_guarded(
                &actors.handle(),
                move |_| SpawnerActor::new(config, board, queen, monitors, loads),
                vital.watch("spawner"),
            )
        };
        let state = HiveState {
            board,
            spawner: spawner.clone(),
            policy: Arc::clone(&policy),
            hostname: settings.hostname.clone().into(),
            logs,
            capabilities: Arc::new(Capabilities { devices: devices(), cgroup }),
            started: Instant::now(),
            closing: closed,
            readers: Arc::new(Readers::default()),
            heartbeats,
        };
        let front = front_of(&settings, address);
        let server = serve(listener, http_threads(HTTP_THREADS_MAX), state, front, configure)
            .map_err(|source| system("serve HTTP", source))?;
        tracing::info!(role = "hive", addr = %address, hive_id = settings.id, "listening");
        let arbiters = [actors, monitors, loads];
        let on_exit = settings.on_exit;
        let authorities = settings.authorities;
        Ok(Self {
            spawner,
            sender,
            server,
            closing,
            on_exit,
            tree,
            policy,
            authorities,
            running,
            arbiters,
        })
    }

    /// Takes the list of workers, what the API may run, tokens, the certificate and whom to trust.
    pub(super) async fn reload(&self, settings: HiveSettings) {
        if fixed(&settings) != self.running {
            tracing::warn!("[hive] has other changes too: they need a restart of the hive");
        }
        self.policy.store(Arc::new(policy_of(&settings)));
        self.server.front.reload(rules_of(&settings), settings.tls);
        change_authorities(self.authorities.as_ref(), settings.authorities.as_ref());
        let _ = self.sender.send(ChangeToken(settings.queen_token)).await;
        let _ = self.spawner.send(Reload(settings.workers)).await;
    }

    pub(super) async fn stop(self) {
        let _ = self.closing.send(true);
        let stop_workers = self.on_exit == OnExit::Stop;
        let _ = self.spawner.send(Shutdown { stop_workers }).await;
        let _ = self.sender.send(SayGoodbye).await;
        self.server.stop().await;
        if let Some(tree) = self.tree {
            tree.remove_if_empty();
        }
        for arbiter in self.arbiters {
            arbiter.stop();
        }
    }
}

fn policy_of(settings: &HiveSettings) -> AdminPolicy {
    AdminPolicy {
        allow_commands: settings.admin.allow_commands.clone(),
        allow_env: settings.admin.allow_env.clone(),
    }
}

fn front_of(settings: &HiveSettings, bind: SocketAddr) -> Front {
    let own = OwnNames {
        bind,
        hostname: Some(settings.hostname.clone()),
        allowed: settings.allowed_hosts.clone(),
        tls: settings.tls.is_some(),
    };
    let guard = GuardConfig { rules: rules_of(settings), own, access: ACCESS };
    Front::new(guard, settings.tls.clone())
}

/// Only the one token: a hive's readers are its operators.
fn rules_of(settings: &HiveSettings) -> Rules {
    Rules::new([(Role::Admin, settings.admin.token.clone())], false)
}

/// All but what SIGHUP applies.
fn fixed(settings: &HiveSettings) -> String {
    let mut settings = settings.clone();
    settings.workers.clear();
    settings.queen_token = None;
    settings.admin = AdminSettings::default();
    format!("{settings:?}")
}

fn start_node_monitor(
    settings: &HiveSettings,
    board: &Arc<HiveBoard>,
    monitors: &Arbiter,
    vital: &Vital,
) {
    match NodeMonitor::new(Arc::clone(board), settings.sample_interval) {
        Ok(monitor) => {
            start_guarded(&monitors.handle(), |_| monitor, vital.watch("node monitor"));
        }
        Err(error) => tracing::warn!(%error, "there is no /proc: the machine is not sampled"),
    }
}

/// Where nobody is to be asked, that is told at once.
fn start_gpu_sampler(
    settings: &HiveSettings,
    board: &Arc<HiveBoard>,
    monitors: &Arbiter,
    vital: &Vital,
) {
    let is_present = || gpu::is_present("/proc".as_ref(), "/sys".as_ref());
    if settings.gpu.source == GpuSourceChoice::Off {
        board.set_gpus(if is_present() { GpuView::unasked() } else { GpuView::without_gpu() });
        return;
    }
    let (gpu, interval) = (settings.gpu.clone(), settings.sample_interval);
    let config = GpuSamplerConfig {
        interval,
        timeout: gpu.timeout,
        sources: Box::new(move || gpu_sources(&gpu, interval)),
        is_present: Box::new(is_present),
    };
    let board = Arc::clone(board);
    let build = move |_: &mut _| GpuSampler::new(config, board);
    start_guarded(&monitors.handle(), build, vital.watch("GPU sampler"));
}

/// A process's sample counts for two ticks.
fn gpu_sources(settings: &GpuSettings, interval: Duration) -> Vec<Box<dyn GpuSource>> {
    let nvml = || Box::new(NvmlLibrary::new(settings.nvml_path.clone(), interval * 2));
    let smi = || Box::new(NvidiaSmi::new(settings.nvidia_smi_path.as_str()));
    match settings.source {
        GpuSourceChoice::Auto => vec![nvml(), smi()],
        GpuSourceChoice::Nvml => vec![nvml()],
        GpuSourceChoice::NvidiaSmi => vec![smi()],
        GpuSourceChoice::Off => Vec::new(),
    }
}

fn start_sender(
    settings: &HiveSettings,
    port: u16,
    board: &Arc<HiveBoard>,
    stats: Arc<SenderStats>,
    actors: &Arbiter,
    vital: &Vital,
) -> Addr<HeartbeatSender> {
    let config = SenderConfig {
        hive_id: settings.id.clone(),
        hostname: settings.hostname.clone(),
        port,
        queen_urls: settings.queen_urls.clone(),
        token: settings.queen_token.clone(),
        authorities: settings.authorities.clone(),
        interval: settings.heartbeat_interval,
        timeout: settings.heartbeat_timeout,
        leaves_workers: settings.on_exit == OnExit::Leave,
    };
    let board = Arc::clone(board);
    start_guarded(
        &actors.handle(),
        move |_| HeartbeatSender::new(config, board, stats),
        vital.watch("heartbeat sender"),
    )
}

/// Our slice of the cgroup tree, where the mode and the system allow one.
fn open_tree(
    settings: &CgroupSettings,
) -> Result<(Option<CgroupTree>, CgroupCapability), StartupError> {
    let mode = match settings.mode {
        CgroupMode::Auto => "auto",
        CgroupMode::Require => "require",
        CgroupMode::Off => "off",
    };
    let tried = match settings.mode {
        CgroupMode::Off => Err("hive.cgroup.mode is \"off\"".to_owned()),
        _ => find_tree(settings),
    };
    let mut capability = CgroupCapability {
        mode: mode.into(),
        available: tried.is_ok(),
        slice: None,
        controllers: Vec::new(),
        reason: None,
    };
    match tried {
        Ok(tree) => {
            let slice = tree.slice().display().to_string();
            if !tree.lock() {
                return Err(StartupError::SliceInUse(slice));
            }
            capability.controllers = tree.controllers();
            tracing::info!(slice, controllers = ?capability.controllers, "workers get a cgroup each");
            capability.slice = Some(slice);
            capability.reason = tree.shortfall();
            if let Some(reason) = &capability.reason {
                tracing::warn!(reason, "workers do without some controllers");
            }
            Ok((Some(tree), capability))
        }
        Err(reason) if settings.mode == CgroupMode::Require => Err(StartupError::NoCgroup(reason)),
        Err(reason) => {
            if settings.mode == CgroupMode::Auto {
                tracing::warn!(
                    reason,
                    "workers run without cgroups: no limits, figures from /proc"
                );
            }
            capability.reason = Some(reason);
            Ok((None, capability))
        }
    }
}

/// The tree, or why there is none and what to do about it, in one line.
fn find_tree(settings: &CgroupSettings) -> Result<CgroupTree, String> {
    let root = find_root(settings.root.as_deref())
        .map_err(|error| format!("{}: {}", super::chain(&error), hint_for_discovery(&error)))?;
    CgroupTree::open(root, &settings.slice).map_err(|error| {
        let hint = hint_for_tree(&error).map_or_else(String::new, |hint| format!(": {hint}"));
        super::chain(&error) + &hint
    })
}

fn devices() -> Vec<Device> {
    let device_type = "cpu".to_owned();
    vec![Device { id: "CPU-0".into(), name: cpu_name(), device_type, vram_gb: 0.0 }]
}
