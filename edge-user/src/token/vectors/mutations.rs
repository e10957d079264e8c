//! No mutation of a good token is accepted, whatever its algorithm and whatever the cache remembers of the good one.

use super::*;
use crate::token::cache::LocalCache;
use crate::token::introspection::Extras;
use crate::token::testing::CLIENT;
use crate::token::{Ask, Judgement, Progress, Validator};
use jsonwebtoken::AlgorithmFamily;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// A validator with keys of every kind in force, and a good token of every algorithm.
struct Issued {
    validator: std::sync::Arc<Validator>,
    /// Two for each algorithm, of different claims.
    tokens: Vec<[String; 2]>,
    /// Never driven again: what a mutated `kid` asks of it stays undone, so no traffic disturbs the test.
    _runtime: tokio::runtime::Runtime,
}

fn issue() -> Issued {
    const SECRET: &[u8] = b"a secret that only the issuer and the edge know";
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let rsa = TestKey::new(Algorithm::RS256, "rsa");
    let keys = [
        TestKey::new(Algorithm::ES256, "es256"),
        TestKey::new(Algorithm::ES384, "es384"),
        TestKey::new(Algorithm::EdDSA, "ed"),
    ];
    let mut set: Vec<Value> = keys.iter().chain([&rsa]).map(TestKey::jwk).collect();
    set.iter_mut().for_each(|jwk| drop(jwk.as_object_mut().expect("an object").remove("alg")));
    let mint = |algorithm: Algorithm, subject: &str| {
        let claims = json!({"iss": "joe", "sub": subject, "aud": ["api", "é"], "exp": 1_300_819_380, "nbf": 1,
            "scope": "read write", "realm": {"roles": ["a\"b", null, -1.5e3, true]}});
        let key = match keys.iter().find(|key| key.algorithm == algorithm) {
            Some(key) => TestKey { kid: key.kid.clone(), algorithm, pkcs8: key.pkcs8.clone() },
            None if algorithm.family() == AlgorithmFamily::Hmac => secret(algorithm, "shared", SECRET),
            None => TestKey { kid: "rsa".to_owned(), algorithm, pkcs8: rsa.pkcs8.clone() },
        };
        key.mint(&claims)
    };
    let tokens: Vec<_> =
        ALGORITHMS.into_iter().map(|algorithm| ["user", "root"].map(|who| mint(algorithm, who))).collect();
    let bench = runtime.block_on(async {
        let bench = bench(&set, &[SECRET]).await;
        for token in tokens.iter().flatten() {
            assert_eq!(verdict(&bench, token).await, Ok(()), "{token}");
        }
        bench
    });
    Issued { validator: bench.validator, tokens, _runtime: runtime }
}

impl Issued {
    fn accepts(&self, cache: &LocalCache, token: &[u8]) -> bool {
        let ask = Ask { token, now: BEFORE, source: CLIENT, extras: &Extras::default(), observer: Default::default() };
        let last = match self.validator.judge(cache, ask, Progress::First) {
            Judgement::Wait(_) => {
                self.validator.judge(cache, ask, Progress::KeysWaited(crate::token::keys::Attempt::Waited))
            }
            judged => judged,
        };
        match last {
            Judgement::Verified(_) => true,
            Judgement::Refused(refused) => {
                assert_ne!(refused.reason, Reason::VerificationBusy, "the signature was not looked at");
                false
            }
            Judgement::Wait(_) => panic!("a second wait"),
        }
    }

    /// Asserts that the mutated token is refused: unknown, beside the good one's verdict, and when it is remembered
    /// itself; and that the good one is none the worse for it.
    fn assert_refused(&self, good: &str, mutated: &[u8]) {
        let off = VerdictCache::new(0).local();
        assert!(!self.accepts(&off, mutated), "{}", mutated.escape_ascii());
        let cache = VerdictCache::new(1 << 16).local();
        assert!(self.accepts(&cache, good.as_bytes()));
        for _ in 0..3 {
            assert!(!self.accepts(&cache, mutated), "from the cache: {}", mutated.escape_ascii());
        }
        assert!(self.accepts(&cache, good.as_bytes()), "a neighbour took its verdict: {}", mutated.escape_ascii());
    }
}

/// One change of some bytes; places count from the start and wrap around.
#[derive(Clone, Debug)]
enum Change {
    Flip { at: usize, bit: u8 },
    Set { at: usize, byte: u8 },
    Insert { at: usize, bytes: Vec<u8> },
    Delete { at: usize, count: usize },
    Repeat { at: usize, count: usize },
    Swap { one: usize, other: usize },
    Truncate { at: usize },
    Case { at: usize },
    Percent { at: usize },
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let length = bytes.len().max(1);
        let piece = |bytes: &[u8], at: usize, count: usize| {
            let start = at % length;
            start.min(bytes.len())..(start + count).min(bytes.len())
        };
        match self {
            Self::Insert { at, bytes: new } => {
                let at = at % (bytes.len() + 1);
                drop(bytes.splice(at..at, new.iter().copied()));
            }
            _ if bytes.is_empty() => {}
            Self::Flip { at, bit } => bytes[at % length] ^= 1 << (bit % 8),
            Self::Set { at, byte } => bytes[at % length] = *byte,
            Self::Delete { at, count } => drop(bytes.drain(piece(bytes, *at, *count))),
            Self::Repeat { at, count } => {
                let copied = bytes[piece(bytes, *at, *count)].to_vec();
                drop(bytes.splice(at % length..at % length, copied));
            }
            Self::Swap { one, other } => bytes.swap(one % length, other % length),
            Self::Truncate { at } => bytes.truncate(at % length),
            Self::Case { at } => {
                let byte = &mut bytes[at % length];
                *byte = if byte.is_ascii_lowercase() { byte.to_ascii_uppercase() } else { byte.to_ascii_lowercase() };
            }
            Self::Percent { at } => {
                let coded = format!("%{:02X}", bytes[at % length]);
                drop(bytes.splice(at % length..at % length + 1, coded.into_bytes()));
            }
        }
    }
}

fn change() -> impl Strategy<Value = Change> {
    const TELLING: &[&[u8]] = &[
        b"=",
        b"==",
        b" ",
        b"\t",
        b"\n",
        b"\r\n",
        b"\0",
        b".",
        b"..",
        b"+",
        b"/",
        b"%3D",
        b"%2E",
        b"A",
        b"-",
        b"\"",
        b"{}",
        b"\xc3\xa9",
        b"\xff",
        b",\"exp\":9999999999",
    ];
    let at = || any::<usize>().prop_map(|at| at % 4096);
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, bit)| Change::Flip { at, bit }),
        (at(), any::<u8>()).prop_map(|(at, byte)| Change::Set { at, byte }),
        (at(), prop::sample::select(TELLING)).prop_map(|(at, bytes)| Change::Insert { at, bytes: bytes.to_vec() }),
        (at(), prop::collection::vec(any::<u8>(), 1..4)).prop_map(|(at, bytes)| Change::Insert { at, bytes }),
        (at(), 1..9usize).prop_map(|(at, count)| Change::Delete { at, count }),
        (at(), 1..9usize).prop_map(|(at, count)| Change::Repeat { at, count }),
        (at(), at()).prop_map(|(one, other)| Change::Swap { one, other }),
        at().prop_map(|at| Change::Truncate { at }),
        at().prop_map(|at| Change::Case { at }),
        at().prop_map(|at| Change::Percent { at }),
    ]
}

/// Where changes are made.
#[derive(Clone, Copy, Debug)]
enum Layer {
    /// The text as sent.
    Text,
    /// The text of one of its parts.
    Part(usize),
    /// The bytes that one of its parts encodes.
    Decoded(usize),
}

fn mutate(token: &str, layer: Layer, changes: &[Change]) -> Vec<u8> {
    let mut parts: Vec<Vec<u8>> = token.split('.').map(|part| part.as_bytes().to_vec()).collect();
    let apply = |bytes: &mut Vec<u8>| changes.iter().for_each(|change| change.apply(bytes));
    match layer {
        Layer::Text => {
            let mut text = token.as_bytes().to_vec();
            apply(&mut text);
            return text;
        }
        Layer::Part(index) => apply(&mut parts[index]),
        Layer::Decoded(index) => {
            let mut bytes = decode(std::str::from_utf8(&parts[index]).expect("ASCII"));
            apply(&mut bytes);
            parts[index] = encode(bytes).into_bytes();
        }
    }
    parts.join(&b'.')
}

#[test]
fn no_mutation_of_a_good_token_is_accepted() {
    // T13, T14, T15, T16, I5
    let issued = issue();
    let layer = prop_oneof![Just(Layer::Text), (0..3usize).prop_map(Layer::Part), (0..3usize).prop_map(Layer::Decoded)];
    let cases = (0..issued.tokens.len(), layer, prop::collection::vec(change(), 1..4));
    let config = Config { cases: 6000, failure_persistence: None, ..Config::default() };
    let outcome = TestRunner::new(config).run(&cases, |(which, layer, changes)| {
        let good = &issued.tokens[which][0];
        let mutated = mutate(good, layer, &changes);
        if mutated != good.as_bytes() {
            issued.assert_refused(good, &mutated);
        }
        Ok(())
    });
    outcome.expect("every mutation is refused");
}

#[test]
fn no_place_of_a_token_is_without_meaning() {
    // T13, T15: at each byte of each algorithm's token, one bit turned, the byte left out, and the byte twice.
    let issued = issue();
    let off = VerdictCache::new(0).local();
    for [good, _] in &issued.tokens {
        assert!(issued.accepts(&off, good.as_bytes()), "{good}");
        for at in 0..good.len() {
            for change in [
                Change::Flip { at, bit: (at % 7) as u8 },
                Change::Case { at },
                Change::Delete { at, count: 1 },
                Change::Repeat { at, count: 1 },
            ] {
                let mutated = mutate(good, Layer::Text, &[change]);
                // A fresh cache has a fresh budget for signatures.
                let accepted = mutated != good.as_bytes() && issued.accepts(&VerdictCache::new(0).local(), &mutated);
                assert!(!accepted, "{}", mutated.escape_ascii());
            }
        }
    }
}

#[test]
fn parts_of_good_tokens_do_not_mix() {
    // T16: of header, payload and signature, all three come from one token or it is none.
    let issued = issue();
    let split = |token: &String| token.split('.').map(str::to_owned).collect::<Vec<_>>();
    let all: Vec<_> = issued.tokens.iter().flatten().map(split).collect();
    let off = || VerdictCache::new(0).local();
    for header in &all {
        for payload in &all {
            for signature in &all {
                let token = [&header[0][..], &payload[1], &signature[2]].join(".");
                // Two tokens of one algorithm share their header, and two of one subject their payload.
                let whole = issued.tokens.iter().flatten().any(|good| *good == token);
                assert_eq!(issued.accepts(&off(), token.as_bytes()), whole, "{token}");
            }
        }
    }
}
