//! The client commands: what an operator asks a queen or a hive from a shell. One file a command.
//!
//! Invariant: a command says on standard output what it was asked for and nothing else, tells on
//! standard error why it was not done, and its exit status says the same to a program. What is shown
//! is made by pure functions; the live view is in [`crate::top`].

pub mod admin;
pub mod api;
pub mod details;
pub mod explain;
pub mod failure;
pub mod logs;
pub mod model;
pub mod name;
pub mod output;
pub mod spawn;
pub mod sse;
pub mod status;
pub mod table;
mod token;
mod trust;
pub mod units;
pub mod workers;

pub use api::{Api, Connection, Role};
pub use failure::Failure;
pub use output::Output;
