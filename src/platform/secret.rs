//! A text that nobody but its receiver may see.
//!
//! Invariant: neither Debug nor Display shows anything of it, so that no log, no error and no dump of a
//! structure around it can. Whoever needs the text itself says so by [`Secret::expose`].

use std::fmt;
use subtle::ConstantTimeEq as _;

/// See the module.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Hides `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the one place that sends or compares it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn nothing_of_it_is_shown(text in "[^\\[\\]secrt\"]{1,40}") {
            let secret = Secret::new(text.as_str());
            let shown = format!("{secret} {secret:?} {:?} {secret:#?}", Some(&secret));
            prop_assert!(!shown.replace("Some(", "").replace(['\n', ')', ' '], "").contains(&text));
            prop_assert_eq!(secret.expose(), text);
        }
    }
}
