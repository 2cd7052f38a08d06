//! How much work may wait at once. A heartbeat carries its [`Load`] from the first byte read until the
//! registry has dealt with it, even if whoever sent it has gone meanwhile; a request to the gateway
//! until its answer has ended.

use crate::limits::{INTAKE_BYTES_MAX, INTAKE_WAITING_MAX};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Too much is waiting already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many requests are waiting")]
pub struct IntakeFull;

/// The account of what waits.
#[derive(Debug)]
pub struct Intake {
    bytes: AtomicUsize,
    waiting: AtomicUsize,
    bytes_limit: usize,
    waiting_limit: usize,
}

/// For heartbeats.
impl Default for Intake {
    fn default() -> Self {
        Self::new(INTAKE_BYTES_MAX, INTAKE_WAITING_MAX)
    }
}

impl Intake {
    /// So many bytes, and so many that wait.
    pub const fn new(bytes_limit: usize, waiting_limit: usize) -> Self {
        let (bytes, waiting) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { bytes, waiting, bytes_limit, waiting_limit }
    }

    /// Begins with nothing taken.
    pub fn begin(self: &Arc<Self>) -> Load {
        Load { intake: Arc::clone(self), bytes: 0, waits: false }
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

/// One's part; given back when dropped.
#[derive(Debug)]
pub struct Load {
    intake: Arc<Intake>,
    bytes: usize,
    waits: bool,
}

impl Load {
    /// Takes `more` bytes.
    pub fn grow(&mut self, more: usize) -> Result<(), IntakeFull> {
        take(&self.intake.bytes, more, self.intake.bytes_limit)?;
        self.bytes += more;
        Ok(())
    }

    /// Gives the bytes back, the place not: the body is gone, the work is not.
    pub fn release_bytes(&mut self) {
        self.intake.bytes.fetch_sub(std::mem::take(&mut self.bytes), Ordering::Relaxed);
    }

    /// Takes a place among those that wait.
    pub fn enqueue(&mut self) -> Result<(), IntakeFull> {
        if !self.waits {
            take(&self.intake.waiting, 1, self.intake.waiting_limit)?;
            self.waits = true;
        }
        Ok(())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.intake.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.intake.waiting.fetch_sub(self.waits.into(), Ordering::Relaxed);
    }
}

fn take(counter: &AtomicUsize, more: usize, limit: usize) -> Result<(), IntakeFull> {
    counter
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| {
            taken.checked_add(more).filter(|sum| *sum <= limit)
        })
        .map(|_| ())
        .map_err(|_| IntakeFull)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_bounded_and_given_back() {
        let intake = Arc::new(Intake::default());
        let mut load = intake.begin();
        assert_eq!(load.grow(INTAKE_BYTES_MAX), Ok(()));
        assert_eq!(intake.begin().grow(1), Err(IntakeFull));
        drop(load);
        assert_eq!(intake.begin().grow(1), Ok(()));
        assert_eq!(intake.bytes.load(Ordering::Relaxed), 0);
        let mut load = intake.begin();
        assert_eq!(load.grow(INTAKE_BYTES_MAX), Ok(()));
        load.release_bytes();
        drop(load);
        assert_eq!(intake.bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn only_so_many_wait_at_once() {
        let intake = Arc::new(Intake::default());
        let mut loads: Vec<_> = (0..INTAKE_WAITING_MAX).map(|_| intake.begin()).collect();
        assert!(loads.iter_mut().all(|load| load.enqueue().is_ok() && load.enqueue().is_ok()));
        assert_eq!(intake.begin().enqueue(), Err(IntakeFull));
        loads.pop();
        assert_eq!(intake.begin().enqueue(), Ok(()));
        assert_eq!(intake.waiting(), INTAKE_WAITING_MAX - 1);
    }
}
