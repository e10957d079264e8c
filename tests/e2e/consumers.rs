//! Whom a token stands for, over sockets: consumers, their groups, credentials, and callers that could not be told.

use edge_tests::edge::{Edge, Setup};
use edge_tests::issuer::Issuer;
use edge_tests::mint::{self, Key, flip, with};
use edge_tests::upstream::Upstream;
use edge_tests::wire::{Message, get};
use serde_json::{Value, json};

use super::{AUDIENCE, bearer, plus};

/// An edge whose tokens stand for callers, with further plugins anywhere.
struct Callers {
    edge: Edge,
    upstream: Upstream,
    issuer: Issuer,
    key: Key,
}

impl Callers {
    fn start(oidc: Value, plugins: &[Value]) -> Self {
        let (upstream, key) = (Upstream::start(), Key::es256("es-1"));
        let issuer = Issuer::start(&[&key]);
        let guard = json!({"name": "openid-connect", "config": plus(bearer(&issuer.url()), oidc)});
        let route = json!({"name": "all", "paths": ["/"], "strip_path": false, "plugins": [guard]});
        let entities = json!({
            "_format_version": "3.0",
            "services": [{"name": "up", "url": upstream.url(), "routes": [route]}],
            "plugins": plugins,
            "consumers": [
                {"username": "Ann", "id": "00000000-0000-4000-8000-000000000001"},
                {"username": "bob", "custom_id": "1001", "groups": [{"name": "silver"}]},
                {"username": "guest", "id": "00000000-0000-4000-8000-000000000009"},
            ],
            "consumer_groups": [{"name": "gold"}, {"name": "silver"}],
        });
        Self { edge: Setup::new(entities.to_string()).start(), upstream, issuer, key }
    }

    fn token(&self, changes: Value) -> String {
        self.key.token(&with(mint::claims(&self.issuer.url(), AUDIENCE), changes))
    }

    /// A request with a good token and these claims.
    fn ask(&self, changes: Value) -> Message {
        self.edge.ask(super::with_token(&self.token(changes)))
    }

    /// The line that the access log has of an answer.
    fn line(&self, answer: &Message) -> Value {
        let id = answer.field("x-kong-request-id").expect("a request id").to_owned();
        self.edge.access(|line| line["request_id"] == id.as_str())
    }
}

/// A plugin that marks the responses of those it is for.
fn mark(value: &str, scope: Value) -> Value {
    plus(json!({"name": "response-transformer", "config": {"add": {"headers": [format!("X-Mark:{value}")]}}}), scope)
}

fn identity(seen: &Message) -> Vec<(String, String)> {
    let told = |name: &str| name.to_ascii_lowercase().starts_with("x-") && !name.contains("Forwarded");
    let ours =
        seen.fields.iter().filter(|(name, _)| told(name) && !["X-Real-IP", "X-Kong-Request-Id"].contains(&&**name));
    ours.map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn a_claim_maps_to_a_consumer_whose_plugins_run() {
    // P1: forged copies of what the upstream is told never reach it.
    let callers = Callers::start(
        json!({"consumer_claims": [["uid"], ["sub"]], "by_username_ignore_case": true}),
        &[mark("ann", json!({"consumer": "Ann"})), mark("silver", json!({"consumer_group": "silver"}))],
    );
    let forged = [
        "X-Consumer-ID: root",
        "x_consumer_username: root",
        "X-Anonymous-Consumer: true",
        "X.Credential.Identifier: root",
    ];
    let token = format!("Authorization: Bearer {}", callers.token(json!({"sub": "ANN"})));
    let answer = callers.edge.ask(get("/", &[&[token.as_str()][..], &forged].concat()));
    assert_eq!((answer.status(), answer.field("x-mark")), (200, Some("ann")));
    let seen = callers.upstream.last();
    let expected = [
        ("X-Consumer-ID", "00000000-0000-4000-8000-000000000001"),
        ("X-Consumer-Username", "Ann"),
        ("X-Credential-Identifier", "ANN"),
    ];
    assert_eq!(identity(&seen), pairs(&expected));
    let line = callers.line(&answer);
    assert_eq!((&line["consumer"], &line["credential"]), (&json!("Ann"), &json!("ANN")));
    assert_eq!(line["consumer_id"], "00000000-0000-4000-8000-000000000001");

    let answer = callers.ask(json!({"uid": 1001}));
    assert_eq!((answer.status(), answer.field("x-mark")), (200, Some("silver")));
    assert_eq!(callers.upstream.last().field("x-consumer-custom-id"), Some("1001"));

    for claims in [json!({"sub": "nobody"}), json!({"uid": 1002}), json!({"sub": "\u{212a}"}), json!({"sub": null})] {
        let answer = callers.ask(claims.clone());
        assert_eq!((answer.status(), answer.text().as_str()), (403, "{\"message\":\"Forbidden\"}"), "{claims}");
        assert_eq!((answer.field("www-authenticate"), answer.field("x-mark")), (None, None), "{claims}");
        assert_eq!(callers.edge.reason_of(&answer), "consumer_unknown", "{claims}");
    }
    assert_eq!(callers.upstream.requests().len(), 2);
}

#[test]
fn a_claim_puts_its_caller_into_consumer_groups() {
    let callers = Callers::start(
        json!({"consumer_groups_claim": ["app", "plan"], "consumer_claim": ["sub"], "consumer_optional": true}),
        &[mark("gold", json!({"consumer_group": "gold"})), mark("silver", json!({"consumer_group": "silver"}))],
    );
    for (claims, status, expected) in [
        (json!({"app": {"plan": "gold"}}), 200, Some("gold")),
        (json!({"app": {"plan": ["none", "silver"]}}), 200, Some("silver")),
        // What the token says goes before what the configuration says of the consumer.
        (json!({"app": {"plan": "gold"}, "sub": "bob"}), 200, Some("gold")),
        (json!({"app": {"plan": "Gold"}}), 403, None),
        (json!({"app": {"plan": {"gold": true}}}), 403, None),
        // Refused all the same, and known: the plugins that look at responses are those for the consumer.
        (json!({"sub": "bob"}), 403, Some("silver")),
    ] {
        let answer = callers.ask(claims.clone());
        assert_eq!((answer.status(), answer.field("x-mark")), (status, expected), "{claims}");
        if status == 403 {
            assert_eq!(callers.edge.reason_of(&answer), "consumer_group_unknown", "{claims}");
        }
    }
    let lenient = Callers::start(
        json!({"consumer_groups_claim": ["plan"], "consumer_groups_optional": true}),
        &[mark("gold", json!({"consumer_group": "gold"}))],
    );
    for (plan, expected) in [("gold", Some("gold")), ("none", None)] {
        let answer = lenient.ask(json!({"plan": plan}));
        assert_eq!((answer.status(), answer.field("x-mark")), (200, expected));
    }
}

#[test]
fn callers_that_could_not_be_told_are_the_anonymous_consumer() {
    let callers = Callers::start(
        json!({"anonymous": "guest", "consumer_claim": ["sub"], "scopes_required": ["orders:read"]}),
        &[mark("guest", json!({"consumer": "guest"}))],
    );
    let guest = [
        ("X-Consumer-ID", "00000000-0000-4000-8000-000000000009"),
        ("X-Consumer-Username", "guest"),
        ("X-Anonymous-Consumer", "true"),
    ];
    let bad = callers.token(json!({"sub": "Ann", "exp": 1}));
    for (name, request) in [
        ("none", get("/", &["X-Consumer-Username: root", "x_anonymous_consumer: false"])),
        ("expired", super::with_token(&bad)),
        ("flipped", super::with_token(&flip(&callers.token(json!({"sub": "Ann"}))))),
        ("unknown consumer", super::with_token(&callers.token(json!({"sub": "nobody"})))),
    ] {
        let answer = callers.edge.ask(request);
        assert_eq!((answer.status(), answer.field("x-mark")), (200, Some("guest")), "{name}");
        let seen = callers.upstream.last();
        assert_eq!(identity(&seen), pairs(&guest), "{name}");
        // What was not verified does not stand where verified tokens stand.
        assert_eq!(seen.field("authorization"), None, "{name}");
        let line = callers.line(&answer);
        assert_eq!((&line["consumer"], line.get("credential")), (&json!("guest"), None), "{name}");
    }
    let known = callers.ask(json!({"sub": "Ann"}));
    assert_eq!((known.status(), known.field("x-mark")), (200, None));
    assert_eq!(callers.upstream.last().field("x-anonymous-consumer"), None);
    let passed = callers.upstream.requests().len();
    let poor = callers.ask(json!({"sub": "Ann", "scope": "x"}));
    assert_eq!((poor.status(), callers.edge.reason_of(&poor).as_str()), (403, "scope_missing"));
    let token = format!("Authorization: Bearer {bad}");
    let twice = callers.edge.ask(get("/", &[token.as_str(), token.as_str()]));
    assert_eq!(twice.status(), 400);
    assert_eq!(callers.upstream.requests().len(), passed);

    let missing = Callers::start(json!({"anonymous": "1001"}), &[]);
    let answer = missing.edge.ask(get("/", &[]));
    assert_eq!(answer.status(), 401, "a custom id names no anonymous consumer");
    let missing = Callers::start(json!({"anonymous": "ghost", "consumer_claim": ["sub"]}), &[]);
    let answer = missing.ask(json!({"sub": "nobody"}));
    assert_eq!((answer.status(), missing.edge.reason_of(&answer).as_str()), (401, "consumer_unknown"));
    assert!(missing.upstream.requests().is_empty());
}

#[test]
fn limits_and_logs_go_by_the_credential() {
    // S1: one credential's trouble is its own, and the log says whose it is.
    let limit = json!({"name": "rate-limiting", "config": {"minute": 2, "limit_by": "credential"}});
    let callers = Callers::start(json!({"credential_claim": ["azp"], "scopes_required": ["orders:read"]}), &[limit]);
    for (azp, sub, status) in [("a", "s1", 200), ("a", "s2", 200), ("a", "s3", 429), ("b", "s1", 200), ("b", "s3", 200)]
    {
        let answer = callers.ask(json!({"azp": azp, "sub": sub}));
        assert_eq!(answer.status(), status, "{azp} {sub}");
        assert_eq!(callers.line(&answer)["credential"], azp);
    }
    let long = format!("c\"\r\n{}", "x".repeat(300));
    for (azp, logged) in
        [(json!("c"), Some("c".to_owned())), (json!(long), Some(long[..128].to_owned())), (json!(null), None)]
    {
        let answer = callers.ask(json!({"azp": azp, "scope": "orders:write"}));
        assert_eq!(answer.status(), 403);
        let line = callers.line(&answer);
        assert_eq!(line.get("credential").and_then(Value::as_str), logged.as_deref());
        let line = callers.edge.logged(answer.field("x-kong-request-id").unwrap());
        assert_eq!(line.contains("credential="), logged.is_some(), "{line}");
        assert!(!line.contains(&"x".repeat(200)), "{line}");
    }
    // A token that was not verified names nobody.
    let answer = callers.edge.ask(super::with_token(&flip(&callers.token(json!({"azp": "a"})))));
    assert_eq!((answer.status(), callers.line(&answer).get("credential")), (401, None));
}
