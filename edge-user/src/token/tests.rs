mod verdicts;

use super::testing::{Bench, TestIssuer, TestKey, claims, first, judge, policy, settings, sources};
use super::*;
use crate::state::State;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value as Json, json};

const ALL: [Algorithm; 3] = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];

fn key_token(bench: &Bench, key: &TestKey) -> String {
    key.mint(&bench.claims(json!({})))
}

#[tokio::test]
async fn good_tokens_of_every_kind_are_verified_and_their_neighbours_refused() {
    // T13, T16
    for algorithm in ALL {
        let key = TestKey::new(algorithm, "k1");
        let bench = Bench::new(&[&key]).await;
        let good = key.mint(&bench.claims(json!({})));
        assert_eq!(bench.judge(&good).await, Ok(()), "{algorithm:?}");
        let (signed, signature) = good.rsplit_once('.').expect("three parts");
        let (header, _) = signed.split_once('.').expect("two parts");
        let other = URL_SAFE_NO_PAD.encode(bench.claims(json!({"sub": "admin"})).to_string());
        let mut flipped = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
        flipped[10] ^= 1;
        let flipped = URL_SAFE_NO_PAD.encode(flipped);
        for (bad, reason) in [
            (format!("{header}.{other}.{signature}"), Reason::SignatureInvalid),
            (format!("{signed}.{flipped}"), Reason::SignatureInvalid),
            (format!("{signed}.AAAA"), Reason::SignatureInvalid),
            (format!("{signed}."), Reason::TokenMalformed),
            (signed.to_owned(), Reason::TokenMalformed),
            (format!("{good}A"), Reason::TokenMalformed),
            (format!("{good}.{signature}"), Reason::TokenMalformed),
        ] {
            // A signature part extended by one character is malformed or bad by its length.
            let seen = bench.judge(&bad).await.expect_err("refused");
            assert!(seen == reason || (bad.len() == good.len() + 1 && seen == Reason::SignatureInvalid), "{seen:?}");
        }
    }
}

#[tokio::test]
async fn algorithms_come_from_the_list_and_the_key() {
    // T1, T2, T4, T6, T8
    let rsa = TestKey::new(Algorithm::RS256, "rsa");
    let ec = TestKey::new(Algorithm::ES256, "ec");
    let mut listed = settings();
    listed.algorithms.extend([Algorithm::HS256, Algorithm::HS384]);
    listed.hs_secrets = vec![b"secret".to_vec()];
    let bench = Bench::with(&[&rsa, &ec], listed, policy()).await;
    let payload = bench.claims(json!({})).to_string();
    assert_eq!(bench.judge(&rsa.mint(&bench.claims(json!({})))).await, Ok(()));
    // HMAC under every byte form of the public key, and under nothing.
    let jwk = rsa.jwk();
    let n = URL_SAFE_NO_PAD.decode(jwk["n"].as_str().expect("n")).expect("base64url");
    let secrets = [
        n,
        jwk.to_string().into_bytes(),
        jwk["n"].to_string().into_bytes(),
        ec.jwk().to_string().into_bytes(),
        vec![],
        rsa.pkcs8.clone(),
    ];
    for secret in secrets {
        let hmac = TestKey { kid: "rsa".into(), algorithm: Algorithm::HS256, pkcs8: secret };
        for header in ["{\"alg\":\"HS256\",\"kid\":\"rsa\"}", "{\"alg\":\"HS256\",\"kid\":\"ec\"}"] {
            assert_eq!(bench.judge(&hmac.mint_raw(header, &payload)).await, Err(Reason::AlgNotAllowed));
        }
        for header in ["{\"alg\":\"HS256\"}", "{\"alg\":\"HS256\",\"kid\":\"other\"}"] {
            assert_eq!(bench.judge(&hmac.mint_raw(header, &payload)).await, Err(Reason::SignatureInvalid));
        }
    }
    // The secret itself is good where HS is enabled, and not under a public key's name.
    let hmac = TestKey { kid: "own".into(), algorithm: Algorithm::HS256, pkcs8: b"secret".to_vec() };
    assert_eq!(bench.judge(&hmac.mint_raw("{\"alg\":\"HS256\",\"kid\":\"own\"}", &payload)).await, Ok(()));
    assert_eq!(bench.judge(&hmac.mint_raw("{\"alg\":\"HS256\"}", &payload)).await, Ok(()));
    assert_eq!(
        bench.judge(&hmac.mint_raw("{\"alg\":\"HS256\",\"kid\":\"rsa\"}", &payload)).await,
        Err(Reason::AlgNotAllowed)
    );
    for (key, header, reason) in [
        (&rsa, "{\"alg\":\"PS256\",\"kid\":\"rsa\"}", Reason::AlgNotAllowed),
        (&rsa, "{\"alg\":\"RS512\",\"kid\":\"rsa\"}", Reason::AlgNotAllowed),
        (&rsa, "{\"alg\":\"RS256\",\"kid\":\"ec\"}", Reason::AlgNotAllowed),
        (&ec, "{\"alg\":\"ES384\",\"kid\":\"ec\"}", Reason::AlgNotAllowed),
        (&ec, "{\"alg\":\"EdDSA\",\"kid\":\"ec\"}", Reason::AlgNotAllowed),
        (&ec, "{\"alg\":\"none\",\"kid\":\"ec\"}", Reason::AlgNotAllowed),
        (&ec, "{\"alg\":\"RS256\",\"kid\":\"rsa\"}", Reason::SignatureInvalid),
    ] {
        assert_eq!(bench.judge(&key.mint_raw(header, &payload)).await, Err(reason), "{header}");
    }
    let off = Bench::new(&[&rsa]).await;
    let hmac_off = hmac.mint_raw("{\"alg\":\"HS256\"}", &off.claims(json!({})).to_string());
    assert_eq!(off.judge(&hmac_off).await, Err(Reason::AlgNotAllowed));
}

#[tokio::test]
async fn a_fetched_symmetric_key_verifies_nothing() {
    // T5
    let good = TestKey::new(Algorithm::ES256, "good");
    let mut listed = settings();
    listed.algorithms.push(Algorithm::HS256);
    let bench = Bench::with(&[&good], listed, policy()).await;
    let oct = json!({"kty": "oct", "kid": "oct", "alg": "HS256", "k": URL_SAFE_NO_PAD.encode("shared")});
    bench.issuer.answer("/jwks", 200, &json!({"keys": [oct, good.jwk()]}).to_string());
    let hmac = TestKey { kid: "oct".into(), algorithm: Algorithm::HS256, pkcs8: b"shared".to_vec() };
    assert!(bench.judge(&hmac.mint(&bench.claims(json!({})))).await.is_err());
    assert_eq!(bench.judge(&good.mint(&bench.claims(json!({})))).await, Ok(()));
}

#[tokio::test]
async fn the_header_never_brings_or_locates_a_key() {
    // T18: a key in the token, or a URL for one, is not looked at and causes no request.
    let good = TestKey::new(Algorithm::ES256, "k1");
    let evil = TestKey::new(Algorithm::ES256, "k1");
    let bench = Bench::new(&[&good]).await;
    let elsewhere = TestIssuer::start(&[&evil]).await;
    let payload = bench.claims(json!({})).to_string();
    assert_eq!(bench.judge(&good.mint(&bench.claims(json!({})))).await, Ok(()));
    for (name, value) in [
        ("jwk", evil.jwk()),
        ("jku", json!(elsewhere.page("/jwks"))),
        ("x5u", json!(elsewhere.page("/cert"))),
        ("x5c", json!(["AAAA"])),
        ("x5t", json!("AAAA")),
        ("x5t#S256", json!("AAAA")),
    ] {
        let header = json!({"alg": "ES256", "kid": "k1", name: value});
        assert_eq!(bench.judge(&evil.mint_raw(&header.to_string(), &payload)).await, Err(Reason::SignatureInvalid));
    }
    assert!(elsewhere.requests().is_empty());
    assert_eq!(bench.issuer.count("/jwks"), 1);
}

#[tokio::test]
async fn strange_kids_are_only_unknown() {
    // T19, T20
    let key = TestKey::new(Algorithm::ES256, "k1");
    let bench = Bench::new(&[&key]).await;
    let payload = bench.claims(json!({})).to_string();
    for kid in ["../../../../dev/null", "k1\u{0}", "' OR '1'='1", "\r\nX: y", "{}%s%n", "K1", "http://127.0.0.1/", ""] {
        let header = json!({"alg": "ES256", "kid": kid}).to_string();
        assert_eq!(bench.judge(&key.mint_raw(&header, &payload)).await, Err(Reason::KidUnknown), "{kid:?}");
    }
    let long = json!({"alg": "ES256", "kid": "k".repeat(100_000)}).to_string();
    assert_eq!(bench.judge(&key.mint_raw(&long, &payload)).await, Err(Reason::TokenTooLarge));
    for kid in [json!(1), json!(null), json!(["k1"]), json!({"k1": 1})] {
        let header = json!({"alg": "ES256", "kid": kid}).to_string();
        assert_eq!(bench.judge(&key.mint_raw(&header, &payload)).await, Err(Reason::TokenMalformed), "{kid}");
    }
}

#[tokio::test]
async fn tokens_without_kid_are_tried_with_fitting_keys() {
    // T21
    let (first, second) = (TestKey::new(Algorithm::ES256, "a"), TestKey::new(Algorithm::ES256, "b"));
    let stranger = TestKey::new(Algorithm::ES256, "c");
    let bench = Bench::new(&[&first, &second]).await;
    let payload = bench.claims(json!({})).to_string();
    let header = "{\"alg\":\"ES256\"}";
    assert_eq!(bench.judge(&first.mint_raw(header, &payload)).await, Ok(()));
    assert_eq!(bench.judge(&second.mint_raw(header, &payload)).await, Ok(()));
    assert_eq!(bench.judge(&stranger.mint_raw(header, &payload)).await, Err(Reason::SignatureInvalid));
    // Once published, the stranger's key serves: the set is asked for before a signature is called bad.
    bench.issuer.publish(&[&first, &stranger]);
    let later = Now { unix_ms: Now::read().unix_ms + 31_000 };
    assert_eq!(bench.judge_at(&stranger.mint_raw(header, &payload), later).await, Ok(()));
}

#[tokio::test]
async fn types_are_those_of_access_tokens() {
    // T25
    let key = TestKey::new(Algorithm::ES256, "k1");
    let bench = Bench::new(&[&key]).await;
    let payload = bench.claims(json!({})).to_string();
    for (typ, good) in [
        ("at+jwt", true),
        ("application/at+jwt", true),
        ("AT+JWT", true),
        ("JWT", true),
        ("logout+jwt", false),
        ("dpop+jwt", false),
        ("token-introspection+jwt", false),
        ("client-authentication+jwt", false),
        ("secevent+jwt", false),
        ("id+jwt", false),
    ] {
        let header = json!({"alg": "ES256", "kid": "k1", "typ": typ}).to_string();
        let expected = if good { Ok(()) } else { Err(Reason::TypNotAllowed) };
        assert_eq!(bench.judge(&key.mint_raw(&header, &payload)).await, expected, "{typ}");
    }
    assert_eq!(bench.judge(&key.mint_raw("{\"alg\":\"ES256\",\"kid\":\"k1\"}", &payload)).await, Ok(()));
}

#[tokio::test]
async fn payloads_and_times_are_judged() {
    // T26, T27, T29, T30, T31
    let key = TestKey::new(Algorithm::ES256, "k1");
    let bench = Bench::new(&[&key]).await;
    let now = Now::read();
    let seconds = now.unix_ms / 1000;
    let judge = async |with: Json| bench.judge_at(&key.mint(&bench.claims(with)), now).await;
    assert_eq!(judge(json!({"exp": seconds + 1})).await, Ok(()));
    assert_eq!(judge(json!({"exp": seconds as f64 + 1.5})).await, Ok(()));
    assert_eq!(judge(json!({"exp": seconds})).await, Err(Reason::TokenExpired));
    assert_eq!(judge(json!({"nbf": seconds + 2})).await, Err(Reason::TokenNotYetValid));
    for bad in
        [json!(null), json!("9999999999"), json!(true), json!([9_999_999_999u64]), json!({}), json!(-1), json!(0)]
    {
        assert_eq!(judge(json!({"exp": bad})).await, Err(Reason::ClaimInvalid), "{bad}");
    }
    let header = "{\"alg\":\"ES256\",\"kid\":\"k1\"}";
    for payload in
        ["[]", "\"a\"", "{\"exp\":9999999999,\"exp\":1}", "{\"exp\":9999999999}x", "{\"exp\":9999999999", "null"]
    {
        assert_eq!(bench.judge(&key.mint_raw(header, payload)).await, Err(Reason::TokenMalformed), "{payload}");
    }
    let iss = &bench.issuer.url;
    for exp in ["1e400", "18446744073709551617", &format!("1{}", "0".repeat(400))] {
        let payload = format!("{{\"iss\":\"{iss}\",\"exp\":{exp}}}");
        assert_eq!(bench.judge(&key.mint_raw(header, &payload)).await, Err(Reason::ClaimInvalid), "{exp}");
    }
    let start = std::time::Instant::now();
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(4000), "]".repeat(4000));
    assert_eq!(bench.judge(&key.mint_raw(header, &deep)).await, Err(Reason::TokenMalformed));
    assert!(start.elapsed().as_millis() < 100);
}

#[tokio::test]
async fn the_clock_counts_on_every_hit() {
    // T31: cached or not, and with another route's leeway.
    let key = TestKey::new(Algorithm::ES256, "k1");
    let bench = Bench::new(&[&key]).await;
    let lenient = Settings { leeway: Duration::from_secs(30), ..settings() };
    let lenient = Validator::new(lenient, bench.validator.keys().cloned(), None).expect("a validator");
    assert_eq!(lenient.id(), bench.validator.id());
    let now = Now::read().unix_ms;
    let exp = now / 1000 + 10;
    let token = key.mint(&bench.claims(json!({"exp": exp})));
    let at = |unix_ms| Now { unix_ms };
    assert_eq!(bench.judge_at(&token, at(now)).await, Ok(()));
    for _ in 0..3 {
        assert_eq!(bench.judge_at(&token, at(exp * 1000 - 1)).await, Ok(()));
        assert_eq!(bench.judge_at(&token, at(exp * 1000)).await, Err(Reason::TokenExpired));
        assert_eq!(judge(&lenient, &bench.cache, &token, at(exp * 1000)).await, Ok(()));
        assert_eq!(judge(&lenient, &bench.cache, &token, at(exp * 1000 + 30_000)).await, Err(Reason::TokenExpired));
    }
    // A refusal remembered as expired does not outlive another route's leeway, nor a clock set back.
    let expired = key.mint(&bench.claims(json!({"exp": now / 1000 - 5})));
    for _ in 0..4 {
        assert_eq!(bench.judge_at(&expired, at(now)).await, Err(Reason::TokenExpired));
        assert_eq!(judge(&lenient, &bench.cache, &expired, at(now)).await, Ok(()));
        assert_eq!(bench.judge_at(&expired, at(now - 10_000)).await, Ok(()));
    }
}

#[tokio::test]
async fn issuers_compare_byte_for_byte_and_keep_their_keys_apart() {
    // T32
    let (key_a, key_b) = (TestKey::new(Algorithm::ES256, "k1"), TestKey::new(Algorithm::ES256, "k1"));
    let a = Bench::new(&[&key_a]).await;
    let b = Bench::new(&[&key_b]).await;
    let (iss_a, iss_b) = (a.issuer.url.clone(), b.issuer.url.clone());
    assert_eq!(a.judge(&key_a.mint(&claims(&iss_a, json!({})))).await, Ok(()));
    assert_eq!(a.judge(&key_b.mint(&claims(&iss_a, json!({})))).await, Err(Reason::SignatureInvalid));
    assert_eq!(a.judge(&key_a.mint(&claims(&iss_b, json!({})))).await, Err(Reason::IssuerNotAllowed));
    assert_eq!(a.judge(&key_b.mint(&claims(&iss_b, json!({})))).await, Err(Reason::IssuerNotAllowed));
    let wrong = [
        format!("{iss_a}/"),
        iss_a.to_uppercase(),
        iss_a[..iss_a.len() - 1].to_owned(),
        format!("{iss_a}.evil.example"),
        format!(" {iss_a}"),
        String::new(),
    ];
    for iss in wrong {
        assert_eq!(a.judge(&key_a.mint(&claims(&iss, json!({})))).await, Err(Reason::IssuerNotAllowed), "{iss:?}");
    }
    assert_eq!(a.judge(&key_a.mint(&claims(&iss_a, json!({"iss": null})))).await, Err(Reason::IssuerNotAllowed));
    assert_eq!(a.judge(&key_a.mint(&claims(&iss_a, json!({"iss": [iss_a]})))).await, Err(Reason::ClaimInvalid));
}

#[tokio::test]
async fn shapes_that_are_no_jws_cost_no_crypto() {
    // T14, T24, T36
    let key = TestKey::new(Algorithm::ES256, "k1");
    let bench = Bench::new(&[&key]).await;
    let good = key.mint(&bench.claims(json!({})));
    assert_eq!(bench.judge(&good).await, Ok(()));
    let before = bench.shared.stats().signatures;
    let b64 = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let jwe = b64("{\"alg\":\"PBES2-HS512+A256KW\",\"enc\":\"A256GCM\",\"p2c\":2147483647,\"zip\":\"DEF\"}");
    let nested = key.mint_raw("{\"alg\":\"ES256\",\"kid\":\"k1\",\"cty\":\"JWT\"}", &good);
    for (token, reason) in [
        (format!("{jwe}.AA.AA.AA.AA"), Reason::TokenMalformed),
        (format!("{jwe}.AA.AA"), Reason::TokenMalformed),
        (nested, Reason::TokenMalformed),
        ("{\"payload\":\"e30\",\"signatures\":[]}".to_owned(), Reason::IntrospectionUnavailable),
        ("opaque-token".to_owned(), Reason::IntrospectionUnavailable),
        ("a.b".to_owned(), Reason::IntrospectionUnavailable),
        ("a.b.c".to_owned(), Reason::TokenMalformed),
        ("..".to_owned(), Reason::TokenMalformed),
        ("A".repeat(jws::MAX_BYTES + 1), Reason::TokenTooLarge),
    ] {
        assert_eq!(bench.judge(&token).await, Err(reason), "{token:.40}");
    }
    assert_eq!(bench.shared.stats().signatures, before);
}

#[tokio::test]
async fn a_verdict_for_one_validator_never_opens_another() {
    let key = TestKey::new(Algorithm::ES256, "k1");
    let bench = Bench::new(&[&key]).await;
    let token = key.mint(&bench.claims(json!({})));
    assert_eq!(bench.judge(&token).await, Ok(()));
    let changes: [fn(&mut Settings); 4] = [
        |settings| settings.algorithms = vec![Algorithm::RS256],
        |settings| settings.types = vec!["at+jwt".into()],
        |settings| settings.issuers = Issuers::Listed(vec!["https://other".to_owned()]),
        |settings| settings.hs_secrets = vec![b"s".to_vec()],
    ];
    for (index, change) in changes.into_iter().enumerate() {
        let mut changed = settings();
        change(&mut changed);
        let other = Validator::new(changed, bench.validator.keys().cloned(), None).expect("a validator");
        assert_ne!(other.id(), bench.validator.id());
        let verdict = judge(&other, &bench.cache, &token, Now::read()).await;
        assert_eq!(verdict.is_ok(), index == 3);
    }
    // Same settings, same verdicts: from a second worker's empty first level too.
    let same = Validator::new(settings(), bench.validator.keys().cloned(), None).expect("a validator");
    let before = bench.shared.stats();
    assert_eq!(judge(&same, &bench.shared.local(), &token, Now::read()).await, Ok(()));
    assert_eq!(bench.shared.stats().signatures, before.signatures);
}

#[tokio::test]
async fn explanations_name_the_claims_and_never_the_token() {
    // T17, L1, L2
    let key = TestKey::new(Algorithm::ES256, "k\r\n1");
    let bench = Bench::new(&[&key]).await;
    let token = key.mint(&bench.claims(json!({"iss": "https://evil\u{1b}[2J", "aud": ["a\n", "b"]})));
    let now = Now::read();
    assert_eq!(bench.judge(&token).await, Err(Reason::IssuerNotAllowed));
    let text = explain::explain(&bench.validator, Reason::IssuerNotAllowed, token.as_bytes(), now);
    assert!(text.contains("invalid issuer (\"https://evil\\u{1b}[2J\")") && text.contains(&bench.issuer.url), "{text}");
    let all = [
        Reason::TokenExpired,
        Reason::SignatureInvalid,
        Reason::KidUnknown,
        Reason::TypNotAllowed,
        Reason::ScopeMissing,
    ];
    for reason in all {
        let text = explain::explain(&bench.validator, reason, token.as_bytes(), now);
        assert!(!text.chars().any(char::is_control), "{text}");
        assert!(token.split('.').all(|part| !text.contains(part)), "{text}");
    }
    assert!(explain::explain(&bench.validator, Reason::TokenMalformed, b"a\r\nb", now).starts_with("token of 4 bytes"));
}

#[tokio::test]
async fn signature_and_claims_can_be_switched_off_by_name() {
    let (key, stranger) = (TestKey::new(Algorithm::ES256, "k1"), TestKey::new(Algorithm::ES256, "k2"));
    let unsigned = Bench::with(&[&key], Settings { verify_signature: false, ..settings() }, policy()).await;
    assert_eq!(unsigned.judge(&key_token(&unsigned, &stranger)).await, Ok(()));
    let expired = stranger.mint(&unsigned.claims(json!({"exp": 1})));
    assert_eq!(unsigned.judge(&expired).await, Err(Reason::TokenExpired));
    let untimed = Bench::with(&[&key], Settings { verify_claims: false, ..settings() }, policy()).await;
    assert_eq!(untimed.judge(&key.mint(&untimed.claims(json!({"exp": null, "iss": null})))).await, Ok(()));
    assert_eq!(untimed.judge(&key_token(&untimed, &stranger)).await, Err(Reason::KidUnknown));
    // A list of issuers holds even then.
    let listed = Settings { verify_claims: false, issuers: Issuers::Listed(vec!["https://a".into()]), ..settings() };
    let listed = Bench::with(&[&key], listed, policy()).await;
    assert_eq!(listed.judge(&key_token(&listed, &key)).await, Err(Reason::IssuerNotAllowed));
    assert_eq!(listed.judge(&key.mint(&claims("https://a", json!({"exp": null})))).await, Ok(()));
}

#[tokio::test]
async fn secrets_alone_need_no_source() {
    let secret_only = Settings {
        issuers: Issuers::Listed(vec!["https://a".into()]),
        algorithms: vec![Algorithm::HS256],
        hs_secrets: vec![b"one".to_vec(), b"two".to_vec()],
        ..settings()
    };
    let validator = Validator::new(secret_only, None, None).expect("a validator");
    let cache = cache::VerdictCache::new(1 << 20).local();
    for (secret, expected) in [("two", Ok(())), ("three", Err(Reason::SignatureInvalid))] {
        let key = TestKey { kid: "s".into(), algorithm: Algorithm::HS256, pkcs8: secret.into() };
        for _ in 0..3 {
            assert_eq!(
                judge(&validator, &cache, &key.mint(&claims("https://a", json!({}))), Now::read()).await,
                expected
            );
        }
    }
}
