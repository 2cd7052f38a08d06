//! What is counted while the soak goes on, and the judgement of it: flat, or not.

use crate::support::{Site, proc};
use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path, time::Duration};

/// Descriptors and the like may be a few more than at the start: connections that are kept for a while.
const SLACK: f64 = 3.0;

/// A run of this length or more is a long one; in a shorter one much of what a process takes is warming up.
const LONG: Duration = Duration::from_secs(300);

/// How much more memory a process may hold at the end than at the start of a long run, and of a short one, MiB.
/// The allocator's holes are filled only after some 25,000 heartbeats: a queen grows for half an hour, and then no more.
/// The longer the run, the smaller the leak that this finds.
const MEMORY_SLACK_MB: [f64; 2] = [8.0, 12.0];

/// Figures by name, such as `queen fds`.
pub(super) type Figures = BTreeMap<String, f64>;

/// Whom to look at.
pub(super) struct Watched<'a> {
    /// Daemons that live as long as the soak, by name.
    pub(super) daemons: Vec<(&'static str, u32)>,
    /// Where there are hives.
    pub(super) sites: Vec<&'a Site>,
    /// An argument of every worker.
    pub(super) marker: &'a str,
}

impl Watched<'_> {
    /// What must be the same at the end as at the start.
    pub(super) fn counts(&self) -> Figures {
        let mut counts = Figures::new();
        for (name, pid) in &self.daemons {
            let entries =
                |of: &str| fs::read_dir(format!("/proc/{pid}/{of}")).map_or(0, Iterator::count);
            counts.insert(format!("{name} descriptors"), entries("fd") as f64);
            counts.insert(format!("{name} threads"), entries("task") as f64);
            counts.insert(format!("{name} zombies"), proc::zombies(*pid).len() as f64);
        }
        counts.insert("workers' processes".into(), proc::with_argument(self.marker).len() as f64);
        let (mut cgroups, mut files) = (0, 0);
        for site in &self.sites {
            cgroups +=
                proc::cgroup_mount().map_or(0, |mount| below(&mount.join(site.slice()), true));
            files += below(&site.path("state"), false);
        }
        counts.insert("cgroups".into(), f64::from(cgroups));
        counts.insert("files in state_dir".into(), f64::from(files));
        counts
    }

    /// Memory of each daemon, MiB.
    pub(super) fn memory(&self) -> Figures {
        let of = |(name, pid): &(&str, u32)| Some((format!("{name} MiB"), proc::rss_mb(*pid)?));
        self.daemons.iter().filter_map(of).collect()
    }
}

/// Directories below `path`, or files. A worker's log and that of its run before are one.
fn below(path: &Path, directories: bool) -> u32 {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let of = |entry: fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => u32::from(directories) + below(&entry.path(), directories),
        Ok(kind) if kind.is_file() && !directories => u32::from(!is_second(&entry.path())),
        Ok(_) => 0,
        Err(_) => 0,
    };
    entries.map(of).sum()
}

/// The log of the run before, beside that of the run.
fn is_second(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "1") && path.with_extension("").exists()
}

/// A figure over time, under load.
#[derive(Default)]
pub(super) struct Series(BTreeMap<String, Vec<(f64, f64)>>);

impl Series {
    pub(super) fn note(&mut self, at: Duration, figures: Figures) {
        for (name, value) in figures {
            self.0.entry(name).or_default().push((at.as_secs_f64(), value));
        }
    }
}

/// A figure at the start and at the end.
pub(super) struct Verdict {
    name: String,
    start: f64,
    end: f64,
    /// By the line that fits best, an hour.
    slope: Option<f64>,
    flat: bool,
}

impl Verdict {
    pub(super) fn is_flat(&self) -> bool {
        self.flat
    }
}

/// Counts when all is calm, before and after.
pub(super) fn judge_counts(before: &Figures, after: &Figures) -> Vec<Verdict> {
    let judge = |(name, end): (&String, &f64)| {
        let start = before.get(name).copied().unwrap_or(0.0);
        let slack =
            if name.ends_with("descriptors") || name.ends_with("threads") { SLACK } else { 0.0 };
        Verdict { name: name.clone(), start, end: *end, slope: None, flat: *end <= start + slack }
    };
    after.iter().map(judge).collect()
}

/// Memory under load: the middle of the last quarter against the middle of the first.
pub(super) fn judge_memory(series: &Series, time: Duration) -> Vec<Verdict> {
    let slack = MEMORY_SLACK_MB[usize::from(time < LONG)];
    let judge = |(name, points): (&String, &Vec<(f64, f64)>)| {
        let quarter = (points.len() / 4).max(1);
        let (start, end) = (middle(&points[..quarter]), middle(&points[points.len() - quarter..]));
        let (slope, flat) = (Some(slope(points) * 3600.0), end <= start + slack);
        Verdict { name: name.clone(), start, end, slope, flat }
    };
    series.0.iter().map(judge).collect()
}

fn middle(points: &[(f64, f64)]) -> f64 {
    let mut values: Vec<_> = points.iter().map(|(_, value)| *value).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Least squares, in units of the value a second.
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (mean_x, mean_y) = (mean(|p| p.0), mean(|p| p.1));
    let both: f64 = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    let spread: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    if spread == 0.0 { 0.0 } else { both / spread }
}

/// All of it, as a table; and the names of what is not flat.
pub(super) fn table(verdicts: &[Verdict]) -> (String, Vec<&str>) {
    let mut text = format!("{:<28}{:>10}{:>10}{:>12}\n", "", "start", "end", "an hour");
    for verdict in verdicts {
        let slope = verdict.slope.map_or(String::new(), |slope| format!("{slope:+.1}"));
        let mark = if verdict.flat { "" } else { "  NOT FLAT" };
        let Verdict { name, start, end, .. } = verdict;
        writeln!(text, "{name:<28}{start:>10.1}{end:>10.1}{slope:>12}{mark}")
            .expect("a text grows");
    }
    let bad = verdicts.iter().filter(|v| !v.flat).map(|v| v.name.as_str()).collect();
    (text, bad)
}

#[test]
fn a_leak_is_told_from_what_is_flat() {
    let mut series = Series::default();
    for second in 0..400_u32 {
        // A sawtooth of 2 MiB on one, and 144 MiB an hour more on the other.
        let saw = f64::from(second % 20) / 10.0;
        let leak = 144.0 * f64::from(second) / 3600.0;
        let figures = [("flat MiB", 20.0 + saw), ("leaks MiB", 20.0 + saw + leak)];
        let figures = figures.map(|(name, value)| (name.to_owned(), value)).into();
        series.note(Duration::from_secs(second.into()), figures);
    }
    let verdicts = judge_memory(&series, Duration::from_secs(400));
    let (text, bad) = table(&verdicts);
    assert_eq!(bad, ["leaks MiB"], "{text}");
    assert!((verdicts[1].slope.unwrap() - 144.0).abs() < 1.0, "{text}");
    assert!(verdicts[0].slope.unwrap().abs() < 1.0, "{text}");

    let counts = |fds: f64, files: f64| -> Figures {
        [("queen descriptors".to_owned(), fds), ("files in state_dir".to_owned(), files)].into()
    };
    let bad = |fds, files| {
        let verdicts = judge_counts(&counts(30.0, 9.0), &counts(fds, files));
        table(&verdicts).1.len()
    };
    // A few connections more are none; a file more is one.
    assert_eq!([bad(33.0, 9.0), bad(34.0, 9.0), bad(20.0, 10.0), bad(40.0, 10.0)], [0, 1, 1, 2]);
}
