//! What one instance wants of a request, check by check, where its tokens are shown, and what to change where one is refused:
//! for `edge explain` and `edge doctor`.

use super::{JwtSigner, Token};
use crate::plugin::naming::ConsumerField;
use crate::reason::Reason;
use crate::token::Validator;
use crate::trace::Check;

/// What would let a refused token pass: the client's part, then the configuration's.
type Advice = (Option<String>, Option<String>);

impl JwtSigner {
    /// What the configuration wants of a check of a token, by its name; of the access token without one.
    pub fn demand(&self, check: Check, subject: Option<&str>) -> Option<String> {
        self.token_of(subject).demand(check)
    }

    /// The fields in which a client shows its access token and its channel token, and the scheme before it.
    pub fn showing(&self) -> [Option<(&str, Option<&'static str>)>; 2] {
        self.tokens.each_ref().map(|token| token.source.as_ref().map(|source| (source.name(), source.scheme())))
    }

    /// The validators of the tokens that it looks for, each with whom it verifies them by.
    pub fn validators(&self) -> impl Iterator<Item = (&str, &Validator)> {
        let wanted = self.tokens.iter().filter(|token| token.source.is_some());
        wanted.map(|token| (token.party.as_deref().unwrap_or("nobody"), &*token.validator))
    }

    /// Who verifies a token, by its name.
    pub fn validator(&self, subject: Option<&str>) -> &Validator {
        &self.token_of(subject).validator
    }

    /// Whom a token is verified by, as the configuration calls it.
    pub fn party(&self, subject: Option<&str>) -> &str {
        self.token_of(subject).party.as_deref().unwrap_or("nobody")
    }

    /// What would let a token pass that was refused for this reason; `introspected`: by what was said of it. Nothing here makes a check weaker that keeps strangers
    /// out.
    pub fn advice(&self, subject: Option<&str>, reason: Reason, introspected: bool) -> Option<Advice> {
        let token = self.token_of(subject);
        let (names, name) = (token.names(), token.name);
        let of = |claims: &'static str, said: &'static str| if introspected { said } else { claims };
        let by = |parameter: &str| Some(format!("`{parameter}`"));
        let client = |text: &str| Some(format!("{text} ({name})"));
        Some(match reason {
            Reason::HeaderMissing => {
                (client("send the token"), Some(format!("`{}: true`, if it need not come", names.optional)))
            }
            Reason::HeaderMalformed => (client("send one token in the field, nothing before or behind it"), None),
            Reason::TokenUnlocated => {
                (None, Some(format!("`{}`, or `{}: true`", names.request_header, names.optional)))
            }
            Reason::AlgNotAllowed => (client("have it signed by an asymmetric algorithm"), by("enable_hs_signatures")),
            Reason::KidUnknown if token.validator.keys().is_none() => (None, by(names.jwks_uri)),
            Reason::KidUnknown => (client("get one signed with a key of the set"), by(names.jwks_uri)),
            Reason::IntrospectionUnavailable => (client("send a JWT"), by(names.introspection_endpoint)),
            Reason::TokenExpired | Reason::TokenNotYetValid => (
                client("get a new token"),
                Some(format!("`{}`, where clocks differ", of(names.leeway, names.introspection_leeway))),
            ),
            Reason::ClaimInvalid => (client("get one with a well-formed expiry"), by(names.optional_claims)),
            Reason::IssuerNotAllowed => (
                client("get one of an allowed issuer"),
                by(of(names.issuers_allowed, names.introspection_issuers_allowed)),
            ),
            Reason::SubjectNotAllowed => (
                client("get one of an allowed subject"),
                by(of(names.subjects_allowed, names.introspection_subjects_allowed)),
            ),
            Reason::AudienceNotAllowed => (
                client("get one for an allowed audience"),
                by(of(names.audiences_allowed, names.introspection_audiences_allowed)),
            ),
            Reason::ClaimMissing => {
                (client("get one with the claims"), by(of(names.required_claims, names.introspection_required_claims)))
            }
            Reason::ScopeMissing => {
                (client("get one with the scopes"), by(of(names.scopes_required, names.introspection_scopes_required)))
            }
            Reason::ConsumerUnknown => (
                None,
                Some(format!(
                    "a consumer that `{}` names",
                    of(names.consumer_claim, names.introspection_consumer_claim)
                )),
            ),
            Reason::TokenBound => (None, Some("openid-connect before it, which sees the proof of the key".to_owned())),
            Reason::SigningFailed => {
                (None, Some(format!("`{}`: see the error log for why it has no key", names.keyset)))
            }
            _ => return None,
        })
    }

    fn token_of(&self, subject: Option<&str>) -> &Token {
        let [access, channel] = &self.tokens;
        if subject == Some(channel.name) { channel } else { access }
    }
}

impl Token {
    fn demand(&self, check: Check) -> Option<String> {
        match check {
            Check::Credential => {
                let source = self.source.as_ref()?;
                let optional = if self.optional { ", or none" } else { "" };
                Some(format!("the {} in the header {}{optional}", self.name, source.name()))
            }
            Check::ProofOfPossession => Some("a bearer token, or one whose proof openid-connect saw".to_owned()),
            Check::Consumer => {
                let naming = self.introspection_consumer.as_ref().or(self.payload_consumer.as_ref());
                naming.map(|naming| format!("a consumer whose {} is {}", ConsumerField::names(&naming.by), naming.path))
            }
            Check::Time => self.payload.demand(check).or_else(|| self.introspection.demand(check)),
            _ => {
                let claims = [self.payload.demand(check), self.introspection.demand(check)];
                let asked = self.validator.remote().is_some();
                let claims = match claims {
                    [Some(payload), Some(said)] if asked => {
                        Some(format!("{payload}; of what introspection says: {said}"))
                    }
                    [payload, said] => payload.or(said.filter(|_| asked)),
                };
                claims.or_else(|| self.validator.demand(check))
            }
        }
    }
}
