//! What a route requires of verified facts, beyond that they are good: each failure is one reason.
//!
//! The edge's own parameters: `id_tokens_refused` (default true), `acr_required` (authentication contexts of which one
//! must have been used, RFC 9470), `access_token_profile: rfc9068` (what RFC 9068 makes a must is one).

mod demand;

use super::settings::alias;
use crate::config::reader::Reader;
use crate::crypto;
use crate::http::head::{Head, Known};
use crate::reason::Reason;
use crate::token::Now;
use crate::token::claims::{ClaimPath, Facts, Reading, Required};
use crate::token::json::{Kind, Value};
use crate::trace::{Check, Observer};
use std::time::Duration;

/// Seconds of ten years: more than any login lasts.
const LONGEST_AGE_SECS: f64 = 315_360_000.0;

/// The rules of one instance.
pub(super) struct Rules {
    /// Ids of this gateway at the issuer: the audience of ID tokens. Nothing where those are not refused.
    refuse_id_tokens: Option<Box<[Box<str>]>>,
    forbidden: Box<[ClaimPath]>,
    requirements: Box<[Requirement]>,
    profile: Option<Rfc9068>,
    /// `domains`, of `hd`.
    domains: Option<OneOf>,
    session: Option<Session>,
    /// `acr_required`, of `acr`.
    acr: Option<OneOf>,
    login: Option<Login>,
    leeway_ms: i64,
    /// The first alternative of `scopes_required`.
    scope: Box<str>,
}

/// What rules depend on that is read elsewhere.
pub(super) struct Ground<'a> {
    /// Widens `max_age`.
    pub(super) leeway: Duration,
    /// False leaves `max_age` and `domains` unchecked, as in Kong.
    pub(super) verify_claims: bool,
    /// `client_id`
    pub(super) client_ids: &'a [String],
}

/// One of the four pairs of `*_required` and `*_claim`.
struct Requirement {
    path: ClaimPath,
    reading: Reading,
    required: Required,
    reason: Reason,
}

/// `access_token_profile: rfc9068`: the claims that RFC 9068, 2.2 demands beside `exp` and `iat`.
struct Rfc9068 {
    texts: [ClaimPath; 4],
    aud: ClaimPath,
}

/// A claim that must be one of these strings.
struct OneOf {
    path: ClaimPath,
    values: Box<[Box<str>]>,
}

/// `max_age`, of `auth_time`.
struct Login {
    path: ClaimPath,
    max_age: Duration,
}

/// `jwt_session_cookie`, and the claim that must be equal to it.
struct Session {
    cookie: Box<str>,
    claim: ClaimPath,
}

impl Rules {
    /// Reads the settings; problems go to the reader's sink.
    pub(super) fn parse(config: &mut Reader<'_>, ground: &Ground<'_>) -> Self {
        let refuses = config.bool("id_tokens_refused").unwrap_or(true);
        let refuse_id_tokens = refuses.then(|| ground.client_ids.iter().map(|id| Box::from(&**id)).collect());
        let forbidden = config.strings_lenient("claims_forbidden").unwrap_or_default();
        let forbidden = forbidden.into_iter().map(|name| ClaimPath::new([name])).collect();
        let (requirements, scope) = requirements(config);
        let profile = profile(config);
        let mut domains = config.strings_lenient("domains").map(|list| OneOf::new("hd", &list));
        let max_age = config.number("max_age", 0.0..=LONGEST_AGE_SECS).map(Duration::from_secs_f64);
        let mut login = max_age.map(|max_age| Login { path: ClaimPath::new(["auth_time"]), max_age });
        if domains.as_ref().is_some_and(|domains| domains.values.is_empty()) {
            config.problem("domains", "an empty list", "nothing, or at least one domain");
        }
        if !ground.verify_claims {
            for key in ["domains", "max_age"] {
                if config.has(key) {
                    config.warn(key, "not checked, because `verify_claims` is false");
                }
            }
            (domains, login) = (None, None);
        }
        Self {
            refuse_id_tokens,
            forbidden,
            requirements,
            profile,
            domains,
            session: session(config),
            acr: acr(config),
            login,
            leeway_ms: ground.leeway.as_millis().min(1 << 40) as i64,
            scope,
        }
    }

    /// The header `typ`s that the profile allows, in place of `typ_allowed`: `jws::short_type`'s spelling.
    pub(super) fn types(&self) -> Option<&'static [&'static str]> {
        self.profile.as_ref().map(|_| &["at+jwt"][..])
    }

    /// The scope to ask for, for the challenge (RFC 6750, 3); empty where none is required.
    pub(super) fn scope(&self) -> &str {
        &self.scope
    }

    /// The authentication contexts to ask for, for the challenge (RFC 9470, 3); empty where none is required.
    pub(super) fn acr_values(&self) -> String {
        self.acr.as_ref().map(|acr| acr.values.join(" ")).unwrap_or_default()
    }

    /// The longest time since the login, for the challenge (RFC 9470, 3), in seconds.
    pub(super) fn max_age_secs(&self) -> Option<u64> {
        self.login.as_ref().map(|login| login.max_age.as_secs())
    }

    /// Whether the facts are those of an ID token, where such are refused.
    pub(super) fn is_id_token(&self, facts: &Facts) -> bool {
        self.refuse_id_tokens.as_ref().is_some_and(|clients| facts.is_id_token(clients))
    }

    /// Whether the facts are what the route requires. `head` is the request's.
    pub(super) fn check(&self, facts: &Facts, head: &Head, now: Now, observer: Observer<'_>) -> Result<(), Reason> {
        let claim = |path| demand::claim(facts, path);
        if let Some(clients) = &self.refuse_id_tokens {
            let passed = !facts.is_id_token(clients);
            observer.check(Check::IdToken, passed, Reason::IdTokenUsed, || demand::marks(facts))?;
        }
        if let Some(profile) = &self.profile {
            let passed = profile.is_kept_by(facts);
            observer.check(Check::Profile, passed, Reason::ProfileViolated, || profile.found(facts))?;
        }
        if let Some(domains) = &self.domains {
            let passed = domains.holds(facts);
            observer.check(Check::Domains, passed, Reason::DomainNotAllowed, || claim(&domains.path))?;
        }
        if let Some(session) = &self.session {
            let passed = session.is_of(facts, head);
            observer.check(Check::Session, passed, Reason::SessionMismatch, || session.found(facts, head))?;
        }
        if let Some(acr) = &self.acr {
            let passed = acr.holds(facts);
            observer.check(Check::Acr, passed, Reason::AcrInsufficient, || claim(&acr.path))?;
        }
        if let Some(login) = &self.login {
            observer.result(Check::MaxAge, login.check(facts, now, self.leeway_ms), || login.found(facts, now))?;
        }
        if !self.forbidden.is_empty() {
            let present = self.forbidden.iter().find(|path| facts.claim(path).is_some());
            observer.check(Check::ClaimsForbidden, present.is_none(), Reason::ClaimForbidden, || {
                present.map_or_else(|| "none of them".to_owned(), claim)
            })?;
        }
        for Requirement { path, reading, required, reason } in &self.requirements {
            let passed = required.met_by(facts.claim(path), *reading);
            observer.check(demand::check_of(*reason), passed, *reason, || claim(path))?;
        }
        Ok(())
    }
}

impl Rfc9068 {
    fn new() -> Self {
        Self {
            texts: ["iss", "sub", "client_id", "jti"].map(|name| ClaimPath::new([name])),
            aud: ClaimPath::new(["aud"]),
        }
    }

    /// Whether the claims stand here. Which type the header names, who issued the token and whether it is in time has
    /// been checked before; which audience is wanted, `audience_required` says.
    fn is_kept_by(&self, facts: &Facts) -> bool {
        let text = |path| facts.claim(path).and_then(Value::text).is_some_and(|text| !text.is_empty());
        let aud = facts.claim(&self.aud).is_some_and(|aud| match aud.kind() {
            Kind::Array => aud.items().next().is_some() && aud.items().all(Value::is_text),
            _ => aud.is_text(),
        });
        aud && facts.exp_ms().is_some() && facts.iat_ms().is_some() && self.texts.iter().all(text)
    }
}

impl OneOf {
    fn new(claim: &str, values: &[&str]) -> Self {
        Self { path: ClaimPath::new([claim]), values: values.iter().map(|value| Box::from(*value)).collect() }
    }

    fn holds(&self, facts: &Facts) -> bool {
        facts.claim(&self.path).is_some_and(|claim| self.values.iter().any(|value| claim.is(value)))
    }
}

impl Login {
    /// Whether the user logged in lately (OpenID Connect Core, 3.1.2.1; RFC 9470, 5).
    fn check(&self, facts: &Facts, now: Now, leeway_ms: i64) -> Result<(), Reason> {
        // An issuer that does not say when the login was says nothing that could be young enough.
        let auth_time = facts.claim(&self.path).ok_or(Reason::AuthenticationTooOld)?;
        let auth_time = auth_time.seconds_as_ms().ok_or(Reason::ClaimInvalid)?;
        let age_ms = now.unix_ms.saturating_sub(auth_time);
        if age_ms < -leeway_ms {
            return Err(Reason::ClaimInvalid);
        }
        match age_ms > (self.max_age.as_millis() as i64).saturating_add(leeway_ms) {
            true => Err(Reason::AuthenticationTooOld),
            false => Ok(()),
        }
    }
}

impl Session {
    /// Whether the request bears the cookie of the token's session. A second cookie of that name must be equal too.
    fn is_of(&self, facts: &Facts, head: &Head) -> bool {
        let Some(session) = facts.claim(&self.claim).and_then(Value::text).filter(|session| !session.is_empty()) else {
            return false;
        };
        let mut cookies = cookies(head, self.cookie.as_bytes()).peekable();
        cookies.peek().is_some() && cookies.all(|cookie| crypto::constant_time_eq(cookie, session.as_bytes()))
    }
}

/// The values of a cookie (RFC 6265, 4.2.1); HTTP/2 may spread cookies over several fields (RFC 9113, 8.2.3).
fn cookies<'h>(head: &'h Head, name: &'h [u8]) -> impl Iterator<Item = &'h [u8]> {
    let pairs = head.all(Known::Cookie).flat_map(|field| field.split(|byte| *byte == b';'));
    pairs.filter_map(move |pair| {
        let pair = pair.trim_ascii();
        let value = pair.strip_prefix(name)?.strip_prefix(b"=")?;
        Some(value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value))
    })
}

/// The four pairs, and the scope that a client is told to ask for.
fn requirements(config: &mut Reader<'_>) -> (Box<[Requirement]>, Box<str>) {
    let audience =
        if alias(config, "allowed_audiences", "audience_required") { "allowed_audiences" } else { "audience_required" };
    let pairs = [
        (audience, "audience_claim", "aud", Reason::AudienceNotAllowed),
        ("scopes_required", "scopes_claim", "scope", Reason::ScopeMissing),
        ("groups_required", "groups_claim", "groups", Reason::GroupMissing),
        ("roles_required", "roles_claim", "roles", Reason::RoleMissing),
    ];
    let (mut requirements, mut scope) = (Vec::new(), String::new());
    for (required, claim, default, reason) in pairs {
        let path = config.strings_lenient(claim).unwrap_or_else(|| vec![default]);
        let Some(elements) = config.strings_lenient(required) else { continue };
        if elements.is_empty() || path.is_empty() {
            config.problem(required, "an empty list", "nothing, or at least one element");
        }
        if reason == Reason::ScopeMissing {
            scope = scope_of(&elements);
        }
        let path = ClaimPath::new(path);
        // `aud` itself is a value or a list of values (RFC 7519, 4.1.3); claims named instead are read as Kong does.
        let reading = if path.is("aud") { Reading::Whole } else { Reading::Words };
        requirements.push(Requirement { path, reading, required: Required::new(elements), reason });
    }
    (requirements.into(), scope.into())
}

/// The words of the first alternative; nothing where one of them is no scope (RFC 6749, 3.3).
fn scope_of(elements: &[&str]) -> String {
    let words: Vec<_> = elements.first().map_or("", |first| first).split_ascii_whitespace().collect();
    if words.iter().all(|word| word.bytes().all(is_scope_byte)) { words.join(" ") } else { String::new() }
}

/// `NQCHAR` (RFC 6749, A): stands in a quoted string as it is.
fn is_scope_byte(byte: u8) -> bool {
    matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e)
}

fn profile(config: &mut Reader<'_>) -> Option<Rfc9068> {
    config.word("access_token_profile", &[("rfc9068", ())])?;
    if config.has("typ_allowed") {
        config.problem(
            "typ_allowed",
            "header types beside `access_token_profile`",
            "one of them: the profile has its type",
        );
    }
    if !config.has("audience_required") && !config.has("allowed_audiences") {
        config.problem(
            "access_token_profile",
            "rfc9068 alone",
            "`audience_required` too: RFC 9068, 4 wants it checked",
        );
    }
    Some(Rfc9068::new())
}

fn session(config: &mut Reader<'_>) -> Option<Session> {
    let claim = config.strings_lenient("jwt_session_claim").unwrap_or_else(|| vec!["sid"]);
    let is_name = |name: &&str| crate::http::head::is_field_name(name.as_bytes());
    let cookie = config.parsed("jwt_session_cookie", "a cookie's name", |text| Some(text).filter(is_name))?;
    Some(Session { cookie: cookie.into(), claim: ClaimPath::new(claim) })
}

fn acr(config: &mut Reader<'_>) -> Option<OneOf> {
    let expected = "authentication contexts without white space or quotes, such as \"urn:example:mfa\"";
    let is_acr = |text: &&str| text.bytes().all(is_scope_byte);
    let list = config.parsed_list("acr_required", expected, |text| Some(text).filter(is_acr))?;
    if list.is_empty() {
        config.problem("acr_required", "an empty list", "nothing, or at least one authentication context");
    }
    Some(OneOf::new("acr", &list))
}

#[cfg(test)]
mod tests;
