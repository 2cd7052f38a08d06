//! `GET /metrics`: Prometheus' text format.
//!
//! What is counted as it happens is kept in counters; what can be read when the page is asked for is put
//! on it then, and costs nothing before. No label has a value that a client chooses.

use super::error::HttpError;
use crate::limits::Limit;
use crate::platform::{kept_file::malformed, process::own_figures};
use actix_web::{HttpResponse, dev::ServiceResponse, http::header};
use prometheus::{
    CounterVec, Encoder as _, GaugeVec, HistogramOpts, HistogramVec, Opts, Registry, TextEncoder,
};
use std::time::Duration;

/// Seconds: from what a registry's answer takes to what an inference does.
pub const BUCKETS: [f64; 16] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    120.0,
];

/// Of requests that no route takes.
const NO_ROUTE: &str = "none";

/// How long requests took, by route, of one role's server. Copies count together.
#[derive(Clone)]
pub struct RequestDurations(HistogramVec);

impl RequestDurations {
    /// Nothing yet.
    ///
    /// # Errors
    /// Never, unless the names here are wrong.
    pub fn new() -> prometheus::Result<Self> {
        let help = "Time from a request's head to the head of its answer.";
        let options = HistogramOpts::new("rbee_http_request_duration_seconds", help);
        let labels = ["method", "route", "code"];
        Ok(Self(HistogramVec::new(options.buckets(BUCKETS.to_vec()), &labels)?))
    }

    /// A request was answered.
    pub fn answered<B>(&self, answer: &ServiceResponse<B>, took: Duration) {
        let request = answer.request();
        let pattern = request.match_pattern();
        let method = match request.method().as_str() {
            known @ ("GET" | "POST" | "PUT" | "DELETE" | "HEAD" | "OPTIONS" | "PATCH") => known,
            _ => "other",
        };
        let route = pattern.as_deref().unwrap_or(NO_ROUTE);
        let status = answer.status();
        let labels = [method, route, status.as_str()];
        self.0.with_label_values(&labels).observe(took.as_secs_f64());
    }
}

/// A page that is being written.
pub struct Page(Registry);

impl Page {
    /// Begins with what both roles tell: the process, and how long requests took.
    ///
    /// # Errors
    /// A name is there twice.
    pub fn begin(role: &str, durations: &RequestDurations) -> prometheus::Result<Self> {
        let page = Self(Registry::new());
        page.add(durations.0.clone())?;
        let version = env!("CARGO_PKG_VERSION");
        page.gauge("rbee_build_info", "Always 1; which program this is.", &["role", "version"])?
            .with_label_values(&[role, version])
            .set(1.0);
        let help =
            "Texts of /proc and cgroupfs that made no sense; each cost one figure of one sample.";
        page.count("rbee_malformed_reads_total", help, malformed())?;
        page.limits(role)?;
        if let Some(own) = own_figures() {
            page.count_f64(
                "process_cpu_seconds_total",
                "Processor time of this process.",
                own.cpu.as_secs_f64(),
            )?;
            let value = |name, help, value| page.value(name, help, value);
            value(
                "process_resident_memory_bytes",
                "Resident memory of this process.",
                own.rss_bytes as f64,
            )?;
            value("process_open_fds", "Open descriptors of this process.", own.open_fds as f64)?;
            value("process_threads", "Threads of this process.", own.threads as f64)?;
            value(
                "process_start_time_seconds",
                "When this process began, Unix time.",
                own.started_unix_s,
            )?;
        }
        Ok(page)
    }

    /// What this role can run into.
    fn limits(&self, role: &str) -> prometheus::Result<()> {
        let help = "Times that something went beyond a limit, and was refused, cut or forgotten.";
        let reached = self.counter("rbee_limit_reached_total", help, &["limit"])?;
        for limit in Limit::ALL.iter().filter(|limit| limit.is_of(role)) {
            reached.with_label_values(&[limit.name()]).inc_by(limit.count() as f64);
        }
        Ok(())
    }

    /// Adds what is counted elsewhere.
    ///
    /// # Errors
    /// A name is there twice.
    pub fn add(
        &self,
        collector: impl prometheus::core::Collector + 'static,
    ) -> prometheus::Result<()> {
        self.add_boxed(Box::new(collector))
    }

    /// The same.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub fn add_boxed(
        &self,
        collector: Box<dyn prometheus::core::Collector>,
    ) -> prometheus::Result<()> {
        self.0.register(collector)
    }

    /// A gauge for each set of labels.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub fn gauge(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<GaugeVec> {
        let gauge = GaugeVec::new(Opts::new(name, help), labels)?;
        self.add(gauge.clone())?;
        Ok(gauge)
    }

    /// A counter for each set of labels.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub fn counter(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<CounterVec> {
        let counter = CounterVec::new(Opts::new(name, help), labels)?;
        self.add(counter.clone())?;
        Ok(counter)
    }

    /// One value that goes up and down.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub fn value(&self, name: &str, help: &str, value: f64) -> prometheus::Result<()> {
        self.gauge(name, help, &[])?.with_label_values(NO_LABELS).set(value);
        Ok(())
    }

    /// One value that only goes up.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub fn count(&self, name: &str, help: &str, value: u64) -> prometheus::Result<()> {
        self.count_f64(name, help, value as f64)
    }

    fn count_f64(&self, name: &str, help: &str, value: f64) -> prometheus::Result<()> {
        self.counter(name, help, &[])?.with_label_values(NO_LABELS).inc_by(value);
        Ok(())
    }

    /// The page as an answer.
    ///
    /// # Errors
    /// It cannot be written, which is a mistake in its making.
    pub fn finish(self) -> prometheus::Result<HttpResponse> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.0.gather(), &mut text)?;
        Ok(HttpResponse::Ok()
            .insert_header((header::CONTENT_TYPE, prometheus::TEXT_FORMAT))
            .body(text))
    }
}

const NO_LABELS: &[&str] = &[];

impl From<prometheus::Error> for HttpError {
    fn from(error: prometheus::Error) -> Self {
        Self::internal(format!("the metrics cannot be written: {error}"))
    }
}
