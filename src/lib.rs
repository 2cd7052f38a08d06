//! rbee spawns LLM and image workers, watches them through the operating system and routes to them.
//!
//! A **hive** runs on each machine: its spawner starts workers (inside a cgroup v2 where there is
//! one), a monitor per worker samples it on its own tick, and a sender posts it all to a **queen**
//! as heartbeats. The queen keeps the registry and streams every event to whoever listens.
//!
//! Dependencies run downward only:
//!
//! ```text
//! main → cli, startup → http → actors → platform
//!        cli → client ← top, doctor     (HTTP to a queen or a hive, and what is shown of it)
//!                  contract ← http, actors        (serde, utoipa's schemas and std, nothing else)
//!                  limits   ← everything          (std only)
//!                  settings ← cli, startup, http  (actors get plain values, never settings)
//! ```

pub mod actors;
pub mod cli;
pub mod client;
pub mod contract;
pub mod doctor;
pub mod echo_worker;
#[cfg(test)]
mod fuzz;
pub mod http;
pub mod limits;
pub mod platform;
pub mod settings;
pub mod startup;
pub mod top;
