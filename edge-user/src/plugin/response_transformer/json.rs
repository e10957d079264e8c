//! A JSON object's members in their order. What no step touches keeps its text, numbers to the last digit.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// What happens to one member; values are JSON texts.
pub(super) enum JsonStep {
    Remove(Box<str>),
    /// Old and new name.
    Rename(Box<str>, Box<str>),
    Replace(Box<str>, Box<str>),
    Add(Box<str>, Box<str>),
    Append(Box<str>, Box<str>),
}

/// The members of an object: their names, and their values as text.
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

    /// A member's value; of several of one name the last counts, as for most readers.
    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(member, _)| member == name).map(|(_, value)| &**value)
    }

    fn remove(&mut self, name: &str) {
        self.0.retain(|(member, _)| member != name);
    }

    /// Gives a member its value, in its first place or at the end.
    fn set(&mut self, name: &str, value: Box<str>) {
        match self.0.iter().position(|(member, _)| member == name) {
            None => self.0.push((name.to_owned(), value)),
            Some(at) => {
                self.0[at].1 = value;
                let mut place = 0..;
                self.0.retain(|(member, _)| place.next() <= Some(at) || member != name);
            }
        }
    }

    fn rename(&mut self, old: &str, new: &str) {
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

impl JsonStep {
    pub(super) fn apply(&self, object: &mut Object) {
        match self {
            Self::Remove(name) => object.remove(name),
            Self::Rename(old, new) => object.rename(old, new),
            Self::Replace(name, value) => {
                if object.get(name).is_some_and(|present| present != "false") {
                    object.set(name, value.clone());
                }
            }
            Self::Add(name, value) => {
                if object.get(name).is_none_or(|present| present == "false") {
                    object.set(name, value.clone());
                }
            }
            Self::Append(name, value) => {
                let appended = appended(object.get(name), value);
                object.set(name, appended.into());
            }
        }
    }
}

/// An array with the value at its end: of a string both, of an array one more, of anything else the value alone.
fn appended(present: Option<&str>, value: &str) -> String {
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

    fn check(object: &str, step: JsonStep, expected: &str) {
        let mut object = Object::parse(object.as_bytes()).expect("an object");
        step.apply(&mut object);
        assert_eq!(object.text(), expected);
    }

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

    #[test]
    fn each_step_does_what_kong_documents() {
        let remove = |name: &str| JsonStep::Remove(name.into());
        let rename = |old: &str, new: &str| JsonStep::Rename(old.into(), new.into());
        let replace = |name: &str, value: &str| JsonStep::Replace(name.into(), value.into());
        let add = |name: &str, value: &str| JsonStep::Add(name.into(), value.into());
        let append = |name: &str, value: &str| JsonStep::Append(name.into(), value.into());
        for (object, step, expected) in [
            (r#"{"a":1,"b":2,"a":3}"#, remove("a"), r#"{"b":2}"#),
            (r#"{"a":1}"#, remove("A"), r#"{"a":1}"#),
            (r#"{"a":null,"b":2}"#, rename("a", "c"), r#"{"c":null,"b":2}"#),
            (r#"{"a":1,"b":2}"#, rename("a", "b"), r#"{"b":1}"#),
            (r#"{"b":2}"#, rename("a", "b"), r#"{"b":2}"#),
            (r#"{"a":1,"b":2}"#, rename("a", "a"), r#"{"a":1,"b":2}"#),
            (r#"{"a":1,"x":0,"a":2}"#, rename("a", "b"), r#"{"b":2,"x":0}"#),
            (r#"{"a":1,"b":2}"#, replace("a", "\"x\""), r#"{"a":"x","b":2}"#),
            (r#"{"a":null}"#, replace("a", "2"), r#"{"a":2}"#),
            (r#"{"a":false}"#, replace("a", "2"), r#"{"a":false}"#),
            (r#"{"a":1,"b":0,"a":2}"#, replace("a", "3"), r#"{"a":3,"b":0}"#),
            (r#"{}"#, replace("a", "2"), r#"{}"#),
            (r#"{}"#, add("a", "true"), r#"{"a":true}"#),
            (r#"{"a":false}"#, add("a", "1"), r#"{"a":1}"#),
            (r#"{"a":null}"#, add("a", "1"), r#"{"a":null}"#),
            (r#"{"a":"x"}"#, append("a", "\"y\""), r#"{"a":["x","y"]}"#),
            (r#"{"a":[1.50, 2 ]}"#, append("a", "3"), r#"{"a":[1.50, 2,3]}"#),
            (r#"{"a":[ ]}"#, append("a", "3"), r#"{"a":[3]}"#),
            (r#"{"a":7}"#, append("a", "3"), r#"{"a":[3]}"#),
            (r#"{}"#, append("a", "3"), r#"{"a":[3]}"#),
        ] {
            check(object, step, expected);
        }
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
