//! How often an address may try a login: a few at once, then one every few seconds.
//!
//! Invariant: bounded memory, whoever asks; an attempt is counted before it is looked at, so that many at
//! once are not more than one after the other, and given back when it was right.

use crate::limits::{LOGIN_ADDRESSES_MAX, LOGIN_ATTEMPTS_MAX, Limit};
use lru::LruCache;
use std::{
    net::{IpAddr, Ipv6Addr},
    num::NonZeroUsize,
    time::{Duration, Instant},
};

/// It has one more after this long.
const ONE_EVERY: Duration = Duration::from_secs(6);

/// See the module. Of each address it is known when all of its attempts would be free again.
#[derive(Debug)]
pub struct Attempts(LruCache<IpAddr, Instant>);

impl Default for Attempts {
    fn default() -> Self {
        Self(LruCache::new(NonZeroUsize::new(LOGIN_ADDRESSES_MAX).unwrap_or(NonZeroUsize::MIN)))
    }
}

impl Attempts {
    /// Takes one, or says how long to wait for it.
    pub fn take(&mut self, from: Option<IpAddr>, now: Instant) -> Result<(), Duration> {
        let key = key(from);
        if self.0.len() == LOGIN_ADDRESSES_MAX && !self.0.contains(&key) {
            Limit::LoginAddresses.reached();
        }
        let free = self.0.get_or_insert_mut(key, || now);
        let then = (*free).max(now) + ONE_EVERY;
        let most = now + ONE_EVERY * LOGIN_ATTEMPTS_MAX;
        if then > most {
            return Err(then - most);
        }
        *free = then;
        Ok(())
    }

    /// It was right.
    pub fn give_back(&mut self, from: Option<IpAddr>) {
        if let Some(free) = self.0.get_mut(&key(from))
            && let Some(earlier) = free.checked_sub(ONE_EVERY)
        {
            *free = earlier;
        }
    }
}

/// Whoever has one address of an IPv6 network has all of them.
fn key(from: Option<IpAddr>) -> IpAddr {
    match from.map(|address| address.to_canonical()) {
        Some(IpAddr::V6(address)) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        Some(address) => address,
        None => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::tests::Counting;
    use proptest::prelude::*;

    fn address(n: u8) -> Option<IpAddr> {
        Some(IpAddr::from([10, 0, 0, n]))
    }

    #[test]
    fn ten_at_once_then_one_every_few_seconds_and_each_address_for_itself() {
        let (mut attempts, start) = (Attempts::default(), Instant::now());
        for _ in 0..LOGIN_ATTEMPTS_MAX {
            assert_eq!(attempts.take(address(1), start), Ok(()));
        }
        assert_eq!(attempts.take(address(1), start), Err(ONE_EVERY));
        assert_eq!(attempts.take(address(2), start), Ok(()));
        assert_eq!(attempts.take(address(1), start + ONE_EVERY), Ok(()));
        assert!(attempts.take(address(1), start + ONE_EVERY).is_err());
    }

    #[test]
    fn one_that_was_right_does_not_count() {
        let (mut attempts, now) = (Attempts::default(), Instant::now());
        for _ in 0..10 * LOGIN_ATTEMPTS_MAX {
            assert_eq!(attempts.take(address(1), now), Ok(()));
            attempts.give_back(address(1));
        }
    }

    #[test]
    fn a_network_of_addresses_is_one() {
        let (mut attempts, now) = (Attempts::default(), Instant::now());
        for n in 0..=LOGIN_ATTEMPTS_MAX {
            let from = Some(IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, n as u16]));
            assert_eq!(attempts.take(from, now).is_ok(), n < LOGIN_ATTEMPTS_MAX);
        }
    }

    proptest! {
        #[test]
        fn memory_is_bounded_and_so_is_the_rate(steps in proptest::collection::vec((0u8..3, 0u64..9_000), 1..200)) {
            let (mut attempts, start) = (Attempts::default(), Instant::now());
            let (mut now, mut taken) = (start, [0u32; 3]);
            for (who, wait) in steps {
                now += Duration::from_millis(wait);
                if attempts.take(address(who), now).is_ok() {
                    taken[who as usize] += 1;
                }
                let earned = (now - start).as_secs_f64() / ONE_EVERY.as_secs_f64();
                prop_assert!(f64::from(taken[who as usize]) <= f64::from(LOGIN_ATTEMPTS_MAX) + earned);
            }
            prop_assert!(attempts.0.len() <= 3);
        }
    }

    #[test]
    fn so_many_addresses_are_remembered() {
        let (mut attempts, now) = (Attempts::default(), Instant::now());
        let counting = Counting::of(Limit::LoginAddresses);
        for n in 0..=LOGIN_ADDRESSES_MAX {
            let from = IpAddr::from([10, 1, (n >> 8) as u8, n as u8]);
            assert_eq!(attempts.take(Some(from), now), Ok(()));
            assert_eq!(attempts.0.len(), (n + 1).min(LOGIN_ADDRESSES_MAX));
        }
        counting.counted();
    }
}
