//! `response-transformer`: removes, renames, replaces, adds and appends fields of a response and members of its JSON
//! body. `settings.rs` reads the steps, `steps.rs` takes those of a body.

mod settings;
mod steps;

use self::steps::JsonStep;
use super::Response;
use super::json::Object;
use crate::config::reader::Reader;
use crate::http::h1::parse::list;
use crate::http::head::{Head, Known, Owner};

/// As in the configuration.
pub const NAME: &str = "response-transformer";
/// Kong's.
pub const PRIORITY: u32 = 800;

/// One configured instance.
pub struct ResponseTransformer {
    headers: Box<[HeaderStep]>,
    json: Box<[JsonStep]>,
}

/// What happens to one field, in the order in which it happens.
enum HeaderStep {
    Remove(Box<str>),
    /// Old and new name.
    Rename(Box<str>, Box<str>),
    Replace(Box<str>, Box<str>),
    Add(Box<str>, Box<str>),
    Append(Box<str>, Box<str>),
}

/// What stood in the head before the first step: of a field that is renamed, its values.
enum Before {
    Absent,
    Present,
    Values(Vec<Vec<u8>>),
}

impl ResponseTransformer {
    /// Reads the settings; problems go to the reader's sink.
    pub fn parse(config: Reader<'_>) -> Option<Self> {
        settings::parse(config)
    }

    /// The response phase. Every step goes by what stood in the head before the first one.
    pub fn respond(&self, response: &mut Response<'_>) {
        let before: Vec<Before> = self.headers.iter().map(|step| step.look(response.head)).collect();
        for (step, before) in self.headers.iter().zip(before) {
            step.apply(response.head, before);
        }
    }

    /// Whether the body is JSON and something is to happen to it.
    pub fn rewrites_body(&self, response: &Head) -> bool {
        !self.json.is_empty() && response.get(Known::ContentType).is_some_and(is_json)
    }

    /// The body after all steps, nothing where it is no JSON object.
    pub fn rewrite_body(&self, body: &[u8]) -> Option<Vec<u8>> {
        let Some(mut object) = Object::parse(body) else {
            tracing::warn!(bytes = body.len(), "response-transformer: the body is no JSON object and stays as it is");
            return None;
        };
        for step in &self.json {
            step.apply(&mut object);
        }
        Some(object.text().into_bytes())
    }
}

impl HeaderStep {
    fn look(&self, head: &Head) -> Before {
        let values = |name: &str| {
            let name = name.as_bytes().to_owned();
            head.fields().filter(move |field| field.name.eq_ignore_ascii_case(&name)).map(|field| field.value)
        };
        match self {
            Self::Rename(old, _) if values(old).next().is_some() => {
                Before::Values(values(old).map(<[u8]>::to_vec).collect())
            }
            Self::Replace(name, _) | Self::Add(name, _) if values(name).next().is_some() => Before::Present,
            _ => Before::Absent,
        }
    }

    fn apply(&self, head: &mut Head, before: Before) {
        match (self, before) {
            (Self::Remove(name), _) => head.remove_named(name.as_bytes()),
            (Self::Rename(old, new), Before::Values(values)) => {
                head.remove_named(old.as_bytes());
                head.remove_named(new.as_bytes());
                for value in values {
                    head.push(Owner::Edge, new.as_bytes(), &value);
                }
            }
            (Self::Replace(name, value), Before::Present) | (Self::Add(name, value), Before::Absent) => {
                head.replace(name.as_bytes(), value.as_bytes());
            }
            (Self::Append(name, value), _) => head.push(Owner::Edge, name.as_bytes(), value.as_bytes()),
            (Self::Rename(..) | Self::Replace(..) | Self::Add(..), _) => {}
        }
    }
}

fn is_json(content_type: &[u8]) -> bool {
    list(content_type).any(|member| {
        let media_type = member.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        let media_type = media_type.to_ascii_lowercase();
        let subtype = media_type.strip_prefix(b"application/");
        subtype.is_some_and(|subtype| subtype == b"json" || (subtype.len() > 5 && subtype.ends_with(b"+json")))
    })
}

#[cfg(test)]
mod tests;
