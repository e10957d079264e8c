//! What each check of a token found, in the order of the flow: what `edge explain` prints.
//!
//! The engine that decides requests says it to an `Observer`. For requests that one is deaf, and no text is made.

use std::cell::{Cell, RefCell};

use crate::reason::Reason;

macro_rules! checks {
    ($($variant:ident = $name:literal, $doc:literal;)+) => {
        /// One check of the flow.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub enum Check { $(#[doc = $doc] $variant),+ }

        impl Check {
            /// Every check, in the order of the flow.
            pub const ALL: &'static [Check] = &[$(Self::$variant),+];

            /// Its name, which does not change.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
        }
    };
}

checks! {
    Credential = "credential", "A token stands where it may, once.";
    Grant = "grant", "The token that another credential stands for, or that the token is exchanged for.";
    Shape = "shape", "JWT or opaque, and not too long.";
    Header = "header", "The JOSE header (RFC 7515, 4).";
    Algorithm = "algorithm", "`alg` is on the list and the key's.";
    Type = "type", "`typ` (RFC 7515, 4.1.9).";
    Payload = "payload", "The claims, each of its type.";
    Time = "time", "`exp` and `nbf`.";
    Issuer = "issuer", "`iss`";
    Key = "key", "A key of the issuer's set.";
    Signature = "signature", "The signature under that key.";
    Introspection = "introspection", "What the issuer says of the token (RFC 7662).";
    ProofOfPossession = "proof_of_possession", "The sender holds what `cnf` names (RFC 8705, RFC 9449).";
    IdToken = "id_token", "The token is no ID token.";
    Profile = "profile", "RFC 9068.";
    Domains = "domains", "`hd`";
    Session = "session", "The cookie of the token's session.";
    Acr = "acr", "`acr` (RFC 9470).";
    MaxAge = "max_age", "`auth_time` (RFC 9470).";
    ClaimsForbidden = "claims_forbidden", "Claims that must be absent.";
    ClaimsRequired = "claims_required", "Claims that must be there.";
    Subject = "subject", "`sub`";
    Audience = "audience", "`audience_required`";
    Scopes = "scopes", "`scopes_required`";
    Groups = "groups", "`groups_required`";
    Roles = "roles", "`roles_required`";
    IdTokenBeside = "id_token_beside", "The ID token that came with the token.";
    UserInfo = "user_info", "The issuer's user info.";
    Consumer = "consumer", "The consumer of a claim.";
    ConsumerGroups = "consumer_groups", "The consumer groups of a claim.";
    Anonymous = "anonymous", "The consumer of those who could not be told.";
}

impl Check {
    /// The check that fails for a reason; nothing where the reason is no check's of a token.
    pub fn of(reason: Reason) -> Option<Self> {
        Some(match reason {
            Reason::HeaderMissing | Reason::HeaderMalformed | Reason::TokenInQuery => Self::Credential,
            Reason::GrantRefused | Reason::GrantFailed | Reason::ExchangeRefused | Reason::ExchangeFailed => {
                Self::Grant
            }
            Reason::TokenTooLarge => Self::Shape,
            // Where it is malformed, the engine says; the first part that may be.
            Reason::TokenMalformed => Self::Header,
            Reason::AlgNotAllowed => Self::Algorithm,
            Reason::TypNotAllowed => Self::Type,
            Reason::ClaimInvalid => Self::Payload,
            Reason::TokenExpired | Reason::TokenNotYetValid => Self::Time,
            Reason::IssuerNotAllowed => Self::Issuer,
            Reason::KidUnknown | Reason::KeysUnavailable => Self::Key,
            Reason::SignatureInvalid | Reason::VerificationBusy => Self::Signature,
            Reason::IntrospectionUnavailable | Reason::TokenInactive | Reason::IntrospectionFailed => {
                Self::Introspection
            }
            Reason::TokenBound
            | Reason::TokenUnbound
            | Reason::ProofMissing
            | Reason::ProofInvalid
            | Reason::ProofReplayed
            | Reason::NonceMissing
            | Reason::CertificateMissing
            | Reason::CertificateInvalid
            | Reason::CertificateMismatch => Self::ProofOfPossession,
            Reason::IdTokenUsed => Self::IdToken,
            Reason::ProfileViolated => Self::Profile,
            Reason::DomainNotAllowed => Self::Domains,
            Reason::SessionMismatch => Self::Session,
            Reason::AcrInsufficient => Self::Acr,
            Reason::AuthenticationTooOld => Self::MaxAge,
            Reason::ClaimForbidden => Self::ClaimsForbidden,
            Reason::ClaimMissing => Self::ClaimsRequired,
            Reason::SubjectNotAllowed => Self::Subject,
            Reason::AudienceNotAllowed => Self::Audience,
            Reason::ScopeMissing => Self::Scopes,
            Reason::GroupMissing => Self::Groups,
            Reason::RoleMissing => Self::Roles,
            Reason::IdTokenInvalid => Self::IdTokenBeside,
            Reason::UserInfoRefused | Reason::UserInfoFailed => Self::UserInfo,
            Reason::ConsumerUnknown => Self::Consumer,
            Reason::ConsumerGroupUnknown => Self::ConsumerGroups,
            _ => return None,
        })
    }
}

/// What became of a check.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It passed.
    Passed,
    /// It failed.
    Failed,
}

impl From<bool> for Outcome {
    fn from(passed: bool) -> Self {
        if passed { Self::Passed } else { Self::Failed }
    }
}

/// The key that was chosen for a token.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct KeyUse {
    /// Its `kid`.
    pub kid: Option<String>,
    /// What it verifies by.
    pub algorithm: String,
    /// The set's URL; nothing of a configured secret.
    pub url: Option<String>,
    /// When the set was fetched, in Unix milliseconds.
    pub fetched_unix_ms: Option<i64>,
}

/// What was heard of one request.
#[derive(Default)]
pub struct Trace {
    steps: RefCell<Vec<(Check, Outcome, String)>>,
    key: RefCell<Option<KeyUse>>,
    refused: Cell<Option<Reason>>,
    subject: Cell<Option<&'static str>>,
}

impl Trace {
    /// What became of a check and what it found; nothing where it was not reached.
    pub fn step(&self, check: Check) -> Option<(Outcome, String)> {
        let steps = self.steps.borrow();
        steps.iter().find(|(known, ..)| *known == check).map(|(_, outcome, found)| (*outcome, found.clone()))
    }

    /// The last check that was reached.
    pub fn last(&self) -> Option<Check> {
        self.steps.borrow().iter().map(|(check, ..)| *check).max()
    }

    /// The check that failed, by itself or for the reason of the refusal.
    pub fn failed(&self) -> Option<Check> {
        self.steps.borrow().iter().find(|(_, outcome, _)| *outcome == Outcome::Failed).map(|(check, ..)| *check)
    }

    /// The key that was chosen.
    pub fn key(&self) -> Option<KeyUse> {
        self.key.borrow().clone()
    }

    /// Why the request was refused, also where it then passed as the anonymous consumer.
    pub fn refused(&self) -> Option<Reason> {
        self.refused.get()
    }

    /// Whether somebody was asked about the token.
    pub fn has_asked(&self) -> bool {
        self.step(Check::Introspection).is_some()
    }

    /// Which token it is about, where a plugin looks at several: the last one that it began with.
    pub fn subject(&self) -> Option<&'static str> {
        self.subject.get()
    }

    /// A token is judged again after a wait: the later word counts.
    fn note(&self, check: Check, outcome: Outcome, found: String) {
        let mut steps = self.steps.borrow_mut();
        steps.retain(|(known, ..)| *known != check);
        steps.push((check, outcome, found));
    }
}

/// Who hears of checks. The default is deaf, and costs a branch a check.
#[derive(Clone, Copy, Default)]
pub struct Observer<'a>(Option<&'a Trace>);

impl<'a> Observer<'a> {
    /// One that hears everything.
    pub fn of(trace: &'a Trace) -> Self {
        Self(Some(trace))
    }

    /// The checks of another token begin.
    #[inline]
    pub fn begin(self, subject: &'static str) {
        if let Some(trace) = self.0 {
            trace.steps.borrow_mut().clear();
            trace.key.take();
            trace.subject.set(Some(subject));
        }
    }

    /// What became of a check.
    #[inline]
    pub fn note(self, check: Check, outcome: impl Into<Outcome>, found: impl FnOnce() -> String) {
        if let Some(trace) = self.0 {
            trace.note(check, outcome.into(), found());
        }
    }

    /// A check that refuses for one reason.
    #[inline]
    pub fn check(
        self,
        check: Check,
        passed: bool,
        reason: Reason,
        found: impl FnOnce() -> String,
    ) -> Result<(), Reason> {
        self.note(check, passed, found);
        if passed { Ok(()) } else { Err(reason) }
    }

    /// A check that is the outcome of something.
    #[inline]
    pub fn result<T, E>(self, check: Check, result: Result<T, E>, found: impl FnOnce() -> String) -> Result<T, E> {
        self.note(check, result.is_ok(), found);
        result
    }

    /// The key that was chosen.
    #[inline]
    pub fn key(self, key: impl FnOnce() -> KeyUse) {
        if let Some(trace) = self.0 {
            trace.key.replace(Some(key()));
        }
    }

    /// The refusal, after whatever was heard: a check that did not say so itself has failed by its reason.
    pub fn refused(self, reason: Reason) {
        let Some(trace) = self.0 else { return };
        trace.refused.set(Some(reason));
        if let Some(check) = Check::of(reason).filter(|_| trace.failed().is_none()) {
            trace.note(check, Outcome::Failed, String::new());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_of_a_token_is_a_check_s_and_no_other() {
        for reason in Reason::ALL {
            assert_eq!(Check::of(*reason).is_some(), reason.concerns_token(), "{reason:?}");
        }
    }

    #[test]
    fn names_are_unique_and_in_snake_case() {
        for (index, check) in Check::ALL.iter().enumerate() {
            let name = check.name();
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
            assert!(Check::ALL[..index].iter().all(|other| other.name() != name && other < check), "{name}");
        }
    }

    #[test]
    fn the_later_word_counts_and_a_refusal_names_its_check() {
        let trace = Trace::default();
        let observer = Observer::of(&trace);
        observer.note(Check::Key, false, || "none".into());
        observer.note(Check::Key, true, || "found".into());
        assert_eq!(trace.step(Check::Key), Some((Outcome::Passed, "found".into())));
        assert_eq!((trace.failed(), trace.last()), (None, Some(Check::Key)));
        observer.refused(Reason::UserInfoRefused);
        assert_eq!(trace.failed(), Some(Check::UserInfo));
        observer.refused(Reason::AudienceNotAllowed);
        assert_eq!((trace.failed(), trace.refused()), (Some(Check::UserInfo), Some(Reason::AudienceNotAllowed)));
    }

    #[test]
    fn the_deaf_one_makes_no_text() {
        let check = |passed| {
            Observer::default().check(Check::Acr, passed, Reason::AcrInsufficient, || unreachable!("nobody listens"))
        };
        assert_eq!((check(true), check(false)), (Ok(()), Err(Reason::AcrInsufficient)));
    }
}
