use super::super::testing::{Bench, TestIssuer, TestKey, claims, judge, policy, settings, sources};
use super::super::{Issuers, Judgement, Settings, Validator, cache::VerdictCache};
use super::*;
use crate::reason::Reason;
use jsonwebtoken::Algorithm;
use serde_json::json;

fn quick() -> FetchPolicy {
    FetchPolicy { retry_first: Duration::from_millis(100), retry_max: Duration::from_millis(400), ..policy() }
}

#[tokio::test]
async fn a_document_of_another_issuer_is_refused() {
    // K2
    let key = TestKey::new(Algorithm::ES256, "k1");
    let bench = Bench::with(&[&key], settings(), quick()).await;
    let path = "/.well-known/openid-configuration";
    for issuer in
        ["https://evil.example".to_owned(), bench.issuer.url.to_uppercase(), format!("{}/x", bench.issuer.url)]
    {
        let body = json!({"issuer": issuer, "jwks_uri": bench.issuer.page("/jwks")}).to_string();
        bench.issuer.answer(path, 200, &body);
        assert_eq!(bench.judge(&key.mint(&claims(&issuer, json!({})))).await, Err(Reason::KeysUnavailable), "{issuer}");
        assert_eq!(bench.issuer.count("/jwks"), 0);
    }
    // A trailing slash in the document is the issuer's own spelling, and then the one that tokens must carry.
    let slash = format!("{}/", bench.issuer.url);
    bench.issuer.answer(path, 200, &json!({"issuer": slash, "jwks_uri": bench.issuer.page("/jwks")}).to_string());
    until(|| bench.issuer.count("/jwks") > 0).await;
    assert_eq!(bench.judge(&key.mint(&claims(&slash, json!({})))).await, Ok(()));
    assert_eq!(bench.judge(&key.mint(&bench.claims(json!({})))).await, Err(Reason::IssuerNotAllowed));
}

async fn until(mut condition: impl FnMut() -> bool) {
    for _ in 0..500 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the condition never held");
}

#[tokio::test]
async fn redirects_and_clear_text_are_not_followed() {
    // K1
    let key = TestKey::new(Algorithm::ES256, "k1");
    let bench = Bench::with(&[&key], settings(), quick()).await;
    bench.issuer.answer("/jwks", 302, "");
    assert_eq!(bench.judge(&key.mint(&bench.claims(json!({})))).await, Err(Reason::KeysUnavailable));
    let body = json!({"issuer": bench.issuer.url, "jwks_uri": "http://idp.example/jwks"}).to_string();
    bench.issuer.answer("/.well-known/openid-configuration", 200, &body);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(bench.judge(&key.mint(&bench.claims(json!({})))).await, Err(Reason::KeysUnavailable));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_kids_fetch_thrice_and_share_one_flight() {
    // K3
    let key = TestKey::new(Algorithm::ES256, "k1");
    let bench = Bench::new(&[&key]).await;
    assert_eq!(bench.judge(&key.mint(&bench.claims(json!({})))).await, Ok(()));
    let at_start = bench.issuer.count("/jwks");
    for n in 0..50 {
        let stray = TestKey { kid: format!("stray-{n}"), algorithm: key.algorithm, pkcs8: key.pkcs8.clone() };
        assert_eq!(bench.judge(&stray.mint(&bench.claims(json!({})))).await, Err(Reason::KidUnknown));
    }
    assert_eq!(bench.issuer.count("/jwks") - at_start, 3);
    // One more for each interval, and a key that appears later is found by it.
    let late = TestKey::new(Algorithm::ES256, "stray-7");
    bench.issuer.publish(&[&key, &late]);
    assert_eq!(bench.judge(&late.mint(&bench.claims(json!({})))).await, Err(Reason::KidUnknown));
    let later = Now { unix_ms: Now::read().unix_ms + 31_000 };
    assert_eq!(bench.judge_at(&late.mint(&bench.claims(json!({}))), later).await, Ok(()));
    assert_eq!(bench.issuer.count("/jwks") - at_start, 4);
}

#[tokio::test]
async fn waiters_share_one_fetch() {
    // K3
    let key = TestKey::new(Algorithm::ES256, "k1");
    let bench = Bench::new(&[&key]).await;
    let keys = json!({"keys": [key.jwk()]}).to_string();
    bench.issuer.answer_late("/jwks", 200, &keys, Duration::from_millis(200));
    let token = key.mint(&bench.claims(json!({})));
    let waits: Vec<_> = (0..100)
        .map(|_| match bench.judge_now(&token) {
            Judgement::Wait(wait) => wait,
            _ => panic!("no keys yet"),
        })
        .collect();
    for wait in waits {
        wait.done().await;
    }
    assert!(matches!(bench.judge_now(&token), Judgement::Verified(_)));
    assert_eq!(bench.issuer.count("/jwks"), 1);
}

#[tokio::test]
async fn a_known_unknown_kid_does_not_wait_and_dies_with_the_set() {
    // K3
    let (key, next) = (TestKey::new(Algorithm::ES256, "k1"), TestKey::new(Algorithm::ES256, "k2"));
    let bench = Bench::new(&[&key]).await;
    let token = next.mint(&bench.claims(json!({})));
    assert_eq!(bench.judge(&key.mint(&bench.claims(json!({})))).await, Ok(()));
    assert_eq!(bench.judge(&token).await, Err(Reason::KidUnknown));
    let before = bench.issuer.count("/jwks");
    for _ in 0..10 {
        assert!(matches!(bench.judge_now(&token), Judgement::Refused(refused) if refused.reason == Reason::KidUnknown));
    }
    assert_eq!(bench.issuer.count("/jwks"), before);
    // Another kid's refetch brings the key: nothing stands in its way.
    bench.issuer.publish(&[&key, &next]);
    let other = TestKey::new(Algorithm::ES256, "k3");
    assert_eq!(bench.judge(&other.mint(&bench.claims(json!({})))).await, Err(Reason::KidUnknown));
    assert!(matches!(bench.judge_now(&token), Judgement::Verified(_)));
}

#[tokio::test]
async fn a_bad_answer_leaves_the_last_good_keys_in_force() {
    // K5
    let key = TestKey::new(Algorithm::ES256, "k1");
    let bench = Bench::with(&[&key], settings(), quick()).await;
    let (sources, stray) = (&bench.sources, TestKey::new(Algorithm::ES256, "stray"));
    assert_eq!(bench.judge(&key.mint(&bench.claims(json!({})))).await, Ok(()));
    let oct = json!({"keys": [{"kty": "oct", "k": "AAAA"}]}).to_string();
    let huge = "x".repeat(jwks::MAX_BYTES + 1);
    let good = json!({"keys": [key.jwk()]}).to_string();
    let bad = [
        (500, ""),
        (200, "<html></html>"),
        (200, &good[..40]),
        (200, "{\"keys\":[]}"),
        (200, &oct),
        (200, &huge),
        (301, ""),
    ];
    let mut at = Now::read().unix_ms;
    for (status, body) in bad {
        bench.issuer.answer("/jwks", status, body);
        at += 31_000;
        let failed = sources.report()[0].failures;
        let verdict =
            bench.judge_at(&stray.mint(&bench.claims(json!({"exp": 99_999_999_999u64}))), Now { unix_ms: at }).await;
        assert_eq!(verdict, Err(Reason::KeysUnavailable), "{status} {body:.20}");
        assert!(sources.report()[0].failures > failed);
        assert_eq!(
            bench.judge(&key.mint(&bench.claims(json!({"jti": at})).clone())).await.err(),
            Some(Reason::ClaimInvalid)
        );
        assert_eq!(bench.judge(&key.mint(&bench.claims(json!({"n": at})))).await, Ok(()));
    }
    bench.issuer.publish(&[&key]);
    until(|| sources.report()[0].failures == 0).await;
}

#[tokio::test]
async fn keys_that_nobody_confirms_are_given_up() {
    // K5
    let key = TestKey::new(Algorithm::ES256, "k1");
    let short = FetchPolicy { stale_max: Duration::from_millis(300), refresh: Duration::from_millis(50), ..quick() };
    let bench = Bench::with(&[&key], settings(), short).await;
    let token = key.mint(&bench.claims(json!({})));
    assert_eq!(bench.judge(&token).await, Ok(()));
    bench.issuer.answer("/jwks", 500, "");
    assert_eq!(bench.judge(&token).await, Ok(()));
    until(|| bench.sources.report()[0].keys == 0).await;
    // The cached verdict went with them.
    let refused = bench.judge(&token).await;
    assert_eq!(refused, Err(Reason::KeysUnavailable));
    bench.issuer.publish(&[&key]);
    until(|| bench.sources.report()[0].keys == 1).await;
    assert_eq!(bench.judge(&token).await, Ok(()));
}

#[tokio::test]
async fn without_keys_requests_are_refused_and_it_recovers_by_itself() {
    // K7: 503 with Retry-After, never a pass.
    let key = TestKey::new(Algorithm::ES256, "k1");
    let bench = Bench::with(&[&key], settings(), quick()).await;
    bench.issuer.answer("/.well-known/openid-configuration", 503, "");
    let token = key.mint(&bench.claims(json!({})));
    assert_eq!(bench.judge(&token).await, Err(Reason::KeysUnavailable));
    let fetches = bench.issuer.count("/.well-known/openid-configuration");
    for _ in 0..20 {
        match bench.judge_now(&token) {
            Judgement::Refused(refused) => assert!(refused.retry_after_secs.is_some()),
            Judgement::Wait(_) => {}
            Judgement::Verified(_) => panic!("no key verifies this"),
        }
    }
    assert!(bench.issuer.count("/.well-known/openid-configuration") <= fetches + 1);
    let body = json!({"issuer": bench.issuer.url, "jwks_uri": bench.issuer.page("/jwks")}).to_string();
    bench.issuer.answer("/.well-known/openid-configuration", 200, &body);
    until(|| bench.sources.report()[0].keys == 1).await;
    assert_eq!(bench.judge(&token).await, Ok(()));
}

#[tokio::test]
async fn a_slow_issuer_costs_a_bounded_wait() {
    // K8
    let key = TestKey::new(Algorithm::ES256, "k1");
    let hasty = FetchPolicy { key_wait: Duration::from_millis(100), ..quick() };
    let bench = Bench::with(&[&key], settings(), hasty).await;
    bench.issuer.answer_late("/jwks", 200, &json!({"keys": [key.jwk()]}).to_string(), Duration::from_millis(600));
    let start = std::time::Instant::now();
    let token = key.mint(&bench.claims(json!({})));
    assert_eq!(bench.judge(&token).await, Err(Reason::KeysUnavailable));
    assert!(start.elapsed() < Duration::from_millis(500));
    until(|| bench.sources.report()[0].keys == 1).await;
    assert_eq!(bench.judge(&token).await, Ok(()));
}

#[tokio::test]
async fn what_nobody_has_answered_yet_is_no_verdict() {
    // K3, K4: the issuer rotates, and its new set is slow in coming.
    let (old, new) = (TestKey::new(Algorithm::ES256, "old"), TestKey::new(Algorithm::ES256, "new"));
    let hasty = FetchPolicy { key_wait: Duration::from_millis(100), ..quick() };
    let bench = Bench::with(&[&old], settings(), hasty).await;
    let token = |key: &TestKey| key.mint(&bench.claims(json!({})));
    assert_eq!(bench.judge(&token(&old)).await, Ok(()));
    let set = json!({"keys": [old.jwk(), new.jwk()]}).to_string();
    bench.issuer.answer_late("/jwks", 200, &set, Duration::from_millis(600));
    assert_eq!(bench.judge(&token(&new)).await, Err(Reason::KeysUnavailable));
    let unnamed = {
        let header = json!({"alg": "ES256", "typ": "at+jwt"}).to_string();
        new.mint_raw(&header, &bench.claims(json!({})).to_string())
    };
    assert_eq!(bench.judge(&unnamed).await, Err(Reason::KeysUnavailable), "nor a bad signature");
    until(|| bench.sources.report()[0].keys == 2).await;
    assert_eq!(bench.judge(&token(&new)).await, Ok(()));
    assert_eq!(bench.judge(&unnamed).await, Ok(()));
}

#[tokio::test]
async fn who_joins_a_fetch_may_have_come_too_late_for_it() {
    // K4: the set was read before the key was published; its reader is still on the way.
    let (old, new) = (TestKey::new(Algorithm::ES256, "old"), TestKey::new(Algorithm::ES256, "new"));
    let bench = Bench::with(&[&old], settings(), quick()).await;
    assert_eq!(bench.judge(&old.mint(&bench.claims(json!({})))).await, Ok(()));
    let stale = json!({"keys": [old.jwk()]}).to_string();
    bench.issuer.answer_late("/jwks", 200, &stale, Duration::from_millis(300));
    let stranger = TestKey::new(Algorithm::ES256, "stray").mint(&bench.claims(json!({})));
    let Judgement::Wait(stray) = bench.judge_now(&stranger) else { panic!("a fetch") };
    until(|| bench.issuer.count("/jwks") == 2).await;
    bench.issuer.publish(&[&old, &new]);
    assert_eq!(bench.judge(&new.mint(&bench.claims(json!({})))).await, Ok(()));
    drop(stray);
}

#[tokio::test]
async fn an_issuer_without_keys_is_not_asked_by_each_request() {
    // K3: RFC 8414, 2 leaves `jwks_uri` to the issuer.
    let key = TestKey::new(Algorithm::ES256, "k1");
    let bench = Bench::with(&[&key], settings(), quick()).await;
    let document = json!({"issuer": bench.issuer.url}).to_string();
    bench.issuer.answer("/.well-known/openid-configuration", 200, &document);
    for number in 0..100 {
        let token = key.mint(&bench.claims(json!({"jti": number.to_string()})));
        assert_eq!(bench.judge(&token).await, Err(Reason::KeysUnavailable));
    }
    assert!(bench.sources.report()[0].fetches <= 5, "{:?}", bench.sources.report());
}

#[tokio::test]
async fn removed_keys_go_with_the_background_refresh() {
    // K4
    let (old, new) = (TestKey::new(Algorithm::ES256, "old"), TestKey::new(Algorithm::ES256, "new"));
    let brisk = FetchPolicy { refresh: Duration::from_millis(50), ..quick() };
    let bench = Bench::with(&[&old], settings(), brisk).await;
    let token = old.mint(&bench.claims(json!({})));
    assert_eq!(bench.judge(&token).await, Ok(()));
    bench.issuer.publish(&[&new]);
    let mut gone = false;
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        gone |= bench.judge(&token).await.is_err();
    }
    assert!(gone);
    assert_eq!(bench.judge(&new.mint(&bench.claims(json!({})))).await, Ok(()));
}

#[tokio::test]
async fn keys_outlive_the_process_and_an_issuer_that_is_down() {
    // K5, K7
    let key = TestKey::new(Algorithm::ES256, "k1");
    let issuer = TestIssuer::start(&[&key]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("edge.db");
    let token = key.mint(&claims(&issuer.url, json!({})));
    let run = async |stored: bool| {
        let state = if stored { State::open(&path).await } else { State::in_memory() };
        let sources = sources(quick(), state);
        let validator = Validator::new(settings(), Some(sources.source(issuer.source())), None).expect("a validator");
        sources.warm();
        let verdict = judge(&validator, &VerdictCache::new(1 << 20).local(), &token, Now::read()).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        verdict
    };
    assert_eq!(run(true).await, Ok(()));
    issuer.answer("/jwks", 500, "");
    issuer.answer("/.well-known/openid-configuration", 500, "");
    assert_eq!(run(true).await, Ok(()));
    assert_eq!(run(false).await, Err(Reason::KeysUnavailable));
}

#[tokio::test]
async fn extra_sets_serve_beside_the_discovered_one() {
    // K6
    let (main, extra) = (TestKey::new(Algorithm::ES256, "main"), TestKey::new(Algorithm::EdDSA, "extra"));
    let issuer = TestIssuer::start(&[&main]).await;
    let second = TestIssuer::start(&[&extra]).await;
    let source = SourceSettings { jwks_uris: vec![second.page("/jwks")], ..issuer.source() };
    let sources = sources(quick(), State::in_memory());
    let validator = Validator::new(settings(), Some(sources.source(source)), None).expect("a validator");
    let cache = VerdictCache::new(1 << 20).local();
    for key in [&main, &extra] {
        let token = key.mint(&claims(&issuer.url, json!({})));
        assert_eq!(judge(&validator, &cache, &token, Now::read()).await, Ok(()));
        let foreign = key.mint(&claims(&second.url, json!({})));
        assert_eq!(judge(&validator, &cache, &foreign, Now::read()).await, Err(Reason::IssuerNotAllowed));
    }
}

#[tokio::test]
async fn a_pseudo_issuer_is_never_asked() {
    let key = TestKey::new(Algorithm::ES256, "k1");
    let issuer = TestIssuer::start(&[&key]).await;
    let source = SourceSettings { discovery: None, jwks_uris: vec![issuer.page("/jwks")], ..issuer.source() };
    let listed = Settings { issuers: Issuers::Listed(vec!["urn:pseudo".into()]), ..settings() };
    let sources = sources(quick(), State::in_memory());
    let validator = Validator::new(listed, Some(sources.source(source)), None).expect("a validator");
    let cache = VerdictCache::new(1 << 20).local();
    let token = key.mint(&claims("urn:pseudo", json!({})));
    assert_eq!(judge(&validator, &cache, &token, Now::read()).await, Ok(()));
    assert_eq!(issuer.requests().len(), 1);
}

#[tokio::test]
async fn forgetting_fetches_anew_and_keeps_the_last_good_keys() {
    // K4
    let key = TestKey::new(Algorithm::ES256, "k1");
    let bench = Bench::new(&[&key]).await;
    let token = key.mint(&bench.claims(json!({})));
    assert_eq!(bench.judge(&token).await, Ok(()));
    let listed = || bench.sources.list(Which::Url(&bench.issuer.url));
    let known = listed();
    assert_eq!((known.len(), known[0].issuer.as_str(), known[0].keys.len()), (1, bench.issuer.url.as_str(), 1));
    assert!(known[0].fetched_ms.is_some() && known[0].metadata.is_some());
    let discovery = "/.well-known/openid-configuration";
    let before = (bench.issuer.count(discovery), bench.issuer.count("/jwks"));
    // The document is fresh, and is fetched all the same.
    assert_eq!(bench.sources.forget(Which::Id(known[0].id)), 1);
    until(|| bench.issuer.count("/jwks") > before.1).await;
    assert_eq!(bench.issuer.count(discovery), before.0 + 1);
    bench.issuer.answer(discovery, 500, "");
    until(|| bench.sources.forget(Which::All) == 1 && bench.issuer.count(discovery) > before.0 + 2).await;
    until(|| listed()[0].fetched_ms.is_none()).await;
    assert_eq!(listed()[0].keys, known[0].keys);
    assert!(matches!(bench.judge_now(&token), Judgement::Verified(_)));
    for stranger in [Which::Id([0; 16]), Which::Url("https://stranger.example"), Which::Url("")] {
        assert_eq!((bench.sources.forget(stranger), bench.sources.list(stranger)), (0, vec![]));
    }
}
