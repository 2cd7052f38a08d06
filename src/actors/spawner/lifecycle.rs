//! A worker's life as a pure state machine: (phase, event, now) → (phase, effects).
//!
//! ```text
//!             Spawned         Answered        Drain
//!  Spawning ──────────▶ Starting ──────▶ Ready ⇄ Draining
//!   ▲  ▲  │ SpawnFailed    │                │ Resume  │
//!   │  │  │        Stop, Restart, Halt, NotReadyInTime, NotLive
//!   │  │  │                └───────▶ Stopping ◀────────┘
//!   │  │  ▼                             │
//!   │  │ (judged)          Exited       ▼       Exited, from any of the four above
//!   │  │  │              ┌───────── Clearing ◀──────────
//!   │  │  ▼              ▼ Cleared
//!   │ Backoff ◀───── (as judged) ─────▶ Stopped, Failed, Removed
//!   └───────────── Restart ───────────────┘
//! ```
//!
//! Invariants: a process is started only when none of this worker's is left (`Spawn` follows
//! `Cleared`); within `window_s` no more than `max_restarts` restarts happen by themselves;
//! `Removed` is the end.

use super::restart::RestartWindow;
use crate::contract::{EventKind, RestartPolicy, RestartWhen, WorkerState};
use std::time::{Duration, Instant};

/// What an operator or a shutdown wants of a running worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// End it and forget it.
    Remove,
    /// End it and start it again at once.
    Restart,
    /// End it; it stays wanted, for the next hive to start.
    Halt,
    /// It does not serve: end it, and let its policy decide.
    Recover,
}

/// What comes when the tree of a dead worker is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing: it is forgotten.
    Remove,
    /// Started at once.
    Restart,
    /// Started after this long.
    Backoff(Duration),
    /// Stays down until an operator restarts it.
    Failed,
    /// Ended as it was meant to.
    Stopped,
}

/// Where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Its process is being made; the goal is what was asked of it meanwhile.
    Spawning(Option<Goal>),
    /// It runs, and has not answered yet.
    Starting,
    /// It serves.
    Ready,
    /// It runs, and gets no new requests.
    Draining,
    /// It was told to end.
    Stopping(Goal),
    /// Its main process is gone, and the rest of its tree is being ended.
    Clearing(Next),
    /// It waits for its next start.
    Backoff,
    /// See [`Next::Stopped`].
    Stopped,
    /// See [`Next::Failed`].
    Failed,
    /// It is forgotten.
    Removed,
}

impl Phase {
    /// As it is told to others.
    pub fn state(self) -> WorkerState {
        match self {
            Self::Spawning(None) | Self::Starting => WorkerState::Starting,
            Self::Ready => WorkerState::Ready,
            Self::Draining => WorkerState::Draining,
            Self::Spawning(Some(_)) | Self::Stopping(_) | Self::Clearing(_) => {
                WorkerState::Stopping
            }
            Self::Backoff => WorkerState::Backoff,
            Self::Stopped | Self::Removed => WorkerState::Stopped,
            Self::Failed => WorkerState::Failed,
        }
    }

    /// Whether its main process runs.
    pub fn runs(self) -> bool {
        matches!(self, Self::Starting | Self::Ready | Self::Draining | Self::Stopping(_))
    }
}

/// What can happen to a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Its process runs. `probed`: readiness is to be asked for.
    Spawned {
        /// Whether it has a readiness probe.
        probed: bool,
    },
    /// Its process could not be made.
    SpawnFailed,
    /// It answered its readiness probe.
    Answered,
    /// It did not in time.
    NotReadyInTime,
    /// Its liveness probe failed too often.
    NotLive,
    /// Its main process ended; `success` is an exit code of 0.
    Exited {
        /// Whether it ended well.
        success: bool,
    },
    /// Nothing of its tree is left.
    Cleared,
    /// Its backoff is over.
    BackoffOver,
    /// An operator or a shutdown wants this.
    Asked(Goal),
    /// An operator wants no new requests to go to it.
    Drain,
    /// An operator wants requests to go to it again.
    Resume,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Make its process.
    Spawn,
    /// Ask its readiness probe until it answers or the time is out.
    AwaitReadiness,
    /// Ask its liveness probe from now on.
    WatchLiveness,
    /// SIGTERM, then the grace, then the kill.
    Terminate,
    /// End what is left of its tree.
    Clear,
    /// Raise `BackoffOver` after this long.
    Wait(Duration),
    /// Tell the others.
    Tell(EventKind),
    /// A restart after a death is under way.
    CountRestart,
    /// Forget it.
    Forget,
}

/// One worker's life.
#[derive(Clone, Debug)]
pub struct Lifecycle {
    phase: Phase,
    policy: RestartPolicy,
    window: RestartWindow,
}

impl Lifecycle {
    /// A worker whose process is about to be made.
    pub fn new(policy: RestartPolicy) -> Self {
        Self::in_phase(Phase::Spawning(None), policy)
    }

    /// A worker that was found in `phase`.
    pub fn in_phase(phase: Phase, policy: RestartPolicy) -> Self {
        Self { phase, policy, window: RestartWindow::default() }
    }

    /// Where it stands.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The policy of a changed spec.
    pub fn set_policy(&mut self, policy: RestartPolicy) {
        self.policy = policy;
    }

    /// What comes when the tree is gone, while it is being ended.
    pub fn next(&self) -> Option<Next> {
        match self.phase {
            Phase::Clearing(next) => Some(next),
            _ => None,
        }
    }

    /// Takes one event. `jitter` is a random number from 0 to 1. An event that does not fit the
    /// phase, such as a late answer of a probe, changes nothing.
    pub fn step(&mut self, event: Event, now: Instant, jitter: f64) -> Vec<Effect> {
        use EventKind::{WorkerExited, WorkerReady, WorkerStarted};
        let (phase, effects) = match (self.phase, event) {
            (Phase::Spawning(None), Event::Spawned { probed: true }) => {
                (Phase::Starting, vec![Effect::Tell(WorkerStarted), Effect::AwaitReadiness])
            }
            (Phase::Spawning(None), Event::Spawned { probed: false }) => (
                Phase::Ready,
                vec![Effect::Tell(WorkerStarted), Effect::Tell(WorkerReady), Effect::WatchLiveness],
            ),
            (Phase::Spawning(Some(goal)), Event::Spawned { .. }) => {
                (Phase::Stopping(goal), vec![Effect::Tell(WorkerStarted), Effect::Terminate])
            }
            (Phase::Spawning(goal), Event::SpawnFailed) => {
                let next = self.judge(goal, false, now, jitter);
                let (phase, mut effects) = enter(next);
                effects.insert(0, Effect::Tell(WorkerExited));
                (phase, effects)
            }
            (Phase::Spawning(old), Event::Asked(new)) => {
                (Phase::Spawning(Some(old.map_or(new, |old| stronger(old, new)))), vec![])
            }
            (Phase::Starting, Event::Answered) => {
                (Phase::Ready, vec![Effect::Tell(WorkerReady), Effect::WatchLiveness])
            }
            (Phase::Ready, Event::Drain) => (Phase::Draining, vec![]),
            (Phase::Draining, Event::Resume) => (Phase::Ready, vec![]),
            (Phase::Starting, Event::NotReadyInTime)
            | (Phase::Ready | Phase::Draining, Event::NotLive) => {
                (Phase::Stopping(Goal::Recover), vec![Effect::Terminate])
            }
            (Phase::Starting | Phase::Ready | Phase::Draining, Event::Asked(goal)) => {
                (Phase::Stopping(goal), vec![Effect::Terminate])
            }
            (Phase::Stopping(old), Event::Asked(new)) => {
                (Phase::Stopping(stronger(old, new)), vec![])
            }
            (phase, Event::Exited { success }) if phase.runs() => {
                let goal = if let Phase::Stopping(goal) = phase { Some(goal) } else { None };
                let next = self.judge(goal, success, now, jitter);
                (Phase::Clearing(next), vec![Effect::Tell(WorkerExited), Effect::Clear])
            }
            (Phase::Clearing(old), Event::Asked(goal)) => {
                let next = if old == Next::Remove { old } else { wanted(goal) };
                (Phase::Clearing(next), vec![])
            }
            (Phase::Clearing(next), Event::Cleared) => enter(next),
            (Phase::Backoff, Event::BackoffOver) => {
                (Phase::Spawning(None), vec![Effect::CountRestart, Effect::Spawn])
            }
            (Phase::Backoff | Phase::Stopped | Phase::Failed, Event::Asked(goal)) => {
                if goal == Goal::Restart {
                    self.window = RestartWindow::default();
                }
                enter(wanted(goal))
            }
            (phase, _) => (phase, vec![]),
        };
        self.phase = phase;
        effects
    }

    /// What follows from an end.
    fn judge(&mut self, goal: Option<Goal>, success: bool, now: Instant, jitter: f64) -> Next {
        match goal {
            Some(Goal::Recover) => self.restart_or_fail(now, jitter),
            Some(goal) => {
                if goal == Goal::Restart {
                    self.window = RestartWindow::default();
                }
                wanted(goal)
            }
            None => match (self.policy.policy, success) {
                (RestartWhen::Always, _) | (RestartWhen::OnFailure, false) => {
                    self.restart_or_fail(now, jitter)
                }
                (_, true) => Next::Stopped,
                (RestartWhen::Never, false) => Next::Failed,
            },
        }
    }

    fn restart_or_fail(&mut self, now: Instant, jitter: f64) -> Next {
        if self.policy.policy == RestartWhen::Never {
            return Next::Failed;
        }
        self.window.next_delay(&self.policy, now, jitter).map_or(Next::Failed, Next::Backoff)
    }
}

/// To end it outlasts to start it again; otherwise the last word counts.
fn stronger(old: Goal, new: Goal) -> Goal {
    match (old, new) {
        (Goal::Remove, _) => old,
        (Goal::Halt, Goal::Restart | Goal::Recover) => old,
        _ => new,
    }
}

fn wanted(goal: Goal) -> Next {
    match goal {
        Goal::Remove => Next::Remove,
        Goal::Restart | Goal::Recover => Next::Restart,
        Goal::Halt => Next::Stopped,
    }
}

fn enter(next: Next) -> (Phase, Vec<Effect>) {
    use EventKind::{WorkerFailed, WorkerStopped};
    match next {
        Next::Remove => (Phase::Removed, vec![Effect::Tell(WorkerStopped), Effect::Forget]),
        Next::Restart => (Phase::Spawning(None), vec![Effect::Spawn]),
        Next::Backoff(delay) => (Phase::Backoff, vec![Effect::Wait(delay)]),
        Next::Failed => (Phase::Failed, vec![Effect::Tell(WorkerFailed)]),
        Next::Stopped => (Phase::Stopped, vec![Effect::Tell(WorkerStopped)]),
    }
}

#[cfg(test)]
mod tests;
