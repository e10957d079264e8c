use serde_json::{Value, json};

use super::super::fetched::parse;
use super::*;
use crate::http_client::Options;
use crate::token::keys::KeySources;
use crate::token::testing::{TestIssuer, TestKey, policy, sources};

const SECRET: &str = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";

/// RFC 7515, A.3, RFC 8037, A.1, and A.1 of the first.
fn ec(kid: &str) -> Value {
    json!({"kty": "EC", "crv": "P-256", "kid": kid, "alg": "ES256", "use": "sig",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
        "d": "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"})
}

fn other_ec(kid: &str) -> Value {
    json!({"kty": "EC", "crv": "P-256", "kid": kid, "alg": "ES256", "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
        "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM", "d": "870MB6gfuTJ4HtUnUvYMyJpr5eUZNP4Bk43bVdj3eAE"})
}

fn ed(kid: &str) -> Value {
    json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "alg": "EdDSA", "d": "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A",
        "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"})
}

fn oct(kid: &str) -> Value {
    json!({"kty": "oct", "kid": kid, "alg": "HS256", "k": SECRET})
}

fn with(mut jwk: Value, name: &str, value: Value) -> Value {
    jwk[name] = value;
    jwk
}

fn without(mut jwk: Value, name: &str) -> Value {
    jwk.as_object_mut().expect("an object").remove(name);
    jwk
}

fn jwks(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

fn at(sets: &Arc<KeySets>, url: &str, rotate_period: Option<Duration>) -> Arc<KeySet> {
    let options = Options { timeout: Duration::from_secs(2), ..Options::default() };
    sets.set(SetSettings { origin: Origin::Fetched { url: url.into(), options }, rotate_period })
}

#[test]
fn only_keys_that_can_sign_are_taken() {
    let long = "A".repeat(86);
    for (jwk, expected) in [
        (ec("a"), Ok("a")),
        (without(ec("a"), "kid"), Ok("oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U")),
        (without(ec("a"), "use"), Ok("a")),
        (with(ec("a"), "key_ops", json!(["sign", "verify"])), Ok("a")),
        (ed("b"), Ok("b")),
        (oct("c"), Ok("c")),
        (with(oct("c"), "alg", json!("HS512")), Ok("c")),
        (with(ec("a"), "use", json!("enc")), Err("not to sign")),
        (with(ec("a"), "key_ops", json!(["verify"])), Err("not to sign")),
        (with(ec("a"), "key_ops", json!("sign")), Err("not to sign")),
        (without(ec("a"), "alg"), Err("no `alg`")),
        (with(ec("a"), "alg", json!("RS384")), Err("no `alg`")),
        (with(ec("a"), "alg", json!("none")), Err("no `alg`")),
        (with(ec("a"), "alg", json!("ES384")), Err("malformed")),
        (with(ec("a"), "alg", json!("HS256")), Err("malformed")),
        (without(ec("a"), "d"), Err("malformed")),
        (with(ec("a"), "d", other_ec("a")["d"].clone()), Err("malformed")),
        (without(oct("c"), "kid"), Err("without `kid`")),
        (without(oct("c"), "k"), Err("malformed")),
        (with(oct("c"), "k", json!("c2hvcnQ")), Err("fewer than")),
        (with(oct("c"), "k", json!(long + "!")), Err("malformed")),
        (with(oct("c"), "alg", json!("ES256")), Err("malformed")),
        (json!("a"), Err("not a JWK")),
    ] {
        let mut said = String::new();
        let set = jwks(&[jwk.clone(), ed("last")]);
        let parsed = parse(set.as_bytes(), |_, error| said.push_str(&error.to_string()));
        let keys = parsed.expect("the other key").keys;
        match expected {
            Ok(kid) => assert_eq!((keys.len(), keys[0].kid(), said.as_str()), (2, kid, ""), "{jwk}"),
            Err(reason) => assert!(keys.len() == 1 && said.contains(reason), "{jwk}: {said}"),
        }
    }
}

#[test]
fn what_is_no_set_of_keys_that_sign_is_an_error() {
    for (body, expected) in [
        ("", "not a JWK set"),
        ("<html>", "not a JWK set"),
        ("[]", "not a JWK set"),
        (r#"{"keys":{}}"#, "not a JWK set"),
        (r#"{"keys":[]}"#, "no key of the set can sign"),
        (&jwks(&[without(ec("a"), "d")]), "no key of the set can sign"),
        (&jwks(&vec![ec("a"); 101]), "101 keys, more than 100"),
    ] {
        let error = parse(body.as_bytes(), |_, _| {}).err().expect("an error").to_string();
        assert!(error.contains(expected), "{body}: {error}");
    }
    assert_eq!(parse(jwks(&vec![ec("a"); 100]).as_bytes(), |_, _| {}).expect("a set").keys.len(), 100);
}

#[tokio::test]
async fn a_url_that_is_down_is_asked_rarely_and_a_good_one_once() {
    let (clock, issuer) = (Clock::new(), TestIssuer::start(&[]).await);
    let sets = in_memory(&clock);
    let url = issuer.page("/private?code=hush");
    let set = at(&sets, &url, None);
    let log = Captured::start();
    issuer.answer("/private?code=hush", 500, "");
    for _ in 0..50 {
        assert_eq!(set.ready(ES256).await.err(), Some(Unavailable::Failed { retry_after_secs: 1 }));
    }
    assert_eq!(sets.list().await, Ok(Vec::new()));
    assert_eq!(sets.rotate(&url, None).await, Ok(None), "it is not there");
    issuer.answer("/private?code=hush", 200, &jwks(&[ec("a"), ed("b"), oct("c")]));
    assert_eq!(set.ready(ES256).await.err(), Some(Unavailable::Failed { retry_after_secs: 1 }));
    assert_eq!(number(&sets, "edge_key_set_fetches_total{result=\"failed\"}"), "1");
    // D5: or at once after the clock was set back.
    clock.advance(-(HOUR.as_millis() as i64));
    for _ in 0..50 {
        assert_eq!(kid(&set.ready(ES256).await.expect("a key")), "a");
    }
    assert_eq!(kid(&set.ready(SigningAlgorithm::HS256).await.expect("a key")), "c");
    assert_eq!(set.ready(SigningAlgorithm::RS256).await.err(), Some(Unavailable::NoKey(SigningAlgorithm::RS256)));
    assert_eq!(number(&sets, "edge_key_set_fetches_total{result=\"good\"}"), "1");
    let log = log.text();
    assert!(
        log.contains("key set cannot be had") && log.contains("of 127.0.0.1") && log.contains("status 500"),
        "{log}"
    );
    assert!(!log.contains("hush"), "{log}");
}

#[tokio::test]
async fn a_rotation_downloads_and_what_fails_leaves_the_last_good_keys() {
    // R5, S2.11
    let (clock, issuer) = (Clock::new(), TestIssuer::start(&[]).await);
    let sets = in_memory(&clock);
    let url = issuer.page("/private");
    let set = at(&sets, &url, Some(HOUR));
    issuer.answer("/private", 200, &jwks(&[ec("a"), oct("c")]));
    set.ready(ES256).await.expect("a key");
    let first = sets.find(&url).await.expect("an answer").expect("a set");
    assert_eq!(sets.find(&first.id.to_string()).await, Ok(Some(first.clone())));
    // The same again is no rotation.
    clock.advance(5000);
    let same = sets.rotate(&url, None).await.expect("an answer").expect("a set");
    assert_eq!((same.keys.clone(), same.previous.clone()), (first.keys.clone(), Vec::new()));
    assert_eq!((same.created_ms, same.updated_ms), (first.created_ms, Some(clock.now_ms())));
    for (status, body) in [(500, ""), (200, "{}"), (200, r#"{"keys":[]}"#)] {
        issuer.answer("/private", status, body);
        assert_eq!(sets.rotate(&url, None).await, Err(NotRotated::Failed(Failed)));
        assert_eq!(sets.find(&url).await, Ok(Some(same.clone())));
    }
    assert_eq!(signs(&set), "a");
    // A secret that changed under its old name is another key.
    let generation = set.generation();
    issuer.answer("/private", 200, &jwks(&[other_ec("b"), with(oct("c"), "k", json!("A".repeat(43)))]));
    let rotated = sets.rotate(&url, None).await.expect("an answer").expect("a set");
    assert_eq!(
        (kids(&rotated.keys), kids(&rotated.previous)),
        (vec!["b".into(), "c".into()], vec!["a".into(), "c".into()])
    );
    assert_eq!((signs(&set), set.generation(), rotated.all().len()), ("a".into(), generation, 3));
    clock.advance(MINUTE_MS);
    looked(&set).await;
    assert_eq!((signs(&set), set.generation()), ("b".into(), generation + 1));
    // By itself, an hour after the last download.
    issuer.answer("/private", 200, &jwks(&[ec("d")]));
    clock.advance(HOUR.as_millis() as i64 - MINUTE_MS);
    looked(&set).await;
    assert_eq!(kids(&sets.find(&url).await.expect("an answer").expect("a set").keys), ["d"]);
    assert_eq!(number(&sets, "edge_key_set_rotations_total{cause=\"periodic\"}"), "1");
    assert_eq!(sets.delete(&url).await, Ok(true));
    assert_eq!(kid(&set.ready(ES256).await.expect("a key")), "d");
    drop(set);
    assert_eq!(sets.list().await, Ok(Vec::new()), "nobody uses it");
}

#[tokio::test]
async fn credentials_serve_one_download_of_a_url() {
    let issuer = TestIssuer::start(&[]).await;
    let sets = in_memory(&Clock::new());
    let url = issuer.page("/private");
    issuer.answer("/private", 200, &jwks(&[ec("a")]));
    let headers = vec![("Authorization".to_owned(), "Basic Y29uZmlndXJlZDp4".to_owned())];
    let options = Options { headers, ..Options::default() };
    let set =
        sets.set(SetSettings { origin: Origin::Fetched { url: url.as_str().into(), options }, rotate_period: None });
    set.ready(ES256).await.expect("a key");
    let credentials = || Some(Credentials { username: "user".into(), password: Zeroizing::new("pass:word".into()) });
    sets.rotate(&url, credentials()).await.expect("an answer").expect("a set");
    sets.rotate(&url, None).await.expect("an answer").expect("a set");
    let sent: Vec<_> = issuer.requests().iter().filter_map(|head| field(head, "authorization")).collect();
    let configured = "Basic Y29uZmlndXJlZDp4".to_owned();
    assert_eq!(sent, [configured.clone(), "Basic dXNlcjpwYXNzOndvcmQ=".to_owned(), configured]);
    named(&sets, "kong").ready(ES256).await.expect("a key");
    assert_eq!(sets.rotate("kong", credentials()).await, Err(NotRotated::Credentials));
}

fn field(head: &str, name: &str) -> Option<String> {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned())
}

#[tokio::test]
async fn keys_that_verify_are_listed_under_their_url_while_they_are_in_use() {
    let key = TestKey::new(jsonwebtoken::Algorithm::ES256, "v1");
    let issuer = TestIssuer::start(&[&key]).await;
    let sources: KeySources = sources(policy(), State::in_memory());
    let source = sources.source(issuer.source());
    let sets = in_memory(&Clock::new());
    let url = issuer.page("/jwks");
    for _ in 0..3 {
        sets.verifying(&url, &source);
    }
    assert_eq!(number(&sets, "edge_key_sets{origin=\"verifying\"}"), "1");
    let before = sets.find(&url).await.expect("an answer").expect("a set");
    assert_eq!((before.keys.len(), before.created_ms), (0, None), "nothing was fetched yet");
    let rotated = sets.rotate(&url, None).await.expect("an answer").expect("a set");
    assert_eq!((kids(&rotated.keys), rotated.previous.len()), (vec!["v1".to_owned()], 0));
    assert_eq!(sets.list().await, Ok(vec![rotated.clone()]));
    assert_eq!(sets.find(&rotated.id.to_string()).await, Ok(Some(rotated)));
    let fetches = issuer.count("/jwks");
    assert_eq!(sets.delete(&url).await, Ok(true));
    until(|| issuer.count("/jwks") > fetches).await;
    issuer.answer("/jwks", 500, "");
    assert_eq!(sets.rotate(&url, None).await, Err(NotRotated::Failed(Failed)));
    let credentials = Credentials { username: "user".into(), password: Zeroizing::new("x".into()) };
    assert_eq!(sets.rotate(&url, Some(credentials)).await, Err(NotRotated::Credentials));
    drop(source);
    assert_eq!(sets.find(&url).await, Ok(None));
}
