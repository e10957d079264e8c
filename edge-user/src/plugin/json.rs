//! A JSON object's members in their order. What no step touches keeps its text, numbers to the last digit.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The members of an object: their names, and their values as text.
#[derive(Default)]
pub(super) struct Object(Vec<(String, Box<str>)>);

impl Object {
    /// Reads an object; nothing where the bytes are anything else.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    /// The object as JSON.
    pub(super) fn text(&self) -> String {
        let mut text = String::from("{");
        for (index, (name, value)) in self.0.iter().enumerate() {
            if index > 0 {
                text.push(',');
            }
            text.push_str(&string(name));
            text.push(':');
            text.push_str(value);
        }
        text.push('}');
        text
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A member's value; of several of one name the last counts, as for most readers.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(member, _)| member == name).map(|(_, value)| &**value)
    }

    /// Lets members of this name go.
    pub(super) fn remove(&mut self, name: &str) {
        self.0.retain(|(member, _)| member != name);
    }

    /// Gives a member its value, in its first place or at the end.
    pub(super) fn set(&mut self, name: &str, value: Box<str>) {
        match self.0.iter().position(|(member, _)| member == name) {
            None => self.0.push((name.to_owned(), value)),
            Some(at) => {
                self.0[at].1 = value;
                let mut place = 0..;
                self.0.retain(|(member, _)| place.next() <= Some(at) || member != name);
            }
        }
    }

    /// Gives a member another name, in its place; one that has that name goes.
    pub(super) fn rename(&mut self, old: &str, new: &str) {
        let Some(value) = self.get(old).map(Box::from) else { return };
        if old == new {
            return;
        }
        self.remove(new);
        self.set(old, value);
        if let Some((member, _)) = self.0.iter_mut().find(|(member, _)| member == old) {
            new.clone_into(member);
        }
    }
}

/// An array with the value at its end: of a string both, of an array one more, of anything else the value alone.
pub(super) fn appended(present: Option<&str>, value: &str) -> String {
    match present {
        Some(text) if text.starts_with('"') => format!("[{text},{value}]"),
        Some(array) if array.starts_with('[') => {
            let items = array[..array.len() - 1].trim_end();
            let comma = if items == "[" { "" } else { "," };
            format!("{items}{comma}{value}]")
        }
        _ => format!("[{value}]"),
    }
}

/// A text as a JSON string.
pub(super) fn string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut members = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
                    members.push((name, value.get().into()));
                }
                Ok(Object(members))
            }
        }

        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn objects_keep_order_and_digits() {
        for (text, expected) in [
            ("{}", Some("{}")),
            (" { \"b\" : 1.10 , \"a\" : { \"x\" : [ 1 ] } } ", Some("{\"b\":1.10,\"a\":{ \"x\" : [ 1 ] }}")),
            ("{\"n\":123456789012345678901234567890.5e3}", Some("{\"n\":123456789012345678901234567890.5e3}")),
            ("{\"\\u0061\\n\":1}", Some("{\"a\\n\":1}")),
            ("{\"a\":1,\"a\":2}", Some("{\"a\":1,\"a\":2}")),
            ("[]", None),
            ("1", None),
            ("", None),
            ("{\"a\":1", None),
            ("{\"a\":1}x", None),
            ("{\"a\":tru}", None),
            ("\u{1f}\u{8b}\u{8}", None),
        ] {
            assert_eq!(Object::parse(text.as_bytes()).map(|object| object.text()).as_deref(), expected, "{text}");
        }
        assert!(Object::parse(b"{\"a\":\"\xff\"}").is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_left(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Some(object) = Object::parse(&bytes) {
                prop_assert!(Object::parse(object.text().as_bytes()).is_some());
            }
        }

        #[test]
        fn what_no_step_touches_means_the_same(members in proptest::collection::vec((".*", ".*", any::<f64>()), 0..8)) {
            let members: serde_json::Map<_, _> = members
                .into_iter()
                .map(|(name, text, number)| (name, serde_json::json!([text, number, {"x": null}])))
                .collect();
            let value = serde_json::Value::from(members);
            let object = Object::parse(value.to_string().as_bytes()).expect("an object");
            prop_assert_eq!(object.text(), value.to_string());
        }
    }
}
