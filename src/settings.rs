//! Configuration: a TOML file, overridden from the environment, turned into validated values.
//!
//! Everything is checked before anything is bound or spawned, and everything that is wrong is
//! reported at once. What comes out of here is plain data; the actors never see it whole.

mod checks;
mod hive;
mod host_name;
mod load;
mod names;
mod queen;
mod reader;
pub mod worker;

pub use hive::{
    AdminSettings, CgroupMode, CgroupSettings, GpuSettings, GpuSourceChoice, HiveSettings, OnExit,
};
pub use host_name::{HostName, has_port_if_any};
pub use load::{Settings, SettingsError, load};
pub use names::{hive_id, is_name, worker_name};
pub use queen::{HiveAddress, QueenSettings};
pub use reader::Problem;
