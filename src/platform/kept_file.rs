//! A file of a kernel filesystem, opened once and read again each tick.
//!
//! Reading a kept descriptor costs a quarter of opening the path again, and it can never reach
//! another process: /proc answers ESRCH once its process is reaped, cgroupfs ENODEV once its
//! directory is gone. The open cannot hang on a FIFO in the file's place, and a file that is not
//! regular is refused.

use crate::limits::{KERNEL_FILE_MAX, Limit};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{FileType, Mode, OFlags, fstat, open},
    io::Errno,
};
use std::{
    cell::RefCell,
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

const PAGE: usize = 4096;

/// The kernel hands out such a file a page at a time, less at most a record: a read that brought less
/// than this was the last one.
const SURELY_THE_END: usize = PAGE / 4;

/// Texts that did not hold what they should, by the whole process.
static MALFORMED: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// One for all files that a thread reads.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// See the module.
#[derive(Debug)]
pub struct KeptFile(File);

impl KeptFile {
    /// Opens `path` for reading.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        let fd = open(path, flags, Mode::empty())?;
        if FileType::from_raw_mode(fstat(&fd)?.st_mode) != FileType::RegularFile {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not a regular file"));
        }
        Ok(Self(File::from(fd)))
    }

    /// Reads all of it, from its start, and hands it to `look` as text.
    pub fn read<T>(&self, look: impl FnOnce(&str) -> T) -> io::Result<T> {
        BUFFER.with_borrow_mut(|buffer| self.fill(buffer).map(look))
    }

    /// Waits until the kernel says that the file has changed since it was last read, or the time is up.
    pub fn wait_for_change(&self, at_most: Duration) -> io::Result<()> {
        let timeout = Timespec::try_from(at_most).map_err(io::Error::other)?;
        let mut files = [PollFd::new(&self.0, PollFlags::PRI)];
        match poll(&mut files, Some(&timeout)) {
            Err(Errno::INTR) => Ok(()),
            other => Ok(other.map(|_| ())?),
        }
    }

    fn fill<'b>(&self, buffer: &'b mut Vec<u8>) -> io::Result<&'b str> {
        buffer.resize(buffer.capacity().max(PAGE * 2), 0);
        let mut filled = 0;
        loop {
            let count = match self.0.read_at(&mut buffer[filled..], filled as u64) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            };
            filled += count;
            if count < SURELY_THE_END {
                break;
            }
            if filled >= KERNEL_FILE_MAX {
                if self.0.read_at(&mut [0], filled as u64)? > 0 {
                    Limit::KernelFile.reached();
                }
                break;
            }
            if filled == buffer.len() {
                buffer.resize(filled * 2, 0);
            }
        }
        std::str::from_utf8(&buffer[..filled])
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not text"))
    }
}

/// What `parse` finds in a file. `None` where there is no such file, where it cannot be read any more, and
/// where its text makes no sense, which is counted.
pub fn parsed<T>(file: Option<&KeptFile>, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
    let found = file?.read(parse).ok()?;
    if found.is_none() {
        MALFORMED.fetch_add(1, Ordering::Relaxed);
    }
    found
}

/// Texts that made no sense so far, in the whole process.
pub fn malformed() -> u64 {
    MALFORMED.load(Ordering::Relaxed)
}

/// Reads a file once, with the same care.
pub fn read_once(path: &Path) -> io::Result<String> {
    KeptFile::open(path)?.read(str::to_owned)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects")]
    use super::*;
    use crate::limits::tests::Counting;
    use nix::{sys::stat, unistd::mkfifo};
    use std::fs;

    #[test]
    fn a_kept_file_is_read_anew_each_time_whatever_its_size() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, "one").unwrap();
        let file = KeptFile::open(&path).unwrap();
        assert_eq!(file.read(str::to_owned).unwrap(), "one");
        let long = "x".repeat(10_000);
        fs::write(&path, &long).unwrap();
        assert_eq!(file.read(str::to_owned).unwrap(), long);
        fs::write(&path, "").unwrap();
        assert_eq!(file.read(str::to_owned).unwrap(), "");
    }

    #[test]
    fn a_text_that_makes_no_sense_costs_its_figure_and_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, "12 apples").unwrap();
        let (file, before) = (KeptFile::open(&path).unwrap(), malformed());
        let number = |text: &str| text.parse::<u64>().ok();
        assert_eq!(parsed(Some(&file), number), None);
        assert!(malformed() > before);
        assert_eq!(parsed(None, number), None, "there is none");
        fs::write(&path, "12").unwrap();
        assert_eq!(parsed(Some(&file), number), Some(12));
    }

    #[test]
    fn a_fifo_or_a_directory_in_its_place_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        mkfifo(&path, stat::Mode::S_IRWXU).unwrap();
        assert!(KeptFile::open(&path).is_err());
        assert!(KeptFile::open(dir.path()).is_err());
    }

    #[test]
    fn rubbish_is_an_error_not_a_panic() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, [0xff, 0xfe, 0]).unwrap();
        assert!(read_once(&path).is_err());
    }

    #[test]
    fn a_file_is_read_to_so_many_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        for beyond in [0, 1] {
            fs::write(&path, "x".repeat(KERNEL_FILE_MAX + beyond)).unwrap();
            let counting = Counting::of(Limit::KernelFile);
            assert_eq!(read_once(&path).unwrap().len(), KERNEL_FILE_MAX);
            counting.at_least(beyond as u64);
        }
    }
}
