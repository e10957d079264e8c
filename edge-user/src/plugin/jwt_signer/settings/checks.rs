//! What is required of claims, and whom they name.

use super::super::checks::{By, Checks, Naming, OneOf};
use super::super::names::Names;
use super::DAY_SECS;
use crate::config::reader::Reader;
use crate::config::value::{Kind, Value};
use crate::token::claims::{ClaimPath, Required};

pub(super) fn payload_checks(config: &mut Reader<'_>, names: &Names) -> Checks {
    let verified = config.bool(names.verify_expiry).unwrap_or(true);
    if !verified {
        config.warn(names.verify_expiry, "tokens never expire here");
    }
    let expiry = path(config, names.expiry_claim, Some("exp")).filter(|_| verified);
    let verified = config.bool(names.verify_notbefore).unwrap_or(true);
    let notbefore = path(config, names.notbefore_claim, Some("nbf")).filter(|_| verified);
    Checks {
        expiry,
        expires: true,
        notbefore,
        leeway_ms: leeway(config, names.leeway),
        issuer: one_of(config, names.verify_issuer, (names.issuer_claim, "iss"), names.issuers_allowed),
        subject: one_of(config, names.verify_subject, (names.subject_claim, "sub"), names.subjects_allowed),
        audience: one_of(config, names.verify_audience, (names.audience_claim, "aud"), names.audiences_allowed),
        scopes: scopes(config, names.verify_scopes, names.scopes_claim, names.scopes_required),
        required: paths(config, names.required_claims),
        optional: paths(config, names.optional_claims),
    }
}

pub(super) fn introspection_checks(config: &mut Reader<'_>, names: &Names) -> Checks {
    let verified = config.bool(names.verify_introspection_expiry).unwrap_or(true);
    let expiry = path(config, names.introspection_expiry_claim, Some("exp")).filter(|_| verified);
    let verified = config.bool(names.verify_introspection_notbefore).unwrap_or(true);
    let notbefore = path(config, names.introspection_notbefore_claim, Some("nbf")).filter(|_| verified);
    let issuer = (names.introspection_issuer_claim, "iss");
    let subject = (names.introspection_subject_claim, "sub");
    let audience = (names.introspection_audience_claim, "aud");
    Checks {
        expiry,
        expires: false,
        notbefore,
        leeway_ms: leeway(config, names.introspection_leeway),
        issuer: one_of(config, names.verify_introspection_issuer, issuer, names.introspection_issuers_allowed),
        subject: one_of(config, names.verify_introspection_subject, subject, names.introspection_subjects_allowed),
        audience: one_of(config, names.verify_introspection_audience, audience, names.introspection_audiences_allowed),
        scopes: scopes(
            config,
            names.verify_introspection_scopes,
            names.introspection_scopes_claim,
            names.introspection_scopes_required,
        ),
        required: paths(config, names.introspection_required_claims),
        optional: paths(config, names.introspection_optional_claims),
    }
}

fn leeway(config: &mut Reader<'_>, key: &'static str) -> i64 {
    config.number(key, 0.0..=DAY_SECS).map_or(0, |secs| (secs * 1000.0) as i64)
}

/// A claim path, or this name where nothing is written.
pub(super) fn path(config: &mut Reader<'_>, key: &'static str, default: Option<&str>) -> Option<ClaimPath> {
    match config.strings_lenient(key) {
        None => default.map(|name| ClaimPath::new([name])),
        Some(names) if names.is_empty() => {
            config.problem(key, "an empty list", "the names that lead to the claim");
            None
        }
        Some(names) => Some(ClaimPath::new(names)),
    }
}

/// A list of claim paths.
fn paths(config: &mut Reader<'_>, key: &'static str) -> Box<[ClaimPath]> {
    let path = |value: &Value| match &value.kind {
        Kind::Array(items) => {
            let name = |item: &Value| match &item.kind {
                Kind::String(text) if !text.is_empty() => Some(text.clone()),
                _ => None,
            };
            items.iter().map(name).collect::<Option<Vec<_>>>().filter(|names| !names.is_empty()).map(ClaimPath::new)
        }
        _ => None,
    };
    let Some(value) = config.raw(key) else { return Box::default() };
    let read = match &value.kind {
        Kind::Array(items) => items.iter().map(path).collect::<Option<Vec<_>>>(),
        _ => None,
    };
    if read.is_none() {
        config.problem(
            key,
            "no list of claim paths",
            "claim paths, such as [[\"sub\"], [\"realm_access\", \"roles\"]]",
        );
    }
    read.unwrap_or_default().into()
}

fn one_of(
    config: &mut Reader<'_>,
    verify: &'static str,
    (claim, default): (&'static str, &str),
    allowed: &'static str,
) -> Option<OneOf> {
    let verified = config.bool(verify).unwrap_or(true);
    let path = path(config, claim, Some(default));
    let values = config.strings_lenient(allowed)?;
    if values.is_empty() {
        config.problem(allowed, "an empty list", "nothing, or at least one value");
    }
    if !verified {
        config.warn(verify, &format!("`{allowed}` is not looked at"));
        return None;
    }
    Some(OneOf { path: path?, values: values.into_iter().map(Box::from).collect() })
}

fn scopes(
    config: &mut Reader<'_>,
    verify: &'static str,
    claim: &'static str,
    required: &'static str,
) -> Option<(ClaimPath, Required)> {
    let verified = config.bool(verify).unwrap_or(true);
    let path = path(config, claim, Some("scope"));
    let elements = config.strings_lenient(required)?;
    if elements.is_empty() || elements.iter().any(|element| element.trim().is_empty()) {
        config.problem(required, "an empty list or element", "nothing, or scopes with spaces between");
    }
    if !verified {
        config.warn(verify, &format!("`{required}` is not looked at"));
        return None;
    }
    Some((path?, Required::new(elements)))
}

pub(super) fn naming(config: &mut Reader<'_>, claim: &'static str, by: &'static str) -> Option<Naming> {
    const FIELDS: [(&str, By); 3] = [("id", By::Id), ("username", By::Username), ("custom_id", By::CustomId)];
    let fields = config.words(by, &FIELDS);
    if fields.as_ref().is_some_and(Vec::is_empty) {
        config.problem(by, "an empty list", "at least one of: id, username, custom_id");
    }
    let path = path(config, claim, None)?;
    let by = fields.unwrap_or_else(|| vec![By::Username, By::CustomId]).into();
    Some(Naming { path, by })
}
