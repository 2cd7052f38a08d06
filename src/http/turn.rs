//! Keeps a server thread from being busy with one kind of work for so long that others wait.
//!
//! A thread serves its connections in turns: each that has something is served once, then the next turn
//! begins. Work that costs waits for the next turn where this one has taken too long already, so that a
//! small question is answered within about that time, whatever the load. What waits is bounded.

use super::error::HttpError;
use crate::limits::{Limit, TURN_HEARTBEATS_MAX, TURN_INFERENCES_MAX};
use std::{
    cell::Cell,
    rc::Rc,
    time::{Duration, Instant},
};
use tokio::sync::Notify;

/// The longest turn in which such work is begun. A new connection needs three turns until it is answered: one to be
/// handed over, one to be looked at, one to be read.
pub const TURN_MAX: Duration = Duration::from_millis(8);
/// So much is done in any turn: a thread that was only kept from its processor lets nobody wait.
const ALWAYS: u32 = 16;
/// What who is refused is told to wait, seconds.
const RETRY_AFTER_S: u64 = 1;

/// Work that costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// To read and store a heartbeat.
    Heartbeat,
    /// To place a request and pass it on.
    Inference,
}

/// The turn of one thread. A copy knows the same.
#[derive(Clone, Debug, Default)]
pub struct Turn(Rc<Current>);

#[derive(Debug, Default)]
struct Current {
    begun: Cell<Option<Instant>>,
    done: Cell<u32>,
    ended: Notify,
    heartbeats: Cell<usize>,
    inferences: Cell<usize>,
}

impl Turn {
    /// Returns when the work may begin; 503 where too much of it waits already.
    pub async fn admit(&self, work: Work) -> Result<(), HttpError> {
        if self.is_over() {
            let _waits = Waits::new(self, work)?;
            while self.is_over() {
                self.0.ended.notified().await;
            }
        }
        if self.0.begun.get().is_none() {
            self.begin();
        }
        self.0.done.set(self.0.done.get() + 1);
        Ok(())
    }

    fn is_over(&self) -> bool {
        let took = self.0.begun.get().map(|begun| begun.elapsed());
        self.0.done.get() >= ALWAYS && took.is_some_and(|took| took > TURN_MAX)
    }

    /// What is spawned now comes after all that waits for this thread.
    fn begin(&self) {
        self.0.begun.set(Some(Instant::now()));
        self.0.done.set(0);
        let turn = self.clone();
        actix_web::rt::spawn(async move {
            turn.0.begun.set(None);
            turn.0.ended.notify_waiters();
        });
    }

    fn waiting(&self, work: Work) -> &Cell<usize> {
        match work {
            Work::Heartbeat => &self.0.heartbeats,
            Work::Inference => &self.0.inferences,
        }
    }
}

/// A place among those that wait.
struct Waits<'a>(&'a Cell<usize>);

impl<'a> Waits<'a> {
    fn new(turn: &'a Turn, work: Work) -> Result<Self, HttpError> {
        // A hive whose heartbeat waits for long gives it up: it is better told to come again.
        let (most, limit) = match work {
            Work::Heartbeat => (TURN_HEARTBEATS_MAX, Limit::TurnHeartbeats),
            Work::Inference => (TURN_INFERENCES_MAX, Limit::TurnInferences),
        };
        let count = turn.waiting(work);
        if count.get() >= most {
            limit.reached();
            return Err(HttpError::overloaded("more is asked for than can be done", RETRY_AFTER_S));
        }
        count.set(count.get() + 1);
        Ok(Self(count))
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test says what it expects")]
mod tests {
    use super::*;
    use crate::limits::tests::Counting;
    use futures_util::FutureExt as _;

    /// A turn that has taken long, in which much was done.
    fn long() -> Turn {
        let turn = Turn::default();
        turn.admit(Work::Heartbeat).now_or_never().unwrap().unwrap();
        turn.0.begun.set(Instant::now().checked_sub(TURN_MAX * 2));
        turn.0.done.set(ALWAYS);
        turn
    }

    #[actix_web::test]
    async fn who_finds_a_turn_too_long_waits_for_the_next() {
        let turn = long();
        assert!(turn.admit(Work::Inference).now_or_never().is_none());
        assert_eq!(turn.0.inferences.get(), 0, "who goes gives up the place");
        turn.admit(Work::Inference).await.unwrap();
        assert!(turn.0.begun.get().is_some_and(|begun| begun.elapsed() < TURN_MAX));
    }

    #[actix_web::test]
    async fn a_thread_that_was_kept_from_its_processor_lets_nobody_wait() {
        let turn = long();
        turn.0.done.set(ALWAYS - 1);
        assert!(turn.admit(Work::Heartbeat).now_or_never().is_some());
    }

    #[actix_web::test]
    async fn only_so_many_wait_and_each_kind_for_itself() {
        for (work, other, most, limit) in [
            (Work::Heartbeat, Work::Inference, TURN_HEARTBEATS_MAX, Limit::TurnHeartbeats),
            (Work::Inference, Work::Heartbeat, TURN_INFERENCES_MAX, Limit::TurnInferences),
        ] {
            let turn = long();
            let all: Vec<_> = (0..most).map(|_| turn.admit(work)).collect();
            let mut all = futures_util::future::join_all(all);
            assert!((&mut all).now_or_never().is_none());
            let counting = Counting::of(limit);
            assert!(turn.admit(work).await.is_err());
            counting.counted();
            assert!(turn.admit(other).now_or_never().is_none(), "it may wait");
            assert!(all.await.iter().all(Result::is_ok));
            assert_eq!(turn.waiting(work).get(), 0);
        }
    }
}
