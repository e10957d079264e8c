//! Clients by their parameters: Kong's parallel arrays `client_id`, `client_secret`, … of `openid-connect`, and the one
//! client of `upstream-oauth`.

use super::client::{Certificate, Client, Clients, METHODS, Method, PrivateKey};
use super::keys::GeneratedKeys;
use super::own_grant::Question;
use crate::config::reader::Reader;
use crate::config::value::{Kind, Value};
use crate::crypto::{self, jwk};
use crate::http_client::Identity;
use jsonwebtoken::{Algorithm, AlgorithmFamily};
use rustls::sign::CertifiedKey;
use serde_json::{Map, json};
use std::str::FromStr;
use std::sync::Arc;

/// `auth_method` of `upstream-oauth`; the last two are beyond Kong.
const OWN_METHODS: [(&str, Method); 6] = [
    ("client_secret_basic", Method::ClientSecretBasic),
    ("client_secret_jwt", Method::ClientSecretJwt),
    ("client_secret_post", Method::ClientSecretPost),
    ("none", Method::None),
    ("private_key_jwt", Method::PrivateKeyJwt),
    ("tls_client_auth", Method::TlsClientAuth),
];

impl Clients {
    /// Reads `client_id`, `client_secret`, `client_auth`, `client_alg`, `client_jwk`, `tls_client_auth_cert_id` and
    /// `tls_client_auth_ssl_verify`. `certificate` finds a certificate entity by its id.
    pub fn read(
        config: &mut Reader<'_>,
        certificate: &dyn Fn(&str) -> Option<Arc<CertifiedKey>>,
        generated: &Arc<GeneratedKeys>,
    ) -> Self {
        let ids = config.strings_lenient("client_id").unwrap_or_default();
        let secrets = config.strings_lenient("client_secret").unwrap_or_default();
        let methods = one_or_many(config, "client_auth", &METHODS);
        let algorithms = one_or_many(config, "client_alg", &crypto::ALGORITHMS);
        let mut keys = keys(config, &algorithms);
        let certificate = self::certificate(config, certificate);
        let surplus = [
            // Secrets without a client are those of HS signatures.
            ("client_secret", if ids.is_empty() { 0 } else { secrets.len() }),
            ("client_auth", methods.len()),
            ("client_alg", algorithms.len()),
            ("client_jwk", keys.len()),
        ];
        for (key, count) in surplus {
            if count > ids.len() {
                config.problem(key, format!("{count} for {} of `client_id`", ids.len()), "at most as many");
            }
        }
        keys.resize_with(ids.len(), || None);
        let read = |(index, (id, key)): (usize, (&&str, Option<PrivateKey>))| Client {
            id: (*id).into(),
            secret: secrets.get(index).map(|secret| (*secret).into()),
            method: methods.get(index).copied(),
            algorithm: algorithms.get(index).copied(),
            key,
            generated: Arc::clone(generated),
            certificate: certificate.clone(),
        };
        let clients = Self(ids.iter().zip(keys).enumerate().map(read).collect());
        for (index, client) in clients.iter().enumerate() {
            if let Some(method) = client.method {
                client.check(config, index, "client_auth", method);
            }
        }
        clients
    }

    /// Reads the client of `upstream-oauth`: `auth_method`, `client_secret_jwt_alg`, and beyond Kong `client_jwk`, which
    /// stand in its record `client`. The rest is part of its question, whose record is `oauth`.
    pub fn read_own(
        client: &mut Reader<'_>,
        oauth: &Reader<'_>,
        question: Option<&Question>,
        generated: &Arc<GeneratedKeys>,
    ) -> (Self, Method) {
        const METHOD: &str = "auth_method";
        let method = client.word(METHOD, &OWN_METHODS).unwrap_or(Method::ClientSecretPost);
        let name = METHODS.iter().find(|(_, known)| *known == method).map_or("", |(name, _)| name);
        let algorithms = [("HS256", Algorithm::HS256), ("HS512", Algorithm::HS512)];
        let hmac = client.word("client_secret_jwt_alg", &algorithms).unwrap_or(Algorithm::HS512);
        let key = client.object("client_jwk").and_then(|record| key(record, None));
        let has_secret = oauth.has("client_secret");
        let needs_secret = method.needs() == "client_secret";
        for (field, needed) in [("client_id", method != Method::None), ("client_secret", needs_secret)] {
            if needed && !oauth.has(field) {
                oauth.problem(field, "nothing", format!("one, for `client.{METHOD}` {name}"));
            }
        }
        if has_secret && !needs_secret {
            oauth.warn("client_secret", &format!("not sent: `client.{METHOD}` is {name}"));
        }
        match (method == Method::PrivateKeyJwt, client.has("client_jwk")) {
            (false, true) => client.problem("client_jwk", "a key", format!("none, with `{METHOD}` {name}")),
            (true, false) => generated.want(Algorithm::RS256),
            _ => {}
        }
        let algorithm = (method == Method::ClientSecretJwt).then_some(hmac);
        let one = question.and_then(|question| Some((question.client_id()?, question.client_secret()))).map(
            |(id, secret)| {
                let (id, secret) = (id.into(), secret.map(Box::from));
                let generated = Arc::clone(generated);
                Client { id, secret, method: Some(method), algorithm, key, generated, certificate: None }
            },
        );
        (Self(one.into_iter().collect()), method)
    }

    /// A method that an endpoint overrides `client_auth` with, named by `key`: every client must have the means for it.
    pub fn method_at(&self, config: &mut Reader<'_>, key: &'static str) -> Option<Method> {
        let method = config.word(key, &METHODS)?;
        for (index, client) in self.iter().enumerate() {
            client.check(config, index, key, method);
        }
        Some(method)
    }
}

impl Client {
    /// Whether what is configured serves a method, which `key` asks for.
    fn check(&self, config: &Reader<'_>, index: usize, key: &str, method: Method) {
        let name = METHODS.iter().find(|(_, known)| *known == method).map_or("", |(name, _)| name);
        let generates = method == Method::PrivateKeyJwt && self.key.is_none();
        let signs = self.algorithm.unwrap_or(Algorithm::RS256);
        if generates && signs.family() != AlgorithmFamily::Hmac {
            self.generated.want(signs);
        }
        if !generates && !self.can(method) {
            let needs = method.needs();
            let found = format!("`{name}` without `{needs}` for `client_id[{index}]`");
            config.problem(key, found, format!("`{needs}` beside it, or another method"));
        }
        let Some(algorithm) = self.algorithm else { return };
        let expected = match (method, algorithm.family() == AlgorithmFamily::Hmac) {
            (Method::ClientSecretJwt, false) => "HS256, HS384 or HS512",
            (Method::PrivateKeyJwt, true) => "an RS, PS or ES algorithm, or EdDSA",
            _ => return,
        };
        config.problem("client_alg", format!("{algorithm:?} for `{name}`"), expected);
    }
}

/// A list of words; a word alone is a list of one.
fn one_or_many<T: Copy>(config: &mut Reader<'_>, key: &'static str, words: &[(&str, T)]) -> Vec<T> {
    let is_list = |value: &Value| matches!(value.kind, Kind::Array(_));
    match config.raw(key).map(is_list) {
        None => Vec::new(),
        Some(true) => config.words(key, words).unwrap_or_default(),
        Some(false) => config.word(key, words).into_iter().collect(),
    }
}

fn certificate(config: &mut Reader<'_>, find: &dyn Fn(&str) -> Option<Arc<CertifiedKey>>) -> Option<Certificate> {
    let ssl_verify = config.bool("tls_client_auth_ssl_verify").unwrap_or(true);
    if !ssl_verify {
        config.warn("tls_client_auth_ssl_verify", "the issuer's certificate is not verified on calls by mutual TLS");
    }
    let id = config.string("tls_client_auth_cert_id")?;
    let Some(pair) = find(id) else {
        config.problem("tls_client_auth_cert_id", format!("{id:?}"), "the id of a certificate of this configuration");
        return None;
    };
    Some(Certificate { identity: Identity(pair), ssl_verify })
}

/// The keys of `client_jwk` in its order; an empty record stands for a client without one.
fn keys(config: &mut Reader<'_>, algorithms: &[Algorithm]) -> Vec<Option<PrivateKey>> {
    const KEY: &str = "client_jwk";
    let records = match config.raw(KEY).map(|value| (value, &value.kind)) {
        None => Vec::new(),
        Some((_, Kind::Array(_))) => config.objects(KEY),
        Some((value, _)) => Reader::new(value, &config.path_of(KEY), config.sink()).into_iter().collect(),
    };
    let algorithm = |index: usize| algorithms.get(index).copied();
    records.into_iter().enumerate().map(|(index, record)| key(record, algorithm(index))).collect()
}

fn key(mut record: Reader<'_>, configured: Option<Algorithm>) -> Option<PrivateKey> {
    // RFC 7517, 4; RFC 7518, 6.
    const MEMBERS: [&str; 16] =
        ["kty", "crv", "kid", "n", "e", "d", "p", "q", "dp", "dq", "qi", "x", "y", "x5t", "x5t#S256", "use"];
    let problems = record.sink().count();
    let mut members = Map::new();
    for name in MEMBERS {
        if let Some(text) = record.string(name) {
            members.insert(name.to_owned(), json!(text));
        }
    }
    let stated = record.parsed("alg", "a JWS algorithm", |text| Algorithm::from_str(text).ok());
    // What a key set says of its keys and an assertion needs nothing of.
    for described in ["x5u", "issuer"] {
        record.string(described);
    }
    record.strings("x5c");
    for foreign in ["k", "oth", "r", "t"] {
        if record.raw(foreign).is_some() {
            record.problem(foreign, "a symmetric key or one of many primes", "an RSA key of two primes, EC or Ed25519");
        }
    }
    if members.get("use").is_some_and(|purpose| purpose != "sig") {
        record.problem("use", "a key that signs nothing", "`sig`, or nothing");
    }
    if record.strings("key_ops").is_some_and(|operations| !operations.contains(&"sign")) {
        record.problem("key_ops", "a key that signs nothing", "`sign` among them, or nothing");
    }
    let key = if members.is_empty() { None } else { signer(&record, &members, configured, stated) };
    let fine = record.sink().count() == problems;
    record.finish();
    key.filter(|_| fine)
}

fn signer(
    record: &Reader<'_>,
    members: &Map<String, serde_json::Value>,
    configured: Option<Algorithm>,
    stated: Option<Algorithm>,
) -> Option<PrivateKey> {
    let asymmetric = configured.filter(|algorithm| algorithm.family() != AlgorithmFamily::Hmac);
    if let (Some(configured), Some(stated)) = (asymmetric, stated)
        && configured != stated
    {
        record.problem("alg", format!("{stated:?}"), format!("{configured:?}, which `client_alg` says"));
        return None;
    }
    let Some(algorithm) = asymmetric.or(stated).or_else(|| jwk::default_algorithm(members)) else {
        record.problem("kty", "a type or curve that is not supported", "RSA, EC with P-256 or P-384, OKP with Ed25519");
        return None;
    };
    let key = match jwk::signing_key(members, algorithm) {
        Ok(key) => key,
        Err(error) => {
            record.problem("kty", error.to_string(), format!("a whole private key for {algorithm:?}"));
            return None;
        }
    };
    let mut header = Map::new();
    header.insert("kid".into(), members.get("kid").cloned().unwrap_or_else(|| json!(key.kid())));
    for print in ["x5t", "x5t#S256"] {
        if let Some(value) = members.get(print) {
            header.insert(print.into(), value.clone());
        }
    }
    Some(PrivateKey { key, header })
}
