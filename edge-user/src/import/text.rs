//! Texts of rules and profiles: words with parts that stand for something of the request.

use super::gaps;
use crate::plugin::fields::is_header_name;

/// A part of a text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Part {
    /// Itself.
    Text(String),
    /// The host that the client asked for.
    Host,
    /// Path and query.
    Uri,
    /// The path.
    Path,
    /// The query.
    Query,
    /// The method.
    Method,
    /// The client's address.
    Client,
    /// A field of the request.
    Header(String),
    /// What a data group has for something: the subject, how it is compared, and the group.
    Lookup(Box<Text>, String, String),
    /// Something of which the edge knows nothing, and why.
    Other(String),
}

/// A text.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Text {
    /// In their order.
    pub(super) parts: Vec<Part>,
    /// Whether capitals became small letters.
    pub(super) lower: bool,
}

impl Text {
    /// A text that is the same for each request.
    pub(super) fn plain(text: &str) -> Self {
        Self { parts: vec![Part::Text(text.to_owned())], lower: false }
    }

    /// Of one part.
    pub(super) fn of(part: Part) -> Self {
        Self { parts: vec![part], lower: false }
    }

    /// The text, where it is the same for each request.
    pub(super) fn constant(&self) -> Option<String> {
        let texts: Option<Vec<&str>> = self
            .parts
            .iter()
            .map(|part| match part {
                Part::Text(text) => Some(text.as_str()),
                _ => None,
            })
            .collect();
        let text = texts?.concat();
        Some(if self.lower { text.to_lowercase() } else { text })
    }

    /// The text in the language of request-transformer's values.
    pub(super) fn template(&self) -> Result<String, String> {
        if let Some(text) = self.constant() {
            return match text.contains("$(") {
                true => Err("`$(` begins a template of request-transformer".to_owned()),
                false => Ok(text),
            };
        }
        if self.lower {
            return Err(gaps::profile("small letters made of a request's"));
        }
        let mut template = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) if text.contains("$(") => {
                    return Err("`$(` begins a template of request-transformer".to_owned());
                }
                Part::Text(text) => template.push_str(text),
                Part::Host => template.push_str("$(headers.host)"),
                Part::Header(name) if !is_header_name(name) => return Err(format!("{name:?} is no name of a field")),
                Part::Header(name) => template.push_str(&format!("$(headers[\"{name}\"])")),
                Part::Uri | Part::Path | Part::Query => return Err(gaps::profile("the request's path in a value")),
                Part::Method => return Err(gaps::profile("the request's method in a value")),
                Part::Client => return Err(gaps::profile("the client's address in a value")),
                Part::Lookup(..) => return Err("what a data group has for a request, in a value".to_owned()),
                Part::Other(why) => return Err(why.clone()),
            }
        }
        Ok(template)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_hold_what_request_transformer_knows() {
        let text = |parts: Vec<Part>| Text { parts, lower: false };
        for (text, expected) in [
            (text(vec![Part::Text("a".into()), Part::Text("b".into())]), Ok("ab")),
            (text(vec![Part::Text("x-".into()), Part::Host]), Ok("x-$(headers.host)")),
            (text(vec![Part::Header("x-id".into())]), Ok("$(headers[\"x-id\"])")),
            (text(vec![Part::Client]), Err("http-profile")),
            (Text::plain("$(x)"), Err("template")),
        ] {
            match (text.template(), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected),
                (Err(found), Err(expected)) => assert!(found.contains(expected), "{found}"),
                (found, _) => panic!("{text:?}: {found:?}"),
            }
        }
    }
}
