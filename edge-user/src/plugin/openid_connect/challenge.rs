//! How a refusal is told to the client: status, challenges (RFC 6750, 3; RFC 9449, 7.1; RFC 9470, 3; RFC 9728, 5.1),
//! message.
//!
//! The edge's own parameter: `resource_metadata` (the URL of this resource's metadata, RFC 9728).

use super::credential::Scheme;
use super::rules::Rules;
use crate::config::reader::Reader;
use crate::reason::Reason;

/// The texts of one instance.
pub(super) struct Answers {
    unauthorized: Box<str>,
    forbidden: Box<str>,
    expose_error_code: bool,
    display_errors: bool,
    resource_metadata: Option<Box<str>>,
    schemes: Schemes,
    /// What a client has to ask its issuer for: `scopes_required`, `acr_required`, `max_age`.
    scope: Box<str>,
    acr_values: Box<str>,
    max_age_secs: Option<u64>,
}

/// Which authentication schemes a route takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Schemes {
    /// `proof_of_possession_dpop: off`
    Bearer,
    /// `optional`
    Either,
    /// `strict`
    Dpop,
}

/// What a client reads of one refusal.
pub(super) struct Answer<'a> {
    /// The values of `WWW-Authenticate`, at most one for each scheme.
    pub(super) challenges: [Option<Vec<u8>>; 2],
    /// The body's `message`.
    pub(super) message: &'a str,
    /// The body's `error_description`, under `display_errors`.
    pub(super) description: Option<&'static str>,
}

/// Signatures of proofs that are taken, as `algs` lists them (RFC 9449, 5.1).
const DPOP_ALGORITHMS: &str = "ES256 ES384 EdDSA PS256 PS384 PS512 RS256 RS384 RS512";

/// The status for a reason of this plugin.
pub(super) fn status(reason: Reason) -> u16 {
    match reason {
        Reason::AudienceNotAllowed
        | Reason::ScopeMissing
        | Reason::RoleMissing
        | Reason::GroupMissing
        | Reason::ClaimForbidden
        | Reason::ConsumerGroupUnknown
        | Reason::ConsumerUnknown => 403,
        Reason::KeysUnavailable
        | Reason::IntrospectionFailed
        | Reason::GrantFailed
        | Reason::ExchangeFailed
        | Reason::UserInfoFailed
        | Reason::VerificationBusy => 503,
        _ => 401,
    }
}

/// The error code for a status and reason (RFC 6750, 3.1; RFC 9470, 3); none where no token was sent, or where none
/// fits. It names no check: which one failed is for the operator (T17).
fn error_code(status: u16, reason: Reason) -> Option<&'static str> {
    match (status, reason) {
        (400, _) => Some("invalid_request"),
        (401, Reason::HeaderMissing) => None,
        (401, Reason::AcrInsufficient | Reason::AuthenticationTooOld) => Some("insufficient_user_authentication"),
        (401, Reason::NonceMissing) => Some("use_dpop_nonce"),
        (401, Reason::ProofMissing | Reason::ProofInvalid | Reason::ProofReplayed) => Some("invalid_dpop_proof"),
        (401, _) => Some("invalid_token"),
        (403, Reason::ClaimForbidden | Reason::ConsumerUnknown | Reason::ConsumerGroupUnknown) => None,
        (403, _) => Some("insufficient_scope"),
        _ => None,
    }
}

impl Answers {
    /// Reads the settings; problems go to the reader's sink.
    pub(super) fn parse(config: &mut Reader<'_>, rules: &Rules, schemes: Schemes) -> Self {
        let text = |text: Option<&str>, default: &str| Box::from(text.unwrap_or(default));
        Self {
            unauthorized: text(config.string("unauthorized_error_message"), "Unauthorized"),
            forbidden: text(config.string("forbidden_error_message"), "Forbidden"),
            expose_error_code: config.bool("expose_error_code").unwrap_or(true),
            display_errors: config.bool("display_errors").unwrap_or(false),
            resource_metadata: resource_metadata(config),
            schemes,
            scope: rules.scope().into(),
            acr_values: rules.acr_values().into(),
            max_age_secs: rules.max_age_secs(),
        }
    }

    /// All that a client reads of a bad bearer token, for comparing.
    pub(super) fn in_words(&self, reason: Reason) -> Vec<u8> {
        let Answer { challenges, message, description } = self.answer(401, reason, Scheme::Bearer, b"host");
        let texts = [message.as_bytes(), description.unwrap_or_default().as_bytes()];
        challenges.iter().flatten().map(Vec::as_slice).chain(texts).collect::<Vec<_>>().join(&b'\n')
    }

    /// The answer to a request that came with a credential of this scheme, or with none. `host` comes from the client.
    pub(super) fn answer(&self, status: u16, reason: Reason, scheme: Scheme, host: &[u8]) -> Answer<'_> {
        // Without `use_dpop_nonce` no client would come back with one (RFC 9449, 9).
        let exposed = self.expose_error_code || reason == Reason::NonceMissing;
        let code = error_code(status, reason).filter(|_| exposed);
        let wants = status == 401 || code.is_some();
        let description = self.display_errors.then(|| reason.phrase());
        let challenge = |of: Scheme| {
            // The error belongs to the scheme that was tried, or, where that one is not taken, to the one that is.
            let tried = self.schemes == Schemes::Dpop || scheme == of;
            wants.then(|| self.challenge(of, host, code.filter(|_| tried), reason, description))
        };
        let challenges = match self.schemes {
            Schemes::Bearer => [challenge(Scheme::Bearer), None],
            Schemes::Either => [challenge(Scheme::Bearer), challenge(Scheme::Dpop)],
            Schemes::Dpop => [challenge(Scheme::Dpop), None],
        };
        let message = match status {
            400 => "Bad Request",
            403 => &self.forbidden,
            503 => "Service Unavailable",
            _ => &self.unauthorized,
        };
        Answer { challenges, message, description }
    }

    fn challenge(
        &self,
        scheme: Scheme,
        host: &[u8],
        code: Option<&str>,
        reason: Reason,
        description: Option<&str>,
    ) -> Vec<u8> {
        let mut out = Challenge::new(scheme, host);
        if let Some(code) = code {
            out.parameter("error", code);
            if let Some(description) = description {
                out.parameter("error_description", description);
            }
            if reason == Reason::ScopeMissing && !self.scope.is_empty() {
                out.parameter("scope", &self.scope);
            }
            if matches!(reason, Reason::AcrInsufficient | Reason::AuthenticationTooOld) {
                if !self.acr_values.is_empty() {
                    out.parameter("acr_values", &self.acr_values);
                }
                if let Some(secs) = self.max_age_secs {
                    out.parameter("max_age", itoa::Buffer::new().format(secs));
                }
            }
        }
        if scheme == Scheme::Dpop {
            out.parameter("algs", DPOP_ALGORITHMS);
        }
        if let Some(url) = &self.resource_metadata {
            out.parameter("resource_metadata", url);
        }
        out.into_value()
    }
}

/// One challenge under way: a scheme and its parameters (RFC 9110, 11.6.1).
pub(in crate::plugin) struct Challenge(Vec<u8>);

impl Challenge {
    /// Of a host that the client named: only its harmless characters are repeated.
    pub(in crate::plugin) fn new(scheme: Scheme, host: &[u8]) -> Self {
        let harmless = |byte: &u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(byte);
        Self::with_realm(scheme, host.iter().copied().filter(harmless))
    }

    /// Of a realm that is configured, as a quoted string (RFC 9110, 5.6.4).
    pub(in crate::plugin) fn of_realm(scheme: Scheme, realm: &str) -> Self {
        let quoted = |byte| matches!(byte, b'"' | b'\\').then_some(b'\\').into_iter().chain([byte]);
        Self::with_realm(scheme, realm.bytes().flat_map(quoted))
    }

    fn with_realm(scheme: Scheme, realm: impl Iterator<Item = u8>) -> Self {
        let mut out = Vec::with_capacity(128);
        out.extend_from_slice(match scheme {
            Scheme::Bearer => b"Bearer realm=\"",
            Scheme::Dpop => b"DPoP realm=\"",
        });
        out.extend(realm);
        out.push(b'"');
        Self(out)
    }

    /// Adds a parameter whose value needs no escapes: `NQSCHAR` of RFC 6749, A.
    pub(in crate::plugin) fn parameter(&mut self, name: &str, value: &str) {
        debug_assert!(value.bytes().all(|byte| matches!(byte, 0x20 | 0x21 | 0x23..=0x5b | 0x5d..=0x7e)), "{value}");
        for part in [", ", name, "=\"", value, "\""] {
            self.0.extend_from_slice(part.as_bytes());
        }
    }

    /// The field's value.
    pub(in crate::plugin) fn into_value(self) -> Vec<u8> {
        self.0
    }
}

fn resource_metadata(config: &mut Reader<'_>) -> Option<Box<str>> {
    let is_url = |text: &&str| {
        let harmless = text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\<>".contains(&byte));
        let host = text.strip_prefix("https://").and_then(|rest| rest.split(['/', '?', '#']).next());
        harmless && !text.contains('#') && host.is_some_and(|host| !host.is_empty() && !host.contains('@'))
    };
    let expected = "an https URL: that of this resource's metadata (RFC 9728)";
    config.parsed("resource_metadata", expected, |text| Some(text).filter(is_url)).map(Box::from)
}

#[cfg(test)]
mod tests {
    use super::super::rules::Ground;
    use super::*;
    use crate::config::testing;
    use std::time::Duration;

    fn parse(yaml: &str, schemes: Schemes) -> (Answers, Vec<String>) {
        let (answers, problems, _) = testing::read("config", yaml, |config| {
            let ground = Ground { leeway: Duration::ZERO, verify_claims: true, client_ids: &[] };
            let rules = Rules::parse(config, &ground);
            Answers::parse(config, &rules, schemes)
        });
        (answers, problems)
    }

    #[test]
    fn error_codes_are_those_of_the_standards() {
        // T37, T17
        for (status, reason, code) in [
            (401, Reason::HeaderMissing, None),
            (401, Reason::HeaderMalformed, Some("invalid_token")),
            (401, Reason::TokenExpired, Some("invalid_token")),
            (401, Reason::SignatureInvalid, Some("invalid_token")),
            (401, Reason::KidUnknown, Some("invalid_token")),
            (401, Reason::IdTokenUsed, Some("invalid_token")),
            (401, Reason::DomainNotAllowed, Some("invalid_token")),
            (401, Reason::SessionMismatch, Some("invalid_token")),
            (401, Reason::ProfileViolated, Some("invalid_token")),
            (401, Reason::TokenBound, Some("invalid_token")),
            (401, Reason::NonceMissing, Some("use_dpop_nonce")),
            (401, Reason::ProofReplayed, Some("invalid_dpop_proof")),
            (401, Reason::AcrInsufficient, Some("insufficient_user_authentication")),
            (401, Reason::AuthenticationTooOld, Some("insufficient_user_authentication")),
            (400, Reason::TokenInQuery, Some("invalid_request")),
            (400, Reason::HeaderMalformed, Some("invalid_request")),
            (403, Reason::ScopeMissing, Some("insufficient_scope")),
            (403, Reason::AudienceNotAllowed, Some("insufficient_scope")),
            (403, Reason::ClaimForbidden, None),
            (403, Reason::ConsumerUnknown, None),
            (403, Reason::ConsumerGroupUnknown, None),
            (503, Reason::KeysUnavailable, None),
        ] {
            assert_eq!(error_code(status, reason), code, "{reason:?}");
            assert!(status == 400 || super::status(reason) == status, "{reason:?}");
        }
        for reason in Reason::ALL {
            assert!([401, 403, 503].contains(&status(*reason)));
        }
    }

    #[test]
    fn challenges_say_what_to_ask_for() {
        // T37
        let metadata = "resource_metadata: 'https://api.example/.well-known/oauth-protected-resource'";
        let bearer = "Bearer realm=\"api.example\"";
        for (yaml, reason, expected) in [
            ("{}", Reason::HeaderMissing, bearer.to_owned()),
            ("{}", Reason::TokenExpired, format!("{bearer}, error=\"invalid_token\"")),
            ("{expose_error_code: false}", Reason::TokenExpired, bearer.to_owned()),
            (
                "{display_errors: true}",
                Reason::AcrInsufficient,
                format!(
                    "{bearer}, error=\"insufficient_user_authentication\", error_description=\"{}\"",
                    Reason::AcrInsufficient.phrase()
                ),
            ),
            ("{display_errors: true}", Reason::HeaderMissing, bearer.to_owned()),
            (
                "{scopes_required: ['read  write', admin]}",
                Reason::ScopeMissing,
                format!("{bearer}, error=\"insufficient_scope\", scope=\"read write\""),
            ),
            ("{scopes_required: ['a\"b']}", Reason::ScopeMissing, format!("{bearer}, error=\"insufficient_scope\"")),
            (
                "{scopes_required: [read]}",
                Reason::AudienceNotAllowed,
                format!("{bearer}, error=\"insufficient_scope\""),
            ),
            (
                "{acr_required: ['urn:mfa', 'urn:hw'], max_age: 300}",
                Reason::AcrInsufficient,
                format!(
                    "{bearer}, error=\"insufficient_user_authentication\", acr_values=\"urn:mfa urn:hw\", max_age=\"300\""
                ),
            ),
            (
                "{max_age: 0}",
                Reason::AuthenticationTooOld,
                format!("{bearer}, error=\"insufficient_user_authentication\", max_age=\"0\""),
            ),
            (
                &format!("{{{metadata}}}"),
                Reason::HeaderMissing,
                format!("{bearer}, resource_metadata=\"https://api.example/.well-known/oauth-protected-resource\""),
            ),
        ] {
            let (answers, problems) = parse(yaml, Schemes::Bearer);
            assert_eq!(problems, [""; 0]);
            let answer = answers.answer(status(reason), reason, Scheme::Bearer, b"api.example");
            let [first, second] = answer.challenges;
            assert_eq!(first.map(|text| String::from_utf8(text).expect("text")), Some(expected), "{yaml}");
            assert_eq!(second, None);
            assert_eq!(answer.description.is_some(), yaml.contains("display_errors"));
        }
    }

    #[test]
    fn both_schemes_are_offered_where_both_are_taken() {
        let plain = |name: &str| format!("{name} realm=\"h\"");
        let algs = format!(", algs=\"{DPOP_ALGORITHMS}\"");
        let (bearer, dpop) = (plain("Bearer"), plain("DPoP"));
        let error = ", error=\"invalid_token\"";
        for (schemes, reason, scheme, expected) in [
            (Schemes::Either, Reason::HeaderMissing, Scheme::Bearer, vec![bearer.clone(), format!("{dpop}{algs}")]),
            (
                Schemes::Either,
                Reason::TokenExpired,
                Scheme::Bearer,
                vec![format!("{bearer}{error}"), format!("{dpop}{algs}")],
            ),
            (Schemes::Either, Reason::TokenExpired, Scheme::Dpop, vec![bearer.clone(), format!("{dpop}{error}{algs}")]),
            (Schemes::Dpop, Reason::TokenExpired, Scheme::Bearer, vec![format!("{dpop}{error}{algs}")]),
            (Schemes::Dpop, Reason::HeaderMissing, Scheme::Bearer, vec![format!("{dpop}{algs}")]),
            (Schemes::Bearer, Reason::TokenExpired, Scheme::Bearer, vec![format!("{bearer}{error}")]),
        ] {
            let (answers, _) = parse("{}", schemes);
            let seen = answers.answer(status(reason), reason, scheme, b"h").challenges;
            let seen: Vec<_> = seen.into_iter().flatten().map(|text| String::from_utf8(text).expect("text")).collect();
            assert_eq!(seen, expected, "{schemes:?} {reason:?} {scheme:?}");
        }
    }

    #[test]
    fn proofs_are_taken_with_the_algorithms_listed() {
        let taken = crate::token::dpop::ALGORITHMS.map(|algorithm| format!("{algorithm:?}"));
        assert_eq!(DPOP_ALGORITHMS, taken.join(" "));
    }

    #[test]
    fn bodies_have_the_configured_messages() {
        let (answers, _) = parse("{unauthorized_error_message: Who?, forbidden_error_message: No.}", Schemes::Bearer);
        for (status, reason, expected, challenged) in [
            (401, Reason::HeaderMissing, "Who?", true),
            (403, Reason::ConsumerUnknown, "No.", false),
            (403, Reason::ScopeMissing, "No.", true),
            (400, Reason::TokenInQuery, "Bad Request", true),
            (503, Reason::KeysUnavailable, "Service Unavailable", false),
        ] {
            let answer = answers.answer(status, reason, Scheme::Bearer, b"h");
            assert_eq!((answer.message, answer.challenges[0].is_some()), (expected, challenged));
        }
    }

    #[test]
    fn nothing_foreign_ends_a_quoted_text() {
        // The phrases of all reasons are characters of `error_description` (RFC 6750, 3), and the host loses others.
        let harmless = |byte: u8| matches!(byte, 0x20 | 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
        for reason in Reason::ALL {
            assert!(reason.phrase().bytes().all(harmless), "{reason:?}");
        }
        for (host, expected) in [
            (&b"api.example.com"[..], "Bearer realm=\"api.example.com\""),
            (b"[::1]:8443", "Bearer realm=\"[::1]:8443\""),
            (b"a\"\r\nX: y\\", "Bearer realm=\"aX:y\""),
        ] {
            assert_eq!(Challenge::new(Scheme::Bearer, host).into_value(), expected.as_bytes());
        }
        let configured = Challenge::of_realm(Scheme::Bearer, r#"the "inner\" ring"#).into_value();
        assert_eq!(configured, br#"Bearer realm="the \"inner\\\" ring""#);
    }

    #[test]
    fn the_metadata_is_at_an_https_url() {
        for (url, good) in [
            ("https://api.example/.well-known/oauth-protected-resource", true),
            ("https://api.example?x=1", true),
            ("http://api.example/m", false),
            ("https://", false),
            ("https:///m", false),
            ("https://u:p@api.example/m", false),
            ("https://api.example/m#f", false),
            ("https://api.example/\\\"m", false),
            ("https://api.example/\\tm", false),
            ("https://api.ex\u{e4}mple", false),
        ] {
            let (_, problems) = parse(&format!("{{resource_metadata: \"{url}\"}}"), Schemes::Bearer);
            assert_eq!(problems.is_empty(), good, "{url}: {problems:?}");
        }
    }
}
