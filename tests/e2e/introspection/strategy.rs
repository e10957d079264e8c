//! Which tokens are introspected: opaque ones, signed ones too, or signed ones after their keys.

use edge_tests::edge::Setup;
use edge_tests::issuer::{Fault, Issuer};
use edge_tests::mint::{self, Key, flip, now, with};
use edge_tests::upstream::Upstream;
use serde_json::{Value, json};

use super::{active, asking, wait};
use crate::{AUDIENCE, guarded, plus, with_token};

struct Signed {
    edge: edge_tests::edge::Edge,
    upstream: Upstream,
    issuer: Issuer,
    key: Key,
}

impl Signed {
    fn with(config: Value) -> Self {
        let (upstream, key) = (Upstream::start(), Key::es256("es-1"));
        let issuer = Issuer::start(&[&key]);
        let edge = Setup::new(guarded(&upstream.url(), plus(asking(&issuer.url()), config))).start();
        Self { edge, upstream, issuer, key }
    }

    fn token(&self, changes: Value) -> String {
        self.key.token(&with(mint::claims(&self.issuer.url(), AUDIENCE), changes))
    }

    fn ask(&self, token: &str) -> u16 {
        self.edge.ask(with_token(token)).status()
    }

    /// As `ask`, with the reason in the access log.
    fn ask_why(&self, token: &str) -> (u16, String) {
        let answer = self.edge.ask(with_token(token));
        (answer.status(), self.edge.reason_of(&answer))
    }
}

#[test]
fn a_signed_token_is_introspected_where_only_introspection_is_enabled() {
    // S3.5: like an opaque one, whoever signed it.
    let signed = Signed::with(json!({}));
    let foreign = Key::es256("foreign").token(&mint::claims("https://foreign.example", AUDIENCE));
    signed.issuer.know(&foreign, active());
    assert_eq!(signed.ask(&foreign), 200);
    assert_eq!(signed.issuer.introspections(&foreign), 1);
    let unknown = signed.token(json!({}));
    assert_eq!(signed.ask_why(&unknown), (401, "token_inactive".into()));
    assert_eq!(signed.issuer.introspections(&unknown), 1);
}

#[test]
fn a_bound_token_is_no_bearer_token_whoever_says_that_it_is_bound() {
    // S5: the token, or the issuer's answer.
    let cnf = json!({"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"});
    let both = json!({"auth_methods": ["bearer", "introspection"], "introspect_jwt_tokens": true});
    for (config, claims, answer) in [
        (json!({}), json!({"cnf": cnf}), json!({})),
        (json!({}), json!({}), json!({"cnf": cnf})),
        (both.clone(), json!({"cnf": cnf}), json!({})),
        (both, json!({}), json!({"cnf": cnf})),
    ] {
        let signed = Signed::with(config);
        let token = signed.token(claims.clone());
        signed.issuer.know(&token, plus(active(), answer.clone()));
        assert_eq!(signed.ask_why(&token), (401, "token_bound".into()), "{claims} {answer}");
        let free = signed.token(json!({"jti": "free"}));
        signed.issuer.know(&free, active());
        assert_eq!(signed.ask(&free), 200);
    }
}

#[test]
fn what_a_signed_token_says_it_is_counts_without_its_keys() {
    // T25, S0.14: the issuer's `active` makes neither an ID token nor a logout token an access token.
    let signed = Signed::with(json!({}));
    let claims = with(mint::claims(&signed.issuer.url(), AUDIENCE), json!({"nonce": "n"}));
    for (typ, reason) in [("JWT", "id_token_used"), ("logout+jwt", "typ_not_allowed"), ("dpop+jwt", "typ_not_allowed")]
    {
        let token = signed.key.sign(&with(signed.key.header(), json!({"typ": typ})), &claims);
        signed.issuer.know(&token, active());
        assert_eq!(signed.ask_why(&token), (401, reason.into()), "{typ}");
    }
    assert!(signed.upstream.requests().is_empty());
    let switched = Signed::with(json!({"id_tokens_refused": false}));
    let token = switched.key.sign(&with(switched.key.header(), json!({"typ": "JWT"})), &claims);
    switched.issuer.know(&token, active());
    assert_eq!(switched.ask(&token), 200);
}

#[test]
fn keys_then_introspection_sees_a_revocation() {
    // A bad signature never costs a question; a good one is asked about, and what the issuer revokes ends in time.
    let config =
        json!({"auth_methods": ["bearer", "introspection"], "introspect_jwt_tokens": true, "cache_ttl_max": 1});
    let signed = Signed::with(config);
    let good = signed.token(json!({}));
    signed.issuer.know(&good, plus(active(), json!({"exp": now() + 600})));
    assert_eq!(signed.ask(&good), 200);
    assert_eq!(signed.ask(&good), 200);
    assert_eq!(signed.issuer.introspections(&good), 1);

    let (bad, expired) = (flip(&good), signed.token(json!({"exp": now() - 60})));
    signed.issuer.know(&bad, active());
    signed.issuer.know(&expired, active());
    assert_eq!(signed.ask(&bad), 401);
    assert_eq!(signed.ask(&expired), 401);
    assert_eq!((signed.issuer.introspections(&bad), signed.issuer.introspections(&expired)), (0, 0));

    let never = signed.token(json!({"jti": "never"}));
    assert_eq!(signed.ask_why(&never), (401, "token_inactive".into()));

    signed.issuer.forget(&good);
    let began = std::time::Instant::now();
    wait(|| signed.ask(&good) == 401, "the revocation to be seen");
    assert!(began.elapsed() < std::time::Duration::from_millis(1900), "{:?}", began.elapsed());

    // An opaque token takes the same way without the keys.
    signed.issuer.know("opaque", active());
    assert_eq!(signed.ask("opaque"), 200);

    // The issuer fails: the signature alone is not enough.
    signed.issuer.fail_at("/introspect", Fault::Status(500));
    let fresh = signed.token(json!({"jti": "fresh"}));
    assert_eq!(signed.ask_why(&fresh), (503, "introspection_failed".into()));
}

#[test]
fn keys_alone_ask_no_issuer() {
    // `introspect_jwt_tokens` is false by default.
    let signed = Signed::with(json!({"auth_methods": ["bearer", "introspection"]}));
    let good = signed.token(json!({}));
    assert_eq!(signed.ask(&good), 200);
    assert_eq!(signed.issuer.hits("/introspect"), 0);
    signed.issuer.know("opaque", active());
    assert_eq!(signed.ask("opaque"), 200);
    assert_eq!(signed.issuer.hits("/introspect"), 1);
    assert_eq!(signed.upstream.requests().len(), 2);
    // One that looks like a token and is none is not sent around.
    let odd = format!("{}.e30.AA", mint::encode(b"{\"alg\":\"ES256\",\"kid\":\"es-1\"}"));
    assert_eq!(signed.ask(&odd), 401);
}

#[test]
fn both_must_agree_where_both_are_asked() {
    // What the answer says is checked beside what the token says: neither can widen the other's end.
    let config = json!({"auth_methods": ["bearer", "introspection"], "introspect_jwt_tokens": true});
    let signed = Signed::with(config);
    let (long, short) = (signed.token(json!({"jti": "long"})), signed.token(json!({"jti": "short", "exp": now() + 2})));
    signed.issuer.know(&long, plus(active(), json!({"exp": now() - 60})));
    signed.issuer.know(&short, plus(active(), json!({"exp": now() + 600})));
    assert_eq!(signed.ask(&long), 401);
    assert_eq!(signed.ask(&short), 200);
    wait(|| signed.ask(&short) == 401, "the end of the token");
}
