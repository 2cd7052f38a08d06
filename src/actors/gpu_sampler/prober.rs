//! The thread that asks the driver. A call that never returns keeps this thread and nothing else: who
//! asked has given up long since, and no second one is sent after it.

use super::{
    choice::{Choice, Rank},
    continuity::{Continuity, SeenDevice},
};
use crate::{
    actors::spawner::error_chain,
    platform::gpu::{GpuError, GpuReading, GpuSource, SourceKind},
};
use nix::{errno::Errno, sys::signal::kill, unistd::Pid};
use std::{
    io,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
    time::Instant,
};

/// The thread's name, which the kernel shows.
const NAME: &str = "gpu-probe";

/// What a probe came back with.
#[derive(Debug)]
pub(super) enum Outcome {
    /// A reading.
    Read {
        kind: SourceKind,
        devices: Vec<SeenDevice>,
        /// Why not from the better source.
        instead_because: Option<String>,
    },
    /// No source is there.
    Absent,
    /// None answers; why.
    Failed(String),
    /// The thread has ended.
    Ended,
}

/// Starts the thread. Each deadline that is sent is a probe; its outcome goes to `tell`. The last outcome
/// of all, however the thread ends, is [`Outcome::Ended`].
pub(super) fn start(
    sources: Vec<Box<dyn GpuSource>>,
    tell: impl Fn(Outcome) + Send + 'static,
) -> io::Result<SyncSender<Instant>> {
    let (ask, asked) = sync_channel(1);
    thread::Builder::new().name(NAME.into()).spawn(move || {
        let tell = LastWord(tell);
        let mut prober = Prober {
            open: asked.recv().ok(),
            asked,
            tell: &tell.0,
            choice: Choice::new(),
            continuity: Continuity::default(),
            answered: 0,
        };
        let mut sources = sources;
        while prober.open.is_some() {
            prober.ask_all(&mut sources);
        }
    })?;
    Ok(ask)
}

/// Says that it has ended, also when it panics.
struct LastWord<F: Fn(Outcome)>(F);

impl<F: Fn(Outcome)> Drop for LastWord<F> {
    fn drop(&mut self) {
        (self.0)(Outcome::Ended);
    }
}

struct Prober<'a, F> {
    asked: Receiver<Instant>,
    /// The deadline of the probe that has not been answered yet; `None`: no more are wanted.
    open: Option<Instant>,
    tell: &'a F,
    choice: Choice,
    continuity: Continuity,
    /// Readings so far.
    answered: u64,
}

impl<F: Fn(Outcome)> Prober<'_, F> {
    /// Asks one source after the other, until one has answered and has had its time.
    fn ask_all(&mut self, sources: &mut [Box<dyn GpuSource>]) {
        let (mut absent, mut failures) = (true, Vec::new());
        let order = self.choice.order(Instant::now());
        for rank in order {
            let Some(deadline) = self.open else { return };
            let Some(source) = sources.get_mut(rank) else { continue };
            let answered = self.answered;
            let kind = source.kind();
            let served = source
                .serve(deadline, &mut |reading| self.hand_over((rank, kind), &failures, reading));
            match served {
                Err(error) if self.answered == answered => {
                    absent &= matches!(error, GpuError::Absent(_));
                    failures.push(error_chain(&error));
                }
                // It has had its time, or failed at a later probe: that one is for whoever is first now.
                Ok(()) | Err(_) => return,
            }
        }
        (self.tell)(if absent { Outcome::Absent } else { Outcome::Failed(failures.join("; ")) });
        self.open = self.asked.recv().ok();
    }

    /// Tells a reading and waits for the next probe. Its deadline, if that is for the same source.
    fn hand_over(
        &mut self,
        (rank, kind): (Rank, SourceKind),
        failures: &[String],
        reading: GpuReading,
    ) -> Option<Instant> {
        self.answered += 1;
        self.choice.worked(rank, Instant::now());
        let devices = self.continuity.absorb(reading, exists);
        let instead_because = failures.first().cloned();
        (self.tell)(Outcome::Read { kind, devices, instead_because });
        self.open = self.asked.recv().ok();
        self.open.filter(|_| self.choice.order(Instant::now())[0] == rank)
    }
}

/// Whether there is a process of this PID here.
fn exists(pid: u32) -> bool {
    i32::try_from(pid).is_ok_and(|pid| kill(Pid::from_raw(pid), None) != Err(Errno::ESRCH))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects")]
    use super::*;
    use crate::platform::gpu::HandOver;
    use std::{
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
            mpsc::{Sender, channel},
        },
        time::Duration,
    };

    /// Answers while it is told to work, and panics when it is not and `fragile`.
    struct Scripted {
        kind: SourceKind,
        works: Arc<AtomicBool>,
        fragile: bool,
    }

    impl GpuSource for Scripted {
        fn kind(&self) -> SourceKind {
            self.kind
        }

        fn serve(&mut self, _: Instant, hand_over: HandOver<'_>) -> Result<(), GpuError> {
            loop {
                let works = self.works.load(Ordering::SeqCst);
                assert!(works || !self.fragile, "fragile");
                if !works {
                    return Err(GpuError::Garbage("scripted"));
                }
                if hand_over(GpuReading::default()).is_none() {
                    return Ok(());
                }
            }
        }
    }

    fn two(fragile: bool) -> (Vec<Box<dyn GpuSource>>, [Arc<AtomicBool>; 2]) {
        let works = [true, true].map(|works| Arc::new(AtomicBool::new(works)));
        let kinds = [SourceKind::Nvml, SourceKind::NvidiaSmi];
        let source = |(kind, works): (SourceKind, &Arc<AtomicBool>)| {
            let works = Arc::clone(works);
            Box::new(Scripted { kind, works, fragile }) as Box<dyn GpuSource>
        };
        (kinds.into_iter().zip(&works).map(source).collect(), works)
    }

    fn telling(told: Sender<Outcome>) -> impl Fn(Outcome) + Send {
        move |outcome| told.send(outcome).unwrap_or_default()
    }

    fn kind_of(outcome: Outcome) -> Option<SourceKind> {
        match outcome {
            Outcome::Read { kind, .. } => Some(kind),
            _ => None,
        }
    }

    const SOON: Duration = Duration::from_secs(10);

    #[test]
    fn every_probe_has_one_outcome_whoever_fails_in_between() {
        let (sources, works) = two(false);
        let (told, outcomes) = channel();
        let ask = start(sources, telling(told)).unwrap();
        let probe = |nvml, smi| {
            works[0].store(nvml, Ordering::SeqCst);
            works[1].store(smi, Ordering::SeqCst);
            ask.send(Instant::now()).unwrap();
            outcomes.recv_timeout(SOON).unwrap()
        };
        assert_eq!(kind_of(probe(true, true)), Some(SourceKind::Nvml));
        assert_eq!(kind_of(probe(true, false)), Some(SourceKind::Nvml));
        let Outcome::Read { kind, instead_because, .. } = probe(false, true) else {
            unreachable!()
        };
        assert_eq!(kind, SourceKind::NvidiaSmi);
        assert!(instead_because.is_some());
        assert_eq!(kind_of(probe(true, true)), Some(SourceKind::NvidiaSmi), "not back at once");
        assert!(matches!(probe(false, false), Outcome::Failed(_)));
        assert_eq!(kind_of(probe(true, false)), Some(SourceKind::Nvml));
        drop(ask);
        assert!(matches!(outcomes.recv_timeout(SOON).unwrap(), Outcome::Ended));
        assert!(outcomes.recv().is_err(), "that was the last word");
    }

    #[test]
    fn a_source_that_panics_ends_the_thread_and_that_is_told() {
        let (sources, works) = two(true);
        let (told, outcomes) = channel();
        let ask = start(sources, telling(told)).unwrap();
        works[0].store(false, Ordering::SeqCst);
        ask.send(Instant::now()).unwrap();
        assert!(matches!(outcomes.recv_timeout(SOON).unwrap(), Outcome::Ended));
    }
}
