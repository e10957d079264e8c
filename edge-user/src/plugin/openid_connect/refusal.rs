//! What the operator reads of a refusal beside its reason, and which reasons prove a client bad.

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

use crate::plugin::BadToken;
use crate::reason::Reason;
use crate::token::explain::{expiry_ms, explain};
use crate::token::{Now, Validator};

/// Why a token is bad for as long as keys and configuration stay.
pub(super) const LASTING: [Reason; 3] = [Reason::SignatureInvalid, Reason::TokenMalformed, Reason::AlgNotAllowed];

/// What the refusal proves of the client's token; nothing where time, an issuer or a right could mend it.
pub(in crate::plugin) fn bad_token(reason: Reason, token: &[u8]) -> Option<BadToken> {
    let lasts = LASTING.contains(&reason);
    (lasts || reason == Reason::HeaderMalformed).then(|| BadToken { fingerprint: fingerprint(token), lasts })
}

/// Why the kernel may refuse a token: the lasting ones, and that it expired long ago.
pub(super) const FOR_THE_KERNEL: [Reason; 4] =
    [Reason::SignatureInvalid, Reason::TokenMalformed, Reason::AlgNotAllowed, Reason::TokenExpired];

/// What tells one bad token from another; of this process alone, so that nobody can choose two that share it.
fn fingerprint(token: &[u8]) -> u64 {
    static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    KEY.hash_one(token)
}

/// What a log line is made of, if one is written.
pub(in crate::plugin) struct Detail<'a> {
    validator: &'a Validator,
    token: Box<[u8]>,
    now: Now,
    fault: Option<String>,
}

impl<'a> Detail<'a> {
    /// Of a token that was judged at this time. `fault` says what is wrong beside it.
    pub(in crate::plugin) fn new(validator: &'a Validator, token: Box<[u8]>, now: Now, fault: Option<String>) -> Self {
        Self { validator, token, now, fault }
    }

    /// The token.
    pub(in crate::plugin) fn token(&self) -> &[u8] {
        &self.token
    }

    /// What tells it from others, in this process alone.
    pub(in crate::plugin) fn fingerprint(&self) -> u64 {
        fingerprint(&self.token)
    }

    /// What it says of its end, in milliseconds since 1970.
    pub(in crate::plugin) fn expiry_ms(&self) -> Option<i64> {
        expiry_ms(&self.token)
    }

    /// The text: claims that decided, quoted and cut. The status tells two fields from one that is malformed.
    pub(in crate::plugin) fn text(&self, status: u16, reason: Reason) -> String {
        if let Some(fault) = &self.fault {
            return fault.clone();
        }
        let opaque = || format!("introspection: opaque token of {} bytes", self.token.len());
        match reason {
            Reason::HeaderMalformed if status == 400 => "the field came twice".to_owned(),
            Reason::HeaderMalformed => "expected one field with a scheme and a token, no quotes".to_owned(),
            Reason::HeaderMissing | Reason::TokenInQuery => String::new(),
            Reason::IntrospectionUnavailable | Reason::IntrospectionFailed | Reason::TokenInactive => opaque(),
            Reason::ConsumerUnknown => {
                let detail = explain(self.validator, reason, &self.token, self.now);
                format!("kong consumer was not found; {detail}")
            }
            _ => explain(self.validator, reason, &self.token, self.now),
        }
    }
}
