//! How many requests a server has in hand, so that a stop waits for them and for nothing else.
//!
//! A request counts until its head is answered; a handler whose answer goes on after that holds an
//! [`InFlight`] of its own until the answer's end.

use tokio::sync::watch;

/// The count. A copy counts with the others.
#[derive(Clone, Debug)]
pub struct InFlightCount(watch::Sender<usize>);

impl Default for InFlightCount {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

impl InFlightCount {
    /// One more, until what is returned is dropped.
    pub fn enter(&self) -> InFlight {
        self.0.send_modify(|count| *count += 1);
        InFlight(self.0.clone())
    }

    /// Returns as soon as there is none.
    pub async fn none(&self) {
        let _ = self.0.subscribe().wait_for(|count| *count == 0).await;
    }
}

/// One in hand.
#[derive(Debug)]
pub struct InFlight(watch::Sender<usize>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[tokio::test]
    async fn a_stop_waits_for_the_last_one() {
        let count = InFlightCount::default();
        assert_eq!(count.none().now_or_never(), Some(()));
        let (first, last) = (count.enter(), count.clone().enter());
        drop(first);
        assert_eq!(count.none().now_or_never(), None);
        drop(last);
        assert_eq!(count.none().now_or_never(), Some(()));
    }
}
