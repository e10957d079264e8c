//! What the error log says about a refused token: the claims that decided, never the token.
//!
//! Built only when a line is written. Everything taken from the token is unverified, quoted and cut.

use super::claims::{ClaimPath, Facts};
use super::json::{Kind, Value};
use super::jws::Jws;
use super::{Issuers, Now, Validator};
use crate::reason::Reason;
use std::fmt::Write;

/// Longest text taken over from a token.
const MAX_CHARS: usize = 120;

/// A text of the token as a log may carry it: quoted, controls escaped, cut.
pub fn quote(text: &str) -> String {
    let cut: String = text.chars().take(MAX_CHARS).collect();
    let more = if cut.len() < text.len() { "…" } else { "" };
    format!("{cut:?}{more}")
}

fn quote_value(value: Option<Value<'_>>) -> String {
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
            write!(out, ", iss {iss}; invalid exp claim ({}) was specified for access token, {ago} s ago", seconds(exp))
        }
        Reason::TokenNotYetValid => write!(out, ", iss {iss}, nbf {}", quote_value(claim("nbf"))),
        Reason::IssuerNotAllowed => {
            let expected = match &validator.settings().issuers {
                Issuers::Listed(issuers) => format!("{issuers:?}"),
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
