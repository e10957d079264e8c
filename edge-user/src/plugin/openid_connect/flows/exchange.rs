//! Token exchange: a token of another issuer, or one with too little in it, becomes one of the configured issuer
//! (RFC 8693); and Kong's legacy exchange, which only changes what the upstream gets.

use super::super::{Denied, Request, judge};
use super::grants::{Fetched, Source};
use super::{Verdicts, fetch};
use crate::oauth::kept::{Brought, Keep, Kept};
use crate::oauth::legacy_exchange::LegacyExchange;
use crate::oauth::token_endpoint::{Ask, Grant, TokenEndpoint, Wanted};
use crate::oauth::tokens::{GrantError, Tokens};
use crate::reason::Reason;
use crate::token::claims::{ClaimPath, Facts, Reading, holds};
use crate::token::introspection::Extras;
use crate::token::jws::{Jws, Shape, shape};
use crate::token::{Now, Refused, Validator};
use crate::trace::Observer;
use std::sync::Arc;
use zeroize::Zeroizing;

const VERDICTS: Verdicts = Verdicts { refused: Reason::ExchangeRefused, failed: Reason::ExchangeFailed };

/// `token_exchange`
pub(in super::super) struct Exchange {
    pub(super) subjects: Box<[Subject]>,
    pub(super) tokens: Source,
    pub(super) scopes: Wanted,
    pub(super) audience: Wanted,
}

/// One of `subject_token_issuers`.
pub(super) struct Subject {
    pub(super) issuer: Box<str>,
    /// Judges its tokens before they are exchanged; without `verify_signature` form, type and times alone.
    pub(super) validator: Arc<Validator>,
    /// For tokens of the configured issuer itself: what one must be like to be exchanged.
    pub(super) conditions: Option<Conditions>,
}

/// `conditions`; all of them must hold.
pub(super) struct Conditions {
    pub(super) aud: ClaimPath,
    pub(super) scope: ClaimPath,
    pub(super) has_audience: Box<[Box<str>]>,
    pub(super) missing_audience: Box<[Box<str>]>,
    pub(super) has_scopes: Box<[Box<str>]>,
    pub(super) missing_scopes: Box<[Box<str>]>,
}

impl Conditions {
    pub(super) fn is_empty(&self) -> bool {
        let Self { has_audience, missing_audience, has_scopes, missing_scopes, .. } = self;
        [has_audience, missing_audience, has_scopes, missing_scopes].iter().all(|list| list.is_empty())
    }

    fn hold(&self, facts: &Facts) -> bool {
        let audience = |one: &str| facts.claim(&self.aud).is_some_and(|aud| holds(aud, one, Reading::Whole));
        let scope = |one: &str| facts.claim(&self.scope).is_some_and(|scope| holds(scope, one, Reading::Words));
        self.has_audience.iter().all(|one| audience(one))
            && !self.missing_audience.iter().any(|one| audience(one))
            && self.has_scopes.iter().all(|one| scope(one))
            && !self.missing_scopes.iter().any(|one| scope(one))
    }
}

impl Exchange {
    /// What of a request goes along.
    pub(in super::super) fn endpoint(&self) -> &TokenEndpoint {
        &self.tokens.endpoint
    }

    /// Has tokens that are refused asked for anew.
    pub(in super::super) fn distrust(&self, fetched: &Fetched, now: Now) {
        self.tokens.distrust(fetched, now);
    }

    /// The tokens that this one is exchanged for; nothing where it is judged as it is. Only access tokens are exchanged:
    /// `is_id_token` tells others.
    pub(in super::super) async fn run(
        &self,
        request: &mut Request<'_>,
        token: &[u8],
        extras: Extras,
        is_id_token: impl FnOnce(&Facts) -> bool,
    ) -> Result<Option<Fetched>, Denied> {
        let Some(subject) = issuer_of(token).and_then(|iss| self.subjects.iter().find(|it| *it.issuer == *iss)) else {
            return Ok(None);
        };
        let judged = judge(&subject.validator, request, token, &Extras::default(), Observer::default()).await;
        let facts = match (judged, &subject.conditions) {
            (Ok(facts), _) => facts,
            // It is the configured issuer's: the judgement that follows says what is wrong with it.
            (Err(_), Some(_)) => return Ok(None),
            (Err(refused), None) => return Err(denied(refused, token)),
        };
        if subject.conditions.as_ref().is_some_and(|conditions| !conditions.hold(&facts)) {
            return Ok(None);
        }
        if is_id_token(&facts) {
            return Err(denied(Reason::IdTokenUsed.into(), token));
        }
        // Its sender would have to prove that it holds the key; what it is exchanged for would ask for no proof (S5).
        if facts.is_bound() {
            return Err(denied(Reason::TokenBound.into(), token));
        }
        let grant = Grant::Exchange(Zeroizing::new(token.to_vec()));
        let ask = Ask { grant, scopes: self.scopes.clone(), audience: self.audience.clone() };
        self.tokens.fetch(request, ask, extras, VERDICTS).await.map(Some)
    }
}

fn denied(refused: Refused, token: &[u8]) -> Denied {
    Denied::of_token(refused, super::super::Scheme::Bearer, token)
}

/// The issuer that a JWT names, unverified: it only chooses who judges the token (T16).
fn issuer_of(token: &[u8]) -> Option<Box<str>> {
    if shape(token) != Shape::Jws {
        return None;
    }
    let jws = Jws::parse(token).ok()?;
    let facts = Facts::parse(jws.payload().ok()?, &jws.typ).ok()?;
    facts.issuer()?.text().map(|iss| iss.into())
}

/// `token_exchange_endpoint`
pub(in super::super) struct Legacy {
    pub(super) endpoint: Arc<LegacyExchange>,
    pub(super) kept: Arc<Kept<Tokens, GrantError>>,
    pub(super) keep: Keep,
}

impl Legacy {
    /// The token that the upstream gets in place of a verified one.
    pub(in super::super) async fn run(&self, request: &mut Request<'_>, token: &[u8]) -> Result<Arc<Tokens>, Denied> {
        let question: [&[u8]; 3] = [b"legacy", &self.endpoint.id(), token];
        let endpoint = Arc::clone(&self.endpoint);
        // Verified, so of RFC 6750's alphabet.
        let secret = Zeroizing::new(String::from_utf8_lossy(token).into_owned());
        fetch(request, &self.kept, (&question, self.keep), VERDICTS, move || async move {
            let tokens = endpoint.exchange(&secret).await?;
            let left = tokens.left;
            Ok(Brought { value: tokens, left })
        })
        .await
    }
}

#[cfg(test)]
mod tests;
