//! What the tests stand on: a place of their own, daemons that never outlive them, an HTTP and a
//! stream client, waits with a deadline, and an independent view of processes.

mod config;
mod daemon;
mod http;
pub(crate) mod proc;
mod site;
mod sse;
mod wait;

pub(crate) use daemon::Daemon;
pub(crate) use http::{Api, assert_is_error};
pub(crate) use site::{RBEE, Site, as_str, free_port, rbee};
pub(crate) use sse::{Event, SseClient};
pub(crate) use wait::{eventually, ms, secs};
