use super::super::testing::{clients, clients_with};
use super::*;
use crate::crypto::install;
use jsonwebtoken::{DecodingKey, Validation};

const NOW: Now = Now { unix_ms: 1_700_000_000_999 };
const ISSUER: &str = "https://idp.example";

async fn authenticated(client: &Client, method: Method) -> (Option<String>, String) {
    let mut request = Request::post();
    client.authenticate(method, ISSUER, NOW, &mut request).await.unwrap();
    let authorization = request.headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
    (authorization, request.form().encode())
}

async fn check(yaml: &str, method: Method, authorization: Option<&str>, form: &str) {
    let clients = clients(yaml);
    let seen = authenticated(clients.client(0).unwrap(), method).await;
    assert_eq!(seen, (authorization.map(str::to_owned), form.to_owned()), "{yaml}");
}

// I10
#[tokio::test]
async fn ids_and_secrets_are_form_encoded_whole() {
    let basic = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
    let odd = r#"{client_id: ["a:b c"], client_secret: ["p:w%+ d&=é"]}"#;
    let pair = basic("a%3Ab+c:p%3Aw%25%2B+d%26%3D%C3%A9");
    check(odd, Method::ClientSecretBasic, Some(&pair), "").await;
    let form = "client_id=a%3Ab+c&client_secret=p%3Aw%25%2B+d%26%3D%C3%A9";
    check(odd, Method::ClientSecretPost, None, form).await;
    let plain = "{client_id: edge, client_secret: s3cret}";
    check(plain, Method::ClientSecretBasic, Some(&basic("edge:s3cret")), "").await;
    check(plain, Method::ClientSecretPost, None, "client_id=edge&client_secret=s3cret").await;
    for method in [Method::None, Method::TlsClientAuth, Method::SelfSignedTlsClientAuth] {
        check(plain, method, None, "client_id=edge").await;
    }
}

/// The assertion's header and claims, its signature verified.
async fn assertion(client: &Client, method: Method, algorithm: Algorithm, key: &DecodingKey) -> (Value, Value) {
    install();
    let (authorization, form) = authenticated(client, method).await;
    assert_eq!(authorization, None);
    let pairs: Vec<_> = form_urlencoded::parse(form.as_bytes()).into_owned().collect();
    let names: Vec<_> = pairs.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["client_id", "client_assertion_type", "client_assertion"]);
    assert_eq!(pairs[1].1, "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
    let mut validation = Validation::new(algorithm);
    validation.set_audience(&[ISSUER]);
    validation.validate_exp = false;
    let token = jsonwebtoken::decode::<Value>(&pairs[2].1, key, &validation).unwrap();
    let header = URL_SAFE_NO_PAD.decode(pairs[2].1.split('.').next().unwrap()).unwrap();
    (serde_json::from_slice(&header).unwrap(), token.claims)
}

fn check_claims(claims: &Value) {
    let jti = claims["jti"].as_str().unwrap();
    assert_eq!(URL_SAFE_NO_PAD.decode(jti).unwrap().len(), 16);
    assert_eq!(
        *claims,
        json!({"iss": "edge", "sub": "edge", "aud": ISSUER, "jti": jti, "iat": 1_700_000_000, "exp": 1_700_000_060})
    );
}

// I11
#[tokio::test]
async fn assertions_under_a_secret_are_fresh_and_short_lived() {
    for (yaml, algorithm) in [
        ("{client_id: edge, client_secret: s3cret, client_auth: client_secret_jwt}", Algorithm::HS256),
        (
            "{client_id: edge, client_secret: s3cret, client_auth: client_secret_jwt, client_alg: [HS512]}",
            Algorithm::HS512,
        ),
    ] {
        let clients = clients(yaml);
        let client = clients.client(0).unwrap();
        let key = DecodingKey::from_secret(b"s3cret");
        let (header, first) = assertion(client, Method::ClientSecretJwt, algorithm, &key).await;
        assert_eq!(header, json!({"alg": algorithm, "typ": "JWT"}));
        check_claims(&first);
        let (_, second) = assertion(client, Method::ClientSecretJwt, algorithm, &key).await;
        assert_ne!(first["jti"], second["jti"]);
    }
}

// I11
#[tokio::test]
async fn assertions_under_a_private_key_name_it() {
    // RFC 8037, A.1 and RFC 7517, A.2.
    const ED: &str = "kty: OKP, crv: Ed25519, d: nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A, x: 11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    const EC: &str = "kty: EC, crv: P-256, x: MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4, y: 4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM, d: 870MB6gfuTJ4HtUnUvYMyJpr5eUZNP4Bk43bVdj3eAE";
    let yaml = |jwk: &str| format!("{{client_id: [edge], client_auth: [private_key_jwt], client_jwk: [{{{jwk}}}]}}");
    for (jwk, algorithm, header) in [
        (format!("{ED}, kid: a"), Algorithm::EdDSA, json!({"kid": "a"})),
        (ED.to_owned(), Algorithm::EdDSA, json!({"kid": "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"})),
        (
            format!("{EC}, kid: b, alg: ES256, x5t: eA, x5t#S256: eB, use: sig, key_ops: [sign]"),
            Algorithm::ES256,
            json!({"kid": "b", "x5t": "eA", "x5t#S256": "eB"}),
        ),
    ] {
        let clients = clients(&yaml(&jwk));
        let client = clients.client(0).unwrap();
        let public = serde_json::from_value(client.key.as_ref().unwrap().key.public_jwk().clone()).unwrap();
        let key = DecodingKey::from_jwk(&public).unwrap();
        let (seen, claims) = assertion(client, Method::PrivateKeyJwt, algorithm, &key).await;
        let mut header = header;
        header["alg"] = json!(algorithm);
        header["typ"] = json!("JWT");
        assert_eq!(seen, header);
        check_claims(&claims);
    }
}

#[tokio::test]
async fn without_a_key_one_is_made_and_published() {
    let keys = Arc::<GeneratedKeys>::default();
    let yaml = "{client_id: edge, client_auth: private_key_jwt, client_alg: ES384}";
    let (clients, problems) = clients_with(yaml, &keys, None);
    assert_eq!(problems, [""; 0]);
    let published = keys.published().await.unwrap()["keys"][0].clone();
    let key = DecodingKey::from_jwk(&serde_json::from_value(published.clone()).unwrap()).unwrap();
    let (header, _) = assertion(clients.client(0).unwrap(), Method::PrivateKeyJwt, Algorithm::ES384, &key).await;
    assert_eq!(header, json!({"alg": "ES384", "typ": "JWT", "kid": published["kid"]}));
}

#[test]
fn the_method_is_the_configured_one_or_the_first_that_serves() {
    use Method::{ClientSecretBasic, ClientSecretPost, None as Public, PrivateKeyJwt, TlsClientAuth};
    let secret = "{client_id: a, client_secret: b}";
    let named = "{client_id: a, client_secret: b, client_auth: client_secret_post}";
    for (yaml, over, supported, expected) in [
        (secret, None, &[][..], ClientSecretBasic),
        (secret, None, &["private_key_jwt", "client_secret_post", "client_secret_basic"][..], ClientSecretPost),
        (secret, None, &["none", "tls_client_auth", "new_method"][..], ClientSecretBasic),
        (named, None, &["client_secret_basic"][..], ClientSecretPost),
        (named, Some(ClientSecretBasic), &[][..], ClientSecretBasic),
        ("{client_id: a}", None, &["client_secret_basic", "none"][..], Public),
        ("{client_id: a}", None, &["private_key_jwt"][..], Public),
        ("{client_id: a, client_auth: private_key_jwt}", None, &[][..], PrivateKeyJwt),
        ("{client_id: a}", Some(TlsClientAuth), &[][..], TlsClientAuth),
    ] {
        let clients = clients(yaml);
        let supported: Vec<_> = supported.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(clients.client(0).unwrap().method(over, &supported), expected, "{yaml} {supported:?}");
    }
}

fn pair() -> Arc<rustls::sign::CertifiedKey> {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(["edge".to_owned()]).unwrap().self_signed(&key).unwrap();
    let der = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let pair = rustls::sign::CertifiedKey::from_der(vec![certificate.der().clone()], der, &crypto::tls_provider());
    Arc::new(pair.unwrap())
}

#[test]
fn mutual_tls_shows_the_certificate_and_other_methods_do_not() {
    let yaml = "{client_id: a, client_auth: tls_client_auth, tls_client_auth_cert_id: cert, tls_client_auth_ssl_verify: false}";
    let (clients, problems) = clients_with(yaml, &Arc::default(), Some(pair()));
    assert_eq!(problems, [""; 0]);
    let client = clients.client(0).unwrap();
    let base = Options::default();
    let mutual = client.options(Method::TlsClientAuth, &base);
    assert_eq!((mutual.identity.is_some(), mutual.ssl_verify), (true, false));
    assert_ne!(mutual.digest(), base.digest());
    assert_eq!(client.options(Method::ClientSecretBasic, &base), base);
}

#[test]
fn arrays_are_zipped_and_what_does_not_fit_is_named() {
    let two = clients("{client_id: [a, b], client_secret: [x, y], client_auth: [none]}");
    assert_eq!(two.iter().map(Client::id).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(two.client(1).unwrap().secret(), Some("y"));
    assert_eq!(two.client(7).map(Client::id), Some("a"), "the first where there is none such");
    for (yaml, expected) in [
        (
            "{client_id: [a], client_secret: [b, c]}",
            "client_secret: found 2 for 1 of `client_id`, expected at most as many",
        ),
        ("{client_auth: [none]}", "client_auth: found 1 for 0 of `client_id`, expected at most as many"),
        (
            "{client_id: [a], client_auth: [client_secret_post]}",
            "client_auth: found `client_secret_post` without `client_secret` for `client_id[0]`, expected `client_secret` beside it, or another method",
        ),
        (
            "{client_id: [a], client_auth: [tls_client_auth]}",
            "client_auth: found `tls_client_auth` without `tls_client_auth_cert_id` for `client_id[0]`, expected `tls_client_auth_cert_id` beside it, or another method",
        ),
        (
            "{client_id: [a], tls_client_auth_cert_id: other}",
            "tls_client_auth_cert_id: found \"other\", expected the id of a certificate of this configuration",
        ),
        (
            "{client_id: [a], client_secret: [b], client_auth: [client_secret_jwt], client_alg: [RS256]}",
            "client_alg: found RS256 for `client_secret_jwt`, expected HS256, HS384 or HS512",
        ),
        (
            "{client_id: [a], client_auth: [private_key_jwt], client_alg: [HS256]}",
            "client_alg: found HS256 for `private_key_jwt`, expected an RS, PS or ES algorithm, or EdDSA",
        ),
        (
            "{client_id: [a], client_jwk: [{kty: oct, k: AAAA}]}",
            "client_jwk[0].k: found a symmetric key or one of many primes, expected an RSA key of two primes, EC or Ed25519",
        ),
        (
            "{client_id: [a], client_jwk: [{kty: EC, crv: P-521, d: AAAA}]}",
            "client_jwk[0].kty: found a type or curve that is not supported, expected RSA, EC with P-256 or P-384, OKP with Ed25519",
        ),
        (
            "{client_id: [a], client_jwk: [{kty: OKP, crv: Ed25519, d: hunter22, x: AAAA}]}",
            "client_jwk[0].kty: found the key is malformed or of another kind than its algorithm, expected a whole private key for EdDSA",
        ),
    ] {
        let (_, problems) = clients_with(yaml, &Arc::default(), None);
        assert!(problems.iter().any(|problem| problem == &format!("k:1: {expected}")), "{yaml}: {problems:?}");
        assert!(!problems.join("").contains("hunter22"));
    }
}

#[test]
fn identity_changes_with_everything() {
    let all = [
        "{client_id: a}",
        "{client_id: b}",
        "{client_id: [a, b]}",
        "{client_id: a, client_secret: x}",
        "{client_id: a, client_secret: y}",
        "{client_id: a, client_secret: x, client_auth: client_secret_post}",
        "{client_id: a, client_secret: x, client_auth: client_secret_jwt, client_alg: HS512}",
    ]
    .map(|yaml| clients(yaml).digest());
    for (at, digest) in all.iter().enumerate() {
        assert!(!all[at + 1..].contains(digest), "{at}");
    }
    assert_eq!(all[3], clients("{client_id: [a], client_secret: [x]}").digest());
    assert!(!format!("{:?}", clients("{client_id: a, client_secret: hunter22}").client(0)).contains("hunter22"));
}
