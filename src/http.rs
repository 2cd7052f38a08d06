//! The HTTP surface of both roles. It writes only by message to an actor, and reads only through
//! read-only handles; routes, bodies and errors live here, decisions do not.

pub mod auth;
pub mod dashboard;
pub mod docs;
pub mod error;
pub mod fallback;
pub mod hive;
pub mod idle;
pub mod in_flight;
pub mod metrics;
pub mod peer;
pub mod queen;
pub mod query;
pub mod small_body;
pub mod socket;
pub mod turn;
pub mod wire;
