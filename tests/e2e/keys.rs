//! Keys of issuers over sockets: outages, rotation, floods (security properties, 5).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use edge_tests::edge::{READY, Setup, free_address};
use edge_tests::issuer::{Fault, Issuer};
use edge_tests::mint::{self, Key, with};
use edge_tests::upstream::Upstream;
use edge_tests::wire::Client;
use serde_json::json;

use super::{AUDIENCE, Guarded, bearer, guarded, plus, with_token};

/// Asks until this status comes, at most for a while.
fn until(edge: &edge_tests::edge::Edge, token: &str, status: u16) {
    let end = Instant::now() + READY;
    loop {
        let answer = edge.ask(with_token(token));
        if answer.status() == status {
            return;
        }
        assert!(Instant::now() < end, "still {} instead of {status}", answer.start);
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn an_issuer_that_is_down_at_start_is_503_until_it_is_up() {
    // K7, S0.7
    let (upstream, key, address) = (Upstream::start(), Key::es256("k"), free_address());
    let url = format!("http://{address}");
    let edge = Setup::new(guarded(&upstream.url(), bearer(&url))).section("[timeouts]\nkey_wait = 500").start();
    let token = key.token(&mint::claims(&url, AUDIENCE));
    let answer = edge.ask(with_token(&token));
    assert_eq!(answer.status(), 503);
    assert!(answer.field("retry-after").is_some_and(|value| value.parse::<u32>().is_ok_and(|seconds| seconds > 0)));
    assert_eq!(edge.reason_of(&answer), "keys_unavailable");
    edge.logged("could not get jwks");
    // Without a token the issuer is not needed for the answer.
    assert_eq!(edge.ask(edge_tests::wire::get("/", &[])).status(), 401);
    assert!(upstream.requests().is_empty());
    let _issuer = Issuer::at(address, &[&key]);
    until(&edge, &token, 200);
}

#[test]
fn every_fault_of_the_issuer_is_503_and_passes_over() {
    // K2, K5, K8
    for fault in [
        Fault::Status(500),
        Fault::Status(404),
        Fault::Html,
        Fault::Truncated,
        Fault::NoKeys,
        Fault::UnknownTypes,
        Fault::Close,
        Fault::OtherIssuer,
        Fault::Huge(100 << 20),
        Fault::Redirect("http://127.0.0.1:1/jwks".into()),
    ] {
        let (upstream, key) = (Upstream::start(), Key::es256("k"));
        let issuer = Issuer::start(&[&key]);
        issuer.fail(fault.clone());
        let edge =
            Setup::new(guarded(&upstream.url(), bearer(&issuer.url()))).section("[timeouts]\nkey_wait = 1000").start();
        let token = key.token(&mint::claims(&issuer.url(), AUDIENCE));
        let answer = edge.ask(with_token(&token));
        assert_eq!(answer.status(), 503, "{fault:?}");
        assert!(upstream.requests().is_empty(), "{fault:?}");
        issuer.recover();
        until(&edge, &token, 200);
    }
}

#[test]
fn the_last_good_keys_outlive_an_outage() {
    // K5, and over a restart of the issuer's troubles: the verdict cache has no part in it.
    let good = Guarded::with(json!({"rediscovery_lifetime": 1}), |setup| setup.section("[verdicts]\ncache_bytes = 0"));
    assert_eq!(good.edge.ask(with_token(&good.token())).status(), 200);
    let stranger = Key::es256("unknown");
    for fault in [Fault::Status(500), Fault::Html, Fault::Truncated, Fault::NoKeys, Fault::UnknownTypes, Fault::Close] {
        good.issuer.fail(fault.clone());
        // An unknown kid asks the issuer again.
        let answer = good.edge.ask(with_token(&stranger.token(&good.claims())));
        assert!(matches!(answer.status(), 401 | 503), "{fault:?}: {}", answer.start);
        assert_eq!(good.edge.ask(with_token(&good.token())).status(), 200, "{fault:?}");
    }
}

#[test]
fn keys_survive_a_restart_while_the_issuer_is_down() {
    // Design 3: the last good keys are on disk as well.
    let (upstream, key) = (Upstream::start(), Key::es256("k"));
    let store = tempfile::tempdir().unwrap();
    let section = format!("[store]\npath = \"{}\"\n[timeouts]\nkey_wait = 500", store.path().join("edge.db").display());
    let address = free_address();
    let url = format!("http://{address}");
    let setup = || Setup::new(guarded(&upstream.url(), bearer(&url))).section(&section);
    let token = key.token(&mint::claims(&url, AUDIENCE));
    let issuer = Issuer::at(address, &[&key]);
    let edge = setup().start();
    until(&edge, &token, 200);
    // They are written after they are in use.
    let stored = || {
        let file = |name| std::fs::read(store.path().join(name)).unwrap_or_default();
        [file("edge.db"), file("edge.db-wal")].concat().windows(9).any(|window| window == b"\"jwks_uri")
    };
    crate::introspection::wait(stored, "the keys to be stored");
    edge.stop();
    issuer.fail(Fault::Close);
    let edge = setup().start();
    until(&edge, &token, 200);
    assert_eq!(edge.ask(with_token(&mint::flip(&token))).status(), 401);
}

#[test]
fn a_rotation_in_mid_traffic_refuses_no_good_token() {
    // K4: first with overlap, then the old key is withdrawn.
    let good = Guarded::with(json!({"rediscovery_lifetime": 1}), |setup| setup);
    let next = Key::es256("es-2");
    let (stop, sent, wrong) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let ask = |key: &Key| {
        let mut client = Client::connect(good.edge.address());
        let mut number = 0;
        while !stop.load(Ordering::Relaxed) {
            number += 1;
            // Fresh tokens: a verdict cache would hide what is asked here.
            let token = key.token(&with(good.claims(), json!({"jti": format!("{}-{number}", key.kid())})));
            let answer = client.ask(with_token(&token));
            sent.fetch_add(1, Ordering::Relaxed);
            if answer.status() != 200 {
                wrong.fetch_add(1, Ordering::Relaxed);
            }
            if answer.says_close() {
                client = Client::connect(good.edge.address());
            }
        }
    };
    let reach = |count: usize| {
        while sent.load(Ordering::Relaxed) < count {
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| ask(&good.key));
        reach(200);
        good.issuer.rotate(&[&next, &good.key]);
        scope.spawn(|| ask(&next));
        scope.spawn(|| ask(&next));
        reach(2000);
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(wrong.load(Ordering::Relaxed), 0, "of {} requests", sent.load(Ordering::Relaxed));

    // After the removal tokens of the old key end, cached verdicts included.
    let old = good.token();
    assert_eq!(good.edge.ask(with_token(&old)).status(), 200);
    good.issuer.rotate(&[&next]);
    let end = Instant::now() + READY;
    loop {
        // Something unknown makes the edge look again.
        good.edge.ask(with_token(&Key::es256("nobody").token(&good.claims())));
        if good.edge.ask(with_token(&old)).status() == 401 {
            break;
        }
        assert!(Instant::now() < end, "tokens of a withdrawn key still pass");
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(good.edge.ask(with_token(&next.token(&good.claims()))).status(), 200);
}

#[test]
fn a_flood_of_unknown_kids_asks_the_issuer_a_few_times() {
    // K3: at most a burst of three, and no kid of the flood is unusable later.
    let good = Guarded::with(json!({"rediscovery_lifetime": 30}), |setup| setup);
    assert_eq!(good.edge.ask(with_token(&good.token())).status(), 200);
    let before = good.issuer.key_fetches();
    let claims = good.claims();
    let forger = Key::es256("forger");
    let token = |kid: String| forger.sign(&with(forger.header(), json!({"kid": kid})), &claims);
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let (good, token) = (&good, &token);
            scope.spawn(move || {
                let mut client = Client::connect(good.edge.address());
                for number in 0..250 {
                    let answer = client.ask(with_token(&token(format!("kid-{worker}-{number}"))));
                    assert_eq!(answer.status(), 401);
                    if answer.says_close() {
                        client = Client::connect(good.edge.address());
                    }
                }
            });
        }
    });
    let fetches = good.issuer.key_fetches() - before;
    assert!(fetches <= 4, "1000 unknown kids caused {fetches} fetches");
    assert_eq!(good.edge.ask(with_token(&good.token())).status(), 200);
    assert!(good.upstream.requests().len() == 2);
}

#[test]
fn a_kid_that_was_unknown_is_usable_once_it_is_published() {
    // K3
    let good = Guarded::with(json!({"rediscovery_lifetime": 1}), |setup| setup);
    assert_eq!(good.edge.ask(with_token(&good.token())).status(), 200);
    let next = Key::es256("es-next");
    assert_eq!(good.edge.ask(with_token(&next.token(&good.claims()))).status(), 401);
    good.issuer.rotate(&[&good.key, &next]);
    until(&good.edge, &next.token(&good.claims()), 200);
}

#[test]
fn one_unusable_key_does_not_disable_the_others() {
    // K6, T7, T9, T10
    let good = Guarded::start();
    let mut document = mint::jwks(&[&good.key]);
    let keys = document["keys"].as_array_mut().unwrap();
    let spoilt = |changes: serde_json::Value| with(Key::es256("x").jwk(), changes);
    keys.insert(0, json!({"kty": "XYZ"}));
    keys.insert(0, json!("not even an object"));
    keys.insert(0, spoilt(json!({"kid": "off-curve", "x": mint::encode(&[1; 32]), "y": mint::encode(&[2; 32])})));
    keys.insert(0, json!({"kty": "RSA", "kid": "small", "alg": "RS256", "n": mint::encode(&[0xc1; 128]), "e": "AQAB"}));
    let (wrong_use, wrong_ops) = (Key::es256("enc"), Key::es256("ops"));
    keys.insert(0, with(wrong_use.jwk(), json!({"use": "enc"})));
    keys.insert(0, with(wrong_ops.jwk(), json!({"key_ops": ["sign"]})));
    good.issuer.publish(document);
    assert_eq!(good.edge.ask(with_token(&good.token())).status(), 200);
    for key in [wrong_use, wrong_ops] {
        assert_eq!(good.edge.ask(with_token(&key.token(&good.claims()))).status(), 401, "{}", key.kid());
    }
    // By then the set has been fetched, whatever came first at the start.
    for kid in ["small", "off-curve"] {
        let line = good.edge.logged(kid);
        assert!(line.contains("a key of the jwks is not used"), "{line}");
    }
}

#[test]
fn concurrent_first_requests_share_one_fetch() {
    let good = Guarded::start();
    good.issuer.fail(Fault::Slow(Duration::from_millis(200)));
    let token = Arc::new(good.token());
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| assert_eq!(good.edge.ask(with_token(&token)).status(), 200));
        }
    });
    assert_eq!(good.issuer.key_fetches(), 1);
}

#[test]
fn keys_come_from_configured_places_alone() {
    // K1: a redirect to another place is not followed; a pseudo issuer is never discovered.
    let (upstream, key) = (Upstream::start(), Key::es256("k"));
    let issuer = Issuer::start(&[&key]);
    let elsewhere = Issuer::start(&[&key]);
    issuer.fail(Fault::Redirect(format!("{}/jwks", elsewhere.url())));
    let edge =
        Setup::new(guarded(&upstream.url(), bearer(&issuer.url()))).section("[timeouts]\nkey_wait = 1000").start();
    let token = key.token(&mint::claims(&issuer.url(), AUDIENCE));
    assert_eq!(edge.ask(with_token(&token)).status(), 503);
    assert_eq!(elsewhere.key_fetches(), 0);

    let name = "https://pseudo.example/realm";
    let config =
        plus(bearer(name), json!({"using_pseudo_issuer": true, "jwks_endpoint": format!("{}/jwks", elsewhere.url())}));
    let edge = Setup::new(guarded(&upstream.url(), config)).start();
    assert_eq!(edge.ask(with_token(&key.token(&mint::claims(name, AUDIENCE)))).status(), 200);
    assert_eq!(elsewhere.hits("/.well-known/openid-configuration"), 0);
    let other = key.token(&mint::claims(&elsewhere.url(), AUDIENCE));
    assert_eq!(edge.ask(with_token(&other)).status(), 401);
}
