//! Sender-constrained tokens: client certificates and DPoP proofs (security properties S3, S4, S5).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use edge_tests::certs::{self, Pair};
use edge_tests::edge::{Edge, Setup};
use edge_tests::h2raw;
use edge_tests::mint::{self, Key, with};
use edge_tests::upstream::Upstream;
use edge_tests::wire::{Client, Message, get};
use ring::digest;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, DEFAULT_VERSIONS};
use serde_json::{Value, json};
use std::sync::Arc;

use super::{Guarded, open, with_token};

/// The answer over a new connection of this client. Over TLS 1.3 a client learns of a refusal by its first read.
fn ask(edge: &Edge, listener: usize, client: &Arc<ClientConfig>, request: Vec<u8>) -> anyhow::Result<Message> {
    let mut client = Client::tls(edge.listener(listener), "edge.test", client.clone())?;
    client.try_send(request)?;
    client.try_response("GET")
}

#[test]
fn listeners_ask_for_certificates() {
    // S3
    let upstream = Upstream::start();
    let ca = "client_certificate = \"require\"\nclient_ca = \"clients.pem\"";
    let edge = Setup::new(open(&upstream.url()))
        .file("clients.pem", certs::root())
        .tls_with(ca)
        .tls_with("client_certificate = \"request\"\nclient_ca = \"clients.pem\"")
        .tls_with("client_certificate = \"require\"")
        .start();
    let shown = [
        ("good", Some(certs::pair(&["client"])), [true, true, true]),
        ("none", None, [false, true, false]),
        ("expired", Some(certs::expired("client")), [false, false, false]),
        ("another's", Some(certs::self_signed("client")), [false, false, true]),
    ];
    for version in [&TLS12, &TLS13] {
        for (name, pair, expected) in &shown {
            let client = match pair {
                Some(pair) => certs::client_showing(pair, &[version]),
                None => certs::client_with(&[], &[version]),
            };
            for (listener, served) in expected.iter().enumerate() {
                // The second connection resumes the session of the first, if there was one.
                for _ in 0..2 {
                    let answer = ask(&edge, listener, &client, get("/", &[]));
                    let status = answer.map_or(0, |answer| answer.status());
                    assert_eq!(status, if *served { 200 } else { 0 }, "{name} at {listener} by {version:?}");
                }
            }
        }
    }
    let good = shown.iter().map(|(_, _, expected)| expected.iter().filter(|served| **served).count()).sum::<usize>();
    assert_eq!(upstream.requests().len(), good * 4);
    edge.logged("any certificate is taken");
}

#[test]
fn authorities_of_clients_are_checked_at_the_start() {
    for (file, expected) in [("no PEM", "client_ca"), ("", "client_ca")] {
        let setup = Setup::new(open("http://127.0.0.1:9"))
            .file("clients.pem", file)
            .tls_with("client_certificate = \"require\"\nclient_ca = \"clients.pem\"");
        let error = setup.try_start().err().map(|error| format!("{error:#}")).unwrap_or_default();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_token_bound_to_a_certificate_passes_with_it_alone() {
    // S3, S5
    let own = certs::self_signed("client");
    let other = certs::self_signed("client");
    let guarded = Guarded::with(json!({"proof_of_possession_mtls": "optional"}), |setup| {
        setup.tls_with("client_certificate = \"request\"").clear()
    });
    let token = |cnf: Value| guarded.key.token(&with(guarded.claims(), json!({"cnf": cnf})));
    let bound = token(json!({"x5t#S256": own.thumbprint()}));
    let showing = |pair: &Pair| certs::client_showing(pair, DEFAULT_VERSIONS);
    let (with_own, with_other, without) = (showing(&own), showing(&other), certs::client(&[]));
    for (client, token, reason) in [
        (&with_own, &bound, ""),
        (&with_own, &bound, ""),
        (&with_other, &bound, "certificate_mismatch"),
        (&without, &bound, "certificate_missing"),
        (&without, &guarded.token(), ""),
        (&with_own, &token(json!({"x5t#S256": other.thumbprint()})), "certificate_mismatch"),
        (&with_own, &token(json!({"jkt": "x"})), "token_bound"),
        (&with_own, &token(json!({"x5t#S256": own.thumbprint(), "kid": "x"})), "token_bound"),
    ] {
        let answer = ask(&guarded.edge, 0, client, with_token(token)).unwrap();
        assert_eq!(answer.status(), if reason.is_empty() { 200 } else { 401 }, "{reason}: {}", answer.text());
        if !reason.is_empty() {
            assert_eq!(guarded.edge.reason_of(&answer), reason);
        }
    }
    let mut clear = Client::connect(guarded.edge.listener(1));
    assert_eq!(clear.ask(with_token(&bound)).status(), 401, "no certificate without TLS");
    assert_eq!(guarded.upstream.requests().len(), 3);
}

/// A proof of this key for a GET of `/orders` on `http://test`, with changes.
pub(super) fn proof(key: &Key, token: &str, changes: Value) -> String {
    let mut jwk = key.jwk();
    jwk.as_object_mut().unwrap().retain(|name, _| !matches!(name.as_str(), "kid" | "alg" | "use"));
    let ath = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, token.as_bytes()));
    let claims = json!({"jti": uuid(), "htm": "GET", "htu": "http://test/orders", "iat": mint::now(), "ath": ath});
    let header = json!({"typ": "dpop+jwt", "alg": jwk_algorithm(key), "jwk": jwk});
    key.sign(&header, &with(claims, changes))
}

fn jwk_algorithm(key: &Key) -> Value {
    key.header()["alg"].clone()
}

/// A `jti` of its own for each proof.
fn uuid() -> String {
    let mut bytes = [0; 16];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes).unwrap();
    URL_SAFE_NO_PAD.encode(bytes)
}

/// RFC 7638 of a P-256 key.
pub(super) fn thumbprint(key: &Key) -> String {
    let jwk = key.jwk();
    let text = format!("{{\"crv\":\"P-256\",\"kty\":\"EC\",\"x\":{},\"y\":{}}}", jwk["x"], jwk["y"]);
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, text.as_bytes()))
}

fn request(scheme: &str, token: &str, proofs: &[&str]) -> Vec<u8> {
    let mut fields = vec![format!("Authorization: {scheme} {token}")];
    fields.extend(proofs.iter().map(|proof| format!("DPoP: {proof}")));
    get("/orders", &fields.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn a_token_bound_to_a_key_passes_with_a_fresh_proof_alone() {
    // S5
    let guarded = Guarded::with(json!({"proof_of_possession_dpop": "optional"}), |setup| setup.workers(2));
    let (own, other) = (Key::es256("own"), Key::es256("other"));
    let token = guarded.key.token(&with(guarded.claims(), json!({"cnf": {"jkt": thumbprint(&own)}})));
    let plain = guarded.token();
    let ask = |request: Vec<u8>| guarded.edge.ask(request);
    let good = proof(&own, &token, json!({}));
    let answer = ask(request("DPoP", &token, &[&good]));
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let seen = guarded.upstream.last();
    assert_eq!(seen.field("authorization"), Some(format!("Bearer {token}").as_str()));
    assert!(seen.all("dpop").is_empty(), "the proof was for the edge");
    assert_eq!(ask(request("Bearer", &plain, &[])).status(), 200);
    let fresh = |changes: Value| proof(&own, &token, changes);
    for (request, reason) in [
        (request("DPoP", &token, &[&good]), "proof_replayed"),
        (request("Bearer", &token, &[&fresh(json!({}))]), "token_bound"),
        (request("Bearer", &token, &[]), "token_bound"),
        (request("DPoP", &token, &[]), "proof_missing"),
        (request("DPoP", &token, &[&fresh(json!({})), &fresh(json!({}))]), "proof_invalid"),
        (request("DPoP", &token, &[&fresh(json!({"htm": "POST"}))]), "proof_invalid"),
        (request("DPoP", &token, &[&fresh(json!({"htu": "http://test/other"}))]), "proof_invalid"),
        (request("DPoP", &token, &[&fresh(json!({"htu": "https://test/orders"}))]), "proof_invalid"),
        (request("DPoP", &token, &[&fresh(json!({"iat": mint::now() - 301}))]), "proof_invalid"),
        (request("DPoP", &token, &[&proof(&own, &plain, json!({}))]), "proof_invalid"),
        (request("DPoP", &token, &[&proof(&other, &token, json!({}))]), "proof_invalid"),
        (request("DPoP", &plain, &[&proof(&own, &plain, json!({}))]), "token_unbound"),
    ] {
        let answer = ask(request);
        assert_eq!((answer.status(), guarded.edge.reason_of(&answer).as_str()), (401, reason));
        let challenges = answer.all("www-authenticate").join(", ");
        assert!(challenges.contains("DPoP ") && challenges.contains("algs=\"ES256"), "{challenges}");
    }
    assert_eq!(ask(request("dpop", &token, &[&fresh(json!({}))])).status(), 200);
    assert_eq!(guarded.upstream.requests().len(), 3);
    // All workers share what was seen.
    let one = fresh(json!({}));
    let passed = std::thread::scope(|scope| {
        let asked: Vec<_> = (0..16).map(|_| scope.spawn(|| ask(request("DPoP", &token, &[&one])).status())).collect();
        asked.into_iter().map(|asked| asked.join().unwrap()).filter(|status| *status == 200).count()
    });
    assert_eq!(passed, 1);
    assert!(!guarded.edge.output().contains(&good), "proofs are credentials");
}

#[test]
fn proofs_are_the_same_over_http2() {
    // S5: `htu` is the request's, wherever the version carries its parts.
    let guarded = Guarded::with(json!({"proof_of_possession_dpop": "strict"}), |setup| setup);
    let own = Key::es256("own");
    let token = guarded.key.token(&with(guarded.claims(), json!({"cnf": {"jkt": thumbprint(&own)}})));
    let authorization = format!("DPoP {token}");
    for (changes, status) in [
        (json!({}), 200),
        (json!({"htu": "http://test/other"}), 401),
        (json!({"htu": "http://other/orders"}), 401),
        (json!({"htm": "POST"}), 401),
    ] {
        let proof = proof(&own, &token, changes.clone());
        let fields: [(&[u8], &[u8]); 6] = [
            (b":method", b"GET"),
            (b":scheme", b"http"),
            (b":authority", b"test"),
            (b":path", b"/orders"),
            (b"authorization", authorization.as_bytes()),
            (b"dpop", proof.as_bytes()),
        ];
        let mut raw = h2raw::Raw::connect(guarded.edge.address());
        raw.request(1, &fields);
        assert_eq!(raw.outcome(1), h2raw::Outcome::Response(status), "{changes}");
    }
    assert_eq!(guarded.upstream.requests().len(), 1);
}

#[test]
fn nonces_are_asked_for_and_given() {
    let config = json!({"proof_of_possession_dpop": "strict", "dpop_use_nonce": true});
    let guarded = Guarded::with(config, |setup| setup);
    let own = Key::es256("own");
    let token = guarded.key.token(&with(guarded.claims(), json!({"cnf": {"jkt": thumbprint(&own)}})));
    let ask = |changes: Value| guarded.edge.ask(request("DPoP", &token, &[&proof(&own, &token, changes)]));
    let told = ask(json!({}));
    assert_eq!((told.status(), guarded.edge.reason_of(&told).as_str()), (401, "nonce_missing"));
    assert!(told.all("www-authenticate").join(", ").contains("error=\"use_dpop_nonce\""));
    let nonce = told.field("dpop-nonce").expect("a nonce").to_owned();
    assert_eq!(ask(json!({"nonce": nonce})).status(), 200);
    assert_eq!(ask(json!({"nonce": nonce, "jti": "second"})).status(), 200);
    assert_eq!(ask(json!({"nonce": nonce, "jti": "second"})).status(), 401);
    let other = ask(json!({"nonce": "made-up"}));
    assert_eq!((other.status(), other.field("dpop-nonce").is_some()), (401, true));
    assert_eq!(guarded.edge.ask(with_token(&guarded.token())).status(), 401, "strict: bound tokens alone");
}

#[test]
fn a_proxy_in_front_may_show_the_certificate_of_its_client() {
    // S4, S5
    let (own, other) = (certs::pair(&["client"]), certs::pair(&["client"]));
    let escaped = |pair: &Pair| pair.certificate.replace('\n', "%0A").replace(' ', "%20").replace('+', "%2B");
    let answers = |trusted: &str| {
        let (upstream, key) = (Upstream::start(), Key::es256("es-1"));
        let issuer = edge_tests::issuer::Issuer::start(&[&key]);
        let id = "9c2ecc57-6b2f-4f1c-8d0f-2f1f7a8f6d11";
        let record = json!({"certificate_header_name": "X-Client-Cert", "ca_certificates": [id],
            "revocation_check_mode": "SKIP"});
        let config = super::plus(
            super::bearer(&issuer.url()),
            json!({"proof_of_possession_mtls": "strict", "proof_of_possession_mtls_from_header": record}),
        );
        let routes =
            json!([{"name": "all", "paths": ["/"], "plugins": [{"name": "openid-connect", "config": config}]}]);
        let entities = json!({"_format_version": "3.0", "ca_certificates": [{"id": id, "cert": certs::root()}],
            "services": [{"name": "up", "url": upstream.url(), "routes": routes}]});
        let edge = Setup::new(entities.to_string()).section(trusted).start();
        let claims = mint::claims(&issuer.url(), super::AUDIENCE);
        let token = key.token(&with(claims, json!({"cnf": {"x5t#S256": own.thumbprint()}})));
        let ask = |fields: &[&str]| {
            let authorization = format!("Authorization: Bearer {token}");
            let answer = edge.ask(get("/orders", &[&[authorization.as_str()], fields].concat()));
            let reason = if answer.status() == 200 { String::new() } else { edge.reason_of(&answer) };
            (answer.status(), reason)
        };
        let (shown, others) =
            (format!("X-Client-Cert: {}", escaped(&own)), format!("x-client-cert: {}", escaped(&other)));
        let stranger = format!("X-Client-Cert: {}", escaped(&certs::self_signed("client")));
        let all = [
            ask(&[&shown]),
            ask(&[]),
            ask(&[&others]),
            ask(&[&stranger]),
            ask(&[&shown, &others]),
            ask(&[&shown.replace("Client-Cert", "Client_Cert")]),
        ];
        for request in upstream.requests() {
            assert!(!format!("{:?}", request.fields).to_lowercase().contains("client"), "{:?}", request.fields);
        }
        all.map(|(status, reason)| format!("{status} {reason}"))
    };
    let missing = "401 certificate_missing";
    assert_eq!(
        answers("[proxy]\ntrusted_ips = [\"127.0.0.0/8\"]"),
        ["200 ", missing, "401 certificate_mismatch", "401 certificate_invalid", "401 certificate_invalid", missing]
    );
    assert_eq!(answers(""), [missing; 6], "nobody else is believed");
}
