use super::*;
use crate::config::problem::Sink;
use crate::config::snapshot::{Consumer, Consumers};
use crate::config::value::Value as Tree;
use crate::http::head::Version;
use crate::http::head::{Head, Owner};
use crate::plugin::Caller;
use crate::plugin::testing::Scene;
use crate::state::State;
use crate::token::cache::{LocalCache, VerdictCache};
use crate::token::testing::{CLIENT, TestIssuer, TestKey, claims, policy, sources};
use jsonwebtoken::Algorithm;
use serde_json::{Value as Json, json};
use uuid::Uuid;

/// A plugin if there is one, its problems and its warnings.
pub(super) type Parsed = (Option<OpenidConnect>, Vec<String>, Vec<String>);

/// Parses a `config`.
fn parse_with(yaml: &str, env: &PluginEnv) -> Parsed {
    let value = Tree::from_yaml(yaml, &Sink::new("k")).expect("YAML");
    parse_tree(&value, env)
}

/// The same of a tree.
pub(super) fn parse_tree(config: &Tree, env: &PluginEnv) -> Parsed {
    let sink = Sink::new("k");
    let plugin =
        Reader::new(config, "config", &sink).and_then(|reader| OpenidConnect::parse(reader, &Place::default(), env));
    let (problems, warnings) = sink.into_parts();
    (plugin, problems.iter().map(ToString::to_string).collect(), warnings)
}

fn problems(yaml: &str) -> Vec<String> {
    parse_with(yaml, &PluginEnv::default()).1
}

fn warnings(yaml: &str) -> Vec<String> {
    let (plugin, problems, warnings) = parse_with(yaml, &PluginEnv::default());
    assert!(plugin.is_some(), "{problems:?}");
    warnings
}

#[test]
fn defaults_are_kongs_but_for_the_documented_ones() {
    let (plugin, _, warnings) = parse_with("issuer: https://a.example", &PluginEnv::default());
    let plugin = plugin.expect("a plugin");
    let settings = plugin.validator().settings();
    assert!(settings.verify_signature && settings.verify_claims && plugin.run_on_preflight);
    assert_eq!(settings.leeway, std::time::Duration::ZERO);
    assert_eq!(settings.algorithms.len(), 9);
    assert!(settings.algorithms.iter().all(|algorithm| !format!("{algorithm:?}").starts_with("HS")));
    assert!(plugin.validator().remote().is_none(), "nobody is asked where there is no client to ask with");
    assert!(plugin.headers.hide_credentials() && !plugin.headers.needs_token(true) && warnings.is_empty());
    assert!(plugin.owned_names().is_empty());
}

#[test]
fn what_is_wrong_is_refused_with_what_would_be_right() {
    // A6, A7
    for (wrong, expected) in [
        ("introspection_endpoint: 'http://idp.example/i'", "is not https"),
        ("session_storage: redis", "expected \"cookie\"; instead: an application that logs browsers in"),
        ("redirect_uri: ['https://a/cb']", "expected nothing; instead: an application that logs browsers in"),
        ("principals: {enabled: true}", "config.principals.enabled: found true, expected false; instead: consumers"),
        ("introspect_jwt_tokens: true", "`introspection` among `auth_methods`, and a client to ask with"),
        ("{using_pseudo_issuer: true, auth_methods: [introspection]}", "`introspection_endpoint`: a pseudo issuer"),
        ("scope_required: [a]", "found an unknown field, expected `scopes_required`"),
        ("require_scop: [a]", "found an unknown field"),
        ("auth_methods: [authorization_code]", "logins of browsers are an application's"),
        ("auth_methods: [kong_oauth2]", "no OAuth 2.0 plugin"),
        (
            "auth_methods: [magic]",
            "expected bearer, introspection, userinfo, refresh_token, password or client_credentials",
        ),
        ("auth_methods: []", "at least one method"),
        ("bearer_token_param_type: [headers]", "expected one of: header, query, body, cookie"),
        ("bearer_token_cookie_name: t", "expected both, or neither"),
        ("algorithms_allowed: []", "found an empty list, expected at least one algorithm"),
        ("algorithms_allowed: [none]", "expected one of: RS256"),
        ("algorithms_allowed: [HS256]", "`enable_hs_signatures: true` for those"),
        ("enable_hs_signatures: true", "`client_secret`, which is the key"),
        ("issuers_allowed: []", "found an empty list"),
        ("scopes_required: []", "found an empty list"),
        ("audience_required: []", "found an empty list"),
        ("typ_allowed: []", "header types"),
        ("leeway: -1", "config.leeway"),
        ("using_pseudo_issuer: true", "a pseudo issuer is not asked for its keys"),
        ("jwks_endpoint: 'http://idp.example/jwks'", "is not https"),
        ("extra_jwks_uris: ['ftp://idp.example/jwks']", "is not an http or https URL"),
        ("discovery: 'http://idp.example/d'", "is not https"),
        ("discovery_headers_names: [a]", "1 names for 0 values"),
        ("upstream_access_token_header: 'a b'", "expected a header name"),
        ("upstream_access_token_header: 'x:basic'", "expected a header name"),
        ("consumer_claims: [sub]", "claim paths"),
        ("consumer_by: [email]", "expected one of: id, username, custom_id"),
        ("bearer_only: false", "expected true, or `auth_methods`"),
        ("{clock_skew_leeway: 1, leeway: 2}", "`leeway` alone"),
    ] {
        let wrong = wrong.trim_matches(['{', '}'].as_ref());
        let wrong = if wrong.starts_with("principals") { format!("{wrong}}}") } else { wrong.to_owned() };
        let found = problems(&format!("{{issuer: 'https://a.example', {wrong}}}"));
        assert!(found.iter().any(|problem| problem.contains(expected)), "{wrong}: {found:?}");
    }
    assert!(problems("{}").iter().any(|problem| problem.contains("config.issuer")), "A7");
    assert!(problems("issuer: http://idp.example").iter().any(|problem| problem.contains("is not https")));
}

#[test]
fn an_empty_algorithm_list_is_an_error() {
    // T2
    assert!(!problems("{issuer: 'https://a.example', algorithms_allowed: []}").is_empty());
    let (plugin, ..) = parse_with("{issuer: 'https://a.example', algorithms_allowed: [ES256]}", &PluginEnv::default());
    assert_eq!(plugin.expect("a plugin").validator().settings().algorithms, [Algorithm::ES256]);
}

#[test]
fn weaker_settings_and_blog_spellings_are_remarked_on() {
    let seed = "{issuer: 'https://ping.example.com/as', \
                discovery: 'https://ping.example.com/as/.well-known/openid-configuration', client_id: c, client_secret: s, \
                verify_signature: true, verify_claims: true, allowed_audiences: ['api://my-api'], scopes_required: [api.read], \
                clock_skew_leeway: 60, bearer_only: true}";
    let remarks = warnings(seed);
    for word in ["discovery", "allowed_audiences", "clock_skew_leeway", "bearer_only"] {
        assert!(remarks.iter().any(|remark| remark.contains(word)), "{word}: {remarks:?}");
    }
    let (plugin, ..) = parse_with(seed, &PluginEnv::default());
    let plugin = plugin.expect("a plugin");
    assert_eq!(plugin.validator().settings().leeway.as_secs(), 60);
    assert_eq!(plugin.rules.scope(), "api.read");
    assert!(plugin.validator().remote().is_some(), "there is a client to ask with");
    for weak in [
        "verify_signature: false",
        "verify_claims: false",
        "ssl_verify: false",
        "upstream_access_token_header: authorization",
    ] {
        assert_eq!(warnings(&format!("{{issuer: 'https://a.example', {weak}}}")).len(), 1, "{weak}");
    }
}

/// An instance behind a real issuer.
struct Door {
    key: TestKey,
    issuer: TestIssuer,
    plugin: OpenidConnect,
    cache: LocalCache,
    consumers: Consumers,
}

/// What a request came to.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    status: u16,
    reason: Option<Reason>,
    challenge: Option<String>,
}

impl Door {
    async fn new(extra: &str) -> Self {
        let key = TestKey::new(Algorithm::ES256, "k1");
        let issuer = TestIssuer::start(&[&key]).await;
        let env = PluginEnv::new(sources(policy(), State::in_memory()), None);
        let (plugin, problems, _) = parse_with(&format!("{{issuer: '{}', {extra}}}", issuer.url), &env);
        let plugin = plugin.unwrap_or_else(|| panic!("{problems:?}"));
        let consumer = |id, username: Option<&str>, custom_id: Option<&str>| Consumer {
            id: Uuid::from_u128(id),
            username: username.map(Box::from),
            custom_id: custom_id.map(Box::from),
            ..Consumer::default()
        };
        let consumers = Consumers::new([
            consumer(1, Some("ann"), None),
            consumer(2, None, Some("app-2")),
            consumer(3, Some("e\r\nvil: 1"), Some("app-3")),
        ]);
        Self { key, issuer, plugin, cache: VerdictCache::new(1 << 20).local(), consumers }
    }

    fn token(&self, with: Json) -> String {
        self.key.mint(&claims(&self.issuer.url, with))
    }

    async fn access(&self, head: &mut Head, query: Option<&str>) -> Result<Caller, Seen> {
        let mut scene = self.scene(head, query);
        let access = self
            .plugin
            .access(&mut Request { consumers: &self.consumers, cache: &self.cache, ..scene.request() })
            .await;
        std::mem::swap(head, &mut scene.head);
        match access {
            Access::Continue => Ok(scene.notes.caller),
            Access::Refuse(refusal) => {
                let detail = refusal.detail();
                assert!(!detail.contains("eyJ") && !detail.chars().any(char::is_control), "{detail}");
                let challenge =
                    refusal.challenges.into_iter().flatten().next().map(|text| String::from_utf8(text).expect("text"));
                Err(Seen { status: refusal.status, reason: Some(refusal.reason), challenge })
            }
            Access::Answer(_) => panic!("it refuses, or lets through"),
        }
    }

    fn scene(&self, head: &mut Head, query: Option<&str>) -> Scene {
        let mut scene = Scene::new("GET", &[]);
        std::mem::swap(&mut scene.head, head);
        scene.query = query.map(str::to_owned);
        scene.client = CLIENT;
        scene
    }

    async fn send(&self, token: &str) -> Result<Caller, Seen> {
        self.access(&mut request("GET", &[("Authorization", &format!("Bearer {token}"))]), None).await
    }

    async fn outcome(&self, with: Json) -> (u16, Option<Reason>) {
        match self.send(&self.token(with)).await {
            Ok(_) => (200, None),
            Err(seen) => (seen.status, seen.reason),
        }
    }
}

fn request(method: &str, fields: &[(&str, &str)]) -> Head {
    let mut head = Head::default();
    head.start_request(method.as_bytes(), b"/", Version::Http11);
    for (name, value) in fields {
        head.push(Owner::Peer, name.as_bytes(), value.as_bytes());
    }
    head
}

fn fields(head: &Head) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    head.fields().map(|field| (text(field.name), text(field.value))).collect()
}

#[tokio::test]
async fn answers_have_their_status_and_challenge() {
    // T37
    let door = Door::new("scopes_required: [read], audience_required: [api]").await;
    let good = door.token(json!({}));
    assert!(door.send(&good).await.is_ok());
    let seen = |status, reason, challenge: &str| {
        Err(Seen { status, reason: Some(reason), challenge: (!challenge.is_empty()).then(|| challenge.to_owned()) })
    };
    let bare = "Bearer realm=\"api.example\"";
    let none = door.access(&mut request("GET", &[]), None).await.map(|_| ());
    assert_eq!(none, seen(401, Reason::HeaderMissing, bare));
    for (token, reason) in [
        (door.token(json!({"exp": 1})), Reason::TokenExpired),
        (format!("{}AAAA", &good[..good.len() - 4]), Reason::SignatureInvalid),
        ("opaque".to_owned(), Reason::IntrospectionUnavailable),
        (door.token(json!({"cnf": {"jkt": "x"}})), Reason::TokenBound),
    ] {
        let challenge = format!("{bare}, error=\"invalid_token\"");
        assert_eq!(door.send(&token).await.map(|_| ()), seen(401, reason, &challenge));
    }
    let scope = format!("{bare}, error=\"insufficient_scope\", scope=\"read\"");
    assert_eq!(
        door.send(&door.token(json!({"scope": "pread"}))).await.map(|_| ()),
        seen(403, Reason::ScopeMissing, &scope)
    );
    assert_eq!(
        door.send(&door.token(json!({"aud": "other"}))).await.map(|_| ()),
        seen(403, Reason::AudienceNotAllowed, &format!("{bare}, error=\"insufficient_scope\""))
    );
    let value = format!("Bearer {good}");
    let twice = [("Authorization", value.as_str()); 2];
    let challenge = format!("{bare}, error=\"invalid_request\"");
    let both = door.access(&mut request("GET", &twice), None).await.map(|_| ());
    assert_eq!(both, seen(400, Reason::HeaderMalformed, &challenge));
    let query = door.access(&mut request("GET", &twice[..1]), Some("a=1&access_token=x")).await.map(|_| ());
    assert_eq!(query, seen(400, Reason::TokenInQuery, &challenge));
    let terse = Door::new("expose_error_code: false").await;
    assert_eq!(terse.send("opaque").await.map(|_| ()), seen(401, Reason::IntrospectionUnavailable, bare));
    assert_eq!(
        terse.access(&mut request("GET", &twice), None).await.map(|_| ()),
        seen(400, Reason::HeaderMalformed, "")
    );
}

#[tokio::test]
async fn what_a_route_requires_is_judged_on_cached_facts() {
    // T33, T34
    let strict = Door::new(
        "scopes_required: ['read write', admin], audience_required: [api], roles_required: [ops], \
         roles_claim: [realm_access, roles], groups_required: ['a b'], claims_forbidden: [act]",
    )
    .await;
    let base = json!({"scope": "write read", "realm_access": {"roles": ["ops"]}, "groups": ["a", "b"]});
    let with = |name: &str, value: Json| {
        let mut claims = base.clone();
        claims[name] = value;
        claims
    };
    for _ in 0..2 {
        assert_eq!(strict.outcome(base.clone()).await, (200, None));
        assert_eq!(strict.outcome(with("scope", json!("admin"))).await, (200, None));
        assert_eq!(strict.outcome(with("aud", json!(["x", "api"]))).await, (200, None));
        for (name, value, reason) in [
            ("scope", json!("read"), Reason::ScopeMissing),
            ("scope", json!("read:all write"), Reason::ScopeMissing),
            ("scope", json!({"admin": true}), Reason::ScopeMissing),
            ("aud", json!("api api2"), Reason::AudienceNotAllowed),
            ("aud", json!("API"), Reason::AudienceNotAllowed),
            ("aud", json!([]), Reason::AudienceNotAllowed),
            ("aud", json!(null), Reason::AudienceNotAllowed),
            ("realm_access", json!({"roles": ["dev"]}), Reason::RoleMissing),
            ("groups", json!("a"), Reason::GroupMissing),
            ("act", json!({}), Reason::ClaimForbidden),
        ] {
            assert_eq!(strict.outcome(with(name, value.clone())).await, (403, Some(reason)), "{name} {value}");
        }
    }
}

#[tokio::test]
async fn id_tokens_are_refused_unless_switched_off() {
    // T25, S0.14
    for (extra, expected) in [
        ("client_id: web", (401, Some(Reason::IdTokenUsed))),
        ("client_id: web, id_tokens_refused: false", (200, None)),
    ] {
        let door = Door::new(extra).await;
        for marks in [json!({"nonce": "n"}), json!({"at_hash": "h"}), json!({"aud": "web", "scope": null})] {
            assert_eq!(door.outcome(marks.clone()).await, expected, "{extra} {marks}");
        }
        assert_eq!(door.outcome(json!({"aud": "web"})).await, (200, None));
    }
    let strict = Door::new("typ_allowed: [at+jwt]").await;
    assert_eq!(strict.outcome(json!({})).await, (401, Some(Reason::TypNotAllowed)));
}

#[tokio::test]
async fn preflights_pass_only_where_the_route_says_so() {
    for (extra, passes) in [("run_on_preflight: false", true), ("run_on_preflight: true", false)] {
        let door = Door::new(extra).await;
        assert_eq!(door.access(&mut request("OPTIONS", &[]), None).await.is_ok(), passes);
        assert!(door.access(&mut request("GET", &[]), None).await.is_err());
        assert!(door.access(&mut request("options", &[]), None).await.is_err());
    }
}

#[tokio::test]
async fn the_token_reaches_the_upstream_as_the_settings_say() {
    // T43
    for (extra, spelled, expected) in [
        ("", "Bearer", vec![("Authorization", "Bearer T")]),
        ("", "bearer ", vec![("Authorization", "Bearer T")]),
        ("hide_credentials: false", "Bearer", vec![("Authorization", "Bearer T")]),
        ("upstream_access_token_header: null", "Bearer", vec![]),
        ("upstream_access_token_header: ''", "Bearer", vec![]),
        ("upstream_access_token_header: null, hide_credentials: false", "Bearer", vec![("Authorization", "Bearer T")]),
        ("upstream_access_token_header: authorization", "Bearer", vec![("Authorization", "T")]),
        ("upstream_access_token_header: X-Token", "Bearer", vec![("X-Token", "T")]),
        ("upstream_access_token_header: 'X-Token:bearer'", "Bearer", vec![("X-Token", "Bearer T")]),
        (
            "upstream_access_token_header: X-Token, hide_credentials: false",
            "Bearer",
            vec![("Authorization", "Bearer T"), ("X-Token", "T")],
        ),
    ] {
        let door = Door::new(extra).await;
        let token = door.token(json!({}));
        let mut head = request("GET", &[("Authorization", &format!("{spelled} {token}"))]);
        assert!(door.access(&mut head, None).await.is_ok(), "{extra}");
        let mut seen: Vec<_> =
            fields(&head).into_iter().map(|(name, value)| (name, value.replace(&token, "T"))).collect();
        assert_eq!(seen.pop(), Some(("X-Credential-Identifier".to_owned(), "user".to_owned())), "{extra}");
        let expected: Vec<_> = expected.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        assert_eq!(seen, expected, "{extra} {spelled}");
    }
    let owned = Door::new("upstream_access_token_header: X-Token").await.plugin.owned_names();
    assert_eq!(owned, [Box::from("x-token")]);
}

#[tokio::test]
async fn claims_map_to_consumers() {
    let door = Door::new("consumer_claims: [[client_id], [sub]]").await;
    for (claims, expected) in [
        (json!({"sub": "ann"}), Ok(1)),
        (json!({"client_id": "app-2"}), Ok(2)),
        (json!({"client_id": "nobody", "sub": "ann"}), Err(())),
        (json!({"sub": "Ann"}), Err(())),
        (json!({"sub": null}), Err(())),
        (json!({"client_id": ["ann"]}), Err(())),
    ] {
        let seen = door.send(&door.token(claims.clone())).await;
        let seen = seen.map(|identity| identity.consumer.map_or(0, |consumer| consumer.id.as_u128()));
        assert_eq!(
            seen.as_ref().map_err(|seen| seen.reason),
            expected.as_ref().map_err(|()| Some(Reason::ConsumerUnknown)),
            "{claims}"
        );
        if let Err(seen) = seen {
            assert_eq!((seen.status, seen.challenge), (403, None));
        }
    }
    let optional = Door::new("consumer_claim: sub, consumer_optional: true, consumer_by: [id]").await;
    let unmapped = optional.send(&optional.token(json!({"exp": 4_102_444_800u64}))).await.expect("let through");
    assert_eq!((unmapped.consumer, unmapped.expires_unix_ms), (None, Some(4_102_444_800_000)));
    let by_id = optional.token(json!({"sub": Uuid::from_u128(1).to_string()}));
    let mut head = request("GET", &[("Authorization", &format!("Bearer {by_id}"))]);
    assert!(optional.access(&mut head, None).await.is_ok());
    let added: Vec<_> = fields(&head).into_iter().skip(1).collect();
    assert_eq!(
        added,
        [
            ("X-Consumer-ID".to_owned(), Uuid::from_u128(1).to_string()),
            ("X-Consumer-Username".to_owned(), "ann".to_owned()),
            ("X-Credential-Identifier".to_owned(), Uuid::from_u128(1).to_string()),
        ]
    );
}

#[tokio::test]
async fn no_value_becomes_a_second_field() {
    // T35
    let door = Door::new("consumer_claim: sub").await;
    let token = door.token(json!({"sub": "app-3"}));
    let mut head = request("GET", &[("Authorization", &format!("Bearer {token}"))]);
    assert!(door.access(&mut head, None).await.is_ok());
    let names: Vec<_> = fields(&head).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["Authorization", "X-Consumer-ID", "X-Consumer-Custom-ID", "X-Credential-Identifier"]);
}

#[tokio::test]
async fn an_issuer_that_is_down_is_503_with_retry_after() {
    // K7
    let door = Door::new("scopes_required: [read]").await;
    door.issuer.answer("/.well-known/openid-configuration", 500, "");
    let mut head = request("GET", &[("Authorization", &format!("Bearer {}", door.token(json!({}))))]);
    assert_eq!(
        door.access(&mut head, None).await.map(|_| ()),
        Err(Seen { status: 503, reason: Some(Reason::KeysUnavailable), challenge: None })
    );
    let mut scene = door.scene(&mut head, None);
    match door.plugin.access(&mut scene.request()).await {
        Access::Refuse(refusal) => assert!(refusal.retry_after.is_some_and(|seconds| seconds >= 1)),
        _ => panic!("no keys and a fetch that just failed"),
    };
}

/// Prints what the access phase costs: `cargo nextest run --release --run-ignored only --no-capture cost_of_access`.
#[tokio::test]
#[ignore = "a measurement"]
async fn cost_of_access() {
    let door = Door::new("scopes_required: [read], audience_required: [api]").await;
    let pad = "p".repeat(220);
    let good = door.token(json!({"pad": pad, "aud": ["account", "api"]}));
    let expired = door.token(json!({"pad": pad, "exp": 9}));
    let bad = format!("{}AAAA", &good[..good.len() - 4]);
    for (name, token) in
        [("good", &good), ("expired", &expired), ("bad signature", &bad), ("opaque", &"opaque".to_owned())]
    {
        let value = format!("Bearer {token}");
        let mut head = request(
            "GET",
            &[("Host", "api.example"), ("User-Agent", "x"), ("Accept", "*/*"), ("Authorization", &value)],
        );
        for _ in 0..4 {
            let _ = door.access(&mut head, None).await;
        }
        const ROUNDS: u32 = 200_000;
        let mut scene = door.scene(&mut head, Some("a=1"));
        let start = std::time::Instant::now();
        for _ in 0..ROUNDS {
            let request = Request { consumers: &door.consumers, cache: &door.cache, ..scene.request() };
            std::hint::black_box(door.plugin.access(&mut { request }).await);
        }
        println!("{name}, {} bytes: {:.0} ns", token.len(), start.elapsed().as_nanos() as f64 / f64::from(ROUNDS));
    }
}
