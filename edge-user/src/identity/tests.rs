//! The servers over sockets.

use super::*;
use crate::http_server::tests::Running;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{DecodingKey, Validation, decode, decode_header};
use serde_json::Value;

const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";
const GOOD: &str = "grant_type=client_credentials&client_id=app&client_secret=s3cret";

fn settings() -> ServerSettings {
    let scope = |name: &str, default| ScopeSettings { name: name.into(), default };
    ServerSettings {
        name: "Demo Server".into(),
        audience: "http://myhttpbin.dev".into(),
        signing_algorithm: Algorithm::ES256,
        issuer: None,
        signing_key: None,
        scopes: vec![scope("my-scope", false), scope("openid", true), scope("admin", true)],
        clients: vec![ClientSettings {
            id: "app".into(),
            secret: "s3cret".into(),
            scopes: vec!["my-scope".into(), "openid".into()],
            access_token_duration: 3600,
        }],
    }
}

fn address() -> SocketAddr {
    "127.0.0.1:8008".parse().unwrap()
}

async fn start() -> Running {
    crate::crypto::install();
    let identity = Identity::new(address(), &[settings()]).unwrap();
    Running::start(router(Arc::new(identity)), Limits::default()).await
}

async fn token(server: &Running, headers: &str, body: &str) -> (u16, String, Value) {
    let (status, head, body) = server.request("POST /demo-server/oauth/token", headers, body).await;
    assert!(head.contains("cache-control: no-store") && head.contains("pragma: no-cache"), "O11: {head}");
    (status, head, serde_json::from_str(&body).unwrap())
}

#[tokio::test]
async fn a_token_verifies_with_what_discovery_names() {
    let server = start().await;
    let (status, _, document) = server.request("GET /demo-server/.well-known/openid-configuration", "", "").await;
    assert_eq!(status, 200);
    let document: Value = serde_json::from_str(&document).unwrap();
    let issuer = "http://127.0.0.1:8008/demo-server";
    assert_eq!(document["issuer"], issuer);
    assert_eq!(document["token_endpoint"], format!("{issuer}/oauth/token"));
    assert_eq!(document["jwks_uri"], format!("{issuer}/.well-known/jwks"));
    let (_, head, keys) = server.request("GET /demo-server/.well-known/jwks", "", "").await;
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
    let mut validation = Validation::new(Algorithm::ES256);
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
        ("GET /demo-server/oauth/token", 405, Some("allow: post")),
        ("PUT /demo-server/oauth/token", 405, Some("allow: post")),
        ("POST /demo-server/.well-known/jwks", 405, Some("allow: get, head")),
        ("HEAD /demo-server/.well-known/jwks", 200, None),
        ("GET /demo-server/.well-known/jwks.json", 404, None),
        ("GET /", 404, None),
        ("POST /oauth/token", 404, None),
    ] {
        let (seen, head, _) = server.request(line, "", "").await;
        assert_eq!(seen, status, "{line}");
        assert!(allow.is_none_or(|allow| head.contains(allow)), "{line}: {head}");
    }
}

#[test]
fn an_issuer_may_be_given() {
    let given = |issuer: &str| {
        let settings = ServerSettings { issuer: Some(issuer.into()), clients: Vec::new(), ..settings() };
        Identity::new(address(), &[settings]).map(|identity| {
            let mut paths: Vec<_> = identity.endpoints.keys().cloned().collect();
            paths.sort_unstable();
            (identity.issuers().map(|(_, issuer)| issuer.to_owned()).collect::<Vec<_>>(), paths[2].clone())
        })
    };
    for (issuer, token_path) in [
        ("https://id.example.com", Some("/oauth/token")),
        ("https://id.example.com/a/{b}/auth", Some("/a/{b}/auth/oauth/token")),
        ("http://[::1]:9/x", Some("/x/oauth/token")),
        ("https://id.example.com/", None),
        ("https://id.example.com/?q", None),
        ("https://id.example.com/#f", None),
        ("https://u:p@id.example.com", None),
        ("ftp://id.example.com", None),
        ("id.example.com", None),
    ] {
        match (given(issuer), token_path) {
            (Ok((issuers, seen)), Some(expected)) => {
                assert_eq!((issuers, seen), (vec![issuer.into()], expected.into()))
            }
            (Err(Error::Issuer { .. }), None) => {}
            (other, _) => panic!("{issuer}: {other:?}"),
        }
    }
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let change = |change: fn(&mut ServerSettings)| {
        let mut changed = settings();
        change(&mut changed);
        Identity::new(address(), &[changed]).err().map(|error| error.to_string())
    };
    for (seen, expected) in [
        (change(|_| {}), None),
        (change(|s| s.name = "!".into()), Some("is empty or taken")),
        (change(|s| s.audience.clear()), Some("empty audience")),
        (change(|s| s.scopes[0].name = "a b".into()), Some("scope `a b`")),
        (change(|s| s.scopes[1].name = "my-scope".into()), Some("scope `my-scope`")),
        (change(|s| s.clients[0].id.clear()), Some("client id ``")),
        (change(|s| s.clients.push(s.clients[0].clone())), Some("client id `app`")),
        (change(|s| s.clients[0].secret.clear()), Some("empty secret")),
        (change(|s| s.clients[0].scopes.push("x".into())), Some("unknown scope `x`")),
        (change(|s| s.clients[0].access_token_duration = 59), Some("60 to 2592000")),
        (change(|s| s.clients[0].access_token_duration = 2_592_001), Some("60 to 2592000")),
        (change(|s| s.signing_key = Some("/nonexistent.pem".into())), Some("cannot read signing_key")),
        (change(|s| s.signing_algorithm = Algorithm::HS256), Some("no signing key for HS256")),
    ] {
        match (&seen, expected) {
            (None, None) => {}
            (Some(seen), Some(expected)) => assert!(seen.contains(expected), "{seen}"),
            _ => panic!("{seen:?} for {expected:?}"),
        }
    }
    let taken = Identity::new(address(), &[settings(), settings()]);
    assert!(matches!(taken, Err(Error::Name(_))));
    let path = Identity::new(address(), &[settings(), ServerSettings { name: "demo server".into(), ..settings() }]);
    assert!(matches!(path, Err(Error::IssuerPath { .. })));
    let unspecified = Identity::new("0.0.0.0:8008".parse().unwrap(), &[settings()]);
    assert!(matches!(unspecified, Err(Error::IssuerMissing(_))));
}

#[test]
fn a_key_file_gives_the_same_key_at_every_start() {
    let pkcs8 = crate::crypto::sign::SigningKey::generate_pkcs8(Algorithm::RS256).unwrap();
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(pkcs8));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key.pem");
    std::fs::write(&path, pem).unwrap();
    let kid = |signing_key| {
        let settings =
            ServerSettings { signing_algorithm: Algorithm::RS256, signing_key, clients: Vec::new(), ..settings() };
        Identity::new(address(), &[settings]).unwrap().servers[0].key.kid().to_owned()
    };
    assert_eq!(kid(Some(path.clone())), kid(Some(path)));
}

/// L1.
#[test]
fn debug_output_has_no_secret() {
    assert!(!format!("{:?}", settings()).contains("s3cret"));
}
