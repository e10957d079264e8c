//! The servers over sockets.

use super::*;
use crate::http_server::tests::Running;
use crate::settings::{IdentityClaim, IdentityClient, IdentityScope, IdentityServer, Secret, SigningAlgorithm};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde_json::Value;
use std::time::Duration;

const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";
const GOOD: &str = "grant_type=client_credentials&client_id=app&client_secret=s3cret";

fn settings() -> IdentityServer {
    let scope = |name: &str, default| IdentityScope { name: name.into(), default };
    let claim = |name: &str, value: &str, in_all_scopes, in_scopes: &[&str]| IdentityClaim {
        name: name.into(),
        value: Template::parse(value).unwrap(),
        in_all_scopes,
        in_scopes: in_scopes.iter().map(|scope| (*scope).to_owned()).collect(),
    };
    IdentityServer {
        name: "Demo".into(),
        audience: "http://myhttpbin.dev".into(),
        about: About { name: "Demo".into(), description: "for tests".into(), labels: Vec::new() },
        signing_algorithm: SigningAlgorithm::Rs256,
        issuer: None,
        signing_key: None,
        claims: vec![
            claim("test-claim", "test", false, &["my-scope"]),
            claim("unasked", "${ .Client.Name }", false, &[]),
            claim("always", "${ uuidv4 }", true, &[]),
        ],
        scopes: vec![scope("my-scope", false), scope("openid", true), scope("admin", true)],
        clients: vec![IdentityClient {
            id: "app".into(),
            about: About { name: "Client".into(), ..About::default() },
            secret: Secret::new("s3cret"),
            scopes: vec!["my-scope".into(), "openid".into()],
            access_token_duration: Duration::from_secs(3600),
        }],
    }
}

fn build(address: &str, servers: Vec<IdentityServer>) -> Result<Identity, Error> {
    let address = address.parse().unwrap();
    Identity::new(&settings::Identity { address, servers }, address)
}

async fn start() -> Running {
    crate::crypto::install();
    let identity = build("127.0.0.1:8008", vec![settings()]).unwrap();
    Running::start(router(Arc::new(identity)), Limits::default()).await
}

async fn token(server: &Running, headers: &str, body: &str) -> (u16, String, Value) {
    let (status, head, body) = server.request("POST /Demo/auth/oauth/token", headers, body).await;
    assert!(head.contains("cache-control: no-store") && head.contains("pragma: no-cache"), "O11: {head}");
    (status, head, serde_json::from_str(&body).unwrap())
}

#[tokio::test]
async fn configured_claims_follow_the_scopes() {
    let server = start().await;
    let mut seen = Vec::new();
    for asked in ["&scope=my-scope", "&scope=openid", ""] {
        let (status, _, answer) = token(&server, FORM, &format!("{GOOD}{asked}")).await;
        assert_eq!(status, 200);
        let payload = answer["access_token"].as_str().unwrap().split('.').nth(1).unwrap();
        let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap();
        assert_eq!(claims["aud"], "http://myhttpbin.dev");
        seen.push((claims.get("test-claim").cloned(), claims.get("unasked").cloned()));
        seen.push((None, Some(claims["always"].clone())));
    }
    assert_eq!(seen[0], (Some("test".into()), None));
    assert_eq!(seen[2], (None, None));
    assert_eq!(seen[4], (None, Some("Client".into())));
    assert!(seen[1] != seen[3] && seen[3] != seen[5], "each token has a value of its own");
    let (_, _, document) = server.request("GET /Demo/auth/.well-known/openid-configuration", "", "").await;
    assert!(document.contains(r#""scope","test-claim","unasked","always"]"#), "{document}");
}

#[tokio::test]
async fn a_token_verifies_with_what_discovery_names() {
    let server = start().await;
    let (status, _, document) = server.request("GET /Demo/auth/.well-known/openid-configuration", "", "").await;
    assert_eq!(status, 200);
    let document: Value = serde_json::from_str(&document).unwrap();
    let issuer = "http://127.0.0.1:8008/Demo/auth";
    assert_eq!(document["issuer"], issuer);
    assert_eq!(document["token_endpoint"], format!("{issuer}/oauth/token"));
    assert_eq!(document["jwks_uri"], format!("{issuer}/.well-known/jwks"));
    let (_, head, keys) = server.request("GET /Demo/auth/.well-known/jwks", "", "").await;
    assert!(head.contains("content-type: application/json"));
    let keys: JwkSet = serde_json::from_str(&keys).unwrap();

    let (status, _, granted) = token(&server, FORM, &format!("{GOOD}&scope=my-scope")).await;
    assert_eq!(status, 200);
    assert_eq!(
        (&granted["token_type"], &granted["expires_in"], &granted["scope"]),
        (&json!("Bearer"), &json!(3600), &json!("my-scope"))
    );
    let raw = granted["access_token"].as_str().unwrap();
    let header = decode_header(raw).unwrap();
    assert_eq!(header.typ.as_deref(), Some("at+jwt"));
    let key = DecodingKey::from_jwk(keys.find(&header.kid.unwrap()).unwrap()).unwrap();
    let mut validation = Validation::new(Algorithm::RS256);
    validation.set_audience(&["http://myhttpbin.dev"]);
    validation.set_issuer(&[issuer]);
    let claims = decode::<Value>(raw, &key, &validation).unwrap().claims;
    for (name, expected) in [("sub", "app"), ("client_id", "app"), ("scope", "my-scope")] {
        assert_eq!(claims[name], expected);
    }
    assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 3600);
    let (_, _, again) = token(&server, FORM, GOOD).await;
    let again = decode::<Value>(again["access_token"].as_str().unwrap(), &key, &validation).unwrap().claims;
    assert_ne!(claims["jti"], again["jti"]);
}

#[tokio::test]
async fn scopes_are_granted_as_allowed() {
    let server = start().await;
    for (asked, granted) in [
        ("", "openid"),
        ("&scope=", "openid"),
        ("&scope=my-scope", "my-scope"),
        ("&scope=openid+my-scope+openid", "openid my-scope"),
        ("&scope=Scope", ""),
        ("&scope=admin+my-scope+nothing", "my-scope"),
    ] {
        let (status, _, answer) = token(&server, FORM, &format!("{GOOD}{asked}")).await;
        assert_eq!((status, &answer["scope"]), (200, &json!(granted)), "{asked}");
    }
}

/// O1, O11, and the cases of RFC 6749, 5.2.
#[tokio::test]
async fn refusals_name_their_error() {
    let server = start().await;
    let basic = |text: &str| format!("{FORM}Authorization: Basic {}\r\n", STANDARD.encode(text));
    let grant = "grant_type=client_credentials";
    for (headers, body, status, error) in [
        (FORM.to_owned(), GOOD.to_owned(), 200, None),
        (basic("app:s3cret"), grant.into(), 200, None),
        (basic("app:s3cret"), format!("{grant}&client_id=app"), 200, None),
        (FORM.replace("\r\n", "; charset=UTF-8\r\n"), GOOD.into(), 200, None),
        (String::new(), GOOD.into(), 400, Some("invalid_request")),
        ("Content-Type: application/json\r\n".into(), "{}".into(), 400, Some("invalid_request")),
        (FORM.into(), "client_id=app&client_secret=s3cret".into(), 400, Some("invalid_request")),
        (FORM.into(), GOOD.replace("client_credentials", ""), 400, Some("invalid_request")),
        (FORM.into(), GOOD.replace("client_credentials", "password"), 400, Some("unsupported_grant_type")),
        (FORM.into(), format!("{GOOD}&client_id=app"), 400, Some("invalid_request")),
        (FORM.into(), format!("{GOOD}&scope=a&scope=b"), 400, Some("invalid_request")),
        (FORM.into(), format!("{GOOD}&scope=%22"), 400, Some("invalid_scope")),
        (FORM.into(), format!("{GOOD}&x={}", "y".repeat(20_000)), 413, Some("invalid_request")),
        (FORM.into(), GOOD.replace("s3cret", "S3cret"), 401, Some("invalid_client")),
        (FORM.into(), GOOD.replace("=app", "=other"), 401, Some("invalid_client")),
        (FORM.into(), format!("{grant}&client_id=app"), 401, Some("invalid_client")),
        (FORM.into(), grant.into(), 401, Some("invalid_client")),
        (basic("app:wrong"), grant.into(), 401, Some("invalid_client")),
        (format!("{FORM}Authorization: Bearer x\r\n"), grant.into(), 401, Some("invalid_client")),
        (basic("app:s3cret"), GOOD.into(), 400, Some("invalid_request")),
        (basic("app:s3cret"), format!("{grant}&client_id=other"), 400, Some("invalid_request")),
    ] {
        let (seen, head, answer) = token(&server, &headers, &body).await;
        assert_eq!((seen, answer["error"].as_str()), (status, error), "{headers}{body}");
        assert_eq!(head.contains("www-authenticate: basic"), status == 401, "{head}");
        assert!(!answer["error_description"].to_string().contains("cret"), "{answer}");
    }
}

/// O1: guessing is slowed, and the real client is not locked out by it.
#[tokio::test]
async fn guessing_is_slowed_without_locking_out_the_client() {
    let server = start().await;
    assert_eq!(token(&server, FORM, GOOD).await.0, 200);
    let wrong = GOOD.replace("s3cret", "guess");
    let mut statuses = Vec::new();
    for _ in 0..8 {
        statuses.push(token(&server, FORM, &wrong).await.0);
    }
    assert_eq!(statuses[..6], [401; 6]);
    assert!(statuses[6..].contains(&429), "{statuses:?}");
    let (_, head, answer) = loop {
        let seen = token(&server, FORM, &wrong).await;
        if seen.0 == 429 {
            break seen;
        }
    };
    assert!(head.contains("retry-after: "), "{head}");
    assert_eq!(answer["error"], "temporarily_unavailable");
    assert_eq!(token(&server, FORM, GOOD).await.0, 200);
}

#[tokio::test]
async fn methods_and_paths_are_as_documented() {
    let server = start().await;
    for (line, status, allow) in [
        ("GET /Demo/auth/oauth/token", 405, Some("allow: post")),
        ("PUT /Demo/auth/oauth/token", 405, Some("allow: post")),
        ("POST /Demo/auth/.well-known/jwks", 405, Some("allow: get, head")),
        ("HEAD /Demo/auth/.well-known/jwks", 200, None),
        ("GET /Demo/auth/.well-known/jwks.json", 404, None),
        ("GET /", 404, None),
        ("POST /oauth/token", 404, None),
    ] {
        let (seen, head, _) = server.request(line, "", "").await;
        assert_eq!(seen, status, "{line}");
        assert!(allow.is_none_or(|allow| head.contains(allow)), "{line}: {head}");
    }
}

#[test]
fn issuers_and_paths_follow_the_settings() {
    let token_path = |address: &str, issuer: Option<&str>| {
        let settings = IdentityServer { issuer: issuer.map(str::to_owned), clients: Vec::new(), ..settings() };
        let identity = build(address, vec![settings])?;
        let (path, _) = identity.endpoints.iter().find(|(_, (_, endpoint))| *endpoint == Endpoint::Token).unwrap();
        Ok((identity.issuers().next().unwrap().1.to_owned(), path.clone()))
    };
    for (address, issuer, expected) in [
        ("127.0.0.1:1", None, ("http://127.0.0.1:1/Demo/auth", "/Demo/auth/oauth/token")),
        ("[::1]:1", None, ("http://[::1]:1/Demo/auth", "/Demo/auth/oauth/token")),
        ("0.0.0.0:1", Some("https://id.example"), ("https://id.example", "/oauth/token")),
        ("0.0.0.0:1", Some("https://id.example/a/b"), ("https://id.example/a/b", "/a/b/oauth/token")),
    ] {
        let (issuer, path) = token_path(address, issuer).unwrap();
        assert_eq!((issuer.as_str(), path.as_str()), expected);
    }
    let refused: Result<_, Error> = token_path("0.0.0.0:1", None);
    assert!(matches!(refused, Err(Error::IssuerMissing(_))), "{refused:?}");
    assert!(matches!(token_path("0.0.0.0:1", Some("https://id.example/")), Err(Error::Issuer { .. })));
    let again = build("127.0.0.1:1", vec![settings(), settings()]);
    assert!(matches!(again, Err(Error::IssuerPath { .. })));
}

#[test]
fn a_key_that_cannot_sign_is_an_error_that_names_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key.pem");
    let failed = || {
        let settings = IdentityServer { signing_key: Some(path.clone()), ..settings() };
        build("127.0.0.1:1", vec![settings]).err().unwrap()
    };
    assert!(matches!(failed(), Error::KeyFile { .. }));
    std::fs::write(&path, "not a key").unwrap();
    let error = failed();
    assert!(matches!(error, Error::Key { .. }));
    assert_eq!(error.to_string(), "identity server `Demo`: no signing key for RS256");
}

#[test]
fn a_key_file_gives_the_same_key_at_every_start() {
    let pkcs8 = crate::crypto::sign::SigningKey::generate_pkcs8(Algorithm::RS256).unwrap();
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(pkcs8));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key.pem");
    std::fs::write(&path, pem).unwrap();
    let kid = |signing_key| {
        let settings = IdentityServer { signing_key, clients: Vec::new(), ..settings() };
        build("127.0.0.1:1", vec![settings]).unwrap().servers[0].key.kid().to_owned()
    };
    assert_eq!(kid(Some(path.clone())), kid(Some(path)));
}
