//! What a daemon holds, and how soon it answers, as seen from outside.

use crate::support::{Api, Daemon, ms, proc};
use std::{
    fs,
    time::{Duration, Instant},
};

/// What a daemon holds at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cost {
    pub(super) descriptors: usize,
    pub(super) rss_mb: f64,
}

impl Cost {
    pub(super) fn of(daemon: &Daemon) -> Self {
        let descriptors = fs::read_dir(format!("/proc/{}/fd", daemon.pid()));
        Self {
            descriptors: descriptors.expect("it runs").count(),
            rss_mb: proc::rss_mb(daemon.pid()).expect("it runs"),
        }
    }

    /// Asserts that it has grown by no more than a few descriptors, and so many MiB.
    #[track_caller]
    pub(super) fn assert_flat(self, later: Self, growth_mb: f64) {
        assert!(later.descriptors <= self.descriptors + 6, "{self:?}, later {later:?}");
        assert!(later.rss_mb <= self.rss_mb + growth_mb, "{self:?}, later {later:?}");
    }
}

/// How long answers took.
#[derive(Debug, Default)]
pub(super) struct Latencies(Vec<Duration>);

impl Latencies {
    /// Asks once more for `/health`, on a connection of its own.
    pub(super) async fn ask(&mut self, api: &Api) {
        let start = Instant::now();
        api.get("/health").await.expect(200);
        self.0.push(start.elapsed());
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// What so many of a hundred stayed below.
    pub(super) fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
    }

    /// Asserts that half of them came within a tenth of a second: where so much is done by a build without
    /// optimisations, and by this very test on the same processors.
    #[track_caller]
    pub(super) fn assert_half_prompt(&self) {
        let (usual, most) = (self.percentile(50), self.percentile(90));
        eprintln!("{} answers: half within {usual:?}, nine of ten within {most:?}", self.count());
        assert!(usual <= ms(100), "{usual:?} {most:?}");
    }

    /// Asserts that nine of ten came within a tenth of a second: this very test, and others beside it,
    /// take their share of the processors too.
    #[track_caller]
    pub(super) fn assert_prompt(&self) {
        let (usual, most) = (self.percentile(50), self.percentile(90));
        eprintln!("{} answers: half within {usual:?}, nine of ten within {most:?}", self.count());
        assert!(most <= ms(100), "{usual:?} {most:?}");
    }
}
