//! What the error log and `edge explain` say about a token: the claims that decide, never the token.
//!
//! Built only when a line is written or somebody listens. Everything taken from the token is unverified, quoted and cut.

use super::claims::{ClaimPath, Facts};
use super::json::{Document, Kind, Value};
use super::jws::{self, Jws, Shape};
use super::{Issuers, Now, Refused, Validator};
use crate::reason::Reason;
use crate::trace::{Check, Observer};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::fmt::Write;

/// Longest text taken over from a token.
const MAX_CHARS: usize = 120;

/// A text of the token as a log may carry it: quoted, controls escaped, cut.
pub fn quote(text: &str) -> String {
    let cut: String = text.chars().take(MAX_CHARS).collect();
    let more = if cut.len() < text.len() { "…" } else { "" };
    format!("{cut:?}{more}")
}

/// A claim as a log may carry it; at most eight items of an array.
pub(crate) fn quote_value(value: Option<Value<'_>>) -> String {
    match value {
        None => "absent".to_owned(),
        Some(value) if value.is_text() => quote(&value.text().unwrap_or_default()),
        Some(value) if value.kind() == Kind::Array => {
            let items: Vec<_> = value.items().take(8).map(|item| quote_value(Some(item))).collect();
            format!("[{}]", items.join(","))
        }
        Some(value) => quote(value.raw()),
    }
}

/// The detail for a refusal, with Kong's phrase where there is one.
pub fn explain(validator: &Validator, reason: Reason, token: &[u8], now: Now) -> String {
    let Ok(jws) = Jws::parse(token) else { return format!("token of {} bytes", token.len()) };
    let payload = jws.payload().and_then(|payload| Facts::parse(payload, &jws.typ));
    let mut out = format!("alg {:?}, kid {}", jws.algorithm, jws.kid.as_deref().map_or("absent".to_owned(), quote));
    let Ok(facts) = payload else { return out };
    let claim = |name: &str| facts.claim(&ClaimPath::new([name]));
    let iss = quote_value(facts.issuer());
    let seconds = |ms: i64| ms.div_euclid(1000);
    // Writing to a string cannot fail.
    let _ = match reason {
        Reason::TokenExpired => {
            let exp = facts.exp_ms().unwrap_or_default();
            let ago = seconds(now.unix_ms - exp);
            if ago < 0 {
                return format!("{out}, iss {iss}; the issuer's answer ends before its exp claim ({})", seconds(exp));
            }
            write!(out, ", iss {iss}; invalid exp claim ({}) was specified for access token, {ago} s ago", seconds(exp))
        }
        Reason::TokenNotYetValid => write!(out, ", iss {iss}, nbf {}", quote_value(claim("nbf"))),
        Reason::IssuerNotAllowed => {
            let expected = match &validator.settings().issuers {
                Issuers::Listed(issuers) => format!("{issuers:?}"),
                Issuers::Any => "any".to_owned(),
                Issuers::Discovered => {
                    format!("{:?}", validator.keys().and_then(|keys| keys.keys().issuer.clone()).unwrap_or_default())
                }
            };
            write!(out, "; invalid issuer ({iss}) was specified for access token, {expected} was expected")
        }
        Reason::TypNotAllowed => write!(out, ", iss {iss}, typ {}", quote(&jws.typ)),
        Reason::ScopeMissing => {
            let scope = claim("scope").or_else(|| claim("scp"));
            write!(out, ", iss {iss}, scope {}", quote_value(scope))
        }
        Reason::DomainNotAllowed => write!(out, ", iss {iss}, hd {}", quote_value(claim("hd"))),
        Reason::AcrInsufficient => write!(out, ", iss {iss}, acr {}", quote_value(claim("acr"))),
        Reason::AuthenticationTooOld => write!(out, ", iss {iss}, auth_time {}", quote_value(claim("auth_time"))),
        _ => write!(out, ", iss {iss}, aud {}", quote_value(claim("aud"))),
    };
    out
}

/// What a JWT says of its end, in milliseconds since 1970. Not verified.
pub fn expiry_ms(token: &[u8]) -> Option<i64> {
    let jws = Jws::parse(token).ok()?;
    Facts::parse(jws.payload().ok()?, &jws.typ).ok()?.exp_ms()
}

/// What a token looks like.
pub(super) fn form(shape: Shape, token: &[u8]) -> String {
    let what = match shape {
        Shape::Jws if jws::begins_with_header(token) => "a JWT of three parts",
        Shape::Jws => "three parts that are no JWT",
        Shape::Broken => "a JWT with a part missing or too many",
        Shape::Opaque => "an opaque token",
    };
    format!("{what}, {} bytes", token.len())
}

/// A member of a token's header, however little else of it can be read.
pub(super) fn header_member(token: &[u8], name: &str) -> String {
    let part = token.split(|byte| *byte == b'.').next().unwrap_or_default();
    let document = URL_SAFE_NO_PAD.decode(part).ok().and_then(|json| Document::parse(json).ok());
    let member = document.as_ref().and_then(|document| document.root().member(name));
    quote_value(member)
}

/// `exp` and `nbf`, and how far they are from now.
pub(super) fn times(facts: &Facts, now: Now) -> String {
    let distance = |name: &str, in_force: Option<i64>| {
        let claim = facts.claim(&ClaimPath::new([name]));
        let Some(ms) = in_force else { return format!("{name} {}", quote_value(claim)) };
        let seconds = (ms - now.unix_ms).div_euclid(1000);
        match seconds < 0 {
            true => format!("{name} {} ({} s ago)", ms.div_euclid(1000), -seconds),
            false => format!("{name} {} (in {seconds} s)", ms.div_euclid(1000)),
        }
    };
    format!("{}, {}", distance("exp", facts.exp_ms()), distance("nbf", facts.nbf_ms()))
}

/// When a JWT says that it expires, whatever else is wrong with it.
pub fn expires_unix_ms(token: &[u8]) -> Option<i64> {
    let jws = Jws::parse(token).ok()?;
    Facts::parse(jws.payload().ok()?, &jws.typ).ok()?.exp_ms()
}

/// What of an issuer's answer tells the operator that it is the right one.
pub(super) fn said(facts: &Facts) -> String {
    let claim = |name: &str| quote_value(facts.claim(&ClaimPath::new([name])));
    format!("active, sub {}, client_id {}", claim("sub"), claim("client_id"))
}

/// Why asking came to no verdict.
pub(super) fn unanswered(observer: Observer<'_>, refused: Refused) {
    let (check, found) = match refused.reason {
        Reason::IssuerNotAllowed => (Check::Issuer, "the issuer's answer names another `iss`"),
        Reason::IntrospectionFailed => (Check::Introspection, "the issuer gave no usable answer"),
        Reason::IntrospectionUnavailable => (Check::Introspection, "nobody to ask about it"),
        _ => (Check::Introspection, "an answer with malformed claims"),
    };
    observer.note(check, false, || match refused.fault {
        Some(fault) => format!("{found}: {fault}"),
        None => found.to_owned(),
    });
}

impl Validator {
    /// What the configuration wants of a check that this validator makes; nothing where it makes none.
    pub fn demand(&self, check: Check) -> Option<String> {
        let settings = &self.settings;
        let keyed = self.remote.as_ref().is_none_or(|remote| remote.jwts != super::JwtBy::Introspection);
        let of_jwts = |text: String| keyed.then_some(text);
        match check {
            Check::Shape if self.remote.is_some() => {
                Some(format!("a JWT or an opaque token of at most {} bytes", jws::MAX_BYTES))
            }
            Check::Shape => Some(format!("a JWT of three parts and at most {} bytes", jws::MAX_BYTES)),
            Check::Header => of_jwts("a strict JSON object without crit, b64, enc and zip".to_owned()),
            Check::Algorithm => of_jwts(format!("one of {:?}, and the key's", settings.algorithms)),
            Check::Type => {
                let name = |typ: &str| if typ.is_empty() { "absent".to_owned() } else { format!("{typ:?}") };
                of_jwts(format!(
                    "typ one of {}",
                    settings.types.iter().map(|typ| name(typ)).collect::<Vec<_>>().join(", ")
                ))
            }
            Check::Payload => of_jwts("a JSON object whose registered claims have their types".to_owned()),
            Check::Time if settings.verify_claims => {
                Some(format!("exp ahead and nbf past, leeway {} s", settings.leeway.as_secs_f64()))
            }
            Check::Issuer => match &settings.issuers {
                Issuers::Listed(issuers) => Some(format!("iss one of {issuers:?}")),
                Issuers::Any => None,
                Issuers::Discovered if !settings.verify_claims => None,
                Issuers::Discovered => {
                    let issuer = self.keys.as_ref().and_then(|keys| keys.keys().issuer.clone());
                    Some(issuer.map_or("the discovered issuer".to_owned(), |issuer| format!("iss {issuer:?}")))
                }
            },
            Check::Key if settings.verify_signature => {
                let urls = self.keys.as_ref().map(|keys| keys.urls()).unwrap_or_default();
                let secrets = if self.secrets.is_empty() { "" } else { ", or `client_secret` for HS algorithms" };
                of_jwts(format!("a key of {}{secrets}", urls.join(", ")))
            }
            Check::Signature if settings.verify_signature => of_jwts("a signature by that key".to_owned()),
            Check::Introspection => {
                let tokens = match self.remote.as_ref()?.jwts {
                    super::JwtBy::Keys => "of opaque tokens",
                    super::JwtBy::KeysThenIntrospection | super::JwtBy::Introspection => "of every token",
                };
                Some(format!("the issuer says {tokens} that they are active"))
            }
            _ => None,
        }
    }
}
