//! What the queen counts as it happens.

use crate::http::{error::HttpError, metrics::BUCKETS};
use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts, Result, core::Collector,
};
use std::time::Duration;

/// Counters of the queen's own work; of the stream and of placement they are kept there.
#[derive(Clone, Debug)]
pub struct QueenCounters {
    heartbeats: IntCounterVec,
    gateway_requests: IntCounterVec,
    gateway_refusals: IntCounter,
    gateway_broken: IntCounterVec,
    first_byte: Histogram,
    queue_wait: Histogram,
}

impl QueenCounters {
    /// All at zero.
    ///
    /// # Errors
    /// Never, unless the names here are wrong.
    pub fn new() -> Result<Self> {
        let counters = |name, help, label| IntCounterVec::new(Opts::new(name, help), &[label]);
        let histogram = |name: &str, help: &str| {
            Histogram::with_opts(HistogramOpts::new(name, help).buckets(BUCKETS.to_vec()))
        };
        Ok(Self {
            heartbeats: counters(
                "rbee_heartbeats_total",
                "Heartbeats, by what became of them.",
                "result",
            )?,
            gateway_requests: counters(
                "rbee_gateway_requests_total",
                "Inference requests: answered by a worker, or why not.",
                "result",
            )?,
            gateway_refusals: IntCounter::new(
                "rbee_gateway_worker_refusals_total",
                "Times that a worker refused a connection or dropped it before the first byte.",
            )?,
            gateway_broken: counters(
                "rbee_gateway_answers_broken_total",
                "Answers that ended before their end, by whom.",
                "by",
            )?,
            first_byte: histogram(
                "rbee_gateway_first_byte_seconds",
                "Time from a request to the head of a worker's answer, waiting in the queue included.",
            )?,
            queue_wait: histogram(
                "rbee_gateway_queue_wait_seconds",
                "Time in the queue of requests that had to wait there and got a worker.",
            )?,
        })
    }

    /// What became of a heartbeat; an error by its code.
    pub(super) fn heartbeat(&self, result: &'static str) {
        self.heartbeats.with_label_values(&[result]).inc();
    }

    /// A request of the gateway has its answer, or the reason why it has none.
    pub(super) fn gateway<T>(&self, answered: &std::result::Result<T, HttpError>, took: Duration) {
        let result = answered.as_ref().map_or_else(HttpError::code, |_| "answered");
        self.gateway_requests.with_label_values(&[result]).inc();
        if answered.is_ok() {
            self.first_byte.observe(took.as_secs_f64());
        }
    }

    /// A worker would not have a request.
    pub(super) fn worker_refused(&self) {
        self.gateway_refusals.inc();
    }

    /// A request waited in the queue.
    pub(super) fn queued(&self, waited: Duration) {
        self.queue_wait.observe(waited.as_secs_f64());
    }

    /// An answer was broken off by `worker`, by `client`, or since it did not go on (`idle`).
    pub(super) fn broken_off(&self, by: &'static str) {
        self.gateway_broken.with_label_values(&[by]).inc();
    }

    /// All of them.
    pub(super) fn collectors(&self) -> Vec<Box<dyn Collector>> {
        vec![
            Box::new(self.heartbeats.clone()),
            Box::new(self.gateway_requests.clone()),
            Box::new(self.gateway_refusals.clone()),
            Box::new(self.gateway_broken.clone()),
            Box::new(self.first_byte.clone()),
            Box::new(self.queue_wait.clone()),
        ]
    }
}
