use super::super::failure::FailureKind;
use super::super::testing::{Idp, Reply, clients, endpoints, options, read};
use super::*;
use crate::state::State;
use crate::token::source::{Discovery, SourceSettings};
use crate::token::testing::{TestIssuer, TestKey, policy, sources};
use jsonwebtoken::Algorithm;
use serde_json::json;

fn around(source: Option<Arc<KeySource>>) -> Surroundings {
    Surroundings {
        issuer: "https://idp.example".into(),
        issuers: Issuers::Discovered,
        options: options(),
        clients: Arc::new(clients("{client_id: [edge, second], client_secret: [s, t]}")),
        source,
    }
}

fn endpoint(idp: &Idp, more: &str) -> UserInfoEndpoint {
    let yaml = format!("{{userinfo_endpoint: '{}'{more}}}", idp.url);
    let (endpoint, problems) = read(&yaml, |config| UserInfoEndpoint::read(config, &around(None), &endpoints()));
    assert_eq!(problems, [""; 0], "{yaml}");
    endpoint
}

#[tokio::test]
async fn the_token_goes_in_the_header_alone() {
    let idp = Idp::start(Reply::json(200, r#"{"sub":"ann","email":"a@b"}"#)).await;
    let more = ", userinfo_query_args_names: [x], userinfo_query_args_values: ['a&b'], userinfo_query_args_client: [x, y], \
                userinfo_headers_names: [x-a], userinfo_headers_values: [own], userinfo_headers_client: [x-a]";
    let endpoint = endpoint(&idp, more);
    let pairs = |pairs: &[(&str, &str)]| pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    let extras = Extras { client: 0, headers: pairs(&[("x-a", "theirs")]), args: pairs(&[("x", "2"), ("y", "3 4")]) };
    let info = endpoint.ask("opaque-token", &extras).await.expect("an answer");
    assert_eq!((&*info.json, info.jwt), (&br#"{"sub":"ann","email":"a@b"}"#[..], None));
    let seen = idp.last();
    assert!(seen.head.starts_with("GET /introspect?x=a%26b&y=3+4 HTTP/1.1"), "{}", seen.head);
    assert_eq!(seen.header("authorization"), Some("Bearer opaque-token"));
    assert_eq!((seen.header("accept"), seen.header("x-a")), (Some("application/json"), Some("own")));
    assert_eq!(seen.body, "");
}

#[tokio::test]
async fn only_a_clear_answer_is_taken() {
    for (status, content_type, body, expected) in [
        (200, "application/json", r#"{"sub":"ann"}"#, "taken"),
        (200, "application/json; charset=utf-8", r#"{"sub":"ann"}"#, "taken"),
        (200, "text/html", r#"{"sub":"ann"}"#, "malformed"),
        (200, "application/jwt", "a.b.c", "malformed"),
        (200, "application/json", r#"{"sub":""}"#, "malformed"),
        (200, "application/json", r#"{"sub":7}"#, "malformed"),
        (200, "application/json", "{}", "malformed"),
        (200, "application/json", r#"["sub"]"#, "malformed"),
        (200, "application/json", r#"{"sub":"ann"}{}"#, "malformed"),
        (200, "application/json", r#"{"sub":"ann","sub":"bob"}"#, "malformed"),
        (204, "application/json", "", "malformed"),
        (302, "application/json", r#"{"sub":"ann"}"#, "malformed"),
        (401, "application/json", r#"{"error":"invalid_token"}"#, "refused invalid_token"),
        (401, "text/html", "<html>", "refused "),
        (403, "text/html", "<html>", "malformed"),
        (403, "text/html\r\nWWW-Authenticate: Bearer realm=\"x\"", "<html>", "malformed"),
        (403, "text/html\r\nWWW-Authenticate: Basic error=\"x\"", "<html>", "malformed"),
        (403, "text/html\r\nWWW-Authenticate: Bearer error=\"insufficient_scope\"", "<html>", "refused "),
        (400, "text/html", "<html>", "malformed"),
        (500, "application/json", r#"{"sub":"ann"}"#, "status"),
    ] {
        let idp = Idp::start(Reply::of(status, content_type, body)).await;
        let found = match endpoint(&idp, "").ask("t", &Extras::default()).await {
            Ok(_) => "taken".to_owned(),
            Err(GrantError::Refused(refused)) => format!("refused {}", refused.error),
            Err(GrantError::Failed(failure)) => match failure.kind {
                FailureKind::Malformed(_) => "malformed".into(),
                FailureKind::Status(_) => "status".into(),
                kind => format!("{kind:?}"),
            },
        };
        assert_eq!(found, expected, "{status} {content_type} {body}");
    }
}

#[test]
fn settings_are_judged() {
    for (yaml, problem) in [
        ("{}", ""),
        ("{userinfo_endpoint: 'https://a.example/u', userinfo_accept: application/json}", ""),
        ("{userinfo_endpoint: 'http://a.example/u'}", "userinfo_endpoint: found"),
        ("{userinfo_accept: application/jwt}", "userinfo_accept: found a signed answer without keys"),
        ("{userinfo_accept: text/plain}", "expected one of"),
        ("{userinfo_query_args_client: [access_token]}", "the edge does not send itself"),
        ("{userinfo_headers_client: [authorization]}", "userinfo_headers_client: found"),
    ] {
        let (_, problems) = read(yaml, |config| UserInfoEndpoint::read(config, &around(None), &endpoints()));
        assert_eq!(problems.len(), usize::from(!problem.is_empty()), "{yaml}: {problems:?}");
        assert!(problems.concat().contains(problem), "{yaml}: {problems:?}");
    }
}

async fn issuer(key: &TestKey) -> (TestIssuer, Arc<KeySource>) {
    let issuer = TestIssuer::start(&[key]).await;
    let metadata = json!({"issuer": issuer.url, "jwks_uri": format!("{}/jwks", issuer.url)});
    issuer.answer("/.well-known/openid-configuration", 200, &metadata.to_string());
    let settings = SourceSettings { discovery: Some(Discovery::new(&issuer.url, None, &[])), ..issuer.source() };
    let source = sources(policy(), State::in_memory()).source(settings);
    (issuer, source)
}

// T25: a signed answer is the issuer's, for us, and no other kind of token.
#[tokio::test]
async fn a_signed_answer_is_verified() {
    crate::crypto::install();
    let (key, other) = (TestKey::new(Algorithm::ES256, "a"), TestKey::new(Algorithm::ES256, "a"));
    let (issuer, source) = issuer(&key).await;
    let good = json!({"iss": issuer.url, "aud": "edge", "sub": "ann"});
    let with = |more: serde_json::Value| {
        let mut claims = good.clone();
        for (name, value) in more.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims
    };
    let typed = |typ: &str| {
        let header = json!({"alg": "ES256", "typ": typ, "kid": "a"});
        key.mint_raw(&header.to_string(), &good.to_string())
    };
    for (answer, content_type, expected) in [
        (key.mint(&good), "application/jwt", true),
        (key.mint(&with(json!({"aud": ["x", "edge"]}))), "application/jwt", true),
        (key.mint(&with(json!({"aud": "second"}))), "application/jwt", true),
        (key.mint(&with(json!({"aud": ["edge "]}))), "application/jwt", false),
        (key.mint(&good), "application/json", false),
        (good.to_string(), "application/json", false),
        (good.to_string(), "application/jwt", false),
        (other.mint(&good), "application/jwt", false),
        (key.mint(&with(json!({"iss": "https://other.example"}))), "application/jwt", false),
        (key.mint(&with(json!({"iss": null}))), "application/jwt", false),
        (key.mint(&with(json!({"aud": "another"}))), "application/jwt", false),
        (key.mint(&with(json!({"sub": null}))), "application/jwt", false),
        (typed("at+jwt"), "application/jwt", false),
        (typed("logout+jwt"), "application/jwt", false),
    ] {
        let idp = Idp::start(Reply::of(200, content_type, &answer)).await;
        let yaml = format!("{{userinfo_endpoint: '{}', userinfo_accept: application/jwt}}", idp.url);
        let around = around(Some(source.clone()));
        let (endpoint, problems) = read(&yaml, |config| UserInfoEndpoint::read(config, &around, &endpoints()));
        assert_eq!(problems, [""; 0]);
        let info = endpoint.ask("t", &Extras::default()).await;
        assert_eq!(info.is_ok(), expected, "{content_type} {answer}");
        if let Ok(info) = info {
            assert_eq!(info.jwt.as_deref(), Some(answer.as_str()));
            assert!(info.json.starts_with(b"{"));
        }
        assert_eq!(idp.last().header("accept"), Some("application/jwt"));
    }
}
