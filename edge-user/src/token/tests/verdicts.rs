//! What is remembered of tokens, for how long, and what judging costs.

use super::*;

#[tokio::test]
async fn verdicts_die_with_their_key_and_survive_an_unchanged_set() {
    // K4
    let (old, new) = (TestKey::new(Algorithm::ES256, "old"), TestKey::new(Algorithm::ES256, "new"));
    let bench = Bench::new(&[&old]).await;
    let of_old = key_token(&bench, &old);
    assert_eq!(bench.judge(&of_old).await, Ok(()));
    // Overlap: the new key's first token finds it by a refetch; the old one's verdict stands without a new signature.
    bench.issuer.publish(&[&old, &new]);
    assert_eq!(bench.judge(&key_token(&bench, &new)).await, Ok(()));
    let signatures = bench.shared.stats().signatures;
    assert_eq!(bench.judge(&of_old).await, Ok(()));
    assert_eq!(bench.shared.stats().signatures, signatures);
    // Removal: one refetch later the cached verdict is gone too.
    bench.issuer.publish(&[&new]);
    assert_eq!(
        bench.judge(&key_token(&bench, &TestKey::new(Algorithm::ES256, "third"))).await,
        Err(Reason::KidUnknown)
    );
    assert_eq!(bench.judge(&of_old).await, Err(Reason::KidUnknown));
    assert_eq!(bench.judge(&key_token(&bench, &new)).await, Ok(()));
}

#[tokio::test]
async fn a_bad_signature_is_remembered_on_second_sight_and_while_its_key_stays() {
    let key = TestKey::new(Algorithm::ES256, "k1");
    let next = TestKey::new(Algorithm::ES256, "k1");
    let bench = Bench::new(&[&key]).await;
    let bad = next.mint(&bench.claims(json!({})));
    let signatures = |expected: u64| assert_eq!(bench.shared.stats().signatures, expected);
    for (round, expected) in [(1, 1), (2, 2), (3, 2), (4, 2)] {
        assert_eq!(bench.judge(&bad).await, Err(Reason::SignatureInvalid), "round {round}");
        signatures(expected);
    }
    assert_eq!(bench.shared.stats().negative_entries, 1);
    // The key under this `kid` changes: the same token is looked at anew, and is good.
    bench.issuer.publish(&[&next]);
    assert_eq!(bench.judge(&key_token(&bench, &TestKey::new(Algorithm::ES256, "k2"))).await, Err(Reason::KidUnknown));
    assert_eq!(bench.judge(&bad).await, Ok(()));
}

#[tokio::test]
async fn another_key_of_the_same_kid_ends_what_was_remembered() {
    // K6
    let (key, next) = (TestKey::new(Algorithm::ES256, "k1"), TestKey::new(Algorithm::ES256, "k1"));
    let bench = Bench::new(&[&key]).await;
    let early = next.mint(&bench.claims(json!({})));
    for _ in 0..3 {
        assert_eq!(bench.judge(&early).await, Err(Reason::SignatureInvalid));
    }
    bench.issuer.publish(&[&key, &next]);
    assert_eq!(bench.judge(&key_token(&bench, &TestKey::new(Algorithm::ES256, "k2"))).await, Err(Reason::KidUnknown));
    assert_eq!(bench.judge(&early).await, Ok(()));
    assert_eq!(bench.judge(&key_token(&bench, &key)).await, Ok(()));
}

#[tokio::test]
async fn what_may_become_true_is_never_remembered() {
    let key = TestKey::new(Algorithm::ES256, "k1");
    let bench = Bench::new(&[&key]).await;
    let now = Now::read().unix_ms / 1000;
    let early = key.mint(&bench.claims(json!({"nbf": now + 100})));
    let foreign = key.mint(&bench.claims(json!({"iss": "https://other"})));
    let unknown = TestKey::new(Algorithm::ES256, "k9").mint(&bench.claims(json!({})));
    for _ in 0..3 {
        assert_eq!(bench.judge(&early).await, Err(Reason::TokenNotYetValid));
        assert_eq!(bench.judge(&foreign).await, Err(Reason::IssuerNotAllowed));
        assert_eq!(bench.judge(&unknown).await, Err(Reason::KidUnknown));
    }
    assert_eq!(bench.shared.stats().negative_entries, 0);
    assert_eq!(bench.judge_at(&early, Now { unix_ms: (now + 101) * 1000 }).await, Ok(()));
}

#[tokio::test]
async fn without_a_cache_every_token_is_verified() {
    let key = TestKey::new(Algorithm::ES256, "k1");
    let bench = Bench::new(&[&key]).await;
    let off = cache::VerdictCache::new(0);
    let local = off.local();
    let token = key.mint(&bench.claims(json!({})));
    for _ in 0..3 {
        assert_eq!(judge(&bench.validator, &local, &token, Now::read()).await, Ok(()));
    }
    let stats = off.stats();
    assert_eq!((stats.signatures, stats.positive_entries, stats.misses), (3, 0, 4));
}

#[tokio::test]
async fn bad_signatures_of_an_unproven_source_are_bounded_in_time() {
    // D4
    let key = TestKey::new(Algorithm::ES256, "k1");
    let stranger = TestKey::new(Algorithm::ES256, "k1");
    let bench = Bench::new(&[&key]).await;
    assert!(bench.judge(&key_token(&bench, &key)).await.is_ok());
    let source = IpAddr::from([198, 51, 100, 7]);
    // Made before: the time that takes would be credit.
    let mint = |n: i32| stranger.mint(&bench.claims(json!({"jti": n.to_string()})));
    let tokens: Vec<String> = (0..5000).map(mint).collect();
    let mut busy = false;
    for token in tokens {
        match bench.validator.judge(
            &bench.cache,
            Ask {
                token: token.as_bytes(),
                now: Now::read(),
                source,
                extras: &Extras::default(),
                observer: Default::default(),
            },
            Progress::First,
        ) {
            Judgement::Refused(refused) if refused.reason == Reason::VerificationBusy => {
                assert!(refused.retry_after_secs.is_some());
                busy = true;
                break;
            }
            Judgement::Refused(refused) => assert_eq!(refused.reason, Reason::SignatureInvalid),
            _ => panic!("a verdict"),
        }
    }
    assert!(busy);
    // A source with a good verdict goes on.
    assert_eq!(bench.judge(&key.mint(&bench.claims(json!({"jti": "x"})))).await, Ok(()));
}

/// Prints what one judgement costs: `cargo nextest run --release --run-ignored only --no-capture cost_of_a_judgement`.
#[tokio::test]
#[ignore = "a measurement"]
async fn cost_of_a_judgement() {
    let pad = "p".repeat(220);
    for algorithm in ALL {
        let key = TestKey::new(algorithm, "k1");
        let bench = Bench::new(&[&key]).await;
        let mint = |n: usize| key.mint(&bench.claims(json!({"jti": n.to_string(), "pad": pad, "aud": ["a", "api"]})));
        let tokens: Vec<_> = (0..5000).map(mint).collect();
        assert!(bench.judge(&tokens[0]).await.is_ok());
        let now = Now::read();
        let run = |name: &str, cache: &LocalCache, tokens: &[String], rounds: usize| {
            let start = std::time::Instant::now();
            for _ in 0..rounds {
                for token in tokens {
                    let judged = first(&bench.validator, cache, token, now);
                    std::hint::black_box(&judged);
                }
            }
            let each = start.elapsed().as_nanos() as f64 / (rounds * tokens.len()) as f64;
            println!("{algorithm:?} {} bytes, {name}: {each:.0} ns", tokens[0].len());
        };
        let cache = cache::VerdictCache::new(64 << 20).local();
        run("first time", &cache, &tokens, 1);
        run("one hot token", &cache, &tokens[..1], 200_000);
        run("5000 in rotation", &cache, &tokens, 20);
        run("cache off", &cache::VerdictCache::new(0).local(), &tokens, 1);
        let expired: Vec<_> =
            (0..10).map(|n| key.mint(&bench.claims(json!({"jti": n.to_string(), "pad": pad, "exp": 9})))).collect();
        run("expired, first times", &cache, &expired, 2);
        run("expired, remembered", &cache, &expired, 20_000);
        let bad: Vec<_> = tokens[..10].iter().map(|token| format!("{}AAAA", &token[..token.len() - 4])).collect();
        run("bad signature, first times", &cache, &bad, 2);
        run("bad signature, remembered", &cache, &bad, 20_000);
        println!("{:?}", bench.shared.stats());
    }
}

#[tokio::test]
async fn a_reload_keeps_keys_and_verdicts() {
    let key = TestKey::new(Algorithm::ES256, "k1");
    let issuer = TestIssuer::start(&[&key]).await;
    let sources = sources(policy(), State::in_memory());
    let cache = cache::VerdictCache::new(1 << 20).local();
    let token = key.mint(&claims(&issuer.url, json!({})));
    let before = Validator::new(settings(), Some(sources.source(issuer.source())), None).expect("a validator");
    assert_eq!(judge(&before, &cache, &token, Now::read()).await, Ok(()));
    let after = Validator::new(settings(), Some(sources.source(issuer.source())), None).expect("a validator");
    drop(before);
    sources.warm();
    assert_eq!(judge(&after, &cache, &token, Now::read()).await, Ok(()));
    assert_eq!(issuer.count("/jwks"), 1);
    drop(after);
    sources.warm();
    assert!(sources.report().is_empty());
}
