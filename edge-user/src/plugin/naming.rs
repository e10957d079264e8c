//! Claims by their paths and the consumers that they name, as more than one plugin reads them; and how an upstream is told
//! of a consumer.

use crate::config::reader::Reader;
use crate::config::snapshot::{Consumer, Consumers};
use crate::config::value;
use crate::http::head::{Head, Owner, is_field_value};
use crate::token::claims::ClaimPath;
use crate::token::json::{Kind, Value};
use std::borrow::Cow;
use std::sync::Arc;

/// A field of a consumer that a claim may name it by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ConsumerField {
    Id,
    Username,
    CustomId,
}

impl ConsumerField {
    /// Reads `…_by`: the fields in the order in which they are tried. It is `used` where a claim is configured.
    pub(super) fn read(config: &mut Reader<'_>, key: &'static str, used: bool) -> Box<[Self]> {
        let words = [Self::Id, Self::Username, Self::CustomId].map(|field| (field.name(), field));
        let Some(fields) = config.words(key, &words) else { return [Self::Username, Self::CustomId].into() };
        if fields.is_empty() && used {
            config.problem(key, "an empty list", "at least one of: id, username, custom_id");
        }
        fields.into()
    }

    /// As the configuration calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Username => "username",
            Self::CustomId => "custom_id",
        }
    }

    /// Several, in words.
    pub(super) fn names(fields: &[Self]) -> String {
        fields.iter().map(|field| field.name()).collect::<Vec<_>>().join(" or ")
    }

    /// The consumer with this text in this field.
    pub(super) fn find<'c>(self, text: &str, consumers: &'c Consumers) -> Option<&'c Arc<Consumer>> {
        match self {
            Self::Id => consumers.by_id(text),
            Self::Username => consumers.by_username(text),
            Self::CustomId => consumers.by_custom_id(text),
        }
    }
}

/// The text of a claim that names someone: a string that is not empty, or a whole number. Other types name nobody.
pub(super) fn name(claim: Value<'_>) -> Option<Cow<'_, str>> {
    match claim.kind() {
        Kind::Number if claim.raw().bytes().all(|byte| byte.is_ascii_digit()) => Some(Cow::Borrowed(claim.raw())),
        _ => claim.text().filter(|text| !text.is_empty()),
    }
}

/// Reads a claim path: names from the outermost to the innermost.
pub(super) fn claim_path(config: &mut Reader<'_>, key: &'static str) -> Option<ClaimPath> {
    let names = config.strings_lenient(key)?;
    if names.is_empty() {
        config.problem(key, "an empty list", "nothing, or the names that lead to the claim");
        return None;
    }
    Some(ClaimPath::new(names))
}

/// Reads a list of claim paths.
pub(super) fn claim_paths(config: &mut Reader<'_>, key: &'static str) -> Option<Box<[ClaimPath]>> {
    let value = config.raw(key)?;
    let paths = match &value.kind {
        value::Kind::Array(paths) => paths.iter().map(path_of).collect::<Option<_>>(),
        _ => None,
    };
    if paths.is_none() {
        let expected = "claim paths, such as [[\"sub\"], [\"realm_access\", \"roles\"]]";
        config.problem(key, "no list of claim paths", expected);
    }
    paths
}

fn path_of(value: &value::Value) -> Option<ClaimPath> {
    let value::Kind::Array(items) = &value.kind else { return None };
    let name = |item: &value::Value| match &item.kind {
        value::Kind::String(text) if !text.is_empty() => Some(text.clone()),
        _ => None,
    };
    let names = items.iter().map(name).collect::<Option<Vec<_>>>()?;
    (!names.is_empty()).then(|| ClaimPath::new(names))
}

/// Tells the upstream of a consumer, in Kong's fields. A value that cannot stand in a field is left out rather than
/// changed (T35).
pub(super) fn tell_consumer(head: &mut Head, consumer: &Consumer) {
    let mut push = |name: &str, value: &str| head.push(Owner::Edge, name.as_bytes(), value.as_bytes());
    let mut id = [0; uuid::fmt::Hyphenated::LENGTH];
    push("X-Consumer-ID", consumer.id.hyphenated().encode_lower(&mut id));
    for (name, value) in [("X-Consumer-Custom-ID", &consumer.custom_id), ("X-Consumer-Username", &consumer.username)] {
        if let Some(value) = value.as_deref().filter(|value| is_field_value(value.as_bytes())) {
            push(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::claims::Facts;

    #[test]
    fn names_are_texts_and_whole_numbers() {
        for (claim, expected) in [
            (r#""ann""#, Some("ann")),
            (r#""a\u006en""#, Some("ann")),
            ("1001", Some("1001")),
            ("1e3", None),
            ("-1", None),
            ("1.5", None),
            (r#""""#, None),
            ("true", None),
            ("[\"ann\"]", None),
            ("{}", None),
            ("null", None),
        ] {
            let facts = Facts::parse(format!("{{\"c\":{claim}}}").into_bytes(), "").expect("claims");
            let claim = facts.claim(&ClaimPath::new(["c"])).expect("it is there");
            assert_eq!(name(claim).as_deref(), expected);
        }
    }
}
