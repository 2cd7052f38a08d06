//! Who may do what: a role's token, a route's class, and one function that decides.
//!
//! Invariant: a request reaches a handler only through [`Guard`], and only on a path that the role's
//! table of [`Access`] names; what the table forgets is answered 404 before any handler sees it. All
//! decisions are pure ([`decide`], [`origin`]); the guard gathers what they need.

mod attempts;
mod guard;
pub(super) mod login;
pub mod origin;
mod rules;
mod sessions;

pub use guard::{Guard, GuardConfig, session_end};
pub use login::configure;
pub use rules::Rules;
pub use sessions::SessionEnd;

use serde::Serialize;

/// Whose token it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// May do everything.
    Admin,
    /// May heartbeat, and read.
    Hive,
    /// May infer, schedule and read.
    Inference,
}

/// What a route is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Whether it is up, a page's own files, the login: for everybody.
    Open,
    /// The registry, the stream, metrics: for any token, or for everybody with `public_read`.
    Read,
    /// The gateway and the schedule.
    Infer,
    /// A hive's heartbeat.
    Heartbeat,
    /// All else.
    Admin,
}

/// Whom a path is for.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    /// As the router has it.
    pub path: &'static str,
    /// For GET and HEAD.
    pub reading: Class,
    /// For every other method.
    pub writing: Class,
    /// A browser that opens it gets the dashboard, which is for everybody.
    pub page: bool,
}

impl Access {
    /// A path of one class, whatever the method.
    pub const fn new(path: &'static str, class: Class) -> Self {
        Self { path, reading: class, writing: class, page: false }
    }

    /// The same, where a browser gets the dashboard.
    pub const fn or_page(self) -> Self {
        Self { page: true, ..self }
    }
}

/// What a request shows to say who it is.
#[derive(Clone, Copy, Debug)]
pub enum Credential<'a> {
    /// Nothing.
    Nothing,
    /// A bearer token, as it came.
    Token(&'a [u8]),
    /// The cookie of a session that is still good, and whether it is known that the queen's own page
    /// sent it.
    Session {
        /// Whose token it stands for.
        role: Role,
        /// Needed for all but reading.
        from_own_page: bool,
    },
    /// Something that is none of these.
    Unreadable,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may go on.
    Allowed,
    /// It does not say who it is, or not so that it is believed: 401.
    Unauthenticated,
    /// Its role may not: 403.
    Forbidden(Role),
    /// A cookie alone does not do for this: 403.
    NotFromOwnPage,
}

impl Role {
    /// Whether a token of this role is for that class.
    pub fn may(self, class: Class) -> bool {
        match class {
            Class::Open | Class::Read => true,
            Class::Infer => matches!(self, Self::Admin | Self::Inference),
            Class::Heartbeat => matches!(self, Self::Admin | Self::Hive),
            Class::Admin => self == Self::Admin,
        }
    }
}

/// The one place that decides. `reading`: the method is GET or HEAD.
pub fn decide(class: Class, reading: bool, shown: Credential<'_>, rules: &Rules) -> Verdict {
    let open = class == Class::Open || (class == Class::Read && rules.public_read);
    if open || !rules.required() {
        return Verdict::Allowed;
    }
    match shown {
        Credential::Session { from_own_page: false, .. } if !reading => Verdict::NotFromOwnPage,
        shown => match rules.role_of(shown) {
            None => Verdict::Unauthenticated,
            Some(role) if role.may(class) => Verdict::Allowed,
            Some(role) => Verdict::Forbidden(role),
        },
    }
}

#[cfg(test)]
#[path = "auth/tests.rs"]
mod tests;
