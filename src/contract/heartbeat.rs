//! What a hive posts to its queen each interval.

use super::{LifecycleEvent, NodeStats, WorkerReport, object};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::borrow::Cow;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ObjectBuilder, RefOr, Schema, Type},
};

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
    /// Going to stop, and takes nothing new until then.
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

impl PartialSchema for OperationalStatus {
    fn schema() -> RefOr<Schema> {
        names(&OPERATIONAL)
            .description(Some("Read in any case, and as `{\"status\": …}`; written as here."))
            .into()
    }
}

impl ToSchema for OperationalStatus {
    fn name() -> Cow<'static, str> {
        "OperationalStatus".into()
    }
}

impl PartialSchema for HealthStatus {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .property("status", names(&HEALTH))
            .required("status")
            .description(Some("Read in any case, and as a plain string; written as here."))
            .into()
    }
}

impl ToSchema for HealthStatus {
    fn name() -> Cow<'static, str> {
        "HealthStatus".into()
    }
}

fn names<T>(known: &[(&'static str, T)]) -> ObjectBuilder {
    let names = known.iter().map(|(name, _)| *name);
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(names))
}

/// Who sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HiveInfo {
    /// Unique among the hives of a queen; same characters as a group.
    #[schema(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    pub id: String,
    /// How others reach its machine.
    #[schema(min_length = 1, max_length = 253, example = "10.0.0.7")]
    pub hostname: String,
    /// Where its own API listens.
    #[schema(minimum = 1, example = 7835)]
    pub port: u16,
    /// What it is doing.
    #[serde(default)]
    pub operational_status: OperationalStatus,
    /// How well it is.
    #[serde(default)]
    pub health_status: HealthStatus,
    /// Its version; empty when not said.
    #[serde(default)]
    #[schema(max_length = 128)]
    pub version: String,
    /// Whether its workers go on running without it, once it said `stopping`; what is not ready by then
    /// takes no requests anyway.
    #[serde(default = "leaves_workers")]
    #[schema(default = true)]
    pub leaves_workers: bool,
}

fn leaves_workers() -> bool {
    true
}

/// The body of `POST /v1/hive-heartbeat`. Only `hive`, `timestamp` and `workers` are required.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HiveHeartbeat {
    /// Who sends.
    #[serde(deserialize_with = "object::one")]
    pub hive: HiveInfo,
    /// When it was sent by the sender's clock, RFC 3339. Shown, never computed with.
    #[schema(format = DateTime, example = "2026-01-01T00:00:00.123Z")]
    pub timestamp: String,
    /// Random for each start of a hive.
    #[serde(default)]
    #[schema(max_length = 128)]
    pub boot_id: Option<String>,
    /// Counts up within one `boot_id`.
    #[serde(default)]
    pub seq: Option<u64>,
    /// How often the sender means to send, ms.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 3600000)]
    pub interval_ms: Option<u64>,
    /// The machine.
    #[serde(default, deserialize_with = "object::one")]
    pub node: NodeStats,
    /// All of the hive's workers.
    #[schema(max_items = 4096)]
    #[serde(deserialize_with = "object::list")]
    pub workers: Vec<WorkerReport>,
    /// What happened and has not been acknowledged yet.
    #[serde(default, deserialize_with = "object::list")]
    #[schema(max_items = 1024)]
    pub events: Vec<LifecycleEvent>,
}
