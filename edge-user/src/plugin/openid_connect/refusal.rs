//! Reasons to answers: status, challenge, message (RFC 6750, 3), and the detail for the error log.

use crate::plugin::Refusal;
use crate::reason::Reason;
use crate::token::explain::explain;
use crate::token::{Now, Validator};

/// The status for a reason of this plugin.
pub(super) fn status(reason: Reason) -> u16 {
    match reason {
        Reason::AudienceNotAllowed
        | Reason::ScopeMissing
        | Reason::RoleMissing
        | Reason::GroupMissing
        | Reason::ClaimForbidden
        | Reason::ConsumerUnknown => 403,
        Reason::KeysUnavailable | Reason::IntrospectionFailed | Reason::VerificationBusy => 503,
        _ => 401,
    }
}

/// The error code for a status and reason (RFC 6750, 3.1); none where no token was sent, or where none fits. It names
/// no check: which one failed is for the operator (T17).
fn error_code(status: u16, reason: Reason) -> Option<&'static str> {
    match (status, reason) {
        (400, _) => Some("invalid_request"),
        (401, Reason::HeaderMissing) => None,
        (401, _) => Some("invalid_token"),
        (403, Reason::ClaimForbidden | Reason::ConsumerUnknown) => None,
        (403, _) => Some("insufficient_scope"),
        _ => None,
    }
}

/// What proves that a client sends bad tokens, in the words of the kernel's penalty rules.
fn is_proven_bad(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::SignatureInvalid | Reason::TokenMalformed | Reason::AlgNotAllowed | Reason::HeaderMalformed
    )
}

/// The texts of one instance.
pub(super) struct Answers {
    pub(super) unauthorized: Box<str>,
    pub(super) forbidden: Box<str>,
    pub(super) expose_error_code: bool,
    pub(super) issuer: Box<str>,
}

impl Answers {
    /// The answer. Nothing is formatted but the challenge.
    pub(super) fn refusal<'a>(
        &'a self,
        validator: &'a Validator,
        status: u16,
        reason: Reason,
        host: &[u8],
        token: &[u8],
        now: Now,
    ) -> Refusal<'a> {
        let code = error_code(status, reason).filter(|_| self.expose_error_code);
        let challenge = (status == 401 || code.is_some()).then(|| challenge(host, code));
        let message = match status {
            400 => "Bad Request",
            403 => &self.forbidden,
            503 => "Service Unavailable",
            _ => &self.unauthorized,
        };
        Refusal {
            status,
            reason,
            challenges: [challenge, None],
            message,
            description: None,
            retry_after: None,
            issuer: Some(&self.issuer),
            proven_bad: is_proven_bad(reason),
            detail: Detail { validator, token: token.into(), now },
        }
    }
}

/// `Bearer realm="…"`, with an error code. The host comes from the client: only its harmless characters are repeated.
fn challenge(host: &[u8], code: Option<&str>) -> Vec<u8> {
    let mut out = Vec::with_capacity(host.len() + 48);
    out.extend_from_slice(b"Bearer realm=\"");
    let harmless = |byte: &u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(byte);
    out.extend(host.iter().copied().filter(harmless));
    out.push(b'"');
    if let Some(code) = code {
        out.extend_from_slice(b", error=\"");
        out.extend_from_slice(code.as_bytes());
        out.push(b'"');
    }
    out
}

/// What a log line is made of, if one is written.
pub(in crate::plugin) struct Detail<'a> {
    validator: &'a Validator,
    token: Box<[u8]>,
    now: Now,
}

impl Detail<'_> {
    /// The text: claims that decided, quoted and cut.
    pub(in crate::plugin) fn text(&self, reason: Reason) -> String {
        match reason {
            Reason::HeaderMissing | Reason::HeaderMalformed | Reason::TokenInQuery => String::new(),
            Reason::IntrospectionUnavailable => format!("introspection: opaque token of {} bytes", self.token.len()),
            Reason::ConsumerUnknown => {
                let detail = explain(self.validator, reason, &self.token, self.now);
                format!("kong consumer was not found; {detail}")
            }
            _ => explain(self.validator, reason, &self.token, self.now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_follow_rfc_6750() {
        // T37, T17
        for (status, reason, code) in [
            (401, Reason::HeaderMissing, None),
            (401, Reason::HeaderMalformed, Some("invalid_token")),
            (401, Reason::TokenExpired, Some("invalid_token")),
            (401, Reason::SignatureInvalid, Some("invalid_token")),
            (401, Reason::KidUnknown, Some("invalid_token")),
            (401, Reason::IdTokenUsed, Some("invalid_token")),
            (400, Reason::TokenInQuery, Some("invalid_request")),
            (400, Reason::HeaderMalformed, Some("invalid_request")),
            (403, Reason::ScopeMissing, Some("insufficient_scope")),
            (403, Reason::AudienceNotAllowed, Some("insufficient_scope")),
            (403, Reason::ConsumerUnknown, None),
            (503, Reason::KeysUnavailable, None),
        ] {
            assert_eq!(error_code(status, reason), code, "{reason:?}");
        }
        for reason in Reason::ALL {
            assert!([401, 403, 503].contains(&status(*reason)));
        }
    }

    #[test]
    fn the_realm_repeats_no_quotes_or_controls() {
        assert_eq!(challenge(b"api.example.com", None), b"Bearer realm=\"api.example.com\"");
        assert_eq!(challenge(b"a\"\r\nX: y", Some("invalid_token")), b"Bearer realm=\"aX:y\", error=\"invalid_token\"");
    }
}
