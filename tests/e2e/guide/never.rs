//! Tokens that do not arrive, or not as they were given: lost, doubled, cut, of another kind.

use super::*;

pub(super) fn no_field(row: &Row) {
    let scene = Scene::start();
    let edge = scene.edge(json!({}));
    let token = scene.token(json!({}));
    let renamed = get("/orders", &[&format!("X-Auth-Token: Bearer {token}")]);
    for request in [get("/orders", &[]), renamed.clone()] {
        row.happens(&edge, request);
    }
    let (code, out, _) = run("explain", &edge.path("edge.toml"), &["--route", "all"], "");
    assert_eq!(code, 1);
    row.shows(&edge, &out);
    // The case of the name is no matter; where the field is renamed, the route can look there.
    for name in ["authorization", "AUTHORIZATION"] {
        assert_eq!(edge.ask(get("/orders", &[&format!("{name}: Bearer {token}")])).status(), 200);
    }
    let renaming = scene.edge(json!({"bearer_token_header_name": "X-Auth-Token"}));
    assert_eq!(renaming.ask(renamed).status(), 200);
}

pub(super) fn no_form(row: &Row) {
    let scene = Scene::start();
    let edge = scene.edge(json!({}));
    let token = scene.token(json!({}));
    let send = |value: &str| get("/orders", &[&format!("Authorization: {value}")]);
    for value in [
        token.clone(),
        format!("\"Bearer {token}\""),
        format!("Bearer \"{token}\""),
        format!("Bearer Bearer {token}"),
        format!("Bearer {token}, Bearer {token}"),
        "Bearer".to_owned(),
    ] {
        row.happens(&edge, send(&value));
    }
    row.shows(&edge, "");
    for scheme in ["Bearer", "bearer", "BEARER"] {
        assert_eq!(edge.ask(send(&format!("{scheme} {token}"))).status(), 200, "{scheme}");
    }
}

pub(super) fn two_fields(row: &Row) {
    let scene = Scene::start();
    let edge = scene.edge(json!({}));
    let field = format!("Authorization: Bearer {}", scene.token(json!({})));
    row.happens(&edge, get("/orders", &[&field, &field]));
    row.happens(&edge, get("/orders", &[&field, "Authorization: Basic YTpi"]));
    row.shows(&edge, "");
    assert_eq!(edge.ask(get("/orders", &[&field])).status(), 200);
}

pub(super) fn two_places(row: &Row) {
    let scene = Scene::start();
    let edge = scene.edge(json!({}));
    let token = scene.token(json!({}));
    let field = format!("Authorization: Bearer {token}");
    row.happens(&edge, get(&format!("/orders?access_token={token}"), &[&field]));
    row.shows(&edge, "");
    passes(&edge, &token);
}

pub(super) fn too_large(row: &Row) {
    let scene = Scene::start();
    let edge = scene.edge(json!({}));
    let with_groups = |count: usize| {
        let groups: Vec<String> = (0..count).map(|group| format!("cn=group-{group:04},ou=orders,dc=example")).collect();
        scene.token(json!({"groups": groups}))
    };
    row.is_explained(&edge, &with_groups(500));
    passes(&edge, &with_groups(100));
}

pub(super) fn cut(row: &Row) {
    let scene = Scene::start();
    let edge = scene.edge(json!({}));
    let token = scene.token(json!({}));
    let parts: Vec<&str> = token.split('.').collect();
    let (half, recoded) = (&parts[1][..parts[1].len() / 2], format!("+{}", &parts[1][1..]));
    for payload in [half, &recoded] {
        row.is_explained(&edge, &[parts[0], payload, parts[2]].join("."));
    }
    for rest in [token.rsplit_once('.').unwrap().0, &token[4..]] {
        row.happens(&edge, with_token(rest));
    }
    passes(&edge, &token);
}

pub(super) fn opaque(row: &Row) {
    let scene = Scene::start();
    let edge = scene.edge(json!({}));
    let reference = "reference-token-0123456789";
    scene.issuer.know(reference, json!({"active": true, "aud": AUDIENCE}));
    row.is_explained(&edge, reference);
    let asking =
        json!({"auth_methods": ["bearer", "introspection"], "client_id": ["edge"], "client_secret": ["secret"]});
    let edge = scene.edge(asking);
    passes(&edge, reference);
    passes(&edge, &scene.token(json!({})));
}
