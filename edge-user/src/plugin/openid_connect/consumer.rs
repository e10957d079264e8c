//! Whom a verified token stands for: consumer, credential, consumer groups and the groups of `acl`; or nobody, under
//! `anonymous`.

mod demand;

pub use demand::caller_text;
pub(super) use demand::named;

use super::headers::is_clean;
use super::sources::Sources;
use crate::config::reader::Reader;
use crate::config::snapshot::{Consumer, ConsumerGroup, Consumers};
use crate::http::head::{Head, Owner};
use crate::plugin::Caller;
use crate::plugin::naming::{ConsumerField, claim_path, claim_paths, name, tell_consumer};
use crate::reason::Reason;
use crate::token::claims::{ClaimPath, texts};
use crate::trace::{Check, Observer};
use std::sync::Arc;

/// How callers are told, for one instance.
pub(super) struct Mapping {
    consumer: Option<ConsumerMapping>,
    groups: Option<GroupMapping>,
    /// `credential_claim`
    credential: ClaimPath,
    /// `authenticated_groups_claim`
    authenticated_groups: Option<ClaimPath>,
    /// The id or username of a consumer.
    anonymous: Option<Box<str>>,
}

/// From claims to a consumer.
struct ConsumerMapping {
    /// The first that exists is used.
    paths: Box<[ClaimPath]>,
    by: Box<[ConsumerField]>,
    /// `by_username_ignore_case`
    ignores_case: bool,
    optional: bool,
}

/// From a claim to consumer groups.
struct GroupMapping {
    path: ClaimPath,
    optional: bool,
}

impl Mapping {
    /// Reads the settings; problems go to the reader's sink.
    pub(super) fn parse(config: &mut Reader<'_>) -> Self {
        let optional = config.bool("consumer_groups_optional").unwrap_or(false);
        Self {
            consumer: consumer(config),
            groups: claim_path(config, "consumer_groups_claim").map(|path| GroupMapping { path, optional }),
            credential: claim_path(config, "credential_claim").unwrap_or_else(|| ClaimPath::new(["sub"])),
            authenticated_groups: claim_path(config, "authenticated_groups_claim"),
            anonymous: config.string("anonymous").map(Box::from),
        }
    }

    /// Whom verified claims stand for, or why they stand for nobody; all that was found either way, since a refusal is
    /// logged with it. The caller's facts are the plugin's to add.
    pub(super) fn identify(
        &self,
        sources: &Sources<'_>,
        consumers: &Consumers,
        observer: Observer<'_>,
    ) -> (Caller, Result<(), Reason>) {
        let credential = sources.find(&self.credential).and_then(name).map(Box::from);
        let groups = self.authenticated_groups.as_ref().and_then(|path| sources.find(path)).and_then(texts);
        let mut caller = Caller { credential, groups, ..Caller::default() };
        let mut outcome = Ok(());
        if let Some(mapping) = &self.consumer {
            caller.consumer = mapping.find(sources, consumers).cloned();
            let passed = caller.consumer.is_some() || mapping.optional;
            outcome =
                observer.check(Check::Consumer, passed, Reason::ConsumerUnknown, || mapping.found(sources, &caller));
        }
        if let Some(mapping) = &self.groups {
            caller.claimed_groups = mapping.find(sources, consumers);
            let passed = !caller.claimed_groups.is_empty() || mapping.optional;
            let found = || demand::claim(sources, &mapping.path);
            outcome = outcome.and(observer.check(Check::ConsumerGroups, passed, Reason::ConsumerGroupUnknown, found));
        }
        (caller, outcome)
    }

    /// Whom a request stands for that this reason refuses: the anonymous consumer, where there is one and the caller
    /// could not be told. What is malformed, forbidden or cannot be judged now is refused all the same.
    pub(super) fn anonymous(&self, status: u16, reason: Reason, consumers: &Consumers) -> Option<Caller> {
        let key = self.anonymous.as_ref().filter(|_| status == 401 || is_of_mapping(reason))?;
        let consumer = consumers.by_id(key).or_else(|| consumers.by_username(key))?;
        Some(Caller { consumer: Some(Arc::clone(consumer)), is_anonymous: true, ..Caller::default() })
    }

    /// Whether somebody stands in for callers that cannot be told.
    pub(super) fn has_anonymous(&self) -> bool {
        self.anonymous.is_some()
    }

    /// The status where nobody stands in for a caller: 401 where `anonymous` names a consumer that does not exist.
    pub(super) fn status(&self, status: u16, reason: Reason) -> u16 {
        if self.anonymous.is_some() && is_of_mapping(reason) { 401 } else { status }
    }
}

/// Whether the token is good and nobody is known whom it stands for.
fn is_of_mapping(reason: Reason) -> bool {
    matches!(reason, Reason::ConsumerUnknown | Reason::ConsumerGroupUnknown)
}

impl ConsumerMapping {
    fn find<'c>(&self, sources: &Sources<'_>, consumers: &'c Consumers) -> Option<&'c Arc<Consumer>> {
        let claim = self.paths.iter().find_map(|path| sources.find(path))?;
        let text = name(claim)?;
        self.by.iter().find_map(|by| match by {
            ConsumerField::Username if self.ignores_case => consumers.by_username_in_any_case(&text),
            by => by.find(&text, consumers),
        })
    }
}

impl GroupMapping {
    /// The groups that exist, in the claim's order; other names say nothing.
    fn find(&self, sources: &Sources<'_>, consumers: &Consumers) -> Box<[Arc<ConsumerGroup>]> {
        let mut found: Vec<Arc<ConsumerGroup>> = Vec::new();
        for name in sources.find(&self.path).and_then(texts).unwrap_or_default() {
            let Some(group) = consumers.group_by_name(&name) else { continue };
            if found.iter().all(|known| known.id != group.id) {
                found.push(Arc::clone(group));
            }
        }
        found.into()
    }
}

/// Tells the upstream of the caller in Kong's fields, whose names no client may send (P1). A value that cannot stand in
/// a field is left out rather than changed (T35).
pub(super) fn write(head: &mut Head, caller: &Caller) {
    if let Some(consumer) = &caller.consumer {
        tell_consumer(head, consumer);
    }
    let mut push = |name: &str, value: &str| head.push(Owner::Edge, name.as_bytes(), value.as_bytes());
    if let Some(credential) = caller.credential.as_deref().filter(|credential| is_clean(credential)) {
        push("X-Credential-Identifier", credential);
    }
    if caller.is_anonymous {
        push("X-Anonymous-Consumer", "true");
    }
    let groups = caller.groups.iter().flatten();
    let groups: Vec<&str> = groups.map(|name| &**name).filter(|name| is_clean(name) && !name.contains(',')).collect();
    if !groups.is_empty() {
        push("X-Authenticated-Groups", &groups.join(", "));
    }
}

fn consumer(config: &mut Reader<'_>) -> Option<ConsumerMapping> {
    let optional = config.bool("consumer_optional").unwrap_or(false);
    let ignores_case = config.bool("by_username_ignore_case").unwrap_or(false);
    let one = claim_path(config, "consumer_claim").map(|path| [path].into());
    let paths = claim_paths(config, "consumer_claims").or(one);
    let by = ConsumerField::read(config, "consumer_by", paths.is_some());
    let paths = paths?;
    if paths.is_empty() {
        config.problem("consumer_claims", "an empty list", "nothing, or at least one claim");
    }
    Some(ConsumerMapping { paths, by, ignores_case, optional })
}

#[cfg(test)]
mod tests;
