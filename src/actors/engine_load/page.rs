//! An engine's Prometheus page, read for the few gauges that tell its load.
//!
//! The page is the engine's and may be anything: a line that is not understood is passed over, and so
//! is a value that no gauge of these can have. Names are those of each engine's documentation.

/// How busy an engine is, as it says itself. `None`: it does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct EngineLoad {
    /// Requests in progress.
    pub running: Option<u64>,
    /// Requests that wait for their turn.
    pub waiting: Option<u64>,
    /// Of its KV cache in use, 0 to 100.
    pub kv_cache_pct: Option<f64>,
}

/// Requests in progress: vLLM, llama.cpp, SGLang, TGI.
const RUNNING: [&str; 4] = [
    "vllm:num_requests_running",
    "llamacpp:requests_processing",
    "sglang:num_running_reqs",
    "tgi_batch_current_size",
];

/// Requests that wait, of the same engines.
const WAITING: [&str; 4] = [
    "vllm:num_requests_waiting",
    "llamacpp:requests_deferred",
    "sglang:num_queue_reqs",
    "tgi_queue_size",
];

/// The share of the KV cache in use, 0 to 1: vLLM, older vLLM, llama.cpp, SGLang. Versions of
/// vLLM that tell both of its names mean the same by them: the first name found counts.
const KV_CACHE: [&str; 4] = [
    "vllm:kv_cache_usage_perc",
    "vllm:gpu_cache_usage_perc",
    "llamacpp:kv_cache_usage_ratio",
    "sglang:token_usage",
];

/// A larger count than this is no count, and sums of smaller ones are far from overflowing.
const COUNT_MAX: f64 = (1_u64 << 48) as f64;

/// Reads a page. Of a name with several series (one for each model or engine) counts are summed and
/// shares averaged.
pub fn read(page: &[u8]) -> EngineLoad {
    let mut tallies = [Tallies::of(RUNNING), Tallies::of(WAITING), Tallies::of(KV_CACHE)];
    for (name, value) in page.split(|byte| *byte == b'\n').filter_map(series) {
        for tally in &mut tallies {
            tally.add(name, value);
        }
    }
    let [running, waiting, kv_cache] = tallies;
    EngineLoad { running: running.count(), waiting: waiting.count(), kv_cache_pct: kv_cache.pct() }
}

/// The values of one quantity, by the name that they were found under.
struct Tallies([Tally; 4]);

struct Tally {
    name: &'static str,
    sum: f64,
    series: u32,
}

impl Tallies {
    fn of(names: [&'static str; 4]) -> Self {
        Self(names.map(|name| Tally { name, sum: 0.0, series: 0 }))
    }

    fn add(&mut self, name: &[u8], value: f64) {
        if let Some(tally) = self.0.iter_mut().find(|tally| tally.name.as_bytes() == name) {
            tally.sum += value;
            tally.series = tally.series.saturating_add(1);
        }
    }

    fn found(&self) -> Option<&Tally> {
        self.0.iter().find(|tally| tally.series > 0)
    }

    fn count(&self) -> Option<u64> {
        Some(self.found()?.sum.round().min(COUNT_MAX) as u64)
    }

    fn pct(&self) -> Option<f64> {
        let tally = self.found()?;
        Some((tally.sum / f64::from(tally.series) * 100.0).clamp(0.0, 100.0))
    }
}

/// `name{label="value",…} value timestamp`, where labels and timestamp may be missing.
fn series(line: &[u8]) -> Option<(&[u8], f64)> {
    let line = line.trim_ascii();
    let end = line.iter().position(|byte| *byte == b'{' || byte.is_ascii_whitespace())?;
    let (name, rest) = line.split_at(end);
    let rest = after_labels(rest.trim_ascii_start())?;
    let mut fields = std::str::from_utf8(rest).ok()?.split_ascii_whitespace();
    let value: f64 = fields.next()?.parse().ok()?;
    let timestamp = fields.next().is_none_or(|field| field.parse::<f64>().is_ok());
    let whole = timestamp && fields.next().is_none();
    (whole && value.is_finite() && value >= 0.0).then_some((name, value))
}

/// What follows the labels, if there are any. Within quotes a brace is text, and a backslash takes
/// the next character with it.
fn after_labels(text: &[u8]) -> Option<&[u8]> {
    let Some(labels) = text.strip_prefix(b"{") else { return Some(text) };
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in labels.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'}' if !quoted => return labels.get(at + 1..),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests;
