//! Key sets of the tokens that the edge signs, over sockets (security properties, 7: R1, R5).

use std::time::{Duration, Instant};

use edge_tests::edge::{Edge, READY, Setup};
use edge_tests::issuer::{Fault, Issuer};
use edge_tests::mint::{self, Key, decode, open, with};
use edge_tests::upstream::Upstream;
use edge_tests::wire::{Client, Message};
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use serde_json::{Value, json};

use super::{AUDIENCE, entities, plus, with_token};

const SECRETS_KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
/// Long enough for a few requests, short enough to wait for.
const AHEAD: &str = "[secrets]\nkey_file = \"node.key\"\n[key_sets]\npublish_ahead = 3\n";

/// An edge that verifies an issuer's tokens and signs ES256 ones of its own.
struct Signing {
    edge: Edge,
    upstream: Upstream,
    token: String,
    _issuer: Issuer,
}

impl Signing {
    fn start(config: Value, sections: &str) -> Self {
        let (upstream, key) = (Upstream::start(), Key::es256("client"));
        let issuer = Issuer::start(&[&key]);
        let known = json!({"access_token_jwks_uri": format!("{}/jwks", issuer.url()), "channel_token_optional": true,
            "access_token_signing_algorithm": "ES256"});
        let plugins = json!([{"name": "jwt-signer", "config": plus(known, config)}]);
        let routes = json!([{"name": "all", "paths": ["/"], "strip_path": false, "plugins": plugins}]);
        let setup = Setup::new(entities(&upstream.url(), routes)).file("node.key", SECRETS_KEY).section(sections);
        let token = key.token(&mint::claims(&issuer.url(), AUDIENCE));
        Self { edge: setup.start(), upstream, token, _issuer: issuer }
    }

    /// The token that the upstream gets for the client's.
    fn signed(&self, edge: &Edge) -> String {
        let answer = edge.ask(with_token(&self.token));
        assert_eq!(answer.status(), 200, "{}\n{}", answer.text(), edge.errors().text());
        let last = self.upstream.last();
        let sent = last.field("authorization").and_then(|value| value.strip_prefix("Bearer ")).expect("a token");
        assert_ne!(sent, self.token);
        sent.to_owned()
    }
}

fn kid(token: &str) -> Value {
    open(token).0["kid"].clone()
}

/// Whether the key that a token names stands in this list and verifies it.
fn verifies(token: &str, keys: &Value) -> bool {
    let Some(key) = keys.as_array().expect("keys").iter().find(|key| key["kid"] == kid(token)) else { return false };
    let member = |name: &str| decode(key[name].as_str().expect("a member"));
    let point = [&[4], &member("x")[..], &member("y")].concat();
    let (signed, signature) = token.rsplit_once('.').expect("three parts");
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(signed.as_bytes(), &decode(signature)).is_ok()
}

fn admin(edge: &Edge, method: &str, path: &str) -> Message {
    let mut client = Client::connect(edge.admin());
    client.send(format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
    client.response()
}

#[test]
fn a_set_outlives_the_process_and_no_rotation_costs_a_token() {
    // R1, R5, S2.6, S2.11
    let signing = Signing::start(json!({}), AHEAD);
    let edge = &signing.edge;
    let first = signing.signed(edge);
    let set = edge.admin_get("/jwt-signer/jwks/kong");
    assert_eq!((set.status(), set.field("content-type")), (200, Some("application/jwk-set+json")));
    let set = set.json();
    assert!(verifies(&first, &set["keys"]) && set["previous"] == json!([]), "{set}");
    let listed = edge.admin_get("/jwt-signer/jwks").json();
    assert!(listed["data"].as_array().unwrap().iter().any(|one| one["name"] == "kong" && one["keys"] == set["keys"]));
    for private in ["\"d\"", "\"p\"", "\"q\"", "\"dp\"", "\"dq\"", "\"qi\"", "\"oth\"", "\"k\""] {
        assert!(!listed.to_string().contains(private), "{private}");
    }
    edge.logged("key set kong generated: the store's file is new");
    // Published, and not signing yet; then by itself, while everything ever sent still verifies.
    let rotated = admin(edge, "POST", "/jwt-signer/jwks/kong/rotate").json();
    assert_eq!(rotated["previous"], set["keys"]);
    assert_eq!(kid(&signing.signed(edge)), kid(&first));
    let next = edge.upgrade().expect("the next generation");
    assert_eq!(next.admin_get("/jwt-signer/jwks/kong").json(), rotated, "the same set, before anybody signs");
    let end = Instant::now() + READY;
    let second = loop {
        let token = signing.signed(&next);
        let published = next.admin_get("/jwt-signer/jwks/kong?all=true").json();
        assert!(verifies(&token, &published["keys"]) && verifies(&first, &published["keys"]), "{published}");
        if kid(&token) != kid(&first) {
            break token;
        }
        assert!(Instant::now() < end, "the new keys never sign");
        std::thread::sleep(Duration::from_millis(100));
    };
    assert!(verifies(&second, &rotated["keys"]));
    // A second rotation forgets the first keys; a deleted set is another at its next use.
    assert_eq!(admin(&next, "POST", "/jwt-signer/jwks/kong/rotate").status(), 200);
    assert!(!verifies(&first, &next.admin_get("/jwt-signer/jwks/kong?all=true").json()["keys"]));
    assert_eq!(admin(&next, "DELETE", "/jwt-signer/jwks/kong").status(), 204);
    assert_eq!(admin(&next, "DELETE", "/jwt-signer/jwks/kong").status(), 404);
    let third = signing.signed(&next);
    assert!(kid(&third) != kid(&second) && verifies(&third, &next.admin_get("/jwt-signer/jwks/kong").json()["keys"]));
}

#[test]
fn another_secrets_key_signs_nothing_and_replaces_nothing() {
    // A8
    let mut signing = Signing::start(json!({}), AHEAD);
    let first = signing.signed(&signing.edge);
    std::fs::write(signing.edge.path("node.key"), SECRETS_KEY.replace('0', "f")).unwrap();
    let mut next = signing.edge.upgrade().expect("the next generation");
    // Until it ended the generation before may take a connection.
    assert!(signing.edge.ends_within(READY).is_some());
    let answer = next.ask(with_token(&signing.token));
    assert_eq!((answer.status(), answer.json()["message"].as_str()), (500, Some("An unexpected error occurred")));
    next.logged("do not open under the node's secrets key");
    assert_eq!(next.admin_get("/jwt-signer/jwks/kong").status(), 500);
    std::fs::write(next.path("node.key"), SECRETS_KEY).unwrap();
    let last = next.upgrade().expect("one more generation");
    assert!(next.ends_within(READY).is_some());
    assert_eq!(kid(&signing.signed(&last)), kid(&first));
}

#[test]
fn a_set_behind_a_url_is_asked_at_first_use_and_at_rotation() {
    // S2.11: down at the start and at a rotation.
    let owner = Issuer::start(&[]);
    let url = format!("{}/jwks", owner.url());
    let private = json!({"kty": "EC", "crv": "P-256", "kid": "owner-1", "alg": "ES256",
        "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4", "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
        "d": "870MB6gfuTJ4HtUnUvYMyJpr5eUZNP4Bk43bVdj3eAE"});
    owner.fail(Fault::Status(500));
    let signing = Signing::start(json!({"access_token_keyset": url}), "");
    let edge = &signing.edge;
    assert_eq!(edge.ask(with_token(&signing.token)).status(), 500);
    edge.logged("key set cannot be had");
    owner.recover();
    owner.publish(json!({"keys": [private]}));
    let end = Instant::now() + READY;
    while edge.ask(with_token(&signing.token)).status() != 200 {
        assert!(Instant::now() < end, "never fetched");
        std::thread::sleep(Duration::from_millis(100));
    }
    let path = format!("/jwt-signer/jwks/{}", url.replace(':', "%3A").replace('/', "%2F"));
    let set = edge.admin_get(&path).json();
    assert!(verifies(&signing.signed(edge), &set["keys"]) && !set.to_string().contains("\"d\""), "{set}");
    owner.fail(Fault::Status(500));
    assert_eq!(admin(edge, "POST", &format!("{path}/rotate")).status(), 500);
    assert_eq!(kid(&signing.signed(edge)), "owner-1");
    owner.recover();
    owner.publish(json!({"keys": [with(private, json!({"kid": "owner-2"}))]}));
    let rotated = admin(edge, "POST", &format!("{path}/rotate")).json();
    assert_eq!((&rotated["keys"][0]["kid"], &rotated["previous"][0]["kid"]), (&json!("owner-2"), &json!("owner-1")));
    let store = std::fs::read(edge.path("edge.db")).unwrap();
    assert!(!store.windows(7).any(|window| window == b"owner-1"), "nothing of it is written down");
}
