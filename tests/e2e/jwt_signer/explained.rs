//! `edge explain` of routes with `jwt-signer`: for each of the two tokens, and after another plugin.

use super::*;
use crate::explain::{explain, is_in_order};
use edge_tests::mint::now;

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[test]
fn each_token_is_explained_with_its_own_parameters() {
    let (access, channel) = (Key::es256("access"), Key::es256("channel"));
    let issuer = Issuer::start(&[&access, &channel]);
    let jwks = format!("{}/jwks", issuer.url());
    let config = json!({"access_token_jwks_uri": jwks, "access_token_audiences_allowed": [AUDIENCE],
        "channel_token_jwks_uri": jwks, "channel_token_request_header": "X-Channel",
        "channel_token_subjects_allowed": ["batch"]});
    let signer = Signer::over(issuer, access, config, |setup| setup);
    let channel_claims = |sub: &str| with(signer.claims(), json!({"sub": sub}));
    let other_audience = signer.key.token(&with(signer.claims(), json!({"aud": "api://other"})));
    let expired = signer.key.token(&with(signer.claims(), json!({"exp": now() - 90})));
    let (good, batch) = (signer.token(), channel.token(&channel_claims("batch")));
    let stranger = channel.token(&channel_claims("mallory"));
    for (first, second, expected) in [
        (&good, Some(&batch), None),
        (
            &other_audience,
            Some(&batch),
            Some(("access token", "audience_not_allowed", "access_token_audiences_allowed")),
        ),
        (&expired, Some(&batch), Some(("access token", "token_expired", "access_token_leeway"))),
        (&good, Some(&stranger), Some(("channel token", "subject_not_allowed", "channel_token_subjects_allowed"))),
        (&good, None, Some(("channel token", "header_missing", "channel_token_optional"))),
    ] {
        let file = signer.edge.path("channel.jwt");
        let mut arguments = vec!["--route", "all", "--json"];
        if let Some(second) = second {
            std::fs::write(&file, second).unwrap();
            arguments.extend(["--channel-token-file", file.to_str().unwrap()]);
        }
        let said = explain(&signer.edge.path("edge.toml"), &arguments, first);
        let report = said.json();
        is_in_order(&report);
        assert_eq!(report["plugin"], "jwt-signer");
        let Some((token, reason, parameter)) = expected else {
            assert_eq!((said.code, text(&report["verdict"])), (0, "passes"), "{report}");
            continue;
        };
        assert_eq!((said.code, text(&report["token"]), text(&report["reason"])), (1, token, reason), "{report}");
        assert!(report["remedy"]["configuration"].to_string().contains(parameter), "{report}");
        // The running edge says the same.
        let mut fields = vec![format!("Authorization: Bearer {first}")];
        fields.extend(second.map(|second| format!("X-Channel: {second}")));
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        let answer = signer.edge.ask(get("/orders", &fields));
        assert_eq!((json!(answer.status()), signer.edge.reason_of(&answer)), (report["status"].clone(), reason.into()));
    }
    let said = explain(&signer.edge.path("edge.toml"), &["--route", "all"], &expired);
    assert!(said.out.contains("route all, jwt-signer for the access token"), "{}", said.out);
}

#[test]
fn plugins_are_explained_in_their_order() {
    let key = Key::es256("es-1");
    let issuer = Issuer::start(&[&key]);
    let upstream = Upstream::start();
    let signer = |scopes: Value| {
        json!({"access_token_jwks_uri": format!("{}/jwks", issuer.url()), "channel_token_optional": true,
            "access_token_scopes_required": scopes})
    };
    let plugins = |scopes: Value| {
        json!([{"name": "openid-connect", "config": crate::bearer(&issuer.url())},
            {"name": "jwt-signer", "config": signer(scopes)}])
    };
    let routes = json!([
        {"name": "open", "paths": ["/open"], "plugins": plugins(json!(["orders:read"]))},
        {"name": "narrow", "paths": ["/narrow"], "plugins": plugins(json!(["orders:admin"]))},
    ]);
    let edge = Setup::new(entities(&upstream.url(), routes)).section(IN_MEMORY).start();
    let claims = with(mint::claims(&issuer.url(), AUDIENCE), json!({"scope": "orders:read"}));
    let token = key.token(&claims);
    let ask = |route: &str, token: &str| {
        let said = explain(&edge.path("edge.toml"), &["--route", route, "--json"], token);
        (said.code, said.json())
    };
    let (code, report) = ask("open", &token);
    assert_eq!(
        (code, text(&report["plugin"]), text(&report["before"][0]["plugin"])),
        (0, "jwt-signer", "openid-connect")
    );
    let (code, report) = ask("narrow", &token);
    assert_eq!(
        (code, text(&report["plugin"]), text(&report["reason"])),
        (1, "jwt-signer", "scope_missing"),
        "{report}"
    );
    assert_eq!(report["before"][0]["verdict"], "passes");
    let (code, report) = ask("open", &key.token(&with(claims, json!({"aud": "x"}))));
    assert_eq!((code, text(&report["plugin"]), text(&report["reason"])), (1, "openid-connect", "audience_not_allowed"));
    assert_eq!(report["before"], json!([]));
}

#[test]
fn parameters_are_those_of_what_was_looked_at() {
    let (issuer, key) = (Issuer::start(&[]), Key::es256("es-1"));
    issuer.know("opaque", json!({"active": true, "scope": "read"}));
    let config = json!({"access_token_optional": true, "access_token_request_header": "X-A",
        "channel_token_request_header": "Authorization",
        "channel_token_introspection_endpoint": format!("{}/introspect", issuer.url()),
        "channel_token_introspection_scopes_required": ["write"]});
    let signer = Signer::over(issuer, key, config, |setup| setup);
    let file = signer.edge.path("channel");
    std::fs::write(&file, "opaque").unwrap();
    let arguments = ["--route", "all", "--json", "--channel-token-file", file.to_str().unwrap()];
    let (code, out, err) = crate::explain::run("explain", &signer.edge.path("edge.toml"), &arguments, "");
    let report: Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}"));
    assert_eq!(
        (code, text(&report["token"]), text(&report["reason"])),
        (1, "channel token", "scope_missing"),
        "{report}"
    );
    let remedy = report["remedy"]["configuration"].to_string();
    assert!(remedy.contains("channel_token_introspection_scopes_required"), "{remedy}");
}
