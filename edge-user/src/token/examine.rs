//! The judgement on one token by its own parts and its issuer's keys.

use super::cache::{CacheKey, Entry, Ground, Held, LocalCache, Verdict};
use super::claims::Facts;
use super::introspection::{ByKeys, JwtBy};
use super::json::Value;
use super::jwks::{self, Choice, KeySet};
use super::jws::{self, Jws, Shape};
use super::keys::{Attempt, Missing};
use super::{Ask, Issuers, Judgement, Now, REFUSAL_MS, Refused, Validator, Verified, Wait, explain};
use crate::crypto::verify::VerifyingKey;
use crate::reason::Reason;
use crate::trace::{Check, KeyUse, Observer};
use jsonwebtoken::signature::Verifier;
use jsonwebtoken::{Algorithm, AlgorithmFamily};
use std::sync::Arc;
use std::time::Duration;

impl Validator {
    /// Verifies a token: cheap checks first, the signature last (D4).
    pub(super) fn examine(
        self: &Arc<Self>,
        cache: &LocalCache,
        key: Option<&CacheKey>,
        ask: Ask<'_>,
        attempt: Attempt,
    ) -> Judgement {
        let Ask { token, now, source, observer, .. } = ask;
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
        let shape = jws::shape(token);
        let opaque = match shape {
            Shape::Opaque => true,
            // Where nobody can be asked, three parts are a JWT that is none.
            Shape::Jws => self.remote.is_some() && !jws::begins_with_header(token),
            Shape::Broken => false,
        };
        let asked = opaque || jwts == JwtBy::Introspection;
        observer.note(Check::Shape, asked || shape == Shape::Jws, || explain::form(shape, token));
        if asked {
            return self.inquire(cache, key, ask, None);
        }
        let jws = match Jws::parse(token) {
            Ok(jws) => jws,
            Err(Reason::TokenMalformed) => {
                if shape == Shape::Jws {
                    observer.note(Check::Header, false, || {
                        "malformed, or with a member that changes how it is read".into()
                    });
                }
                return malformed();
            }
            Err(reason) => {
                observer.note(Check::Algorithm, false, || format!("alg {}", explain::header_member(token, "alg")));
                return reason.into();
            }
        };
        observer.note(Check::Header, true, || format!("kid {}", explain::header_member(token, "kid")));
        let allowed = self.settings.algorithms.contains(&jws.algorithm);
        let alg = || format!("alg {:?}", jws.algorithm);
        if let Err(reason) = observer.check(Check::Algorithm, allowed, Reason::AlgNotAllowed, alg) {
            return reason.into();
        }
        let allowed = self.settings.types.contains(&jws.typ);
        let typ = || format!("typ {}", explain::header_member(token, "typ"));
        if let Err(reason) = observer.check(Check::Type, allowed, Reason::TypNotAllowed, typ) {
            return reason.into();
        }
        let (Ok(payload), Ok(signature)) = (jws.payload(), jws.signature()) else {
            observer.note(Check::Payload, false, || "a part that is no base64url".to_owned());
            return malformed();
        };
        let facts = match Facts::parse(payload, &jws.typ) {
            Ok(facts) => facts,
            Err(Reason::TokenMalformed) => {
                observer.note(Check::Payload, false, || "no strict JSON object".to_owned());
                return malformed();
            }
            Err(reason) => {
                observer.note(Check::Payload, false, || "a registered claim of another type".to_owned());
                return reason.into();
            }
        };
        observer.note(Check::Payload, true, || format!("{} bytes of claims", facts.json().len()));
        let in_time = self.check_time(&facts, now);
        if let Err(reason) = observer.result(Check::Time, in_time, || explain::times(&facts, now)) {
            if let (Reason::TokenExpired, Some(exp_ms)) = (reason, facts.exp_ms()) {
                remember(Verdict::Expired { exp_ms }, Ground::Always, 0);
            }
            return reason.into();
        }
        let set = self.keys.as_ref().map(|keys| keys.keys());
        let set = set.as_ref().map(|set| &***set);
        let Some(allowed) = self.check_issuer(facts.issuer(), set) else {
            return self.missing(None, now, attempt, observer);
        };
        let iss = || format!("iss {}", explain::quote_value(facts.issuer()));
        if let Err(reason) = observer.check(Check::Issuer, allowed, Reason::IssuerNotAllowed, iss) {
            return reason.into();
        }
        let (ground, epoch) = if self.settings.verify_signature {
            let candidates = match self.candidates(&jws, set) {
                Choice::Keys(keys) => {
                    keys.into_iter().filter_map(|key| Some((key.verifier(jws.algorithm)?, Some(key)))).collect()
                }
                Choice::AlgorithmDiffers => {
                    observer
                        .note(Check::Algorithm, false, || format!("{}, which the key of its kid is not for", alg()));
                    return Reason::AlgNotAllowed.into();
                }
                Choice::Unknown if jws.algorithm.family() == AlgorithmFamily::Hmac && !self.secrets.is_empty() => {
                    self.secrets_for(jws.algorithm)
                }
                Choice::Unknown => return self.missing(jws.kid.as_deref(), now, attempt, observer),
            };
            observer.note(Check::Key, true, || format!("kid {}", explain::header_member(token, "kid")));
            let epoch = set.map_or(0, |set| set.epoch);
            let mut good = None;
            let verify = || {
                cache.count_signature();
                good = candidates.iter().find(|(verifier, _)| verifier.verify(jws.signed, &signature).is_ok());
                good.is_some()
            };
            if cache.budget().spend(source, now.unix_ms, verify).is_none() {
                return Refused { retry_after_secs: Some(1), ..Reason::VerificationBusy.into() }.into();
            }
            let used = good.or(candidates.first()).copied();
            observer.key(|| self.key_use(jws.algorithm, used.and_then(|(_, key)| key)));
            observer.note(Check::Signature, good.is_some(), || match good {
                Some(_) => format!("verified by {:?}", jws.algorithm),
                None => format!("no signature by {}", if candidates.len() == 1 { "the key" } else { "any key" }),
            });
            let ground = |key: Option<&jwks::Key>| key.map_or(Ground::Always, |key| Ground::Key(*key.identity()));
            match (good, &candidates[..]) {
                (Some((_, key)), _) => (ground(*key), epoch),
                (None, _) if jws.kid.is_none() && jws.algorithm.family() != AlgorithmFamily::Hmac => {
                    // Without a `kid` a new key cannot be told from a bad signature, so the set is asked for once more.
                    match self.missing(None, now, attempt, Observer::default()) {
                        wait @ Judgement::Wait(_) => return wait,
                        // Nor can it be told while the issuer does not answer.
                        Judgement::Refused(refused) if refused.reason == Reason::KeysUnavailable => {
                            return refused.into();
                        }
                        _ => {}
                    }
                    remember(Verdict::BadSignature, Ground::Set, epoch);
                    return Reason::SignatureInvalid.into();
                }
                // With a secret it stands for good; among an issuer's keys another of the same `kid` may come.
                (None, [(_, None)]) => {
                    remember(Verdict::BadSignature, Ground::Always, epoch);
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
        let room = self.settings.room_for(&facts);
        let entry = Entry::new(Verdict::Verified(facts), ground, epoch, until_ms).with_room(room);
        let held = match key {
            Some(key) if until_ms > now.unix_ms => cache.keep(key, entry, now.unix_ms),
            _ => Held::new(Arc::new(entry)),
        };
        Judgement::Verified(Verified(held))
    }

    /// Whether the issuer is allowed; nothing while the discovered one is not known.
    pub(super) fn check_issuer(&self, iss: Option<Value<'_>>, set: Option<&KeySet>) -> Option<bool> {
        let named = |expected: &str| iss.is_some_and(|iss| iss.is(expected));
        match &self.settings.issuers {
            Issuers::Any => Some(true),
            Issuers::Listed(issuers) => Some(issuers.iter().any(|issuer| named(issuer))),
            Issuers::Discovered if !self.settings.verify_claims => Some(true),
            Issuers::Discovered => set.and_then(|set| set.issuer.as_deref()).map(named),
        }
    }

    /// The keys that may verify this token; for HMAC only the answer whether its `kid` names a public key.
    fn candidates<'a>(&self, jws: &Jws<'_>, set: Option<&'a KeySet>) -> Choice<'a> {
        match set {
            None => Choice::Unknown,
            Some(set) => set.choose(jws.kid.as_deref(), jws.algorithm),
        }
    }

    fn secrets_for(&self, algorithm: Algorithm) -> Vec<(&VerifyingKey, Option<&jwks::Key>)> {
        self.secrets.iter().filter(|secret| secret.algorithm() == algorithm).map(|secret| (secret, None)).collect()
    }

    fn missing(&self, kid: Option<&str>, now: Now, attempt: Attempt, observer: Observer<'_>) -> Judgement {
        match self.keys.as_ref().map(|keys| keys.missing(kid, now, attempt)) {
            Some(Missing::Wait(wait)) => Judgement::Wait(Wait::Keys(wait)),
            Some(Missing::Unavailable { retry_after_secs }) => {
                observer.note(Check::Key, false, || "the issuer's keys cannot be had".to_owned());
                Refused { retry_after_secs: Some(retry_after_secs), ..Reason::KeysUnavailable.into() }.into()
            }
            Some(Missing::Unknown) | None => {
                observer.note(Check::Key, false, || {
                    let known: Vec<_> = self.keys.iter().flat_map(|keys| keys.keys().keys.clone()).collect();
                    let known = known.iter().take(16).map(|key| key.kid().map_or("without kid".into(), explain::quote));
                    let kid = kid.map_or("absent".to_owned(), explain::quote);
                    format!("kid {kid}, and keys {}", known.collect::<Vec<_>>().join(", "))
                });
                Reason::KidUnknown.into()
            }
        }
    }

    fn key_use(&self, algorithm: Algorithm, key: Option<&jwks::Key>) -> KeyUse {
        let origin = self.keys.as_ref().zip(key).and_then(|(source, key)| source.origin(key.identity()));
        let (url, fetched_unix_ms) = origin.unzip();
        let kid = key.and_then(|key| key.kid()).map(str::to_owned);
        KeyUse { kid, algorithm: format!("{algorithm:?}"), url, fetched_unix_ms }
    }
}
