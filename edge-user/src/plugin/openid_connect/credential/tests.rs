use super::*;
use crate::config::testing;
use crate::http::h1::parse::Framing;
use crate::http::head::{Owner, Version};
use crate::plugin::testing::{Bytes, Scene, fields};

const FORM: (&str, &[u8]) = ("Content-Type", b"application/x-www-form-urlencoded");
const JSON: (&str, &[u8]) = ("Content-Type", b"application/json");

fn places(yaml: &str) -> (Places, Vec<String>, usize) {
    let (places, problems, warnings) = testing::read("config", yaml, Places::parse);
    (places, problems, warnings.len())
}

/// The token of a request, how it came and where it stood.
fn search(
    yaml: &str,
    fields: &[(&str, &[u8])],
    query: Option<&str>,
    body: &str,
    schemes: Schemes,
) -> Result<(String, Scheme, String), Refused> {
    let mut head = Head::default();
    head.start_request(b"POST", b"/", Version::Http11);
    for (name, value) in fields {
        head.push(Owner::Peer, name.as_bytes(), value);
    }
    let (places, problems, _) = places(yaml);
    assert!(problems.is_empty(), "{problems:?}");
    let body = Bytes { framing: Framing::Length(body.len() as u64), bytes: body.into() };
    let found = places.find(&Sent { head: &head, query: query.map(str::as_bytes), body: &body }, schemes)?;
    Ok((String::from_utf8_lossy(&found.token).into_owned(), found.scheme, format!("{:?}", found.place)))
}

fn outcome(fields: &[(&str, &[u8])], query: Option<&str>) -> Result<String, Refused> {
    search("{}", fields, query, "", Schemes::Bearer).map(|(token, ..)| token)
}

#[test]
fn the_scheme_has_any_case_and_the_token_its_alphabet() {
    // T41
    for (value, expected) in [
        (&b"Bearer a.b-c_d~e+f/0=="[..], Ok("a.b-c_d~e+f/0==".to_owned())),
        (b"bearer x", Ok("x".to_owned())),
        (b"BEARER x", Ok("x".to_owned())),
        (b"Bearer  x", Ok("x".to_owned())),
        (b"Bearer", Err((401, Reason::HeaderMalformed))),
        (b"x.y.z", Err((401, Reason::HeaderMalformed))),
        (b"Bearer\tx", Err((401, Reason::HeaderMalformed))),
        (b"Bearer Bearer x", Err((401, Reason::HeaderMalformed))),
        (b"Bearer x y", Err((401, Reason::HeaderMalformed))),
        (b"Bearer x, Bearer y", Err((401, Reason::HeaderMalformed))),
        (b"Bearer x,y", Err((401, Reason::HeaderMalformed))),
        (b"\"Bearer x\"", Err((401, Reason::HeaderMalformed))),
        (b"Bearer \"x\"", Err((401, Reason::HeaderMalformed))),
        (b"Bearer x=y", Err((401, Reason::HeaderMalformed))),
        (b"Bearer ==", Err((401, Reason::HeaderMalformed))),
        (b"Bearer x\xff", Err((401, Reason::HeaderMalformed))),
        (b"Bearer:x", Err((401, Reason::HeaderMalformed))),
        (b"Basic dTpw", Err((401, Reason::HeaderMissing))),
        (b"DPoP x", Err((401, Reason::HeaderMissing))),
        (b"", Err((401, Reason::HeaderMalformed))),
    ] {
        assert_eq!(outcome(&[("Authorization", value)], None), expected, "{value:?}");
    }
}

#[test]
fn one_authorization_field_counts() {
    // T40
    let twice = [("Authorization", &b"Bearer x"[..]), ("authorization", b"Bearer x")];
    assert_eq!(outcome(&twice, None), Err((400, Reason::HeaderMalformed)));
    assert_eq!(outcome(&twice[1..], None), Ok("x".to_owned()));
}

#[test]
fn nothing_else_authenticates() {
    // T42
    for name in ["Proxy-Authorization", "X-Authorization", "Cookie", "Access-Token", "X-Access-Token", "Authorization2"]
    {
        assert_eq!(outcome(&[(name, b"Bearer x")], None), Err((401, Reason::HeaderMissing)), "{name}");
    }
}

#[test]
fn a_token_in_the_query_is_one_too_many() {
    // T38, T39
    let good = [("Authorization", &b"Bearer x"[..])];
    for (query, second) in [
        ("access_token=y", true),
        ("a=1&access_token=", true),
        ("access_token", true),
        ("a;access_token=y", true),
        ("%61ccess%5Ftoken=y", true),
        ("%61%63%63%65%73%73%5f%74%6f%6b%65%6e=y", true),
        ("access_tokens=y", false),
        ("xaccess_token=y", false),
        ("a=access_token", false),
        ("%access_token=y", false),
        ("Access_Token=y", false),
        ("", false),
    ] {
        let expected = if second { Err((400, Reason::TokenInQuery)) } else { Ok("x".to_owned()) };
        assert_eq!(outcome(&good, Some(query)), expected, "{query}");
        assert_eq!(outcome(&[], Some(query)), Err((401, Reason::HeaderMissing)), "{query}");
    }
}

#[test]
fn settings_say_where_a_token_may_stand() {
    for (yaml, warnings) in [
        ("{}", 0),
        ("bearer_token_param_type: header", 0),
        ("bearer_token_param_type: [body, header, query]", 1),
        ("{bearer_token_param_type: [cookie], bearer_token_cookie_name: t}", 0),
        ("bearer_token_header_name: X-Token", 0),
    ] {
        let (_, problems, warned) = places(yaml);
        assert_eq!((problems, warned), (vec![], warnings), "{yaml}");
    }
    for (yaml, part) in [
        ("bearer_token_param_type: []", "at least one of: header, query, body, cookie"),
        ("bearer_token_param_type: [headers]", "one of: header, query, body, cookie"),
        ("bearer_token_param_type: [cookie]", "both, or neither"),
        ("bearer_token_cookie_name: t", "both, or neither"),
        ("{bearer_token_param_type: [query], bearer_token_header_name: X-Token}", "both, or neither"),
        ("{bearer_token_param_type: [cookie], bearer_token_cookie_name: a b}", "a cookie name"),
        ("bearer_token_header_name: 'a b'", "a header name"),
    ] {
        let (_, problems, _) = places(yaml);
        assert!(problems.iter().any(|problem| problem.contains(part)), "{yaml}: {problems:?}");
    }
}

#[test]
fn each_place_counts_where_it_is_configured_and_nowhere_else() {
    // T38, T39, T42
    const ALL: &str = "{bearer_token_param_type: [header, query, body, cookie], bearer_token_cookie_name: t}";
    const NAMED: &str = "bearer_token_header_name: X-Token";
    let authorization: (&str, &[u8]) = ("Authorization", b"Bearer x");
    let twice = || Err((400, Reason::TokenInQuery));
    let found = |place: Place<'_>| Ok(format!("{place:?}"));
    for (yaml, sent, query, body, expected) in [
        (ALL, &[authorization][..], "", "", found(Place::Field("Authorization"))),
        (ALL, &[("Access-Token", b"x")], "", "", found(Place::Field("access-token"))),
        (ALL, &[("X-Access-Token", b"x")], "", "", found(Place::Field("x-access-token"))),
        (ALL, &[("X-Access-Token", b"Bearer x")], "", "", found(Place::Field("x-access-token"))),
        (ALL, &[], "a&access_token=%78", "", found(Place::Query)),
        (ALL, &[("Authorization", b"Basic dTpw")], "access_token=x", "", found(Place::Query)),
        (ALL, &[FORM], "", "a=1&access_token=x", found(Place::Body)),
        (ALL, &[JSON], "", r#"{"access_token": "x"}"#, found(Place::Body)),
        (ALL, &[("Content-Type", b"text/plain")], "", "access_token=x", Err(MISSING)),
        (ALL, &[("Cookie", b"a=b; t=x"), ("Cookie", b"tt=y")], "", "", found(Place::Cookie("t"))),
        (ALL, &[], "", "", Err(MISSING)),
        // Two places, or one twice.
        (ALL, &[authorization, ("Access-Token", b"x")], "", "", twice()),
        (ALL, &[("Access-Token", b"x"), ("X-Access-Token", b"x")], "", "", twice()),
        (ALL, &[("Access-Token", b"x"), ("Access-Token", b"x")], "", "", Err(REPEATED)),
        (ALL, &[authorization], "access_token=x", "", twice()),
        (ALL, &[authorization], "access_token", "", twice()),
        (ALL, &[authorization, FORM], "", "access_token=x", twice()),
        (ALL, &[authorization, JSON], "", r#"{"access_token": 1}"#, twice()),
        (ALL, &[authorization, ("Cookie", b"t=x")], "", "", twice()),
        (ALL, &[FORM], "access_token=x", "access_token=x", twice()),
        (ALL, &[], "access_token=x&access_token=x", "", twice()),
        (ALL, &[("Cookie", b"t=x; t=x")], "", "", twice()),
        // What is no token is refused where it is read.
        (ALL, &[], "access_token=", "", Err(MALFORMED)),
        (ALL, &[], "access_token=a%20b", "", Err(MALFORMED)),
        (ALL, &[("Cookie", b"t=\"x\"")], "", "", Err(MALFORMED)),
        (ALL, &[("Access-Token", b"Bearer")], "", "", Err(MALFORMED)),
        (ALL, &[("Access-Token", b"")], "", "", Err(MALFORMED)),
        // One name alone.
        (NAMED, &[("x-token", b"x")], "", "", found(Place::Field("X-Token"))),
        (NAMED, &[("X-Token", b"bearer x"), authorization], "", "", found(Place::Field("X-Token"))),
        (NAMED, &[authorization], "", "", Err(MISSING)),
        (NAMED, &[("X-Token", b"x"), ("X-Token", b"x")], "", "", Err(REPEATED)),
        (NAMED, &[("X-Token", b"x")], "access_token=x", "", twice()),
        // What is not configured.
        ("{}", &[authorization, FORM], "", "access_token=x", found(Place::Field("Authorization"))),
        (
            "{}",
            &[authorization, ("Access-Token", b"x"), ("Cookie", b"t=x")],
            "",
            "",
            found(Place::Field("Authorization")),
        ),
        ("{}", &[FORM], "", "access_token=x", Err(MISSING)),
        ("bearer_token_param_type: [query]", &[authorization], "", "", Err(MISSING)),
        ("bearer_token_param_type: [query]", &[authorization], "access_token=x", "", found(Place::Query)),
        ("bearer_token_param_type: [body]", &[FORM], "access_token=x", "access_token=x", twice()),
    ] {
        let seen = search(yaml, sent, Some(query), body, Schemes::Bearer);
        if let Ok((token, scheme, _)) = &seen {
            assert_eq!((token.as_str(), *scheme), ("x", Scheme::Bearer));
        }
        assert_eq!(seen.map(|(.., place)| place), expected, "{yaml} {sent:?} {query} {body}");
    }
}

#[test]
fn dpop_is_a_scheme_where_it_is_wanted() {
    for (value, schemes, expected) in [
        (&b"DPoP x"[..], Schemes::BearerAndDpop, Ok(Scheme::Dpop)),
        (b"dpop x", Schemes::BearerAndDpop, Ok(Scheme::Dpop)),
        (b"Bearer x", Schemes::BearerAndDpop, Ok(Scheme::Bearer)),
        (b"DPoP", Schemes::BearerAndDpop, Err(MALFORMED)),
        (b"DPoP x", Schemes::Bearer, Err(MISSING)),
    ] {
        let seen = search("{}", &[("Authorization", value)], None, "", schemes);
        assert_eq!(seen.map(|(_, scheme, _)| scheme), expected, "{value:?}");
    }
}

#[test]
fn the_credential_is_taken_out_and_nothing_else() {
    // T43
    type Seen<'t> = (&'t [(&'t str, &'t str)], Option<&'t str>, &'t str);
    let (a, json) = (("A", "1"), ("Content-Type", "application/json"));
    for (place, (sent, query, body), (left, left_query, left_body)) in [
        (
            Place::Field("access-token"),
            (&[a, ("Access-Token", "x"), ("Cookie", "t=x")][..], Some("access_token=x"), "b"),
            (&[a, ("Cookie", "t=x")][..], Some("access_token=x"), "b"),
        ),
        (Place::Query, (&[a], Some("b=%31;access_token=x&c"), "b"), (&[a], Some("b=%31&c"), "b")),
        (Place::Query, (&[a], Some("access_token=x"), "b"), (&[a], None, "b")),
        (
            Place::Body,
            (&[json], Some("access_token=x"), r#"{"a": 1.0,"access_token": "x"}"#),
            (&[json], Some("access_token=x"), r#"{"a": 1.0}"#),
        ),
        (Place::Cookie("t"), (&[("Cookie", "a=1; t=x; tt=2"), a], None, ""), (&[("Cookie", "a=1; tt=2"), a], None, "")),
        (Place::Cookie("t"), (&[("Cookie", "t=x;b=2")], None, ""), (&[("Cookie", "b=2")], None, "")),
        (Place::Cookie("t"), (&[("Cookie", "t=x"), a], None, ""), (&[a], None, "")),
        (
            Place::Cookie("t"),
            (&[("Cookie", "a=1"), ("Cookie", "t=x"), ("Cookie", "b=2")], None, ""),
            (&[("Cookie", "a=1; b=2")], None, ""),
        ),
    ] as [(Place<'_>, Seen<'_>, Seen<'_>); 8]
    {
        let mut scene = Scene::new("POST", sent);
        (scene.query, scene.body.bytes) = (query.map(str::to_owned), body.into());
        let mut request = scene.request();
        remove(&mut request, place, &[ACCESS_TOKEN]);
        assert_eq!(request.query.as_deref(), left_query.map(str::as_bytes), "{place:?}");
        let left: Vec<_> = left.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        assert_eq!(fields(request.head), left, "{place:?}");
        assert_eq!(String::from_utf8_lossy(&scene.body.bytes), left_body, "{place:?}");
    }
}
