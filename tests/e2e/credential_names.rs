//! Fields that bear credentials on one route and are the edge's own on the same or another one (P1).

use edge_tests::edge::Setup;
use edge_tests::issuer::Issuer;
use edge_tests::mint::{self, Key};
use edge_tests::upstream::Upstream;
use edge_tests::wire::get;
use serde_json::{Value, json};

use super::{AUDIENCE, bearer, plus};

const READS: &str = "X-Token";

#[test]
fn a_credential_is_read_and_nobody_else_writes_its_field() {
    let (upstream, key) = (Upstream::start(), Key::es256("es-1"));
    let issuer = Issuer::start(&[&key]);
    let guard = |more: Value| json!([{"name": "openid-connect", "config": plus(bearer(&issuer.url()), more)}]);
    let (reads, writes) =
        (json!({"bearer_token_header_name": READS}), json!({"upstream_access_token_header": "X-Token"}));
    let both = plus(reads.clone(), writes.clone());
    let routes: Value = [
        ("writes", guard(writes)),
        ("reads", guard(reads.clone())),
        ("shows", guard(plus(reads, json!({"hide_credentials": false})))),
        ("both", guard(both.clone())),
        ("anonymous", guard(plus(both.clone(), json!({"anonymous": "nobody", "hide_credentials": false})))),
        ("preflight", guard(plus(both, json!({"run_on_preflight": false})))),
        ("open", json!([])),
    ]
    .into_iter()
    .map(|(name, plugins)| json!({"name": name, "paths": [format!("/{name}")], "plugins": plugins}))
    .collect();
    let entities = json!({"_format_version": "3.0", "consumers": [{"username": "nobody"}],
        "services": [{"name": "up", "url": upstream.url(), "routes": routes}]});
    let edge = Setup::new(entities.to_string()).start();
    let token = key.token(&mint::claims(&issuer.url(), AUDIENCE));
    let good = format!("{READS}: {token}");
    let forgeries = ["X_Token: forged", "x.token: forged"];

    for (path, first, expected) in [
        ("/writes", format!("Authorization: Bearer {token}"), Some(token.as_str())),
        ("/reads", good.clone(), None),
        ("/shows", good.clone(), None),
        ("/both", good.clone(), Some(&token)),
        ("/anonymous", good.clone(), Some(&token)),
        ("/anonymous", "X-Token: forged".into(), None),
        ("/open", "X-Token: forged".into(), None),
    ] {
        let answer = edge.ask(get(path, &[&first, forgeries[0], forgeries[1]]));
        assert_eq!(answer.status(), 200, "{path}: {}", edge.output());
        let seen = upstream.last();
        assert_eq!(seen.field("x-token"), expected, "{path}");
        assert!(!String::from_utf8_lossy(&seen.raw).contains("forged"), "{path}");
    }
    assert_eq!(edge.ask(get("/both", &["X-Token: forged"])).status(), 401);
    let preflight = "OPTIONS /preflight HTTP/1.1\r\nHost: t\r\nX-Token: forged\r\nConnection: close\r\n\r\n";
    assert_eq!(edge.ask(preflight).status(), 200);
    assert!(!String::from_utf8_lossy(&upstream.last().raw).contains("forged"));
    let trailer = format!(
        "POST /both HTTP/1.1\r\nHost: t\r\n{good}\r\nTransfer-Encoding: chunked\r\nTrailer: X-Token\r\n\r\n\
         1\r\na\r\n0\r\nX-Token: forged\r\n\r\n"
    );
    assert_eq!(edge.ask(trailer).status(), 200);
    assert!(!String::from_utf8_lossy(&upstream.last().raw).contains("forged"));
}

#[test]
fn other_credentials_may_stand_in_fields_that_the_edge_writes() {
    let (upstream, key) = (Upstream::start(), Key::es256("es-1"));
    let issuer = Issuer::start(&[&key]);
    let config = plus(
        bearer(&issuer.url()),
        json!({"client_id": ["edge"], "client_secret": ["secret"], "id_token_param_name": "X-Id-Token",
            "upstream_id_token_header": "X-Id-Token"}),
    );
    let edge = Setup::new(super::guarded(&upstream.url(), config)).start();
    let access = format!("Authorization: Bearer {}", key.token(&mint::claims(&issuer.url(), AUDIENCE)));
    let claims = mint::with(mint::claims(&issuer.url(), "edge"), json!({"scope": null, "client_id": null}));
    let id_token = key.sign(&mint::with(key.header(), json!({"typ": "JWT"})), &claims);
    assert_eq!(edge.ask(get("/", &[&access, &format!("X-Id-Token: {id_token}")])).status(), 200);
    assert_eq!(upstream.last().field("x-id-token"), Some(id_token.as_str()));
    assert_eq!(edge.ask(get("/", &[&access, "X_Id_Token: forged"])).status(), 200);
    assert!(!String::from_utf8_lossy(&upstream.last().raw).contains("forged"));
    assert_eq!(edge.ask(get("/", &[&access, "X-Id-Token: forged"])).status(), 401);
}
