//! What a hive posts to its queen each interval.

use super::{LifecycleEvent, NodeStats, WorkerReport};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// What a hive is doing. Read in any case, as a string or as `{"status": …}`; written as a string.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OperationalStatus {
    /// Not all of it runs yet.
    Starting,
    /// At work.
    #[default]
    Ready,
    /// At work, with none to spare.
    Busy,
    /// Takes no new workers.
    Draining,
    /// Going; `on_exit` says what becomes of its workers.
    Stopping,
    /// Gone.
    Stopped,
    /// Not able to work.
    Error,
}

/// How well a hive is. Read in any case, as a string or as `{"status": …}`; written as the latter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HealthStatus {
    /// Nothing is wrong.
    #[default]
    Healthy,
    /// Something is, and it works all the same.
    Degraded,
    /// It does not work as it should.
    Unhealthy,
}

const OPERATIONAL: [(&str, OperationalStatus); 7] = [
    ("starting", OperationalStatus::Starting),
    ("ready", OperationalStatus::Ready),
    ("busy", OperationalStatus::Busy),
    ("draining", OperationalStatus::Draining),
    ("stopping", OperationalStatus::Stopping),
    ("stopped", OperationalStatus::Stopped),
    ("error", OperationalStatus::Error),
];

const HEALTH: [(&str, HealthStatus); 3] = [
    ("healthy", HealthStatus::Healthy),
    ("degraded", HealthStatus::Degraded),
    ("unhealthy", HealthStatus::Unhealthy),
];

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a string or {\"status\": \"…\"}")]
enum StatusInput {
    Plain(String),
    Tagged { status: String },
}

#[derive(Serialize)]
struct Tagged<'a> {
    status: &'a str,
}

fn parse_status<'de, D: Deserializer<'de>, T: Copy>(
    deserializer: D,
    known: &[(&'static str, T)],
) -> Result<T, D::Error> {
    let (StatusInput::Plain(text) | StatusInput::Tagged { status: text }) =
        StatusInput::deserialize(deserializer)?;
    known
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(&text))
        .map(|(_, value)| *value)
        .ok_or_else(|| {
            let allowed: Vec<_> = known.iter().map(|(name, _)| *name).collect();
            de::Error::custom(format!("unknown status {text:?}, allowed: {}", allowed.join(", ")))
        })
}

fn name_of<T: PartialEq>(known: &[(&'static str, T)], value: &T) -> &'static str {
    known.iter().find(|(_, v)| v == value).map_or("", |(name, _)| name)
}

impl<'de> Deserialize<'de> for OperationalStatus {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parse_status(deserializer, &OPERATIONAL)
    }
}

impl Serialize for OperationalStatus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(name_of(&OPERATIONAL, self))
    }
}

impl<'de> Deserialize<'de> for HealthStatus {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parse_status(deserializer, &HEALTH)
    }
}

impl Serialize for HealthStatus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Tagged { status: name_of(&HEALTH, self) }.serialize(serializer)
    }
}

/// Who sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HiveInfo {
    /// Unique among the hives of a queen; same characters as a group.
    pub id: String,
    /// How others reach its machine.
    pub hostname: String,
    /// Where its own API listens.
    pub port: u16,
    /// What it is doing.
    #[serde(default)]
    pub operational_status: OperationalStatus,
    /// How well it is.
    #[serde(default)]
    pub health_status: HealthStatus,
    /// Its version; empty when not said.
    #[serde(default)]
    pub version: String,
    /// Whether its workers go on running without it, once it said `stopping`.
    #[serde(default)]
    pub leaves_workers: bool,
}

/// The body of `POST /v1/hive-heartbeat`. Only `hive`, `timestamp` and `workers` are required.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HiveHeartbeat {
    /// Who sends.
    pub hive: HiveInfo,
    /// When it was sent by the sender's clock, RFC 3339. Shown, never computed with.
    pub timestamp: String,
    /// Random for each start of a hive.
    #[serde(default)]
    pub boot_id: Option<String>,
    /// Counts up within one `boot_id`.
    #[serde(default)]
    pub seq: Option<u64>,
    /// How often the sender means to send, ms.
    #[serde(default)]
    pub interval_ms: Option<u64>,
    /// The machine.
    #[serde(default)]
    pub node: NodeStats,
    /// All of the hive's workers.
    pub workers: Vec<WorkerReport>,
    /// What happened and has not been acknowledged yet.
    #[serde(default)]
    pub events: Vec<LifecycleEvent>,
}
