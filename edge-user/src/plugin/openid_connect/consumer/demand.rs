//! Whom the mapping wants, and whom it found, in words: for `edge explain`.

use super::{ConsumerMapping, Mapping, Sources};
use crate::plugin::Caller;
use crate::plugin::naming::ConsumerField;
use crate::token::claims::ClaimPath;
use crate::token::explain::{quote, quote_value};
use crate::trace::Check;

/// A claim by its path, in the first source that has it.
pub(super) fn claim(sources: &Sources<'_>, path: &ClaimPath) -> String {
    format!("{path} {}", quote_value(sources.find(path)))
}

/// A caller's consumer as an operator calls it.
pub(in super::super) fn named(caller: &Caller) -> String {
    let Some(consumer) = &caller.consumer else { return "no consumer".to_owned() };
    let name = consumer.username.as_deref().or(consumer.custom_id.as_deref());
    name.map_or_else(|| format!("consumer {}", consumer.id), |name| format!("consumer {name:?}"))
}

/// Whom a request stands for, as an operator calls it; nothing where it stands for nobody.
pub fn caller_text(caller: &Caller) -> Option<String> {
    let consumer = caller.consumer.as_ref().map(|_| named(caller));
    let credential = caller.credential.as_deref().map(|credential| format!("credential {}", quote(credential)));
    let groups: Vec<String> = caller.consumer_groups().map(|group| format!("group {:?}", group.name)).collect();
    let all: Vec<String> = consumer.into_iter().chain(credential).chain(groups).collect();
    (!all.is_empty()).then(|| all.join(", "))
}

impl Mapping {
    /// What the configuration wants of a check; nothing where it wants nothing.
    pub(in super::super) fn demand(&self, check: Check) -> Option<String> {
        let or_none = |optional: bool| if optional { ", or none" } else { "" };
        match check {
            Check::Consumer => self.consumer.as_ref().map(|mapping| {
                let paths: Vec<_> = mapping.paths.iter().map(ToString::to_string).collect();
                let by = ConsumerField::names(&mapping.by);
                format!("a consumer whose {by} is {}{}", paths.join(" or "), or_none(mapping.optional))
            }),
            Check::ConsumerGroups => {
                let of = |path: &ClaimPath, optional| format!("a consumer group named in {path}{}", or_none(optional));
                self.groups.as_ref().map(|mapping| of(&mapping.path, mapping.optional))
            }
            Check::Anonymous => {
                self.anonymous.as_ref().map(|key| format!("who cannot be told passes as consumer {key:?}"))
            }
            _ => None,
        }
    }
}

impl ConsumerMapping {
    pub(super) fn found(&self, sources: &Sources<'_>, caller: &Caller) -> String {
        let path = self.paths.iter().find(|path| sources.find(path).is_some()).or(self.paths.first());
        let claim = path.map(|path| claim(sources, path)).unwrap_or_default();
        format!("{}, {claim}", named(caller))
    }
}
