//! Sessions of browsers: a random id in a cookie stands for a role until it expires.
//!
//! Invariant: at most [`LOGIN_SESSIONS_MAX`] of each role, so that none can end those of another, and none beyond [`LIFETIME`]; an id is 244 random bits, of which half
//! find the session and half are compared in constant time. Kept in memory only. Whatever ends a session,
//! its [`SessionEnd`] is reached.

use super::Role;
use crate::limits::{LOGIN_SESSIONS_MAX, Limit};
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};
use subtle::ConstantTimeEq as _;
use tokio::sync::watch;
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
    /// Goes with it; nothing is ever sent.
    open: watch::Sender<()>,
}

/// The end of one session, to wait for.
#[derive(Debug)]
pub struct SessionEnd {
    closed: watch::Receiver<()>,
    at: Instant,
}

impl SessionEnd {
    /// Returns when the session has been closed or is too old.
    pub async fn reached(mut self) {
        let _ = tokio::time::timeout_at(self.at.into(), self.closed.changed()).await;
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Sessions(HashMap<[u8; 16], Session>);

impl Sessions {
    /// A new one; what is returned is its id.
    pub fn open(&mut self, role: Role, now: Instant) -> String {
        self.0.retain(|_, session| is_good(session, now));
        let of_role = || self.0.iter().filter(|(_, session)| session.role == role);
        if of_role().count() >= LOGIN_SESSIONS_MAX {
            Limit::LoginSessions.reached();
            let oldest = of_role().min_by_key(|(_, session)| session.since);
            if let Some(key) = oldest.map(|(key, _)| *key) {
                self.0.remove(&key);
            }
        }
        let (key, proof) = (Uuid::new_v4(), Uuid::new_v4());
        let (proof_bytes, open) = (proof.into_bytes(), watch::channel(()).0);
        self.0.insert(key.into_bytes(), Session { proof: proof_bytes, role, since: now, open });
        format!("{}{}", key.simple(), proof.simple())
    }

    /// Whom it stands for, while it is good.
    pub fn role(&self, id: &str, now: Instant) -> Option<Role> {
        self.get(id, now).map(|session| session.role)
    }

    /// How long it is still good, unless it is closed.
    pub fn left(&self, id: &str, now: Instant) -> Option<Duration> {
        self.get(id, now).map(|session| (session.since + LIFETIME).saturating_duration_since(now))
    }

    /// When it ends: at once, for what is none.
    pub fn end_of(&self, id: &str, now: Instant) -> SessionEnd {
        match self.get(id, now) {
            Some(session) => {
                SessionEnd { closed: session.open.subscribe(), at: session.since + LIFETIME }
            }
            None => SessionEnd { closed: watch::channel(()).1, at: now },
        }
    }

    fn get(&self, id: &str, now: Instant) -> Option<&Session> {
        let (key, proof) = halves(id)?;
        let session = self.0.get(&key).filter(|session| is_good(session, now))?;
        bool::from(session.proof.ct_eq(&proof)).then_some(session)
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
    fn no_role_ends_the_sessions_of_another() {
        let (mut sessions, now) = (Sessions::default(), Instant::now());
        let admin = sessions.open(Role::Admin, now);
        for _ in 0..=LOGIN_SESSIONS_MAX {
            sessions.open(Role::Inference, now);
        }
        assert_eq!(sessions.role(&admin, now), Some(Role::Admin));
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

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_for_the_end_of_a_session_is_told() {
        let (mut sessions, start) = (Sessions::default(), tokio::time::Instant::now().into_std());
        let still_waits = async |end: SessionEnd| {
            let soon = LIFETIME - Duration::from_secs(1);
            tokio::time::timeout(soon, end.reached()).await.is_err()
        };
        let id = sessions.open(Role::Admin, start);
        assert_eq!(sessions.left(&id, start), Some(LIFETIME));
        let closed = sessions.end_of(&id, start);
        sessions.close(&id, start);
        assert!(!still_waits(closed).await);
        assert!(!still_waits(sessions.end_of(&id, start)).await, "it is closed already");
        assert_eq!(sessions.left(&id, start), None);
        let id = sessions.open(Role::Admin, start);
        assert!(still_waits(sessions.end_of(&id, start)).await);
        sessions.end_of(&id, start).reached().await;
        assert!(tokio::time::Instant::now().into_std() >= start + LIFETIME);
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
