use super::*;
use crate::config::problem::Sink;
use crate::config::value::{Entry, Kind, Value};
use crate::plugin::Plugin;
use crate::plugin::testing::{Scene, fields, parse};
use crate::state::State;
use crate::token::Now;
use crate::token::testing::{TestIssuer, TestKey, policy, sources};
use jsonwebtoken::Algorithm;

/// Kong's parameters with their defaults.
const DEFAULTS: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/jwt_signer/defaults.yaml"));

fn problems(yaml: &str) -> Vec<String> {
    parse(NAME, yaml).err().unwrap_or_default()
}

fn entries() -> Vec<Entry> {
    let tree = Value::from_yaml(DEFAULTS, &Sink::new("k")).expect("YAML");
    match tree.kind {
        Kind::Object(entries) => entries,
        _ => panic!("no object"),
    }
}

/// Problems of a configuration of these parameters.
fn said(entries: Vec<Entry>) -> Vec<String> {
    let sink = Sink::new("k");
    let value = Value { line: 1, kind: Kind::Object(entries) };
    let reader = Reader::new(&value, "config", &sink).expect("an object");
    let plugin = Plugin::parse(NAME, reader, &Place::default(), &PluginEnv::default());
    let (problems, _) = sink.into_parts();
    assert_eq!(plugin.is_some(), problems.is_empty(), "{problems:?}");
    problems.iter().map(ToString::to_string).collect()
}

fn entry(key: &str, kind: Kind) -> Entry {
    Entry { key: key.to_owned(), line: 1, value: Value { line: 1, kind } }
}

#[test]
fn a_dump_with_every_default_loads() {
    // A6
    let entries = entries();
    assert_eq!(entries.len(), 153);
    assert_eq!(said(entries), [""; 0]);
}

#[test]
fn every_parameter_is_known_and_has_its_type() {
    // A6: an object is no value of any but the certificates and the maps, a number none of those.
    for known in entries() {
        let key = known.key;
        let wrong = match &*key {
            key if key.ends_with("_certificate") => Kind::Bool(true),
            key if key.starts_with("add_") || key.starts_with("set_") => Kind::Bool(true),
            _ => Kind::Object(vec![entry("x", Kind::Bool(true))]),
        };
        let problems = said(vec![entry(&key, wrong)]);
        assert!(problems.iter().any(|text| text.contains(&format!("config.{key}"))), "{key}: {problems:?}");
    }
    assert!(problems("{access_token_isuer: a}").concat().contains("access_token_issuer"));
}

#[test]
fn what_cannot_be_is_said_by_name() {
    for (yaml, part) in [
        ("{access_token_request_header: 'a b'}", "config.access_token_request_header: found \"a b\""),
        ("{access_token_upstream_header: 'Authorization:Basic'}", "config.access_token_upstream_header"),
        ("{access_token_jwks_uri: 'http://issuer.example/jwks'}", "config.access_token_jwks_uri"),
        ("{access_token_jwks_uri: 'https://a/j', access_token_jwks_uri_client_username: u}", "both, or neither"),
        ("{access_token_jwks_uri: 'https://a/j', access_token_jwks_uri_client_password: p}", "both, or neither"),
        ("{access_token_jwks_uri_client_certificate: {id: x}}", "the id of a certificate of this configuration"),
        ("{access_token_jwks_uri_client_certificate: {}}", "config.access_token_jwks_uri_client_certificate.id"),
        ("{access_token_signing_algorithm: RS384}", "config.access_token_signing_algorithm"),
        ("{access_token_signing_algorithm: none}", "config.access_token_signing_algorithm"),
        ("{access_token_signing_algorithm: HS256}", "nobody else has the secrets of a generated set"),
        ("{access_token_keyset: 'http://keys.example/set'}", "config.access_token_keyset"),
        ("{access_token_scopes_required: []}", "config.access_token_scopes_required"),
        ("{access_token_scopes_required: [' ']}", "config.access_token_scopes_required"),
        ("{access_token_issuers_allowed: []}", "config.access_token_issuers_allowed"),
        ("{access_token_expiry_claim: []}", "config.access_token_expiry_claim"),
        ("{access_token_required_claims: [sub]}", "config.access_token_required_claims"),
        ("{access_token_consumer_by: [email]}", "config.access_token_consumer_by"),
        ("{access_token_leeway: -1}", "config.access_token_leeway"),
        ("{channel_token_upstream_header: authorization}", "which `access_token_upstream_header` is too"),
        ("{original_access_token_upstream_header: X-T, channel_token_upstream_header: x-t}", "a header of its own"),
        ("{set_claims: {a: 1}}", "config.set_claims"),
        ("{access_token_introspection_body_args: 'a=1&token=x'}", "config.access_token_introspection_body_args"),
        ("{realm: \"a\\nb\"}", "config.realm"),
        ("{strict_claims: true}", "`upstream_audience`"),
        ("{claims_allowed: [sub]}", "`strict_claims: true` beside it"),
        (
            "{strict_claims: true, upstream_audience: u, access_token_upstream_leeway: 1}",
            "at most 0 under `strict_claims`",
        ),
        ("{strict_claims: true, upstream_audience: u, set_claims: {iss: x}}", "under `strict_claims` the edge writes"),
    ] {
        let problems = problems(yaml);
        assert!(problems.len() == 1 && problems[0].contains(part), "{yaml}: {problems:?}");
    }
}

/// An issuer with a key, and a signer for it.
struct Signed {
    key: TestKey,
    plugin: Plugin,
    _issuer: TestIssuer,
}

impl Signed {
    async fn new(more: &str) -> Self {
        let key = TestKey::new(Algorithm::ES256, "k");
        let issuer = TestIssuer::start(&[&key]).await;
        let control = tokio::runtime::Handle::current();
        let env = PluginEnv::new(sources(policy(), State::in_memory()), control);
        let yaml =
            format!("{{access_token_jwks_uri: '{}', channel_token_optional: true, {more}}}", issuer.page("/jwks"));
        let sink = Sink::new("k");
        let value = Value::from_yaml(&yaml, &sink).expect("YAML");
        let reader = Reader::new(&value, "config", &sink).expect("an object");
        let plugin = Plugin::parse(NAME, reader, &Place::default(), &env);
        let (problems, _) = sink.into_parts();
        assert!(problems.is_empty(), "{problems:?}");
        Self { key, plugin: plugin.expect("a plugin"), _issuer: issuer }
    }

    /// The answer's status and reason, or the fields that go upstream.
    async fn ask(&self, claims: &str) -> Result<Vec<(String, String)>, (u16, Reason)> {
        let token = self.key.mint_raw(r#"{"alg":"ES256","kid":"k","typ":"JWT"}"#, claims);
        let mut scene = Scene::new("GET", &[("Authorization", &format!("Bearer {token}"))]);
        match scene.access(&self.plugin).await {
            Access::Continue => Ok(fields(&scene.head)),
            Access::Refuse(refusal) => Err((refusal.status, refusal.reason)),
            Access::Answer(answer) => Err((answer.status, answer.reason)),
        }
    }
}

/// In seconds since 1970.
fn now() -> i64 {
    Now::read().unix_ms / 1000
}

fn claims(more: &str) -> String {
    let exp = now() + 600;
    format!("{{\"iss\":\"https://a\",\"sub\":\"ann\",\"exp\":{exp}{more}}}")
}

#[tokio::test]
async fn each_check_refuses_for_its_own_reason() {
    // T29, T31, T32, T33, T34
    let past = now() - 10;
    let ahead = now() + 300;
    for (config, claims, expected) in [
        ("", claims(""), None),
        ("", format!("{{\"exp\":{past}}}"), Some((401, Reason::TokenExpired))),
        ("access_token_leeway: 60", format!("{{\"exp\":{past}}}"), None),
        ("verify_access_token_expiry: false", format!("{{\"exp\":{past}}}"), None),
        ("", "{}".to_owned(), Some((401, Reason::ClaimInvalid))),
        ("access_token_optional_claims: [[exp]]", "{}".to_owned(), None),
        ("verify_access_token_expiry: false", "{}".to_owned(), None),
        (
            "access_token_expiry_claim: [meta, end]",
            format!("{{\"meta\":{{\"end\":{past}}}}}"),
            Some((401, Reason::TokenExpired)),
        ),
        ("access_token_expiry_claim: [meta, end]", format!("{{\"meta\":{{\"end\":{ahead}}}}}"), None),
        (
            "access_token_expiry_claim: [meta, end]",
            "{\"meta\":{\"end\":\"x\"}}".to_owned(),
            Some((401, Reason::ClaimInvalid)),
        ),
        ("", claims(&format!(",\"nbf\":{ahead}")), Some((401, Reason::TokenNotYetValid))),
        (
            "verify_access_token_notbefore: true",
            claims(&format!(",\"nbf\":{ahead}")),
            Some((401, Reason::TokenNotYetValid)),
        ),
        ("verify_access_token_notbefore: false", claims(&format!(",\"nbf\":{ahead}")), None),
        ("access_token_issuers_allowed: ['https://b', 'https://a']", claims(""), None),
        ("access_token_issuers_allowed: ['https://a/']", claims(""), Some((401, Reason::IssuerNotAllowed))),
        ("access_token_issuers_allowed: ['https://b'], verify_access_token_issuer: false", claims(""), None),
        ("access_token_subjects_allowed: [bob]", claims(""), Some((401, Reason::SubjectNotAllowed))),
        ("access_token_subjects_allowed: [ann]", claims(""), None),
        (
            "access_token_subject_claim: [act, sub], access_token_subjects_allowed: [bob]",
            claims(",\"act\":{\"sub\":\"bob\"}"),
            None,
        ),
        ("access_token_audiences_allowed: [x]", claims(",\"aud\":[\"y\",\"x\"]"), None),
        ("access_token_audiences_allowed: [x]", claims(",\"aud\":\"x y\""), Some((401, Reason::AudienceNotAllowed))),
        ("access_token_audiences_allowed: [x]", claims(""), Some((401, Reason::AudienceNotAllowed))),
        ("access_token_audiences_allowed: [x], access_token_optional_claims: [[aud]]", claims(""), None),
        (
            "access_token_audiences_allowed: [x], access_token_optional_claims: [[aud]]",
            claims(",\"aud\":\"y\""),
            Some((401, Reason::AudienceNotAllowed)),
        ),
        ("access_token_required_claims: [[sub], [act, sub]]", claims(""), Some((401, Reason::ClaimMissing))),
        ("access_token_required_claims: [[sub]]", claims(""), None),
        ("access_token_required_claims: [[gone]]", claims(",\"gone\":null"), Some((401, Reason::ClaimMissing))),
        ("access_token_scopes_required: ['a b', c]", claims(",\"scope\":\"b a\""), None),
        ("access_token_scopes_required: ['a b', c]", claims(",\"scope\":\"c\""), None),
        ("access_token_scopes_required: ['a b', c]", claims(",\"scope\":\"a\""), Some((403, Reason::ScopeMissing))),
        ("access_token_scopes_required: [a]", claims(",\"scope\":\"A\""), Some((403, Reason::ScopeMissing))),
        ("access_token_scopes_required: ['a,b']", claims(",\"scope\":\"a b\""), Some((403, Reason::ScopeMissing))),
        ("access_token_scopes_required: [a]", claims(""), Some((403, Reason::ScopeMissing))),
        ("access_token_scopes_required: [a], verify_access_token_scopes: false", claims(""), None),
        (
            "access_token_scopes_claim: [realm_access, roles], access_token_scopes_required: [a]",
            claims(",\"realm_access\":{\"roles\":[\"a\"]}"),
            None,
        ),
        ("access_token_consumer_claim: [sub]", claims(""), Some((403, Reason::ConsumerUnknown))),
        ("", claims(",\"cnf\":{\"jkt\":\"x\"}"), Some((401, Reason::TokenBound))),
    ] {
        // Nobody looks at what would go upstream.
        let signed = Signed::new(&format!("access_token_signing: false, {config}")).await;
        for _ in 0..2 {
            assert_eq!(signed.ask(&claims).await.err(), expected, "{config} {claims}");
        }
    }
}

#[tokio::test]
async fn the_token_is_replaced_and_the_same_one_goes_up_again() {
    // T43, R6
    let signed = Signed::new("original_access_token_upstream_header: X-Original").await;
    let claims = claims("");
    let first = signed.ask(&claims).await.expect("it passes");
    let value = |name: &str, fields: &[(String, String)]| {
        let values: Vec<_> = fields.iter().filter(|(known, _)| known == name).map(|(_, value)| value.clone()).collect();
        assert_eq!(values.len(), 1, "{name}: {fields:?}");
        values[0].clone()
    };
    let new = value("Authorization", &first);
    let original = value("X-Original", &first);
    assert!(new.starts_with("Bearer ") && !original.contains(' ') && !new.contains(&original));
    let (_, payload) = new.split_once('.').expect("a JWT");
    let payload = payload.split('.').next().expect("a payload");
    let payload =
        base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, payload).expect("base64url");
    let payload = String::from_utf8(payload).expect("text");
    assert!(payload.contains("\"iss\":\"kong\"") && payload.contains("\"original_iss\":\"https://a\""), "{payload}");
}

#[tokio::test]
async fn tokens_that_nobody_can_find_are_the_configurations_fault() {
    // S2.7
    for (yaml, status, reason) in [
        ("{}", 401, Reason::HeaderMissing),
        ("{access_token_request_header: ''}", 500, Reason::TokenUnlocated),
        ("{access_token_request_header: null}", 500, Reason::TokenUnlocated),
        ("{access_token_optional: true}", 500, Reason::TokenUnlocated),
        ("{access_token_optional: true, channel_token_request_header: X-C}", 401, Reason::HeaderMissing),
    ] {
        let plugin = parse(NAME, yaml).expect(yaml);
        let mut scene = Scene::new("GET", &[]);
        let (found, reason_found, challenge) = match scene.access(&plugin).await {
            Access::Refuse(refusal) => (refusal.status, refusal.reason, refusal.challenges[0].clone()),
            Access::Answer(answer) => {
                (answer.status, answer.reason, answer.fields.first().map(|field| field.1.clone()))
            }
            Access::Continue => panic!("it passes: {yaml}"),
        };
        assert_eq!((found, reason_found), (status, reason), "{yaml}");
        assert_eq!(challenge.as_deref(), Some(&b"Bearer realm=\"api.example\""[..]));
    }
    let plugin = parse(NAME, "{access_token_optional: true, channel_token_optional: true}").expect("a plugin");
    assert!(matches!(Scene::new("GET", &[]).access(&plugin).await, Access::Continue));
}

#[tokio::test]
async fn realms_are_quoted() {
    // T37
    let plugin = parse(NAME, "{realm: 'a \"b\\c', channel_token_optional: true}").expect("a plugin");
    let mut scene = Scene::new("GET", &[("authorization", "Bearer a, b")]);
    let Access::Refuse(refusal) = scene.access(&plugin).await else { panic!("it passes") };
    let expected = &b"Bearer realm=\"a \\\"b\\\\c\", error=\"invalid_token\""[..];
    assert_eq!((refusal.reason, refusal.challenges[0].as_deref()), (Reason::HeaderMalformed, Some(expected)));
}

#[test]
fn the_fields_that_it_writes_are_the_edges() {
    // P1
    let plugin = parse(
        NAME,
        "{channel_token_request_header: X-In, channel_token_upstream_header: X-Out, original_access_token_upstream_header: X-Was}",
    );
    let plugin = plugin.expect("a plugin");
    let mut owned = plugin.owned_names();
    owned.sort();
    assert_eq!(owned, ["x-out".into(), "x-was".into()] as [Box<str>; 2]);
    assert_eq!(plugin.credential_names(), ["x-in".into()] as [Box<str>; 1]);
}
