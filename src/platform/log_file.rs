//! A worker's output: one file for the current run and one for the run before. The worker itself
//! appends to it, so that it never depends on anybody's life; what is done here is to open it, to
//! read its end, and to keep it from filling the disk.

use dashmap::DashMap;
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// A log beyond this is cut, bytes.
pub const LOG_MAX: u64 = 64 << 20;

/// What is kept of a log that is cut, bytes.
const LOG_KEPT: u64 = 1 << 20;

/// A line of a tail is cut to this, bytes after escaping.
pub const TAIL_LINE_MAX: usize = 512;

/// How far back a tail is looked for, per line asked for, bytes.
const TAIL_REACH: u64 = 4096;

/// And in all, bytes.
const TAIL_REACH_MAX: u64 = 8 << 20;

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
    /// How much was cut from the front of the current file since it was opened by this process:
    /// a follower counts from the start of the run, whatever is cut meanwhile.
    cut: Arc<AtomicU64>,
}

impl LogFile {
    /// At `{dir}/{group}/{instance}.log`.
    fn new(dir: &Path, group: &str, instance: &str) -> Self {
        let group = dir.join(group);
        Self {
            current: group.join(format!("{instance}.log")),
            previous: group.join(format!("{instance}.log.1")),
            cut: Arc::default(),
        }
    }

    /// A new file for a new run; the one before becomes the previous.
    pub fn begin_run(&self) -> io::Result<File> {
        if let Some(dir) = self.current.parent() {
            fs::create_dir_all(dir)?;
        }
        match fs::rename(&self.current, &self.previous) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => self.cut.store(0, Ordering::Release),
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
    pub fn tail_from(&self, lines: usize) -> io::Result<(Vec<u8>, u64)> {
        let file = open_regular(&self.current)?;
        let size = file.metadata()?.len();
        let reach = TAIL_REACH.saturating_mul(lines as u64).min(TAIL_REACH_MAX).min(size);
        let mut bytes = vec![0; usize::try_from(reach).unwrap_or(0)];
        let read = read_at_most(&file, &mut bytes, size - reach)?;
        bytes.truncate(read);
        let from = start_of_last_lines(&bytes, lines);
        Ok((bytes.split_off(from), self.cut.load(Ordering::Acquire) + size - reach + read as u64))
    }

    /// What was written since `position`, at most `limit` bytes, and where to go on.
    pub fn read_on(&self, position: u64, limit: usize) -> io::Result<(Vec<u8>, u64)> {
        let cut = self.cut.load(Ordering::Acquire);
        let file = open_regular(&self.current)?;
        let mut at = position.saturating_sub(cut);
        if at > file.metadata()?.len() {
            // Another run began, or the file was cut by somebody else.
            at = 0;
        }
        let mut bytes = vec![0; limit];
        let read = read_at_most(&file, &mut bytes, at)?;
        bytes.truncate(read);
        Ok((bytes, cut + at + read as u64))
    }

    /// The last lines for people and JSON: at most [`TAIL_LINE_MAX`] bytes each, control
    /// characters escaped. Empty where there is no log.
    pub fn tail_lines(&self, lines: usize) -> Vec<String> {
        let bytes = self.tail(lines).unwrap_or_default();
        let text = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        if text.is_empty() {
            return Vec::new();
        }
        text.split(|byte| *byte == b'\n').map(escaped_line).collect()
    }

    /// Cuts the oldest part once the file is too long. The worker goes on appending meanwhile; what
    /// it writes between the copy and the cut is lost with the oldest part.
    pub fn cap(&self) -> io::Result<()> {
        let meta = fs::metadata(&self.current)?;
        let size = meta.len();
        if size <= LOG_MAX || !meta.is_file() {
            return Ok(());
        }
        let mut file = OpenOptions::new().read(true).append(true).open(&self.current)?;
        let mut kept = vec![0; LOG_KEPT as usize];
        let read = read_at_most(&file, &mut kept, size - LOG_KEPT)?;
        file.set_len(0)?;
        file.write_all(&kept[..read])?;
        self.cut.fetch_add(size - LOG_KEPT, Ordering::AcqRel);
        Ok(())
    }
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
        if line.len() + escaped.len() > TAIL_LINE_MAX {
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
        assert!(lines[2].len() <= TAIL_LINE_MAX && lines.len() == 3);
        assert_eq!(log.tail_lines(0), Vec::<String>::new());
    }

    #[test]
    fn a_follower_goes_on_through_a_cut_while_the_writer_keeps_its_descriptor() {
        let (_dir, log) = log();
        let mut file = log.begin_run().unwrap();
        file.set_len(LOG_MAX).unwrap();
        file.write_all(b"\nbefore\n").unwrap();
        let (_, position) = log.tail_from(1).unwrap();
        log.cap().unwrap();
        file.write_all(b"after\n").unwrap();
        assert_eq!(log.read_on(position, 100).unwrap().0, b"after\n");
        assert_eq!(fs::metadata(&log.current).unwrap().len(), LOG_KEPT + 6);
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
}
