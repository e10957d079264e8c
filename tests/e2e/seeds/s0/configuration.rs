//! The second half of the playbook: the configuration, good and bad tokens through it, and what the upstream is told.

use super::*;

#[test]
fn s0_12() {
    // The block as printed; only the issuer's URL and the two placeholders are filled in.
    let block = r#"# For openid-connect plugin (per service/route)
config:
  issuer: "https://ping.example.com/as"
  discovery: "https://ping.example.com/as/.well-known/openid-configuration"
  # If using opaque tokens:
  introspection_endpoint: "https://ping.example.com/as/introspect.oauth2"
  client_id: "<kong-oidc-client>"
  client_secret: "<secret>"
  # Validation:
  verify_signature: true
  verify_claims: true
  allowed_audiences:
    - "api://my-api"
  scopes_required:
    - "api.read"
  # Optional:
  clock_skew_leeway: 60
  bearer_only: true   # if you don’t want redirects (API-only)
"#;
    let (key, upstream) = (Key::es256("es-1"), Upstream::start());
    let issuer = Issuer::start(&[&key]);
    let url = issuer.url();
    issuer.answer("/introspect.oauth2", |request| {
        let known = edge_tests::issuer::argument(request, "token").as_deref() == Some("opaque");
        good(&json!({"active": known, "aud": "api://my-api", "scope": "api.read"}))
    });
    let block = block.replace("https://ping.example.com/as", &url);
    let indented: String = block.lines().map(|line| format!("      {line}\n")).collect();
    let entities = format!(
        "_format_version: \"3.0\"\nservices:\n- name: up\n  url: {}\n  routes:\n  - name: orders\n    paths: [/]\n\
         \x20   plugins:\n    - name: openid-connect\n{indented}",
        upstream.url()
    );
    let edge = Setup::new(entities).start();
    let claims = with(mint::claims(&url, "api://my-api"), json!({"scope": "api.read"}));
    let ask = |changes: Value| edge.ask(with_token(&key.token(&with(claims.clone(), changes)))).status();
    assert_eq!(ask(json!({})), 200);
    assert_eq!(ask(json!({"exp": now() - 30})), 200);
    assert_eq!(ask(json!({"exp": now() - 90})), 401);
    assert_eq!(ask(json!({"aud": "api://other"})), 403);
    assert_eq!(ask(json!({"scope": "api.write"})), 403);
    assert_eq!(edge.ask(with_token("opaque")).status(), 200);
    assert_eq!(edge.ask(with_token("unknown")).status(), 401);
    assert_eq!(issuer.last("/introspect.oauth2").method(), "POST");
    let answer = edge.ask(get("/", &[]));
    assert_eq!((answer.status(), answer.field("location")), (401, None), "no redirect to a login");
    let asked = issuer.last("/introspect.oauth2");
    let credentials = format!("Basic {}", STANDARD.encode("%3Ckong-oidc-client%3E:%3Csecret%3E"));
    assert_eq!(asked.field("authorization"), Some(credentials.as_str()), "scalars are lists of one");
    // The remarks name the right parameters.
    for name in ["audience_required", "leeway", "auth_methods", "discovery"] {
        edge.logged(name);
    }
}

#[test]
fn s0_13() {
    let (issuer, httpbin) = (OidcProvider::start(), Httpbin::start());
    let edge = listening(guarded(&format!("{}/anything", httpbin.url()), certified(&issuer))).start();
    let shell = Shell::at(edge.listener(1));
    let text = "# Good: Access token with proper prefix
curl -H \"Authorization: Bearer $AT\" https://api.example.com/orders";
    for token in [issuer.token("RS256"), issuer.token("opaque")] {
        let seen = shell.run(text, &[("AT", &token)]);
        let seen: Value = serde_json::from_str(&seen.out).unwrap_or_else(|e| panic!("{e}: {}", seen.out));
        assert_eq!(seen["headers"]["Authorization"], format!("Bearer {token}"));
        assert!(seen["url"].as_str().unwrap().ends_with("/anything/orders"), "{seen}");
    }
}

/// The plugin in front of tokens of the certified issuer, signed or opaque.
fn certified(issuer: &OidcProvider) -> Value {
    let (id, secret) = OidcProvider::POST;
    json!({"issuer": issuer.url(), "client_id": [id], "client_secret": [secret], "client_auth": ["client_secret_post"]})
}

#[test]
fn s0_14() {
    let (issuer, upstream) = (OidcProvider::start(), Upstream::start());
    let edge = listening(guarded(&upstream.url(), certified(&issuer))).start();
    let shell = Shell::at(edge.listener(1));
    let text = "# Bad: ID token by mistake
curl -H \"Authorization: Bearer $IDT\" https://api.example.com/orders   # expect 401";
    let tokens = issuer.password_grant("alice", "openid orders:read", &[]);
    let id_token = tokens["id_token"].as_str().unwrap();
    assert_eq!(shell.run(text, &[("IDT", id_token)]).out, "{\"message\":\"Unauthorized\"}");
    let status = shell.run(&text.replace("curl", "curl -o /dev/null -w '%{http_code}'"), &[("IDT", id_token)]);
    assert_eq!(status.out, "401");
    edge.logged("ID token");
    assert!(upstream.requests().is_empty());
    // The access token that came with it is good.
    assert_eq!(edge.ask(with_token(tokens["access_token"].as_str().unwrap())).status(), 200);
    // Kong takes an ID token of its issuer: the switch is that.
    let edge =
        Setup::new(guarded(&upstream.url(), plus(certified(&issuer), json!({"id_tokens_refused": false})))).start();
    assert_eq!(edge.ask(with_token(id_token)).status(), 200);
}

#[test]
fn s0_15() {
    // Through an F5, which is nginx here, and directly: the same answer, and forwarded fields by the F5's word alone.
    let (upstream, key, front) = (Upstream::start(), Key::es256("es-1"), free_address());
    let issuer = Issuer::start(&[&key]);
    let edge = listening(guarded(&upstream.url(), bearer(&issuer.url())))
        .section("[proxy]\ntrusted_ips = [\"127.0.0.1/32\"]\nreal_ip_header = \"X-Forwarded-For\"")
        .start();
    let pair = certs::pair(&["edge.example.com"]);
    let dir = tempfile::tempdir().unwrap();
    let (cert, private) = (dir.path().join("f5.crt"), dir.path().join("f5.key"));
    std::fs::write(&cert, &pair.certificate).unwrap();
    std::fs::write(&private, &pair.key).unwrap();
    let f5 = Nginx::start(&format!(
        "listen {front} ssl; ssl_certificate {}; ssl_certificate_key {};\n\
         location / {{ proxy_pass http://{}; proxy_http_version 1.1; proxy_set_header Host $host;\n\
         proxy_set_header X-Forwarded-For 203.0.113.9; proxy_set_header X-Forwarded-Proto https; }}",
        cert.display(),
        private.display(),
        edge.listener(0)
    ));
    // Everybody but the F5 comes from another address.
    let shell = Shell::new(&[("edge.example.com", front), ("kong.example.com", edge.listener(1))])
        .setting("interface = \"127.0.0.2\"")
        .setting("header = \"X-Forwarded-For: 198.51.100.1\"");
    let texts = [
        "curl -si -H \"Authorization: Bearer $AT\" https://edge.example.com/orders",
        "curl -si -H \"Authorization: Bearer $AT\" https://kong.example.com/orders",
    ];
    let claims = mint::claims(&issuer.url(), AUDIENCE);
    for (token, status) in [
        (key.token(&claims), 200),
        (flip(&key.token(&claims)), 401),
        (key.token(&with(claims.clone(), json!({"aud": "x"}))), 403),
    ] {
        for text in texts {
            let answer = shell.run(text, &[("AT", &token)]);
            assert_eq!(answer.status(), status, "{text}: {}", answer.out);
        }
    }
    let seen = upstream.requests();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0].field("x-real-ip"), Some("203.0.113.9"));
    assert_eq!(seen[1].field("x-real-ip"), Some("127.0.0.2"));
    for request in &seen {
        assert_eq!(request.field("x-forwarded-proto"), Some("https"));
        assert!(!request.field("x-forwarded-for").unwrap().contains("198.51.100.1"), "{:?}", request.fields);
    }
    drop(f5);
}

#[test]
fn s0_16() {
    let book = Playbook::with(json!({"auth_methods": ["bearer"]}));
    let mark = book.edge.errors().mark();
    assert_eq!(book.direct("opaque-token").status(), 401);
    book.edge.logged_after(mark, "introspection");
    assert_eq!(book.issuer.hits("/introspect"), 0);
    // With the method among those of the default, but neither an endpoint nor a client.
    let (upstream, key) = (Upstream::start(), Key::es256("es-1"));
    let issuer = Issuer::start(&[&key]);
    let config = json!({"issuer": issuer.url()});
    let edge = Setup::new(guarded(&upstream.url(), config)).start();
    assert_eq!(edge.ask(with_token(&key.token(&mint::claims(&issuer.url(), AUDIENCE)))).status(), 200);
    let answer = edge.ask(with_token("opaque-token"));
    assert_eq!((answer.status(), edge.reason_of(&answer).as_str()), (401, "introspection_unavailable"));
    edge.logged("introspection is not configured");
    // With a client to ask as, of an issuer that has nothing to ask.
    issuer.describe(json!({"introspection_endpoint": null}));
    let config = json!({"issuer": issuer.url(), "client_id": ["edge"], "client_secret": ["secret"]});
    let edge = Setup::new(guarded(&upstream.url(), config)).start();
    let answer = edge.ask(with_token("opaque-token"));
    assert_eq!((answer.status(), edge.reason_of(&answer).as_str()), (401, "introspection_unavailable"));
    edge.logged("introspection: no endpoint is configured or discovered");
}

#[test]
fn s0_17() {
    // Kong's default is `authorization:bearer`; the seed's value sends the bare token, and says so.
    for (config, expected) in [
        (json!({}), "Bearer "),
        (json!({"upstream_access_token_header": "authorization:bearer"}), "Bearer "),
        (json!({"upstream_access_token_header": "Authorization"}), ""),
    ] {
        let book = Playbook::with(config.clone());
        for token in [book.token(json!({})), "opaque-token".into()] {
            book.issuer.know("opaque-token", json!({"active": true, "aud": AUDIENCE}));
            assert_eq!(book.direct(&token).status(), 200);
            assert_eq!(
                book.upstream.last().field("authorization"),
                Some(format!("{expected}{token}").as_str()),
                "{config}"
            );
        }
        let said = book.edge.errors().text().contains("upstream_access_token_header");
        assert_eq!(said, expected.is_empty(), "{config}: {}", book.edge.errors().text());
    }
}

#[test]
fn s0_18() {
    let config = json!({"upstream_headers_claims": ["sub", "email", "missing"],
        "upstream_headers_names": ["X-User", "X-Email", "X-Missing"]});
    let newer = json!({"upstream_headers": [
        {"header": "X-User", "path": ["sub"]}, {"header": "X-Email", "path": ["email"]},
        {"header": "X-Missing", "path": ["missing"]},
    ]});
    // Where both stand they must agree: a name that means two things is refused.
    let twice = plus(config.clone(), newer.clone());
    let other = json!([{"header": "X-User", "path": ["email"]}]);
    let refused = plus(twice.clone(), json!({"upstream_headers": other}));
    let error = Setup::new(guarded("http://127.0.0.1:1", plus(bearer("https://a.example"), refused))).try_start();
    let error = error.err().expect("a refusal").to_string();
    assert!(error.contains("config.upstream_headers_names: found \"X-User\" again"), "{error}");
    for config in [config, newer, twice] {
        let book = Playbook::with(config.clone());
        book.issuer.know("opaque", json!({"active": true, "aud": AUDIENCE, "sub": "bob", "email": "bob@x.example"}));
        let signed = book.token(json!({"email": "alice@x.example"}));
        for (token, user, email) in [(signed.as_str(), "alice", "alice@x.example"), ("opaque", "bob", "bob@x.example")]
        {
            // What the client sends under those names is not the edge's word.
            let fields = [&format!("Authorization: Bearer {token}"), "X-User: root", "X-Missing: root", "x_user: root"];
            assert_eq!(book.edge.ask(get("/", &fields)).status(), 200, "{config}");
            let seen = book.upstream.last();
            assert_eq!(seen.field("x-user"), Some(user), "{config}");
            assert_eq!(seen.field("x-email"), Some(email), "{config}");
            assert_eq!(seen.field("x-missing"), None, "{config}");
        }
    }
}
