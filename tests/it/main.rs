//! Tests of the whole: they start the real binary and speak HTTP with it, like anybody else.
//!
//! A file a capability. What they know of the product is its contract; what they know of
//! processes they read from /proc themselves.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what it expects"
)]

mod support;

mod auth;
mod auth_login;
mod auth_secrets;
mod auth_settings;
mod cli;
mod cli_doctor;
mod cli_errors;
mod cli_https;
mod cli_top;
mod echo_worker;
mod engine_load;
mod faults;
mod figures;
mod fleet;
mod gateway;
mod gateway_bytes;
mod gateway_leaving;
mod gateway_queue;
mod gateway_refusals;
mod gpu;
mod gpu_cost;
mod gpu_faults;
mod gpu_pinning;
mod gpu_smi;
mod hive_restart;
mod isolation;
mod logs;
mod metrics;
mod misfortune;
mod named_tests;
mod odd_requests;
mod openai_client;
mod openapi;
mod origin;
mod pipeline;
mod placement;
mod placement_filters;
mod placement_rush;
mod placement_vram;
mod privileges;
mod reservations;
mod settings;
mod signals;
mod soak;
mod supervision;
mod telemetry;
mod tls;
mod tree;
mod worker_lifecycle;
mod workers_api;
