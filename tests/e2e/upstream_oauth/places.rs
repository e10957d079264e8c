//! Where the token goes, whose requests carry it, and what of the client's never does.

use edge_tests::edge::Setup;
use edge_tests::issuer::Issuer;
use edge_tests::mint::{self, Key, with};
use edge_tests::upstream::{Reply, Upstream};
use edge_tests::wire::get;
use serde_json::{Value, json};

use super::{Own, Tokens, bearer, config, issue, route};
use crate::{AUDIENCE, entities, plus};

#[test]
fn whatever_the_client_sends_in_its_place_is_gone() {
    // T43
    let own = Own::start();
    for fields in [
        &["Authorization: Bearer of-the-client"][..],
        &["authorization: Basic b2YtdGhlLWNsaWVudA=="],
        &["Authorization: DPoP of-the-client"],
        &["Connection: Authorization", "Authorization: Bearer of-the-client"],
    ] {
        assert_eq!(own.edge.ask(get("/orders", fields)).status(), 200, "{fields:?}");
        let seen = own.upstream.last();
        assert_eq!(seen.all("authorization"), [format!("Bearer {}", own.tokens.all()[0])], "{fields:?}");
        let raw = String::from_utf8_lossy(&seen.raw).into_owned();
        assert!(!raw.contains("of-the-client") && !raw.contains("b2YtdGhl"), "{raw}");
    }
    // Nor as what follows a body.
    let request = "PUT /orders HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\nTrailer: Authorization\r\n\r\n\
         2\r\nhi\r\n0\r\nAuthorization: Bearer of-the-client\r\nX-Sum: 1\r\n\r\n";
    assert_eq!(own.edge.ask(request).status(), 200);
    let seen = own.upstream.last();
    assert_eq!(seen.trailers, [("X-Sum".to_owned(), "1".to_owned())]);
}

#[test]
fn a_header_of_another_name_is_the_edges_alone() {
    // P1, T43: in any spelling, as a field or behind a body; what the client says of itself in another goes on.
    let (issuer, tokens, upstream) = (Issuer::start(&[]), Tokens::default(), Upstream::start());
    issue(&issuer, "/token", &tokens, json!({"expires_in": 3600}));
    let named = json!({"behavior": {"upstream_access_token_header_name": "X-Upstream-Token"}});
    let open = json!({"name": "open", "paths": ["/open"], "strip_path": false});
    let routes = json!([route("orders", config(&issuer.url(), json!({}), named)), open]);
    let edge = Setup::new(entities(&upstream.url(), routes)).start();
    let forged = [
        "X-Upstream-Token: Bearer forged",
        "x_upstream_token: forged",
        "X.Upstream-TOKEN: forged",
        "Authorization: Bearer of-the-client",
    ];
    assert_eq!(edge.ask(get("/orders", &forged)).status(), 200);
    let seen = upstream.last();
    assert_eq!(seen.field("x-upstream-token"), Some(format!("Bearer {}", tokens.all()[0]).as_str()));
    assert_eq!(seen.field("authorization"), Some("Bearer of-the-client"));
    assert!(!String::from_utf8_lossy(&seen.raw).contains("forged"));
    let request = "PUT /orders HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n\
         2\r\nhi\r\n0\r\nx_upstream_token: Bearer forged\r\nX-Sum: 1\r\n\r\n";
    assert_eq!(edge.ask(request).status(), 200);
    assert_eq!(upstream.last().trailers, [("X-Sum".to_owned(), "1".to_owned())]);
    // Where the plugin does not run nobody has it either.
    assert_eq!(edge.ask(get("/open", &forged)).status(), 200);
    assert!(!String::from_utf8_lossy(&upstream.last().raw).contains("forged"));
}

#[test]
fn a_token_goes_to_its_own_service_alone() {
    // U3, U6: not to another service, whatever the client asks for, and not where an answer leads to.
    let (issuer, tokens) = (Issuer::start(&[]), Tokens::default());
    let other = Upstream::start();
    let location = format!("Location: {}/orders\r\n", other.url());
    let own = Upstream::with(move |request| match request.target() {
        "/orders/moved" => Reply::new("307 Temporary Redirect", &location, ""),
        _ => Reply::ok("own"),
    });
    issue(&issuer, "/token", &tokens, json!({"expires_in": 3600}));
    let own_routes = json!([route("orders", config(&issuer.url(), json!({}), json!({})))]);
    let other_routes = json!([{"name": "other", "paths": ["/other"], "strip_path": false}]);
    let entities = json!({"_format_version": "3.0", "services": [
        {"name": "own", "url": own.url(), "routes": own_routes},
        {"name": "other", "url": other.url(), "routes": other_routes},
    ]});
    let edge = Setup::new(entities.to_string()).start();
    let host = other.url().replace("http://", "");
    let absolute = format!("GET {}/orders HTTP/1.1\r\nHost: {host}\r\n\r\n", other.url());
    assert_eq!(edge.ask(absolute).text(), "own");
    let hosted = format!("GET /orders HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-Host: {host}\r\n\r\n");
    assert_eq!(edge.ask(hosted).text(), "own");
    assert_eq!(edge.ask(get("/orders/moved", &[])).status(), 307);
    for target in ["/other", "/orders/../other", "/orders/%2e%2e/other"] {
        let answer = edge.ask(get(target, &["Authorization: Bearer of-the-client"]));
        assert_eq!(answer.text(), "ok", "{target}");
        assert_eq!(other.last().field("authorization"), Some("Bearer of-the-client"), "{target}");
    }
    let issued = tokens.all();
    assert!(other.requests().iter().all(|seen| !String::from_utf8_lossy(&seen.raw).contains(&issued[0])));
    assert!(own.requests().iter().all(|seen| bearer(seen) == issued[0]));
}

#[test]
fn instances_for_consumers_and_groups_go_before() {
    // Each caller's requests carry the token of the most specific instance; the caller's own token none.
    let (issuer, tokens, upstream) = (Issuer::start(&[]), Tokens::default(), Upstream::start());
    let key = Key::es256("es-1");
    issuer.rotate(&[&key]);
    for name in ["all", "ann", "gold"] {
        issue(
            &issuer,
            &format!("/{name}/token"),
            &tokens,
            json!({"expires_in": 3600, "access_token": format!("token-for-{name}")}),
        );
    }
    let plugin = |name: &str, scope: Value| {
        let config = config(&format!("{}/{name}", issuer.url()), json!({}), json!({}));
        plus(json!({"name": "upstream-oauth", "config": config}), scope)
    };
    let login = json!({"issuer": issuer.url(), "auth_methods": ["bearer"], "audience_required": [AUDIENCE],
        "consumer_claim": ["sub"], "consumer_by": ["username"]});
    let entities = json!({"_format_version": "3.0",
        "services": [{"name": "up", "url": upstream.url(), "routes": [{"name": "all", "paths": ["/"], "strip_path": false,
            "plugins": [{"name": "openid-connect", "config": login}]}]}],
        "consumer_groups": [{"name": "gold"}],
        "consumers": [{"username": "ann", "groups": [{"name": "gold"}]}, {"username": "bob", "groups": [{"name": "gold"}]},
            {"username": "eve"}],
        "plugins": [plugin("all", json!({})), plugin("ann", json!({"consumer": "ann"})), plugin("gold", json!({"consumer_group": "gold"}))],
    });
    let edge = Setup::new(entities.to_string()).start();
    for (sub, expected) in [("ann", "ann"), ("bob", "gold"), ("eve", "all"), ("ann", "ann")] {
        let token = key.token(&with(mint::claims(&issuer.url(), AUDIENCE), json!({"sub": sub})));
        let answer = edge.ask(get("/orders", &[&format!("Authorization: Bearer {token}")]));
        assert_eq!(answer.status(), 200, "{sub}: {}", edge.output());
        assert_eq!(bearer(&upstream.last()), format!("token-for-{expected}"), "{sub}");
    }
    // Who is refused costs no token.
    assert_eq!(edge.ask(get("/orders", &[])).status(), 401);
    assert_eq!(["all", "ann", "gold"].map(|name| issuer.hits(&format!("/{name}/token"))), [1, 1, 1]);
}
