use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::super::GeneratedKeys;
use super::super::testing::{Idp, Reply, endpoints, options, read, word};
use super::*;
use crate::config::testing;

const TOKENS: &str = r#"{"access_token":"at","token_type":"bearer","expires_in":300}"#;
const POST: &str = "client_id: edge, client_secret: 's&c'";

/// What the two records ask for, and the problems and warnings.
fn parsed(url: &str, oauth: &str, client: &str) -> (Option<OwnGrant>, Vec<String>, Vec<String>) {
    let yaml = format!("{{oauth: {{token_endpoint: '{url}', {oauth}}}, client: {client}}}");
    testing::read("config", &yaml, |config| {
        let mut oauth = config.object("oauth").expect("an object");
        let mut client = config.object("client").expect("an object");
        let question = Question::read(&mut oauth, &endpoints());
        let (clients, _) =
            Clients::read_own(&mut client, &oauth, question.as_ref(), &Arc::new(GeneratedKeys::default()));
        oauth.finish();
        client.finish();
        question.map(|question| OwnGrant::new(question, clients, options(), &endpoints()))
    })
}

fn grant(idp: &Idp, oauth: &str, client: &str) -> OwnGrant {
    let (grant, problems, _) = parsed(&idp.url, oauth, client);
    assert_eq!(problems, [""; 0], "{oauth} {client}");
    grant.expect("a grant")
}

#[tokio::test]
async fn each_question_is_asked_in_its_own_bytes() {
    let idp = Idp::start(Reply::json(200, TOKENS)).await;
    // base64 of `edge:s%26c`.
    let basic = "Basic ZWRnZTpzJTI2Yw==";
    let post = "&client_id=edge&client_secret=s%26c";
    let owner = "grant_type: password, username: ann, password: 'p&w=d'";
    for (oauth, client, authorization, body) in [
        (POST.to_owned(), "{}", None, format!("grant_type=client_credentials{post}&scope=openid")),
        (
            POST.to_owned(),
            "{auth_method: client_secret_basic}",
            Some(basic),
            "grant_type=client_credentials&scope=openid".into(),
        ),
        (format!("{POST}, scopes: []"), "{}", None, format!("grant_type=client_credentials{post}")),
        (
            format!("{POST}, scopes: [a, b], audience: [x, 'y z']"),
            "{}",
            None,
            format!("grant_type=client_credentials{post}&scope=a+b&audience=x+y+z"),
        ),
        (
            format!("{POST}, {owner}"),
            "{}",
            None,
            format!("grant_type=password&username=ann&password=p%26w%3Dd{post}&scope=openid"),
        ),
        // What the operator sets goes before what is made of lists.
        (
            format!("{POST}, token_post_args: {{scope: own, resource: 'y&'}}"),
            "{}",
            None,
            format!("grant_type=client_credentials{post}&resource=y%26&scope=own"),
        ),
        (
            "client_id: edge".into(),
            "{auth_method: none}",
            None,
            "grant_type=client_credentials&client_id=edge&scope=openid".into(),
        ),
        (
            "token_headers: {authorization: Custom abc}".into(),
            "{auth_method: none}",
            Some("Custom abc"),
            "grant_type=client_credentials&scope=openid".into(),
        ),
    ] {
        let tokens = grant(&idp, &oauth, client).ask().await.expect("a token");
        assert_eq!((tokens.access_token.as_str(), tokens.left), ("at", Some(Duration::from_secs(300))));
        let seen = idp.last();
        assert!(seen.head.starts_with("POST "), "{}", seen.head);
        assert_eq!(
            (seen.header("authorization"), seen.body.as_str()),
            (authorization, body.as_str()),
            "{oauth} {client}"
        );
        assert_eq!(seen.header("content-type"), Some("application/x-www-form-urlencoded"));
    }
    grant(&idp, &format!("{POST}, token_headers: {{X-Tenant: t1}}"), "{}").ask().await.expect("a token");
    assert_eq!(idp.last().header("x-tenant"), Some("t1"));
}

#[tokio::test]
async fn assertions_are_under_the_configured_key_and_for_the_endpoint() {
    // I10
    let idp = Idp::start(Reply::json(200, TOKENS)).await;
    let secret = "a-secret-that-is-long-enough-for-every-hash-of-the-tests-0123456789";
    let owner = format!("client_id: edge, client_secret: {secret}");
    for (oauth, client, algorithm) in [
        (owner.as_str(), "{auth_method: client_secret_jwt}", "HS512"),
        (owner.as_str(), "{auth_method: client_secret_jwt, client_secret_jwt_alg: HS256}", "HS256"),
        ("client_id: edge", "{auth_method: private_key_jwt}", "RS256"),
    ] {
        grant(&idp, oauth, client).ask().await.expect("a token");
        let seen = idp.last();
        let assertion = seen.argument("client_assertion").expect("an assertion");
        let parts: Vec<_> = assertion.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).expect("base64url")).collect();
        let [header, claims] = [0, 1].map(|at| serde_json::from_slice::<serde_json::Value>(&parts[at]).expect("JSON"));
        assert_eq!(header["alg"], algorithm);
        let said = ["aud", "iss", "sub"].map(|name| claims[name].as_str().expect("a text"));
        assert_eq!(said, [&idp.url, "edge", "edge"]);
        assert!(!seen.body.contains(secret));
    }
}

/// What an answer leads to: how long the token lives, or why there is none.
fn outcome(result: Result<Tokens, GrantError>) -> String {
    match result {
        Ok(tokens) => tokens.left.map_or("token".into(), |left| format!("token {}", left.as_secs())),
        Err(error) => word(error),
    }
}

// U4
#[tokio::test]
async fn only_a_bearer_token_is_an_answer() {
    let error = |word: &str| format!(r#"{{"error":"{word}","error_description":"because"}}"#);
    let token = |more: &str| format!(r#"{{"access_token":"at",{more}}}"#);
    let over = "eyJhbGciOiJFUzI1NiJ9.eyJleHAiOjF9.AA";
    for (status, body, expected) in [
        (200, token(r#""token_type":"BEARER""#), "token"),
        (200, token(r#""token_type":"Bearer","expires_in":"60""#), "token 60"),
        (200, token(r#""token_type":"Bearer","expires_in":0"#), "token 0"),
        (200, token(r#""token_type":"Bearer","expires_in":-5"#), "token 0"),
        (200, token(r#""token_type":"Bearer","expires_in":1e12"#), "token 315360000"),
        (200, token(r#""token_type":"Bearer","expires_in":1e300"#), "malformed"),
        // By its own word it is over, which is for who keeps it.
        (200, format!(r#"{{"access_token":"{over}","token_type":"Bearer","expires_in":300}}"#), "token 300"),
        (200, token(r#""token_type":"Bearer","expires_in":"soon""#), "malformed"),
        (200, token(r#""token_type":"Bearer","expires_in":true"#), "malformed"),
        (200, token(r#""token_type":"DPoP""#), "malformed"),
        (200, token(r#""token_type":"N_A""#), "malformed"),
        (200, token(r#""token_type":"mac""#), "malformed"),
        (200, r#"{"access_token":"at"}"#.into(), "malformed"),
        (200, r#"{"access_token":"a b","token_type":"Bearer"}"#.into(), "malformed"),
        (200, r#"{"access_token":"","token_type":"Bearer"}"#.into(), "malformed"),
        (200, r#"{"token_type":"Bearer"}"#.into(), "malformed"),
        (200, "at".into(), "malformed"),
        (302, String::new(), "malformed"),
        (400, error("invalid_scope"), "refused invalid_scope"),
        (400, error("invalid_client"), "alarm"),
        (401, error("invalid_request"), "alarm"),
        (429, error("slow_down"), "status 429"),
        (500, error("server_error"), "status 500"),
    ] {
        let idp = Idp::start(Reply::json(status, &body)).await;
        assert_eq!(outcome(grant(&idp, POST, "{}").ask().await), expected, "{status} {body}");
        assert_eq!(idp.seen().len(), 1, "a grant is never asked for twice");
    }
}

// L1
#[tokio::test]
async fn an_issuer_that_repeats_a_secret_is_not_quoted() {
    let body = r#"{"error":"invalid_scope","error_description":"s&c0 is no secret of arg-value nor header-value"}"#;
    for (more, shown) in [
        ("client_secret: 's&c0'", false),
        ("client_secret: other", true),
        ("client_secret: other, token_post_args: {a: arg-value}", false),
        ("client_secret: other, token_headers: {x: header-value}", false),
    ] {
        let idp = Idp::start(Reply::json(400, body)).await;
        let refused = grant(&idp, &format!("client_id: edge, {more}"), "{}").ask().await;
        let Err(GrantError::Refused(refused)) = refused else { panic!("no refusal") };
        assert_eq!(refused.description.as_deref().is_some_and(|text| text.contains("s&c0")), shown, "{more}");
    }
}

// U3, I5
#[test]
fn all_of_the_question_and_nothing_else_tells_it_from_others() {
    let digest = |oauth: &str, client: &str| {
        let (grant, problems, _) = parsed("https://idp.example/token", oauth, client);
        assert_eq!(problems, [""; 0], "{oauth}");
        grant.expect("a grant").question.digest()
    };
    let first = digest(POST, "{}");
    for client in ["{}", "{auth_method: client_secret_basic}"] {
        assert_eq!(first, digest(POST, client), "{client}");
    }
    let others = [
        "client_id: edge2, client_secret: 's&c'",
        "client_id: edge, client_secret: 's&d'",
        "client_id: edge, client_secret: 's&c', scopes: []",
        "client_id: edge, client_secret: 's&c', scopes: [openid, a]",
        "client_id: edge, client_secret: 's&c', audience: [a]",
        "client_id: edge, client_secret: 's&c', token_headers: {a: b}",
        "client_id: edge, client_secret: 's&c', token_post_args: {a: b}",
        "client_id: edge, client_secret: 's&c', username: ann",
        "client_id: edge, client_secret: 's&c', grant_type: password, username: ann, password: p",
        "client_id: edge, client_secret: 's&c', grant_type: password, username: ann, password: q",
    ];
    let mut all: Vec<_> = others.iter().map(|oauth| digest(oauth, "{}")).chain([first]).collect();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), others.len() + 1);
    let args = |args: &str| digest(&format!("{POST}, token_post_args: {args}"), "{}");
    assert_eq!(args("{a: 1x, b: 2x}"), args("{b: 2x, a: 1x}"), "their order says nothing");
}

#[test]
fn what_is_missing_or_wrong_is_said_without_secrets() {
    // A6, A7, L1
    let url = "https://idp.example/token";
    for (oauth, client, problem, warning) in [
        (POST, "{}", None, None),
        ("scopes: [a]", "{auth_method: none}", None, None),
        ("client_id: edge", "{auth_method: tls_client_auth}", None, None),
        (
            "client_id: edge",
            "{}",
            Some("oauth.client_secret: found nothing, expected one, for `client.auth_method` client_secret_post"),
            None,
        ),
        ("client_secret: s", "{auth_method: client_secret_basic}", Some("oauth.client_id: found nothing"), None),
        ("scopes: [a]", "{auth_method: private_key_jwt}", Some("oauth.client_id: found nothing"), None),
        (POST, "{auth_method: none}", None, Some("client_secret: not sent")),
        (POST, "{auth_method: self_signed}", Some("client.auth_method: found"), None),
        (POST, "{client_secret_jwt_alg: HS384}", Some("one of: HS256, HS512"), None),
        (POST, "{client_jwk: {}}", Some("client_jwk"), None),
        ("client_id: edge, client_secret: s, username: ann", "{}", None, Some("oauth.username: not sent")),
        (
            "client_id: edge, client_secret: s, grant_type: password, password: p",
            "{}",
            Some("oauth.username: found nothing"),
            None,
        ),
        ("client_id: edge, client_secret: s, grant_type: device", "{}", Some("oauth.grant_type"), None),
        (
            "client_id: edge, client_secret: s, token_headers: {Content-Length: hush}",
            "{}",
            Some("token_headers: found \"Content-Length\""),
            None,
        ),
        (
            "client_id: edge, client_secret: s, token_headers: {X: \"hush\\n\"}",
            "{}",
            Some("a malformed value for `X`"),
            None,
        ),
        (
            "client_id: edge, client_secret: s, token_headers: {X: [hush]}",
            "{}",
            Some("token_headers.X: found a list, expected a string"),
            None,
        ),
        (
            "client_id: edge, client_secret: s, token_headers: hush",
            "{}",
            Some("token_headers: found a string, expected an object of strings"),
            None,
        ),
        (
            "client_id: edge, client_secret: s, token_post_args: {password: hush}",
            "{}",
            Some("token_post_args: found \"password\""),
            None,
        ),
        (
            "client_id: edge, client_secret: s, token_post_arg: {a: hush}",
            "{}",
            Some("expected `token_post_args`"),
            None,
        ),
    ] {
        let (_, problems, warnings) = parsed(url, oauth, client);
        assert_eq!(
            (problems.len(), warnings.len()),
            (usize::from(problem.is_some()), usize::from(warning.is_some())),
            "{oauth} {client}: {problems:?} {warnings:?}"
        );
        assert!(problem.is_none_or(|part| problems[0].contains(part)), "{oauth}: {problems:?}");
        assert!(warning.is_none_or(|part| warnings[0].contains(part)), "{oauth}: {warnings:?}");
        assert!(!problems.concat().contains("hush") && !warnings.concat().contains("hush"), "{problems:?}");
    }
    for url in ["ftp://idp.example", "http://idp.example/token", "https://user:hush@idp.example/token"] {
        let (_, problems, _) = parsed(url, POST, "{}");
        assert!(problems.len() == 1 && problems[0].contains("token_endpoint: found"), "{problems:?}");
        assert!(!problems[0].contains("hush"), "{problems:?}");
    }
    let (_, problems) = read("{}", |record| Question::read(record, &endpoints()).is_none());
    assert!(problems.len() == 1 && problems[0].contains("token_endpoint: found nothing"), "{problems:?}");
}
