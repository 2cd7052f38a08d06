//! Writes workers' records in the order in which they were meant, on a thread of its own: a slow or
//! full disk delays no actor.

use super::record::WorkerRecord;
use crate::{actors::hive_board::WorkerName, platform::state_dir::StateDir};
use std::{
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

fn work(dir: &StateDir, jobs: &Receiver<Job>) {
    for job in jobs {
        let (result, done) = match job {
            Job::Write(name, text, done) => {
                (dir.write_record(&name.group, &name.instance, &text), done)
            }
            Job::Remove(name) => (dir.remove_record(&name.group, &name.instance), None),
            Job::Flush(done) => (Ok(()), Some(done)),
        };
        match done {
            Some(done) => drop(done.send(result)),
            None => {
                if let Err(error) = result {
                    tracing::error!(%error, "cannot write a worker's state: a restarted hive will not know it");
                }
            }
        }
    }
}
