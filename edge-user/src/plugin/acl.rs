//! `acl`: lets callers pass by their groups: those of the consumer, or those the authenticating plugin gives.

use std::collections::HashSet;

use super::{Access, Answer, Caller, Request};
use crate::config::reader::Reader;
use crate::http::head::is_field_value;
use crate::reason::Reason;

/// As in the configuration.
pub const NAME: &str = "acl";
/// Kong's.
pub const PRIORITY: u32 = 950;

/// One configured instance.
pub struct Acl {
    groups: HashSet<Box<str>>,
    kind: Kind,
    hide_groups_header: bool,
    always_use_authenticated_groups: bool,
    include_consumer_groups: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Allow,
    Deny,
}

/// The groups that count, and the field that tells the upstream of them.
struct Groups<'c> {
    names: Vec<&'c str>,
    header: &'static [u8],
}

impl Acl {
    /// Reads the settings; problems go to the reader's sink.
    pub fn parse(mut config: Reader<'_>) -> Option<Self> {
        let problems = config.sink().count();
        let allow = config.strings("allow").filter(|groups| !groups.is_empty());
        let deny = config.strings("deny").filter(|groups| !groups.is_empty());
        let hide_groups_header = config.bool("hide_groups_header").unwrap_or(false);
        let always_use_authenticated_groups = config.bool("always_use_authenticated_groups").unwrap_or(false);
        let include_consumer_groups = config.bool("include_consumer_groups").unwrap_or(false);
        let sink = config.sink();
        let (kind, groups) = match (allow, deny) {
            (Some(groups), None) => (Kind::Allow, groups),
            (None, Some(groups)) => (Kind::Deny, groups),
            (allow, _) => {
                if sink.count() == problems {
                    let found = if allow.is_some() { "both" } else { "neither" };
                    let expected = "exactly one of these fields must be non-empty: 'config.allow', 'config.deny'";
                    sink.problem(config.line(), config.path(), found, expected);
                }
                (Kind::Allow, Vec::new())
            }
        };
        config.finish();
        (sink.count() == problems).then(|| Self {
            groups: groups.into_iter().map(Box::from).collect(),
            kind,
            hide_groups_header,
            always_use_authenticated_groups,
            include_consumer_groups,
        })
    }

    /// The access phase.
    pub fn access(&self, request: &mut Request<'_>) -> Access<'static> {
        let caller = &request.notes.caller;
        let Some(groups) = self.groups_of(caller) else {
            // A consumer in no group is in none that is denied; without one nobody knows who asks.
            return match (self.kind, &caller.consumer) {
                (Kind::Deny, Some(_)) => Access::Continue,
                _ if caller.is_authenticated() => forbidden(),
                _ => Access::Answer(Answer::error(401, Reason::CallerUnknown, "Unauthorized")),
            };
        };
        let listed = groups.names.iter().any(|name| self.groups.contains(*name));
        if listed != (self.kind == Kind::Allow) {
            return forbidden();
        }
        if !self.hide_groups_header {
            // A name that cannot stand in the list would read as something else there.
            let names = groups.names.iter().filter(|name| !name.contains(',') && is_field_value(name.as_bytes()));
            let value = names.copied().filter(|name| !name.is_empty()).collect::<Vec<_>>().join(", ");
            if !value.is_empty() {
                request.head.replace(groups.header, value.as_bytes());
            }
        } else {
            // The authenticating plugin told of them before.
            request.head.remove_named(groups.header);
        }
        Access::Continue
    }

    fn groups_of<'c>(&self, caller: &'c Caller) -> Option<Groups<'c>> {
        let authenticated = || {
            let names = caller.groups.as_ref()?.iter().map(|name| &**name).collect();
            Some(Groups { names, header: b"X-Authenticated-Groups" })
        };
        match caller.consumer.is_some() && caller.is_authenticated() && !self.always_use_authenticated_groups {
            true => self.consumer_groups(caller),
            false => authenticated().or_else(|| self.consumer_groups(caller)),
        }
    }

    /// The groups a consumer has for this plugin, and, where they count too, the caller's consumer groups.
    fn consumer_groups<'c>(&self, caller: &'c Caller) -> Option<Groups<'c>> {
        let acl_groups = caller.consumer.iter().flat_map(|consumer| &consumer.acl_groups);
        let mut names: Vec<&str> = acl_groups.map(|name| &**name).collect();
        if self.include_consumer_groups {
            for group in caller.consumer_groups() {
                if !names.contains(&&*group.name) {
                    names.push(&group.name);
                }
            }
        }
        (!names.is_empty()).then_some(Groups { names, header: b"X-Consumer-Groups" })
    }
}

fn forbidden() -> Access<'static> {
    Access::Answer(Answer::error(403, Reason::GroupNotAllowed, "You cannot consume this service"))
}

#[cfg(test)]
mod tests;
