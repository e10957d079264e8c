//! A second reader of JSON, which tells whether any object names a member twice.

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// Reads JSON in which no object names a member twice; nothing where a number is beyond this reader's, not the edge's.
pub fn read(bytes: &[u8]) -> Option<serde_json::Value> {
    let beyond = |error: &serde_json::Error| error.to_string().starts_with("number out of range");
    match serde_json::from_slice::<Unique>(bytes) {
        Ok(Unique) => Some(serde_json::from_slice(bytes).expect("it was read before")),
        Err(error) if beyond(&error) => None,
        Err(error) => panic!("accepted, but no JSON with each member once: {error}"),
    }
}

/// JSON without repeated members, at any depth.
struct Unique;

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Walk)
    }
}

struct Walk;

impl<'de> Visitor<'de> for Walk {
    type Value = Unique;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_str<E>(self, _: &str) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Unique, A::Error> {
        while items.next_element::<Unique>()?.is_some() {}
        Ok(Unique)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Unique, A::Error> {
        let mut names = Vec::new();
        while let Some((name, _)) = members.next_entry::<String, Unique>()? {
            if names.contains(&name) {
                return Err(de::Error::custom("repeated member"));
            }
            names.push(name);
        }
        Ok(Unique)
    }
}
