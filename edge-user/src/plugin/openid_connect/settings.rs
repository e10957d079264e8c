//! The plugin's `config`: Kong's parameters, a few of the edge's own, and the spellings of well-known blog posts.
//!
//! Here: which methods are served, who may issue tokens, by which keys and whom to ask. Each other file of the plugin
//! reads its own parameters. The edge's own: `algorithms_allowed` (allow-list, default every asymmetric one),
//! `typ_allowed` (header `typ`s, the empty string for none), and those of `rules` and `challenge`. Defaults that are not
//! Kong's: `auth_methods`, `bearer_token_param_type`.

use super::challenge::Answers;
use super::consumer::Mapping;
use super::credential::named::ClientArg;
use super::credential::{Places, Schemes};
use super::flows::{self, lifetimes};
use super::headers::Headers;
use super::remote::Along;
use super::rules::{self, Rules};
use super::{OpenidConnect, Place, PluginEnv, inert, possession};
use crate::config::reader::Reader;
use crate::config::value::{Kind, Value};
use crate::crypto::{self, FieldDigest};
use crate::http_client::Options;
use crate::oauth::fleet::{Fleet, FleetSettings};
use crate::oauth::introspection::Surroundings;
use crate::oauth::shared::SharedAnswers;
use crate::oauth::userinfo::UserInfoEndpoint;
use crate::oauth::{Clients, Introspection};
use crate::token::introspection::{Introspect, JwtBy, Remote, Shared};
use crate::token::jwks::Kinds;
use crate::token::jws::short_type;
use crate::token::keys::KeySource;
use crate::token::source::{Discovery, SourceSettings, issuer_of};
use crate::token::{Issuers, Settings, Validator};
use jsonwebtoken::{Algorithm, AlgorithmFamily};
use std::sync::Arc;
use std::time::Duration;

/// A day, as the longest sensible leeway or interval in seconds.
const DAY_SECS: f64 = 86_400.0;
/// How long an inactive token stays so where `cache_ttl_neg` does not say.
const INACTIVE: Duration = Duration::from_secs(5);

/// Header types of access tokens as issuers write them: RFC 9068's, the plain `JWT`, none.
const TYPES: [&str; 3] = ["at+jwt", "jwt", ""];

/// Reads the whole object.
pub(super) fn parse(mut config: Reader<'_>, place: &Place<'_>, env: &PluginEnv) -> Option<OpenidConnect> {
    let config = &mut config;
    let problems = config.sink().count();
    inert::read(config);
    let methods = Methods::read(config);
    let issuer = config.required_string("issuer", "the issuer's URL").unwrap_or_default().to_owned();
    let options = Options::read(config);
    let clients = Arc::new(Clients::read(config, &|id| place.certificate(id), env.client_keys()));
    let client_ids: Vec<String> = clients.iter().map(|client| client.id().to_owned()).collect();
    let secrets = owned(config.strings_lenient("client_secret"));
    let algorithms = algorithms(config, &secrets);
    let with_hmac = algorithms.iter().any(|algorithm| algorithm.family() == AlgorithmFamily::Hmac);
    let verify_signature =
        switch(config, "verify_signature", true, "signatures are not verified: anyone can make a token");
    let verify_claims =
        switch(config, "verify_claims", true, "exp, nbf and a discovered issuer are not checked: tokens never expire");
    let asks = methods.asks(config, &clients);
    let keyless = with_hmac || !verify_signature || !(methods.flows.bearer || methods.flows.grants());
    let endpoints = methods.endpoints(config, asks);
    let (keys, issuers) = keys(config, env, &issuer, &options, Wanted { keyless, endpoints: &endpoints });
    let around = Surroundings {
        issuer: issuer.as_str().into(),
        issuers: issuers.clone(),
        options,
        clients: Arc::clone(&clients),
        source: keys.clone(),
    };
    let user_info = Arc::new(UserInfoEndpoint::read(config, &around, env.endpoints()));
    let introspection = Arc::new(Introspection::read(config, &around, env.endpoints()));
    let introspection = asks.then_some(introspection);
    let fleet = FleetSettings::read(config, env.fleets());
    let fleet = fleet.and_then(|settings| env.fleets().fleet(&settings));
    let who = introspection.clone().map(|who| who as Arc<dyn Introspect>);
    let who = who.or_else(|| methods.userinfo.then(|| Arc::clone(&user_info) as Arc<dyn Introspect>));
    let keeps_introspection = config.bool("cache_introspection").unwrap_or(true);
    let keeps_user_info = config.bool("cache_user_info").unwrap_or(true);
    let keep = if asks { keeps_introspection } else { keeps_user_info };
    let times = Times {
        ttl_without_exp: seconds(config, "cache_ttl", f64::MAX).unwrap_or(Duration::from_secs(3600)),
        ttl_max: seconds(config, "cache_ttl_max", f64::MAX).filter(|ttl| !ttl.is_zero()),
    };
    let remote = remote(config, &methods, who, (keep, times), fleet.as_ref(), env);
    let leeway = leeway(config);
    let rules = Rules::parse(config, &rules::Ground { leeway, verify_claims, client_ids: &client_ids });
    let settings = Settings {
        issuers,
        algorithms,
        hs_secrets: if with_hmac { secrets.iter().map(|secret| secret.clone().into_bytes()).collect() } else { vec![] },
        verify_signature,
        verify_claims,
        leeway,
        types: match rules.types() {
            Some(types) => types.iter().copied().map(Box::from).collect(),
            None => types(config),
        },
        ttl_without_exp: times.ttl_without_exp,
        ttl_max: times.ttl_max,
        resigning: None,
    };
    let places = Places::parse(config);
    let arg = ClientArg::parse(config);
    let ids = client_ids.iter().map(|id| id.as_str().into()).collect();
    let along = match introspection {
        None if methods.userinfo => Along::by_user_info(arg, ids, Arc::clone(&user_info)),
        introspection => Along::new(arg, ids, introspection),
    };
    let possession = possession::parse(config, &methods.names, &|id| place.authority(id), env.proofs());
    let mapping = Mapping::parse(config);
    let headers = Headers::parse(config);
    let ground = flows::Ground {
        issuer: &issuer,
        methods: methods.flows,
        around: &around,
        settings: &settings,
        remote: remote.as_ref(),
        keys: keys.as_ref(),
        user_info,
        keeps_user_info,
        headers: &headers,
        lifetimes: lifetimes(config, &settings),
        fleet,
        env,
    };
    let flows = flows::parse(config, &ground);
    if possession.takes_bound() && flows.users.is_some() {
        let text = "asks with the client's token as a bearer token: issuers refuse that of bound ones (RFC 9449, 7.2)";
        config.warn("search_user_info", text);
    }
    let answers = Answers::parse(config, &rules, possession.schemes());
    let run_on_preflight = config.bool("run_on_preflight").unwrap_or(true);
    std::mem::replace(config, Reader::empty(config.line(), "", config.sink())).finish();
    if config.sink().count() > problems {
        return None;
    }
    let validator = match Validator::new(settings, keys, remote) {
        Ok(validator) => validator,
        Err(error) => {
            config.problem("client_secret", error.to_string(), "a usable secret");
            return None;
        }
    };
    Some(OpenidConnect {
        issuer: issuer.into(),
        run_on_preflight,
        takes_tokens: methods.flows.bearer || methods.introspection || methods.userinfo,
        places,
        schemes: if possession.takes_dpop() { Schemes::BearerAndDpop } else { Schemes::Bearer },
        along,
        validator,
        flows,
        possession,
        rules,
        mapping,
        headers,
        answers,
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

pub(super) fn seconds(config: &mut Reader<'_>, key: &'static str, most: f64) -> Option<Duration> {
    config.number(key, 0.0..=most).map(|seconds| Duration::from_secs_f64(seconds.min(1e9)))
}

/// What a blog spelling stands for: its value counts where the right name is absent, with a remark.
pub(super) fn alias(config: &Reader<'_>, wrong: &'static str, right: &str) -> bool {
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

/// `auth_methods`: by what a request may show who it is for.
struct Methods<'a> {
    names: Vec<&'a str>,
    introspection: bool,
    userinfo: bool,
    flows: flows::Methods,
    /// Whether they are written in the configuration.
    written: bool,
}

impl<'a> Methods<'a> {
    /// Reads `auth_methods` and `bearer_only`.
    fn read(config: &mut Reader<'a>) -> Self {
        const KEY: &str = "auth_methods";
        if alias(config, "bearer_only", KEY) && config.bool("bearer_only") == Some(false) {
            config.problem("bearer_only", "false", "true, or `auth_methods`");
        }
        config.bool("bearer_only");
        let written = config.strings_lenient(KEY);
        if written.as_ref().is_some_and(Vec::is_empty) {
            config.problem(KEY, "an empty list", "at least one method");
        }
        for method in written.iter().flatten() {
            let expected = match *method {
                "bearer" | "introspection" | "userinfo" | "refresh_token" | "password" | "client_credentials" => {
                    continue;
                }
                "authorization_code" | "session" => {
                    "bearer or introspection: the edge serves APIs, whose clients bring tokens; logins of browsers are \
                     an application's"
                }
                "kong_oauth2" => "bearer or introspection: the edge has no OAuth 2.0 plugin to share tokens with",
                _ => "bearer, introspection, userinfo, refresh_token, password or client_credentials",
            };
            config.problem(KEY, format!("{method:?}"), expected);
        }
        let is_written = written.is_some();
        let names = written.unwrap_or_else(|| vec!["bearer", "introspection"]);
        let has = |name: &str| names.contains(&name);
        let flows = flows::Methods {
            refresh_token: has("refresh_token"),
            password: has("password"),
            client_credentials: has("client_credentials"),
            bearer: has("bearer"),
        };
        Self { introspection: has("introspection"), userinfo: has("userinfo"), flows, written: is_written, names }
    }

    /// The parameters that name endpoints which must be known.
    fn endpoints(&self, config: &Reader<'_>, asks: bool) -> Vec<&'static str> {
        let user_info_headers = ["upstream", "downstream"].iter().any(|way| {
            config.has(&format!("{way}_user_info_header")) || config.has(&format!("{way}_user_info_jwt_header"))
        });
        let searches = config.raw_bool("search_user_info");
        let all = [
            ("introspection_endpoint", asks),
            ("userinfo_endpoint", self.userinfo || searches || user_info_headers),
            ("token_endpoint", self.flows.grants() || config.has("token_exchange")),
        ];
        all.into_iter().filter(|(_, wanted)| *wanted).map(|(name, _)| name).collect()
    }

    /// Whether issuers are asked about tokens: where that was asked for, and where there is something to ask with.
    fn asks(&self, config: &Reader<'_>, clients: &Clients) -> bool {
        let can = config.has("introspection_endpoint") || clients.iter().next().is_some();
        self.introspection && (self.written || can)
    }
}

/// How long answers stand, besides what introspection alone has.
#[derive(Clone, Copy, Debug)]
struct Times {
    ttl_without_exp: Duration,
    ttl_max: Option<Duration>,
}

/// Who is asked about tokens, and what becomes of answers.
fn remote(
    config: &mut Reader<'_>,
    methods: &Methods<'_>,
    who: Option<Arc<dyn Introspect>>,
    (keep, times): (bool, Times),
    fleet: Option<&Fleet>,
    env: &PluginEnv,
) -> Option<Remote> {
    const BOTH: &str = "introspect_jwt_tokens";
    let both = config.bool(BOTH).unwrap_or(false);
    let ttl_inactive = seconds(config, "cache_ttl_neg", DAY_SECS).unwrap_or(INACTIVE);
    let ttl_min = seconds(config, "cache_ttl_min", f64::MAX).unwrap_or_default();
    let ttl_stale = seconds(config, "cache_ttl_resurrect", DAY_SECS).unwrap_or_default();
    if !ttl_stale.is_zero() {
        config.warn("cache_ttl_resurrect", "while the issuer does not answer, tokens it revoked pass for so long");
    }
    let Some(who) = who else {
        if both {
            config.problem(BOTH, "true", "`introspection` among `auth_methods`, and a client to ask with");
        }
        return None;
    };
    let jwts = match (methods.flows.bearer, both) {
        (true, false) => JwtBy::Keys,
        (true, true) => JwtBy::KeysThenIntrospection,
        (false, _) => JwtBy::Introspection,
    };
    let asked = FieldDigest::default().field(who.id()).field(format!("{times:?} {ttl_min:?} {ttl_inactive:?}"));
    let shared = fleet.cloned().and_then(|fleet| SharedAnswers::new(fleet, asked.finish()));
    let shared = shared.map(|answers| Arc::new(answers) as Arc<dyn Shared>);
    let control = env.control().cloned();
    Some(Remote { who, control, jwts, jwt_claim: None, keep, ttl_inactive, ttl_min, ttl_stale, shared })
}

fn algorithms(config: &mut Reader<'_>, secrets: &[String]) -> Vec<Algorithm> {
    let hmac = |algorithm: &Algorithm| algorithm.family() == AlgorithmFamily::Hmac;
    let hs_enabled = config.bool("enable_hs_signatures").unwrap_or(false);
    if hs_enabled && secrets.is_empty() {
        config.problem("enable_hs_signatures", "true without `client_secret`", "`client_secret`, which is the key");
    }
    let listed = config.words("algorithms_allowed", &crypto::ALGORITHMS);
    if listed.as_ref().is_some_and(Vec::is_empty) {
        config.problem("algorithms_allowed", "an empty list", "at least one algorithm");
    }
    if !hs_enabled && listed.iter().flatten().any(hmac) {
        config.problem("algorithms_allowed", "an HS algorithm", "`enable_hs_signatures: true` for those");
    }
    let all = || {
        crypto::ALGORITHMS.iter().map(|(_, algorithm)| *algorithm).filter(|algorithm| hs_enabled || !hmac(algorithm))
    };
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

/// What an issuer is needed for.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    /// Something else than fetched keys may verify.
    keyless: bool,
    /// The parameters that name endpoints which must be known.
    endpoints: &'a [&'static str],
}

/// Where keys come from, what else is known of the issuer, and which `iss` tokens may name.
fn keys(
    config: &mut Reader<'_>,
    env: &PluginEnv,
    issuer: &str,
    options: &Options,
    wanted: Wanted<'_>,
) -> (Option<Arc<KeySource>>, Issuers) {
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
    // With a key set URL of its own an issuer need not be asked for one; `iss` is then the configured one. It still
    // says where to ask about tokens.
    let names_issuer = !pseudo && endpoint.is_none();
    let unknown: Vec<_> = wanted.endpoints.iter().copied().filter(|name| !config.has(name)).collect();
    let discovers = names_issuer || (!pseudo && !unknown.is_empty());
    let issuers = match &allowed {
        Some(list) => Issuers::Listed(list.clone()),
        None if names_issuer => Issuers::Discovered,
        None if pseudo => Issuers::Listed(vec![issuer.to_owned()]),
        None => Issuers::Listed(vec![issuer_of(issuer)]),
    };
    for name in unknown.iter().filter(|_| pseudo) {
        let expected = format!("`{name}`: a pseudo issuer is not asked where that is");
        config.problem("using_pseudo_issuer", "an endpoint that nobody names", expected);
    }
    let discovery = discovers.then(|| Discovery {
        keys: endpoint.is_none(),
        ..Discovery::new(issuer, document.as_deref(), allowed.as_deref().unwrap_or_default())
    });
    let jwks_uris: Vec<String> = endpoint.into_iter().chain(extra).collect();
    if discovery.is_none() && jwks_uris.is_empty() {
        if !wanted.keyless {
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
        // `discovery_headers_…` are for discovery alone.
        options: Options { headers: if discovery.is_some() { headers } else { Vec::new() }, ..options.clone() },
        discovery,
        jwks_uris,
        rediscovery_lifetime: lifetime.max(Duration::from_secs(1)),
        refresh: None,
        kinds: Kinds::Public,
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
