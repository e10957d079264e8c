//! What is required of claims, and whom they name.

use super::super::checks::{Checks, Naming, OneOf};
use super::super::names::Names;
use super::DAY_SECS;
use crate::config::reader::Reader;
use crate::plugin::naming::{ConsumerField, claim_path, claim_paths};
use crate::token::claims::{ClaimPath, Required};

pub(super) fn payload_checks(config: &mut Reader<'_>, names: &Names) -> Checks {
    let verified = config.bool(names.verify_expiry).unwrap_or(true);
    if !verified {
        config.warn(names.verify_expiry, "tokens never expire here");
    }
    let expiry = Some(path_or(config, names.expiry_claim, "exp")).filter(|_| verified);
    let verified = config.bool(names.verify_notbefore).unwrap_or(true);
    let notbefore = Some(path_or(config, names.notbefore_claim, "nbf")).filter(|_| verified);
    Checks {
        expiry,
        expires: true,
        notbefore,
        leeway_ms: leeway(config, names.leeway),
        issuer: one_of(config, names.verify_issuer, (names.issuer_claim, "iss"), names.issuers_allowed),
        subject: one_of(config, names.verify_subject, (names.subject_claim, "sub"), names.subjects_allowed),
        audience: one_of(config, names.verify_audience, (names.audience_claim, "aud"), names.audiences_allowed),
        scopes: scopes(config, names.verify_scopes, names.scopes_claim, names.scopes_required),
        required: claim_paths(config, names.required_claims).unwrap_or_default(),
        optional: claim_paths(config, names.optional_claims).unwrap_or_default(),
    }
}

pub(super) fn introspection_checks(config: &mut Reader<'_>, names: &Names) -> Checks {
    let verified = config.bool(names.verify_introspection_expiry).unwrap_or(true);
    let expiry = Some(path_or(config, names.introspection_expiry_claim, "exp")).filter(|_| verified);
    let verified = config.bool(names.verify_introspection_notbefore).unwrap_or(true);
    let notbefore = Some(path_or(config, names.introspection_notbefore_claim, "nbf")).filter(|_| verified);
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
        required: claim_paths(config, names.introspection_required_claims).unwrap_or_default(),
        optional: claim_paths(config, names.introspection_optional_claims).unwrap_or_default(),
    }
}

fn leeway(config: &mut Reader<'_>, key: &'static str) -> i64 {
    config.number(key, 0.0..=DAY_SECS).map_or(0, |secs| (secs * 1000.0) as i64)
}

/// A claim path, or this name where nothing is written.
fn path_or(config: &mut Reader<'_>, key: &'static str, default: &str) -> ClaimPath {
    claim_path(config, key).unwrap_or_else(|| ClaimPath::new([default]))
}

fn one_of(
    config: &mut Reader<'_>,
    verify: &'static str,
    (claim, default): (&'static str, &str),
    allowed: &'static str,
) -> Option<OneOf> {
    let verified = config.bool(verify).unwrap_or(true);
    let path = path_or(config, claim, default);
    let values = config.strings_lenient(allowed)?;
    if values.is_empty() {
        config.problem(allowed, "an empty list", "nothing, or at least one value");
    }
    if !verified {
        config.warn(verify, &format!("`{allowed}` is not looked at"));
        return None;
    }
    Some(OneOf { path, values: values.into_iter().map(Box::from).collect() })
}

fn scopes(
    config: &mut Reader<'_>,
    verify: &'static str,
    claim: &'static str,
    required: &'static str,
) -> Option<(ClaimPath, Required)> {
    let verified = config.bool(verify).unwrap_or(true);
    let path = path_or(config, claim, "scope");
    let elements = config.strings_lenient(required)?;
    if elements.is_empty() || elements.iter().any(|element| element.trim().is_empty()) {
        config.problem(required, "an empty list or element", "nothing, or scopes with spaces between");
    }
    if !verified {
        config.warn(verify, &format!("`{required}` is not looked at"));
        return None;
    }
    Some((path, Required::new(elements)))
}

pub(super) fn naming(config: &mut Reader<'_>, claim: &'static str, by: &'static str) -> Option<Naming> {
    let path = claim_path(config, claim);
    let by = ConsumerField::read(config, by, path.is_some());
    Some(Naming { path: path?, by })
}
