//! Processes: starting one where it belongs, knowing it again, following its tree, learning of its end.

mod bounded;
mod children;
mod clock;
mod exit;
mod identity;
mod marker;
mod own;
mod reader;
mod shim;
mod spawn;
mod stat;
mod table;
mod tree;

pub use bounded::{BoundedRunner, RunError};
pub use children::{adopt_orphans, reap_orphans};
pub use clock::{boot_id, since_boot};
pub use exit::{ExitStatus, ProcessWatch, signal_name};
pub use identity::{Identity, kill_and_wait};
pub use marker::{MarkerCache, RUN_MARKER, marker_of};
pub use own::{OwnFigures, own_figures};
pub use reader::{TreeFigures, TreeReader, Wanted};
pub use shim::{SHIM_ARGUMENT, run_shim};
pub use spawn::{ExecPlan, SpawnError, SpawnStage, Spawned, spawn};
pub use stat::ProcessStat;
pub use table::{ProcessEntry, ProcessTable, TableCache};
pub use tree::{SharedTracker, TreeTracker};
