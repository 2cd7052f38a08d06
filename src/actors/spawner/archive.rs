//! Writes workers' records in the order in which they were meant, on a thread of its own: a slow or
//! full disk delays no actor. What could not be written is tried again until there is room, and both is
//! told once.

use super::record::WorkerRecord;
use crate::{actors::hive_board::WorkerName, platform::state_dir::StateDir};
use std::{
    collections::HashMap,
    io,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel},
    },
    thread,
    time::Duration,
};

/// Between two tries to write what could not be written.
const TRY_AGAIN: Duration = Duration::from_secs(1);

enum Job {
    Write(WorkerName, Vec<u8>, Option<SyncSender<io::Result<()>>>),
    Remove(WorkerName),
    Flush(SyncSender<io::Result<()>>),
}

/// See the module. Clones write to the same directory.
#[derive(Clone, Debug)]
pub struct Archive(Sender<Job>);

impl Archive {
    /// Starts the thread. It ends with the last clone.
    pub fn start(dir: Arc<StateDir>) -> io::Result<Self> {
        let (sender, receiver) = channel();
        thread::Builder::new()
            .name("archive".into())
            .spawn(move || Writer { dir, owed: HashMap::new() }.work(&receiver))?;
        Ok(Self(sender))
    }

    /// Writes it as soon as that can be done.
    pub fn write(&self, name: &WorkerName, record: &WorkerRecord) {
        if let Ok(text) = serde_json::to_vec(record) {
            let _ = self.0.send(Job::Write(name.clone(), text, None));
        }
    }

    /// Writes it now or not at all, and returns when that is done. Blocks.
    pub fn write_now(&self, name: &WorkerName, record: &WorkerRecord) -> io::Result<()> {
        let text = serde_json::to_vec(record)?;
        self.wait_for(|done| Job::Write(name.clone(), text, Some(done)))
    }

    /// Removes it as soon as that can be done.
    pub fn remove(&self, name: &WorkerName) {
        let _ = self.0.send(Job::Remove(name.clone()));
    }

    /// Returns when all that was asked for before is done. Blocks.
    pub fn flush(&self) {
        let _ = self.wait_for(Job::Flush);
    }

    fn wait_for(&self, job: impl FnOnce(SyncSender<io::Result<()>>) -> Job) -> io::Result<()> {
        let (done, finished) = sync_channel(1);
        let gone = || io::Error::other("the archive's thread is gone");
        self.0.send(job(done)).map_err(|_| gone())?;
        finished.recv().map_err(|_| gone())?
    }
}

/// The thread's own.
struct Writer {
    dir: Arc<StateDir>,
    /// What the disk does not have yet; `None` is to be removed.
    owed: HashMap<WorkerName, Option<Vec<u8>>>,
}

impl Writer {
    fn work(mut self, jobs: &Receiver<Job>) {
        loop {
            let next = match self.owed.is_empty() {
                true => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
                false => jobs.recv_timeout(TRY_AGAIN),
            };
            match next {
                Ok(first) => self.take(std::iter::once(first).chain(jobs.try_iter()).collect()),
                Err(RecvTimeoutError::Timeout) => self.pay(),
                Err(RecvTimeoutError::Disconnected) => return self.pay(),
            }
        }
    }

    /// Of several records of one worker that wait, only the last is written.
    fn take(&mut self, waiting: Vec<Job>) {
        let mut last = HashMap::new();
        for (at, job) in waiting.iter().enumerate() {
            if let Job::Write(name, ..) | Job::Remove(name) = job {
                last.insert(name.clone(), at);
            }
        }
        for (at, job) in waiting.into_iter().enumerate() {
            match job {
                Job::Write(name, _, None) | Job::Remove(name) if last[&name] > at => {}
                Job::Write(name, text, None) => self.put(name, Some(text)),
                Job::Write(name, text, Some(done)) => drop(done.send(self.put_now(name, text))),
                Job::Remove(name) => self.put(name, None),
                Job::Flush(done) => drop(done.send(Ok(()))),
            }
        }
    }

    fn put_now(&mut self, name: WorkerName, text: Vec<u8>) -> io::Result<()> {
        self.store(&name, Some(&text))?;
        self.settle(&name);
        Ok(())
    }

    fn put(&mut self, name: WorkerName, text: Option<Vec<u8>>) {
        match self.store(&name, text.as_deref()) {
            Ok(()) => self.settle(&name),
            Err(error) => {
                if self.owed.is_empty() {
                    tracing::error!(worker = %name, %error, "workers' states cannot be written: a hive that starts now would know older ones; tried again each second");
                }
                self.owed.insert(name, text);
            }
        }
    }

    fn store(&self, name: &WorkerName, text: Option<&[u8]>) -> io::Result<()> {
        match text {
            Some(text) => self.dir.write_record(&name.group, &name.instance, text),
            None => self.dir.remove_record(&name.group, &name.instance),
        }
    }

    /// The disk has the newest.
    fn settle(&mut self, name: &WorkerName) {
        if self.owed.remove(name).is_some() && self.owed.is_empty() {
            tracing::info!("all workers' states are written again");
        }
    }

    /// Tries all that is owed, until one fails.
    fn pay(&mut self) {
        let names: Vec<WorkerName> = self.owed.keys().cloned().collect();
        for name in names {
            let text = self.owed.get(&name).and_then(Option::as_deref);
            if self.store(&name, text).is_err() {
                return;
            }
            self.settle(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects")]
    use super::*;
    use crate::{actors::spawner::Origin, settings::worker::from_json};

    #[test]
    fn the_last_word_on_each_worker_is_what_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let state = Arc::new(StateDir::open(dir.path()).unwrap());
        let archive = Archive::start(Arc::clone(&state)).unwrap();
        let spec = serde_json::json!({"group": "g", "instance": "a", "command": "sleep"});
        let record = |restarts| WorkerRecord {
            spec: from_json(spec.clone(), "h").unwrap(),
            origin: Origin::Api,
            restarts,
            resting: None,
            run: None,
            last_exit: None,
        };
        let (kept, gone) = (WorkerName::new("g", "kept"), WorkerName::new("g", "gone"));
        for restarts in 0..100 {
            archive.write(&kept, &record(restarts));
            archive.write(&gone, &record(restarts));
        }
        archive.write_now(&kept, &record(100)).unwrap();
        archive.remove(&gone);
        archive.flush();
        let found = state.records();
        assert_eq!(found.len(), 1);
        let text = found[0].2.as_ref().unwrap();
        assert_eq!(serde_json::from_str::<WorkerRecord>(text).unwrap().restarts, 100);
    }
    #[test]
    fn what_could_not_be_written_is_written_once_there_is_room() {
        let dir = tempfile::tempdir().unwrap();
        let state = Arc::new(StateDir::open(dir.path()).unwrap());
        let mut writer = Writer { dir: Arc::clone(&state), owed: HashMap::new() };
        let (a, b) = (WorkerName::new("g", "a"), WorkerName::new("g", "b"));
        // A file in the directory's place stands for a disk that takes nothing.
        let obstacle = dir.path().join("workers");
        std::fs::write(&obstacle, "").unwrap();
        let job = |name: &WorkerName, text: &str| Job::Write(name.clone(), text.into(), None);
        writer.take(vec![job(&a, "1"), job(&b, "1"), job(&a, "2")]);
        assert!(writer.put_now(a.clone(), b"3".to_vec()).is_err(), "now or not at all");
        writer.pay();
        assert_eq!((writer.owed.len(), state.records().len()), (2, 0));
        std::fs::remove_file(&obstacle).unwrap();
        writer.take(vec![job(&b, "2")]);
        writer.pay();
        let found: Vec<_> = state.records().into_iter().map(|(_, _, text)| text.unwrap()).collect();
        assert_eq!((found, writer.owed.len()), (vec!["2".to_owned(), "2".to_owned()], 0));
    }
}
