//! Keeps a server thread from being busy with one kind of work for so long that others wait.
//!
//! A thread serves its connections in turns: each that has something is served once, then the next turn
//! begins. What can be refused is refused for the rest of a turn that has taken too long already, so that a
//! small question is answered within that time, whatever the load.

use super::error::HttpError;
use std::{
    cell::Cell,
    rc::Rc,
    time::{Duration, Instant},
};

/// The longest turn in which such work is begun.
pub const TURN_MAX: Duration = Duration::from_millis(25);
/// So much of it is done in any turn: a thread that was only kept from its processor refuses nobody.
const ALWAYS: u32 = 16;
/// What who is refused is told to wait, seconds.
const RETRY_AFTER_S: u64 = 1;

/// The turn of one thread. A copy knows the same.
#[derive(Clone, Debug, Default)]
pub struct Turn(Rc<Current>);

#[derive(Debug, Default)]
struct Current {
    begun: Cell<Option<Instant>>,
    done: Cell<u32>,
}

impl Turn {
    /// Asked before work that costs; 503 where there was too much of it in this turn.
    pub fn admit(&self) -> Result<(), HttpError> {
        let now = Instant::now();
        let begun = self.0.begun.get().unwrap_or_else(|| self.begin(now));
        if self.0.done.get() >= ALWAYS && now.saturating_duration_since(begun) > TURN_MAX {
            return Err(HttpError::overloaded("more is asked for than can be done", RETRY_AFTER_S));
        }
        self.0.done.set(self.0.done.get() + 1);
        Ok(())
    }

    /// What is spawned now comes after all that waits for this thread.
    fn begin(&self, now: Instant) -> Instant {
        self.0.begun.set(Some(now));
        self.0.done.set(0);
        let turn = self.clone();
        actix_web::rt::spawn(async move { turn.0.begun.set(None) });
        now
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test says what it expects")]
mod tests {
    use super::*;

    fn long_ago() -> Option<Instant> {
        Instant::now().checked_sub(TURN_MAX * 2)
    }

    #[actix_web::test]
    async fn a_turn_that_takes_too_long_is_cut_short_and_the_next_one_is_new() {
        let turn = Turn::default();
        turn.admit().unwrap();
        turn.0.begun.set(long_ago());
        for _ in 1..ALWAYS {
            turn.admit().unwrap();
        }
        assert!(turn.admit().is_err());
        tokio::task::yield_now().await;
        assert!((0..100).all(|_| turn.admit().is_ok()), "as many as there is time for");
    }

    #[actix_web::test]
    async fn a_thread_that_was_kept_from_its_processor_refuses_nobody() {
        let turn = Turn::default();
        turn.admit().unwrap();
        turn.0.begun.set(long_ago());
        turn.admit().unwrap();
    }
}
