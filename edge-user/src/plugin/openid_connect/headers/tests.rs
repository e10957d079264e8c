use super::*;
use crate::config::testing;
use crate::http::head::Version;
use crate::plugin::testing::fields;
use crate::proxy::owned::OwnedNames;
use crate::token::claims::Facts;

fn parse_with(yaml: &str) -> (Headers, Vec<String>) {
    let (headers, problems, _) = testing::read("config", yaml, |config| {
        let headers = Headers::parse(config);
        for others in ["consumer_claim", "anonymous", "authenticated_groups_claim"] {
            config.raw(others);
        }
        headers
    });
    (headers, problems)
}

fn headers(yaml: &str) -> Headers {
    let (headers, problems) = parse_with(yaml);
    assert_eq!(problems, [""; 0], "{yaml}");
    headers
}

fn facts(claims: &str) -> Facts {
    Facts::parse(claims.as_bytes().to_vec(), "").expect("claims")
}

fn request(list: &[(&str, &str)]) -> Head {
    let mut head = Head::default();
    head.start_request(b"GET", b"/", Version::Http11);
    for (name, value) in list {
        head.push(Owner::Peer, name.as_bytes(), value.as_bytes());
    }
    head
}

fn text(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// The value of a claim in a field.
fn value(claim: &str) -> Option<String> {
    let facts = facts(&format!("{{\"c\":{claim}}}"));
    let claim = facts.claim(&ClaimPath::new(["c"])).expect("it is there");
    claim_value(claim).map(|value| String::from_utf8(value).expect("text"))
}

#[test]
fn a_claims_form_follows_from_its_type() {
    for (claim, expected) in [
        (r#""ann lee""#, Some("ann lee")),
        (r#""a\u006en""#, Some("ann")),
        ("1001", Some("1001")),
        ("-1.5e3", Some("-1.5e3")),
        ("true", Some("true")),
        ("false", Some("false")),
        ("null", None),
        (r#"["a","b c"]"#, Some("a, b c")),
        (r#"["a"]"#, Some("a")),
        ("[]", None),
        (r#"["a",1]"#, Some("WyJhIiwxXQ==")),
        ("[1]", Some("WzFd")),
        (r#"{"a": 1}"#, Some("eyJhIjogMX0=")),
    ] {
        assert_eq!(value(claim).as_deref(), expected, "{claim}");
    }
}

#[test]
fn no_claim_ends_its_field() {
    // T35
    for claim in [
        r#""a\r\nX-Admin: 1""#,
        r#""a\nb""#,
        r#""a\u0000""#,
        r#""a\u007f""#,
        r#""a\tb""#,
        r#"" a""#,
        r#""a ""#,
        r#""""#,
        r#""\u00e9""#,
        "\"\u{e9}\"",
        r#"["a","b\r\nX-Admin: 1"]"#,
        r#"["a, admin"]"#,
        r#"["a",""]"#,
    ] {
        assert_eq!(value(claim), None, "{claim}");
    }
}

/// What an upstream reads: `list` is what the client sent.
fn upstream(yaml: &str, claims: &str, token: Option<&[u8]>, list: &[(&str, &str)]) -> Vec<(String, String)> {
    let facts = facts(claims);
    let mut head = request(list);
    let parts = Parts { access_token: token, ..Parts::of(Sources::of(&facts)) };
    headers(yaml).apply_upstream(&mut head, &parts);
    fields(&head)
}

#[test]
fn the_token_goes_upstream_as_configured() {
    let sent = [("Authorization", "bearer T"), ("A", "1")];
    for (yaml, expected) in [
        ("{}", &[("A", "1"), ("Authorization", "Bearer T")][..]),
        ("{upstream_access_token_header: 'Authorization:Bearer'}", &[("A", "1"), ("Authorization", "Bearer T")]),
        ("{upstream_access_token_header: authorization}", &[("A", "1"), ("Authorization", "T")]),
        ("{upstream_access_token_header: X-Token}", &[("A", "1"), ("X-Token", "T")]),
        ("{upstream_access_token_header: 'x-token:bearer'}", &[("A", "1"), ("x-token", "Bearer T")]),
        ("{upstream_access_token_header: null}", &[("A", "1")]),
        ("{upstream_access_token_header: ''}", &[("A", "1")]),
        ("{upstream_access_token_header: null, hide_credentials: false}", &sent),
        (
            "{upstream_access_token_header: X-Token, hide_credentials: false}",
            &[("Authorization", "bearer T"), ("A", "1"), ("X-Token", "T")],
        ),
        ("{hide_credentials: false}", &[("A", "1"), ("Authorization", "Bearer T")]),
    ] {
        assert_eq!(upstream(yaml, "{}", Some(b"T"), &sent), text(expected), "{yaml}");
    }
}

#[test]
fn a_request_that_is_as_it_should_be_is_left_alone() {
    let sent = [("Authorization", "Bearer T"), ("A", "1")];
    for (yaml, needed, expected) in [
        ("{}", false, &sent[..]),
        ("{hide_credentials: false}", false, &sent),
        ("{upstream_headers: [{header: S, path: [sub]}]}", false, &[sent[0], sent[1], ("S", "s")]),
        ("{upstream_access_token_header: null}", false, &[("A", "1")]),
        ("{upstream_access_token_header: X-Token}", true, &[("A", "1")]),
        ("{downstream_access_token_header: X-Token}", true, &sent),
    ] {
        assert_eq!(headers(yaml).needs_token(true), needed, "{yaml}");
        assert_eq!(upstream(yaml, r#"{"sub":"s"}"#, None, &sent), text(expected), "{yaml}");
    }
    assert!(headers("{}").needs_token(false) && !headers("{upstream_access_token_header: ''}").needs_token(false));
}

#[test]
fn claims_go_upstream_in_place_of_the_clients() {
    // P1
    let yaml = "{upstream_headers: [{header: X-Name, path: [profile, name]}, {header: X-Groups, path: [groups]}], \
                upstream_headers_claims: [sub, gone], upstream_headers_names: [X_Sub, X-Gone]}";
    let claims = r#"{"sub":"s","profile":{"name":"Ann"},"groups":["a","b"]}"#;
    let forged = [
        ("Authorization", "Bearer T"),
        ("x-name", "root"),
        ("X-Gone", "root"),
        ("x_sub", "root"),
        ("X-GROUPS", "root"),
    ];
    let expected = [("Authorization", "Bearer T"), ("X-Name", "Ann"), ("X-Groups", "a, b"), ("X_Sub", "s")];
    assert_eq!(upstream(yaml, claims, None, &forged), text(&expected));
    // Before any plugin runs, in every spelling that a server could take for theirs.
    let names = headers(yaml).owned_names();
    let owned = OwnedNames::new(names.iter().map(|name| &**name));
    for name in ["X-Name", "x_name", "X.Groups", "X-Sub", "X_SUB", "x_gone"] {
        assert!(owned.owns(name.as_bytes()), "{name}");
    }
    assert!(!owned.owns(b"Authorization"));
}

#[test]
fn every_part_has_its_field_on_both_ways() {
    let names = "access_token access_token_jwk introspection introspection_jwt id_token id_token_jwk refresh_token \
                 user_info user_info_jwt";
    let facts = facts("{}");
    let parts = Parts {
        sources: Sources::of(&facts),
        access_token: Some(b"at"),
        access_token_jwk: Some("{}"),
        introspection: Some("{\"active\":true}"),
        introspection_jwt: Some(b"ij"),
        id_token: Some(b"it"),
        id_token_jwk: Some("[]"),
        refresh_token: Some(b"rt"),
        user_info: Some("1"),
        user_info_jwt: Some(b"uj"),
    };
    let values = ["at", "e30=", "eyJhY3RpdmUiOnRydWV9", "ij", "it", "W10=", "rt", "MQ==", "uj"];
    let config = |way: &str| {
        let of = |name: &str| format!("{way}_{name}_header: X-{}", name.replace('_', "-"));
        format!("{{{}}}", names.split_whitespace().map(of).collect::<Vec<_>>().join(", "))
    };
    let expected: Vec<_> = names
        .split_whitespace()
        .zip(values)
        .map(|(name, value)| (format!("X-{}", name.replace('_', "-")), value.to_owned()))
        .collect();
    let mut head = request(&[]);
    let upstream = headers(&config("upstream"));
    upstream.apply_upstream(&mut head, &parts);
    assert_eq!(fields(&head), expected);
    assert!(upstream.wants(Part::AccessTokenJwk) && upstream.wants(Part::UserInfoJwt));
    assert!(!headers("{}").wants(Part::AccessTokenJwk));
    let downstream = headers(&config("downstream"));
    let mut notes = Notes::default();
    downstream.apply_downstream(&mut notes, &parts);
    let seen: Vec<_> = notes.reply.into_iter().map(|(name, value)| (name.into_owned(), value)).collect();
    let given: Vec<_> = expected.into_iter().map(|(name, value)| (name, Some(value.into_bytes()))).collect();
    assert_eq!(seen, given);
    assert!(downstream.owned_names().is_empty() && downstream.wants(Part::IdToken));
}

#[test]
fn clients_read_claims_and_never_the_upstreams_own() {
    let facts = facts(r#"{"sub":"s"}"#);
    let headers = headers(
        "{downstream_headers: [{header: X-Sub, path: [sub]}], downstream_headers_claims: [gone], downstream_headers_names: [X-Gone]}",
    );
    let mut notes = Notes::default();
    headers.apply_downstream(&mut notes, &Parts::of(Sources::of(&facts)));
    let seen: Vec<_> = notes.reply.iter().map(|(name, value)| (&**name, value.as_deref())).collect();
    assert_eq!(seen, [("X-Sub", Some(&b"s"[..])), ("X-Gone", None)]);
}

#[test]
fn nothing_unverified_passes_for_an_anonymous_caller() {
    let sent = [("Authorization", "Bearer bad"), ("A", "1")];
    for (yaml, expected) in [
        ("{}", &sent[1..]),
        ("{hide_credentials: false}", &sent[1..]),
        ("{upstream_access_token_header: null}", &sent[1..]),
        ("{upstream_access_token_header: null, hide_credentials: false}", &sent[..]),
        ("{downstream_headers: [{header: S, path: [sub]}]}", &sent[1..]),
    ] {
        let (mut head, mut notes) = (request(&sent), Notes::default());
        headers(yaml).apply_anonymous(&mut head, &mut notes);
        assert_eq!(notes.reply.len(), usize::from(yaml.contains("downstream")));
        assert_eq!(fields(&head), text(expected), "{yaml}");
    }
}

#[test]
fn wrong_settings_are_named() {
    for (yaml, expected) in [
        (
            "{upstream_access_token_header: 'a b'}",
            "config.upstream_access_token_header: found \"a b\", expected a header",
        ),
        ("{upstream_access_token_header: 'x:basic'}", "alone or with `:bearer`"),
        ("{upstream_access_token_header: 1}", "expected a header name"),
        ("{upstream_id_token_header: 'x:bearer'}", "expected a header name"),
        ("{upstream_id_token_header: Content-Length}", "the edge writes this header itself"),
        ("{upstream_id_token_header: Host}", "the edge writes this header itself"),
        ("{upstream_headers: [{header: X-Forwarded-For, path: [ip]}]}", "the edge writes this header itself"),
        ("{downstream_headers: [{header: Transfer-Encoding, path: [te]}]}", "the edge writes this header itself"),
        ("{upstream_headers: [{header: X-Credential-Identifier, path: [a]}]}", "consumers and credentials"),
        ("{upstream_headers: [{header: x_consumer_id, path: [a]}], consumer_claim: sub}", "consumers and credentials"),
        ("{upstream_headers: [{header: X-A, path: []}]}", "config.upstream_headers[0].path: found an empty list"),
        ("{upstream_headers: [{header: X-A}]}", "config.upstream_headers[0].path: found nothing"),
        ("{upstream_headers: [{path: [a]}]}", "config.upstream_headers[0].header: found nothing"),
        ("{upstream_headers: [{header: X-A, path: [a], claim: b}]}", "an unknown field"),
        ("{upstream_headers_claims: [a, b], upstream_headers_names: [X-A]}", "found 1 names for 2 claims"),
        ("{downstream_headers_names: [X-A]}", "found 1 names for 0 claims"),
        ("{upstream_headers_claims: [a, b], upstream_headers_names: [X-A, x_a]}", "each header once"),
        ("{upstream_id_token_header: X-A, upstream_headers: [{header: X-A, path: [a]}]}", "each header once"),
        ("{upstream_headers: [{header: authorization, path: [a]}]}", "each header once"),
    ] {
        let (_, problems) = parse_with(yaml);
        assert!(problems.len() == 1 && problems[0].contains(expected), "{yaml}: {problems:?}");
    }
    for yaml in [
        "{upstream_headers: [{header: X-Consumer-Username, path: [sub]}]}",
        "{upstream_headers: [{header: X-A, path: [a]}], upstream_headers_claims: [a], upstream_headers_names: [X-A]}",
        "{upstream_id_token_header: X-A, downstream_id_token_header: X-A}",
        "{upstream_access_token_header: null, upstream_id_token_header: Authorization}",
        "{upstream_headers: null, upstream_id_token_header: null, downstream_id_token_header: ''}",
    ] {
        headers(yaml);
    }
}
