//! Tokens of others, or with too little in them, exchanged for the issuer's own (RFC 8693); and Kong's legacy exchange.

use edge_tests::edge::Setup;
use edge_tests::issuer::{Fault, Issuer, error};
use edge_tests::mint::{self, Key, flip, with};
use edge_tests::upstream::Reply;
use edge_tests::wire::{Message, get};
use serde_json::{Value, json};

use super::{AUDIENCE, Flow, SECRET, basic, pairs};
use crate::{guarded, plus};

const GRANT: (&str, &str) = ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange");
const TYPE: (&str, &str) = ("subject_token_type", "urn:ietf:params:oauth:token-type:access_token");

/// An edge that exchanges tokens of another issuer.
struct Foreign {
    flow: Flow,
    other: Issuer,
    key: Key,
}

impl Foreign {
    /// With more about that issuer, and more of `token_exchange`.
    fn start(subject: Value, record: Value) -> Self {
        let key = Key::es256("other-1");
        let other = Issuer::start(&[&key]);
        let subject = plus(json!({"issuer": other.url()}), subject);
        let record = plus(json!({"subject_token_issuers": [subject]}), record);
        Self { flow: Flow::start(json!(["bearer"]), json!({"token_exchange": record})), other, key }
    }

    fn token(&self, changes: Value) -> String {
        self.key.token(&with(mint::claims(&self.other.url(), "api://elsewhere"), changes))
    }

    fn ask(&self, token: &str) -> Message {
        self.flow.ask(&[&format!("Authorization: Bearer {token}")])
    }

    fn reason(&self, token: &str) -> (u16, String) {
        let answer = self.ask(token);
        (answer.status(), self.flow.edge.reason_of(&answer))
    }
}

#[test]
fn a_foreign_token_becomes_one_of_the_issuer() {
    let foreign = Foreign::start(json!({}), json!({}));
    let token = foreign.token(json!({"sub": "carol"}));
    for _ in 0..2 {
        assert_eq!(foreign.ask(&token).status(), 200, "{}", foreign.flow.edge.output());
        assert_eq!(foreign.flow.upstream_subject(), "carol");
        let expected = format!("Bearer {}", foreign.flow.issued());
        assert_eq!(foreign.flow.upstream.last().all("authorization"), [expected.as_str()]);
    }
    assert_eq!(foreign.flow.calls(), 1);
    let expected = [GRANT, ("subject_token", token.as_str()), TYPE, ("scope", "openid")];
    assert_eq!(foreign.flow.form(), pairs(&expected));
    let asked = foreign.flow.issuer.last("/token");
    assert_eq!(asked.field("authorization"), Some(&basic("edge", SECRET)["Authorization: ".len()..]));
    assert_eq!(foreign.other.key_fetches(), 0);
    // T25: only access tokens are exchanged.
    let (header, claims) = mint::open(&foreign.token(json!({"nonce": "n"})));
    let id_token = foreign.key.sign(&with(header, json!({"typ": "JWT"})), &claims);
    assert_eq!(foreign.reason(&id_token), (401, "id_token_used".into()));
    assert_eq!(foreign.flow.calls(), 1);
    // Another caller's is another question.
    assert_eq!(foreign.ask(&foreign.token(json!({"sub": "dave"}))).status(), 200);
    assert_eq!((foreign.flow.upstream_subject().as_str(), foreign.flow.calls()), ("dave", 2));
    // What is over is not shown to anybody, nor what is malformed.
    assert_eq!(foreign.reason(&foreign.token(json!({"exp": 1}))), (401, "token_expired".into()));
    let unlisted = foreign.key.token(&mint::claims("https://unlisted.example", AUDIENCE));
    assert_eq!(foreign.ask(&unlisted).status(), 401);
    // A token of the issuer itself is an ordinary one.
    let own = foreign.flow.key.token(&mint::claims(&foreign.flow.issuer.url(), AUDIENCE));
    assert_eq!(foreign.ask(&own).status(), 200);
    assert_eq!(foreign.flow.upstream.last().field("authorization"), Some(format!("Bearer {own}").as_str()));
    assert_eq!(foreign.flow.calls(), 2);
    foreign.flow.assert_silent(&[&token, &own]);
}

#[test]
fn signatures_are_verified_before_where_that_is_wanted() {
    let jwks = Foreign::start(json!({"verify_signature": true}), json!({}));
    let token = jwks.token(json!({}));
    assert_eq!(jwks.reason(&flip(&token)), (401, "signature_invalid".into()));
    assert_eq!((jwks.flow.calls(), jwks.ask(&token).status(), jwks.flow.calls()), (0, 200, 1));
    assert_eq!(jwks.other.key_fetches(), 1);
    // Where it is not, whether a token is good is the issuer's to say.
    let blind = Foreign::start(json!({}), json!({}));
    blind.flow.issuer.answer("/token", |_| error("invalid_request", "the subject token is not valid"));
    let token = flip(&blind.token(json!({})));
    assert_eq!(blind.reason(&token), (401, "exchange_refused".into()));
    blind.flow.edge.logged("the subject token is not valid");
    assert_eq!(blind.flow.calls(), 1);
    blind.flow.assert_silent(&[&token]);
}

#[test]
fn bound_tokens_are_not_exchanged() {
    // S5: what comes back would be a bearer token.
    for verify in [false, true] {
        let foreign = Foreign::start(json!({"verify_signature": verify}), json!({}));
        for cnf in [json!({"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}), json!({"x5t#S256": "AAAA"})] {
            let token = foreign.token(json!({"cnf": cnf}));
            assert_eq!(foreign.reason(&token), (401, "token_bound".into()), "{cnf}");
        }
        assert_eq!((foreign.flow.calls(), foreign.flow.upstream.requests().len()), (0, 0));
        assert_eq!(foreign.ask(&foreign.token(json!({}))).status(), 200);
    }
}

#[test]
fn the_issuers_own_tokens_are_exchanged_under_conditions() {
    let conditions = json!({"missing_audience": ["api://inner"], "has_scopes": ["orders:read"]});
    let flow = Flow::with(
        json!(["bearer"]),
        |url| json!({"token_exchange": {"subject_token_issuers": [{"issuer": url, "conditions": conditions}]}}),
        json!({}),
    );
    let token = |changes: Value| flow.key.token(&with(mint::claims(&flow.issuer.url(), AUDIENCE), changes));
    let ask = |token: &str| flow.ask(&[&format!("Authorization: Bearer {token}")]).status();
    for (changes, exchanged) in [
        (json!({}), true),
        (json!({"aud": ["api://inner", AUDIENCE]}), false),
        (json!({"scope": "orders:write"}), false),
        (json!({"scope": null}), false),
        (json!({"aud": null}), true),
    ] {
        let (token, calls) = (token(changes.clone()), flow.calls());
        assert_eq!(ask(&token), 200, "{changes}");
        assert_eq!(flow.calls(), calls + usize::from(exchanged), "{changes}");
        let expected = if exchanged { flow.issued() } else { token };
        assert_eq!(flow.upstream.last().field("authorization"), Some(format!("Bearer {expected}").as_str()));
    }
    let calls = flow.calls();
    // Where they do not hold, it is judged as any other.
    assert_eq!(ask(&flip(&token(json!({"scope": "orders:write"})))), 401);
    assert_eq!(ask(&token(json!({"exp": 1}))), 401);
    assert_eq!(flow.calls(), calls);
}

#[test]
fn what_is_asked_for_is_configured() {
    let base = json!({"scopes": ["openid"], "audience": ["api://base"]});
    let two = [("audience", "a"), ("audience", "b")];
    for (request, expected) in [
        (json!({}), vec![("scope", "openid"), ("audience", "api://base")]),
        (json!({"scopes": ["r", "w"], "audience": ["a", "b"]}), [&[("scope", "r w")][..], &two].concat()),
        (json!({"empty_scopes": true}), vec![("audience", "api://base")]),
        (json!({"empty_audience": true}), vec![("scope", "openid")]),
        (json!({"empty_scopes": true, "empty_audience": true}), vec![]),
    ] {
        let key = Key::es256("other-1");
        let record = json!({"subject_token_issuers": [{"issuer": "https://other.example"}], "request": request});
        let flow = Flow::start(json!(["bearer"]), plus(base.clone(), json!({"token_exchange": record})));
        let token = key.token(&mint::claims("https://other.example", "x"));
        assert_eq!(flow.ask(&[&format!("Authorization: Bearer {token}")]).status(), 200);
        let own = [GRANT, ("subject_token", token.as_str()), TYPE];
        assert_eq!(flow.form(), pairs(&[&own[..], &expected].concat()), "{request}");
    }
}

#[test]
fn routes_that_want_other_tokens_do_not_share_them() {
    // R6
    let flow = Flow::start(json!(["bearer"]), json!({}));
    let key = Key::es256("other-1");
    let token = key.token(&mint::claims("https://other.example", "x"));
    let route = |(name, request): (&str, Value)| {
        let record = json!({"subject_token_issuers": [{"issuer": "https://other.example"}], "request": request});
        let config = plus(super::client(&flow.issuer.url(), json!(["bearer"])), json!({"token_exchange": record}));
        json!({"name": name, "paths": [format!("/{name}")], "plugins": [{"name": "openid-connect", "config": config}]})
    };
    let routes: Value =
        [("a", json!({"audience": ["a"]})), ("b", json!({"audience": ["b"]})), ("c", json!({"scopes": ["c"]}))]
            .map(route)
            .into();
    let edge = Setup::new(crate::entities(&flow.upstream.url(), routes)).start();
    for _ in 0..2 {
        for name in ["a", "b", "c"] {
            let answer = edge.ask(get(&format!("/{name}"), &[&format!("Authorization: Bearer {token}")]));
            assert_eq!(answer.status(), 200);
        }
    }
    assert_eq!(flow.calls(), 3);
}

#[test]
fn exchanged_tokens_are_kept_as_told_and_failures_are_not() {
    let off = Foreign::start(json!({}), json!({"cache": {"enabled": false}}));
    let token = off.token(json!({}));
    assert_eq!((off.ask(&token).status(), off.ask(&token).status(), off.flow.calls()), (200, 200, 2));
    let short = Foreign::start(json!({}), json!({"cache": {"ttl": 1}}));
    let token = short.token(json!({}));
    assert_eq!((short.ask(&token).status(), short.flow.calls()), (200, 1));
    crate::introspection::wait(|| short.ask(&token).status() == 200 && short.flow.calls() > 1, "its end");

    let foreign = Foreign::start(json!({}), json!({}));
    let token = foreign.token(json!({}));
    foreign.flow.issuer.fail_at("/token", Fault::InvalidClient);
    let answer = foreign.ask(&token);
    assert_eq!((answer.status(), foreign.flow.edge.reason_of(&answer).as_str()), (503, "exchange_failed"));
    assert!(answer.field("retry-after").is_some());
    foreign.flow.issuer.recover();
    crate::introspection::wait(|| foreign.ask(&token).status() == 200, "recovery");
    // What comes back is judged as any token of the issuer.
    let bad = flip(&foreign.flow.key.token(&mint::claims(&foreign.flow.issuer.url(), AUDIENCE)));
    foreign.flow.give(&bad);
    let token = foreign.token(json!({"sub": "other"}));
    assert_eq!(foreign.reason(&token), (401, "signature_invalid".into()));
    foreign.flow.assert_silent(&[&token]);
}

#[test]
fn the_legacy_exchange_changes_what_the_upstream_gets() {
    let flow = Flow::with(json!(["bearer"]), |url| json!({"token_exchange_endpoint": format!("{url}/x")}), json!({}));
    let own = flow.key.token(&mint::claims(&flow.issuer.url(), AUDIENCE));
    flow.issuer.answer("/x", |_| Reply::new("200 OK", "Content-Type: text/plain\r\n", "another-token-0123\n"));
    let ask = |token: &str| flow.ask(&[&format!("Authorization: Bearer {token}")]);
    for _ in 0..2 {
        assert_eq!(ask(&own).status(), 200);
        assert_eq!(flow.upstream.last().all("authorization"), ["Bearer another-token-0123"]);
    }
    assert_eq!(flow.issuer.hits("/x"), 1);
    let asked = flow.issuer.last("/x");
    assert_eq!((asked.method(), asked.text().as_str()), ("POST", ""));
    assert_eq!(asked.field("authorization"), Some(format!("Bearer {own}").as_str()));
    // What is not verified is not shown.
    assert_eq!((ask(&flip(&own)).status(), flow.issuer.hits("/x")), (401, 1));
    let other = flow.key.token(&mint::claims(&flow.issuer.url(), AUDIENCE));
    flow.issuer.answer("/x", |_| error("invalid_token", "no longer"));
    assert_eq!(ask(&other).status(), 401);
    flow.issuer.fail_at("/x", Fault::Status(500));
    let answer = ask(&other);
    assert_eq!((answer.status(), flow.edge.reason_of(&answer).as_str()), (503, "exchange_failed"));
    assert!(answer.field("retry-after").is_some());
    flow.assert_silent(&[&own, &other, "another-token-0123"]);

    let off = json!({"cache_token_exchange": false, "token_exchange_endpoint": format!("{}/x", flow.issuer.url())});
    flow.issuer.recover();
    flow.issuer.answer("/x", |_| Reply::new("200 OK", "", "t-1"));
    let config = plus(super::client(&flow.issuer.url(), json!(["bearer"])), off);
    let edge = Setup::new(guarded(&flow.upstream.url(), config)).start();
    let hits = flow.issuer.hits("/x");
    for _ in 0..2 {
        assert_eq!(edge.ask(crate::with_token(&own)).status(), 200);
    }
    assert_eq!(flow.issuer.hits("/x"), hits + 2);
}
