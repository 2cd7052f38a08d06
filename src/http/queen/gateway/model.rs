//! Reads from a request's body what the queen needs to know: the model. All else is the worker's.

use crate::http::{error::HttpError, queen::scan::scan_depth};
use crate::limits::{GATEWAY_MODEL_MAX, Limit};
use serde::Deserialize;
use std::borrow::Cow;

/// A name without escapes is not copied.
#[derive(Deserialize)]
struct Asked<'a> {
    #[serde(borrow, default)]
    model: Cow<'a, str>,
}

pub(super) fn read(body: &[u8]) -> Result<Cow<'_, str>, HttpError> {
    let wrong = |message: String| HttpError::bad_request("invalid_json", message);
    scan_depth(body).map_err(|error| wrong(format!("the body with `model` is {error}")))?;
    // serde would take an array for a struct, too.
    if body.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err(wrong("the body must be a JSON object with `model`".into()));
    }
    let asked: Asked<'_> = serde_json::from_slice(body).map_err(|error| {
        wrong(format!(
            "the body must be a JSON object with `model`, a string: not so at line {} column {}",
            error.line(),
            error.column()
        ))
    })?;
    match asked.model.len() {
        0 => Err(HttpError::bad_request("missing_model", "`model` is required, and not empty")),
        1..=GATEWAY_MODEL_MAX => Ok(asked.model),
        _ => {
            Limit::GatewayModel.reached();
            let message = format!("`model` is longer than {GATEWAY_MODEL_MAX} bytes");
            Err(HttpError::bad_request("invalid_model", message))
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test says what it expects")]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn the_model_is_found_among_all_else_and_not_copied() {
        let body = br#" {"messages":[{"role":"user","content":"model"}],"model":"m/1","n":1e999}"#;
        assert!(matches!(read(body).unwrap(), Cow::Borrowed("m/1")));
        assert_eq!(read(br#"{"model":"a\u0062"}"#).unwrap(), "ab");
    }

    #[test]
    fn every_refusal_names_the_model() {
        let (long, deep) = ("m".repeat(GATEWAY_MODEL_MAX + 1), "[".repeat(65));
        let long = json!({ "model": long }).to_string();
        for body in [
            "",
            "nonsense",
            "[\"m\"]",
            "\"m\"",
            "null",
            "{",
            "{}",
            "{\"model\":\"\"}",
            "{\"model\":1}",
            "{\"model\":null}",
            "{\"model\":\"a\",\"model\":\"b\"}",
            "{\"model\":\"a\"} x",
            &long,
            &deep,
        ] {
            let error = read(body.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("`model`") && error.len() < 300, "{body:.40}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_name_comes_out_as_it_went_in(name in ".{1,40}", other in ".*") {
            let body = json!({ "a": other, "model": name, "z": [other] }).to_string();
            prop_assert_eq!(read(body.as_bytes()).unwrap(), name);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
        }
    }

    #[test]
    fn fuzz_gateway_model() {
        crate::fuzz::fuzz("gateway-model", |bytes| match read(bytes) {
            Err(error) => assert!(error.to_string().len() < 300, "{error}"),
            Ok(model) => {
                let whole: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
                // A number too large for a Value is none for us to judge.
                assert!(whole.is_null() || whole["model"] == *model, "{model:?}");
            }
        });
    }
}
