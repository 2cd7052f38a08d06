//! A look at a JSON text before it is parsed: how deep it nests and how many objects it makes.
//!
//! Parsing turns each object into a struct many times its size, so that their number, not the size of
//! the text, is what memory depends on.

use crate::limits::{JSON_DEPTH_MAX, JSON_OBJECTS_MAX, Limit};

/// What is too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ScanError {
    /// Nested too deep.
    #[error("nested deeper than {JSON_DEPTH_MAX}")]
    Depth,
    /// Too many objects.
    #[error("more than {JSON_OBJECTS_MAX} objects")]
    Objects,
}

/// Passes every text that is within both limits, JSON or not.
pub(super) fn scan(text: &[u8]) -> Result<(), ScanError> {
    walk(text, JSON_OBJECTS_MAX)
}

/// The same for a text of which no structs are made: only the depth counts.
pub(super) fn scan_depth(text: &[u8]) -> Result<(), ScanError> {
    walk(text, usize::MAX)
}

fn walk(text: &[u8], objects_limit: usize) -> Result<(), ScanError> {
    let (mut depth, mut objects) = (0usize, 0usize);
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => skip_string(&mut bytes),
            b'{' | b'[' => {
                depth += 1;
                objects += usize::from(*byte == b'{');
                if depth > JSON_DEPTH_MAX {
                    Limit::JsonDepth.reached();
                    return Err(ScanError::Depth);
                }
                if objects > objects_limit {
                    Limit::JsonObjects.reached();
                    return Err(ScanError::Objects);
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

fn skip_string(bytes: &mut std::slice::Iter<'_, u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            b'\\' => {
                bytes.next();
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn depth_of(value: &Value) -> usize {
        match value {
            Value::Array(items) => 1 + items.iter().map(depth_of).max().unwrap_or(0),
            Value::Object(fields) => 1 + fields.values().map(depth_of).max().unwrap_or(0),
            _ => 0,
        }
    }

    #[test]
    fn the_deepest_that_is_allowed_passes_and_one_more_does_not() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert_eq!(scan(nested(JSON_DEPTH_MAX).as_bytes()), Ok(()));
        assert_eq!(scan(nested(JSON_DEPTH_MAX + 1).as_bytes()), Err(ScanError::Depth));
        assert_eq!(scan("{".repeat(100_000).as_bytes()), Err(ScanError::Depth));
    }

    #[test]
    fn too_many_objects_are_refused() {
        let many = |n: usize| format!("[{}]", "{},".repeat(n));
        assert_eq!(scan(many(JSON_OBJECTS_MAX).as_bytes()), Ok(()));
        assert_eq!(scan(many(JSON_OBJECTS_MAX + 1).as_bytes()), Err(ScanError::Objects));
    }

    #[test]
    fn brackets_in_strings_do_not_count() {
        let text = json!({"a\"[[[\\": "{".repeat(1_000), "b": "\\\""}).to_string();
        assert_eq!(scan(text.as_bytes()), Ok(()));
        assert_eq!(scan(b"\"unfinished [\\"), Ok(()));
    }

    fn tree() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![".*".prop_map(Value::String), any::<bool>().prop_map(Value::Bool)];
        leaf.prop_recursive(80, 120, 2, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..2).prop_map(Value::Array),
                (".*", inner).prop_map(|(key, value)| json!({ key: value })),
            ]
        })
    }

    proptest! {
        #[test]
        fn it_judges_as_a_parser_would(value in tree()) {
            let fits = depth_of(&value) <= JSON_DEPTH_MAX;
            prop_assert_eq!(scan(value.to_string().as_bytes()).is_ok(), fits);
        }

        #[test]
        fn no_bytes_break_it(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
            let _ = scan(&bytes);
        }
    }
}
