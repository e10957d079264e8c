//! The plugin's `config`: Kong's parameters, a few of the edge's own, and the spellings of well-known blog posts.
//!
//! The edge's own: `algorithms_allowed` (allow-list, default every asymmetric one), `typ_allowed` (header `typ`s, the
//! empty string for none), `id_tokens_refused` (default true). Defaults that are not Kong's: `auth_methods`,
//! `bearer_token_param_type`.

use super::refusal::Answers;
use super::{ConsumerBy, ConsumerMapping, Forward, OpenidConnect, Place, PluginEnv, Requirement, inert, possession};
use crate::config::reader::Reader;
use crate::config::value::{Kind, Value};
use crate::http::head::is_field_name;
use crate::http_client::Options;
use crate::reason::Reason;
use crate::token::claims::{ClaimPath, Reading, Required};
use crate::token::jws::short_type;
use crate::token::keys::KeySource;
use crate::token::source::{Discovery, SourceSettings, issuer_of};
use crate::token::{Issuers, Settings, Validator};
use jsonwebtoken::{Algorithm, AlgorithmFamily};
use std::sync::Arc;
use std::time::Duration;

/// A day, as the longest sensible leeway or interval in seconds.
const DAY_SECS: f64 = 86_400.0;

const ALGORITHMS: [(&str, Algorithm); 12] = [
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("EdDSA", Algorithm::EdDSA),
    ("HS256", Algorithm::HS256),
    ("HS384", Algorithm::HS384),
    ("HS512", Algorithm::HS512),
];

/// Header types of access tokens as issuers write them: RFC 9068's, the plain `JWT`, none.
const TYPES: [&str; 3] = ["at+jwt", "jwt", ""];

/// Reads the whole object.
pub(super) fn parse(mut config: Reader<'_>, place: &Place<'_>, env: &PluginEnv) -> Option<OpenidConnect> {
    let config = &mut config;
    let problems = config.sink().count();
    inert::read(config);
    let methods = methods(config);
    let possession = possession::parse(config, &methods, &|id| place.authority(id), env.proofs());
    let issuer = config.required_string("issuer", "the issuer's URL").unwrap_or_default().to_owned();
    let client_ids = owned(config.strings_lenient("client_id"));
    let secrets = owned(config.strings_lenient("client_secret"));
    let algorithms = algorithms(config, &secrets);
    let with_hmac = algorithms.iter().any(|algorithm| algorithm.family() == AlgorithmFamily::Hmac);
    let verify_signature =
        switch(config, "verify_signature", true, "signatures are not verified: anyone can make a token");
    let verify_claims =
        switch(config, "verify_claims", true, "exp, nbf and a discovered issuer are not checked: tokens never expire");
    let (keys, issuers) = keys(config, env, &issuer, with_hmac || !verify_signature);
    let settings = Settings {
        issuers,
        algorithms,
        hs_secrets: if with_hmac { secrets.iter().map(|secret| secret.clone().into_bytes()).collect() } else { vec![] },
        verify_signature,
        verify_claims,
        leeway: leeway(config),
        types: types(config),
        ttl_without_exp: seconds(config, "cache_ttl", f64::MAX).unwrap_or(Duration::from_secs(3600)),
        ttl_max: seconds(config, "cache_ttl_max", f64::MAX).filter(|ttl| !ttl.is_zero()),
    };
    let refuse_id_tokens = config.bool("id_tokens_refused").unwrap_or(true);
    let requirements = requirements(config);
    let claims_forbidden = config.strings_lenient("claims_forbidden").unwrap_or_default();
    let consumer = consumer(config);
    let groups_claim = config.strings_lenient("authenticated_groups_claim").map(ClaimPath::new);
    let forward = forward(config);
    let text = |text: Option<&str>, default: &str| Box::from(text.unwrap_or(default));
    let answers = Answers {
        unauthorized: text(config.string("unauthorized_error_message"), "Unauthorized"),
        forbidden: text(config.string("forbidden_error_message"), "Forbidden"),
        expose_error_code: config.bool("expose_error_code").unwrap_or(true),
        issuer: issuer.into(),
    };
    let run_on_preflight = config.bool("run_on_preflight").unwrap_or(true);
    std::mem::replace(config, Reader::empty(config.line(), "", config.sink())).finish();
    if config.sink().count() > problems {
        return None;
    }
    let validator = match Validator::new(settings, keys) {
        Ok(validator) => validator,
        Err(error) => {
            config.problem("client_secret", error.to_string(), "a usable secret");
            return None;
        }
    };
    Some(OpenidConnect {
        validator,
        answers,
        run_on_preflight,
        refuse_id_tokens: refuse_id_tokens.then(|| client_ids.into_iter().map(Box::from).collect()),
        claims_forbidden: claims_forbidden.into_iter().map(|name| ClaimPath::new([name])).collect(),
        requirements,
        consumer,
        groups_claim,
        forward,
        possession,
    })
}

fn owned(strings: Option<Vec<&str>>) -> Vec<String> {
    strings.unwrap_or_default().into_iter().map(str::to_owned).collect()
}

/// A switch whose other position weakens the check: it warns at start.
fn switch(config: &mut Reader<'_>, key: &'static str, default: bool, warning: &str) -> bool {
    let value = config.bool(key).unwrap_or(default);
    if value != default {
        config.warn(key, warning);
    }
    value
}

fn seconds(config: &mut Reader<'_>, key: &'static str, most: f64) -> Option<Duration> {
    config.number(key, 0.0..=most).map(|seconds| Duration::from_secs_f64(seconds.min(1e9)))
}

/// What a blog spelling stands for: its value counts where the right name is absent, with a remark.
fn alias(config: &Reader<'_>, wrong: &'static str, right: &str) -> bool {
    if !config.has(wrong) {
        return false;
    }
    if config.has(right) {
        config.problem(wrong, format!("`{wrong}` beside `{right}`"), format!("`{right}` alone"));
    } else {
        config.warn(wrong, &format!("read as `{right}`, which is the parameter's name"));
    }
    true
}

/// `auth_methods`, `bearer_only`, `bearer_token_param_type`: which of them this edge serves.
fn methods<'a>(config: &mut Reader<'a>) -> Vec<&'a str> {
    const LATER: [&str; 7] =
        ["authorization_code", "client_credentials", "kong_oauth2", "password", "refresh_token", "session", "userinfo"];
    if alias(config, "bearer_only", "auth_methods") && config.bool("bearer_only") == Some(false) {
        config.problem("bearer_only", "false", "`auth_methods`, which names the methods");
    }
    let methods = config.strings_lenient("auth_methods");
    for method in methods.iter().flatten() {
        match *method {
            "bearer" | "introspection" => {}
            later if LATER.contains(&later) => {
                config.problem(
                    "auth_methods",
                    format!("{later:?}"),
                    "bearer, introspection: others are not supported yet",
                );
            }
            other => config.problem("auth_methods", format!("{other:?}"), "bearer or introspection"),
        }
    }
    if methods.as_ref().is_some_and(|methods| !methods.contains(&"bearer")) {
        config.problem("auth_methods", "no `bearer`", "bearer among them: introspection alone is not supported yet");
    }
    let places = config.strings_lenient("bearer_token_param_type");
    if places.is_some_and(|places| places != ["header"]) {
        config.problem(
            "bearer_token_param_type",
            "more or less than `header`",
            "[header]: others are not supported yet",
        );
    }
    methods.unwrap_or_else(|| vec!["bearer", "introspection"])
}

fn algorithms(config: &mut Reader<'_>, secrets: &[String]) -> Vec<Algorithm> {
    let hmac = |algorithm: &Algorithm| algorithm.family() == AlgorithmFamily::Hmac;
    let hs_enabled = config.bool("enable_hs_signatures").unwrap_or(false);
    if hs_enabled && secrets.is_empty() {
        config.problem("enable_hs_signatures", "true without `client_secret`", "`client_secret`, which is the key");
    }
    let listed = config.words("algorithms_allowed", &ALGORITHMS);
    if listed.as_ref().is_some_and(Vec::is_empty) {
        config.problem("algorithms_allowed", "an empty list", "at least one algorithm");
    }
    if !hs_enabled && listed.iter().flatten().any(hmac) {
        config.problem("algorithms_allowed", "an HS algorithm", "`enable_hs_signatures: true` for those");
    }
    let all = || ALGORITHMS.iter().map(|(_, algorithm)| *algorithm).filter(|algorithm| hs_enabled || !hmac(algorithm));
    listed.unwrap_or_else(|| all().collect())
}

/// 0 as Kong's: the operator widens it for issuers whose clocks differ.
fn leeway(config: &mut Reader<'_>) -> Duration {
    let key = if alias(config, "clock_skew_leeway", "leeway") { "clock_skew_leeway" } else { "leeway" };
    seconds(config, key, DAY_SECS).unwrap_or_default()
}

fn types(config: &mut Reader<'_>) -> Vec<Box<str>> {
    let list = |value: &Value| match &value.kind {
        Kind::Array(items) => items
            .iter()
            .map(|item| match &item.kind {
                Kind::String(text) => Some(short_type(text)),
                _ => None,
            })
            .collect::<Option<Vec<_>>>(),
        _ => None,
    };
    match config.raw("typ_allowed").map(list) {
        None => TYPES.map(Box::from).into(),
        Some(Some(types)) if !types.is_empty() => types,
        Some(_) => {
            config.problem("typ_allowed", "no list of strings", "header types, such as [\"at+jwt\"]; \"\" is none");
            Vec::new()
        }
    }
}

/// Where keys come from and which `iss` they serve. `keyless`: something else than fetched keys may verify.
fn keys(config: &mut Reader<'_>, env: &PluginEnv, issuer: &str, keyless: bool) -> (Option<Arc<KeySource>>, Issuers) {
    let pseudo = config.bool("using_pseudo_issuer").unwrap_or(false);
    let endpoint = config.string("jwks_endpoint").map(str::to_owned);
    let extra = owned(config.strings_lenient("extra_jwks_uris"));
    let document = config.string("discovery").map(str::to_owned);
    if document.is_some() {
        config.warn("discovery", "read as the URL of the discovery document; Kong's `issuer` may be that URL itself");
    }
    let allowed = config.strings_lenient("issuers_allowed").map(|list| owned(Some(list)));
    if allowed.as_ref().is_some_and(Vec::is_empty) {
        config.problem("issuers_allowed", "an empty list", "at least one issuer");
    }
    let headers = headers(config);
    let lifetime = seconds(config, "rediscovery_lifetime", DAY_SECS).unwrap_or(Duration::from_secs(30));
    let timeout = config.integer("timeout", 1..=600_000).unwrap_or(10_000);
    let ssl_verify = switch(config, "ssl_verify", true, "the issuer's certificate is not verified");
    // With a key set URL of its own an issuer need not be asked for one; `iss` is then the configured one.
    let discovers = !pseudo && endpoint.is_none();
    let issuers = match &allowed {
        Some(list) => Issuers::Listed(list.clone()),
        None if discovers => Issuers::Discovered,
        None if pseudo => Issuers::Listed(vec![issuer.to_owned()]),
        None => Issuers::Listed(vec![issuer_of(issuer)]),
    };
    let discovery =
        discovers.then(|| Discovery::new(issuer, document.as_deref(), allowed.as_deref().unwrap_or_default()));
    let jwks_uris: Vec<String> = endpoint.into_iter().chain(extra).collect();
    if discovery.is_none() && jwks_uris.is_empty() {
        if !keyless {
            let expected = "`jwks_endpoint` or `extra_jwks_uris`: a pseudo issuer is not asked for its keys";
            config.problem("using_pseudo_issuer", "no source of keys", expected);
        }
        return (None, issuers);
    }
    let asked = discovery.as_ref().and_then(|discovery| discovery.urls.first());
    let key = if document.is_some() { "discovery" } else { "issuer" };
    for (key, url) in asked.map(|url| (key, url)).into_iter().chain(jwks_uris.iter().map(|url| ("jwks_endpoint", url)))
    {
        if let Err(error) = env.keys().http().check(url) {
            let key = if key == "jwks_endpoint" && !config.has(key) { "extra_jwks_uris" } else { key };
            config.problem(key, error.to_string(), "an https URL");
        }
    }
    let source = SourceSettings {
        discovery,
        jwks_uris,
        options: Options { timeout: Duration::from_millis(timeout as u64), ssl_verify, headers },
        rediscovery_lifetime: lifetime.max(Duration::from_secs(1)),
    };
    (Some(env.keys().source(source)), issuers)
}

fn headers(config: &mut Reader<'_>) -> Vec<(String, String)> {
    let names = owned(config.strings_lenient("discovery_headers_names"));
    let values = owned(config.strings_lenient("discovery_headers_values"));
    if names.len() != values.len() {
        let found = format!("{} names for {} values", names.len(), values.len());
        config.problem("discovery_headers_names", found, "as many as `discovery_headers_values`");
    }
    names.into_iter().zip(values).collect()
}

fn requirements(config: &mut Reader<'_>) -> Box<[Requirement]> {
    let audience =
        if alias(config, "allowed_audiences", "audience_required") { "allowed_audiences" } else { "audience_required" };
    let pairs = [
        (audience, "audience_claim", "aud", Reason::AudienceNotAllowed),
        ("scopes_required", "scopes_claim", "scope", Reason::ScopeMissing),
        ("groups_required", "groups_claim", "groups", Reason::GroupMissing),
        ("roles_required", "roles_claim", "roles", Reason::RoleMissing),
    ];
    let mut requirements = Vec::new();
    for (required, claim, default, reason) in pairs {
        let path = config.strings_lenient(claim).unwrap_or_else(|| vec![default]);
        let Some(elements) = config.strings_lenient(required) else { continue };
        if elements.is_empty() || path.is_empty() {
            config.problem(required, "an empty list", "nothing, or at least one element");
        }
        let path = ClaimPath::new(path);
        // `aud` itself is a value or a list of values (RFC 7519, 4.1.3); claims named instead are read as Kong does.
        let reading = if path.is("aud") { Reading::Whole } else { Reading::Words };
        requirements.push(Requirement { path, reading, required: Required::new(elements), reason });
    }
    requirements.into()
}

fn consumer(config: &mut Reader<'_>) -> Option<ConsumerMapping> {
    const FIELDS: [(&str, ConsumerBy); 3] =
        [("id", ConsumerBy::Id), ("username", ConsumerBy::Username), ("custom_id", ConsumerBy::CustomId)];
    let by = config.words("consumer_by", &FIELDS);
    let optional = config.bool("consumer_optional").unwrap_or(false);
    let one = config.strings_lenient("consumer_claim").map(|path| vec![ClaimPath::new(path)]);
    let many = config.raw("consumer_claims").map(|value| match &value.kind {
        Kind::Array(paths) => paths.iter().map(claim_path).collect::<Option<Vec<_>>>(),
        _ => None,
    });
    if matches!(many, Some(None)) {
        config.problem(
            "consumer_claims",
            "no list of claim paths",
            "claim paths, such as [[\"sub\"], [\"client_id\"]]",
        );
    }
    let paths = many.flatten().or(one)?;
    if paths.is_empty() || by.as_ref().is_some_and(Vec::is_empty) {
        config.problem("consumer_claims", "an empty list", "nothing, or at least one claim and consumer field");
    }
    let by = by.unwrap_or_else(|| vec![ConsumerBy::Username, ConsumerBy::CustomId]);
    Some(ConsumerMapping { paths: paths.into(), by: by.into(), optional })
}

fn claim_path(value: &Value) -> Option<ClaimPath> {
    let Kind::Array(items) = &value.kind else { return None };
    let name = |item: &Value| match &item.kind {
        Kind::String(text) if !text.is_empty() => Some(text.clone()),
        _ => None,
    };
    let names = items.iter().map(name).collect::<Option<Vec<_>>>()?;
    (!names.is_empty()).then(|| ClaimPath::new(names))
}

fn forward(config: &mut Reader<'_>) -> Forward {
    const KEY: &str = "upstream_access_token_header";
    let hide_credentials = config.bool("hide_credentials").unwrap_or(true);
    let is_null = config.is_null(KEY);
    let spelled = match config.raw(KEY).map(|value| &value.kind) {
        None if is_null => "",
        None => "authorization:bearer",
        Some(Kind::String(text)) => text.as_str(),
        Some(_) => {
            config.problem(KEY, "no string", "a header name, with `:bearer` where the scheme stands before the token");
            ""
        }
    };
    let (name, bearer) = match spelled.split_once(':') {
        Some((name, form)) if form.eq_ignore_ascii_case("bearer") => (name, true),
        Some(_) => {
            config.problem(KEY, format!("{spelled:?}"), "a header name, alone or with `:bearer`");
            ("", false)
        }
        None => (spelled, false),
    };
    if !name.is_empty() && !is_field_name(name.as_bytes()) {
        config.problem(KEY, format!("{name:?}"), "a header name");
    }
    if name.eq_ignore_ascii_case("authorization") && !bearer {
        config.warn(KEY, "sends the token without `Bearer `, as in Kong; the default is `authorization:bearer`");
    }
    let name = if name.eq_ignore_ascii_case("authorization") { "Authorization" } else { name };
    Forward { hide_credentials, header: (!name.is_empty()).then(|| (name.into(), bearer)) }
}
