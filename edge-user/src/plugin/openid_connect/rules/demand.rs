//! What the rules want, and what a token has, in words: for `edge explain`.

use super::{Login, Requirement, Rfc9068, Rules, Session, cookies};
use crate::http::head::Head;
use crate::reason::Reason;
use crate::token::Now;
use crate::token::claims::{ClaimPath, Facts};
use crate::token::explain::quote_value;
use crate::token::json::Value;
use crate::trace::Check;

/// The check of a requirement, which is known by its reason.
pub(super) fn check_of(reason: Reason) -> Check {
    match reason {
        Reason::AudienceNotAllowed => Check::Audience,
        Reason::ScopeMissing => Check::Scopes,
        Reason::GroupMissing => Check::Groups,
        _ => Check::Roles,
    }
}

/// A claim by its path.
pub(super) fn claim(facts: &Facts, path: &ClaimPath) -> String {
    format!("{path} {}", quote_value(facts.claim(path)))
}

/// What tells ID tokens from access tokens.
pub(super) fn marks(facts: &Facts) -> String {
    let marks = ["nonce", "at_hash", "c_hash", "typ", "scope", "aud"].map(|name| ClaimPath::new([name]));
    let present = marks.iter().filter(|path| facts.claim(path).is_some()).map(|path| claim(facts, path));
    present.collect::<Vec<_>>().join(", ")
}

impl Rules {
    /// What the configuration wants of a check; nothing where it wants nothing.
    pub(in super::super) fn demand(&self, check: Check) -> Option<String> {
        let one_of = |rule: &super::OneOf| format!("{} one of {:?}", rule.path, rule.values);
        match check {
            Check::IdToken => self.refuse_id_tokens.as_ref().map(|_| "an access token, not an ID token".to_owned()),
            Check::Profile => self.profile.as_ref().map(|_| "iss, sub, client_id, jti, aud, exp, iat".to_owned()),
            Check::Domains => self.domains.as_ref().map(one_of),
            Check::Session => {
                self.session.as_ref().map(|session| format!("the cookie {} equal to {}", session.cookie, session.claim))
            }
            Check::Acr => self.acr.as_ref().map(one_of),
            Check::MaxAge => {
                self.login.as_ref().map(|login| format!("{} at most {} s ago", login.path, login.max_age.as_secs()))
            }
            Check::ClaimsForbidden => (!self.forbidden.is_empty()).then(|| {
                let names: Vec<_> = self.forbidden.iter().map(ToString::to_string).collect();
                format!("none of {}", names.join(", "))
            }),
            _ => {
                let requirement = self.requirements.iter().find(|requirement| check_of(requirement.reason) == check);
                requirement.map(|Requirement { path, required, .. }| format!("{path} with {required}"))
            }
        }
    }
}

impl Rfc9068 {
    pub(super) fn found(&self, facts: &Facts) -> String {
        let all = self.texts.iter().chain([&self.aud]).map(|path| claim(facts, path));
        let times = ["exp", "iat"].map(|name| claim(facts, &ClaimPath::new([name])));
        all.chain(times).collect::<Vec<_>>().join(", ")
    }
}

impl Login {
    pub(super) fn found(&self, facts: &Facts, now: Now) -> String {
        match facts.claim(&self.path).and_then(Value::seconds_as_ms) {
            Some(ms) => format!("{} {} s ago", self.path, (now.unix_ms - ms).div_euclid(1000)),
            None => claim(facts, &self.path),
        }
    }
}

impl Session {
    /// The claim; of the cookie, which is a secret, only whether it came.
    pub(super) fn found(&self, facts: &Facts, head: &Head) -> String {
        let cookies = cookies(head, self.cookie.as_bytes()).count();
        format!("{} cookies of that name, {}", cookies, claim(facts, &self.claim))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing;
    use crate::plugin::openid_connect::rules::Ground;
    use std::time::Duration;

    fn rules(yaml: &str) -> Rules {
        let ground = Ground { leeway: Duration::ZERO, verify_claims: true, client_ids: &[] };
        testing::read("config", yaml, |config| Rules::parse(config, &ground)).0
    }

    #[test]
    fn demands_name_claims_and_alternatives() {
        let check = |yaml: &str, check: Check, expected: Option<&str>| {
            assert_eq!(rules(yaml).demand(check).as_deref(), expected, "{yaml} {check:?}");
        };
        check("{}", Check::Audience, None);
        check("{audience_required: [a, b]}", Check::Audience, Some("aud with \"a\" or \"b\""));
        check("{scopes_required: [a b, c]}", Check::Scopes, Some("scope with \"a\" and \"b\", or \"c\""));
        let roles = "{roles_required: [x], roles_claim: [realm, roles]}";
        check(roles, Check::Roles, Some("realm.roles with \"x\""));
        check(roles, Check::Groups, None);
        check("{acr_required: [a]}", Check::Acr, Some("acr one of [\"a\"]"));
        check("{max_age: 60}", Check::MaxAge, Some("auth_time at most 60 s ago"));
        check("{claims_forbidden: [x, y]}", Check::ClaimsForbidden, Some("none of x, y"));
        check("{domains: [x]}", Check::Domains, Some("hd one of [\"x\"]"));
        check("{jwt_session_cookie: s}", Check::Session, Some("the cookie s equal to sid"));
        check("{id_tokens_refused: false}", Check::IdToken, None);
    }
}
