//! How the tokens are made that go upstream.

use std::sync::Arc;

use super::super::Signing;
use super::super::claims::{ALLOWED, NewClaims, STRICT, Strict, configured, json};
use super::super::credential::Destination;
use super::super::names::Names;
use super::{Shared, YEAR_SECS, authenticated, period};
use crate::config::reader::Reader;
use crate::crypto::FieldDigest;
use crate::crypto::sign::SigningAlgorithm;
use crate::http_client::Options;
use crate::keysets::{Origin, SetSettings};

/// How the token is signed that goes upstream, and a hash over everything it depends on.
pub(super) fn signing(
    config: &mut Reader<'_>,
    names: &Names,
    shared: &Shared<'_>,
    options: &Options,
    default: Option<&'static str>,
) -> Option<(Signing, [u8; 32])> {
    let is_wanted = config.bool(names.signing).unwrap_or(true);
    let expected = "one of the algorithms that Kong's reference lists";
    let algorithm = config.parsed(names.signing_algorithm, expected, SigningAlgorithm::from_name);
    let algorithm = algorithm.unwrap_or(SigningAlgorithm::RS256);
    let issuer = config.string(names.issuer).unwrap_or("kong").into();
    let access = (names.keyset_client_username, names.keyset_client_password, names.keyset_client_certificate);
    let options = authenticated(config, access, shared, options);
    let rotate_period = period(config, names.keyset_rotate_period);
    let name = config.string(names.keyset).unwrap_or("kong");
    let destination = Destination::read(config, names.upstream_header, default);
    let leeway = config.number(names.upstream_leeway, -YEAR_SECS..=YEAR_SECS).unwrap_or_default();
    let own = claims(config, names.add_claims);
    let add: Vec<_> = shared.add.iter().cloned().chain(own).collect();
    let own = claims(config, names.set_claims);
    let set: Vec<_> = shared.set.iter().cloned().chain(own).collect();
    let remove: Box<[Box<str>]> =
        config.strings_lenient(names.remove_claims).unwrap_or_default().into_iter().map(Box::from).collect();
    let destination = destination.filter(|_| is_wanted)?;
    if leeway > 0.0 {
        match shared.strict {
            None => config.warn(names.upstream_leeway, "the upstream's token outlives the one it was made of"),
            Some(_) => config.problem(names.upstream_leeway, leeway.to_string(), "at most 0 under `strict_claims`"),
        }
    }
    if shared.strict.is_some() {
        let pairs = add.iter().chain(&set).map(|(name, _)| name).chain(&remove);
        for name in pairs.filter(|name| STRICT.contains(&&***name)) {
            let expected = format!("other claims: under `strict_claims` the edge writes {}", STRICT.join(", "));
            config.problem(names.set_claims, format!("{name:?}"), expected);
        }
    }
    let is_url = ["http://", "https://"].iter().any(|scheme| name.starts_with(scheme));
    let origin = match is_url {
        true => {
            if let Err(error) = shared.env.keys().http().check(name) {
                config.problem(names.keyset, error.to_string(), "a name, or an https URL");
                return None;
            }
            Origin::Fetched { url: name.into(), options }
        }
        false => {
            if let Err(why) = shared.env.key_sets().may_generate() {
                config.problem(names.keyset, format!("{name:?}, which is to be generated"), why);
            }
            if algorithm.is_symmetric() {
                let expected =
                    "an asymmetric one, or a URL as the key set: nobody else has the secrets of a generated set";
                config.problem(names.signing_algorithm, algorithm.name(), expected);
            }
            Origin::Named(name.into())
        }
    };
    let claims = NewClaims {
        issuer,
        leeway_ms: (leeway * 1000.0) as i64,
        remove,
        add: add.into(),
        set: set.into(),
        strict: shared.strict.clone(),
    };
    let digest = claims.digest(FieldDigest::default()).field(algorithm.name()).field(name);
    let signing = Signing {
        keys: shared.env.key_sets().set(SetSettings { origin, rotate_period }),
        algorithm,
        claims,
        destination,
        signatures: Arc::clone(shared.env.signatures()),
        control: shared.env.control().cloned(),
    };
    Some((signing, digest.finish()))
}

/// A map from claims to values, each a text that may be JSON.
pub(super) fn claims(config: &mut Reader<'_>, key: &'static str) -> Vec<(Box<str>, Box<str>)> {
    let pairs = config.map(key).unwrap_or_default().into_iter();
    pairs.map(|(name, text)| (name.into(), configured(text))).collect()
}

/// `strict_claims` and what belongs to it.
pub(super) fn strict(config: &mut Reader<'_>) -> Option<Strict> {
    let is_strict = config.bool("strict_claims").unwrap_or(false);
    let audience = config.strings_lenient("upstream_audience");
    let allowed = config.strings_lenient("claims_allowed");
    if !is_strict {
        for (key, is_written) in [("upstream_audience", audience.is_some()), ("claims_allowed", allowed.is_some())] {
            if is_written {
                config.problem(key, "it without `strict_claims`", "`strict_claims: true` beside it, or neither");
            }
        }
        return None;
    }
    let audience = audience.unwrap_or_default();
    let audience = match &audience[..] {
        [] => {
            config.problem("strict_claims", "true without `upstream_audience`", "whom the token is for upstream");
            return None;
        }
        [one] => json(one),
        many => serde_json::Value::from(many.to_vec()).to_string(),
    };
    let allowed = allowed.unwrap_or_else(|| ALLOWED.to_vec());
    Some(Strict { audience: audience.into(), allowed: allowed.into_iter().map(Box::from).collect() })
}
