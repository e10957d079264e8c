use super::super::cache::Stats;
use super::super::testing::{Bench, TestKey, claims, first, judge, policy, settings};
use super::super::{Judgement, Now, Progress, Validator, Verified};
use super::*;
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// An issuer in this process, with an answer for each token it knows.
#[derive(Default)]
struct Answers {
    said: Mutex<HashMap<String, Result<Said, Unanswered>>>,
    asked: AtomicU64,
    delay: Mutex<Duration>,
}

impl Answers {
    fn say(&self, token: &str, said: Result<Said, Unanswered>) {
        self.said.lock().expect("no panic").insert(token.to_owned(), said);
    }

    fn activate(&self, token: &str, answer: Value) {
        self.say(token, Ok(Said::Active { json: answer.to_string().into_bytes(), jwt: None }));
    }

    fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Introspect for Answers {
    fn id(&self) -> [u8; 32] {
        [7; 32]
    }

    fn ask<'a>(&'a self, token: &'a [u8], _extras: &'a Extras) -> Asking<'a> {
        Box::pin(async move {
            self.asked.fetch_add(1, Ordering::SeqCst);
            let delay = *self.delay.lock().expect("no panic");
            tokio::time::sleep(delay).await;
            let token = String::from_utf8_lossy(token).into_owned();
            self.said.lock().expect("no panic").get(&token).cloned().unwrap_or(Ok(Said::Inactive))
        })
    }
}

fn unanswered(retry_after_secs: u32) -> Unanswered {
    Unanswered { retry_after_secs, fault: "the connection failed", is_nobody: false }
}

fn remote(who: &Arc<Answers>, jwts: JwtBy) -> Remote {
    Remote {
        jwt_claim: None,
        who: who.clone(),
        control: Some(Handle::current()),
        jwts,
        keep: true,
        ttl_inactive: Duration::from_secs(5),
        ttl_min: Duration::ZERO,
        ttl_stale: Duration::ZERO,
        shared: None,
    }
}

async fn bench(who: &Arc<Answers>, change: impl FnOnce(&mut Settings, &mut Remote)) -> Bench {
    let (mut settings, mut remote) = (settings(), remote(who, JwtBy::Introspection));
    change(&mut settings, &mut remote);
    Bench::asking(&[&TestKey::new(Algorithm::ES256, "k")], settings, policy(), Some(remote)).await
}

fn later(seconds: i64) -> Now {
    Now { unix_ms: Now::read().unix_ms + seconds * 1000 }
}

fn exp(seconds: i64) -> i64 {
    Now::read().unix_ms / 1000 + seconds
}

#[tokio::test]
async fn answers_are_verdicts_and_nothing_else_is() {
    // I1, I2, I7
    let who = Arc::<Answers>::default();
    let bench = bench(&who, |_, _| {}).await;
    let good = bench.issuer.url.clone();
    for (answer, expected) in [
        // The first to name the issuer waits for what it calls itself.
        (json!({"active": true, "exp": exp(60), "iss": good}), Ok(())),
        (json!({"active": true}), Ok(())),
        (json!({"active": true, "exp": exp(-1)}), Err(Reason::TokenExpired)),
        (json!({"active": true, "nbf": exp(60)}), Err(Reason::TokenNotYetValid)),
        (json!({"active": true, "exp": "60"}), Err(Reason::ClaimInvalid)),
        (json!({"active": true, "iss": "https://other"}), Err(Reason::IssuerNotAllowed)),
        (json!({"active": true, "iss": format!("{good}/")}), Err(Reason::IssuerNotAllowed)),
        (json!([true]), Err(Reason::TokenMalformed)),
    ] {
        let token = format!("t{}", who.asked());
        who.activate(&token, answer.clone());
        assert_eq!(bench.judge(&token).await, expected, "{answer}");
    }
    assert_eq!(bench.judge("unknown").await, Err(Reason::TokenInactive));
    who.say("down", Err(unanswered(9)));
    let Judgement::Wait(wait) = bench.judge_now("down") else { panic!("asked for") };
    let Progress::Landed(Err(refused)) = wait.done().await else { panic!("no verdict") };
    let fault = Some("the connection failed");
    assert_eq!(refused, Refused { reason: Reason::IntrospectionFailed, retry_after_secs: Some(9), fault });
    // It is no verdict: the next request asks anew.
    who.activate("down", json!({"active": true}));
    assert_eq!(bench.judge("down").await, Ok(()));
}

#[tokio::test]
async fn where_the_issuer_has_no_such_endpoint_the_token_counts() {
    let (who, key) = (Arc::<Answers>::default(), TestKey::new(Algorithm::ES256, "k"));
    let bench = Bench::asking(&[&key], settings(), policy(), Some(remote(&who, JwtBy::KeysThenIntrospection))).await;
    let nobody = Unanswered { is_nobody: true, ..unanswered(10) };
    let jwt = key.mint(&bench.claims(json!({"sub": "ann"})));
    who.say(&jwt, Err(nobody));
    who.say("opaque", Err(nobody));
    assert_eq!(bench.judge("opaque").await, Err(Reason::IntrospectionUnavailable));
    assert_eq!(bench.judge(&jwt).await, Err(Reason::IntrospectionFailed), "a good token's client is not to blame");
}

#[tokio::test]
async fn a_hundred_who_come_together_ask_once() {
    // I6
    let who = Arc::<Answers>::default();
    let bench = bench(&who, |_, _| {}).await;
    who.activate("opaque", json!({"active": true, "exp": exp(60)}));
    *who.delay.lock().expect("no panic") = Duration::from_millis(50);
    let waits: Vec<_> = (0..100)
        .map(|_| match bench.judge_now("opaque") {
            Judgement::Wait(wait) => wait,
            _ => panic!("nobody knows it yet"),
        })
        .collect();
    for wait in waits {
        assert!(matches!(wait.done().await, Progress::Landed(Ok(_))));
    }
    assert_eq!((who.asked(), bench.shared.flights().len()), (1, 0));
    assert_eq!(bench.judge("opaque").await, Ok(()));
    assert_eq!(who.asked(), 1, "kept");
}

#[tokio::test]
async fn answers_stand_for_their_time_and_never_past_exp() {
    // I3
    for (answer, ttl, max, min, stands, ended) in [
        (json!({"active": true, "exp": exp(100)}), 3600, None, 0, 90, 101),
        (json!({"active": true}), 50, None, 0, 44, 51),
        (json!({"active": true, "exp": exp(100)}), 3600, Some(30), 0, 26, 31),
        // What bounds how long a revoked token passes goes before what spares the issuer.
        (json!({"active": true, "exp": exp(100)}), 3600, Some(30), 60, 26, 31),
        (json!({"active": true}), 10, None, 60, 53, 61),
        (json!({"active": true, "exp": exp(20)}), 3600, None, 60, 17, 21),
    ] {
        let who = Arc::<Answers>::default();
        let bench = bench(&who, |settings, remote| {
            settings.ttl_without_exp = Duration::from_secs(ttl);
            settings.ttl_max = max.map(Duration::from_secs);
            remote.ttl_min = Duration::from_secs(min);
        })
        .await;
        who.activate("t", answer.clone());
        assert_eq!(bench.judge("t").await, Ok(()), "{answer}");
        assert!(
            matches!(first(&bench.validator, &bench.cache, "t", later(stands)), Judgement::Verified(_)),
            "{answer}"
        );
        who.say("t", Ok(Said::Inactive));
        assert!(bench.judge_at("t", later(ended)).await.is_err(), "{answer} after {ended} s");
    }
}

#[tokio::test]
async fn without_keeping_each_request_asks() {
    let who = Arc::<Answers>::default();
    let bench = bench(&who, |_, remote| remote.keep = false).await;
    who.activate("t", json!({"active": true, "exp": exp(60)}));
    for _ in 0..3 {
        assert_eq!(bench.judge("t").await, Ok(()));
    }
    assert_eq!((who.asked(), bench.shared.stats().positive_entries), (3, 0));
}

#[tokio::test]
async fn inactive_tokens_are_kept_on_second_sight_and_for_a_short_time() {
    // I4
    let who = Arc::<Answers>::default();
    let bench = bench(&who, |_, _| {}).await;
    for asked in [1, 2, 2, 2] {
        assert_eq!(bench.judge("bad").await, Err(Reason::TokenInactive));
        assert_eq!(who.asked(), asked);
    }
    who.activate("bad", json!({"active": true}));
    assert_eq!(bench.judge_at("bad", later(4)).await, Err(Reason::TokenInactive));
    assert_eq!(bench.judge_at("bad", later(6)).await, Ok(()), "it became good");
    for n in 0..2000 {
        assert_eq!(bench.judge(&format!("random-{n}")).await, Err(Reason::TokenInactive));
    }
    let Stats { negative_entries, .. } = bench.shared.stats();
    assert!(negative_entries < 20, "{negative_entries} of tokens seen once");
}

#[tokio::test]
async fn a_hot_token_is_asked_for_before_it_ends_and_nobody_waits() {
    let who = Arc::<Answers>::default();
    let bench = bench(&who, |settings, _| settings.ttl_max = Some(Duration::from_secs(100))).await;
    who.activate("t", json!({"active": true, "exp": exp(1000)}));
    assert_eq!(bench.judge("t").await, Ok(()));
    assert!(matches!(first(&bench.validator, &bench.cache, "t", later(80)), Judgement::Verified(_)));
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(who.asked(), 1, "too early");
    for _ in 0..10 {
        assert!(matches!(first(&bench.validator, &bench.cache, "t", later(99)), Judgement::Verified(_)));
    }
    while who.asked() < 2 || !bench.shared.flights().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(who.asked(), 2);
    // Revoked meanwhile: the next refresh ends it at once, for every level.
    who.say("t", Ok(Said::Inactive));
    let next = bench.judge_at("t", later(300)).await;
    assert_eq!(next, Err(Reason::TokenInactive));
    assert!(!matches!(bench.judge_now("t"), Judgement::Verified(_)));
}

#[tokio::test]
async fn old_answers_serve_on_only_where_nobody_answers_and_it_is_asked_for() {
    for (stale, at, expected) in
        [(0, 40, Err(Reason::IntrospectionFailed)), (60, 40, Ok(())), (60, 95, Err(Reason::IntrospectionFailed))]
    {
        let who = Arc::<Answers>::default();
        let bench = bench(&who, |settings, remote| {
            settings.ttl_max = Some(Duration::from_secs(30));
            remote.ttl_stale = Duration::from_secs(stale);
        })
        .await;
        who.activate("t", json!({"active": true, "exp": exp(1000)}));
        assert_eq!(bench.judge("t").await, Ok(()));
        who.say("t", Err(unanswered(1)));
        assert_eq!(bench.judge_at("t", later(at)).await, expected, "{stale} {at}");
        who.say("t", Ok(Said::Inactive));
        assert_eq!(bench.judge_at("t", later(at)).await, Err(Reason::TokenInactive));
    }
}

#[tokio::test]
async fn keys_come_first_where_both_judge() {
    let (who, key) = (Arc::<Answers>::default(), TestKey::new(Algorithm::ES256, "k"));
    let remote = remote(&who, JwtBy::KeysThenIntrospection);
    let bench = Bench::asking(&[&key], settings(), policy(), Some(remote)).await;
    let token = key.mint(&bench.claims(json!({"sub": "ann"})));
    let stranger = TestKey::new(Algorithm::ES256, "k");
    assert_eq!(bench.judge(&stranger.mint(&bench.claims(json!({})))).await, Err(Reason::SignatureInvalid));
    assert_eq!(bench.judge(&key.mint(&bench.claims(json!({"exp": exp(-5)})))).await, Err(Reason::TokenExpired));
    assert_eq!(who.asked(), 0, "what keys refuse costs the issuer nothing");
    assert_eq!(bench.judge(&token).await, Err(Reason::TokenInactive), "revoked");
    who.activate(&token, json!({"active": true, "iss": "https://other"}));
    assert_eq!(bench.judge(&token).await, Err(Reason::IssuerNotAllowed));
    who.activate(&token, json!({"active": true, "sub": "eve", "extra": "x"}));
    assert_eq!(bench.judge(&token).await, Ok(()));
    let Judgement::Verified(facts) = bench.judge_now(&token) else { panic!("kept") };
    let claim = |facts: &Verified, name: &str| {
        let found = facts.claim(&crate::token::claims::ClaimPath::new([name]));
        found.and_then(|claim| claim.text()).map(|text| text.into_owned())
    };
    assert_eq!(claim(&facts, "sub").as_deref(), Some("ann"), "the token's own claim goes first");
    assert_eq!(claim(&facts, "extra").as_deref(), Some("x"));
    assert!(facts.introspection_json().is_some_and(|json| json.contains("eve")) && !facts.is_opaque());
    // Its key goes, and so does the verdict.
    bench.issuer.publish(&[&TestKey::new(Algorithm::ES256, "other")]);
    let gone = key.mint_raw(r#"{"alg":"ES256","kid":"none"}"#, &bench.claims(json!({})).to_string());
    assert_eq!(bench.judge(&gone).await, Err(Reason::KidUnknown));
    assert!(!matches!(bench.judge_now(&token), Judgement::Verified(_)));
}

#[tokio::test]
async fn verdicts_are_of_what_was_asked() {
    // I5
    let who = Arc::<Answers>::default();
    let bench = bench(&who, |_, _| {}).await;
    who.activate("t", json!({"active": true}));
    let one = Extras { client: 1, ..Extras::default() };
    let header = Extras { headers: vec![("x-tenant".into(), "a".into())], ..Extras::default() };
    for (asked, extras) in [(1, &Extras::default()), (2, &one), (3, &header), (3, &one)] {
        let ask = crate::token::Ask {
            token: b"t",
            now: Now::read(),
            source: super::super::testing::CLIENT,
            extras,
            observer: Default::default(),
        };
        let landed = match bench.validator.judge(&bench.cache, ask, Progress::First) {
            Judgement::Wait(wait) => wait.done().await,
            _ => Progress::First,
        };
        assert!(matches!(bench.validator.judge(&bench.cache, ask, landed), Judgement::Verified(_)));
        assert_eq!(who.asked(), asked);
    }
    // Another validator shares nothing.
    let mut other = remote(&who, JwtBy::Introspection);
    other.ttl_inactive = Duration::from_secs(6);
    let other = Validator::new(settings(), None, Some(other)).expect("a validator");
    assert_eq!(judge(&other, &bench.cache, "t", Now::read()).await, Ok(()));
    assert_eq!(who.asked(), 4);
}

#[tokio::test]
async fn flights_are_bounded_and_unproven_sources_get_half_of_them() {
    // D3, D4
    let flights = Arc::<Flights>::default();
    let mac = crypto::MacKey::new(b"k");
    let key = |n: usize| CacheKey::new(&mac, &n.to_be_bytes());
    let mut tickets = Vec::new();
    let mut board = |n: usize, proven: bool| match flights.board(key(n), proven) {
        Boarding::Mine(ticket, wait) => {
            tickets.push((ticket, wait));
            true
        }
        _ => false,
    };
    assert_eq!((0..MAX_FLIGHTS).filter(|n| board(*n, false)).count(), MAX_FLIGHTS / 2);
    assert_eq!((MAX_FLIGHTS..2 * MAX_FLIGHTS + 10).filter(|n| board(*n, true)).count(), MAX_FLIGHTS / 2);
    assert!(matches!(flights.board(key(0), false), Boarding::Joined(_)), "joining costs nothing");
    // A flight that is lost leaves nobody waiting.
    let (ticket, wait) = tickets.remove(0);
    drop(ticket);
    assert_eq!(wait.done().await.err().map(|refused| refused.reason), Some(Reason::IntrospectionFailed));
    drop(tickets);
    assert!(flights.is_empty());
}

#[tokio::test]
async fn claims_of_the_issuer_are_no_id_token() {
    let facts = Facts::introspected(json!({"active": true, "nonce": "n", "aud": "web"}).to_string().into_bytes(), None);
    assert!(!facts.expect("an answer").is_id_token(&["web"]));
    let _ = claims("https://a", json!({}));
}
