use std::sync::Arc;

use tokio::runtime::Handle;

use crate::admin::status::tests::admin_with;
use crate::crypto::sign::SigningAlgorithm;
use crate::http_client::{HttpClient, Options};
use crate::http_server::tests::Running;
use crate::keysets::{Keeping, KeySet, KeySets, Origin, Policy, SetSettings};
use crate::token::testing::TestIssuer;

use super::*;

const RFC8037: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"one","alg":"EdDSA","use":"sig",
    "d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

/// An Admin API, and the set `kong` with an Ed25519 key.
async fn admin() -> (Running, Arc<KeySets>, Arc<KeySet>) {
    let http = HttpClient::new(&[]).unwrap();
    let policy = Policy { algorithms: [SigningAlgorithm::EdDSA].into(), ..Policy::default() };
    let sets = Arc::new(KeySets::new(http, Keeping::Memory, Handle::current(), policy));
    let set = sets.set(SetSettings { origin: Origin::Named("kong".into()), rotate_period: None });
    (admin_with(sets.clone()).await, sets, set)
}

async fn json_of(running: &Running, path: &str) -> Value {
    let (status, _, body) = running.request(&format!("GET {path}"), "", "").await;
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap()
}

#[tokio::test]
async fn a_set_is_listed_and_served_once_it_is_used() {
    let (running, _, set) = admin().await;
    let (status, head, body) = running.request("GET /jwt-signer/jwks", "", "").await;
    assert_eq!((status, body.as_str()), (200, r#"{"data":[],"next":null}"#));
    assert!(head.contains("content-type: application/json"), "{head}");
    for (method, path) in [("GET", ""), ("DELETE", ""), ("POST", "/rotate"), ("POST", "/rotate/")] {
        let (status, _, body) = running.request(&format!("{method} /jwt-signer/jwks/kong{path}"), "", "").await;
        assert_eq!((status, body.as_str()), (404, r#"{"message":"Not found"}"#), "{method} {path}");
    }
    let key = set.ready(SigningAlgorithm::EdDSA).await.unwrap();
    let listed = json_of(&running, "/jwt-signer/jwks/").await;
    let id = listed["data"][0]["id"].as_str().unwrap().to_owned();
    let seconds = listed["data"][0]["created_at"].as_i64().unwrap();
    assert!((1_700_000_000..5_000_000_000).contains(&seconds));
    let expected = json!({"data": [{"id": id, "name": "kong", "created_at": seconds, "updated_at": seconds,
        "keys": [key.public_jwk()], "previous": []}], "next": null});
    assert_eq!(listed, expected);
    for path in ["kong", "kong/", &id, &id.to_uppercase()] {
        let (status, head, body) = running.request(&format!("GET /jwt-signer/jwks/{path}"), "", "").await;
        let expected = json!({"keys": [key.public_jwk()], "previous": []});
        assert_eq!((status, serde_json::from_str::<Value>(&body).unwrap()), (200, expected), "{path}");
        assert!(head.contains("content-type: application/jwk-set+json"), "{head}");
    }
    assert_eq!(running.request("HEAD /jwt-signer/jwks/kong", "", "").await.2, "");
}

#[tokio::test]
async fn a_rotation_keeps_the_old_keys_published_and_a_second_one_does_not() {
    // S2.6, R5
    let (running, _, set) = admin().await;
    let first = set.ready(SigningAlgorithm::EdDSA).await.unwrap().public_jwk().clone();
    let (status, head, body) = running.request("POST /jwt-signer/jwks/kong/rotate", "", "").await;
    let rotated: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &rotated["previous"]), (200, &json!([first])));
    assert!(head.contains("content-type: application/jwk-set+json"), "{head}");
    assert_ne!(rotated["keys"][0]["kid"], first["kid"]);
    assert_eq!(json_of(&running, "/jwt-signer/jwks/kong").await, rotated);
    assert_eq!(json_of(&running, "/jwt-signer/jwks/kong?all=false").await, rotated);
    let all = json_of(&running, "/jwt-signer/jwks/kong?all=true").await;
    assert_eq!(all, json!({"keys": [rotated["keys"][0], first]}));
    assert_eq!(running.request("POST /jwt-signer/jwks/kong/rotate", "", "").await.0, 200);
    assert!(!json_of(&running, "/jwt-signer/jwks/kong").await.to_string().contains(first["kid"].as_str().unwrap()));
    let (status, _, body) = running.request("DELETE /jwt-signer/jwks/kong", "", "").await;
    assert_eq!((status, body.as_str()), (204, ""));
    assert_eq!(running.request("DELETE /jwt-signer/jwks/kong", "", "").await.0, 404);
    assert_ne!(set.ready(SigningAlgorithm::EdDSA).await.unwrap().public_jwk(), &first);
}

#[tokio::test]
async fn a_urls_set_is_named_by_it_and_downloaded_with_the_bodys_credentials() {
    let (running, sets, _) = admin().await;
    let issuer = TestIssuer::start(&[]).await;
    let url = issuer.page("/keys");
    issuer.answer("/keys", 200, RFC8037);
    let origin = Origin::Fetched { url: url.as_str().into(), options: Options::default() };
    let set = sets.set(SetSettings { origin, rotate_period: None });
    set.ready(SigningAlgorithm::EdDSA).await.unwrap();
    let encoded: String = form_urlencoded::byte_serialize(url.as_bytes()).collect();
    let path = format!("/jwt-signer/jwks/{encoded}");
    let shown = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "one", "alg": "EdDSA", "use": "sig",
        "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}], "previous": []});
    assert_eq!(json_of(&running, &path).await, shown);
    let json_body = "Content-Type: application/json\r\n";
    let rotate = format!("POST {path}/rotate");
    let credentials = r#"{"client_username":"user","client_password":"hush"}"#;
    assert_eq!(running.request(&rotate, json_body, credentials).await.0, 200);
    let asked = issuer.requests();
    assert!(asked.last().unwrap().to_ascii_lowercase().contains("authorization: basic dxnlcjpodxno"), "{asked:?}");
    for (headers, body, expected, text) in [
        ("", "{}", 415, "application/json alone"),
        ("Content-Type: text/plain\r\n", "{}", 415, "application/json alone"),
        (json_body, "", 200, "one"),
        (json_body, "{}", 200, "one"),
        ("Content-Type: Application/JSON; charset=utf-8\r\n", "{}", 200, "one"),
        (json_body, "[", 400, "not a JSON object"),
        (json_body, r#"{"client_password":12345}"#, 400, "not a JSON object"),
        (json_body, r#"{"password":"hush"}"#, 400, "not a JSON object"),
        (json_body, r#"{"client_username":"user"}"#, 400, "go together"),
        (json_body, r#"{"client_password":"hush"}"#, 400, "go together"),
        (json_body, r#"{"client_username":"a:b","client_password":"hush"}"#, 400, "colon"),
        (json_body, r#"{"client_certificate":"7c0d"}"#, 400, "client_certificate is not taken here"),
        (json_body, r#"{"client_certificate":{"id":"7c0d"}}"#, 400, "client_certificate is not taken here"),
    ] {
        let (status, _, answer) = running.request(&rotate, headers, body).await;
        assert_eq!(status, expected, "{headers} {body}: {answer}");
        assert!(answer.contains(text) && !answer.contains("hush") && !answer.contains("12345"), "{answer}");
    }
    let long = format!(r#"{{"client_username":"{}"}}"#, "u".repeat(MAX_BODY_BYTES));
    assert_eq!(running.request(&rotate, json_body, &long).await.0, 413);
    issuer.answer("/keys", 503, "");
    let (status, _, body) = running.request(&rotate, "", "").await;
    assert_eq!((status, body.as_str()), (500, r#"{"message":"An unexpected error occurred"}"#));
    assert_eq!(json_of(&running, &path).await, shown, "the last good keys stay");
    let (status, _, body) = running.request("POST /jwt-signer/jwks/kong/rotate", json_body, credentials).await;
    assert_eq!((status, body.as_str()), (404, r#"{"message":"Not found"}"#));
}

#[tokio::test]
async fn pages_of_a_browser_rotate_nothing() {
    // A3: a bare POST needs no leave (Fetch, 2.2.1), and says where it comes from.
    let (running, _, set) = admin().await;
    let key = set.ready(SigningAlgorithm::EdDSA).await.unwrap();
    for origin in ["https://evil.example", "null", "http://localhost:3000"] {
        let headers = format!("Host: localhost\r\nOrigin: {origin}\r\n");
        for line in ["POST /jwt-signer/jwks/kong/rotate", "DELETE /jwt-signer/jwks/kong"] {
            let (status, head, body) = running.request(line, &headers, "").await;
            assert_eq!(status, 403, "{line} {origin}");
            assert!(body.contains("Origin is not this Admin API") && !head.contains("access-control"), "{body}");
        }
    }
    let now = json_of(&running, "/jwt-signer/jwks/kong").await;
    assert_eq!(now, json!({"keys": [key.public_jwk()], "previous": []}));
    assert_eq!(
        running
            .request("POST /jwt-signer/jwks/kong/rotate", "Host: localhost\r\nOrigin: http://localhost\r\n", "")
            .await
            .0,
        200
    );
}

#[tokio::test]
async fn other_methods_are_named() {
    let (running, ..) = admin().await;
    for (path, allowed, refused) in [
        ("/jwt-signer/jwks", "get, head, options", "POST"),
        ("/jwt-signer/jwks/kong", "delete, get, head, options", "PUT"),
        ("/jwt-signer/jwks/kong/rotate", "options, post", "GET"),
    ] {
        let (status, head, _) = running.request(&format!("OPTIONS {path}"), "", "").await;
        assert!(status == 204 && head.contains(&format!("allow: {allowed}")), "{path}: {head}");
        assert_eq!(running.request(&format!("{refused} {path}"), "", "").await.0, 405, "{path}");
    }
}
