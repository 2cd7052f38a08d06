//! The wire types: what hive, queen, dashboards and clients say to each other, as JSON.
//!
//! Only data, its serde form and its OpenAPI schema live here: utoipa is the one exception to "serde and
//! std, nothing else", so that the document cannot say another thing than the type. Field names are the contract and never change; what is
//! optional on input has a default, unknown fields are ignored, and `null` means "absent or not
//! known", never a sentinel. Judging whether a value is acceptable is left to who receives it.

mod age;
mod event;
mod heartbeat;
mod node;
mod object;
mod schedule;
mod stream;
mod view;
mod worker;

pub use age::Age;
pub use event::{EventKind, ExitRecord, LifecycleEvent};
pub use heartbeat::{HealthStatus, HiveHeartbeat, HiveInfo, OperationalStatus};
pub use node::{GpuSource, GpuStats, NodeStats, SelfStats};
pub use schedule::{
    Explained, Explanation, Rejection, RenewRequest, ScheduleRequest, Scheduled, Unscheduled,
};
pub use stream::{
    HiveTelemetry, Lagged, QueenHeartbeat, Snapshot, StreamLifecycle, StreamLifecycleKind,
};
pub use view::{
    Ack, ApiError, Capabilities, CgroupCapability, Device, ErrorBody, Freshness, Health,
    HistoryList, HistoryPoint, HiveList, HiveView, WorkerHistory, WorkerList, WorkerView,
};
pub use worker::{
    GpuShare, Isolation, LiveProbe, LoadSource, Pressure, ReadyProbe, RestartPolicy, RestartWhen,
    WorkerReport, WorkerSpec, WorkerState,
};
