//! What a route requires of a claim: values and words that it must hold.

use std::fmt;

use crate::token::json::{Kind, Value};

/// How a string claim is read in a comparison.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reading {
    /// A string is one value, as for `aud` (RFC 7519, 4.1.3).
    Whole,
    /// A string is a list of words between spaces, as for `scope` (RFC 6749, 3.3).
    Words,
}

/// Whether a claim holds this value. An array must be one of strings, each a whole value; other types hold nothing.
pub fn holds(claim: Value<'_>, wanted: &str, reading: Reading) -> bool {
    match claim.kind() {
        Kind::Text if reading == Reading::Whole => claim.is(wanted),
        Kind::Text => claim.raw().split(' ').any(|word| word == wanted),
        Kind::Escaped if reading == Reading::Whole => claim.is(wanted),
        Kind::Escaped => claim.text().is_some_and(|text| text.split(' ').any(|word| word == wanted)),
        Kind::Array => claim.items().all(Value::is_text) && claim.items().any(|item| item.is(wanted)),
        _ => false,
    }
}

/// The strings of a claim: those of an array, or the words of a text. Other types are no such claim.
pub fn texts(claim: Value<'_>) -> Option<Vec<Box<str>>> {
    match claim.kind() {
        Kind::Array => claim.items().map(|item| item.text().map(|text| text.into())).collect(),
        _ => claim.text().map(|text| text.split_ascii_whitespace().map(Box::from).collect()),
    }
}

/// Alternatives of which one must hold; each is a set of words that must all be there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Required(Box<[Box<[Box<str>]>]>);

impl Required {
    /// From Kong's spelling: elements are alternatives, words within one belong together.
    pub fn new<S: AsRef<str>>(elements: impl IntoIterator<Item = S>) -> Self {
        let words = |element: S| element.as_ref().split_ascii_whitespace().map(Box::from).collect();
        Self(elements.into_iter().map(words).collect())
    }

    /// Whether the claim satisfies one alternative.
    pub fn met_by(&self, claim: Option<Value<'_>>, reading: Reading) -> bool {
        let Some(claim) = claim else { return false };
        self.0.iter().any(|all| !all.is_empty() && all.iter().all(|word| holds(claim, word, reading)))
    }
}

/// The words of each alternative, quoted.
impl fmt::Display for Required {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = |all: &[Box<str>]| all.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(" and ");
        let several = self.0.iter().any(|all| all.len() > 1);
        f.write_str(&self.0.iter().map(|all| words(all)).collect::<Vec<_>>().join(if several {
            ", or "
        } else {
            " or "
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::claims::{ClaimPath, Facts};

    fn met(claims: &str, path: &[&str], wanted: &[&str], reading: Reading) -> bool {
        let facts = Facts::parse(claims.as_bytes().to_vec(), "").expect("claims");
        Required::new(wanted).met_by(facts.claim(&ClaimPath::new(path)), reading)
    }

    #[test]
    fn audience_is_an_exact_string_alone_or_in_an_array() {
        // T33
        for (aud, good) in [
            ("\"api\"", true),
            ("[\"api\"]", true),
            ("[\"other\",\"api\"]", true),
            ("\"a\\u0070i\"", true),
            ("\"api2\"", false),
            ("\"ap\"", false),
            ("\"API\"", false),
            ("\"api other\"", false),
            ("\"api \"", false),
            ("null", false),
            ("{\"api\":1}", false),
            ("[]", false),
            ("[[\"api\"]]", false),
            ("[\"api\",1]", false),
            ("1", false),
        ] {
            assert_eq!(met(&format!("{{\"aud\":{aud}}}"), &["aud"], &["api"], Reading::Whole), good, "{aud}");
        }
        assert!(!met("{}", &["aud"], &["api"], Reading::Whole));
        assert!(met("{\"aud\":\"b\"}", &["aud"], &["a", "b"], Reading::Whole));
    }

    #[test]
    fn scopes_are_whole_words_with_and_within_or_between() {
        // T34
        for (scope, wanted, good) in [
            ("\"read write\"", &["read"][..], true),
            ("\"read write\"", &["write read"], true),
            ("\"read\"", &["read write"], false),
            ("\"read\"", &["write", "read"], true),
            ("\"read:all\"", &["read"], false),
            ("\"pread\"", &["read"], false),
            ("\"Read\"", &["read"], false),
            ("\"read\\tall\"", &["read"], false),
            ("[\"read\",\"write\"]", &["read write"], true),
            ("[\"read write\"]", &["read"], false),
            ("[\"read\",1]", &["read"], false),
            ("{\"read\":true}", &["read"], false),
            ("true", &["true"], false),
            ("1", &["1"], false),
            ("null", &["null"], false),
            ("\"\"", &[""], false),
            ("\"read\"", &[], false),
        ] {
            assert_eq!(met(&format!("{{\"scope\":{scope}}}"), &["scope"], wanted, Reading::Words), good, "{scope}");
        }
        assert!(met("{\"realm_access\":{\"roles\":[\"a\"]}}", &["realm_access", "roles"], &["a"], Reading::Words));
    }
}
