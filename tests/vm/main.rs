//! Tests that need a whole cgroup v2: memory, cpu and io controllers, limits, a service manager. They run in
//! a virtual machine, as root, one at a time: `scripts/vm-test`.
//!
//! `bare` has the tree to itself, `systemd` shares it with systemd; `leaving` is the last thing in that machine
//! before a reboot, and `rebooted` what is found after it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what it expects"
)]

#[path = "../it/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "shared with the other integration tests")]
mod support;

mod machine;
mod unit;

mod bare;
mod leaving;
mod rebooted;
mod systemd;
