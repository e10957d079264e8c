use super::*;
use crate::config::testing;
use crate::http::head::{Owner, Version};

const NOW: Now = Now { unix_ms: 1_700_000_000_000 };

fn parse_with(yaml: &str, ground: &Ground<'_>) -> (Rules, Vec<String>, Vec<String>) {
    testing::read("config", yaml, |config| {
        let rules = Rules::parse(config, ground);
        config.raw("typ_allowed");
        rules
    })
}

fn ground(client_ids: &[String]) -> Ground<'_> {
    Ground { leeway: Duration::from_secs(30), verify_claims: true, client_ids }
}

fn rules(yaml: &str) -> Rules {
    let (rules, problems, _) = parse_with(yaml, &ground(&["web".into()]));
    assert_eq!(problems, [""; 0], "{yaml}");
    rules
}

fn request(cookies: &[&str]) -> Head {
    let mut head = Head::default();
    head.start_request(b"GET", b"/", Version::Http11);
    for cookie in cookies {
        head.push(Owner::Peer, b"Cookie", cookie.as_bytes());
    }
    head
}

/// What the rules say of claims in a token without a `typ`.
fn outcome(rules: &Rules, claims: &str, cookies: &[&str]) -> Option<Reason> {
    let facts = Facts::parse(claims.as_bytes().to_vec(), "").expect("claims");
    rules.check(&facts, &request(cookies), NOW, Observer::default()).err()
}

#[test]
fn each_failure_has_its_reason() {
    // T25, T33, T34
    for (yaml, claims, expected) in [
        ("{}", "{}", None),
        ("{}", r#"{"aud":"web"}"#, Some(Reason::IdTokenUsed)),
        ("{}", r#"{"nonce":"n"}"#, Some(Reason::IdTokenUsed)),
        ("{id_tokens_refused: false}", r#"{"nonce":"n"}"#, None),
        ("{claims_forbidden: [act]}", r#"{"act":null}"#, Some(Reason::ClaimForbidden)),
        ("{claims_forbidden: [act]}", r#"{"x":{"act":1}}"#, None),
        ("{audience_required: [a, b]}", r#"{"aud":["b"]}"#, None),
        ("{allowed_audiences: [a]}", r#"{"aud":"a"}"#, None),
        ("{audience_required: [a]}", r#"{"aud":"a b"}"#, Some(Reason::AudienceNotAllowed)),
        ("{audience_required: [a], audience_claim: [t]}", r#"{"t":"a b"}"#, None),
        ("{scopes_required: ['r w', x]}", r#"{"scope":"w r"}"#, None),
        ("{scopes_required: ['r w', x]}", r#"{"scope":"r"}"#, Some(Reason::ScopeMissing)),
        ("{groups_required: [g]}", r#"{"groups":["g"]}"#, None),
        ("{groups_required: [g]}", "{}", Some(Reason::GroupMissing)),
        ("{roles_required: [r], roles_claim: [realm, roles]}", r#"{"realm":{"roles":["r"]}}"#, None),
        ("{roles_required: [r], roles_claim: [realm, roles]}", r#"{"roles":["r"]}"#, Some(Reason::RoleMissing)),
        ("{domains: [a.example]}", r#"{"hd":"a.example"}"#, None),
        ("{domains: [a.example]}", r#"{"hd":"A.example"}"#, Some(Reason::DomainNotAllowed)),
        ("{domains: [a.example]}", r#"{"hd":["a.example"]}"#, Some(Reason::DomainNotAllowed)),
        ("{domains: [a.example]}", "{}", Some(Reason::DomainNotAllowed)),
        ("{acr_required: [mfa, hw]}", r#"{"acr":"hw"}"#, None),
        ("{acr_required: [mfa, hw]}", r#"{"acr":"mfa hw"}"#, Some(Reason::AcrInsufficient)),
        ("{acr_required: [mfa]}", r#"{"acr":"pwd"}"#, Some(Reason::AcrInsufficient)),
        ("{acr_required: [mfa]}", "{}", Some(Reason::AcrInsufficient)),
    ] {
        assert_eq!(outcome(&rules(yaml), claims, &[]), expected, "{yaml} {claims}");
    }
}

#[test]
fn logins_have_an_age_and_a_leeway() {
    // T31
    for (yaml, claims, expected) in [
        ("{max_age: 60}", r#"{"auth_time":1699999940}"#, None),
        ("{max_age: 60}", r#"{"auth_time":1699999910}"#, None),
        ("{max_age: 60}", r#"{"auth_time":1699999909}"#, Some(Reason::AuthenticationTooOld)),
        ("{max_age: 60}", "{}", Some(Reason::AuthenticationTooOld)),
        ("{max_age: 60}", r#"{"auth_time":1700000030}"#, None),
        ("{max_age: 60}", r#"{"auth_time":1700000031}"#, Some(Reason::ClaimInvalid)),
        ("{max_age: 60}", r#"{"auth_time":"1699999999"}"#, Some(Reason::ClaimInvalid)),
        ("{max_age: 60}", r#"{"auth_time":null}"#, Some(Reason::ClaimInvalid)),
        ("{max_age: 0}", r#"{"auth_time":1699999970}"#, None),
        ("{max_age: 0}", r#"{"auth_time":1699999969}"#, Some(Reason::AuthenticationTooOld)),
        ("{max_age: 60}", r#"{"auth_time":-9e15}"#, Some(Reason::AuthenticationTooOld)),
    ] {
        assert_eq!(outcome(&rules(yaml), claims, &[]), expected, "{yaml} {claims}");
    }
}

#[test]
fn tokens_belong_to_the_session_of_their_cookie() {
    let sid = r#"{"sid":"s1"}"#;
    for (yaml, claims, cookies, good) in [
        ("{jwt_session_cookie: session}", sid, &["session=s1"][..], true),
        ("{jwt_session_cookie: session}", sid, &["a=b; session=s1;c=d"], true),
        ("{jwt_session_cookie: session}", sid, &["a=b", "session=\"s1\""], true),
        ("{jwt_session_cookie: session, jwt_session_claim: [my, id]}", r#"{"my":{"id":"s1"}}"#, &["session=s1"], true),
        ("{jwt_session_cookie: session}", sid, &[], false),
        ("{jwt_session_cookie: session}", sid, &["session=s2"], false),
        ("{jwt_session_cookie: session}", sid, &["Session=s1"], false),
        ("{jwt_session_cookie: session}", sid, &["xsession=s1"], false),
        ("{jwt_session_cookie: session}", sid, &["session=s1; session=s2"], false),
        ("{jwt_session_cookie: session}", "{}", &["session="], false),
        ("{jwt_session_cookie: session}", r#"{"sid":""}"#, &["session="], false),
        ("{jwt_session_cookie: session}", r#"{"sid":1}"#, &["session=1"], false),
        ("{jwt_session_claim: sid}", sid, &[], true),
    ] {
        let expected = (!good).then_some(Reason::SessionMismatch);
        assert_eq!(outcome(&rules(yaml), claims, cookies), expected, "{yaml} {claims} {cookies:?}");
    }
}

#[test]
fn the_profile_of_rfc_9068_has_its_claims() {
    let rules = rules("{access_token_profile: rfc9068, audience_required: [api], id_tokens_refused: false}");
    assert_eq!(rules.types(), Some(&["at+jwt"][..]));
    let full = [
        ("iss", r#""https://a""#),
        ("exp", "1700000100"),
        ("aud", r#"["api"]"#),
        ("sub", r#""s""#),
        ("client_id", r#""c""#),
        ("iat", "1699999999"),
        ("jti", r#""j""#),
    ];
    let claims = |change: Option<(&str, &str)>| {
        let members = full.iter().filter_map(|(name, value)| match change {
            Some((changed, "")) if changed == *name => None,
            Some((changed, other)) if changed == *name => Some(format!("\"{name}\":{other}")),
            _ => Some(format!("\"{name}\":{value}")),
        });
        format!("{{{}}}", members.collect::<Vec<_>>().join(","))
    };
    assert_eq!(outcome(&rules, &claims(None), &[]), None);
    assert_eq!(outcome(&rules, &claims(Some(("aud", r#""api""#))), &[]), None);
    for (name, _) in full {
        assert_eq!(outcome(&rules, &claims(Some((name, ""))), &[]), Some(Reason::ProfileViolated), "{name}");
    }
    for (name, value) in [("client_id", "1"), ("jti", r#""""#), ("aud", "[]"), ("aud", "[\"api\",1]"), ("aud", "null")]
    {
        let seen = outcome(&rules, &claims(Some((name, value))), &[]);
        assert_eq!(seen, Some(Reason::ProfileViolated), "{name} {value}");
    }
}

#[test]
fn wrong_settings_are_named() {
    for (yaml, expected) in [
        ("{scopes_required: []}", "config.scopes_required: found an empty list"),
        ("{scopes_required: [a], scopes_claim: []}", "config.scopes_required: found an empty list"),
        ("{domains: []}", "config.domains: found an empty list"),
        ("{acr_required: []}", "config.acr_required: found an empty list"),
        ("{acr_required: ['a b']}", "config.acr_required[0]"),
        ("{acr_required: ['a\"b']}", "config.acr_required[0]"),
        ("{max_age: -1}", "config.max_age"),
        ("{jwt_session_cookie: 'a b'}", "expected a cookie's name"),
        ("{access_token_profile: rfc9999, audience_required: [a]}", "expected one of: rfc9068"),
        ("{access_token_profile: rfc9068}", "`audience_required` too"),
        ("{access_token_profile: rfc9068, audience_required: [a], typ_allowed: [jwt]}", "config.typ_allowed"),
    ] {
        let (_, problems, _) = parse_with(yaml, &ground(&[]));
        assert!(problems.len() == 1 && problems[0].contains(expected), "{yaml}: {problems:?}");
    }
}

#[test]
fn unverified_claims_have_no_login_and_no_domain() {
    let loose = Ground { verify_claims: false, ..ground(&[]) };
    let (rules, problems, warnings) =
        parse_with("{max_age: 60, domains: [a.example], acr_required: [mfa], scopes_required: [r]}", &loose);
    assert_eq!((problems.len(), warnings.len()), (0, 2));
    assert_eq!(outcome(&rules, r#"{"acr":"mfa","scope":"r"}"#, &[]), None);
    assert_eq!(outcome(&rules, r#"{"scope":"r"}"#, &[]), Some(Reason::AcrInsufficient));
    assert_eq!(outcome(&rules, r#"{"acr":"mfa"}"#, &[]), Some(Reason::ScopeMissing));
}

#[test]
fn the_challenge_asks_for_what_would_do() {
    let rules = rules("{scopes_required: ['b  a', c], acr_required: [mfa, hw], max_age: 90.5}");
    assert_eq!((rules.scope(), &*rules.acr_values(), rules.max_age_secs()), ("b a", "mfa hw", Some(90)));
    let none = super::tests::rules("{audience_required: [a]}");
    assert_eq!((none.scope(), &*none.acr_values(), none.max_age_secs()), ("", "", None));
}
