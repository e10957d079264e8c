//! What happens to the members of a JSON body.

use crate::plugin::json::{Object, appended};

/// What happens to one member; values are JSON texts.
pub(super) enum JsonStep {
    Remove(Box<str>),
    /// Old and new name.
    Rename(Box<str>, Box<str>),
    Replace(Box<str>, Box<str>),
    Add(Box<str>, Box<str>),
    Append(Box<str>, Box<str>),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn check(object: &str, step: JsonStep, expected: &str) {
        let mut object = Object::parse(object.as_bytes()).expect("an object");
        step.apply(&mut object);
        assert_eq!(object.text(), expected);
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
}
