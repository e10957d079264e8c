//! Token verdicts: `Validator::judge` answers for one token, at once, from the caches or by verifying it here.
//!
//! Knows no HTTP and no plugins. A validator judges what does not depend on the route: form, algorithm, issuer, times,
//! signature. What a route requires of the facts is asked by `plugin::openid_connect`. No function here waits; the one
//! thing worth waiting for, a fetch of keys, is handed to the caller as a `KeyWait`.

pub mod budget;
pub mod cache;
pub mod claims;
pub mod dpop;
mod examine;
pub mod explain;
pub mod introspection;
pub mod issuer;
pub mod json;
pub mod jwks;
pub mod jws;
pub mod keys;
pub mod resigned;
pub mod source;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod vectors;

use crate::crypto::verify::VerifyingKey;
use crate::crypto::{self, MacKey};
use crate::reason::Reason;
use crate::trace::{Check, Observer};
use arc_swap::ArcSwapOption;
use cache::{CacheKey, Entry, Ground, Held, LocalCache, Verdict};
use claims::Facts;
use introspection::{Boarding, ByKeys, Extras, FlightWait, JwtBy, Landed, Plan, Remote, key_with};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use keys::{Attempt, KeySource, KeyWait};
use resigned::Resigned;
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
    /// Any, or none: whoever the keys belong to.
    Any,
}

/// That a token of another validator's making goes on in a verified one's place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Resigning {
    /// A hash over everything that the other token depends on: verdicts are not shared across it.
    pub id: [u8; 32],
    /// Bytes that the other token may be longer by, before its encoding.
    pub added_bytes: usize,
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
    /// Whether another token is made of each verified one, and kept with its facts.
    pub resigning: Option<Resigning>,
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

impl Verified {
    /// The place of the token that is made of this one: it dies with these facts (R6).
    pub fn resigned(&self) -> &ArcSwapOption<Resigned> {
        &self.0.resigned
    }
}

/// A refusal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refused {
    /// Why.
    pub reason: Reason,
    /// For `Retry-After`, where the fault is not the token's.
    pub retry_after_secs: Option<u32>,
    /// The same for the operator: what is at fault.
    pub fault: Option<&'static str>,
}

impl From<Reason> for Refused {
    fn from(reason: Reason) -> Self {
        Self { reason, retry_after_secs: None, fault: None }
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
            Self::Keys(wait) => Progress::KeysWaited(wait.done().await),
            Self::Flight(wait) => Progress::Landed(wait.done().await),
        }
    }

    /// How to go on where the wait took too long.
    pub fn given_up(&self) -> Progress {
        match self {
            Self::Keys(_) => Progress::KeysWaited(Attempt::GivenUp),
            Self::Flight(_) => Progress::Landed(introspection::given_up()),
        }
    }
}

/// How far the judgement of one request's token has come.
pub enum Progress {
    /// It begins.
    First,
    /// Keys were waited for: they are waited for again at most once.
    KeysWaited(Attempt),
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
    /// Who hears what each check finds.
    pub observer: Observer<'a>,
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

    /// The facts of an opaque token that its issuer gave the edge itself: when it ends, and its scope.
    pub fn vouch(ends_ms: Option<i64>, scope: Option<&str>) -> Verified {
        let exp = ends_ms.map(|ms| ("exp", serde_json::Value::from(ms / 1000)));
        let scope = scope.map(|scope| ("scope", scope.into()));
        let claims: serde_json::Value = exp.into_iter().chain(scope).collect();
        let facts = Facts::introspected(claims.to_string().into_bytes(), None);
        let facts = facts.expect("a number and a text make claims");
        let until_ms = ends_ms.unwrap_or(i64::MAX);
        Verified(Held::new(Arc::new(Entry::new(Verdict::Verified(facts), Ground::Always, 0, until_ms))))
    }

    /// The public key that verified a token, as a JWK; nothing where no fetched key did, or it is gone meanwhile.
    pub fn key_of(&self, verified: &Verified) -> Option<Box<str>> {
        let Ground::Key(identity) = verified.0.ground else { return None };
        let set = self.keys.as_ref()?.keys();
        set.keys.iter().find(|key| *key.identity() == identity).map(|key| key.jwk().into())
    }

    /// The source of its keys, where signatures are verified with them.
    pub fn awaited_keys(&self) -> Option<&Arc<KeySource>> {
        let by_asking = self.remote.as_ref().is_some_and(|remote| remote.jwts == JwtBy::Introspection);
        self.keys.as_ref().filter(|_| self.settings.verify_signature && !by_asking)
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
            ask.observer.note(Check::Shape, false, || format!("{} bytes", ask.token.len()));
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
                let stale = stale.filter(serves);
                if stale.is_none() {
                    explain::unanswered(ask.observer, refused);
                }
                return match stale {
                    Some(held) if refused.reason == Reason::IntrospectionFailed => Judgement::Verified(Verified(held)),
                    _ => refused.into(),
                };
            }
        };
        match &entry.verdict {
            Verdict::Verified(facts) => {
                cache.budget().book(ask.source, now_ms, true);
                ask.observer.note(Check::Introspection, true, || explain::said(facts));
                let in_time = self.check_time(facts, ask.now);
                match ask.observer.result(Check::Time, in_time, || explain::times(facts, ask.now)) {
                    Ok(()) if self.remote.as_ref().is_some_and(|remote| remote.keep) => {
                        Judgement::Verified(Verified(cache.take(key, entry)))
                    }
                    Ok(()) => Judgement::Verified(Verified(Held::new(entry))),
                    Err(reason) => reason.into(),
                }
            }
            _ => {
                cache.budget().book(ask.source, now_ms, false);
                ask.observer.note(Check::Introspection, false, || "`active` is false".to_owned());
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
        let (Some(remote), Some(key)) = (&self.remote, key) else {
            ask.observer.note(Check::Introspection, false, || "nobody to ask about it".to_owned());
            return Reason::IntrospectionUnavailable.into();
        };
        let Some(control) = &remote.control else { return Reason::IntrospectionFailed.into() };
        let now_ms = ask.now.unix_ms;
        let proven = cache.budget().is_good(ask.source, now_ms);
        let wait = match cache.shared().flights().board(*key, proven) {
            Boarding::Joined(wait) => wait,
            Boarding::Full => return Refused { retry_after_secs: Some(1), ..Reason::VerificationBusy.into() }.into(),
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
                    renews: cache.shared().holds(key, now_ms),
                    source: self.keys.clone().filter(|_| self.settings.issuers == Issuers::Discovered),
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
}

fn attempt(progress: &Progress) -> Attempt {
    match progress {
        Progress::First => Attempt::First,
        Progress::KeysWaited(attempt) => *attempt,
        Progress::Landed(_) => Attempt::Waited,
    }
}

impl From<Refused> for Judgement {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl Settings {
    /// Bytes to keep free beside facts for the token that is made of theirs: base64 of its claims, header and signature.
    fn room_for(&self, facts: &Facts) -> usize {
        const HEADER_AND_SIGNATURE: usize = 1024;
        let claims = |resigning: &Resigning| facts.json().len() + resigning.added_bytes;
        self.resigning.as_ref().map_or(0, |resigning| claims(resigning) / 3 * 4 + HEADER_AND_SIGNATURE)
    }

    fn id(&self, source: Option<[u8; 32]>, remote: Option<[u8; 32]>) -> [u8; 32] {
        let mut text = format!(
            "{source:?}{remote:?}{:?}{:?}{}{}{:?}{:?}{:?}{:?}",
            self.issuers,
            self.algorithms,
            self.verify_signature,
            self.verify_claims,
            self.types,
            self.ttl_without_exp,
            self.ttl_max,
            self.resigning
        );
        for secret in &self.hs_secrets {
            text.push_str(&format!("{:?}", crypto::sha256(secret)));
        }
        crypto::sha256(text.as_bytes())
    }
}

#[cfg(test)]
mod tests;
