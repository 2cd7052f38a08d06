//! What the operating system knows and does: cgroups, processes, /proc. No actor, no HTTP, no wire
//! type. Parsers take text, readers take a root path, so that a test points them where it likes.

pub mod cgroup;
pub mod gpu;
pub mod kept_file;
pub mod limits;
pub mod log_file;
pub mod node;
pub mod process;
pub mod sampler;
pub mod secret;
pub mod secret_file;
pub mod state_dir;
pub mod tls;
