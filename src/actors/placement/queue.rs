//! Requests that wait for a slot: first come, first served among those that a worker can serve. Pure
//! but for the senders that it keeps.
//!
//! A line for each model, so that one model's crowd does not hold up another's; one bound for all.

use super::Booking;
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};
use tokio::sync::oneshot;

/// A place in the queue, in the order of arrival.
pub(super) type Ticket = u64;

/// Who waits.
#[derive(Debug)]
pub(super) struct Waiter {
    /// For which model.
    pub model: Arc<str>,
    /// To which session it belongs.
    pub session: Option<Box<str>>,
    /// Where its slot goes.
    pub reply: oneshot::Sender<Booking>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Queue {
    limit: usize,
    next: Ticket,
    waiting: HashMap<Ticket, Waiter>,
    lines: HashMap<Arc<str>, BTreeSet<Ticket>>,
}

impl Queue {
    /// For at most `limit` waiters.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }

    /// The last in its line; `None`: the queue is full.
    pub(super) fn join(&mut self, waiter: Waiter) -> Option<Ticket> {
        if self.waiting.len() >= self.limit {
            return None;
        }
        let ticket = self.next;
        self.next += 1;
        self.lines.entry(Arc::clone(&waiter.model)).or_default().insert(ticket);
        self.waiting.insert(ticket, waiter);
        Some(ticket)
    }

    /// Out of the queue, if it is still there.
    pub(super) fn leave(&mut self, ticket: Ticket) -> Option<Waiter> {
        let waiter = self.waiting.remove(&ticket)?;
        if let Some(line) = self.lines.get_mut(&waiter.model) {
            line.remove(&ticket);
            if line.is_empty() {
                self.lines.remove(&waiter.model);
            }
        }
        Some(waiter)
    }

    /// Takes the one who waits longest for a worker of these models.
    pub(super) fn next_for(&mut self, models: &[Arc<str>]) -> Option<Waiter> {
        if self.waiting.is_empty() {
            return None;
        }
        let firsts = models.iter().filter_map(|model| self.lines.get(model)?.first());
        let first = *firsts.min()?;
        self.leave(first)
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn waiter(model: &str) -> Waiter {
        let (reply, _) = oneshot::channel();
        Waiter { model: model.into(), session: None, reply }
    }

    proptest! {
        #[test]
        fn each_is_served_once_in_the_order_of_arrival_and_the_bound_holds(
            steps in proptest::collection::vec((0u8..3, 0u8..3), 1..200), limit in 0usize..20
        ) {
            let mut queue = Queue::new(limit);
            let mut expected: Vec<(Ticket, String)> = Vec::new();
            for (what, model) in steps {
                let model = model.to_string();
                match what {
                    0 | 1 => match queue.join(waiter(&model)) {
                        Some(ticket) => expected.push((ticket, model)),
                        None => prop_assert_eq!(expected.len(), limit),
                    },
                    _ => {
                        let first = expected.iter().position(|(_, m)| *m == model);
                        let served = queue.next_for(&[model.as_str().into()]);
                        prop_assert_eq!(served.is_some(), first.is_some());
                        if let Some(first) = first {
                            expected.remove(first);
                        }
                    }
                }
                prop_assert_eq!(queue.len(), expected.len());
                prop_assert!(queue.len() <= limit);
            }
            for (ticket, _) in expected {
                prop_assert!(queue.leave(ticket).is_some());
            }
            prop_assert!(queue.lines.is_empty());
        }
    }

    #[test]
    fn the_longest_wait_counts_over_all_models_of_a_worker() {
        let mut queue = Queue::new(9);
        queue.join(waiter("b"));
        queue.join(waiter("a"));
        let models: [Arc<str>; 2] = ["a".into(), "b".into()];
        assert_eq!(queue.next_for(&models).map(|w| w.model.to_string()), Some("b".into()));
        assert_eq!(queue.next_for(&models).map(|w| w.model.to_string()), Some("a".into()));
    }
}
