//! ID tokens beside access tokens.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use edge_tests::mint::{self, flip, with};
use edge_tests::wire::Message;
use serde_json::{Value, json};

use super::{AUDIENCE, CALLER, Flow, basic};

fn id_claims(flow: &Flow) -> Value {
    with(mint::claims(&flow.issuer.url(), "edge"), json!({"scope": null, "client_id": null, "email": "a@b.example"}))
}

fn sign(flow: &Flow, claims: &Value) -> String {
    flow.key.sign(&with(flow.key.header(), json!({"typ": "JWT"})), claims)
}

fn ask(flow: &Flow, id_token: &str) -> Message {
    let access = flow.key.token(&mint::claims(&flow.issuer.url(), AUDIENCE));
    flow.ask(&[&format!("Authorization: Bearer {access}"), &format!("X-Id-Token: {id_token}")])
}

#[test]
fn one_that_clients_send_is_verified_and_told() {
    // P1
    let flow = Flow::start(
        json!(["bearer"]),
        json!({
            "id_token_param_name": "X-Id-Token",
            "upstream_id_token_header": "X-Verified-Id",
            "upstream_id_token_jwk_header": "X-Verified-Key",
            "upstream_headers": [{"header": "X-Email", "path": ["email"]}],
        }),
    );
    let token = sign(&flow, &id_claims(&flow));
    assert_eq!(ask(&flow, &token).status(), 200, "{}", flow.edge.output());
    let seen = flow.upstream.last();
    assert_eq!((seen.field("x-verified-id"), seen.field("x-email")), (Some(token.as_str()), Some("a@b.example")));
    assert_eq!(seen.field("x-id-token"), None);
    let key: Value = serde_json::from_slice(&STANDARD.decode(seen.field("x-verified-key").unwrap()).unwrap()).unwrap();
    assert_eq!((&key["kid"], key.get("d")), (&json!("es-1"), None));

    let before = flow.upstream.requests().len();
    for (name, bad) in [
        ("signature", flip(&token)),
        ("audience", sign(&flow, &with(id_claims(&flow), json!({"aud": "other"})))),
        ("audiences", sign(&flow, &with(id_claims(&flow), json!({"aud": ["other", "edge "]})))),
        ("no audience", sign(&flow, &with(id_claims(&flow), json!({"aud": null})))),
        ("issuer", sign(&flow, &with(id_claims(&flow), json!({"iss": "https://evil.example"})))),
        ("another user's", sign(&flow, &with(id_claims(&flow), json!({"sub": "mallory"})))),
        ("no subject", sign(&flow, &with(id_claims(&flow), json!({"sub": null})))),
        ("expired", sign(&flow, &with(id_claims(&flow), json!({"exp": 1})))),
        ("type", flow.key.token(&id_claims(&flow))),
        ("opaque", "opaque-id-token-0123".to_owned()),
    ] {
        let answer = ask(&flow, &bad);
        assert_eq!((answer.status(), flow.edge.reason_of(&answer).as_str()), (401, "id_token_invalid"), "{name}");
        flow.assert_silent(&[&bad]);
    }
    assert_eq!(flow.upstream.requests().len(), before);
    let several = sign(&flow, &with(id_claims(&flow), json!({"aud": ["other", "edge"]})));
    assert_eq!(ask(&flow, &several).status(), 200);
    // Without one nothing is said, whatever the client says.
    let access = flow.key.token(&mint::claims(&flow.issuer.url(), AUDIENCE));
    let forged = [format!("Authorization: Bearer {access}"), "X-Verified-Id: forged".into(), "X-Email: forged".into()];
    assert_eq!(flow.ask(&forged.each_ref().map(String::as_str)).status(), 200);
    assert!(!String::from_utf8_lossy(&flow.upstream.last().raw).contains("forged"));
    // An ID token is no access token (S0.14).
    assert_eq!(flow.ask(&[&format!("Authorization: Bearer {token}")]).status(), 401);
    flow.assert_silent(&[&token, &several]);
}

#[test]
fn one_that_a_grant_brings_goes_before_a_clients() {
    let config = json!({"id_token_param_name": "X-Id-Token", "upstream_id_token_header": "X-Verified-Id"});
    let flow = Flow::start(json!(["client_credentials"]), config);
    let token = sign(&flow, &id_claims(&flow));
    flow.issue(json!({"id_token": token}));
    let other = sign(&flow, &with(id_claims(&flow), json!({"sub": "mallory"})));
    assert_eq!(flow.ask(&[&basic(CALLER.0, CALLER.1), &format!("X-Id-Token: {other}")]).status(), 200);
    let seen = flow.upstream.last();
    assert_eq!((seen.field("x-verified-id"), seen.field("x-id-token")), (Some(token.as_str()), None));
    // One that ends before its access token is over for both: they are asked for anew.
    let (short, calls) = (sign(&flow, &with(id_claims(&flow), json!({"exp": mint::now() + 2}))), flow.calls());
    flow.issue(json!({"id_token": short}));
    assert_eq!(flow.ask(&[&basic("short", CALLER.1)]).status(), 200);
    flow.issue(json!({"id_token": token}));
    assert_eq!((flow.ask(&[&basic("short", CALLER.1)]).status(), flow.calls()), (200, calls + 1));
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!((flow.ask(&[&basic("short", CALLER.1)]).status(), flow.calls()), (200, calls + 2));
    flow.issue(json!({"id_token": flip(&token)}));
    assert_eq!(flow.ask(&[&basic("another", CALLER.1)]).status(), 401);
    flow.assert_silent(&[&token, &other]);
}
