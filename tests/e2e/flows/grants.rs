//! Client credentials, password and refresh token: where they may stand, and what issuer and upstream see.

use edge_tests::mint;
use serde_json::json;

use super::{AUDIENCE, CALLER, Flow, SECRET, basic, pairs, post};
use edge_tests::wire::get;

const PASSWORD: &str = "alice's long pass&word=1";
const REFRESH: &str = "refresh-token-0123456789";

fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[test]
fn a_clients_own_credentials_stand_for_its_token() {
    // U6, L1
    let types = json!({"client_credentials_param_type": ["header", "query", "body"]});
    let flow = Flow::start(json!(["client_credentials"]), types);
    let (id, secret) = CALLER;
    let arguments = format!("client_id={id}&client_secret={secret}");
    for (number, (request, target, body)) in [
        (get("/orders?keep=1", &[&basic(id, secret)]), "/orders?keep=1", ""),
        (get(&format!("/orders?a=1&{arguments}&keep=1"), &[]), "/orders?a=1&keep=1", ""),
        (post("/orders?keep=1", &format!("a=1&{arguments}")), "/orders?keep=1", "a=1"),
    ]
    .into_iter()
    .enumerate()
    {
        let answer = flow.edge.ask(request);
        assert_eq!(answer.status(), 200, "{}", flow.edge.output());
        let seen = flow.upstream.last();
        assert_eq!((seen.target(), seen.text().as_str()), (target, body));
        assert_eq!(seen.field("authorization"), Some(format!("Bearer {}", flow.issued()).as_str()));
        assert!(!String::from_utf8_lossy(&seen.raw).contains(secret), "{number}");
        assert_eq!(flow.upstream_subject(), id);
        // Three spellings of one credential.
        assert_eq!(flow.calls(), 1, "{number}");
    }
    let asked = flow.issuer.last("/token");
    assert_eq!(asked.method(), "POST");
    assert_eq!(asked.text(), "grant_type=client_credentials&scope=openid");
    assert_eq!(asked.field("content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(asked.field("authorization"), Some(&basic(id, secret)["Authorization: ".len()..]));
    flow.assert_silent(&[]);
}

#[test]
fn where_they_may_not_stand_they_count_for_nothing() {
    let flow = Flow::start(json!(["client_credentials", "password"]), json!({"password_param_type": ["body"]}));
    let (id, secret) = CALLER;
    let arguments = format!("client_id={id}&client_secret={secret}");
    for request in [
        get(&format!("/orders?{arguments}"), &[]),
        post("/orders", &arguments),
        post("/orders", "username=alice"),
        get("/orders", &[]),
        get("/orders", &["Authorization: Negotiate abcd"]),
    ] {
        let answer = flow.edge.ask(request);
        assert_eq!((answer.status(), flow.edge.reason_of(&answer).as_str()), (401, "header_missing"));
    }
    for (fields, status) in
        [(vec!["Authorization: Basic !!".to_owned()], 401), (vec![basic(id, secret), basic("other", secret)], 400)]
    {
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        assert_eq!(flow.ask(&fields).status(), status, "{fields:?}");
    }
    assert_eq!((flow.calls(), flow.upstream.requests().len()), (0, 0));
    assert_eq!(flow.status(), 200);
}

#[test]
fn a_bearer_token_is_none_of_them() {
    // A route of client credentials alone takes no token, however good.
    let flow = Flow::start(json!(["client_credentials"]), json!({}));
    let token = flow.key.token(&mint::claims(&flow.issuer.url(), AUDIENCE));
    let answer = flow.ask(&[&format!("Authorization: Bearer {token}")]);
    assert_eq!((answer.status(), flow.calls()), (401, 0));
    assert!(flow.upstream.requests().is_empty());
    flow.assert_silent(&[&token]);
    let both = Flow::start(json!(["client_credentials", "bearer"]), json!({}));
    let token = both.key.token(&mint::claims(&both.issuer.url(), AUDIENCE));
    assert_eq!(both.ask(&[&format!("Authorization: Bearer {token}")]).status(), 200);
    assert_eq!((both.calls(), both.status(), both.calls()), (0, 200, 1));
}

#[test]
fn passwords_and_refresh_tokens_go_beside_the_edges_own_credentials() {
    let config = json!({
        "password_param_type": ["header", "query", "body"],
        "refresh_token_param_type": ["header", "query", "body"],
        "refresh_token_param_name": "refresh-token",
        "scopes": ["openid", "orders:read"],
        "audience": ["api://orders"],
    });
    let flow = Flow::start(json!(["password", "refresh_token", "client_credentials"]), config);
    let own = basic("edge", SECRET);
    let more = [("scope", "openid orders:read"), ("audience", "api://orders")];
    let by_password = [("grant_type", "password"), ("username", "alice"), ("password", PASSWORD)];
    let by_refresh = [("grant_type", "refresh_token"), ("refresh_token", REFRESH)];
    let arguments = format!("username=alice&password={}", escaped(PASSWORD));
    let refresh = format!("refresh-token={REFRESH}");
    for (request, target, body, expected) in [
        (get("/orders", &[&basic("alice", PASSWORD)]), "/orders", "", &by_password[..]),
        (get(&format!("/orders?{arguments}"), &[]), "/orders", "", &by_password),
        (post("/orders", &format!("{arguments}&keep=1")), "/orders", "keep=1", &by_password),
        (get("/orders", &[&format!("Refresh-Token: {REFRESH}")]), "/orders", "", &by_refresh),
        (get(&format!("/orders?{refresh}&keep=1"), &[]), "/orders?keep=1", "", &by_refresh),
        (post("/orders", &refresh), "/orders", "", &by_refresh),
    ] {
        assert_eq!(flow.edge.ask(request).status(), 200, "{}", flow.edge.output());
        let asked = flow.issuer.last("/token");
        assert_eq!(flow.form(), pairs(&[expected, &more].concat()));
        assert_eq!(asked.field("authorization"), Some(&own["Authorization: ".len()..]));
        let seen = flow.upstream.last();
        assert_eq!((seen.target(), seen.text().as_str()), (target, body));
        assert_eq!(seen.field("refresh-token"), None);
        let subject = if expected == by_refresh { "refreshed 24" } else { "alice" };
        assert_eq!(flow.upstream_subject(), subject);
        let raw = String::from_utf8_lossy(&seen.raw).into_owned();
        assert!(!raw.contains(REFRESH) && !raw.contains("pass&") && !raw.contains(&escaped(PASSWORD)), "{raw}");
        // For the next of another place.
        assert!(flow.calls() <= 2, "one call for each credential");
    }
    // A refresh token goes before Basic, and Basic is a user's before it is a client's.
    let fields = [basic("bob", "another-password"), "Refresh-Token: other-refresh-token-1".to_owned()];
    assert_eq!(flow.ask(&[&fields[0], &fields[1]]).status(), 200);
    assert_eq!(flow.upstream_subject(), "refreshed 21");
    flow.assert_silent(&[PASSWORD, &escaped(PASSWORD), REFRESH, "another-password", "other-refresh-token-1"]);
}

#[test]
fn only_what_is_named_goes_along_and_comes_back() {
    let config = json!({
        "token_post_args_client": ["scope"], "token_headers_client": ["X-Tenant"],
        "token_post_args_names": ["resource"], "token_post_args_values": ["api://orders"],
        "token_headers_names": ["X-Edge"], "token_headers_values": ["yes"],
        "token_headers_replay": ["X-Quota"], "token_headers_prefix": "Idp-", "token_headers_grants": ["client_credentials"],
        "upstream_refresh_token_header": "X-Refresh", "downstream_access_token_header": "X-Token",
    });
    let flow = Flow::start(json!(["client_credentials"]), config);
    let token = flow.key.token(&mint::claims(&flow.issuer.url(), AUDIENCE));
    let document = json!({"access_token": token, "token_type": "bearer", "expires_in": 300, "refresh_token": "r-1"});
    flow.issuer.answer("/token", move |_| {
        let fields = "Content-Type: application/json\r\nX-Quota: 7\r\nX-Other: 1\r\n";
        edge_tests::upstream::Reply::new("200 OK", fields, &document.to_string())
    });
    let ask = |query: &str| {
        let fields =
            [basic(CALLER.0, CALLER.1), "X-Tenant: t1".into(), "X-Other: o".into(), "X-Refresh: forged".into()];
        flow.edge.ask(get(&format!("/orders{query}"), &fields.each_ref().map(String::as_str)))
    };
    for _ in 0..2 {
        // Kept ones bring them too.
        let answer = ask("?scope=orders:read&audience=evil&resource=evil");
        assert_eq!(answer.status(), 200);
        assert_eq!(
            (answer.field("idp-x-quota"), answer.field("x-quota"), answer.field("x-other")),
            (Some("7"), None, None)
        );
        assert_eq!(answer.field("x-token"), Some(token.as_str()));
        assert_eq!(flow.upstream.last().field("x-refresh"), Some("r-1"));
    }
    let (asked, grant) = (flow.issuer.last("/token"), ("grant_type", "client_credentials"));
    assert_eq!(flow.form(), pairs(&[grant, ("resource", "api://orders"), ("scope", "orders:read")]));
    assert_eq!(
        (asked.field("x-tenant"), asked.field("x-edge"), asked.field("x-other")),
        (Some("t1"), Some("yes"), None)
    );
    assert_eq!(flow.calls(), 1);
    // Another scope is another question.
    assert_eq!((ask("?scope=orders:write").status(), flow.calls()), (200, 2));
    let form = super::post_with("/orders", &basic(CALLER.0, CALLER.1), "scope=orders:admin&keep=1");
    assert_eq!((flow.edge.ask(form).status(), flow.calls()), (200, 3));
    assert_eq!(flow.form()[2], ("scope".to_owned(), "orders:admin".to_owned()));
    assert_eq!(flow.upstream.last().text(), "scope=orders:admin&keep=1");
    let deaf = Flow::start(json!(["client_credentials"]), json!({}));
    let answer = deaf.edge.ask(get("/orders?scope=admin", &[&basic(CALLER.0, CALLER.1)]));
    assert_eq!((answer.status(), answer.field("x-quota")), (200, None));
    assert_eq!(deaf.form(), pairs(&[grant, ("scope", "openid")]));
}
