//! How the queen was at the last attempt, and which change of that is news: each is logged once, however
//! long it lasts and whatever words the queen finds for it.

use awc::http::StatusCode;

/// Why heartbeats are not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// No queen took it in time.
    Away,
    /// The queen is there, and does not want it.
    Refused(StatusCode),
    /// Another hive with this id has taken over.
    Superseded,
}

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Connection {
    Untried,
    Connected,
    Broken(Cause),
}

impl Connection {
    /// Whether an operator should hear of it. That nobody is there is none to one who knows that it is not
    /// taken: with several queens in turn the reasons differ each time.
    pub(super) fn is_news_after(self, before: Self) -> bool {
        let known = matches!(before, Self::Broken(_)) && self == Self::Broken(Cause::Away);
        self != before && !known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_is_told_once_and_a_new_cause_again() {
        let away = Connection::Broken(Cause::Away);
        let refused = |status| Connection::Broken(Cause::Refused(status));
        let unknown = refused(StatusCode::UNAUTHORIZED);
        for (before, now, news) in [
            (Connection::Untried, Connection::Connected, true),
            (Connection::Untried, away, true),
            (Connection::Connected, Connection::Connected, false),
            (Connection::Connected, away, true),
            (away, away, false),
            (away, Connection::Connected, true),
            (away, unknown, true),
            (unknown, unknown, false),
            (unknown, away, false),
            (unknown, refused(StatusCode::BAD_REQUEST), true),
            (unknown, Connection::Broken(Cause::Superseded), true),
            (Connection::Broken(Cause::Superseded), Connection::Connected, true),
        ] {
            assert_eq!(now.is_news_after(before), news, "{before:?} then {now:?}");
        }
    }
}
