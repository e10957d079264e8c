use super::super::failure::FailureKind;
use super::super::testing::{Idp, Reply, endpoints, options, read};
use super::*;
use crate::oauth::GeneratedKeys;
use crate::state::State;
use crate::token::jws::Jws;
use crate::token::source::{Discovery, SourceSettings};
use crate::token::testing::{TestIssuer, TestKey, policy, sources};
use jsonwebtoken::Algorithm;
use serde_json::json;
use std::time::Duration;

fn parse(yaml: &str, source: Option<Arc<KeySource>>, endpoints: &Arc<Endpoints>) -> (Introspection, Vec<String>) {
    read(yaml, |config| {
        let clients = Arc::new(Clients::read(config, &|_| None, &Arc::<GeneratedKeys>::default()));
        let issuer = "https://idp.example".into();
        let around = Surroundings { issuer, issuers: Issuers::Discovered, options: options(), clients, source };
        Introspection::read(config, &around, endpoints)
    })
}

fn introspection(yaml: &str, source: Option<Arc<KeySource>>) -> Introspection {
    let (introspection, problems) = parse(yaml, source, &endpoints());
    assert_eq!(problems, [""; 0], "{yaml}");
    introspection
}

const ACTIVE: &str = r#"{"active":true,"sub":"a"}"#;

/// A client with Basic at this endpoint, and more parameters.
fn at(idp: &Idp, more: &str) -> Introspection {
    introspection(
        &format!("{{introspection_endpoint: '{}', client_id: edge, client_secret: 's:c', {more}}}", idp.url),
        None,
    )
}

async fn ask(introspection: &Introspection, token: &[u8]) -> Result<Said, FailureKind> {
    introspection.ask(token, &Extras::default()).await.map_err(|failure| failure.kind)
}

// I8, I9, I10
#[tokio::test]
async fn the_question_is_a_form_with_the_token_whole() {
    let idp = Idp::start(Reply::json(200, ACTIVE)).await;
    let plain = at(&idp, "");
    for (token, body) in [
        (&b"abc"[..], "token=abc&token_type_hint=access_token"),
        (b"a&b=c+d%e\r\n", "token=a%26b%3Dc%2Bd%25e%0D%0A&token_type_hint=access_token"),
    ] {
        ask(&plain, token).await.unwrap();
        let seen = idp.last();
        assert!(seen.head.starts_with("POST /introspect HTTP/1.1\r\n"), "{}", seen.head);
        assert_eq!(seen.body, body);
        assert_eq!(seen.header("content-type"), Some("application/x-www-form-urlencoded"));
        assert_eq!(seen.header("accept"), Some("application/json"));
        assert_eq!(seen.header("authorization"), Some("Basic ZWRnZTpzJTNBYw=="));
    }
    for (more, body) in [
        ("introspection_hint: ''", "token=x"),
        ("introspection_hint: ~", "token=x&token_type_hint=access_token"),
        ("introspection_token_param_name: t, introspection_hint: refresh_token", "t=x&token_type_hint=refresh_token"),
        (
            "introspection_post_args_names: [a b, c], introspection_post_args_values: [1&2, d]",
            "token=x&token_type_hint=access_token&a+b=1%262&c=d",
        ),
        (
            "introspection_endpoint_auth_method: client_secret_post",
            "token=x&token_type_hint=access_token&client_id=edge&client_secret=s%3Ac",
        ),
        ("introspection_endpoint_auth_method: none", "token=x&token_type_hint=access_token&client_id=edge"),
    ] {
        ask(&at(&idp, more), b"x").await.unwrap();
        assert_eq!(idp.last().body, body, "{more}");
    }
}

// I8
#[tokio::test]
async fn what_a_request_adds_replaces_nothing() {
    let idp = Idp::start(Reply::json(200, ACTIVE)).await;
    let one = at(
        &idp,
        "introspection_headers_names: [x-a, authorization], introspection_headers_values: [fixed, Key k], \
         introspection_post_args_names: [a], introspection_post_args_values: [fixed], \
         introspection_headers_client: [x-a, x-b], introspection_post_args_client: [a, b]",
    );
    assert_eq!((one.client_headers().len(), one.client_args().len(), one.client_header_args().len()), (2, 2, 0));
    let pairs = |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
    let extras = Extras {
        client: 0,
        headers: pairs(&[("x-a", "theirs"), ("x-b", "theirs"), ("content-length", "1"), ("host", "evil")]),
        args: pairs(&[("a", "theirs"), ("b", "th&irs"), ("token", "other"), ("token_type_hint", "y")]),
    };
    one.ask(b"x", &extras).await.unwrap();
    let seen = idp.last();
    assert_eq!(seen.body, "token=x&token_type_hint=access_token&a=fixed&b=th%26irs");
    assert_eq!((seen.header("x-a"), seen.header("x-b")), (Some("fixed"), Some("theirs")));
    assert_eq!(seen.header("authorization"), Some("Key k"), "as Kong has it");
    assert!(!seen.head.contains("evil"));
}

// I1
#[tokio::test]
async fn only_a_clear_answer_counts() {
    let idp = Idp::start(Reply::json(200, ACTIVE)).await;
    let one = at(&idp, "");
    let deep = format!(r#"{{"active":true,"a":{}{}}}"#, "[".repeat(40), "]".repeat(40));
    let long = format!(r#"{{"active":true,"a":"{}"}}"#, "a".repeat(1 << 20));
    for (reply, expected) in [
        (Reply::json(200, ACTIVE), "active"),
        (Reply::of(200, "Application/JSON;charset=UTF-8", r#" {"active" : true} "#), "active"),
        (Reply::json(200, r#"{"active":false}"#), "inactive"),
        (Reply::json(200, r#"{"active":false,"sub":"a"}"#), "inactive"),
        (Reply::json(200, r#"{"active":"true"}"#), "malformed"),
        (Reply::json(200, r#"{"active":"false"}"#), "malformed"),
        (Reply::json(200, r#"{"active":1}"#), "malformed"),
        (Reply::json(200, r#"{"active":null}"#), "malformed"),
        (Reply::json(200, r#"{"active":[true]}"#), "malformed"),
        (Reply::json(200, r#"{"sub":"a"}"#), "malformed"),
        (Reply::json(200, r#"{"Active":true}"#), "malformed"),
        (Reply::json(200, r#"{"active":true,"active":true}"#), "malformed"),
        (Reply::json(200, r#"{"active":true,"\u0061ctive":false}"#), "malformed"),
        (Reply::json(200, r#"{"active":true"#), "malformed"),
        (Reply::json(200, r#"{"active":true}{"#), "malformed"),
        (Reply::json(200, r#"[{"active":true}]"#), "malformed"),
        (Reply::json(200, "true"), "malformed"),
        (Reply::json(200, ""), "malformed"),
        (Reply::json(200, &deep), "malformed"),
        (Reply::json(200, &long), "malformed"),
        (Reply::of(200, "text/html", ACTIVE), "malformed"),
        (Reply::of(200, "application/jsonp", ACTIVE), "malformed"),
        (Reply::of(200, "", ACTIVE), "malformed"),
        (Reply::json(201, ACTIVE), "malformed"),
        (Reply::json(204, ""), "malformed"),
        (Reply::json(206, ACTIVE), "malformed"),
        (Reply::json(302, ACTIVE).with("Location: /introspect"), "malformed"),
        (Reply::json(400, r#"{"error":"invalid_request"}"#), "malformed"),
        (Reply::json(404, ACTIVE), "malformed"),
        // A body cut short breaks the connection.
        (Reply::json(200, ACTIVE).with("Content-Length: 1000"), "transport"),
        (Reply::json(401, ACTIVE), "credentials"),
        (Reply::json(403, ACTIVE), "credentials"),
        (Reply::json(400, r#"{"error":"invalid_client"}"#), "credentials"),
        (Reply::json(429, ACTIVE), "status"),
        (Reply::json(500, ACTIVE), "status"),
    ] {
        idp.answer(reply.clone());
        let seen = match ask(&one, b"x").await {
            Ok(Said::Active { json, jwt: None }) if json == reply.body.as_bytes() => "active",
            Ok(Said::Active { .. }) => "another object",
            Ok(Said::Inactive) => "inactive",
            Err(FailureKind::Malformed(_)) => "malformed",
            Err(FailureKind::Transport) => "transport",
            Err(FailureKind::Credentials) => "credentials",
            Err(FailureKind::Status(_)) => "status",
            Err(other) => panic!("{other}"),
        };
        assert_eq!(seen, expected, "{} {} {:.80}", reply.status, reply.headers, reply.body);
    }
}

#[tokio::test]
async fn active_may_be_left_out_where_that_is_configured() {
    let idp = Idp::start(Reply::json(200, ACTIVE)).await;
    let one = at(&idp, "introspection_check_active: false");
    for (body, expected) in [
        (r#"{"sub":"a"}"#, Some(true)),
        (ACTIVE, Some(true)),
        (r#"{"active":false}"#, Some(false)),
        (r#"{"active":"true"}"#, None),
        ("[]", None),
    ] {
        idp.answer(Reply::json(200, body));
        assert_eq!(ask(&one, b"x").await.ok().map(|said| said != Said::Inactive), expected, "{body}");
    }
}

fn source(issuer: &TestIssuer) -> Arc<KeySource> {
    let settings = SourceSettings { discovery: Some(Discovery::new(&issuer.url, None, &[])), ..issuer.source() };
    let sources = sources(policy(), State::in_memory());
    sources.source(settings)
}

/// An issuer whose metadata names these endpoints.
async fn discovered(keys: &[&TestKey], more: serde_json::Value) -> TestIssuer {
    let issuer = TestIssuer::start(keys).await;
    let mut metadata = json!({"issuer": issuer.url, "jwks_uri": issuer.page("/jwks")});
    for (name, value) in more.as_object().unwrap() {
        metadata[name] = value.clone();
    }
    issuer.answer("/.well-known/openid-configuration", 200, &metadata.to_string());
    issuer
}

/// Whom the last assertion was for.
fn assertion_audience(idp: &Idp) -> String {
    let assertion = idp.last().argument("client_assertion").unwrap();
    let claims = Jws::parse(assertion.as_bytes()).unwrap().payload().unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
    claims["aud"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn endpoint_and_method_are_discovered_where_none_is_configured() {
    let key = TestKey::new(Algorithm::ES256, "k");
    let (idp, configured) = (Idp::start(Reply::json(200, ACTIVE)).await, Idp::start(Reply::json(200, ACTIVE)).await);
    let metadata = json!({
        "introspection_endpoint": idp.url,
        "introspection_endpoint_auth_methods_supported": ["private_key_jwt", "client_secret_post"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic"],
    });
    let issuer = discovered(&[&key], metadata).await;
    let secret = "client_id: edge, client_secret: s";
    ask(&introspection(&format!("{{{secret}}}"), Some(source(&issuer))), b"x").await.unwrap();
    assert_eq!(idp.last().body, "token=x&token_type_hint=access_token&client_id=edge&client_secret=s");
    let jwt = introspection(&format!("{{{secret}, client_auth: client_secret_jwt}}"), Some(source(&issuer)));
    ask(&jwt, b"x").await.unwrap();
    assert_eq!(assertion_audience(&idp), issuer.url, "I11: the issuer, where it is known");
    let here = format!("{{{secret}, introspection_endpoint: '{}', client_auth: client_secret_jwt}}", configured.url);
    ask(&introspection(&here, Some(source(&issuer))), b"x").await.unwrap();
    assert_eq!(assertion_audience(&configured), issuer.url, "the same from the first call on");
    ask(&introspection(&here, None), b"x").await.unwrap();
    assert_eq!(assertion_audience(&configured), configured.url, "the endpoint otherwise");
    let none = discovered(&[&key], json!({})).await;
    let none = introspection(&format!("{{{secret}}}"), Some(source(&none)));
    assert_eq!(ask(&none, b"x").await, Err(FailureKind::NoEndpoint));
    let down = TestIssuer::start(&[&key]).await;
    down.answer("/.well-known/openid-configuration", 500, "");
    let down = introspection(&format!("{{{secret}}}"), Some(source(&down)));
    assert_eq!(ask(&down, b"x").await, Err(FailureKind::Undiscovered));
}

#[tokio::test]
async fn mutual_tls_has_endpoints_of_its_own() {
    let key = TestKey::new(Algorithm::ES256, "k");
    let [discovered_at, alias, mtls, plain] = [
        Idp::start(Reply::json(200, ACTIVE)).await,
        Idp::start(Reply::json(200, ACTIVE)).await,
        Idp::start(Reply::json(200, ACTIVE)).await,
        Idp::start(Reply::json(200, ACTIVE)).await,
    ];
    let issuer = discovered(
        &[&key],
        json!({"introspection_endpoint": discovered_at.url, "mtls_endpoint_aliases": {"introspection_endpoint": alias.url}}),
    )
    .await;
    let pair = {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(["edge".to_owned()]).unwrap().self_signed(&key).unwrap();
        let der = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = crate::crypto::tls_provider();
        Arc::new(rustls::sign::CertifiedKey::from_der(vec![certificate.der().clone()], der, &provider).unwrap())
    };
    let configured = format!("introspection_endpoint: '{}', mtls_introspection_endpoint: '{}',", plain.url, mtls.url);
    let only_plain = format!("introspection_endpoint: '{}',", plain.url);
    for (more, method, expected) in [
        ("", "tls_client_auth", &alias),
        ("", "none", &discovered_at),
        (&*configured, "self_signed_tls_client_auth", &mtls),
        (&*configured, "none", &plain),
        (&*only_plain, "tls_client_auth", &plain),
    ] {
        let yaml = format!("{{{more} client_id: edge, client_auth: {method}, tls_client_auth_cert_id: cert}}");
        let (one, problems) = read(&yaml, |config| {
            let find = |_: &str| Some(pair.clone());
            let clients = Arc::new(Clients::read(config, &find, &Arc::<GeneratedKeys>::default()));
            let source = Some(source(&issuer));
            let around =
                Surroundings { issuer: "i".into(), issuers: Issuers::Discovered, options: options(), clients, source };
            Introspection::read(config, &around, &endpoints())
        });
        assert_eq!(problems, [""; 0], "{yaml}");
        let before = expected.seen().len();
        ask(&one, b"x").await.unwrap();
        assert_eq!(expected.seen().len(), before + 1, "{yaml}");
        assert_eq!(expected.last().body, "token=x&token_type_hint=access_token&client_id=edge");
    }
}

// I12
#[tokio::test]
async fn a_signed_answer_is_verified_and_an_unsigned_one_refused() {
    const TYPE: &str = "application/token-introspection+jwt";
    let (key, stranger) = (TestKey::new(Algorithm::ES256, "k"), TestKey::new(Algorithm::ES256, "k"));
    let unknown = TestKey::new(Algorithm::ES256, "unknown");
    let idp = Idp::start(Reply::json(200, ACTIVE)).await;
    let issuer = discovered(&[&key], json!({"introspection_endpoint": idp.url})).await;
    let yaml = format!("{{client_id: edge, client_secret: s, introspection_accept: {TYPE}}}");
    let one = introspection(&yaml, Some(source(&issuer)));
    let header = |typ: &str| json!({"alg": "ES256", "typ": typ, "kid": "k"}).to_string();
    let good = header("token-introspection+jwt");
    let seconds = Now::read().unix_ms / 1000;
    let claims = |with: serde_json::Value| {
        let mut claims = json!({"iss": issuer.url, "aud": "edge", "iat": seconds, "token_introspection": {"active": true, "sub": "a"}});
        for (name, value) in with.as_object().unwrap() {
            match value.is_null() {
                true => drop(claims.as_object_mut().unwrap().remove(name)),
                false => claims[name] = value.clone(),
            }
        }
        claims.to_string()
    };
    let plain = claims(json!({}));
    let jwt = |header: &str, with: serde_json::Value| key.mint_raw(header, &claims(with));
    let mut cut = jwt(&good, json!({}));
    cut.truncate(cut.len() - 2);
    for (content_type, body, expected) in [
        (TYPE, jwt(&good, json!({})), Some(true)),
        ("application/jwt", jwt(&good, json!({})), Some(true)),
        (TYPE, jwt(&header("application/token-introspection+JWT"), json!({})), Some(true)),
        (TYPE, jwt(&good, json!({"aud": ["other", "edge"], "exp": seconds + 10})), Some(true)),
        (TYPE, jwt(&good, json!({"token_introspection": {"active": false}})), Some(false)),
        (TYPE, jwt(&good, json!({"token_introspection": {"active": "true"}})), None),
        (TYPE, jwt(&good, json!({"token_introspection": null, "active": true})), None),
        (TYPE, jwt(&good, json!({"token_introspection": "{\"active\":true}"})), None),
        (TYPE, jwt(&good, json!({"aud": "other"})), None),
        (TYPE, jwt(&good, json!({"aud": null})), None),
        (TYPE, jwt(&good, json!({"iss": "https://other.example"})), None),
        (TYPE, jwt(&good, json!({"iss": null})), None),
        (TYPE, jwt(&good, json!({"exp": seconds - 100})), None),
        (TYPE, jwt(&good, json!({"iat": seconds + 100})), None),
        (TYPE, jwt(&good, json!({"iat": "now"})), None),
        (TYPE, jwt(&header("JWT"), json!({})), None),
        (TYPE, jwt(&header("at+jwt"), json!({})), None),
        (TYPE, jwt(&json!({"alg": "none", "typ": "token-introspection+jwt"}).to_string(), json!({})), None),
        (
            TYPE,
            jwt(&json!({"alg": "RS256", "typ": "token-introspection+jwt", "kid": "k"}).to_string(), json!({})),
            None,
        ),
        (TYPE, stranger.mint_raw(&good, &plain), None),
        (TYPE, unknown.mint_raw(&good.replace("\"k\"", "\"unknown\""), &plain), None),
        (TYPE, cut, None),
        (TYPE, ACTIVE.to_owned(), None),
        ("application/json", ACTIVE.to_owned(), None),
        ("application/json", jwt(&good, json!({})), None),
    ] {
        idp.answer(Reply::of(200, content_type, &body));
        let said = ask(&one, b"x").await;
        assert_eq!(idp.last().header("accept"), Some(TYPE));
        let seen = match &said {
            Ok(Said::Active { json, jwt }) => {
                assert_eq!(jwt.as_deref(), Some(&*body));
                assert_eq!(
                    serde_json::from_slice::<serde_json::Value>(json).unwrap(),
                    json!({"active": true, "sub": "a"})
                );
                Some(true)
            }
            Ok(Said::Inactive) => Some(false),
            Err(FailureKind::Malformed(_)) => None,
            Err(other) => panic!("{other}"),
        };
        assert_eq!(seen, expected, "{content_type} {body} {said:?}");
    }
}

#[test]
fn parameters_that_cannot_be_honoured_are_named() {
    for (yaml, expected) in [
        (
            "introspection_endpoint: 'http://idp.example/'",
            "introspection_endpoint: found `http://idp.example/` is not https; only loopback and hosts of issuers.allow_http may be asked without TLS, expected an https URL",
        ),
        (
            "introspection_accept: text/html",
            "introspection_accept: found \"text/html\", expected one of: application/json, application/jwt, application/token-introspection+jwt",
        ),
        (
            "introspection_accept: application/jwt",
            "introspection_accept: found a signed answer without `client_id` and the issuer's keys, expected both, which the answer is verified with",
        ),
        (
            "introspection_headers_names: [a]",
            "introspection_headers_names: found 1 names for 0 values, expected as many as `introspection_headers_values`",
        ),
        (
            "{introspection_headers_names: [Content-Length], introspection_headers_values: ['1']}",
            "introspection_headers_names: found \"Content-Length\", expected a header that the message itself does not need",
        ),
        (
            "introspection_headers_client: [host]",
            "introspection_headers_client: found \"host\", expected a header that the message itself does not need",
        ),
        (
            "introspection_headers_client: [Authorization]",
            "introspection_headers_client: found \"authorization\", expected other names: the edge shows its own",
        ),
        (
            "introspection_post_args_client: [token]",
            "introspection_post_args_client: found \"token\", expected an argument that the edge does not send itself",
        ),
        (
            "introspection_post_args_client: [client_assertion]",
            "introspection_post_args_client: found \"client_assertion\", expected an argument that the edge does not send itself",
        ),
        (
            "{client_id: [a], introspection_post_args_names: [client_id], introspection_post_args_values: [b]}",
            "introspection_post_args_names: found \"client_id\", expected an argument that the edge does not send itself",
        ),
        (
            "{client_id: [a], introspection_endpoint_auth_method: client_secret_post}",
            "introspection_endpoint_auth_method: found `client_secret_post` without `client_secret` for `client_id[0]`, expected `client_secret` beside it, or another method",
        ),
    ] {
        assert_eq!(parse(yaml, None, &endpoints()).1, [format!("k:1: {expected}")], "{yaml}");
    }
    // Without a client the argument is the operator's own.
    let own = "{introspection_post_args_names: [client_id], introspection_post_args_values: [b]}";
    assert_eq!(parse(own, None, &endpoints()).1, [""; 0]);
}

#[test]
fn identity_changes_with_every_setting() {
    // I5
    let all = endpoints();
    let ids: Vec<_> = [
        "{}",
        "introspection_endpoint: 'https://a/'",
        "introspection_endpoint: 'https://b/'",
        "mtls_introspection_endpoint: 'https://a/'",
        "client_id: a",
        "{client_id: a, client_secret: x}",
        "{client_id: a, client_secret: y}",
        "{client_id: a, client_secret: y, introspection_endpoint_auth_method: client_secret_post}",
        "introspection_hint: x",
        "introspection_token_param_name: x",
        "introspection_check_active: false",
        "{introspection_headers_names: [a], introspection_headers_values: [x]}",
        "{introspection_headers_names: [a], introspection_headers_values: [y]}",
        "{introspection_post_args_names: [a], introspection_post_args_values: [x]}",
        "introspection_headers_client: [a]",
        "introspection_post_args_client: [a]",
        "introspection_post_args_client_headers: [a]",
    ]
    .map(|yaml| parse(yaml, None, &all).0.id())
    .into();
    for (at, id) in ids.iter().enumerate() {
        assert!(!ids[at + 1..].contains(id), "{at}");
    }
    assert_eq!(ids[0], parse("{}", None, &all).0.id());
}

#[tokio::test]
async fn a_question_runs_on_any_thread_and_waits_no_longer_than_its_time() {
    let idp = Idp::start(Reply::json(200, ACTIVE).late(Duration::from_secs(5))).await;
    let yaml = format!("{{introspection_endpoint: '{}'}}", idp.url);
    let (one, _) = read(&yaml, |config| {
        let options = Options { timeout: Duration::from_millis(50), ..options() };
        let issuer = "https://idp.example".into();
        let around =
            Surroundings { issuer, issuers: Issuers::Discovered, options, clients: Arc::default(), source: None };
        Introspection::read(config, &around, &endpoints())
    });
    let asked = tokio::spawn(async move { one.ask(b"x", &Extras::default()).await });
    let failure = asked.await.unwrap().unwrap_err();
    assert_eq!((failure.kind, failure.retry_after_secs), (FailureKind::Timeout, 1));
}
