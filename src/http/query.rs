//! Query strings: every key is known, comes once, and has a value that makes sense; or it is a 400
//! that says what is allowed.

use super::error::HttpError;
use actix_web::web::Query;
use std::str::FromStr;

/// All pairs, in order.
pub fn pairs(query: &str, allowed: &[&str]) -> Result<Vec<(String, String)>, HttpError> {
    let pairs = Query::<Vec<(String, String)>>::from_query(query)
        .map_err(|error| bad(format!("the query cannot be read: {error}")))?
        .into_inner();
    for (i, (key, _)) in pairs.iter().enumerate() {
        if !allowed.contains(&key.as_str()) {
            let allowed = if allowed.is_empty() { "none".into() } else { allowed.join(", ") };
            return Err(bad(format!("{}: unknown query key, allowed: {allowed}", shown(key))));
        }
        if pairs[..i].iter().any(|(earlier, _)| earlier == key) {
            return Err(bad(format!("{key}: given twice, allowed: once")));
        }
    }
    Ok(pairs)
}

/// A value of another type.
pub fn parsed<T: FromStr>(key: &str, value: &str, allowed: &str) -> Result<T, HttpError> {
    value.parse().map_err(|_| bad_value(key, value, allowed))
}

/// A value that is not allowed.
pub fn bad_value(key: &str, value: &str, allowed: &str) -> HttpError {
    bad(format!("{key}: {} is not allowed, allowed: {allowed}", shown(value)))
}

fn shown(text: &str) -> String {
    format!("{:?}", text.chars().take(64).collect::<String>())
}

fn bad(message: String) -> HttpError {
    HttpError::bad_request("invalid_query", message)
}
