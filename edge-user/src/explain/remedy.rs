//! The one change that would let a refused request pass: the client's, the configuration's, or somebody else's.

use crate::reason::Reason;

/// What clocks may differ by before somebody should set them.
const NOTABLE_SKEW_MS: i64 = 1000;

/// Who could do what; each alone is enough.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Remedy {
    /// What the client does.
    pub(super) client: Option<String>,
    /// What the configuration says instead, with the parameter's name.
    pub(super) configuration: Option<String>,
    /// What somebody does about the issuer or this machine.
    pub(super) operator: Option<String>,
}

impl Remedy {
    /// By the reason of the refusal, what was expected and what was found. Nothing here makes a check weaker that keeps
    /// strangers out: a signature has no other remedy than a good one.
    pub(super) fn of(reason: Reason, expected: &str, found: &str) -> Self {
        let client = |text: String| Self { client: Some(text), ..Self::default() };
        let configuration = |text: &str| Some(text.to_owned());
        let operator = |text: &str| Self { operator: Some(text.to_owned()), ..Self::default() };
        let value = found.split_once(' ').map_or(found, |(_, value)| value);
        let add = |parameter: &str, what: &str| match value {
            "absent" | "" => Some(format!("name the claim that has {what}, or drop `{parameter}`")),
            value => Some(format!("add {value} to `{parameter}`")),
        };
        // A list takes the place of its default, so what is taken now must stand in it too.
        let beside = |parameter: &str| add(parameter, "it").map(|text| format!("{text}, beside all that it takes now"));
        let ask = |what: &str| client(format!("ask the issuer for a token {what} ({expected})"));
        match reason {
            Reason::HeaderMissing => Self {
                configuration: configuration("`anonymous`, if requests without a token shall pass"),
                ..client(format!("send {expected}"))
            },
            Reason::HeaderMalformed | Reason::TokenInQuery => {
                client(format!("send {expected}: no quotes, no second one, nothing behind it"))
            }
            Reason::TokenMalformed => client("send the token as the issuer gave it, whole and unchanged".to_owned()),
            Reason::TokenTooLarge => client("ask the issuer for a token with fewer claims".to_owned()),
            Reason::AlgNotAllowed => Self {
                configuration: configuration("`algorithms_allowed`, where the algorithm is meant and its key is too"),
                ..client(format!("have the issuer sign with {expected}"))
            },
            Reason::TypNotAllowed => {
                Self { configuration: beside("typ_allowed"), ..client("send an access token".to_owned()) }
            }
            Reason::ClaimInvalid => client(format!("ask the issuer for a token with well-formed claims ({expected})")),
            Reason::TokenExpired => Self {
                configuration: configuration("a larger `leeway`, where clocks differ"),
                ..client("get a new token".to_owned())
            },
            Reason::TokenNotYetValid => Self {
                configuration: configuration("a larger `leeway`, where clocks differ"),
                ..client("wait until the token's nbf".to_owned())
            },
            Reason::IssuerNotAllowed => {
                Self { configuration: beside("issuers_allowed"), ..ask("of the issuer that is configured") }
            }
            Reason::KidUnknown => Self {
                configuration: configuration("`extra_jwks_uris`, where the key stands in another set"),
                ..client("get a token signed with a key that the issuer publishes".to_owned())
            },
            Reason::SignatureInvalid => client("get a token from the issuer, and send it unchanged".to_owned()),
            Reason::IntrospectionUnavailable => Self {
                configuration: configuration(
                    "`introspection` in `auth_methods`, `client_id` and `client_secret` to ask with, and \
                     `introspection_endpoint` where the issuer names none",
                ),
                ..client("send a JWT".to_owned())
            },
            Reason::TokenInactive => {
                client("get a new token: the issuer revoked this one, or never knew it".to_owned())
            }
            Reason::TokenBound => Self {
                configuration: configuration("`proof_of_possession_mtls` or `proof_of_possession_dpop`: optional"),
                ..client(format!("show the token with the proof of its key ({expected})"))
            },
            Reason::TokenUnbound => Self {
                configuration: configuration(
                    "`optional` in place of `strict` in `proof_of_possession_mtls` and `proof_of_possession_dpop`",
                ),
                ..ask("bound to its key")
            },
            Reason::ProofMissing => client("send a proof in the header DPoP (RFC 9449, 4)".to_owned()),
            Reason::ProofInvalid => client(format!("send a proof for this request and token: {found}")),
            Reason::ProofReplayed => client("make a new proof for each request".to_owned()),
            Reason::NonceMissing => {
                client("use the nonce of the answer's DPoP-Nonce; only a running edge knows its own".to_owned())
            }
            Reason::CertificateMissing => client("use the certificate that the token is bound to".to_owned()),
            Reason::CertificateInvalid => Self {
                configuration: configuration("the authority in `proof_of_possession_mtls_from_header.ca_certificates`"),
                ..client("use a certificate of a known authority".to_owned())
            },
            Reason::CertificateMismatch => {
                client("use the certificate that the token is bound to, while it is valid".to_owned())
            }
            Reason::IdTokenUsed => Self {
                configuration: configuration("`id_tokens_refused: false`, which takes ID tokens as Kong does"),
                ..client("send the access token that came with the ID token".to_owned())
            },
            Reason::ProfileViolated => Self {
                configuration: configuration("no `access_token_profile`"),
                ..ask("with every claim of RFC 9068, 2.2")
            },
            Reason::DomainNotAllowed => Self { configuration: add("domains", "it"), ..ask("of a user of that domain") },
            Reason::SessionMismatch => client(format!("send the cookie of the token's session ({expected})")),
            Reason::AcrInsufficient => {
                Self { configuration: add("acr_required", "it"), ..client(format!("log in anew with {expected}")) }
            }
            Reason::AuthenticationTooOld => Self {
                configuration: configuration("a larger `max_age`"),
                ..client(format!("log in anew ({expected})"))
            },
            Reason::ClaimForbidden => Self {
                configuration: Some(format!(
                    "take {} out of `claims_forbidden`",
                    found.split_once(' ').map_or(found, |(name, _)| name)
                )),
                ..ask("without the claim")
            },
            Reason::AudienceNotAllowed => {
                Self { configuration: add("audience_required", "it (`audience_claim`)"), ..ask("for the audience") }
            }
            Reason::ScopeMissing => {
                Self { configuration: add("scopes_required", "them (`scopes_claim`)"), ..ask("with the scopes") }
            }
            Reason::GroupMissing => {
                Self { configuration: add("groups_required", "them (`groups_claim`)"), ..ask("with the groups") }
            }
            Reason::RoleMissing => {
                Self { configuration: add("roles_required", "them (`roles_claim`)"), ..ask("with the roles") }
            }
            Reason::ConsumerUnknown => Self {
                configuration: Some(format!("{expected}; or `consumer_optional: true`; found {found}")),
                ..Self::default()
            },
            Reason::ConsumerGroupUnknown => Self {
                configuration: Some(format!("{expected}; or `consumer_groups_optional: true`; found {found}")),
                ..Self::default()
            },
            Reason::IdTokenInvalid => client("send the ID token that came with the access token".to_owned()),
            Reason::UserInfoRefused => ask("with the scope openid"),
            Reason::GrantRefused | Reason::ExchangeRefused => {
                client("send a credential that the issuer takes".to_owned())
            }
            Reason::KeysUnavailable => operator("make the issuer's discovery and keys reachable: see `edge doctor`"),
            Reason::IntrospectionFailed | Reason::GrantFailed | Reason::ExchangeFailed | Reason::UserInfoFailed => {
                operator("make the issuer answer, and take the edge's own credentials: see `edge doctor`")
            }
            _ => operator("ask again"),
        }
    }

    /// The same where clocks differ by so much, and the reason is one of time.
    pub(super) fn with_skew(self, reason: Reason, skew_ms: i64) -> Self {
        let is_of_time = matches!(reason, Reason::TokenExpired | Reason::TokenNotYetValid);
        if !is_of_time || skew_ms.abs() < NOTABLE_SKEW_MS {
            return self;
        }
        let seconds = skew_ms as f64 / 1000.0;
        Self { operator: Some(format!("set the clocks (NTP): the issuer's differs by {seconds:.1} s")), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(reason: Reason, expected: &str, found: &str, client: Option<&str>, configuration: Option<&str>) {
        let remedy = Remedy::of(reason, expected, found);
        assert_eq!((remedy.client.as_deref(), remedy.configuration.as_deref()), (client, configuration), "{reason:?}");
    }

    #[test]
    fn both_sides_are_told_with_values_and_parameters() {
        check(
            Reason::AudienceNotAllowed,
            "aud with \"api://orders\"",
            "aud \"api://other\"",
            Some("ask the issuer for a token for the audience (aud with \"api://orders\")"),
            Some("add \"api://other\" to `audience_required`"),
        );
        check(
            Reason::ScopeMissing,
            "scope with \"a\"",
            "scope absent",
            Some("ask the issuer for a token with the scopes (scope with \"a\")"),
            Some("name the claim that has them (`scopes_claim`), or drop `scopes_required`"),
        );
        check(
            Reason::ClaimForbidden,
            "none of x",
            "x 1",
            Some("ask the issuer for a token without the claim (none of x)"),
            Some("take x out of `claims_forbidden`"),
        );
        check(
            Reason::SignatureInvalid,
            "a signature by that key",
            "",
            Some("get a token from the issuer, and send it unchanged"),
            None,
        );
    }

    #[test]
    fn clocks_are_blamed_for_times_alone() {
        for (reason, skew_ms, blamed) in [
            (Reason::TokenNotYetValid, 4000, true),
            (Reason::TokenExpired, -4000, true),
            (Reason::TokenExpired, 999, false),
            (Reason::AudienceNotAllowed, 4000, false),
        ] {
            let remedy = Remedy::of(reason, "", "").with_skew(reason, skew_ms);
            assert_eq!(remedy.operator.is_some(), blamed, "{reason:?} {skew_ms}");
        }
    }

    #[test]
    fn every_reason_of_a_token_has_a_remedy() {
        for reason in Reason::ALL.iter().filter(|reason| reason.concerns_token()) {
            let Remedy { client, configuration, operator } = Remedy::of(*reason, "e", "f");
            assert!(client.is_some() || configuration.is_some() || operator.is_some(), "{reason:?}");
        }
    }
}
