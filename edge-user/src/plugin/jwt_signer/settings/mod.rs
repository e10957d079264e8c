//! The plugin's `config`: 74 parameters for each token and five shared ones, as Kong's, and a few of the edge's own:
//! `strict_claims`, `claims_allowed`, `upstream_audience`.
//!
//! Where Kong's default and a security property differ, an absent parameter follows the property and a written one Kong:
//! `verify_…_notbefore` (T31). A token without `exp` is refused unless that is switched off by name (T29).

mod checks;
mod signing;

use self::checks::{introspection_checks, naming, payload_checks};
use self::signing::{claims, signing, strict};
use super::claims::Strict;
use super::credential::{Destination, Source, written_or};
use super::names::{ACCESS, CHANNEL, Names};
use super::{JwtSigner, Token};
use crate::config::reader::Reader;
use crate::crypto;
use crate::http::head::is_field_value;
use crate::http_client::{Identity, Options};
use crate::oauth::Introspection;
use crate::oauth::introspection::Asked;
use crate::plugin::naming::claim_path;
use crate::plugin::{Place, PluginEnv};
use crate::token::introspection::{JwtBy, Remote};
use crate::token::jwks::Kinds;
use crate::token::keys::KeySource;
use crate::token::source::SourceSettings;
use crate::token::{Issuers, Resigning, Settings, Validator};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::AlgorithmFamily;
use std::sync::Arc;
use std::time::Duration;

/// A day, as the longest sensible leeway in seconds.
const DAY_SECS: f64 = 86_400.0;
/// How far the end of a token may be moved, in seconds.
const YEAR_SECS: f64 = 31_622_400.0;
/// How long an inactive token stays so.
const INACTIVE: Duration = Duration::from_secs(5);
/// How long facts without an end of their own are kept.
const WITHOUT_END: Duration = Duration::from_secs(300);
/// The least time between two fetches that unknown `kid`s cause, once a burst of them is used up.
const REDISCOVERY: Duration = Duration::from_secs(30);

/// What both tokens share.
struct Shared<'a> {
    place: &'a Place<'a>,
    env: &'a PluginEnv,
    with_hmac: bool,
    add: Vec<(Box<str>, Box<str>)>,
    set: Vec<(Box<str>, Box<str>)>,
    strict: Option<Strict>,
}

/// Reads the whole object.
pub(super) fn parse(mut config: Reader<'_>, place: &Place<'_>, env: &PluginEnv) -> Option<JwtSigner> {
    let config = &mut config;
    let problems = config.sink().count();
    let realm = config.string("realm").map(Box::from);
    if realm.as_deref().is_some_and(|realm: &str| !is_field_value(realm.as_bytes())) {
        config.problem("realm", "control characters", "a text that can stand in a header");
    }
    let with_hmac = config.bool("enable_hs_signatures").unwrap_or(false);
    let shared = Shared {
        place,
        env,
        with_hmac,
        add: claims(config, "add_claims"),
        set: claims(config, "set_claims"),
        strict: strict(config),
    };
    let is_verbose = config.bool("enable_instrumentation").unwrap_or(false);
    let access = token(
        config,
        &ACCESS,
        &shared,
        Defaults { source: "Authorization", upstream: "Authorization:Bearer", hint: "access_token" },
    );
    let channel = token(config, &CHANNEL, &shared, Defaults::default());
    apart(config, [(&ACCESS, access.as_ref()), (&CHANNEL, channel.as_ref())]);
    std::mem::replace(config, Reader::empty(config.line(), "", config.sink())).finish();
    let tokens = [access?, channel?];
    (config.sink().count() == problems).then_some(JwtSigner { tokens, realm, is_verbose })
}

/// What is so for the access token where nothing is written; nothing is for the channel token.
#[derive(Clone, Copy, Default)]
struct Defaults {
    source: &'static str,
    upstream: &'static str,
    hint: &'static str,
}

fn token(config: &mut Reader<'_>, names: &Names, shared: &Shared<'_>, defaults: Defaults) -> Option<Token> {
    let default = |text: &'static str| Some(text).filter(|text| !text.is_empty());
    let source = written_or(config, names.request_header, default(defaults.source)).map(|name| {
        let source = Source::parse(name);
        if source.is_none() {
            config.problem(
                names.request_header,
                format!("{name:?}"),
                "a header name, or authorization:bearer or :basic",
            );
        }
        source
    });
    let optional = config.bool(names.optional).unwrap_or(false);
    if source.is_none() && !optional {
        let text = format!("no header, and `{}` is not true: every request gets 500, as by Kong", names.optional);
        config.warn(names.request_header, &text);
    }
    let verify_ssl = config.bool(names.endpoints_ssl_verify).unwrap_or(true);
    if !verify_ssl {
        config.warn(names.endpoints_ssl_verify, "certificates of issuers and key sets are not verified");
    }
    let options = Options { ssl_verify: verify_ssl, ..Options::default() };
    let verify_signature = config.bool(names.verify_signature).unwrap_or(true);
    if !verify_signature {
        config.warn(
            names.verify_signature,
            "signatures are not verified: anyone can make a token, and the edge signs it",
        );
    }
    let keys = keys(config, names, shared, &options);
    let jwks_host = keys.as_ref().and_then(|keys| keys.urls().first().and_then(|url| host(url)));
    let payload = payload_checks(config, names);
    let introspection = introspection_checks(config, names);
    let asked = asked(config, names, defaults.hint);
    let enabled = config.bool(names.enable_introspection).unwrap_or(true);
    let jwt_claim = claim_path(config, names.introspection_jwt_claim);
    let holds_jwt = jwt_claim.is_some();
    let trusts_introspection = config.bool(names.trust_introspection).unwrap_or(true);
    let keep = config.bool(names.cache_introspection).unwrap_or(true);
    let party = jwks_host.or_else(|| asked.as_ref().and_then(|asked| host(&asked.url)));
    let timeout = config.integer(names.introspection_timeout, 1..=600_000).map(|ms| Duration::from_millis(ms as u64));
    let asking = Options { timeout: timeout.unwrap_or(options.timeout), ..options.clone() };
    let remote = asked.filter(|_| enabled).map(|asked| Remote {
        who: Arc::new(Introspection::asking(asked, asking, shared.env.endpoints())),
        control: shared.env.control().cloned(),
        jwts: JwtBy::Keys,
        jwt_claim,
        keep,
        ttl_inactive: INACTIVE,
        ttl_min: Duration::ZERO,
        ttl_stale: Duration::ZERO,
        shared: None,
    });
    let payload_consumer = naming(config, names.consumer_claim, names.consumer_by);
    let introspection_consumer = naming(config, names.introspection_consumer_claim, names.introspection_consumer_by);
    let signing = signing(config, names, shared, &options, default(defaults.upstream));
    let original = Destination::read(config, names.original_upstream_header, None);
    if verify_signature && keys.is_none() && remote.is_none() && source.is_some() {
        let text = format!("nothing: no token passes without it or `{}`", names.introspection_endpoint);
        config.warn(names.jwks_uri, &text);
    }
    // The engine refuses early what has ended, where both kinds of claims are read for it as the engine reads any. Of a JWT
    // in an answer it would not know whether that is trusted.
    let usual = payload.has_usual_times()
        && (remote.is_none()
            || (!holds_jwt && introspection.has_usual_times() && introspection.leeway_ms == payload.leeway_ms));
    let hmac = shared.with_hmac || !verify_signature;
    let algorithms = crypto::ALGORITHMS.iter().map(|(_, algorithm)| *algorithm);
    let settings = Settings {
        issuers: Issuers::Any,
        algorithms: algorithms.filter(|algorithm| hmac || algorithm.family() != AlgorithmFamily::Hmac).collect(),
        hs_secrets: Vec::new(),
        verify_signature,
        verify_claims: usual,
        leeway: Duration::from_millis(payload.leeway_ms as u64),
        types: ["at+jwt", "jwt", ""].map(Box::from).into(),
        ttl_without_exp: WITHOUT_END,
        ttl_max: None,
        resigning: signing
            .as_ref()
            .map(|(signing, id)| Resigning { id: *id, added_bytes: signing.claims.added_bytes() }),
    };
    // Without secrets there is none that could be unusable.
    let validator = Validator::new(settings, keys, remote).ok()?;
    Some(Token {
        name: names.token,
        source: source.flatten(),
        optional,
        validator,
        party,
        payload,
        introspection,
        trusts_introspection,
        payload_consumer,
        introspection_consumer,
        signing: signing.map(|(signing, _)| signing),
        original,
    })
}

/// Fields that tokens go to must differ, or one would take the place of another.
fn apart(config: &Reader<'_>, tokens: [(&Names, Option<&Token>); 2]) {
    let mut seen: Vec<(&'static str, &str)> = Vec::new();
    for (names, token) in tokens {
        let Some(token) = token else { continue };
        let signed = token.signing.as_ref().map(|signing| (names.upstream_header, signing.destination.name()));
        let original = token.original.as_ref().map(|original| (names.original_upstream_header, original.name()));
        for (key, name) in signed.into_iter().chain(original) {
            if let Some((other, _)) = seen.iter().find(|(_, known)| known.eq_ignore_ascii_case(name)) {
                config.problem(key, format!("{name:?}, which `{other}` is too"), "a header of its own");
            }
            seen.push((key, name));
        }
    }
}

/// `…_jwks_uri` and how it is asked.
fn keys(config: &mut Reader<'_>, names: &Names, shared: &Shared<'_>, options: &Options) -> Option<Arc<KeySource>> {
    let access = (names.jwks_uri_client_username, names.jwks_uri_client_password, names.jwks_uri_client_certificate);
    let options = authenticated(config, access, shared, options);
    let refresh = period(config, names.jwks_uri_rotate_period);
    let url = config.string(names.jwks_uri)?;
    if let Err(error) = shared.env.keys().http().check(url) {
        config.problem(names.jwks_uri, error.to_string(), "an https URL");
        return None;
    }
    let kinds = if shared.with_hmac { Kinds::PublicAndSecret } else { Kinds::Public };
    let source = shared.env.keys().source(SourceSettings {
        discovery: None,
        jwks_uris: vec![url.to_owned()],
        options,
        rediscovery_lifetime: REDISCOVERY,
        refresh,
        kinds,
    });
    shared.env.key_sets().verifying(url, &source);
    Some(source)
}

/// The options with the credentials that a URL is fetched with.
fn authenticated(
    config: &mut Reader<'_>,
    (username, password, certificate): (&'static str, &'static str, &'static str),
    shared: &Shared<'_>,
    options: &Options,
) -> Options {
    let mut options = options.clone();
    match (config.string(username), config.string(password)) {
        (None, None) => {}
        (Some(name), Some(word)) => {
            let value = format!("Basic {}", STANDARD.encode(format!("{name}:{word}")));
            options.headers.push(("Authorization".to_owned(), value));
        }
        (Some(_), None) => config.problem(username, format!("it without `{password}`"), "both, or neither"),
        (None, Some(_)) => config.problem(password, format!("it without `{username}`"), "both, or neither"),
    }
    if let Some(mut record) = config.object(certificate) {
        if let Some(id) = record.required_string("id", "the id of a certificate") {
            match shared.place.certificate(id) {
                Some(pair) => options.identity = Some(Identity(pair)),
                None => record.problem("id", format!("{id:?}"), "the id of a certificate of this configuration"),
            }
        }
        record.finish();
    }
    options
}

fn period(config: &mut Reader<'_>, key: &'static str) -> Option<Duration> {
    config.number(key, 0.0..=YEAR_SECS).filter(|secs| *secs > 0.0).map(|secs| Duration::from_secs_f64(secs.max(1.0)))
}

/// `…_introspection_endpoint` and what is sent there.
fn asked(config: &mut Reader<'_>, names: &Names, hint: &str) -> Option<Asked> {
    let authorization = config.string(names.introspection_authorization).map(Box::from);
    if authorization.as_deref().is_some_and(|text: &str| !text.bytes().all(|byte| (0x20..0x7f).contains(&byte))) {
        config.problem(names.introspection_authorization, "a value that cannot stand in a header", "visible ASCII");
    }
    let args = config.string(names.introspection_body_args).unwrap_or_default();
    let args: Box<[(Box<str>, Box<str>)]> =
        form_urlencoded::parse(args.as_bytes()).map(|(name, value)| (name.into(), value.into())).collect();
    if args.iter().any(|(name, _)| matches!(&**name, "token" | "token_type_hint")) {
        config.problem(
            names.introspection_body_args,
            "`token` or `token_type_hint`",
            "arguments the edge does not send itself",
        );
    }
    let hint = if config.is_null(names.introspection_hint) { "" } else { hint };
    let hint = config.any_string(names.introspection_hint).unwrap_or(hint).into();
    let url = config.string(names.introspection_endpoint)?;
    Some(Asked { url: url.into(), hint, authorization, args })
}

fn host(url: &str) -> Option<Box<str>> {
    reqwest::Url::parse(url).ok()?.host_str().map(Box::from)
}
