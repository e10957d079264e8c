use serde_json::json;

use super::{Known, plugin};

#[test]
fn groups_of_a_token_let_pass_and_go_upstream() {
    let acl = plugin("acl", json!({"allow": ["clerks"]}));
    let known = Known::start(json!({"authenticated_groups_claim": ["groups"]}), &[acl], json!([]));
    assert_eq!(known.ask("ann", json!({"groups": ["x", "clerks"]})).status(), 200);
    assert_eq!(known.upstream.last().field("x-authenticated-groups"), Some("x, clerks"));
    for groups in [json!(["Clerks"]), json!([]), json!(null)] {
        let answer = known.ask("ann", json!({"groups": groups}));
        assert_eq!(answer.status(), 403, "{groups}");
        assert_eq!(answer.json()["message"], "You cannot consume this service");
        assert_eq!(answer.json()["request_id"].as_str(), answer.field("x-kong-request-id"));
        assert_eq!(answer.field("www-authenticate"), None);
        assert_eq!(known.edge.reason_of(&answer), "group_not_allowed");
    }
    assert_eq!(known.upstream.requests().len(), 1);
}

#[test]
fn without_a_credential_it_is_401_without_a_challenge() {
    let upstream = edge_tests::upstream::Upstream::start();
    let edge = super::with_plugins(&upstream, json!([plugin("acl", json!({"deny": ["x"]}))]));
    let answer = edge.ask(edge_tests::wire::get("/", &["X-Consumer-Groups: y", "X-Authenticated-Groups: y"]));
    assert_eq!((answer.status(), &answer.json()["message"]), (401, &json!("Unauthorized")));
    assert_eq!(answer.field("www-authenticate"), None);
    assert_eq!(edge.reason_of(&answer), "caller_unknown");
    assert!(upstream.requests().is_empty());
}

#[test]
fn groups_a_client_claims_never_go_upstream() {
    // P1: Kong lets them through where `hide_groups_header` is set.
    let acl = plugin("acl", json!({"allow": ["clerks"], "hide_groups_header": true}));
    let known = Known::start(json!({"authenticated_groups_claim": ["groups"]}), &[acl], json!([]));
    let claims = edge_tests::mint::claims(&known.issuer.url(), crate::AUDIENCE);
    let token = known.key.token(&edge_tests::mint::with(claims, json!({"groups": ["clerks"]})));
    let bearer = format!("Authorization: Bearer {token}");
    let fields = [bearer.as_str(), "X-Authenticated-Groups: root", "x_consumer_groups: root"];
    assert_eq!(known.edge.ask(edge_tests::wire::get("/", &fields)).status(), 200);
    let seen = known.upstream.last();
    assert!(!String::from_utf8_lossy(&seen.raw).contains("root"), "{seen:?}");
}
