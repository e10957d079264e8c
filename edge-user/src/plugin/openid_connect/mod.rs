//! `openid-connect`, the bearer part: finds the token, has it judged, asks of the facts what the route requires, maps
//! the consumer, and sets what the upstream gets to see.
//!
//! Steps and answers follow Kong's documented algorithm; where a security property differs, its default is the
//! property's and an explicit setting is Kong's.

mod credential;
mod inert;
mod possession;
pub mod refusal;
mod settings;

use crate::config::reader::Reader;
use crate::config::snapshot::{Consumer, Consumers};
use crate::http::head::{Head, Known, Owner, is_field_value};
use crate::plugin::{Access, Caller, Place, PluginEnv, Refusal, Request};
use crate::reason::Reason;
use crate::token::claims::{self, ClaimPath, Facts, Reading, Required};
use crate::token::{Attempt, Judgement, KeyWait, Now, Validator};
use possession::{Possession, Scheme, Shown, Unproven};
use refusal::Answers;
use std::sync::Arc;
use std::time::Instant;

/// As in the configuration.
pub const NAME: &str = "openid-connect";
/// Kong's.
pub const PRIORITY: u32 = 1050;

/// One configured instance.
pub struct OpenidConnect {
    validator: Validator,
    answers: Answers,
    run_on_preflight: bool,
    /// Ids of this gateway at the issuer: the audience of ID tokens. Nothing where those are not refused.
    refuse_id_tokens: Option<Box<[Box<str>]>>,
    claims_forbidden: Box<[ClaimPath]>,
    requirements: Box<[Requirement]>,
    consumer: Option<ConsumerMapping>,
    /// `authenticated_groups_claim`
    groups_claim: Option<ClaimPath>,
    forward: Forward,
    possession: Possession,
}

/// One of the four pairs of `*_required` and `*_claim`.
struct Requirement {
    path: ClaimPath,
    reading: Reading,
    required: Required,
    reason: Reason,
}

/// From claims to a consumer.
struct ConsumerMapping {
    /// The first that exists is used.
    paths: Box<[ClaimPath]>,
    by: Box<[ConsumerBy]>,
    optional: bool,
}

/// A field of the consumer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ConsumerBy {
    Id,
    Username,
    CustomId,
}

/// What happens to the token on its way upstream.
struct Forward {
    hide_credentials: bool,
    /// Name, and whether `Bearer ` stands before the token.
    header: Option<(Box<str>, bool)>,
}

impl OpenidConnect {
    /// Reads the settings; problems go to the reader's sink.
    pub fn parse(config: Reader<'_>, place: &Place<'_>, env: &PluginEnv) -> Option<Self> {
        settings::parse(config, place, env)
    }

    /// Fields that only the edge may write. `Authorization` is the client's until it is judged.
    pub fn owned_names(&self) -> Vec<Box<str>> {
        let name = self.forward.header.as_ref().map(|(name, _)| name.to_ascii_lowercase());
        let name = name.filter(|name| name != "authorization").map(Box::from);
        name.into_iter().chain(self.certificate_name()).collect()
    }

    /// The lower-case name of the field in which a proxy in front shows a client's certificate.
    pub fn certificate_name(&self) -> Option<Box<str>> {
        self.possession.certificate_header().map(|name| name.to_ascii_lowercase().into())
    }

    /// The issuer as configured.
    pub fn issuer(&self) -> &str {
        &self.answers.issuer
    }

    /// The validator: what the kernel's eligibility rules compare.
    pub fn validator(&self) -> &Validator {
        &self.validator
    }

    /// The access phase. A request whose issuer's keys are being fetched gives the worker back and is judged again.
    pub async fn access<'a>(&'a self, request: &mut Request<'_>) -> Access<'a> {
        let mut attempt = Attempt::First;
        loop {
            let wait = match self.attempt(request, attempt) {
                Ok(answer) => return answer,
                Err(wait) => wait,
            };
            let began = Instant::now();
            let _ = tokio::time::timeout(request.key_wait, wait.done()).await;
            request.notes.waited = Some(request.notes.waited.unwrap_or_default() + began.elapsed());
            request.now = Now::read();
            attempt = Attempt::Waited;
        }
    }

    fn attempt<'a>(&'a self, request: &mut Request<'_>, attempt: Attempt) -> Result<Access<'a>, KeyWait> {
        let Request { head, query, host, now, cache, consumers, client, notes, https, path, connection, .. } = request;
        let (host, now) = (*host, *now);
        if !self.run_on_preflight && head.method() == b"OPTIONS" {
            return Ok(Access::Continue);
        }
        let refuse = |status, reason, token: &[u8]| {
            Ok(Access::Refuse(self.answers.refusal(&self.validator, status, reason, host, token, now)))
        };
        let found = match credential::find(head, *query) {
            Ok(found) => found,
            Err((status, reason)) => return refuse(status, reason, b""),
        };
        if found.scheme == Scheme::Dpop && !self.possession.takes_dpop() {
            return refuse(401, Reason::HeaderMissing, b"");
        }
        let is_canonical = found.is_canonical;
        let facts = match self.validator.judge(cache, found.token, now, *client, attempt) {
            Judgement::Verified(facts) => facts,
            Judgement::Wait(wait) => return Err(wait),
            Judgement::Refused(refused) => {
                let status = refusal::status(refused.reason);
                let refusal = self.answers.refusal(&self.validator, status, refused.reason, host, found.token, now);
                return Ok(Access::Refuse(Refusal { retry_after: refused.retry_after_secs, ..refusal }));
            }
        };
        let shown = Shown {
            scheme: found.scheme,
            token: found.token,
            facts: &facts,
            head,
            https: *https,
            path,
            connection,
            certificates: &notes.certificates,
            now,
        };
        match self.possession.check(&shown) {
            Ok(None) => {}
            Ok(Some(nonce)) => notes.reply("DPoP-Nonce", nonce),
            Err(Unproven { reason, nonce, .. }) => {
                if let Some(nonce) = nonce {
                    notes.reply("DPoP-Nonce", nonce);
                }
                let refusal = self.answers.refusal(&self.validator, 401, reason, host, found.token, now);
                let challenge = self.possession.challenge(reason).map(String::into_bytes).or(refusal.challenge);
                return Ok(Access::Refuse(Refusal { challenge, ..refusal }));
            }
        }
        if let Err(reason) = self.authorize(&facts) {
            return refuse(refusal::status(reason), reason, found.token);
        }
        let consumer = match self.consumer(&facts, consumers) {
            Ok(consumer) => consumer.cloned(),
            Err(reason) => return refuse(refusal::status(reason), reason, found.token),
        };
        if !self.forward.keeps(is_canonical) {
            self.forward.rewrite(head);
        }
        self.possession.clean(head);
        if let Some(consumer) = &consumer {
            write_consumer(head, consumer);
        }
        let groups = self.groups_claim.as_ref().and_then(|path| facts.claim(path)).and_then(claims::texts);
        let expires_unix_ms = self.validator.expiry_ms(&facts);
        notes.caller = Caller { consumer, groups, facts: Some(facts), expires_unix_ms };
        Ok(Access::Continue)
    }

    /// What the route requires of the facts.
    fn authorize(&self, facts: &Facts) -> Result<(), Reason> {
        if self.refuse_id_tokens.as_ref().is_some_and(|clients| facts.is_id_token(clients)) {
            return Err(Reason::IdTokenUsed);
        }
        if self.claims_forbidden.iter().any(|path| facts.claim(path).is_some()) {
            return Err(Reason::ClaimForbidden);
        }
        for Requirement { path, reading, required, reason } in &self.requirements {
            if !required.met_by(facts.claim(path), *reading) {
                return Err(*reason);
            }
        }
        Ok(())
    }

    fn consumer<'c>(&self, facts: &Facts, consumers: &'c Consumers) -> Result<Option<&'c Arc<Consumer>>, Reason> {
        let Some(ConsumerMapping { paths, by, optional }) = &self.consumer else { return Ok(None) };
        let claim = paths.iter().find_map(|path| facts.claim(path)).and_then(|claim| claim.text());
        let found = claim.and_then(|text| {
            by.iter().find_map(|by| match by {
                ConsumerBy::Id => consumers.by_id(&text),
                ConsumerBy::Username => consumers.by_username(&text),
                ConsumerBy::CustomId => consumers.by_custom_id(&text),
            })
        });
        if found.is_none() && !optional { Err(Reason::ConsumerUnknown) } else { Ok(found) }
    }
}

impl Forward {
    /// Whether the head is already what the settings ask for: the usual case.
    fn keeps(&self, is_canonical: bool) -> bool {
        match &self.header {
            Some((name, true)) => is_canonical && name.eq_ignore_ascii_case("authorization"),
            _ => false,
        }
    }

    fn rewrite(&self, head: &mut Head) {
        let value = self.header.as_ref().and_then(|(_, bearer)| {
            let found = credential::find(head, None).ok()?;
            let prefix: &[u8] = if *bearer { b"Bearer " } else { b"" };
            Some([prefix, found.token].concat())
        });
        if self.hide_credentials {
            head.remove(Known::Authorization);
        }
        if let Some(((name, _), value)) = self.header.as_ref().zip(value) {
            head.replace(name.as_bytes(), &value);
        }
    }
}

/// Kong's consumer fields. A value that cannot stand in a field is left out rather than changed (T35).
fn write_consumer(head: &mut Head, consumer: &Consumer) {
    let mut id = [0; uuid::fmt::Hyphenated::LENGTH];
    let id: &str = consumer.id.hyphenated().encode_lower(&mut id);
    for (name, value) in [
        ("X-Consumer-ID", Some(id)),
        ("X-Consumer-Custom-ID", consumer.custom_id.as_deref()),
        ("X-Consumer-Username", consumer.username.as_deref()),
    ] {
        if let Some(value) = value.filter(|value| is_field_value(value.as_bytes())) {
            head.push(Owner::Edge, name.as_bytes(), value.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests;
