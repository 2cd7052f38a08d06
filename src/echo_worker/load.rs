//! How many requests are in progress, under the names that llama.cpp's server gives them.

use super::say;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// The count. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Load(Arc<AtomicU64>);

impl Load {
    /// Counts one request until the answer is dropped.
    pub(super) fn begin(&self) -> InFlight {
        self.0.fetch_add(1, Ordering::Relaxed);
        InFlight { load: self.clone(), finished: false }
    }

    /// Requests in progress.
    pub(super) fn processing(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// The page for `GET /metrics`. Nothing is ever deferred: there is no limit to wait for.
    pub(super) fn prometheus(&self) -> String {
        format!(
            "# HELP llamacpp:requests_processing Number of requests processing.\n\
             # TYPE llamacpp:requests_processing gauge\n\
             llamacpp:requests_processing {}\n\
             # HELP llamacpp:requests_deferred Number of requests deferred.\n\
             # TYPE llamacpp:requests_deferred gauge\n\
             llamacpp:requests_deferred 0\n",
            self.processing()
        )
    }
}

/// One request in progress. Dropping it ends the count however the request ended; one that was not
/// [finished](InFlight::finish) was left by its client, and the log says so.
#[derive(Debug)]
pub(super) struct InFlight {
    load: Load,
    finished: bool,
}

impl InFlight {
    /// The whole answer was made.
    pub(super) fn finish(&mut self) {
        self.finished = true;
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.load.0.fetch_sub(1, Ordering::Relaxed);
        if !self.finished {
            say("request cancelled");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_counts_until_it_is_dropped_finished_or_not() {
        let load = Load::default();
        let mut first = load.begin();
        let second = load.begin();
        assert_eq!(load.processing(), 2);
        assert!(load.prometheus().contains("\nllamacpp:requests_processing 2\n"));
        first.finish();
        drop(first);
        drop(second);
        assert_eq!(load.processing(), 0);
    }
}
