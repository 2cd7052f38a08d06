//! A worker's output: one file for the current run and one for the run before. The worker itself
//! appends to it, so that it never depends on anybody's life; what is done here is to open it, to
//! read its end, and to keep it from filling the disk.

use crate::limits::{LOG_FILE_MAX, LOG_LINE_MAX, LOG_REACH_MAX, Limit};
use dashmap::DashMap;
use rustix::fs::{FallocateFlags, fallocate};
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// What is kept of a log that is cut, bytes.
const LOG_KEPT: u64 = 1 << 20;

/// How far back a tail is looked for, per line asked for, bytes.
const TAIL_REACH: u64 = 4096;

/// Where all logs are. Clones share what they know of the files.
#[derive(Clone, Debug)]
pub struct LogDir {
    path: PathBuf,
    known: Arc<DashMap<LogName, LogFile>>,
}

/// Group and instance.
type LogName = (Arc<str>, Arc<str>);

impl LogDir {
    /// At `path`, which need not be there yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path, known: Arc::default() }
    }

    /// A worker's log.
    pub fn of(&self, group: &Arc<str>, instance: &Arc<str>) -> LogFile {
        let key = (Arc::clone(group), Arc::clone(instance));
        self.known.entry(key).or_insert_with(|| LogFile::new(&self.path, group, instance)).clone()
    }

    /// Removes a worker's log.
    pub fn remove(&self, group: &Arc<str>, instance: &Arc<str>) {
        self.of(group, instance).remove();
        self.known.remove(&(Arc::clone(group), Arc::clone(instance)));
    }

    /// Cuts every log that is too long. Returns what could not be cut.
    pub fn cap_all(&self) -> Vec<(PathBuf, io::Error)> {
        let logs: Vec<LogFile> = self.known.iter().map(|entry| entry.value().clone()).collect();
        let cut = |log: LogFile| match log.cap() {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Some((log.current, error)),
            _ => None,
        };
        logs.into_iter().filter_map(cut).collect()
    }
}

/// The two files of one worker.
#[derive(Clone, Debug)]
pub struct LogFile {
    current: PathBuf,
    previous: PathBuf,
    /// Held while the file is cut or read, so that nobody reads half of a cut.
    state: Arc<Mutex<LogState>>,
}

#[derive(Debug, Default)]
struct LogState {
    /// Counts the runs since this process knows the file.
    run: u64,
    /// How much was cut from the front of the current run's file, bytes.
    cut: u64,
}

/// Where a follower is: a place in what a run ever wrote, whatever is cut meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogPosition {
    run: u64,
    offset: u64,
}

impl LogFile {
    /// At `{dir}/{group}/{instance}.log`.
    fn new(dir: &Path, group: &str, instance: &str) -> Self {
        let group = dir.join(group);
        Self {
            current: group.join(format!("{instance}.log")),
            previous: group.join(format!("{instance}.log.1")),
            state: Arc::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, LogState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The start of the current run.
    pub fn start(&self) -> LogPosition {
        LogPosition { run: self.state().run, offset: 0 }
    }

    /// A new file for a new run; the one before becomes the previous.
    pub fn begin_run(&self) -> io::Result<File> {
        let begun = self.try_begin_run();
        match begun {
            // The group's directory went with its last worker in this very moment.
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.try_begin_run(),
            other => other,
        }
    }

    fn try_begin_run(&self) -> io::Result<File> {
        let mut state = self.state();
        if let Some(dir) = self.current.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        }
        match fs::rename(&self.current, &self.previous) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => *state = LogState { run: state.run + 1, cut: 0 },
        }
        OpenOptions::new().append(true).create_new(true).mode(0o640).open(&self.current)
    }

    /// Removes both.
    pub fn remove(&self) {
        let _ = fs::remove_file(&self.current);
        let _ = fs::remove_file(&self.previous);
        if let Some(dir) = self.current.parent() {
            let _ = fs::remove_dir(dir);
        }
    }

    /// The end of the current run's log: at most `lines` lines, as they were written.
    pub fn tail(&self, lines: usize) -> io::Result<Vec<u8>> {
        self.tail_from(lines).map(|(bytes, _)| bytes)
    }

    /// Likewise, with the position to go on from with [`LogFile::read_on`].
    pub fn tail_from(&self, lines: usize) -> io::Result<(Vec<u8>, LogPosition)> {
        let state = self.state();
        let file = open_regular(&self.current)?;
        let size = file.metadata()?.len();
        let reach = TAIL_REACH.saturating_mul(lines as u64).min(LOG_REACH_MAX).min(size);
        let mut bytes = vec![0; usize::try_from(reach).unwrap_or(0)];
        let read = read_at_most(&file, &mut bytes, size - reach)?;
        bytes.truncate(read);
        let from = start_of_last_lines(&bytes, lines);
        if from == 0 && lines > 0 && size > reach {
            Limit::LogReach.reached();
        }
        let offset = state.cut + size - reach + read as u64;
        Ok((bytes.split_off(from), LogPosition { run: state.run, offset }))
    }

    /// What was written since `position`, at most `limit` bytes, and where to go on. A run that began
    /// since is read from its start.
    pub fn read_on(
        &self,
        position: LogPosition,
        limit: usize,
    ) -> io::Result<(Vec<u8>, LogPosition)> {
        let state = self.state();
        let file = open_regular(&self.current)?;
        let size = file.metadata()?.len();
        // What was written while the file was cut is gone; what is written from now on is not.
        let same_run = position.run == state.run;
        let at = if same_run { position.offset.saturating_sub(state.cut).min(size) } else { 0 };
        let mut bytes = vec![0; usize::try_from(size - at).unwrap_or(limit).min(limit)];
        let read = read_at_most(&file, &mut bytes, at)?;
        bytes.truncate(read);
        let offset = state.cut + at + read as u64;
        Ok((bytes, LogPosition { run: state.run, offset }))
    }

    /// The last lines for people and JSON: at most [`LOG_LINE_MAX`] bytes each, control
    /// characters escaped. Empty where there is no log.
    pub fn tail_lines(&self, lines: usize) -> Vec<String> {
        let bytes = self.tail(lines).unwrap_or_default();
        let text = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        if text.is_empty() {
            return Vec::new();
        }
        text.split(|byte| *byte == b'\n').map(escaped_line).collect()
    }

    /// Cuts the oldest part once the file is too long, while the worker goes on appending.
    pub fn cap(&self) -> io::Result<()> {
        let mut state = self.state();
        let meta = fs::metadata(&self.current)?;
        let size = meta.len();
        if size <= LOG_FILE_MAX || !meta.is_file() {
            return Ok(());
        }
        Limit::LogFile.reached();
        let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
        let mut options = OpenOptions::new();
        let mut file = options.read(true).append(true).custom_flags(flags).open(&self.current)?;
        state.cut += match collapse(&self.current, size - LOG_KEPT) {
            Ok(cut) => cut,
            Err(_) => copy_and_truncate(&mut file, size)?,
        };
        Ok(())
    }
}

/// Takes bytes from the front of a file in one step, so that an append can come before it or after it
/// and never within. Not every filesystem can: ext4 and XFS can.
fn collapse(path: &Path, bytes: u64) -> io::Result<u64> {
    /// A multiple of any filesystem's block.
    const BLOCK: u64 = 64 << 10;
    // Not for appending: the kernel takes nothing from the front of a file opened so.
    let file = OpenOptions::new().write(true).open(path)?;
    let cut = bytes / BLOCK * BLOCK;
    fallocate(&file, FallocateFlags::COLLAPSE_RANGE, 0, cut)?;
    Ok(cut)
}

/// Elsewhere the end is written again after the cut. What the worker writes in that moment is lost, or
/// stands before the end that was kept.
fn copy_and_truncate(file: &mut File, size: u64) -> io::Result<u64> {
    let mut kept = vec![0; LOG_KEPT as usize];
    let read = read_at_most(file, &mut kept, size - LOG_KEPT)?;
    file.set_len(0)?;
    file.write_all(&kept[..read])?;
    Ok(size - LOG_KEPT)
}

/// A FIFO in the log's place must not hang whoever reads it.
fn open_regular(path: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "not a regular file"))
}

fn read_at_most(file: &File, buffer: &mut [u8], mut at: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], at) {
            Ok(0) => break,
            Ok(count) => {
                filled += count;
                at += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn start_of_last_lines(bytes: &[u8], lines: usize) -> usize {
    if lines == 0 {
        return bytes.len();
    }
    let body = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let breaks = body.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n');
    breaks.map(|(at, _)| at + 1).nth(lines - 1).unwrap_or(0)
}

fn escaped_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes.strip_suffix(b"\r").unwrap_or(bytes));
    let mut line = String::new();
    for c in text.chars() {
        let escaped: String =
            if c.is_control() { c.escape_default().collect() } else { c.to_string() };
        if line.len() + escaped.len() > LOG_LINE_MAX {
            Limit::LogLine.reached();
            break;
        }
        line.push_str(&escaped);
    }
    line
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects")]
    use super::*;
    use crate::limits::tests::Counting;
    use proptest::prelude::*;

    fn log() -> (tempfile::TempDir, LogFile) {
        let dir = tempfile::tempdir().unwrap();
        let log = LogFile::new(dir.path(), "g", "i");
        (dir, log)
    }

    #[test]
    fn the_current_and_the_previous_run_are_kept() {
        let (dir, log) = log();
        for run in ["first\n", "second\n", "third\n"] {
            log.begin_run().unwrap().write_all(run.as_bytes()).unwrap();
        }
        assert_eq!(log.tail(10).unwrap(), b"third\n");
        assert_eq!(fs::read(dir.path().join("g/i.log.1")).unwrap(), b"second\n");
        log.remove();
        assert!(!dir.path().join("g").exists());
    }

    #[test]
    fn lines_are_bounded_and_escaped() {
        let (_dir, log) = log();
        let mut file = log.begin_run().unwrap();
        file.write_all(b"\x1b[31mred\tx\r\n\xff\n").unwrap();
        file.write_all("\u{7}".repeat(600).as_bytes()).unwrap();
        let lines = log.tail_lines(20);
        assert_eq!(lines[0], "\\u{1b}[31mred\\tx");
        assert_eq!(lines[1], "\u{fffd}");
        assert!(lines[2].len() <= LOG_LINE_MAX && lines.len() == 3);
        assert_eq!(log.tail_lines(0), Vec::<String>::new());
    }

    #[test]
    fn a_follower_goes_on_through_a_cut_while_the_writer_keeps_its_descriptor() {
        let (_dir, log) = log();
        let mut file = log.begin_run().unwrap();
        file.set_len(LOG_FILE_MAX).unwrap();
        file.write_all(b"\nbefore\n").unwrap();
        let (_, position) = log.tail_from(1).unwrap();
        log.cap().unwrap();
        file.write_all(b"after\n").unwrap();
        assert_eq!(log.read_on(position, 100).unwrap().0, b"after\n");
        assert!(fs::metadata(&log.current).unwrap().len() < 2 * LOG_KEPT);
        assert_eq!(log.tail(2).unwrap(), [b"before\n".as_slice(), b"after\n"].concat());
    }

    proptest! {
        #[test]
        fn a_tail_is_the_last_lines(lines in prop::collection::vec("[a-z]{0,9}", 0..30), n in 0_usize..40) {
            let (_dir, log) = log();
            let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
            log.begin_run().unwrap().write_all(text.as_bytes()).unwrap();
            let kept = &lines[lines.len().saturating_sub(n)..];
            let wanted: String = kept.iter().map(|line| format!("{line}\n")).collect();
            prop_assert_eq!(String::from_utf8(log.tail(n).unwrap()).unwrap(), wanted);
        }
    }

    #[test]
    fn a_log_a_line_and_the_search_for_its_end_are_bounded() {
        let (_dir, log) = log();
        let file = log.begin_run().unwrap();
        file.set_len(LOG_FILE_MAX).unwrap();
        log.cap().unwrap();
        assert_eq!(file.metadata().unwrap().len(), LOG_FILE_MAX);
        let (cut, reach) = (Counting::of(Limit::LogFile), Counting::of(Limit::LogReach));
        file.set_len(LOG_FILE_MAX + 1).unwrap();
        assert_eq!(log.tail(10_000).unwrap().len() as u64, LOG_REACH_MAX);
        reach.counted();
        log.cap().unwrap();
        assert!(file.metadata().unwrap().len() < LOG_FILE_MAX);
        cut.counted();
        let line = Counting::of(Limit::LogLine);
        assert_eq!(escaped_line(&[b'x'; LOG_LINE_MAX]).len(), LOG_LINE_MAX);
        assert_eq!(escaped_line(&[b'x'; LOG_LINE_MAX + 1]).len(), LOG_LINE_MAX);
        line.counted();
    }

    #[test]
    fn fuzz_log_tail() {
        let (_dir, log) = log();
        drop(log.begin_run().unwrap());
        crate::fuzz::fuzz("log", |bytes| {
            fs::write(&log.current, bytes).unwrap();
            let lines = log.tail_lines(20);
            assert!(lines.len() <= 20);
            for line in lines {
                assert!(line.len() <= LOG_LINE_MAX && !line.contains(char::is_control), "{line:?}");
            }
        });
    }
}
