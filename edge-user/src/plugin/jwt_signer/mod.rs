//! `jwt-signer`: verifies up to two tokens of a request, the access token and the channel token, each by the verdict engine,
//! and sends others in their place that the edge signed itself.
//!
//! Steps and answers follow Kong's documented algorithm. What is read of the configuration is `settings`'s; where a token
//! stands, `credential`'s; what its claims must be, `checks`'s; what the new one says, `claims`'s.

mod checks;
mod claims;
mod credential;
mod demand;
mod names;
mod settings;
mod signing;

use std::sync::Arc;

use tokio::runtime::Handle;

use crate::config::reader::Reader;
use crate::config::snapshot::Consumer;
use crate::crypto::sign::SigningAlgorithm;
use crate::http::head::{Head, Known, Owner};
use crate::keysets::KeySet;
use crate::plugin::naming::tell_consumer;
use crate::plugin::openid_connect::refusal::{Detail, bad_token};
use crate::plugin::openid_connect::{Challenge, Scheme};
use crate::plugin::{Access, Answer, AnswerBody, Place, PluginEnv, Refusal, Request};
use crate::reason::Reason;
use crate::token::claims::Facts;
use crate::token::explain::quote_value;
use crate::token::introspection::Extras;
use crate::token::keys::KeySource;
use crate::token::resigned::{Found, Making, Resigned};
use crate::token::{Ask, Judgement, Progress, Refused, Validator, Verified};
use crate::trace::{Check, Observer};
use checks::{Checks, Naming};
use claims::NewClaims;
use credential::{Credential, Destination, Source};
pub use names::CHANNEL_TOKEN;
use names::{ACCESS, CHANNEL, Names};
use signing::Job;
pub use signing::Signatures;

/// As in the configuration.
pub const NAME: &str = "jwt-signer";
/// Kong's.
pub const PRIORITY: u32 = 1020;

/// One configured instance.
pub struct JwtSigner {
    /// Access token, then channel token.
    tokens: [Token; 2],
    realm: Option<Box<str>>,
    /// `enable_instrumentation`
    is_verbose: bool,
}

/// What is done with one of the two tokens.
struct Token {
    /// As logs call it.
    name: &'static str,
    /// Nothing where no header is configured.
    source: Option<Source>,
    optional: bool,
    validator: Arc<Validator>,
    /// Whom it is verified by, for logs: hosts of the configuration.
    party: Option<Box<str>>,
    payload: Checks,
    introspection: Checks,
    /// `trust_…_introspection`
    trusts_introspection: bool,
    payload_consumer: Option<Naming>,
    introspection_consumer: Option<Naming>,
    signing: Option<Signing>,
    /// `original_…_upstream_header`
    original: Option<Destination>,
}

/// How the token is made that goes upstream.
struct Signing {
    keys: Arc<KeySet>,
    algorithm: SigningAlgorithm,
    claims: NewClaims,
    destination: Destination,
    signatures: Arc<Signatures>,
    /// Where keys are waited for; nothing in a program that only checks a configuration.
    control: Option<Handle>,
}

/// A token that passed.
struct Admitted {
    facts: Verified,
    /// As it came, where it goes upstream too.
    original: Option<Box<[u8]>>,
    /// What goes upstream in its place.
    resigned: Option<Arc<Resigned>>,
}

/// Why a request does not pass.
struct Denied<'a> {
    token: &'a Token,
    reason: Reason,
    retry_after_secs: Option<u32>,
    fault: Option<&'static str>,
    /// For the detail of a log line; never written itself.
    sent: Box<[u8]>,
}

impl JwtSigner {
    /// Reads the settings; problems go to the reader's sink.
    pub fn parse(config: Reader<'_>, place: &Place<'_>, env: &PluginEnv) -> Option<Self> {
        settings::parse(config, place, env)
    }

    /// Lower-case names of the fields that only the edge may write.
    pub fn owned_names(&self) -> Vec<Box<str>> {
        let written = self.tokens.iter().flat_map(Token::destinations).map(|destination| destination.name());
        lower_case(written)
    }

    /// Lower-case names of the fields, besides `Authorization`, in which clients send tokens.
    pub fn credential_names(&self) -> Vec<Box<str>> {
        lower_case(self.tokens.iter().filter_map(|token| token.source.as_ref()).map(Source::name))
    }

    /// The sources of the keys that tokens are verified with.
    pub fn awaited_keys(&self) -> impl Iterator<Item = &Arc<KeySource>> {
        self.tokens.iter().filter(|token| token.source.is_some()).filter_map(|token| token.validator.awaited_keys())
    }

    /// The access phase.
    pub async fn access<'a>(&'a self, request: &mut Request<'_>) -> Access<'a> {
        let mut admitted = [None, None];
        for (token, place) in self.tokens.iter().zip(&mut admitted) {
            match token.admit(request).await {
                Ok(passed) => *place = passed,
                Err(denied) => return self.refuse(request, denied),
            }
        }
        match self.map(request, &admitted) {
            Ok(None) => {}
            Ok(Some(consumer)) => {
                // Another plugin may have told of another.
                const TOLD: [&[u8]; 4] =
                    [b"X-Consumer-ID", b"X-Consumer-Custom-ID", b"X-Consumer-Username", b"X-Anonymous-Consumer"];
                request.head.retain(|field| !TOLD.iter().any(|name| field.name.eq_ignore_ascii_case(name)));
                tell_consumer(request.head, &consumer);
                let caller = &mut request.notes.caller;
                (caller.consumer, caller.is_anonymous) = (Some(consumer), false);
            }
            Err(denied) => return self.refuse(request, denied),
        }
        for (token, place) in self.tokens.iter().zip(&mut admitted) {
            let (Some(signing), Some(admitted)) = (&token.signing, place) else { continue };
            let resigned = signing.token_for(&admitted.facts, request).await;
            if resigned.token().is_none() {
                request.observer.refused(Reason::SigningFailed);
                return self.fail(request, Reason::SigningFailed);
            }
            admitted.resigned = Some(resigned);
        }
        if self.is_verbose {
            self.narrate(request, &admitted);
        }
        self.rewrite(request, admitted);
        Access::Continue
    }

    /// The consumer that the first mapping names, if there is any mapping: later ones are not tried.
    fn map<'a>(
        &'a self,
        request: &Request<'_>,
        admitted: &[Option<Admitted>; 2],
    ) -> Result<Option<Arc<Consumer>>, Denied<'a>> {
        for (token, admitted) in self.tokens.iter().zip(admitted) {
            let Some(admitted) = admitted else { continue };
            let facts: &Facts = &admitted.facts;
            let said = token.introspection_consumer.as_ref().filter(|_| facts.is_introspected());
            let said = said.map(|naming| (naming, facts.introspection_claim(&naming.path)));
            let payload = token.payload_consumer.as_ref().map(|naming| (naming, facts.payload_claim(&naming.path)));
            let Some((naming, claim)) = said.or(payload) else { continue };
            let found = naming.find(claim, request.consumers).cloned();
            let text = || format!("{} {}", naming.path, quote_value(claim));
            let passed = request.observer.check(Check::Consumer, found.is_some(), Reason::ConsumerUnknown, text);
            return passed.map(|()| found).map_err(|reason| token.denied(reason.into(), token.sent(request.head)));
        }
        Ok(None)
    }

    /// Takes the tokens out of what goes upstream, then writes what goes there in their place.
    fn rewrite(&self, request: &mut Request<'_>, admitted: [Option<Admitted>; 2]) {
        for source in self.tokens.iter().filter_map(|token| token.source.as_ref()) {
            request.head.remove_named(source.name().as_bytes());
        }
        for (token, admitted) in self.tokens.iter().zip(&admitted) {
            let Some(admitted) = admitted else {
                // In the field of the edge's token nobody else's goes, where none came to sign (P1).
                for name in token.destinations().map(|destination| destination.name().as_bytes()) {
                    request.head.retain(|field| field.owner == Owner::Edge || !field.name.eq_ignore_ascii_case(name));
                }
                continue;
            };
            let new = admitted.resigned.as_ref().and_then(|resigned| resigned.token());
            if let (Some(signing), Some(new)) = (&token.signing, new) {
                signing.destination.write(request.head, new);
            }
            if let (Some(destination), Some(original)) = (&token.original, &admitted.original) {
                destination.write(request.head, original);
            }
        }
        let expires = self.tokens.iter().zip(&admitted);
        let expires = expires.filter_map(|(token, it)| it.as_ref().and_then(|it| token.ends_ms(&it.facts))).min();
        let caller = &mut request.notes.caller;
        caller.expires_unix_ms = [caller.expires_unix_ms, expires].into_iter().flatten().min();
        // Where `openid-connect` ran before, what it knows of the caller stands.
        if caller.facts.is_none() {
            caller.facts = admitted.into_iter().flatten().next().map(|admitted| admitted.facts);
        }
    }

    fn refuse<'a>(&'a self, request: &Request<'_>, denied: Denied<'a>) -> Access<'a> {
        let Denied { token, reason, retry_after_secs, fault, sent } = denied;
        request.observer.refused(reason);
        if reason == Reason::TokenUnlocated {
            return self.fail(request, reason);
        }
        let (status, message, code) = match reason {
            Reason::ScopeMissing => (403, "Forbidden", Some("insufficient_scope")),
            Reason::ConsumerUnknown => (403, "Forbidden", None),
            Reason::KeysUnavailable | Reason::IntrospectionFailed | Reason::VerificationBusy => {
                (503, "Service Unavailable", None)
            }
            // RFC 6750, 3.1: who sent none is told no error.
            Reason::HeaderMissing => (401, "Unauthorized", None),
            _ => (401, "Unauthorized", Some("invalid_token")),
        };
        let challenge = (status != 503).then(|| self.challenge(request, code));
        let fault = fault.map(|fault| format!("{}: introspection: {fault}", token.name));
        Access::Refuse(Refusal {
            plugin: NAME,
            status,
            reason,
            challenges: [challenge, None],
            message,
            description: None,
            retry_after: retry_after_secs,
            issuer: token.party.as_deref(),
            bad_token: bad_token(reason, &sent),
            detail: Detail::new(&token.validator, sent, request.now, fault),
        })
    }

    /// What is the edge's own fault.
    fn fail<'a>(&'a self, request: &Request<'_>, reason: Reason) -> Access<'a> {
        Access::Answer(Answer {
            status: 500,
            reason,
            body: AnswerBody::Message("An unexpected error occurred".into()),
            fields: vec![(Known::WwwAuthenticate, self.challenge(request, None))],
        })
    }

    /// `WWW-Authenticate` (RFC 6750, 3).
    fn challenge(&self, request: &Request<'_>, code: Option<&str>) -> Vec<u8> {
        let mut challenge = match &self.realm {
            Some(realm) => Challenge::of_realm(Scheme::Bearer, realm),
            None => Challenge::new(Scheme::Bearer, request.host),
        };
        if let Some(code) = code {
            challenge.parameter("error", code);
        }
        challenge.into_value()
    }

    /// `enable_instrumentation`: a line a request, whatever the level of the log.
    fn narrate(&self, request: &Request<'_>, admitted: &[Option<Admitted>; 2]) {
        for (token, admitted) in self.tokens.iter().zip(admitted) {
            let found = match admitted {
                None => "absent",
                Some(admitted) if admitted.facts.is_introspected() => "introspected",
                Some(_) => "verified",
            };
            let is_signed = admitted.as_ref().is_some_and(|admitted| admitted.resigned.is_some());
            let consumer = request.notes.caller.consumer.as_ref().map(|consumer| consumer.id);
            let (request_id, consumer) = (request.id, consumer.map(tracing::field::display));
            tracing::error!(request_id, token = token.name, found, is_signed, consumer, "[jwt-signer] request");
        }
    }
}

impl Token {
    fn destinations(&self) -> impl Iterator<Item = &Destination> {
        self.signing.iter().map(|signing| &signing.destination).chain(&self.original)
    }

    /// The token as it came, found again rather than carried along.
    fn sent<'h>(&self, head: &'h Head) -> &'h [u8] {
        match self.source.as_ref().map(|source| source.find(head)) {
            Some(Credential::Token(sent)) => sent,
            _ => b"",
        }
    }

    fn denied(&self, refused: Refused, sent: &[u8]) -> Denied<'_> {
        let Refused { reason, retry_after_secs, fault } = refused;
        Denied { token: self, reason, retry_after_secs, fault, sent: sent.into() }
    }

    /// When it stops being accepted, in milliseconds since 1970.
    fn ends_ms(&self, facts: &Facts) -> Option<i64> {
        let checks = if facts.is_introspected() { &self.introspection } else { &self.payload };
        let path = checks.expiry.as_ref()?;
        let claim = if facts.is_introspected() { facts.introspection_claim(path) } else { facts.payload_claim(path) };
        Some(claim?.seconds_as_ms()?.saturating_add(checks.leeway_ms))
    }

    /// Finds the token, has it judged, waiting where somebody has to be asked, and checks its claims. Nothing where none
    /// was sent and none is needed.
    async fn admit(&self, request: &mut Request<'_>) -> Result<Option<Admitted>, Denied<'_>> {
        let Some(source) = &self.source else {
            let unlocated = || self.denied(Reason::TokenUnlocated.into(), b"");
            return if self.optional { Ok(None) } else { Err(unlocated()) };
        };
        let mut progress = Progress::First;
        loop {
            let wait = {
                let observer = request.observer;
                let credential = source.find(request.head);
                if credential == Credential::Absent && self.optional {
                    return Ok(None);
                }
                observer.begin(self.name);
                let sent = match credential {
                    Credential::Token(sent) => sent,
                    Credential::Absent => return Err(self.denied(Reason::HeaderMissing.into(), b"")),
                    Credential::Malformed => return Err(self.denied(Reason::HeaderMalformed.into(), b"")),
                };
                observer.note(Check::Credential, true, || format!("{} in {}", self.name, source.name()));
                let ask =
                    Ask { token: sent, now: request.now, source: request.client, extras: &Extras::default(), observer };
                match self.validator.judge(request.cache, ask, progress) {
                    Judgement::Verified(facts) => {
                        let checked = self.check(&facts, request);
                        checked.map_err(|reason| self.denied(reason.into(), sent))?;
                        let original = self.original.is_some().then(|| sent.into());
                        return Ok(Some(Admitted { facts, original, resigned: None }));
                    }
                    Judgement::Refused(refused) => return Err(self.denied(refused, sent)),
                    Judgement::Wait(wait) => wait,
                }
            };
            progress = request.wait(wait).await;
        }
    }

    /// Whether the claims are what is required.
    fn check(&self, facts: &Facts, request: &Request<'_>) -> Result<(), Reason> {
        let observer: Observer<'_> = request.observer;
        // `openid-connect` has seen the proof of the key, if this is the token that it let pass (S5).
        let proven = || request.notes.caller.facts.as_ref().is_some_and(|proven| proven.json() == facts.json());
        let passed = !facts.is_bound() || proven();
        let found = || if passed { String::new() } else { "cnf, a key whose proof nobody has seen".to_owned() };
        observer.check(Check::ProofOfPossession, passed, Reason::TokenBound, found)?;
        if facts.is_introspected() {
            self.introspection.check(|path| facts.introspection_claim(path), request.now, observer)?;
        }
        if !facts.is_introspected() || !self.trusts_introspection {
            self.payload.check(|path| facts.payload_claim(path), request.now, observer)?;
        }
        Ok(())
    }

    /// Its parameters' names.
    fn names(&self) -> &'static Names {
        if self.name == CHANNEL.token { &CHANNEL } else { &ACCESS }
    }
}

impl Signing {
    /// The token that stands for these facts: the one that is kept with them, or another, signed now. Without a token
    /// where it cannot be signed in time.
    async fn token_for(&self, facts: &Verified, request: &mut Request<'_>) -> Arc<Resigned> {
        let pending = match Resigned::look(facts.resigned(), self.keys.generation()) {
            Found::Ready(resigned) => return resigned,
            Found::Pending(pending) => pending,
            Found::Mine(making) => {
                let pending = Arc::clone(making.resigned());
                self.make(making, self.claims.of(facts, request.now));
                pending
            }
        };
        request.within(pending.made(request.key_wait)).await;
        pending
    }

    /// Has it signed, once there is a key.
    fn make(&self, making: Making, payload: Vec<u8>) {
        if let Some(key) = self.keys.signing_key(self.algorithm) {
            return self.signatures.sign(Job { key, payload, making });
        }
        let Some(control) = &self.control else { return };
        let (keys, algorithm, signatures) = (Arc::clone(&self.keys), self.algorithm, Arc::clone(&self.signatures));
        control.spawn(async move {
            // The key set says why where it has none.
            if let Ok(key) = keys.ready(algorithm).await {
                signatures.sign(Job { key, payload, making });
            }
        });
    }
}

fn lower_case<'n>(names: impl Iterator<Item = &'n str>) -> Vec<Box<str>> {
    let others = names.filter(|name| Known::of(name.as_bytes()) != Known::Authorization);
    others.map(|name| name.to_ascii_lowercase().into()).collect()
}

#[cfg(test)]
mod tests;
