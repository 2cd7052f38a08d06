//! Every limit that a client, a hive, a worker, a file or a queen can run into: its value, what happens
//! beyond it, and on whose page it is counted.
//!
//! Invariant: what goes beyond a limit of [`Limit`] is answered, cut or forgotten as is said here, and
//! counted once in `rbee_limit_reached_total{limit="…"}`; each is tested at its value and one beyond.
//! How often something is looked at, and how long a call of our own may take, stays where it is used.
//!
//! This is a leaf: it knows nothing of the crate, and all of it may use it.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

macro_rules! limits {
    ($($side:ident {$(
        $(#[$doc:meta])* $variant:ident, $name:literal $(, $constant:ident: $type:ty = $value:expr)?;
    )*})*) => {
        /// What can be reached. Its label is its name in snake case.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Limit {
            $($($(#[$doc])* $variant,)*)*
        }

        $($($(
            #[doc = concat!("See [`Limit::", stringify!($variant), "`].")]
            pub const $constant: $type = $value;
        )?)*)*

        impl Limit {
            /// Each of them.
            pub const ALL: &[Self] = &[$($(Self::$variant,)*)*];

            /// Its label.
            pub fn name(self) -> &'static str {
                match self { $($(Self::$variant => $name,)*)* }
            }

            /// Whether this role (`hive` or `queen`) can run into it, and tells it on its page. What both
            /// can, a process that is both tells on both.
            pub fn is_of(self, role: &str) -> bool {
                let side = match self { $($(Self::$variant => stringify!($side),)*)* };
                side == "Both" || side.eq_ignore_ascii_case(role)
            }
        }
    };
}

limits! {
    Both {
        /// Bytes of an admin call's body, and of a call to schedule: 413.
        SmallBody, "small_body", SMALL_BODY_MAX: usize = 256 << 10;
        /// How long a client may take to send one: 408.
        SmallBodyTime, "small_body_time", SMALL_BODY_WITHIN: Duration = Duration::from_secs(10);
        /// How long nothing may be in hand on a connection; it is closed then.
        ConnectionIdle, "connection_idle", CONNECTION_IDLE_MAX: Duration = Duration::from_secs(15);
    }
    Queen {
        /// Bytes of a heartbeat, as it comes and decompressed: 413.
        HeartbeatBody, "heartbeat_body", HEARTBEAT_BODY_MAX: usize = 4 << 20;
        /// How long a hive may take to send one: 408.
        HeartbeatTime, "heartbeat_time", HEARTBEAT_WITHIN: Duration = Duration::from_secs(10);
        /// Arrays and objects within each other, in any JSON that a queen reads: 400.
        JsonDepth, "json_depth", JSON_DEPTH_MAX: usize = 64;
        /// Objects in one JSON text that is read whole, more than ten for each of the most workers: 400.
        JsonObjects, "json_objects", JSON_OBJECTS_MAX: usize = 65_536;
        /// Workers of one heartbeat: 400.
        HeartbeatWorkers, "heartbeat_workers", HEARTBEAT_WORKERS_MAX: usize = 4_096;
        /// Events of one heartbeat: 400.
        HeartbeatEvents, "heartbeat_events", HEARTBEAT_EVENTS_MAX: usize = 1_024;
        /// GPUs of one machine, and of one worker: 400.
        HeartbeatGpus, "heartbeat_gpus", HEARTBEAT_GPUS_MAX: usize = 256;
        /// Other names of one model: 400.
        HeartbeatAliases, "heartbeat_aliases", HEARTBEAT_ALIASES_MAX: usize = 64;
        /// Processes of one worker: 400.
        HeartbeatPids, "heartbeat_pids", HEARTBEAT_PIDS_MAX: usize = 65_536;
        /// Lines of a log's tail: 400.
        HeartbeatLogTail, "heartbeat_log_tail", HEARTBEAT_LOG_TAIL_MAX: usize = 64;
        /// Bytes of a host's name: 400.
        HeartbeatHostname, "heartbeat_hostname", HEARTBEAT_HOSTNAME_MAX: usize = 253;
        /// The slowest that a hive may say it sends, ms: 400.
        HeartbeatInterval, "heartbeat_interval", HEARTBEAT_INTERVAL_MAX_MS: u64 = 3_600_000;
        /// Bytes of a short text: a version, a time, a boot's id: 400.
        HeartbeatWord, "heartbeat_word", WORD_MAX: usize = 128;
        /// Bytes of a long text: a model, a URL, a log's line; in a query, a model: 400.
        HeartbeatText, "heartbeat_text", TEXT_MAX: usize = 4_096;
        /// Bytes of heartbeats held at once, read or waiting: 503.
        IntakeBytes, "intake_bytes", INTAKE_BYTES_MAX: usize = 256 << 20;
        /// Heartbeats that wait for the registry at once: 503.
        IntakeWaiting, "intake_waiting", INTAKE_WAITING_MAX: usize = 1_024;
        /// Heartbeats that wait on one server thread for its next turn: 503.
        TurnHeartbeats, "turn_heartbeats", TURN_HEARTBEATS_MAX: usize = 256;
        /// Requests to workers that wait on one server thread for its next turn: 503.
        TurnInferences, "turn_inferences", TURN_INFERENCES_MAX: usize = 16_384;
        /// Hives known at once: 503.
        Hives, "hives", HIVES_MAX: usize = 4_096;
        /// Workers known at once, on all hives: 503.
        Workers, "workers", WORKERS_MAX: usize = 262_144;
        /// Starts of one hive that are remembered as over; the oldest is forgotten.
        HiveBoots, "hive_boots", HIVE_BOOTS_MAX: usize = 16;
        /// Points in one answer about all histories; above it, every second or third one is left out.
        HistoryPoints, "history_points", HISTORY_POINTS_MAX: usize = 1_000_000;
        /// Publications that wait for the stream at once; heartbeats are 503 then.
        StreamBacklog, "stream_backlog", STREAM_BACKLOG_MAX: usize = 1_024;
        /// Clients of the stream at once: 503. Also `rbee_sse_clients_refused_total`.
        StreamClients, "stream_clients", STREAM_CLIENTS_MAX: usize = 10_000;
        /// Frames that wait for one client; what is beyond it loses, and is told so with `lagged`. Each
        /// event counts; also `rbee_sse_events_dropped_total`.
        StreamQueue, "stream_queue", STREAM_QUEUE_MAX: usize = 64;
        /// A client that takes nothing for this long is dropped. Also `rbee_sse_clients_dropped_total`.
        StreamPatience, "stream_patience", STREAM_PATIENCE: Duration = Duration::from_secs(30);
        /// Events that are kept for who comes back; who asks for an older one gets a snapshot, and is
        /// counted, whichever of the three bounds it was.
        StreamReplay, "stream_replay", REPLAY_EVENTS_MAX: usize = 256;
        /// Reservations at once: 503.
        Reservations, "reservations", RESERVATIONS_MAX: usize = 100_000;
        /// The longest that one is held without being renewed, ms: 400.
        ReservationTime, "reservation_time", RESERVATION_MAX_MS: u64 = 3_600_000;
        /// Workers for which a refusal to schedule says why; it says how many are left out.
        Rejections, "rejections", REJECTIONS_MAX: usize = 1_000;
        /// Sessions that are remembered; the one that was away longest is forgotten.
        Sessions, "sessions", SESSIONS_MAX: usize = 65_536;
        /// Bytes of a session's or a reservation's name: 400.
        SessionName, "session_name", SESSION_NAME_MAX: usize = 256;
        /// The longest that a drain waits for what is in flight, ms: 400.
        DrainTime, "drain_time", DRAIN_MAX_MS: u64 = 3_600_000;
        /// Bytes of a request to the gateway: 413.
        GatewayBody, "gateway_body", GATEWAY_BODY_MAX: usize = 32 << 20;
        /// How long a client may pause within one: 408.
        GatewayPause, "gateway_pause", GATEWAY_PAUSE_MAX: Duration = Duration::from_secs(60);
        /// How long it may take for all of it: 408.
        GatewayTime, "gateway_time", GATEWAY_SENT_WITHIN: Duration = Duration::from_secs(600);
        /// Bytes of a model's name in a request: 400.
        GatewayModel, "gateway_model", GATEWAY_MODEL_MAX: usize = 4_096;
        /// Gateways that a request may have passed before: 508.
        GatewayHops, "gateway_hops", GATEWAY_HOPS_MAX: usize = 4;
        /// Bytes of requests held at once: 503.
        GatewayBodies, "gateway_bodies", GATEWAY_BODIES_MAX: usize = 512 << 20;
        /// Requests in hand at once, until the end of their answers: 503.
        GatewayRequests, "gateway_requests", GATEWAY_REQUESTS_MAX: usize = 16_384;
        /// Requests that wait for a worker (`queen.gateway.queue_limit`): 429.
        GatewayQueue, "gateway_queue";
        /// How long they may (`queue_timeout_ms`): 503.
        GatewayQueueTime, "gateway_queue_time";
        /// How long a worker may take to begin its answer (`first_byte_timeout_ms`): 504.
        GatewayFirstByte, "gateway_first_byte";
        /// How long it may pause within (`idle_timeout_ms`): the answer is broken off. Also
        /// `rbee_gateway_answers_broken_total{by="idle"}`.
        GatewayIdle, "gateway_idle";
        /// Workers that one request is offered to: 502.
        GatewayTries, "gateway_tries", GATEWAY_TRIES_MAX: usize = 16;
        /// Bytes of the head of a worker's answer: 502. The codec cannot bear a header's name beyond.
        GatewayHead, "gateway_head", GATEWAY_HEAD_MAX: usize = u16::MAX as usize;
        /// Bytes of a login's body: 413.
        LoginBody, "login_body", LOGIN_BODY_MAX: usize = 4_096;
        /// Wrong logins that an address has at once: 429.
        LoginAttempts, "login_attempts", LOGIN_ATTEMPTS_MAX: u32 = 10;
        /// Addresses whose logins are remembered; the one that was away longest is forgotten.
        LoginAddresses, "login_addresses", LOGIN_ADDRESSES_MAX: usize = 4_096;
        /// Browsers that are logged in at once; one more, and the oldest is logged out.
        LoginSessions, "login_sessions", LOGIN_SESSIONS_MAX: usize = 1_024;
    }
    Hive {
        /// Workers of one hive: 429; in its configuration, exit status 78.
        HiveWorkers, "hive_workers", HIVE_WORKERS_MAX: usize = 4_096;
        /// Items of a list in a spec or in the configuration: 422, or exit status 78.
        SpecList, "spec_list", SPEC_LIST_MAX: usize = 4_096;
        /// GPUs of one worker: likewise.
        SpecGpus, "spec_gpus", SPEC_GPUS_MAX: usize = 64;
        /// Bytes of a URL or a model's name: likewise.
        SpecText, "spec_text", SPEC_TEXT_MAX: usize = 1_024;
        /// The longest grace that a stop may ask for, ms: 400.
        StopGrace, "stop_grace", STOP_GRACE_MAX_MS: u64 = 86_400_000;
        /// Lines of a log that one request may ask for: 400.
        LogLines, "log_lines", LOG_LINES_MAX: usize = 10_000;
        /// Requests that read or follow logs at once: 503.
        LogReaders, "log_readers", LOG_READERS_MAX: usize = 64;
        /// Bytes of a worker's log; its oldest part is cut.
        LogFile, "log_file", LOG_FILE_MAX: u64 = 64 << 20;
        /// Bytes of a line in an exit's log tail, escaped; its rest is cut.
        LogLine, "log_line", LOG_LINE_MAX: usize = 512;
        /// Bytes that an end of a log is looked for in; lines before are left out.
        LogReach, "log_reach", LOG_REACH_MAX: u64 = 2 << 20;
        /// Bytes of a model's name on a command line; a longer one is none.
        ModelName, "model_name", MODEL_NAME_MAX: usize = 1_024;
        /// Other names of a model; the rest is left out.
        ModelAliases, "model_aliases", MODEL_ALIASES_MAX: usize = 32;
        /// PIDs that are told of one worker; the rest is left out.
        WorkerPids, "worker_pids", WORKER_PIDS_MAX: usize = 1_024;
        /// Bytes of an engine's metrics page; a longer one is not read.
        EnginePage, "engine_page", ENGINE_PAGE_MAX: usize = 4 << 20;
        /// How long an engine may take to tell them; a later page counts as none.
        EngineTime, "engine_time", ENGINE_ANSWERS_WITHIN: Duration = Duration::from_secs(2);
        /// Events that wait for a queen; the oldest are lost. Also `rbee_events_dropped_total`.
        Outbox, "outbox", OUTBOX_MAX: usize = 1_024;
        /// Bytes of a queen's answer to a heartbeat; a longer one counts as none.
        QueenAnswer, "queen_answer", QUEEN_ANSWER_MAX: usize = 64 << 10;
        /// The longest that a queen's `Retry-After` is obeyed; a longer one is not believed, and asked again after 10 s.
        QueenRetryAfter, "queen_retry_after", QUEEN_RETRY_AFTER_MAX: Duration = Duration::from_secs(60);
        /// Bytes of a file of /proc, of cgroupfs or of the state directory; the rest is not read.
        KernelFile, "kernel_file", KERNEL_FILE_MAX: usize = 1 << 20;
        /// GPUs that are looked at; the rest is left out.
        GpuDevices, "gpu_devices", GPU_DEVICES_MAX: usize = 64;
        /// Bytes of a GPU's name, and of its UUID; the rest is cut.
        GpuText, "gpu_text", GPU_TEXT_MAX: usize = 128;
        /// Bytes that nvidia-smi may print; it is killed then.
        GpuOutput, "gpu_output", GPU_OUTPUT_MAX: usize = 4 << 20;
    }
}

/// How long an event is kept for who comes back; see [`Limit::StreamReplay`].
pub const REPLAY_AGE_MAX: Duration = Duration::from_secs(60);
/// Bytes that such events may take, roughly.
pub const REPLAY_WEIGHT_MAX: usize = 16 << 20;

// What follows is met at the start, by who configures it or types a command: it is told with the
// mistake, and nothing is counted.

/// Bytes of a configuration file: exit status 78.
pub const CONFIG_FILE_MAX: u64 = 16 << 20;
/// Hosts that a server answers to besides its own: exit status 78.
pub const ALLOWED_HOSTS_MAX: usize = 256;
/// Bytes of a name: of a hive, a group, an instance. In the configuration exit status 78, in a request a
/// name that is not one: 400, 404 or 422.
pub const NAME_MAX: usize = 64;
/// Bytes of a token: exit status 78; one in a request is merely not known.
pub const TOKEN_MAX: usize = 256;
/// Bytes of a certificate chain or a key: exit status 78.
pub const PEM_MAX: u64 = 1 << 20;
/// Bytes of an answer that the command line reads whole: it says so, exit status 1.
pub const CLIENT_ANSWER_MAX: usize = 256 << 20;
/// Bytes of one event that `rbee top` takes, a snapshot of some 50,000 workers; a larger one is passed over.
pub const CLIENT_EVENT_MAX: usize = 64 << 20;
/// Bytes of a spec that `rbee spawn` reads.
pub const CLIENT_SPEC_MAX: u64 = SMALL_BODY_MAX as u64;

/// How often each was reached, in this process.
static REACHED: [AtomicU64; Limit::ALL.len()] = [const { AtomicU64::new(0) }; Limit::ALL.len()];

impl Limit {
    /// Counts that something went beyond it.
    pub fn reached(self) {
        self.reached_by(1);
    }

    /// Counts that so many things did.
    pub fn reached_by(self, times: u64) {
        REACHED[self as usize].fetch_add(times, Ordering::Relaxed);
    }

    /// How often that was so far, in this process.
    pub fn count(self) -> u64 {
        REACHED[self as usize].load(Ordering::Relaxed)
    }
}

#[cfg(test)]
pub(crate) mod tests;
