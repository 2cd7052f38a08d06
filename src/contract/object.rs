//! What is an object in the contract is read from an object only. serde would take an array for a struct,
//! field by field in their order.

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, MapAccess, Visitor, value::MapAccessDeserializer},
};
use std::{fmt, marker::PhantomData};

/// One object.
pub(super) fn one<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    Object::deserialize(deserializer).map(|object| object.0)
}

/// An object or `null`.
pub(super) fn optional<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    let object: Option<Object<T>> = Option::deserialize(deserializer)?;
    Ok(object.map(|object| object.0))
}

/// A list of objects.
pub(super) fn list<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    let objects: Vec<Object<T>> = Vec::deserialize(deserializer)?;
    Ok(objects.into_iter().map(|object| object.0).collect())
}

struct Object<T>(T);

impl<'de, T: DeserializeOwned> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(OnlyMap(PhantomData)).map(Self)
    }
}

struct OnlyMap<T>(PhantomData<T>);

impl<'de, T: DeserializeOwned> Visitor<'de> for OnlyMap<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test says what it expects")]
mod tests {
    use crate::contract::{HiveHeartbeat, NodeStats, WorkerReport};

    #[test]
    fn an_array_is_no_object() {
        let worker = |more: &str| {
            serde_json::from_str::<WorkerReport>(&format!(
                r#"{{"group":"a","instance":"b",{more}}}"#
            ))
        };
        assert!(worker(r#""pressure":{"io":1.0},"gpus":[{"uuid":"x"}],"last_exit":null"#).is_ok());
        for wrong in [r#""pressure":[null,null]"#, r#""gpus":[[]]"#, r#""last_exit":[]"#] {
            assert!(
                worker(wrong).unwrap_err().to_string().contains("expected an object"),
                "{wrong}"
            );
        }
        for wrong in [r#"{"rbee":[1,2]}"#, r#"{"gpus":[["0"]]}"#] {
            assert!(serde_json::from_str::<NodeStats>(wrong).is_err(), "{wrong}");
        }
        let heartbeat = |hive: &str, workers: &str| {
            let text = format!(r#"{{"hive":{hive},"timestamp":"t","workers":{workers}}}"#);
            serde_json::from_str::<HiveHeartbeat>(&text)
        };
        let hive = r#"{"id":"h","hostname":"x","port":1}"#;
        assert!(heartbeat(hive, "[]").is_ok());
        assert!(heartbeat(r#"["h","x",1]"#, "[]").is_err());
        assert!(heartbeat(hive, r#"[["h","a","b"]]"#).is_err());
    }
}
