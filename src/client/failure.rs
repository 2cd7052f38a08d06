//! Why a client command did not do what it was asked, and the exit status that says so.

use thiserror::Error;

/// See the module. The statuses are those of sysexits.h where it has one.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Failure {
    /// The command line makes no sense, or names several things where it means one.
    #[error("{0}")]
    Usage(String),
    /// There is no such worker, hive or file.
    #[error("{0}")]
    NotFound(String),
    /// Nobody answers, or not in time.
    #[error("{0}")]
    Unreachable(String),
    /// The token is missing or wrong, or may not do this.
    #[error("{0}")]
    Denied(String),
    /// It was understood and not done.
    #[error("{0}")]
    Refused(String),
}

impl Failure {
    /// `EX_USAGE`, `EX_NOINPUT`, `EX_UNAVAILABLE`, `EX_NOPERM`, and 1.
    pub fn status(&self) -> u8 {
        match self {
            Self::Refused(_) => 1,
            Self::Usage(_) => 64,
            Self::NotFound(_) => 66,
            Self::Unreachable(_) => 69,
            Self::Denied(_) => 77,
        }
    }
}
