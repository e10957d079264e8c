//! "Invalid bearer token": the playbook for Ping, F5 and openid-connect.

mod configuration;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use edge_tests::certs;
use edge_tests::edge::{READY, Setup, binary, free_address};
use edge_tests::issuer::{Fault, Issuer, good};
use edge_tests::mint::{self, Key, flip, now, with};
use edge_tests::parties::{Httpbin, Nginx, OidcProvider};
use edge_tests::upstream::{Reply, Upstream};
use edge_tests::wire::{Client, get};
use serde_json::{Value, json};

use super::{Ran, Shell, listening};
use crate::{AUDIENCE, Guarded, bearer, guarded, plus, with_token};

/// The words the seed looks for in the error log.
const GREP: &str = "egrep -i 'oidc|jwt|introspect|jwks|bearer|signature|aud|iss'";

/// What the seed asks the gateway first.
const DIRECT: &str = "# Direct to Kong (bypass F5 if you can)
curl -si https://kong.example.com/api \\
  -H \"Authorization: Bearer $AT\"";

/// An edge whose issuer is asked about opaque tokens too, in front of an upstream that has a header of its own.
struct Playbook {
    edge: edge_tests::edge::Edge,
    upstream: Upstream,
    issuer: Issuer,
    key: Key,
    shell: Shell,
}

impl Playbook {
    fn with(config: Value) -> Self {
        let upstream = Upstream::with(|_| Reply::new("200 OK", "Content-Type: text/plain\r\nX-Own: yes\r\n", "orders"));
        let key = Key::es256("es-1");
        let issuer = Issuer::start(&[&key]);
        let config = plus(
            json!({"issuer": issuer.url(), "client_id": ["app"], "client_secret": ["secret"],
                "audience_required": [AUDIENCE]}),
            config,
        );
        let edge = listening(guarded(&upstream.url(), config)).start();
        let shell = Shell::at(edge.listener(1));
        Self { edge, upstream, issuer, key, shell }
    }

    fn token(&self, changes: Value) -> String {
        self.key.token(&with(mint::claims(&self.issuer.url(), AUDIENCE), changes))
    }

    /// The seed's first question with this token.
    fn direct(&self, token: &str) -> Ran {
        self.shell.run(DIRECT, &[("AT", token)])
    }
}

#[test]
fn s0_1() {
    // The error log is a file whose path is configured, and every refusal has one of the words and its reason.
    let (key, upstream, dir, address) =
        (Key::es256("es-1"), Upstream::start(), tempfile::tempdir().unwrap(), free_address());
    let issuer = Issuer::start(&[&key]);
    let setup = Setup::new(guarded(&upstream.url(), bearer(&issuer.url()))).listen(address);
    let config = setup.write(dir.path(), free_address()).unwrap();
    let text = std::fs::read_to_string(&config).unwrap().replace("error = \"stderr\"", "error = \"error.log\"");
    std::fs::write(&config, text).unwrap();
    let mut child = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--"])
        .arg(binary())
        .args(["run", "--config"])
        .arg(&config)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let log = dir.path().join("error.log");
    let logged = || std::fs::read_to_string(&log).unwrap_or_default();
    let end = Instant::now() + READY;
    while !logged().contains("edge ready") {
        assert!(Instant::now() < end, "not ready: {}", logged());
        std::thread::sleep(Duration::from_millis(20));
    }
    let claims = mint::claims(&issuer.url(), AUDIENCE);
    let changed = |changes: Value| key.token(&with(claims.clone(), changes));
    let shell = Shell::new(&[]);
    for (token, reason) in [
        (flip(&changed(json!({}))), "signature verification failed"),
        (changed(json!({"exp": now() - 99})), "token expired"),
        (changed(json!({"aud": "x"})), "audience not allowed"),
        (changed(json!({"iss": "x"})), "issuer not allowed"),
        ("opaque".into(), "introspection"),
    ] {
        let answer = Client::connect(address).ask(with_token(&token));
        let id = answer.field("x-kong-request-id").unwrap();
        while !logged().contains(id) {
            assert!(Instant::now() < end, "no line for {reason}: {}", logged());
            std::thread::sleep(Duration::from_millis(20));
        }
        // Read to its end rather than followed: `tail -f` would never end.
        let found = shell.run(&format!("tail -n +1 {} | {GREP}", log.display()), &[]).out;
        let line = found.lines().find(|line| line.contains(id)).unwrap_or_else(|| panic!("{reason}: {found}"));
        assert!(line.contains(reason), "{reason}: {line}");
    }
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id() as i32), nix::sys::signal::Signal::SIGTERM).unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn s0_2() {
    let book = Playbook::with(json!({}));
    let answer = book.direct(&book.token(json!({})));
    assert_eq!((answer.status(), answer.body(), answer.code), (200, "orders", 0), "{}", answer.out);
    assert_eq!((answer.field("content-type"), answer.field("x-own")), (Some("text/plain"), Some("yes")));
    let answer = book.direct(&flip(&book.token(json!({}))));
    assert_eq!((answer.status(), answer.body()), (401, "{\"message\":\"Unauthorized\"}"));
    assert!(answer.field("www-authenticate").unwrap().starts_with("Bearer "), "{}", answer.out);
    assert!(answer.field("content-type").unwrap().starts_with("application/json"));
}

#[test]
fn s0_3() {
    let book = Playbook::with(json!({}));
    let token = book.token(json!({}));
    // HTTP/2 has no field that ends in a space (RFC 9113, 8.2.1).
    let send = |header: &str| {
        let text = "curl --http1.1 -si https://kong.example.com/api -H \"Authorization: $VALUE\"";
        book.shell.run(text, &[("VALUE", header)]).status()
    };
    assert_eq!(send(&format!("Bearer {token}")), 200);
    // RFC 6750 compares the scheme without case; the seed's "case-sensitive" is what to send, not what is taken.
    assert_eq!(send(&format!("bearer {token}")), 200);
    for bad in
        [format!("\"Bearer {token}\""), format!("Bearer \"{token}\""), token.clone(), "Bearer".into(), "Bearer ".into()]
    {
        assert_eq!(send(&bad), 401, "{bad}");
    }
    assert_eq!(book.upstream.requests().len(), 2);
}

#[test]
fn s0_4() {
    let book = Playbook::with(json!({}));
    // Two dots and a header: keys decide, and nobody is asked about it.
    assert_eq!(book.direct(&book.token(json!({}))).status(), 200);
    assert_eq!(book.direct(&flip(&book.token(json!({})))).status(), 401);
    assert_eq!(book.issuer.hits("/introspect"), 0);
    // Otherwise opaque, dots or not.
    for token in ["opaque-token", "a.b", "a.b.c", "a.b.c.d"] {
        assert_eq!(book.direct(token).status(), 401, "{token}");
        book.issuer.know(&format!("{token}1"), json!({"active": true, "aud": AUDIENCE}));
        assert_eq!(book.direct(&format!("{token}1")).status(), 200, "{token}");
    }
    assert_eq!(book.issuer.introspections("a.b.c"), 1);
}

#[test]
fn s0_5() {
    let shell = Shell::new(&[]);
    let claims = mint::claims("https://idp.example", AUDIENCE);
    let pad = |count: usize| with(claims.clone(), json!({"pad": "p".repeat(count)}));
    let mut tokens: Vec<String> = (0..3).map(|count| Key::es256("es-1").token(&pad(count))).collect();
    tokens.push(OidcProvider::start().token("RS256"));
    for field in [1, 2] {
        for token in &tokens {
            let (header, claims) = mint::open(token);
            let (part, expected) = if field == 1 { (0, header) } else { (1, claims) };
            let encoded = token.split('.').nth(part).unwrap();
            let decoded = URL_SAFE_NO_PAD.decode(encoded).unwrap();
            let text = format!("cut -d. -f{field} <<<\"$AT\" | base64 -d 2>/dev/null");
            let seen = shell.run(&text, &[("AT", token)]).out;
            // Without padding GNU's stops within the last group, and at what only base64url has.
            let whole = encoded.find(['-', '_']).map_or(decoded.len().saturating_sub(2), |at| at / 4 * 3);
            assert!(decoded.starts_with(seen.as_bytes()) && seen.len() >= whole, "{field}: {seen}");
            let shown = shell.run(&format!("{text} | jq"), &[("AT", token)]).out;
            if seen.len() == decoded.len() {
                assert_eq!(serde_json::from_str::<Value>(&shown).unwrap(), expected, "{field}");
            }
        }
    }
}

#[test]
fn s0_6() {
    let config = json!({"scopes_required": ["orders:read"], "roles_required": ["clerk"], "leeway": 5});
    let book = Playbook::with(config);
    let right = json!({"roles": ["clerk"]});
    assert_eq!(book.direct(&book.token(right.clone())).status(), 200);
    for (changes, status, word) in [
        (json!({"iss": "https://other.example"}), 401, "issuer not allowed"),
        (json!({"exp": now() - 60}), 401, "token expired"),
        (json!({"nbf": now() + 60}), 401, "nbf"),
        // Kong's lists are rights: 403, where the seed has 401.
        (json!({"aud": "api://other"}), 403, "audience"),
        (json!({"scope": "orders:write"}), 403, "scope"),
        (json!({"roles": ["guest"]}), 403, "role"),
    ] {
        let mark = book.edge.errors().mark();
        assert_eq!(book.direct(&book.token(plus(right.clone(), changes))).status(), status, "{word}");
        book.edge.logged_after(mark, word);
    }
    assert_eq!(book.direct(&book.token(plus(right, json!({"exp": now() - 2, "nbf": now() + 2})))).status(), 200);
}

#[test]
fn s0_7() {
    let book = Playbook::with(json!({"rediscovery_lifetime": 1}));
    assert_eq!(book.direct(&book.token(json!({}))).status(), 200);
    assert_eq!(book.issuer.hits("/.well-known/openid-configuration"), 1);
    // A stale `kid`: one look at the issuer, and the new key verifies.
    let next = Key::es256("es-2");
    let fetches = book.issuer.key_fetches();
    book.issuer.rotate(&[&next, &book.key]);
    let token = next.token(&mint::claims(&book.issuer.url(), AUDIENCE));
    assert_eq!(book.direct(&token).status(), 200);
    assert_eq!(book.issuer.key_fetches(), fetches + 1);
    // The issuer is gone: the keys are still there.
    book.issuer.fail(Fault::Close);
    assert_eq!(book.direct(&book.token(json!({"jti": "later"}))).status(), 200);
    // Where there never were any: 503, which Kong answers with 401.
    let cold = Guarded::with(json!({"jwks_endpoint": "http://127.0.0.1:1/jwks"}), |setup| {
        setup.section("[timeouts]\nkey_wait = 500")
    });
    let answer = cold.edge.ask(with_token(&cold.token()));
    assert_eq!(answer.status(), 503);
    assert!(answer.field("retry-after").is_some());
    cold.edge.logged("could not get jwks");
}

#[test]
fn s0_8() {
    // `kong restart` is another program's; the variable counts.
    let quiet = Guarded::start();
    let loud = Guarded::with(json!({}), |setup| setup.env("KONG_LOG_LEVEL", "debug"));
    for guarded in [&quiet, &loud] {
        assert_eq!(guarded.edge.ask(with_token(&guarded.token())).status(), 200);
        assert_eq!(guarded.edge.ask(with_token(&flip(&guarded.token()))).status(), 401);
        guarded.edge.logged("signature verification failed");
    }
    let has_debug = |guarded: &Guarded| guarded.edge.errors().text().contains("DEBUG");
    assert!(has_debug(&loud) && !has_debug(&quiet));
}

#[test]
fn s0_9() {
    // The clues of the seed and Kong's own texts stand in one line.
    let book = Playbook::with(json!({}));
    let audience = json!({"active": true, "aud": AUDIENCE});
    book.issuer.know("good", audience);
    let loud = |token: &str, clue: &str| {
        let mark = book.edge.errors().mark();
        book.direct(token);
        book.edge.logged_after(mark, clue)
    };
    let line = loud(&flip(&book.token(json!({}))), "signature verification failed");
    assert!(line.contains("invalid signature"), "{line}");
    let line = loud(&book.token(json!({"exp": now() - 99})), "token expired");
    assert!(line.contains("invalid exp claim"), "{line}");
    loud(&book.token(json!({"aud": "x"})), "audience not allowed");
    let line = loud(&book.token(json!({"iss": "https://x.example"})), "issuer not allowed");
    assert!(line.contains("invalid issuer"), "{line}");
    loud("revoked", "token active:false");
    loud("revoked", "introspect");
    // Good answers are of interest to those who look closely.
    let book = Playbook::debug();
    book.issuer.know("good", json!({"active": true, "aud": AUDIENCE}));
    assert_eq!(book.direct("good").status(), 200);
    book.edge.logged("introspection active");
    let cold = Guarded::with(json!({"jwks_endpoint": "http://127.0.0.1:1/jwks"}), |setup| {
        setup.section("[timeouts]\nkey_wait = 500")
    });
    cold.edge.ask(with_token(&cold.token()));
    cold.edge.logged("could not get jwks");
}

impl Playbook {
    fn debug() -> Self {
        let mut book = Self::with(json!({}));
        let config = json!({"issuer": book.issuer.url(), "client_id": ["app"], "client_secret": ["secret"]});
        book.edge = listening(guarded(&book.upstream.url(), config)).log("level = \"debug\"").start();
        book.shell = Shell::at(book.edge.listener(1));
        book
    }
}

#[test]
fn s0_10() {
    let book = Playbook::with(json!({}));
    let token = book.token(json!({}));
    for (version, name) in [
        ("--http1.1", "authorization"),
        ("--http1.1", "AUTHORIZATION"),
        ("--http1.1", "aUtHoRiZaTiOn"),
        ("--http2", "Authorization"),
    ] {
        let text = format!("curl {version} -si https://kong.example.com/api -H \"{name}: Bearer $AT\"");
        assert_eq!(book.shell.run(&text, &[("AT", &token)]).status(), 200, "{version} {name}");
        // No rewriting takes the token away.
        assert_eq!(book.upstream.last().field("authorization"), Some(format!("Bearer {token}").as_str()));
    }
}

#[test]
fn s0_11() {
    for methods in [json!({"auth_methods": ["bearer"]}), json!({"auth_methods": ["introspection"]}), json!({})] {
        let book = Playbook::with(methods.clone());
        let answer = book.shell.run("curl -si https://kong.example.com/api", &[]);
        assert_eq!((answer.status(), answer.body()), (401, "{\"message\":\"Unauthorized\"}"), "{methods}");
        assert!(
            !answer.field("www-authenticate").unwrap().contains("error="),
            "no credential, no error (RFC 6750, 3.1)"
        );
        assert!(book.upstream.requests().is_empty());
    }
}
