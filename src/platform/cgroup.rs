//! cgroup v2: where the tree is, a directory for each run of a worker, and what its files say.

mod discover;
mod hint;
mod parse;
mod reader;
mod room;
mod tree;

pub use discover::{DiscoverError, find_root};
pub use hint::{hint_for_discovery, hint_for_tree};
pub use parse::{CpuStat, IoStat, MemoryStat, oom_kills, pressure_some_avg10};
pub use reader::{CgroupFigures, CgroupReader};
pub use tree::{CgroupError, CgroupTree, Limits, RunCgroup};
