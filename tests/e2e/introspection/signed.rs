//! Answers that are signed (RFC 9701).

use std::sync::Arc;

use edge_tests::edge::Setup;
use edge_tests::issuer::{Issuer, argument};
use edge_tests::mint::{Key, flip, now, unsigned, with};
use edge_tests::parties::OidcProvider;
use edge_tests::upstream::{Reply, Upstream};
use serde_json::{Value, json};

use super::{active, asking};
use crate::{guarded, plus, with_token};

const TYPE: &str = "application/token-introspection+jwt";

#[test]
fn a_signed_answer_is_verified_like_a_token() {
    // I12: `typ`, `aud`, `iss` and the signature; an unsigned one is refused.
    for accept in [TYPE, "application/jwt"] {
        let (upstream, key) = (Upstream::start(), Arc::new(Key::es256("es-1")));
        let issuer = Issuer::start(&[&key]);
        let config = plus(
            asking(&issuer.url()),
            json!({"introspection_accept": accept,
            "upstream_introspection_jwt_header": "X-Answer"}),
        );
        let edge = Setup::new(guarded(&upstream.url(), config)).start();
        let url = issuer.url();
        let good = json!({"iss": url, "aud": "edge", "iat": now(), "token_introspection": active()});
        let header = json!({"alg": "ES256", "typ": "token-introspection+jwt", "kid": "es-1"});
        let signed = |header_changes: Value, changes: Value| {
            key.sign(&with(header.clone(), header_changes), &with(good.clone(), changes))
        };
        let right = signed(json!({}), json!({}));
        let inside = |changes: Value| signed(json!({}), json!({"token_introspection": with(active(), changes)}));
        let rows: Vec<(&str, &str, String, u16)> = vec![
            ("good", accept, right.clone(), 200),
            ("audiences", accept, signed(json!({}), json!({"aud": ["x", "edge"]})), 200),
            ("capitals", accept, signed(json!({"typ": "TOKEN-introspection+JWT"}), json!({})), 200),
            ("inactive", accept, inside(json!({"active": false})), 401),
            ("expired token", accept, inside(json!({"exp": now() - 60})), 401),
            ("active as text", accept, inside(json!({"active": "true"})), 0),
            ("no content", accept, signed(json!({}), json!({"token_introspection": null})), 0),
            ("active outside", accept, signed(json!({}), json!({"token_introspection": null, "active": true})), 0),
            ("flipped", accept, flip(&right), 0),
            ("another's key", accept, Key::es256("es-1").sign(&header, &good), 0),
            ("unknown key", accept, signed(json!({"kid": "nobody"}), json!({})), 0),
            ("none", accept, unsigned(&json!({"alg": "none", "typ": "token-introspection+jwt"}), &good, ""), 0),
            (
                "HS256",
                accept,
                Key::hs256(super::SECRET.as_bytes(), "es-1")
                    .sign(&with(header.clone(), json!({"alg": "HS256"})), &good),
                0,
            ),
            ("an access token", accept, signed(json!({"typ": "at+jwt"}), json!({})), 0),
            ("an ID token", accept, signed(json!({"typ": "JWT"}), json!({})), 0),
            ("another's audience", accept, signed(json!({}), json!({"aud": "another"})), 0),
            ("no audience", accept, signed(json!({}), json!({"aud": null})), 0),
            ("another issuer", accept, signed(json!({}), json!({"iss": "https://evil.example"})), 0),
            ("no issuer", accept, signed(json!({}), json!({"iss": null})), 0),
            ("unsigned", "application/json", active().to_string(), 0),
            ("unsigned as signed", accept, active().to_string(), 0),
            ("signed as JSON", "application/json", right.clone(), 0),
        ];
        let replies: Vec<(String, String)> =
            rows.iter().map(|(_, kind, body, _)| ((*kind).to_owned(), body.clone())).collect();
        issuer.answer("/introspect", move |request| {
            let token = argument(request, "token").expect("a token");
            let (kind, body) = &replies[token.strip_prefix("row-").and_then(|row| row.parse::<usize>().ok()).unwrap()];
            Reply::new("200 OK", &format!("Content-Type: {kind}\r\n"), body)
        });
        // Good ones between: a broken circuit would refuse what is checked here.
        for (row, (name, .., status)) in rows.iter().enumerate() {
            let mut answer = edge.ask(with_token(&format!("row-{row}")));
            let end = std::time::Instant::now() + edge_tests::edge::READY;
            while *status != 0 && answer.status() == 503 && std::time::Instant::now() < end {
                std::thread::sleep(std::time::Duration::from_millis(50));
                answer = edge.ask(with_token(&format!("row-{row}")));
            }
            match status {
                0 => assert!(matches!(answer.status(), 401 | 503), "{accept}, {name}: {}", answer.start),
                status => assert_eq!(answer.status(), *status, "{accept}, {name}: {}", answer.text()),
            }
        }
        assert_eq!(upstream.requests().len(), rows.iter().filter(|(.., status)| *status == 200).count());
        assert_eq!(upstream.requests()[0].field("x-answer"), Some(right.as_str()));
        assert_eq!(issuer.last("/introspect").field("accept"), Some(accept));
    }
}

#[test]
fn a_certified_issuer_signs_its_answers() {
    let (issuer, upstream) = (OidcProvider::start(), Upstream::start());
    let (id, secret) = OidcProvider::POST;
    let config = json!({"issuer": issuer.url(), "auth_methods": ["introspection"], "client_id": [id],
        "client_secret": [secret], "client_auth": ["client_secret_post"], "introspection_accept": TYPE,
        "audience_required": [OidcProvider::AUDIENCE]});
    let edge = Setup::new(guarded(&upstream.url(), config)).start();
    let token = issuer.token("opaque");
    assert_eq!(edge.ask(with_token(&token)).status(), 200, "{}", edge.errors().text());
    assert_eq!(edge.ask(with_token("a-token-that-nobody-issued")).status(), 401);
    // The keys are those that sign access tokens, and they rotate.
    issuer.rotate();
    assert_eq!(edge.ask(with_token(&issuer.token("opaque"))).status(), 200, "{}", edge.errors().text());
}
