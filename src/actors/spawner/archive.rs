//! Writes workers' records in the order in which they were meant, on a thread of its own: a slow or
//! full disk delays no actor.

use super::record::WorkerRecord;
use crate::{actors::hive_board::WorkerName, platform::state_dir::StateDir};
use std::{
    collections::HashMap,
    io,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    },
    thread,
};

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
        thread::Builder::new().name("archive".into()).spawn(move || work(&dir, &receiver))?;
        Ok(Self(sender))
    }

    /// Writes it some time soon. A failure is logged.
    pub fn write(&self, name: &WorkerName, record: &WorkerRecord) {
        if let Ok(text) = serde_json::to_vec(record) {
            let _ = self.0.send(Job::Write(name.clone(), text, None));
        }
    }

    /// Writes it, and returns when that is done. Blocks.
    pub fn write_now(&self, name: &WorkerName, record: &WorkerRecord) -> io::Result<()> {
        let text = serde_json::to_vec(record)?;
        self.wait_for(|done| Job::Write(name.clone(), text, Some(done)))
    }

    /// Removes it some time soon.
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

/// Of several records of one worker that wait, only the last is written.
fn work(dir: &StateDir, jobs: &Receiver<Job>) {
    while let Ok(first) = jobs.recv() {
        let waiting: Vec<Job> = std::iter::once(first).chain(jobs.try_iter()).collect();
        let mut last = HashMap::new();
        for (at, job) in waiting.iter().enumerate() {
            if let Job::Write(name, ..) | Job::Remove(name) = job {
                last.insert(name.clone(), at);
            }
        }
        for (at, job) in waiting.into_iter().enumerate() {
            let (result, done) = match job {
                Job::Write(name, _, None) | Job::Remove(name) if last[&name] > at => continue,
                Job::Write(name, text, done) => {
                    (dir.write_record(&name.group, &name.instance, &text), done)
                }
                Job::Remove(name) => (dir.remove_record(&name.group, &name.instance), None),
                Job::Flush(done) => (Ok(()), Some(done)),
            };
            report(result, done);
        }
    }
}

fn report(result: io::Result<()>, done: Option<SyncSender<io::Result<()>>>) {
    match (done, result) {
        (Some(done), result) => drop(done.send(result)),
        (None, Err(error)) => {
            tracing::error!(%error, "cannot write a worker's state: a restarted hive will not know it");
        }
        (None, Ok(())) => {}
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
}
