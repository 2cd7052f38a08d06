//! The tokens of a role, compared so that the time it takes says nothing about them.

use super::{Credential, Role};
use crate::limits::TOKEN_MAX;
use crate::platform::secret::Secret;
use std::fmt;
use subtle::ConstantTimeEq as _;

const WORD: usize = size_of::<u64>();

/// Who has which token, and what needs one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    tokens: Vec<(Role, Padded)>,
    /// Whether reading needs no token.
    pub public_read: bool,
}

/// A token in a room of fixed size: to compare two takes the same time whatever their length.
#[derive(Clone)]
struct Padded([u64; TOKEN_MAX / WORD + 1]);

impl Padded {
    /// `None` for what is longer than any token.
    fn of(text: &[u8]) -> Option<Self> {
        let mut words = [0; TOKEN_MAX / WORD + 1];
        if text.len() > TOKEN_MAX {
            return None;
        }
        for (word, bytes) in words.iter_mut().zip(text.chunks(WORD)) {
            let mut whole = [0; WORD];
            whole[..bytes.len()].copy_from_slice(bytes);
            *word = u64::from_le_bytes(whole);
        }
        // The last word tells a token from the same one with zeros after it.
        words[TOKEN_MAX / WORD] = text.len() as u64;
        Some(Self(words))
    }
}

impl PartialEq for Padded {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Padded {}

impl fmt::Debug for Padded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl Rules {
    /// Roles without a token are left out.
    pub fn new(
        tokens: impl IntoIterator<Item = (Role, Option<Secret>)>,
        public_read: bool,
    ) -> Self {
        let known = tokens
            .into_iter()
            .filter_map(|(role, token)| Some((role, Padded::of(token?.expose().as_bytes())?)));
        Self { tokens: known.collect(), public_read }
    }

    /// Whether there is any token at all; without one everything is open to whoever reaches it.
    pub fn required(&self) -> bool {
        !self.tokens.is_empty()
    }

    /// Who shows this; `None` for nobody who is known.
    pub fn role_of(&self, shown: Credential<'_>) -> Option<Role> {
        match shown {
            Credential::Nothing | Credential::Unreadable => None,
            Credential::Session { role, .. } => Some(role),
            Credential::Token(text) => self.role_of_token(text),
        }
    }

    /// All are compared, also after one was found.
    fn role_of_token(&self, text: &[u8]) -> Option<Role> {
        let shown = Padded::of(text)?;
        let mut found = None;
        for (role, token) in &self.tokens {
            if *token == shown {
                found = found.or(Some(*role));
            }
        }
        found
    }
}
