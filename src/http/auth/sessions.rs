//! Sessions of browsers: a random id in a cookie stands for a role until it expires.
//!
//! Invariant: at most [`LOGIN_SESSIONS_MAX`], none beyond [`LIFETIME`]; an id is 244 random bits, of which half
//! find the session and half are compared in constant time. Kept in memory only.

use super::Role;
use crate::limits::{LOGIN_SESSIONS_MAX, Limit};
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};
use subtle::ConstantTimeEq as _;
use uuid::Uuid;

/// From the login on.
pub const LIFETIME: Duration = Duration::from_secs(12 * 3600);

/// Of each half of an id, in hexadecimal.
const HALF: usize = 32;

#[derive(Debug)]
struct Session {
    proof: [u8; 16],
    role: Role,
    since: Instant,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Sessions(HashMap<[u8; 16], Session>);

impl Sessions {
    /// A new one; what is returned is its id.
    pub fn open(&mut self, role: Role, now: Instant) -> String {
        self.0.retain(|_, session| is_good(session, now));
        if self.0.len() >= LOGIN_SESSIONS_MAX {
            Limit::LoginSessions.reached();
            let oldest = self.0.iter().min_by_key(|(_, session)| session.since);
            if let Some(key) = oldest.map(|(key, _)| *key) {
                self.0.remove(&key);
            }
        }
        let (key, proof) = (Uuid::new_v4(), Uuid::new_v4());
        self.0.insert(key.into_bytes(), Session { proof: proof.into_bytes(), role, since: now });
        format!("{}{}", key.simple(), proof.simple())
    }

    /// Whom it stands for, while it is good.
    pub fn role(&self, id: &str, now: Instant) -> Option<Role> {
        let (key, proof) = halves(id)?;
        let session = self.0.get(&key).filter(|session| is_good(session, now))?;
        bool::from(session.proof.ct_eq(&proof)).then_some(session.role)
    }

    /// Ends it.
    pub fn close(&mut self, id: &str, now: Instant) {
        if self.role(id, now).is_some()
            && let Some((key, _)) = halves(id)
        {
            self.0.remove(&key);
        }
    }

    /// Ends all: the tokens that they stood for are others now.
    pub fn close_all(&mut self) {
        self.0.clear();
    }
}

fn is_good(session: &Session, now: Instant) -> bool {
    now.saturating_duration_since(session.since) < LIFETIME
}

fn halves(id: &str) -> Option<([u8; 16], [u8; 16])> {
    let (key, proof) = id.split_at_checked(HALF).filter(|(_, proof)| proof.len() == HALF)?;
    let half = |text| Some(Uuid::try_parse(text).ok()?.into_bytes());
    Some((half(key)?, half(proof)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::tests::Counting;
    use proptest::prelude::*;

    #[test]
    fn a_session_is_good_until_it_is_closed_or_old() {
        let (mut sessions, start) = (Sessions::default(), Instant::now());
        let id = sessions.open(Role::Admin, start);
        let other = sessions.open(Role::Inference, start);
        assert_eq!(sessions.role(&id, start), Some(Role::Admin));
        assert_eq!(sessions.role(&id, start + LIFETIME), None);
        sessions.close(&id, start);
        assert_eq!(sessions.role(&id, start), None);
        assert_eq!(sessions.role(&other, start), Some(Role::Inference));
        sessions.close_all();
        assert_eq!(sessions.role(&other, start), None);
    }

    #[test]
    fn the_oldest_goes_when_there_are_too_many() {
        let (mut sessions, start) = (Sessions::default(), Instant::now());
        let at = |n: usize| start + Duration::from_millis(n as u64);
        let counting = Counting::of(Limit::LoginSessions);
        let ids: Vec<_> =
            (0..=LOGIN_SESSIONS_MAX).map(|n| sessions.open(Role::Admin, at(n))).collect();
        assert_eq!(sessions.0.len(), LOGIN_SESSIONS_MAX);
        counting.counted();
        let now = at(LOGIN_SESSIONS_MAX);
        assert_eq!(sessions.role(&ids[0], now), None);
        assert!(ids[1..].iter().all(|id| sessions.role(id, now).is_some()));
    }

    #[test]
    fn half_of_an_id_is_not_enough() {
        let (mut sessions, now) = (Sessions::default(), Instant::now());
        let id = sessions.open(Role::Admin, now);
        let forged = format!("{}{}", &id[..HALF], "0".repeat(HALF));
        assert_eq!(sessions.role(&forged, now), None);
        sessions.close(&forged, now);
        assert_eq!(sessions.role(&id, now), Some(Role::Admin));
    }

    proptest! {
        #[test]
        fn nothing_made_up_is_a_session(id in "\\PC{0,70}|[0-9a-f]{64}") {
            let (mut sessions, now) = (Sessions::default(), Instant::now());
            sessions.open(Role::Admin, now);
            prop_assert_eq!(sessions.role(&id, now), None);
        }
    }
}
