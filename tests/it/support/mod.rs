//! What the tests stand on: a place of their own, daemons that never outlive them, an HTTP and a
//! stream client, waits with a deadline, and an independent view of processes.

mod config;
mod daemon;
mod echo;
mod gpu;
mod heartbeats;
mod http;
mod load;
mod plain;
pub(crate) mod proc;
mod pty;
mod python;
mod raw_client;
mod raw_http;
mod raw_worker;
mod site;
mod sse;
mod tls;
mod wait;

pub(crate) use daemon::Daemon;
pub(crate) use echo::{echo, in_progress, ready_workers};
pub(crate) use gpu::{Gpus, node_when, pids, tree_of_three};
pub(crate) use heartbeats::{Heartbeats, gpu, report};
pub(crate) use http::{Api, assert_is_error};
pub(crate) use load::{Load, heartbeat as load_heartbeat, worker as load_worker};
pub(crate) use plain::{Plain, ask, request as plain_request};
pub(crate) use pty::Pty;
pub(crate) use python::{python_with, run_tool};
pub(crate) use raw_client::{chat, chat_body, send};
pub(crate) use raw_worker::{RawWorker, Reply, Request};
pub(crate) use site::{RBEE, Site, as_str, free_port, rbee, without_settings};
pub(crate) use sse::{Event, SseClient};
pub(crate) use tls::{Authority, TlsConnection};
pub(crate) use wait::{eventually, ms, secs};
