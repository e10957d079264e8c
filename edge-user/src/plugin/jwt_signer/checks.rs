//! What is required of claims: the same checks for a JWT's payload and for what introspection says, each with parameters of
//! its own.

use crate::config::snapshot::{Consumer, Consumers};
use crate::plugin::naming::{ConsumerField, name};
use crate::reason::Reason;
use crate::token::Now;
use crate::token::claims::{ClaimPath, Reading, Required, holds};
use crate::token::explain::quote_value;
use crate::token::json::{Kind, Value};
use crate::trace::{Check, Observer};
use std::sync::Arc;

/// The checks of one kind of claims.
#[derive(Clone, Default)]
pub(super) struct Checks {
    /// `…_expiry_claim`, where that is verified.
    pub(super) expiry: Option<ClaimPath>,
    /// Whether a token without it is refused (T29); an issuer may leave it out of what it says (RFC 7662, 2.2).
    pub(super) expires: bool,
    /// `…_notbefore_claim`, where that is verified.
    pub(super) notbefore: Option<ClaimPath>,
    /// `…_leeway`
    pub(super) leeway_ms: i64,
    /// `…_issuers_allowed`
    pub(super) issuer: Option<OneOf>,
    /// `…_subjects_allowed`
    pub(super) subject: Option<OneOf>,
    /// `…_audiences_allowed`
    pub(super) audience: Option<OneOf>,
    /// `…_scopes_required`
    pub(super) scopes: Option<(ClaimPath, Required)>,
    /// `…_required_claims`
    pub(super) required: Box<[ClaimPath]>,
    /// `…_optional_claims`: what is checked only where it is there.
    pub(super) optional: Box<[ClaimPath]>,
}

/// A claim that must have one of these values.
#[derive(Clone)]
pub(super) struct OneOf {
    pub(super) path: ClaimPath,
    pub(super) values: Box<[Box<str>]>,
}

/// A claim that names a consumer.
pub(super) struct Naming {
    pub(super) path: ClaimPath,
    pub(super) by: Box<[ConsumerField]>,
}

impl Checks {
    /// Whether `exp` and `nbf` are verified as the verdict engine does it for any token.
    pub(super) fn has_usual_times(&self) -> bool {
        let is = |path: &Option<ClaimPath>, name: &str| path.as_ref().is_some_and(|path| path.is(name));
        let is_optional = self.optional.iter().any(|path| path.is("exp"));
        is(&self.expiry, "exp") && is(&self.notbefore, "nbf") && !is_optional
    }

    /// Whether claims are what is required. `claim` finds one; `null` is none.
    pub(super) fn check<'a>(
        &self,
        claim: impl Fn(&ClaimPath) -> Option<Value<'a>>,
        now: Now,
        observer: Observer<'_>,
    ) -> Result<(), Reason> {
        let find = |path: &ClaimPath| claim(path).filter(|claim| claim.kind() != Kind::Null);
        let is_excused = |path: &ClaimPath| self.optional.contains(path) && find(path).is_none();
        let said = |path: &ClaimPath| format!("{path} {}", quote_value(find(path)));
        if let Some(path) = &self.expiry {
            observer.result(Check::Time, self.expiry(find(path), is_excused(path), now), || said(path))?;
        }
        if let Some(path) = &self.notbefore {
            observer.result(Check::Time, self.notbefore(find(path), now), || said(path))?;
        }
        self.one_of(Check::Issuer, &self.issuer, Reason::IssuerNotAllowed, &find, observer)?;
        for path in &self.required {
            observer.check(Check::ClaimsRequired, find(path).is_some(), Reason::ClaimMissing, || said(path))?;
        }
        self.one_of(Check::Subject, &self.subject, Reason::SubjectNotAllowed, &find, observer)?;
        self.one_of(Check::Audience, &self.audience, Reason::AudienceNotAllowed, &find, observer)?;
        if let Some((path, required)) = &self.scopes {
            let passed = is_excused(path) || required.met_by(find(path), Reading::Words);
            observer.check(Check::Scopes, passed, Reason::ScopeMissing, || said(path))?;
        }
        Ok(())
    }

    fn one_of<'a>(
        &self,
        check: Check,
        rule: &Option<OneOf>,
        reason: Reason,
        find: &impl Fn(&ClaimPath) -> Option<Value<'a>>,
        observer: Observer<'_>,
    ) -> Result<(), Reason> {
        let Some(OneOf { path, values }) = rule else { return Ok(()) };
        let claim = find(path);
        // An audience may be several (RFC 7519, 4.1.3).
        let has = |claim: Value<'_>| match check {
            Check::Audience => values.iter().any(|value| holds(claim, value, Reading::Whole)),
            _ => values.iter().any(|value| claim.is(value)),
        };
        let passed = claim.map_or_else(|| self.optional.contains(path), has);
        observer.check(check, passed, reason, || format!("{path} {}", quote_value(claim)))
    }

    fn expiry(&self, claim: Option<Value<'_>>, is_excused: bool, now: Now) -> Result<(), Reason> {
        let Some(claim) = claim else {
            return if self.expires && !is_excused { Err(Reason::ClaimInvalid) } else { Ok(()) };
        };
        let exp_ms = claim.seconds_as_ms().filter(|exp_ms| *exp_ms > 0).ok_or(Reason::ClaimInvalid)?;
        if now.unix_ms >= exp_ms.saturating_add(self.leeway_ms) { Err(Reason::TokenExpired) } else { Ok(()) }
    }

    fn notbefore(&self, claim: Option<Value<'_>>, now: Now) -> Result<(), Reason> {
        let Some(claim) = claim else { return Ok(()) };
        let nbf_ms = claim.seconds_as_ms().ok_or(Reason::ClaimInvalid)?;
        if now.unix_ms.saturating_add(self.leeway_ms) < nbf_ms { Err(Reason::TokenNotYetValid) } else { Ok(()) }
    }

    /// What the configuration wants of a check, for `edge explain`.
    pub(super) fn demand(&self, check: Check) -> Option<String> {
        let one_of = |rule: &Option<OneOf>| rule.as_ref().map(|rule| format!("{} one of {:?}", rule.path, rule.values));
        match check {
            Check::Time => {
                let part = |path: &Option<ClaimPath>, what: &str| path.as_ref().map(|path| format!("{path} {what}"));
                let parts = [part(&self.expiry, "ahead"), part(&self.notbefore, "past")];
                let parts: Vec<String> = parts.into_iter().flatten().collect();
                (!parts.is_empty()).then(|| format!("{}, leeway {} ms", parts.join(" and "), self.leeway_ms))
            }
            Check::Issuer => one_of(&self.issuer),
            Check::Subject => one_of(&self.subject),
            Check::Audience => one_of(&self.audience),
            Check::ClaimsRequired => {
                let paths: Vec<String> = self.required.iter().map(ToString::to_string).collect();
                (!paths.is_empty()).then(|| paths.join(", "))
            }
            Check::Scopes => self.scopes.as_ref().map(|(path, required)| format!("{path} with {required}")),
            _ => None,
        }
    }
}

impl Naming {
    /// The consumer that a claim names.
    pub(super) fn find<'c>(&self, claim: Option<Value<'_>>, consumers: &'c Consumers) -> Option<&'c Arc<Consumer>> {
        let text = claim.and_then(name)?;
        self.by.iter().find_map(|by| by.find(&text, consumers))
    }
}
