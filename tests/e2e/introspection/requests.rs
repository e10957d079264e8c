//! What the issuer is asked, field by field.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use edge_tests::issuer::{argument, form, good};
use edge_tests::mint::{Key, encode, now, open};
use edge_tests::wire::{Message, get};
use serde_json::{Value, json};

use super::{Opaque, SECRET, active};
use crate::{plus, with_token};

fn fields(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// The fields of a form in the order of their names.
fn sorted(request: &Message) -> Vec<(String, String)> {
    let mut fields = form(request);
    fields.sort();
    fields
}

#[test]
fn a_question_is_a_post_with_the_token_in_its_body_alone() {
    // I8, I9, I10, S3.2
    let opaque = Opaque::with(json!({"client_auth": ["client_secret_basic"]}));
    // Every character a bearer token may have (RFC 6750, 2.1).
    let token = "az.AZ-09_~+/x==";
    opaque.issuer.know(token, active());
    let target = "/orders?token=evil&token_type_hint=evil&client_id=evil&resource=evil";
    let evil = ["X-Token: evil", "Content-Type: evil/evil", &format!("Authorization: Bearer {token}")];
    assert_eq!(opaque.edge.ask(get(target, &evil)).status(), 200);
    let request = opaque.issuer.last("/introspect");
    assert_eq!(request.start, "POST /introspect HTTP/1.1");
    assert_eq!(request.field("content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(request.field("accept"), Some("application/json"));
    assert_eq!(form(&request), fields(&[("token", token), ("token_type_hint", "access_token")]));
    let body = request.text();
    assert!(body.starts_with("token=az.AZ-09_") && body.contains("%2B%2Fx%3D%3D&"), "{body}");
    let basic = format!("Basic {}", STANDARD.encode(format!("edge:{SECRET}")));
    assert_eq!(request.field("authorization"), Some(basic.as_str()));
    assert!(!String::from_utf8_lossy(&request.raw).contains("evil"), "{}", String::from_utf8_lossy(&request.raw));
    // What cannot stand in a bearer token never reaches the issuer.
    let before = opaque.issuer.hits("/introspect");
    for bad in ["a&active=true", "a%26b", "a\tb", "a;b", "a\u{e4}b", "a,b"] {
        assert!(matches!(opaque.ask(bad).status(), 400 | 401), "{bad:?}");
    }
    assert_eq!(opaque.issuer.hits("/introspect"), before);
}

#[test]
fn id_and_secret_are_form_encoded_before_basic() {
    // I10 (RFC 6749, 2.3.1)
    let (id, secret) = ("gate way:1", "s:e%c+r e/t&=\u{e4}");
    let config = json!({"client_id": [id], "client_secret": [secret], "client_auth": ["client_secret_basic"]});
    let opaque = Opaque::with(config);
    opaque.issuer.know("token", active());
    assert_eq!(opaque.ask("token").status(), 200);
    let request = opaque.issuer.last("/introspect");
    let value = request.field("authorization").unwrap().strip_prefix("Basic ").unwrap().to_owned();
    let text = String::from_utf8(STANDARD.decode(value).unwrap()).unwrap();
    let text = text.replace("%20", "+");
    assert_eq!(text, "gate+way%3A1:s%3Ae%25c%2Br+e%2Ft%26%3D%C3%A4");
    assert_eq!(form(&request), fields(&[("token", "token"), ("token_type_hint", "access_token")]));
}

#[test]
fn other_ways_send_their_fields_and_no_header() {
    for (method, more) in [
        ("client_secret_post", vec![("client_id", "edge"), ("client_secret", SECRET)]),
        ("none", vec![("client_id", "edge")]),
    ] {
        let opaque = Opaque::with(json!({"client_auth": [method]}));
        opaque.issuer.know("token", active());
        assert_eq!(opaque.ask("token").status(), 200, "{method}");
        let request = opaque.issuer.last("/introspect");
        let mut expected = fields(&[&more[..], &[("token", "token"), ("token_type_hint", "access_token")]].concat());
        expected.sort();
        assert_eq!(sorted(&request), expected, "{method}");
        assert_eq!(request.field("authorization"), None, "{method}");
    }
    // Without a client there is nothing to authenticate by but what the operator adds.
    let headers = json!({"client_id": null, "client_secret": null,
        "introspection_headers_names": ["authorization"], "introspection_headers_values": ["Basic b3duOm93bg=="]});
    let opaque = Opaque::with(headers);
    opaque.issuer.know("token", active());
    assert_eq!(opaque.ask("token").status(), 200);
    assert_eq!(opaque.issuer.last("/introspect").field("authorization"), Some("Basic b3duOm93bg=="));
}

/// The claims of the assertion in a question, whose form is checked.
fn assertion(opaque: &Opaque, request: &Message) -> (String, Value, Value) {
    let kind = argument(request, "client_assertion_type");
    assert_eq!(kind.as_deref(), Some("urn:ietf:params:oauth:client-assertion-type:jwt-bearer"));
    assert_eq!(argument(request, "client_secret"), None);
    assert!(!request.text().contains(SECRET));
    assert_eq!(request.field("authorization"), None);
    let token = argument(request, "client_assertion").expect("an assertion");
    let (header, claims) = open(&token);
    assert_eq!((&claims["iss"], &claims["sub"]), (&json!("edge"), &json!("edge")));
    let url = opaque.issuer.url();
    let audiences = [url.clone(), format!("{url}/introspect"), format!("{url}/token")];
    let stands = |value: &Value| value.as_str().is_some_and(|text| audiences.iter().any(|aud| aud == text));
    let aud = &claims["aud"];
    assert!(stands(aud) || aud.as_array().is_some_and(|all| !all.is_empty() && all.iter().all(stands)), "{aud}");
    let exp = claims["exp"].as_i64().expect("an end");
    assert!(exp > now() && exp <= now() + 300, "{exp} at {}", now());
    assert!(claims["jti"].as_str().is_some_and(|jti| jti.len() >= 16), "{claims}");
    (token, header, claims)
}

#[test]
fn an_assertion_is_fresh_short_and_for_this_issuer() {
    // I11 (RFC 7523, 3): two questions, two assertions.
    let secret = Key::hs256(SECRET.as_bytes(), "");
    let private = json!({"kty": "OKP", "crv": "Ed25519", "kid": "own", "alg": "EdDSA",
        "d": "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
    for (config, algorithm) in [
        (json!({"client_auth": ["client_secret_jwt"]}), "HS256"),
        (json!({"client_auth": ["client_secret_jwt"], "client_alg": ["HS512"]}), "HS512"),
        (json!({"client_auth": ["private_key_jwt"], "client_alg": ["EdDSA"], "client_jwk": [private]}), "EdDSA"),
    ] {
        let opaque = Opaque::with(config);
        let mut seen = Vec::new();
        for token in ["one", "two"] {
            opaque.issuer.know(token, active());
            assert_eq!(opaque.ask(token).status(), 200, "{algorithm}");
            let (token, header, claims) = assertion(&opaque, &opaque.issuer.last("/introspect"));
            assert_eq!(header["alg"], algorithm);
            match algorithm {
                "HS256" => {
                    let (input, signature) = token.rsplit_once('.').unwrap();
                    assert_eq!(encode(&secret.signature(input.as_bytes())), signature);
                }
                "EdDSA" => assert_eq!(header["kid"], "own"),
                _ => {}
            }
            seen.push(claims["jti"].clone());
        }
        assert_ne!(seen[0], seen[1], "{algorithm}: an issuer refuses an assertion it has seen");
    }
}

#[test]
fn hint_name_and_accept_are_the_configured_ones() {
    let config = json!({"introspection_hint": "opaque", "introspection_token_param_name": "access_token",
        "introspection_accept": "application/jwt", "client_auth": ["none"]});
    let opaque = Opaque::with(config);
    opaque.ask("token");
    let request = opaque.issuer.last("/introspect");
    assert_eq!(request.field("accept"), Some("application/jwt"));
    let expected = [("access_token", "token"), ("client_id", "edge"), ("token_type_hint", "opaque")];
    assert_eq!(sorted(&request), fields(&expected));
}

#[test]
fn more_headers_and_arguments_go_along() {
    let config = json!({
        "client_auth": ["client_secret_post"],
        "introspection_headers_names": ["X-Realm", "X-Two"], "introspection_headers_values": ["api", "a b"],
        "introspection_headers_client": ["X-Device", "X-Absent"],
        "introspection_post_args_names": ["resource", "odd"],
        "introspection_post_args_values": ["https://api", "a&b=c"],
        "introspection_post_args_client": ["tenant", "absent"],
        "introspection_post_args_client_headers": ["X-Site", "X-Absent"],
    });
    let opaque = Opaque::with(config);
    opaque.issuer.know("token", active());
    let sent = ["Authorization: Bearer token", "X-Device: d&1", "X-Site: s=1&token=x", "X-Realm: evil", "X-Other: no"];
    assert_eq!(opaque.edge.ask(get("/orders?tenant=t%261&other=no", &sent)).status(), 200);
    let request = opaque.issuer.last("/introspect");
    assert_eq!((request.field("x-realm"), request.field("x-two")), (Some("api"), Some("a b")));
    assert_eq!((request.field("x-device"), request.field("x-absent")), (Some("d&1"), None));
    assert_eq!(request.field("x-other"), None);
    for (name, value) in [
        ("resource", Some("https://api")),
        ("odd", Some("a&b=c")),
        ("tenant", Some("t&1")),
        ("absent", None),
        ("other", None),
        ("token", Some("token")),
        ("token_type_hint", Some("access_token")),
        ("client_id", Some("edge")),
        ("client_secret", Some(SECRET)),
    ] {
        assert_eq!(argument(&request, name).as_deref(), value, "{name}");
    }
    let site = form(&request).into_iter().find(|(name, _)| name.eq_ignore_ascii_case("x-site"));
    assert_eq!(site.map(|(_, value)| value).as_deref(), Some("s=1&token=x"), "{}", request.text());
}

#[test]
fn the_client_chooses_one_of_the_configured_clients() {
    // `client_arg`: header, then query; an id or a place in the list; the first where it is none of them. Of the two
    // spellings among headers `X-Client-ID` is the edge's own word (P1), whoever sends it.
    let config = json!({
        "client_id": ["one", "two"], "client_secret": ["secret-1", "secret-2"],
        "client_auth": ["client_secret_post", "client_secret_basic"], "cache_introspection": false,
    });
    let opaque = Opaque::with(config);
    opaque.issuer.know("token", active());
    let used = |target: &str, field: &str| {
        let fields = ["Authorization: Bearer token", field];
        assert_eq!(opaque.edge.ask(get(target, &fields)).status(), 200, "{target} {field}");
        let request = opaque.issuer.last("/introspect");
        match request.field("authorization") {
            Some(basic) => {
                assert_eq!(argument(&request, "client_secret"), None);
                String::from_utf8(STANDARD.decode(basic.strip_prefix("Basic ").unwrap()).unwrap()).unwrap()
            }
            None => {
                format!("{}:{}", argument(&request, "client_id").unwrap(), argument(&request, "client_secret").unwrap())
            }
        }
    };
    let (one, two) = ("one:secret-1", "two:secret-2");
    for (target, field, expected) in [
        ("/", "X-No: 1", one),
        ("/", "Client-ID: two", two),
        ("/", "client-id: 2", two),
        ("/", "Client-ID: 1", one),
        ("/", "Client-ID: three", one),
        ("/", "Client-ID: 3", one),
        ("/", "Client-ID: 0", one),
        ("/?client_id=two", "X-No: 1", two),
        ("/?client_id=two", "Client-ID: one", one),
        ("/?client_id=evil", "X-No: 1", one),
    ] {
        assert_eq!(used(target, field), expected, "{target} {field}");
    }
    // Another name for it.
    let config = json!({"client_id": ["one", "two"], "client_secret": ["a", "b"], "client_arg": "tenant_app",
        "client_auth": ["client_secret_post", "client_secret_post"]});
    let opaque = Opaque::with(config);
    opaque.issuer.answer("/introspect", |request| {
        let second = argument(request, "client_id").as_deref() == Some("two");
        good(&plus(active(), json!({"active": second})))
    });
    let status = |field: &str| opaque.edge.ask(get("/", &["Authorization: Bearer token", field])).status();
    // What one client was told is not told to the other.
    assert_eq!((status("X-Tenant-App: two"), status("X-Client-ID: two"), status("Tenant-App: two")), (200, 401, 200));
    assert_eq!(opaque.edge.ask(with_token("token")).status(), 401);
}
