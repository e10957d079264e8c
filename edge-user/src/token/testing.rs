//! For tests: an issuer over loopback with counted requests, keys, tokens, and a validator for them.

use super::cache::{LocalCache, VerdictCache};
use super::introspection::{Extras, Remote};
use super::jwks::Kinds;
use super::keys::KeySources;
use super::source::{Discovery, FetchPolicy, SourceSettings};
use super::{Ask, Issuers, Judgement, Now, Progress, Settings, Validator, Verified};
use crate::crypto::sign::{Signer, SigningKey};
use crate::http_client::{HttpClient, Options};
use crate::reason::Reason;
use crate::state::State;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use jsonwebtoken::signature::Signer as _;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

pub(crate) const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// A signing key with a `kid` of the test's choice.
pub(crate) struct TestKey {
    pub(crate) kid: String,
    pub(crate) algorithm: Algorithm,
    pub(crate) pkcs8: Vec<u8>,
}

impl TestKey {
    pub(crate) fn new(algorithm: Algorithm, kid: &str) -> Self {
        let pkcs8 = SigningKey::generate_pkcs8(algorithm).expect("a key");
        Self { kid: kid.to_owned(), algorithm, pkcs8 }
    }

    pub(crate) fn jwk(&self) -> Value {
        let key = SigningKey::from_pkcs8(self.algorithm, &self.pkcs8).expect("a key");
        let mut jwk = key.public_jwk().clone();
        jwk["kid"] = json!(self.kid);
        jwk
    }

    /// A token with this header and payload, signed whatever they say.
    pub(crate) fn mint_raw(&self, header: &str, payload: &str) -> String {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
        let signer = Signer::new(self.algorithm, &self.pkcs8).expect("a key");
        let signature = signer.try_sign(signed.as_bytes()).expect("a signature");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    pub(crate) fn mint(&self, claims: &Value) -> String {
        let header = json!({"alg": self.algorithm, "typ": "JWT", "kid": self.kid});
        self.mint_raw(&header.to_string(), &claims.to_string())
    }
}

/// Claims that pass, changed by `with`: `null` removes a member.
pub(crate) fn claims(issuer: &str, with: Value) -> Value {
    let now = Now::read().unix_ms / 1000;
    let mut claims = json!({"iss": issuer, "sub": "user", "aud": "api", "exp": now + 600, "iat": now, "scope": "read"});
    for (name, value) in with.as_object().expect("an object") {
        if value.is_null() {
            claims.as_object_mut().expect("an object").remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    claims
}

#[derive(Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
    pub(crate) delay: Duration,
}

#[derive(Default)]
struct Pages {
    answers: HashMap<String, Answer>,
    counts: HashMap<String, u64>,
    requests: Vec<String>,
}

/// An issuer with discovery at the usual place and keys at `/jwks`.
pub(crate) struct TestIssuer {
    pub(crate) url: String,
    pages: Arc<Mutex<Pages>>,
}

impl TestIssuer {
    pub(crate) async fn start(keys: &[&TestKey]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let pages = Arc::new(Mutex::new(Pages::default()));
        let served = Arc::clone(&pages);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let served = Arc::clone(&served);
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    let mut chunk = [0; 2048];
                    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                        match stream.read(&mut chunk).await {
                            Ok(read) if read > 0 => head.extend_from_slice(&chunk[..read]),
                            _ => return,
                        }
                    }
                    let head = String::from_utf8_lossy(&head).into_owned();
                    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                    let answer = {
                        let mut pages = served.lock().expect("no panic");
                        *pages.counts.entry(path.clone()).or_default() += 1;
                        pages.requests.push(head);
                        pages.answers.get(&path).cloned()
                    };
                    let answer = answer.unwrap_or(Answer { status: 404, body: String::new(), delay: Duration::ZERO });
                    tokio::time::sleep(answer.delay).await;
                    let text = format!(
                        "HTTP/1.1 {} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{}",
                        answer.status,
                        answer.body.len(),
                        answer.body
                    );
                    let _ = stream.write_all(text.as_bytes()).await;
                });
            }
        });
        let issuer = Self { url, pages };
        let jwks = issuer.page("/jwks");
        let metadata = json!({"issuer": issuer.url, "jwks_uri": jwks});
        issuer.answer("/.well-known/openid-configuration", 200, &metadata.to_string());
        issuer.publish(keys);
        issuer
    }

    pub(crate) fn page(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    pub(crate) fn answer(&self, path: &str, status: u16, body: &str) {
        self.answer_late(path, status, body, Duration::ZERO);
    }

    pub(crate) fn answer_late(&self, path: &str, status: u16, body: &str, delay: Duration) {
        let answer = Answer { status, body: body.to_owned(), delay };
        self.pages.lock().expect("no panic").answers.insert(path.to_owned(), answer);
    }

    pub(crate) fn publish(&self, keys: &[&TestKey]) {
        let keys: Vec<_> = keys.iter().map(|key| key.jwk()).collect();
        self.answer("/jwks", 200, &json!({"keys": keys}).to_string());
    }

    pub(crate) fn count(&self, path: &str) -> u64 {
        self.pages.lock().expect("no panic").counts.get(path).copied().unwrap_or(0)
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.pages.lock().expect("no panic").requests.clone()
    }

    pub(crate) fn source(&self) -> SourceSettings {
        SourceSettings {
            discovery: Some(Discovery::new(&self.url, None, &[])),
            jwks_uris: Vec::new(),
            options: Options { timeout: Duration::from_secs(2), ..Options::default() },
            rediscovery_lifetime: Duration::from_secs(30),
            refresh: None,
            kinds: Kinds::Public,
        }
    }
}

pub(crate) fn policy() -> FetchPolicy {
    FetchPolicy { key_wait: Duration::from_secs(3), ..FetchPolicy::default() }
}

pub(crate) fn sources(policy: FetchPolicy, state: State) -> KeySources {
    let http = HttpClient::new(&[]).expect("a client");
    KeySources::new(http, state, tokio::runtime::Handle::current(), policy)
}

pub(crate) fn settings() -> Settings {
    use Algorithm::{ES256, ES384, EdDSA, PS256, RS256};
    Settings {
        issuers: Issuers::Discovered,
        algorithms: vec![RS256, PS256, ES256, ES384, EdDSA],
        hs_secrets: Vec::new(),
        verify_signature: true,
        verify_claims: true,
        leeway: Duration::ZERO,
        types: vec!["".into(), "jwt".into(), "at+jwt".into()],
        ttl_without_exp: Duration::from_secs(3600),
        ttl_max: None,
        resigning: None,
    }
}

/// An issuer, a validator for it, and a worker's cache.
pub(crate) struct Bench {
    pub(crate) issuer: TestIssuer,
    pub(crate) sources: KeySources,
    pub(crate) validator: Arc<Validator>,
    pub(crate) shared: Arc<VerdictCache>,
    pub(crate) cache: LocalCache,
}

impl Bench {
    pub(crate) async fn new(keys: &[&TestKey]) -> Self {
        Self::with(keys, settings(), policy()).await
    }

    pub(crate) async fn with(keys: &[&TestKey], settings: Settings, policy: FetchPolicy) -> Self {
        Self::asking(keys, settings, policy, None).await
    }

    /// One that somebody is asked by.
    pub(crate) async fn asking(
        keys: &[&TestKey],
        settings: Settings,
        policy: FetchPolicy,
        remote: Option<Remote>,
    ) -> Self {
        let issuer = TestIssuer::start(keys).await;
        let sources = sources(policy, State::in_memory());
        let validator = Validator::new(settings, Some(sources.source(issuer.source())), remote).expect("a validator");
        let shared = VerdictCache::new(1 << 20);
        let cache = shared.local();
        Self { issuer, sources, validator, shared, cache }
    }

    pub(crate) fn claims(&self, with: Value) -> Value {
        claims(&self.issuer.url, with)
    }

    /// Judges as the proxy does: waits once, then judges again.
    pub(crate) async fn judge(&self, token: &str) -> Result<(), Reason> {
        self.judge_at(token, Now::read()).await
    }

    pub(crate) async fn judge_at(&self, token: &str, now: Now) -> Result<(), Reason> {
        judge(&self.validator, &self.cache, token, now).await
    }

    pub(crate) fn judge_now(&self, token: &str) -> Judgement {
        first(&self.validator, &self.cache, token, Now::read())
    }
}

/// A judgement's first step.
pub(crate) fn first(validator: &Arc<Validator>, cache: &LocalCache, token: &str, now: Now) -> Judgement {
    step(validator, cache, token, now, Progress::First)
}

fn step(validator: &Arc<Validator>, cache: &LocalCache, token: &str, now: Now, progress: Progress) -> Judgement {
    let extras = Extras::default();
    validator.judge(
        cache,
        Ask { token: token.as_bytes(), now, source: CLIENT, extras: &extras, observer: Default::default() },
        progress,
    )
}

/// All steps: waits for keys at most twice, and for whoever is asked once.
pub(crate) async fn judge(validator: &Arc<Validator>, cache: &LocalCache, token: &str, now: Now) -> Result<(), Reason> {
    let mut progress = Progress::First;
    for _ in 0..4 {
        progress = match step(validator, cache, token, now, progress) {
            Judgement::Verified(_) => return Ok(()),
            Judgement::Refused(refused) => return Err(refused.reason),
            Judgement::Wait(wait) => wait.done().await,
        };
    }
    panic!("a fourth wait")
}

/// The facts of some good token.
pub(crate) async fn verified() -> Verified {
    let key = TestKey::new(Algorithm::ES256, "k");
    let bench = Bench::new(&[&key]).await;
    let token = key.mint(&bench.claims(serde_json::json!({})));
    bench.judge(&token).await.expect("a good token");
    match bench.judge_now(&token) {
        Judgement::Verified(facts) => facts,
        _ => panic!("judged already"),
    }
}
