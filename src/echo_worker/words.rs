//! Cuts a text into words, the stand-in's tokens. Put together again they are the text.

/// The words of an answer, one at a time, and how it ends.
#[derive(Debug)]
pub(super) struct Words {
    text: String,
    at: usize,
    taken: u64,
    limit: u64,
}

impl Words {
    /// All of `text`, or its first `limit` words.
    pub(super) fn new(text: String, limit: Option<u64>) -> Self {
        Self { text, at: 0, taken: 0, limit: limit.unwrap_or(u64::MAX) }
    }

    /// The next word with the white space before it (and after it, if it is the text's last).
    pub(super) fn next_word(&mut self) -> Option<&str> {
        let rest = self.text.get(self.at..)?;
        if rest.is_empty() || self.taken == self.limit {
            return None;
        }
        let word = &rest[..word_end(rest)];
        self.at += word.len();
        self.taken += 1;
        Some(word)
    }

    /// All words that are left, as one text.
    pub(super) fn take_rest(&mut self) -> &str {
        let start = self.at;
        while self.next_word().is_some() {}
        &self.text[start..self.at]
    }

    /// Words handed out so far.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// `length` if the limit cut the text short, else `stop`.
    pub(super) fn finish_reason(&self) -> &'static str {
        if self.at < self.text.len() { "length" } else { "stop" }
    }
}

/// Words in `text`; white space alone is one.
pub(super) fn count(text: &str) -> u64 {
    let mut rest = text;
    let mut words = 0;
    while !rest.is_empty() {
        rest = &rest[word_end(rest)..];
        words += 1;
    }
    words
}

fn word_end(text: &str) -> usize {
    let Some(start) = text.find(|c: char| !c.is_whitespace()) else { return text.len() };
    let Some(length) = text[start..].find(char::is_whitespace) else { return text.len() };
    let end = start + length;
    if text[end..].chars().all(char::is_whitespace) { text.len() } else { end }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(text: &str, limit: Option<u64>) -> (Vec<String>, &'static str) {
        let mut words = Words::new(text.to_owned(), limit);
        let mut found = Vec::new();
        while let Some(word) = words.next_word() {
            found.push(word.to_owned());
        }
        (found, words.finish_reason())
    }

    #[test]
    fn a_word_carries_the_space_before_it() {
        assert_eq!(
            all("to be  or\n", None),
            (vec!["to".into(), " be".into(), "  or\n".into()], "stop")
        );
        assert_eq!(all("", None), (vec![], "stop"));
        assert_eq!(count(" \n "), 1);
    }

    #[test]
    fn a_limit_that_cuts_is_told_from_one_that_just_suffices() {
        assert_eq!(all("a b c", Some(2)), (vec!["a".into(), " b".into()], "length"));
        assert_eq!(all("a b c", Some(3)).1, "stop");
        assert_eq!(all("a", Some(0)), (vec![], "length"));
    }

    proptest! {
        #[test]
        fn the_words_put_together_are_the_text(text in "[ \\na-cäöü€]{0,40}", limit in 0u64..9) {
            let (words, reason) = all(&text, Some(limit));
            let joined = words.concat();
            prop_assert!(text.starts_with(&joined));
            prop_assert_eq!(reason == "stop", joined == text);
            prop_assert!(words.len() as u64 <= limit);
            let mut again = Words::new(text.clone(), Some(limit));
            prop_assert_eq!(again.take_rest(), joined);
        }
    }
}
