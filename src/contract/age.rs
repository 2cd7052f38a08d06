//! An age that goes on: of what is kept, without anybody having to touch it.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{
    borrow::Cow,
    time::{Duration, Instant},
};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{RefOr, Schema},
};

/// Milliseconds on the wire. It is as old as it was when it was read, and the time since then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Age {
    told_ms: u64,
    counted_from: Option<Instant>,
}

impl Age {
    /// Of what came to be then.
    pub fn since(birth: Instant) -> Self {
        Self { told_ms: 0, counted_from: Some(birth) }
    }

    /// By now, ms.
    pub fn ms(self) -> u64 {
        let since = self.counted_from.map_or(Duration::ZERO, |from| from.elapsed());
        self.told_ms.saturating_add(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

impl Serialize for Age {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.ms())
    }
}

impl<'de> Deserialize<'de> for Age {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let told_ms = u64::deserialize(deserializer)?;
        Ok(Self { told_ms, counted_from: Some(Instant::now()) })
    }
}

impl PartialSchema for Age {
    fn schema() -> RefOr<Schema> {
        u64::schema()
    }
}

impl ToSchema for Age {
    fn name() -> Cow<'static, str> {
        "Age".into()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test says what it expects")]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_grows_older() {
        let birth = Instant::now() - Duration::from_millis(60);
        assert!(Age::since(birth).ms() >= 60);
        let told: Age = serde_json::from_str("40").unwrap();
        let kept = Age { counted_from: Some(birth), ..told };
        assert!(kept.ms() >= 100);
        assert_eq!(Age::default().ms(), 0, "of nothing");
    }

    #[test]
    fn no_age_overflows() {
        let oldest: Age = serde_json::from_str(&u64::MAX.to_string()).unwrap();
        assert_eq!(serde_json::to_string(&oldest).unwrap(), u64::MAX.to_string());
    }
}
