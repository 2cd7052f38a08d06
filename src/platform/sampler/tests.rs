//! How long it takes to sample many workers: real processes, in cgroups of their own where the machine
//! has a tree to write to, and followed through /proc alone.
#![allow(clippy::unwrap_used, reason = "a test says what it expects")]

use super::*;
use crate::platform::cgroup::{CgroupTree, find_root};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::{
    process::{Child, Command},
    time::Instant,
};

/// Rounds of which the quickest counts: the machine may be busy with something else.
const ROUNDS: usize = 15;

/// How old a scan of /proc may be, as in the hive.
const SCAN_AGE: Duration = Duration::from_millis(200);

/// Processes that sleep, each in a cgroup where there is a tree. Dropping it leaves nothing behind.
struct Herd {
    tree: Option<CgroupTree>,
    sleepers: Vec<(Child, Option<RunCgroup>)>,
}

impl Herd {
    fn new(name: &str, size: usize) -> Self {
        // A kept file of each cgroup is a descriptor; what a shell allows by default is too little.
        let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
        let slice = format!("rbee-sampled-{name}-{}.slice", std::process::id());
        let tree = find_root(None).ok().and_then(|root| CgroupTree::open(root, &slice).ok());
        let mut herd = Self { tree, sleepers: Vec::with_capacity(size) };
        for n in 0..size {
            let run = herd.tree.as_ref().map(|tree| tree.create("g", &n.to_string()).unwrap());
            let child = Command::new("/bin/sleep").arg("86400").spawn().unwrap();
            if let Some(run) = &run {
                std::fs::write(run.procs_file(), child.id().to_string()).unwrap();
            }
            herd.sleepers.push((child, run));
        }
        herd
    }

    fn samplers(&self, in_cgroups: bool) -> Vec<Sampler> {
        let table = Arc::new(TableCache::new("/proc", SCAN_AGE));
        let open = |(child, run): &(Child, Option<RunCgroup>)| {
            let main = Identity::of(child.id()).unwrap();
            let tracker = SharedTracker::new(Some(main), "none");
            let cgroup = run.as_ref().filter(|_| in_cgroups);
            Sampler::open(SampledRun { main, tracker, cgroup, table: Arc::clone(&table) }).unwrap()
        };
        self.sleepers.iter().map(open).collect()
    }

    /// The quickest round in which all were sampled once, in each of the ways that there are.
    fn quickest_rounds(&self) -> Vec<(&'static str, Duration)> {
        let ways = [("cgroups", true), ("/proc", false)];
        let possible = ways.into_iter().filter(|(_, cgroups)| !cgroups || self.tree.is_some());
        possible.map(|(way, cgroups)| (way, self.quickest(self.samplers(cgroups)))).collect()
    }

    fn quickest(&self, mut samplers: Vec<Sampler>) -> Duration {
        let round = |_| {
            let start = Instant::now();
            for (sampler, (child, _)) in samplers.iter_mut().zip(&self.sleepers) {
                let sample = sampler.sample().unwrap();
                assert_eq!(sample.pids, [child.id()]);
                assert!(sample.rss_bytes > 0);
            }
            start.elapsed()
        };
        (0..ROUNDS).map(round).min().unwrap()
    }
}

impl Drop for Herd {
    fn drop(&mut self) {
        for (child, _) in &mut self.sleepers {
            let _ = child.kill();
        }
        for (child, run) in &mut self.sleepers {
            let _ = child.wait();
            if let Some(run) = run {
                let _ = run.kill().and_then(|()| run.remove());
            }
        }
        if let Some(tree) = &self.tree {
            tree.remove_group_if_empty("g");
            tree.remove_if_empty();
        }
    }
}

#[test]
fn ten_workers_are_sampled_within_10_ms() {
    for (way, quickest) in Herd::new("ten", 10).quickest_rounds() {
        println!("10 workers through {way}: {quickest:?}");
        assert!(quickest < Duration::from_millis(10), "through {way}: {quickest:?}");
    }
}

#[test]
fn a_thousand_workers_are_sampled_within_a_second() {
    for (way, quickest) in Herd::new("thousand", 1_000).quickest_rounds() {
        println!("1,000 workers through {way}: {quickest:?}");
        assert!(quickest < Duration::from_secs(1), "through {way}: {quickest:?}");
    }
}
