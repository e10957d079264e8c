//! The parameters of what the edge fetches itself.

use super::super::credential::named::ParamTypes;
use super::super::headers::{Headers, Part};
use super::super::{PluginEnv, settings::seconds};
use super::Flows;
use super::exchange::{Conditions, Exchange, Legacy, Subject};
use super::grants::{Grants, Source};
use super::id_token::IdTokens;
use super::user_info::Users;
use crate::config::reader::Reader;
use crate::oauth::fleet::{self, Fleet};
use crate::oauth::introspection::Surroundings;
use crate::oauth::kept::{Keep, Lifetimes};
use crate::oauth::legacy_exchange::LegacyExchange;
use crate::oauth::token_endpoint::{GrantKind, TokenEndpoint, Wanted};
use crate::oauth::userinfo::UserInfoEndpoint;
use crate::token::claims::ClaimPath;
use crate::token::introspection::Remote;
use crate::token::jwks::Kinds;
use crate::token::keys::KeySource;
use crate::token::source::{Discovery, SourceSettings, issuer_of};
use crate::token::{Issuers, Settings, Validator};
use std::sync::Arc;
use std::time::Duration;

/// Which methods of `auth_methods` the flows serve.
#[derive(Clone, Copy, Default)]
pub(in super::super) struct Methods {
    pub(in super::super) refresh_token: bool,
    pub(in super::super) password: bool,
    pub(in super::super) client_credentials: bool,
    pub(in super::super) bearer: bool,
}

impl Methods {
    /// Whether any grant is served.
    pub(in super::super) fn grants(self) -> bool {
        self.refresh_token || self.password || self.client_credentials
    }
}

/// What the flows depend on that is read elsewhere.
pub(in super::super) struct Ground<'a> {
    pub(in super::super) issuer: &'a str,
    pub(in super::super) methods: Methods,
    pub(in super::super) around: &'a Surroundings,
    pub(in super::super) settings: &'a Settings,
    pub(in super::super) remote: Option<&'a Remote>,
    pub(in super::super) keys: Option<&'a Arc<KeySource>>,
    pub(in super::super) user_info: Arc<UserInfoEndpoint>,
    /// `cache_user_info`
    pub(in super::super) keeps_user_info: bool,
    pub(in super::super) headers: &'a Headers,
    pub(in super::super) lifetimes: Lifetimes,
    pub(in super::super) fleet: Option<Fleet>,
    pub(in super::super) env: &'a PluginEnv,
}

/// Reads the parameters of all flows; problems go to the reader's sink.
pub(in super::super) fn parse(config: &mut Reader<'_>, ground: &Ground<'_>) -> Flows {
    let endpoint = Arc::new(TokenEndpoint::read(config, ground.around, ground.env.endpoints()));
    let keeps = config.bool("cache_tokens").unwrap_or(true);
    // Tokens of other scopes are never shared, whatever it says.
    let _ = config.bool("token_cache_key_include_scope");
    let source = Source {
        endpoint,
        kept: Arc::clone(ground.env.tokens()),
        keep: if keeps { Keep::For(ground.lifetimes) } else { Keep::Nothing },
        salt: config.any_string("cache_tokens_salt").unwrap_or_default().into(),
        fleet: ground.fleet.clone().filter(|fleet| fleet.shares(fleet::Kind::Tokens)),
    };
    Flows {
        grants: grants(config, ground, &source),
        exchange: exchange(config, ground, &source),
        legacy: legacy(config, ground),
        id_tokens: id_tokens(config, ground),
        users: users(config, ground),
    }
}

fn grants(config: &mut Reader<'_>, ground: &Ground<'_>, source: &Source) -> Option<Grants> {
    let methods = ground.methods;
    let refresh_types = ParamTypes::parse(config, "refresh_token_param_type");
    let refresh_name = config.string("refresh_token_param_name");
    let password = ParamTypes::parse(config, "password_param_type");
    let client = ParamTypes::parse(config, "client_credentials_param_type");
    let unsigned = unsigned(config);
    if methods.refresh_token && refresh_name.is_none() {
        let expected = "the name of the header or argument that clients send refresh tokens in";
        config.problem("refresh_token_param_name", "nothing, with the method refresh_token", expected);
    }
    if !methods.grants() {
        return None;
    }
    let unsigned = if unsigned.is_empty() { None } else { unsigned_validator(ground).map(|it| (unsigned, it)) };
    Some(Grants {
        refresh: refresh_name.filter(|_| methods.refresh_token).map(|name| (name.into(), refresh_types)),
        password: methods.password.then_some(password),
        client: methods.client_credentials.then_some(client),
        tokens: source.clone(),
        unsigned,
    })
}

/// `ignore_signature`: of its words those that say something here.
fn unsigned(config: &mut Reader<'_>) -> Box<[GrantKind]> {
    const KEY: &str = "ignore_signature";
    const WORDS: [(&str, Option<GrantKind>); 7] = [
        ("client_credentials", Some(GrantKind::ClientCredentials)),
        ("password", Some(GrantKind::Password)),
        ("refresh_token", Some(GrantKind::RefreshToken)),
        // By asking alone, no signature is verified; beside keys, what they refuse stays refused.
        ("introspection", None),
        ("userinfo", None),
        // Of browsers.
        ("authorization_code", None),
        ("session", None),
    ];
    let words = config.words(KEY, &WORDS).unwrap_or_default();
    let kinds: Box<[_]> = words.iter().copied().flatten().collect();
    if kinds.len() < words.len() {
        config.warn(KEY, "says something of client_credentials, password and refresh_token alone");
    }
    if !kinds.is_empty() {
        config.warn(KEY, "tokens of these grants are taken as the issuer gave them, their signatures unverified");
    }
    kinds
}

fn unsigned_validator(ground: &Ground<'_>) -> Option<Arc<Validator>> {
    let settings = Settings { verify_signature: false, ..ground.settings.clone() };
    Validator::new(settings, ground.keys.cloned(), ground.remote.cloned()).ok()
}

fn list(config: &mut Reader<'_>, key: &'static str) -> Box<[Box<str>]> {
    config.strings_lenient(key).unwrap_or_default().into_iter().map(Box::from).collect()
}

fn exchange(config: &mut Reader<'_>, ground: &Ground<'_>, source: &Source) -> Option<Exchange> {
    const KEY: &str = "token_exchange";
    let mut record = config.object(KEY)?;
    if !ground.methods.bearer {
        record.problem("subject_token_issuers", "an exchange without the method bearer", "bearer in `auth_methods`");
    }
    let subjects = record.objects("subject_token_issuers");
    if subjects.is_empty() {
        record.problem("subject_token_issuers", "none", "at least one issuer whose tokens are exchanged");
    }
    let subjects = subjects.into_iter().filter_map(|record| subject(record, ground)).collect();
    let (mut scopes, mut audience) = (Wanted::Configured, Wanted::Configured);
    if let Some(mut wanted) = record.object("request") {
        scopes = asked(&mut wanted, "scopes", "empty_scopes");
        audience = asked(&mut wanted, "audience", "empty_audience");
        wanted.finish();
    }
    let mut keep = Keep::For(ground.lifetimes);
    if let Some(mut cache) = record.object("cache") {
        let enabled = cache.bool("enabled").unwrap_or(true);
        let ttl = cache.integer("ttl", 0..=31_536_000).map(|ttl| Duration::from_secs(ttl as u64));
        cache.finish();
        // What the token says itself only shortens it.
        let most = ttl.into_iter().chain(ground.lifetimes.max).filter(|most| !most.is_zero()).min();
        let lifetimes = Lifetimes { ttl: ttl.unwrap_or(ground.lifetimes.ttl), max: most, ..ground.lifetimes };
        keep = if enabled { Keep::For(lifetimes) } else { Keep::Nothing };
    }
    record.finish();
    Some(Exchange { subjects, tokens: Source { keep, ..source.clone() }, scopes, audience })
}

/// What is asked for in place of what is configured for all grants.
fn asked(record: &mut Reader<'_>, key: &'static str, empty: &'static str) -> Wanted {
    let these = list(record, key);
    let none = record.bool(empty).unwrap_or(false);
    match (these.is_empty(), none) {
        (true, true) => Wanted::These(Box::default()),
        (true, false) => Wanted::Configured,
        (false, false) => Wanted::These(these),
        (false, true) => {
            record.problem(empty, format!("true beside `{key}`"), "one of them");
            Wanted::Configured
        }
    }
}

fn subject(mut record: Reader<'_>, ground: &Ground<'_>) -> Option<Subject> {
    let issuer = record.required_string("issuer", "the issuer, as its tokens name it");
    let verifies = record.bool("verify_signature").unwrap_or(false);
    let jwks_uri = record.string("jwks_uri");
    let conditions = record.object("conditions").map(|mut record| {
        let conditions = Conditions {
            aud: ClaimPath::new(["aud"]),
            scope: ClaimPath::new(["scope"]),
            has_audience: list(&mut record, "has_audience"),
            missing_audience: list(&mut record, "missing_audience"),
            has_scopes: list(&mut record, "has_scopes"),
            missing_scopes: list(&mut record, "missing_scopes"),
        };
        record.finish();
        conditions
    });
    // A record without any says nothing, as in a dump.
    let conditions = conditions.filter(|conditions| !conditions.is_empty());
    let issuer = issuer?;
    let is_own = issuer.trim_end_matches('/') == issuer_of(ground.issuer).trim_end_matches('/');
    match (is_own, &conditions) {
        (true, None) => {
            record.problem(
                "conditions",
                "none",
                "some: tokens of the configured issuer are exchanged only where they hold",
            );
        }
        (false, Some(_)) => {
            record.problem("conditions", "some", "none: tokens of another issuer are always exchanged");
        }
        _ => {}
    }
    let keys = verifies.then(|| {
        let http = ground.env.keys().http();
        let discovery = jwks_uri.is_none().then(|| Discovery::new(issuer, None, &[]));
        let urls = discovery.iter().flat_map(|discovery| discovery.urls.first().map(String::as_str)).chain(jwks_uri);
        for url in urls {
            if let Err(error) = http.check(url) {
                let key = if jwks_uri.is_some() { "jwks_uri" } else { "issuer" };
                record.problem(key, error.to_string(), "an https URL");
            }
        }
        ground.env.keys().source(SourceSettings {
            discovery,
            jwks_uris: jwks_uri.map(str::to_owned).into_iter().collect(),
            options: ground.around.options.clone(),
            rediscovery_lifetime: Duration::from_secs(30),
            refresh: None,
            kinds: Kinds::Public,
        })
    });
    if !verifies && jwks_uri.is_some() {
        record.problem("jwks_uri", "keys that nothing is verified with", "`verify_signature: true`, or no `jwks_uri`");
    }
    let settings = Settings {
        issuers: Issuers::Listed(vec![issuer.to_owned()]),
        verify_signature: verifies,
        hs_secrets: Vec::new(),
        ..ground.settings.clone()
    };
    let validator = Validator::new(settings, keys, None).ok();
    record.finish();
    Some(Subject { issuer: issuer.into(), validator: validator?, conditions })
}

fn legacy(config: &mut Reader<'_>, ground: &Ground<'_>) -> Option<Legacy> {
    let keeps = config.bool("cache_token_exchange").unwrap_or(true);
    let endpoint = LegacyExchange::read(config, ground.around, ground.env.endpoints())?;
    let keep = if keeps { Keep::For(ground.lifetimes) } else { Keep::Nothing };
    Some(Legacy { endpoint: Arc::new(endpoint), kept: Arc::clone(ground.env.tokens()), keep })
}

fn id_tokens(config: &mut Reader<'_>, ground: &Ground<'_>) -> Option<IdTokens> {
    const KEY: &str = "id_token_param_name";
    let types = ParamTypes::parse(config, "id_token_param_type");
    let sent = config.string(KEY).map(|name| (Box::from(name), types));
    let said = ground.headers.wants(Part::IdToken) || ground.headers.wants(Part::IdTokenJwk);
    if sent.is_none() && !(said && ground.methods.grants()) {
        return None;
    }
    let clients: Box<[Box<str>]> = ground.around.clients.iter().map(|client| client.id().into()).collect();
    if clients.is_empty() {
        config.problem(KEY, "ID tokens without `client_id`", "`client_id`, for whom they must be");
    }
    let settings = Settings { types: vec!["".into(), "jwt".into()], ..ground.settings.clone() };
    let validator = Validator::new(settings, ground.keys.cloned(), None).ok()?;
    let [aud, sub] = ["aud", "sub"].map(|name| ClaimPath::new([name]));
    Some(IdTokens { sent, validator, clients, aud, sub })
}

fn users(config: &mut Reader<'_>, ground: &Ground<'_>) -> Option<Users> {
    let searched = config.bool("search_user_info").unwrap_or(false);
    let said = ground.headers.wants(Part::UserInfo) || ground.headers.wants(Part::UserInfoJwt);
    let keep = if ground.keeps_user_info { Keep::For(ground.lifetimes) } else { Keep::Nothing };
    (searched || said).then(|| Users {
        endpoint: Arc::clone(&ground.user_info),
        kept: Arc::clone(ground.env.users()),
        keep,
        sub: ClaimPath::new(["sub"]),
        searched,
    })
}

/// How long what calls bring is kept: `cache_ttl` and its bounds.
pub(in super::super) fn lifetimes(config: &mut Reader<'_>, settings: &Settings) -> Lifetimes {
    Lifetimes {
        ttl: settings.ttl_without_exp,
        min: seconds(config, "cache_ttl_min", f64::MAX),
        max: settings.ttl_max,
        negative: seconds(config, "cache_ttl_neg", 86_400.0).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests;
