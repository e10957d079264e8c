//! `openid-connect` for APIs: finds the credential, has its token judged, asks of the facts what the route requires,
//! tells whom they stand for, and sets what upstream and client get to see.
//!
//! Steps and answers follow Kong's documented algorithm; where a security property differs, its default is the
//! property's and an explicit setting is Kong's.

mod challenge;
mod consumer;
mod credential;
mod headers;
mod inert;
mod possession;
pub mod refusal;
mod remote;
mod rules;
mod settings;
mod sources;

use crate::config::reader::Reader;
use crate::plugin::arguments::Body;
use crate::plugin::{Access, Place, PluginEnv, Refusal, Request};
use crate::reason::Reason;
use crate::token::claims::Facts;
use crate::token::{Ask, Judgement, Now, Progress, Refused, Validator, Verified, Wait};
use challenge::Answers;
use consumer::Mapping;
use credential::{ACCESS_TOKEN, Places, Scheme, Schemes, Sent};
use headers::{Headers, Part, Parts};
use possession::{Possession, Shown, Unproven};
use refusal::Detail;
use remote::Along;
use rules::Rules;
use sources::Sources;
use std::sync::Arc;
use std::time::Instant;

/// As in the configuration.
pub const NAME: &str = "openid-connect";
/// Kong's.
pub const PRIORITY: u32 = 1050;

/// One configured instance.
pub struct OpenidConnect {
    /// As configured.
    issuer: Box<str>,
    run_on_preflight: bool,
    places: Places,
    schemes: Schemes,
    /// What of a request goes along when its token is asked about.
    along: Along,
    validator: Arc<Validator>,
    possession: Possession,
    rules: Rules,
    mapping: Mapping,
    headers: Headers,
    answers: Answers,
}

/// A verified token as it came.
struct Admitted<'p> {
    facts: Verified,
    scheme: Scheme,
    place: credential::Place<'p>,
    /// Whether it is spelled `Authorization: Bearer <token>`.
    is_canonical: bool,
}

/// Why a request does not pass as the caller it claims to be.
struct Denied {
    status: u16,
    reason: Reason,
    retry_after_secs: Option<u32>,
    scheme: Scheme,
    /// For the detail of a log line; never written itself.
    token: Box<[u8]>,
    /// What is wrong with a proof of possession.
    fault: Option<String>,
}

impl Denied {
    fn new(status: u16, reason: Reason) -> Self {
        let token = Box::default();
        Self { status, reason, retry_after_secs: None, scheme: Scheme::Bearer, token, fault: None }
    }

    fn of_token(refused: Refused, scheme: Scheme, token: &[u8]) -> Self {
        let Refused { reason, retry_after_secs } = refused;
        let status = challenge::status(reason);
        Self { retry_after_secs, scheme, token: token.into(), ..Self::new(status, reason) }
    }
}

impl OpenidConnect {
    /// Reads the settings; problems go to the reader's sink.
    pub fn parse(config: Reader<'_>, place: &Place<'_>, env: &PluginEnv) -> Option<Self> {
        settings::parse(config, place, env)
    }

    /// Fields that only the edge may write. A field that clients send their token in is theirs until it is judged.
    pub fn owned_names(&self) -> Vec<Box<str>> {
        let names = self.headers.owned_names().into_iter().filter(|name| !self.places.reads_field(name));
        names.chain(self.certificate_name()).collect()
    }

    /// The lower-case name of the field in which a proxy in front shows a client's certificate.
    pub fn certificate_name(&self) -> Option<Box<str>> {
        self.possession.certificate_header().map(|name| name.to_ascii_lowercase().into())
    }

    /// The issuer as configured.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The validator: what the kernel's eligibility rules compare.
    pub fn validator(&self) -> &Validator {
        &self.validator
    }

    /// The access phase. A request whose issuer is being asked gives the worker back and is judged again.
    pub async fn access<'a>(&'a self, request: &mut Request<'_>) -> Access<'a> {
        if !self.run_on_preflight && request.head.method() == b"OPTIONS" {
            return Access::Continue;
        }
        if self.places.reads_body() || self.along.reads_body() {
            Body::collect(request).await;
        }
        match self.admit(request).await {
            Ok(()) => Access::Continue,
            Err(denied) => self.turn_away(request, denied),
        }
    }

    /// Everything up to the head that goes upstream.
    async fn admit(&self, request: &mut Request<'_>) -> Result<(), Denied> {
        let admitted = self.judged(request).await?;
        if admitted.facts.is_bound() || self.possession.demands_proof() || admitted.scheme == Scheme::Dpop {
            self.prove(request, &admitted)?;
        }
        let facts = &admitted.facts;
        let denied = |request: &Request<'_>, reason: Reason| {
            let token = self.token(request).unwrap_or_default();
            Denied::of_token(reason.into(), admitted.scheme, &token)
        };
        let sources = Sources::of(facts);
        let (mut caller, known) = self.mapping.identify(&sources, request.consumers);
        caller.facts = Some(facts.clone());
        caller.expires_unix_ms = self.validator.expiry_ms(facts);
        // Whom a refusal concerns is known from here on (S1): the claims hold, whatever the route thinks of them.
        request.notes.caller = caller;
        self.rules.check(facts, request.head, request.now).map_err(|reason| denied(request, reason))?;
        known.map_err(|reason| denied(request, reason))?;
        self.rewrite(request, &admitted, &sources);
        Ok(())
    }

    /// Finds the token and has it judged, waiting where somebody has to be asked.
    async fn judged(&self, request: &mut Request<'_>) -> Result<Admitted<'_>, Denied> {
        let extras = self.along.of(&Sent::of(request));
        let mut progress = Progress::First;
        loop {
            let wait = {
                let sent = Sent::of(request);
                let found = self.places.find(&sent, self.schemes);
                let found = found.map_err(|(status, reason)| Denied::new(status, reason))?;
                let ask = Ask { token: &found.token, now: request.now, source: request.client, extras: &extras };
                match self.validator.judge(request.cache, ask, progress) {
                    Judgement::Verified(facts) => {
                        let (scheme, place, is_canonical) = (found.scheme, found.place, found.is_canonical);
                        return Ok(Admitted { facts, scheme, place, is_canonical });
                    }
                    Judgement::Refused(refused) => return Err(Denied::of_token(refused, found.scheme, &found.token)),
                    Judgement::Wait(wait) => wait,
                }
            };
            progress = waited(request, wait).await;
        }
    }

    /// Whether the sender holds what the token is bound to (RFC 8705, RFC 9449).
    fn prove(&self, request: &mut Request<'_>, admitted: &Admitted<'_>) -> Result<(), Denied> {
        let token = self.token(request).unwrap_or_default();
        let shown = Shown {
            scheme: admitted.scheme,
            token: &token,
            facts: &admitted.facts,
            head: request.head,
            https: request.https,
            path: request.path,
            connection: request.connection,
            certificates: &request.notes.certificates,
            now: request.now,
        };
        let (nonce, unproven) = match self.possession.check(&shown) {
            Ok(nonce) => (nonce, None),
            Err(Unproven { reason, fault, nonce }) => (nonce, Some((reason, fault))),
        };
        if let Some(nonce) = nonce {
            request.notes.reply("DPoP-Nonce", nonce);
        }
        let Some((reason, fault)) = unproven else { return Ok(()) };
        let fault = fault.map(|fault| fault.to_string());
        Err(Denied { fault, ..Denied::of_token(reason.into(), admitted.scheme, &token) })
    }

    /// The token as it came: found before, and found again rather than carried along.
    fn token(&self, request: &Request<'_>) -> Option<Box<[u8]>> {
        let found = self.places.find(&Sent::of(request), self.schemes).ok()?;
        Some(found.token.as_ref().into())
    }

    /// Sets what upstream and client read.
    fn rewrite(&self, request: &mut Request<'_>, admitted: &Admitted<'_>, sources: &Sources<'_>) {
        let facts: &Facts = sources.facts;
        let token = if self.headers.needs_token(admitted.is_canonical) { self.token(request) } else { None };
        let jwk = || self.validator.key_of(&admitted.facts);
        let jwk = if self.headers.wants(Part::AccessTokenJwk) { jwk() } else { None };
        let parts = Parts {
            access_token: token.as_deref(),
            access_token_jwk: jwk.as_deref(),
            introspection: facts.introspection_json(),
            introspection_jwt: facts.introspection_jwt().map(str::as_bytes),
            ..Parts::of(*sources)
        };
        if self.headers.hide_credentials() && !admitted.place.is_authorization() {
            credential::remove(request, admitted.place, &[ACCESS_TOKEN]);
        }
        self.headers.apply_upstream(request.head, &parts);
        self.headers.apply_downstream(request.notes, &parts);
        self.possession.clean(request.head);
        consumer::write(request.head, &request.notes.caller);
    }

    /// What becomes of a request without a caller: it passes as the anonymous consumer, where there is one.
    fn turn_away<'a>(&'a self, request: &mut Request<'_>, denied: Denied) -> Access<'a> {
        let Denied { status, reason, retry_after_secs, scheme, token, fault } = denied;
        if let Some(caller) = self.mapping.anonymous(status, reason, request.consumers) {
            self.headers.apply_anonymous(request.head, request.notes);
            self.possession.clean(request.head);
            consumer::write(request.head, &caller);
            request.notes.caller = caller;
            return Access::Continue;
        }
        let answer = self.answers.answer(status, reason, scheme, request.host);
        Access::Refuse(Refusal {
            status,
            reason,
            challenges: answer.challenges,
            message: answer.message,
            description: answer.description,
            retry_after: retry_after_secs,
            issuer: Some(&self.issuer),
            proven_bad: refusal::is_proven_bad(reason),
            detail: Detail::new(&self.validator, token, request.now, fault),
        })
    }
}

/// Waits, but for no longer than a request may.
async fn waited(request: &mut Request<'_>, wait: Wait) -> Progress {
    let began = Instant::now();
    let given_up = wait.given_up();
    let progress = tokio::time::timeout(request.key_wait, wait.done()).await.unwrap_or(given_up);
    request.notes.waited = Some(request.notes.waited.unwrap_or_default() + began.elapsed());
    request.now = Now::read();
    progress
}

#[cfg(test)]
mod tests;
