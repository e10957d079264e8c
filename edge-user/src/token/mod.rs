//! Token verdicts: `Validator::judge` answers for one token, at once, from the caches or by verifying it here.
//!
//! Knows no HTTP and no plugins. A validator judges what does not depend on the route: form, algorithm, issuer, times,
//! signature. What a route requires of the facts is asked by `plugin::openid_connect`. No function here waits; the one
//! thing worth waiting for, a fetch of keys, is handed to the caller as a `KeyWait`.

pub mod budget;
pub mod cache;
pub mod claims;
pub mod dpop;
pub mod explain;
pub mod introspection;
pub mod issuer;
pub mod json;
pub mod jwks;
pub mod jws;
pub mod keys;
pub mod source;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod vectors;

use crate::crypto::verify::VerifyingKey;
use crate::crypto::{self, MacKey};
use crate::reason::Reason;
use cache::{CacheKey, Entry, Ground, Held, LocalCache, Verdict};
use claims::Facts;
use introspection::{Boarding, ByKeys, Extras, FlightWait, JwtBy, Landed, Plan, Remote, key_with};
use json::Value;
use jsonwebtoken::signature::Verifier;
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use jwks::{Choice, KeySet};
use jws::{Jws, Shape};
use keys::{Attempt, KeySource, KeyWait, Missing};
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long a lasting refusal is remembered; it is bounded by memory long before.
const REFUSAL_MS: i64 = 600_000;

/// The clock, read once per request by the caller.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Now {
    /// Milliseconds since 1970 (UTC).
    pub unix_ms: i64,
}

impl Now {
    /// Reads the clock.
    pub fn read() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { unix_ms: since.as_millis() as i64 }
    }
}

/// Which `iss` a token must name, byte for byte.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Issuers {
    /// The issuer that the discovery document names.
    Discovered,
    /// One of these.
    Listed(Vec<String>),
}

/// What makes a validator. Everything but `leeway` can change a fact and is part of its identity.
#[derive(Clone)]
pub struct Settings {
    /// The issuers that tokens may name.
    pub issuers: Issuers,
    /// The allow-list; never empty.
    pub algorithms: Vec<Algorithm>,
    /// Secrets for HS256, HS384 and HS512, where those are on the list.
    pub hs_secrets: Vec<Vec<u8>>,
    /// False only where the operator switched verification off by name.
    pub verify_signature: bool,
    /// False leaves `exp`, `nbf` and a discovered issuer unchecked (Kong's `verify_claims`).
    pub verify_claims: bool,
    /// Widens `exp` and `nbf`; judged per request.
    pub leeway: Duration,
    /// Accepted `typ`s, as `jws::short_type` gives them; the empty one is a header without `typ`.
    pub types: Vec<Box<str>>,
    /// Life of a cached fact whose token has no `exp` (Kong's `cache_ttl`).
    pub ttl_without_exp: Duration,
    /// Longest life of any cached fact, beside `exp` (Kong's `cache_ttl_max`).
    pub ttl_max: Option<Duration>,
}

/// Judges tokens of one set of issuers. Equal validators of different routes share their verdicts.
pub struct Validator {
    id: [u8; 32],
    mac: MacKey,
    settings: Settings,
    keys: Option<Arc<KeySource>>,
    remote: Option<Remote>,
    secrets: Vec<VerifyingKey>,
    leeway_ms: i64,
}

/// A verified token's facts. Belongs to its worker.
#[derive(Clone)]
pub struct Verified(Held);

impl Deref for Verified {
    type Target = Facts;

    fn deref(&self) -> &Facts {
        match &self.0.verdict {
            Verdict::Verified(facts) => facts,
            _ => unreachable!("made from entries with facts only"),
        }
    }
}

/// A refusal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refused {
    /// Why.
    pub reason: Reason,
    /// For `Retry-After`, where the fault is not the token's.
    pub retry_after_secs: Option<u32>,
}

impl From<Reason> for Refused {
    fn from(reason: Reason) -> Self {
        Self { reason, retry_after_secs: None }
    }
}

/// What became of one token.
pub enum Judgement {
    /// The facts hold.
    Verified(Verified),
    /// They do not, or nobody can say.
    Refused(Refused),
    /// Somebody is being asked: wait, then judge with what came of it.
    Wait(Wait),
}

/// What a judgement waits for.
pub enum Wait {
    /// The issuer's keys.
    Keys(KeyWait),
    /// What the issuer says of the token.
    Flight(FlightWait),
}

impl Wait {
    /// Waits. What bounds the wait goes on with `given_up()`.
    pub async fn done(self) -> Progress {
        match self {
            Self::Keys(wait) => {
                wait.done().await;
                Progress::KeysWaited
            }
            Self::Flight(wait) => Progress::Landed(wait.done().await),
        }
    }

    /// How to go on where the wait took too long.
    pub fn given_up(&self) -> Progress {
        match self {
            Self::Keys(_) => Progress::KeysWaited,
            Self::Flight(_) => Progress::Landed(introspection::unanswered()),
        }
    }
}

/// How far the judgement of one request's token has come.
pub enum Progress {
    /// It begins.
    First,
    /// Keys were waited for: they are not waited for again.
    KeysWaited,
    /// Somebody was asked.
    Landed(Landed),
}

/// One token to judge, and what of its request matters.
#[derive(Clone, Copy)]
pub struct Ask<'a> {
    /// The token.
    pub token: &'a [u8],
    /// When.
    pub now: Now,
    /// Whom the work is done for.
    pub source: IpAddr,
    /// What goes along where somebody is asked about the token.
    pub extras: &'a Extras,
}

impl From<Reason> for Judgement {
    fn from(reason: Reason) -> Self {
        Self::Refused(reason.into())
    }
}

impl Validator {
    /// A validator. `keys` may be absent where only secrets verify, or where somebody is asked about every token.
    pub fn new(
        settings: Settings,
        keys: Option<Arc<KeySource>>,
        remote: Option<Remote>,
    ) -> Result<Arc<Self>, crypto::Error> {
        let mut secrets = Vec::new();
        for secret in &settings.hs_secrets {
            for algorithm in settings.algorithms.iter().filter(|alg| alg.family() == AlgorithmFamily::Hmac) {
                secrets.push(VerifyingKey::new(*algorithm, &DecodingKey::from_secret(secret))?);
            }
        }
        let id = settings.id(keys.as_ref().map(|keys| keys.settings_id()), remote.as_ref().map(Remote::id));
        let leeway_ms = settings.leeway.as_millis().min(1 << 40) as i64;
        Ok(Arc::new(Self { id, mac: cache::derive_mac(&id), settings, keys, remote, secrets, leeway_ms }))
    }

    /// The hash over every setting that can change a fact.
    pub fn id(&self) -> &[u8; 32] {
        &self.id
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// When a token of these facts stops being accepted, in milliseconds since 1970; nothing where claims are not checked.
    pub fn expiry_ms(&self, facts: &Facts) -> Option<i64> {
        let exp_ms = facts.exp_ms().filter(|_| self.settings.verify_claims)?;
        Some(exp_ms.saturating_add(self.leeway_ms))
    }

    /// The facts of an opaque token that its issuer gave the edge itself: how long it lives, and its scope.
    pub fn vouch(&self, left: Option<Duration>, scope: Option<&str>, now: Now) -> Verified {
        let left = left.unwrap_or(self.settings.ttl_without_exp);
        let exp_ms = now.unix_ms.saturating_add(left.as_millis().min(1 << 50) as i64);
        let mut claims = serde_json::json!({"exp": exp_ms / 1000});
        if let Some(scope) = scope {
            claims["scope"] = scope.into();
        }
        let facts = Facts::introspected(claims.to_string().into_bytes(), None);
        let facts = facts.expect("a number and a text make claims");
        Verified(Held::new(Arc::new(Entry::new(Verdict::Verified(facts), Ground::Always, 0, exp_ms))))
    }

    /// The public key that verified a token, as a JWK; nothing where no fetched key did, or it is gone meanwhile.
    pub fn key_of(&self, verified: &Verified) -> Option<Box<str>> {
        let Ground::Key(identity) = verified.0.ground else { return None };
        let set = self.keys.as_ref()?.keys();
        set.keys.iter().find(|key| *key.identity() == identity).map(|key| key.jwk().into())
    }

    /// The source of its keys.
    pub fn keys(&self) -> Option<&Arc<KeySource>> {
        self.keys.as_ref()
    }

    /// Who is asked about tokens, if anybody is.
    pub fn remote(&self) -> Option<&Remote> {
        self.remote.as_ref()
    }

    /// Judges a token: no I/O, no waiting.
    pub fn judge(self: &Arc<Self>, cache: &LocalCache, ask: Ask<'_>, progress: Progress) -> Judgement {
        if ask.token.len() > jws::MAX_BYTES {
            return Reason::TokenTooLarge.into();
        }
        if cache.is_off() && self.remote.is_none() {
            return self.examine(cache, None, ask, attempt(&progress));
        }
        let mut key = CacheKey::new(&self.mac, ask.token);
        if self.remote.is_some() {
            key = key_with(key, ask.extras);
        }
        if let Progress::Landed(landed) = progress {
            return self.conclude(cache, &key, ask, landed);
        }
        if let Some(held) = cache.find(&key)
            && let Some(judgement) = self.recall(held, ask.now)
        {
            if let Judgement::Verified(Verified(held)) = &judgement
                && held.is_due(ask.now.unix_ms)
            {
                // The flight alone is wanted: who asked goes on with what stands.
                drop(self.examine(cache, Some(&key), ask, Attempt::Waited));
            }
            return judgement;
        }
        self.examine(cache, Some(&key), ask, attempt(&progress))
    }

    /// What a flight's end means for one of those who waited for it.
    fn conclude(&self, cache: &LocalCache, key: &CacheKey, ask: Ask<'_>, landed: Landed) -> Judgement {
        let now_ms = ask.now.unix_ms;
        let entry = match landed {
            Ok(entry) => entry,
            Err(refused) => {
                let stale = cache.find(key).filter(|held| self.stands(held) && held.serves_stale(now_ms));
                let serves = |held: &Held| match &held.verdict {
                    Verdict::Verified(facts) => self.check_time(facts, ask.now).is_ok(),
                    _ => false,
                };
                return match stale.filter(serves) {
                    Some(held) if refused.reason == Reason::IntrospectionFailed => Judgement::Verified(Verified(held)),
                    _ => refused.into(),
                };
            }
        };
        match &entry.verdict {
            Verdict::Verified(facts) => {
                cache.budget().book(ask.source, now_ms, true);
                match self.check_time(facts, ask.now) {
                    Ok(()) if self.remote.as_ref().is_some_and(|remote| remote.keep) => {
                        Judgement::Verified(Verified(cache.take(key, entry)))
                    }
                    Ok(()) => Judgement::Verified(Verified(Held::new(entry))),
                    Err(reason) => reason.into(),
                }
            }
            _ => {
                cache.budget().book(ask.source, now_ms, false);
                Reason::TokenInactive.into()
            }
        }
    }

    /// Asks about a token, or joins who does.
    fn inquire(
        self: &Arc<Self>,
        cache: &LocalCache,
        key: Option<&CacheKey>,
        ask: Ask<'_>,
        by_keys: Option<ByKeys>,
    ) -> Judgement {
        let (Some(remote), Some(key)) = (&self.remote, key) else { return Reason::IntrospectionUnavailable.into() };
        let Some(control) = &remote.control else { return Reason::IntrospectionFailed.into() };
        let now_ms = ask.now.unix_ms;
        let proven = cache.budget().is_good(ask.source, now_ms);
        let wait = match cache.shared().flights().board(*key, proven) {
            Boarding::Joined(wait) => wait,
            Boarding::Full => return Refused { reason: Reason::VerificationBusy, retry_after_secs: Some(1) }.into(),
            Boarding::Mine(ticket, wait) => {
                let validator = Arc::clone(self);
                let plan = Plan {
                    remote: remote.clone(),
                    settings: self.settings.clone(),
                    cache: Arc::clone(cache.shared()),
                    key: *key,
                    token: ask.token.into(),
                    extras: ask.extras.clone(),
                    by_keys,
                    issuer_allowed: Box::new(move |facts| validator.names_allowed_issuer(facts)),
                };
                control.spawn(introspection::fly(plan, ticket, || Now::read().unix_ms));
                wait
            }
        };
        Judgement::Wait(Wait::Flight(wait))
    }

    /// Whether an answer names no issuer, or an allowed one; nothing while that is still to be discovered.
    fn names_allowed_issuer(&self, facts: &Facts) -> Option<bool> {
        let set = self.keys.as_ref().map(|keys| keys.keys());
        let set = set.as_ref().map(|set| &***set);
        facts.issuer().map_or(Some(true), |iss| self.check_issuer(Some(iss), set))
    }

    /// What a cached entry says now; nothing if it has to be examined anew.
    fn recall(&self, held: Held, now: Now) -> Option<Judgement> {
        if !self.stands(&held) {
            return None;
        }
        match &held.verdict {
            Verdict::Verified(facts) => match self.check_time(facts, now) {
                Err(reason) => Some(reason.into()),
                Ok(()) if now.unix_ms < held.until_ms => Some(Judgement::Verified(Verified(held))),
                Ok(()) => None,
            },
            _ if now.unix_ms >= held.until_ms => None,
            Verdict::Malformed => Some(Reason::TokenMalformed.into()),
            Verdict::Inactive => Some(Reason::TokenInactive.into()),
            Verdict::BadSignature => Some(Reason::SignatureInvalid.into()),
            // The leeway may be another route's.
            Verdict::Expired { exp_ms } => {
                (now.unix_ms >= exp_ms.saturating_add(self.leeway_ms)).then(|| Reason::TokenExpired.into())
            }
        }
    }

    fn check_time(&self, facts: &Facts, now: Now) -> Result<(), Reason> {
        if self.settings.verify_claims { facts.check_time(now.unix_ms, self.leeway_ms) } else { Ok(()) }
    }

    /// Whether what an entry rests on is still so. Only a change of the key set costs more than one comparison.
    fn stands(&self, entry: &Entry) -> bool {
        let Some(source) = &self.keys else { return true };
        let epoch = source.epoch();
        if entry.ground == Ground::Always || entry.epoch.load(Ordering::Acquire) == epoch {
            return true;
        }
        let set = source.keys();
        match entry.ground {
            Ground::Key(identity) if set.contains(&identity) => {
                entry.epoch.store(set.epoch, Ordering::Release);
                true
            }
            _ => {
                entry.kill();
                false
            }
        }
    }

    /// Verifies a token: cheap checks first, the signature last (D4).
    fn examine(
        self: &Arc<Self>,
        cache: &LocalCache,
        key: Option<&CacheKey>,
        ask: Ask<'_>,
        attempt: Attempt,
    ) -> Judgement {
        let Ask { token, now, source, .. } = ask;
        cache.count_miss();
        let jwts = self.remote.as_ref().map_or(JwtBy::Keys, |remote| remote.jwts);
        let remember = |verdict, ground, epoch| {
            if let Some(key) = key {
                let entry = Entry::new(verdict, ground, epoch, now.unix_ms.saturating_add(REFUSAL_MS));
                cache.keep_refusal(key, entry, now.unix_ms);
            }
        };
        let malformed = || {
            remember(Verdict::Malformed, Ground::Always, 0);
            Judgement::from(Reason::TokenMalformed)
        };
        let opaque = match jws::shape(token) {
            Shape::Opaque => true,
            // Where nobody can be asked, three parts are a JWT that is none.
            Shape::Jws => self.remote.is_some() && !jws::begins_with_header(token),
            Shape::Broken => false,
        };
        if opaque || jwts == JwtBy::Introspection {
            return self.inquire(cache, key, ask, None);
        }
        let jws = match Jws::parse(token) {
            Ok(jws) => jws,
            Err(Reason::TokenMalformed) => return malformed(),
            Err(reason) => return reason.into(),
        };
        if !self.settings.algorithms.contains(&jws.algorithm) {
            return Reason::AlgNotAllowed.into();
        }
        if !self.settings.types.contains(&jws.typ) {
            return Reason::TypNotAllowed.into();
        }
        let (Ok(payload), Ok(signature)) = (jws.payload(), jws.signature()) else { return malformed() };
        let facts = match Facts::parse(payload, &jws.typ) {
            Ok(facts) => facts,
            Err(Reason::TokenMalformed) => return malformed(),
            Err(reason) => return reason.into(),
        };
        if let Err(reason) = self.check_time(&facts, now) {
            if let (Reason::TokenExpired, Some(exp_ms)) = (reason, facts.exp_ms()) {
                remember(Verdict::Expired { exp_ms }, Ground::Always, 0);
            }
            return reason.into();
        }
        let set = self.keys.as_ref().map(|keys| keys.keys());
        let set = set.as_ref().map(|set| &***set);
        match self.check_issuer(facts.issuer(), set) {
            Some(true) => {}
            Some(false) => return Reason::IssuerNotAllowed.into(),
            None => return self.missing(None, now, attempt),
        }
        let (ground, epoch) = if self.settings.verify_signature {
            let candidates = match self.candidates(&jws, set) {
                Choice::Keys(keys) => {
                    keys.into_iter().filter_map(|key| Some((key.verifier(jws.algorithm)?, Some(key)))).collect()
                }
                Choice::AlgorithmDiffers => return Reason::AlgNotAllowed.into(),
                Choice::Unknown if jws.algorithm.family() == AlgorithmFamily::Hmac => self.secrets_for(jws.algorithm),
                Choice::Unknown => return self.missing(jws.kid.as_deref(), now, attempt),
            };
            let epoch = set.map_or(0, |set| set.epoch);
            let mut good = None;
            let verify = || {
                cache.count_signature();
                good = candidates.iter().find(|(verifier, _)| verifier.verify(jws.signed, &signature).is_ok());
                good.is_some()
            };
            if cache.budget().spend(source, now.unix_ms, verify).is_none() {
                return Refused { reason: Reason::VerificationBusy, retry_after_secs: Some(1) }.into();
            }
            let ground = |key: Option<&jwks::Key>| key.map_or(Ground::Always, |key| Ground::Key(*key.identity()));
            match (good, &candidates[..]) {
                (Some((_, key)), _) => (ground(*key), epoch),
                (None, _) if jws.kid.is_none() && jws.algorithm.family() != AlgorithmFamily::Hmac => {
                    // Without a `kid` a new key cannot be told from a bad signature, so the set is asked for once more.
                    if let wait @ Judgement::Wait(_) = self.missing(None, now, attempt) {
                        return wait;
                    }
                    remember(Verdict::BadSignature, Ground::Set, epoch);
                    return Reason::SignatureInvalid.into();
                }
                (None, [(_, key)]) => {
                    remember(Verdict::BadSignature, ground(*key), epoch);
                    return Reason::SignatureInvalid.into();
                }
                (None, _) => {
                    remember(Verdict::BadSignature, Ground::Set, epoch);
                    return Reason::SignatureInvalid.into();
                }
            }
        } else {
            (Ground::Always, 0)
        };
        if jwts == JwtBy::KeysThenIntrospection {
            return self.inquire(cache, key, ask, Some(ByKeys { facts, ground, epoch }));
        }
        let after = |ttl: Duration| now.unix_ms.saturating_add(ttl.as_millis().min(1 << 50) as i64);
        let until_ms = facts.exp_ms().unwrap_or_else(|| after(self.settings.ttl_without_exp));
        let until_ms = self.settings.ttl_max.map_or(until_ms, |ttl| until_ms.min(after(ttl)));
        let entry = Entry::new(Verdict::Verified(facts), ground, epoch, until_ms);
        let held = match key {
            Some(key) if until_ms > now.unix_ms => cache.keep(key, entry, now.unix_ms),
            _ => Held::new(Arc::new(entry)),
        };
        Judgement::Verified(Verified(held))
    }

    /// Whether the issuer is allowed; nothing while the discovered one is not known.
    fn check_issuer(&self, iss: Option<Value<'_>>, set: Option<&KeySet>) -> Option<bool> {
        let named = |expected: &str| iss.is_some_and(|iss| iss.is(expected));
        match &self.settings.issuers {
            Issuers::Listed(issuers) => Some(issuers.iter().any(|issuer| named(issuer))),
            Issuers::Discovered if !self.settings.verify_claims => Some(true),
            Issuers::Discovered => set.and_then(|set| set.issuer.as_deref()).map(named),
        }
    }

    /// The keys that may verify this token; for HMAC only the answer whether its `kid` names a public key.
    fn candidates<'a>(&self, jws: &Jws<'_>, set: Option<&'a KeySet>) -> Choice<'a> {
        match set {
            None => Choice::Unknown,
            // Without `kid` an HMAC token names no key of the set.
            Some(_) if jws.algorithm.family() == AlgorithmFamily::Hmac && jws.kid.is_none() => Choice::Unknown,
            Some(set) => set.choose(jws.kid.as_deref(), jws.algorithm),
        }
    }

    fn secrets_for(&self, algorithm: Algorithm) -> Vec<(&VerifyingKey, Option<&jwks::Key>)> {
        self.secrets.iter().filter(|secret| secret.algorithm() == algorithm).map(|secret| (secret, None)).collect()
    }

    fn missing(&self, kid: Option<&str>, now: Now, attempt: Attempt) -> Judgement {
        match self.keys.as_ref().map(|keys| keys.missing(kid, now, attempt)) {
            Some(Missing::Wait(wait)) => Judgement::Wait(Wait::Keys(wait)),
            Some(Missing::Unavailable { retry_after_secs }) => {
                Refused { reason: Reason::KeysUnavailable, retry_after_secs: Some(retry_after_secs) }.into()
            }
            Some(Missing::Unknown) | None => Reason::KidUnknown.into(),
        }
    }
}

fn attempt(progress: &Progress) -> Attempt {
    match progress {
        Progress::First => Attempt::First,
        Progress::KeysWaited | Progress::Landed(_) => Attempt::Waited,
    }
}

impl From<Refused> for Judgement {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl Settings {
    fn id(&self, source: Option<[u8; 32]>, remote: Option<[u8; 32]>) -> [u8; 32] {
        let mut text = format!(
            "{source:?}{remote:?}{:?}{:?}{}{}{:?}{:?}{:?}",
            self.issuers,
            self.algorithms,
            self.verify_signature,
            self.verify_claims,
            self.types,
            self.ttl_without_exp,
            self.ttl_max
        );
        for secret in &self.hs_secrets {
            text.push_str(&format!("{:?}", crypto::sha256(secret)));
        }
        crypto::sha256(text.as_bytes())
    }
}

#[cfg(test)]
mod tests;
