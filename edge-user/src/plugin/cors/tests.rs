use super::*;
use crate::plugin::Plugin;
use crate::plugin::testing::{Scene, fields, parse};

fn plugin(yaml: &str) -> Plugin {
    parse(NAME, yaml).expect("good settings")
}

/// The fields after the response phase, sorted, one a line.
fn answered(yaml: &str, method: &str, request: &[(&str, &str)], response: &[(&str, &str)]) -> String {
    let head = Scene::new(method, request).respond(&plugin(yaml), 200, response);
    let mut lines: Vec<_> = fields(&head).into_iter().map(|(name, value)| format!("{name}: {value}")).collect();
    lines.sort();
    lines.join("\n").replace("Access-Control-", "")
}

#[test]
fn origins_and_credentials_follow_the_table() {
    let (good, evil) = ("https://good.example", "https://evil.example");
    let list = "origins: ['https://good.example', 'https://other.example:8443']";
    let one_regex = "origins: ['.*\\.good\\.example']";
    let with_any = "origins: ['https://good.example', '*']";
    for (settings, origin, expected) in [
        ("", Some(good), "Allow-Origin: *"),
        ("", None, "Allow-Origin: *"),
        ("origins: ['*']", Some(evil), "Allow-Origin: *"),
        ("origins: []", Some(evil), "Allow-Origin: *"),
        ("credentials: true", Some(evil), "Allow-Credentials: true\nAllow-Origin: https://evil.example\nVary: Origin"),
        ("credentials: true", None, "Allow-Origin: *"),
        ("origins: ['https://good.example']", Some(evil), "Allow-Origin: https://good.example\nVary: Origin"),
        ("origins: [good.example]", None, "Allow-Origin: good.example\nVary: Origin"),
        (
            "{origins: ['https://good.example'], credentials: true}",
            Some(evil),
            "Allow-Credentials: true\nAllow-Origin: https://good.example\nVary: Origin",
        ),
        (list, Some(good), "Allow-Origin: https://good.example\nVary: Origin"),
        (list, Some("https://good.example:443"), "Allow-Origin: https://good.example\nVary: Origin"),
        (list, Some("https://other.example:8443"), "Allow-Origin: https://other.example:8443\nVary: Origin"),
        (list, Some("https://other.example"), "Vary: Origin"),
        (list, Some("http://good.example"), "Vary: Origin"),
        (list, Some("https://GOOD.example"), "Vary: Origin"),
        (list, Some(evil), "Vary: Origin"),
        (list, Some("null"), "Vary: Origin"),
        (list, None, "Vary: Origin"),
        (one_regex, Some("http://a.good.example:81"), "Allow-Origin: http://a.good.example:81\nVary: Origin"),
        (one_regex, Some("https://a.good.example.evil.example"), "Vary: Origin"),
        (one_regex, Some("https://evil.example/.good.example"), "Vary: Origin"),
        (one_regex, Some("https://evil.example#.good.example"), "Vary: Origin"),
        (with_any, Some(evil), "Allow-Origin: *\nVary: Origin"),
        (with_any, None, "Vary: Origin"),
        ("{origins: [a.example, b.example]}", Some("https://a.example"), "Vary: Origin"),
        ("{origins: ['https://a.example', 'null']}", Some("null"), "Allow-Origin: null\nVary: Origin"),
        (
            "{origins: ['https://a.example', 'https://b.example'], credentials: true}",
            Some(evil),
            "Allow-Credentials: true\nVary: Origin",
        ),
        (
            "{origins: ['https://a.example', '*'], credentials: true}",
            Some(evil),
            "Allow-Credentials: true\nAllow-Origin: https://evil.example\nVary: Origin",
        ),
        ("allow_origin_absent: false", None, ""),
        ("allow_origin_absent: false", Some(""), ""),
        ("allow_origin_absent: false", Some(good), "Allow-Origin: *"),
    ] {
        let sent: Vec<_> = origin.into_iter().map(|origin| ("Origin", origin)).collect();
        let settings = if settings.is_empty() { "{}" } else { settings };
        assert_eq!(answered(settings, "GET", &sent, &[]), expected, "{settings} {origin:?}");
    }
}

#[test]
fn expressions_hold_for_the_whole_subject() {
    for (entry, origin, matches) in [
        ("^https://(a|b)\\.example$", "https://a.example", true),
        ("^https://(a|b)\\.example$", "https://a.example.evil", false),
        ("https://a\\.example|https://b\\.example", "https://a.example.evil", false),
        ("https://a\\.example|https://b\\.example", "https://b.example", true),
        ("(a|b)\\.example", "http://b.example:8080", true),
        ("(a|b)\\.example", "http://xb.example", false),
        ("https?://localhost:[0-9]+", "http://localhost:3000", true),
        ("https?://localhost:[0-9]+", "http://localhost", false),
        ("https?://localhost:[0-9]+", "https://localhost:443", false),
        ("http://\\[::1\\]", "http://[::1]:80", true),
    ] {
        let yaml = format!("origins: ['{entry}']");
        let seen = answered(&yaml, "GET", &[("Origin", origin)], &[]);
        assert_eq!(seen.contains("Allow-Origin: "), matches, "{entry} {origin}");
    }
}

#[test]
fn responses_lose_what_the_upstream_says_of_origins() {
    let upstream = [("access-control-allow-origin", "https://evil.example"), ("Vary", "Accept"), ("A", "1")];
    let origin = [("Origin", "https://evil.example")];
    let list = "{origins: ['https://a.example', 'https://b.example'], exposed_headers: [X-A, X-B]}";
    assert_eq!(answered(list, "GET", &origin, &upstream), "A: 1\nExpose-Headers: X-A,X-B\nVary: Accept\nVary: Origin");
    assert_eq!(answered("{}", "GET", &origin, &upstream), "A: 1\nAllow-Origin: *\nVary: Accept");
    let vary = [("Vary", "Accept, origin")];
    assert_eq!(
        answered("origins: ['https://a.example']", "GET", &[], &vary),
        "Allow-Origin: https://a.example\nVary: Accept, origin"
    );
}

const PREFLIGHT: [(&str, &str); 2] = [("Origin", "https://a.example"), ("Access-Control-Request-Method", "PUT")];

#[tokio::test]
async fn preflights_end_here_and_other_requests_do_not() {
    for (yaml, method, request, ends) in [
        ("{}", "OPTIONS", &PREFLIGHT[..], true),
        ("origins: ['https://b.example', 'https://c.example']", "OPTIONS", &PREFLIGHT, true),
        ("preflight_continue: true", "OPTIONS", &PREFLIGHT, false),
        ("{}", "GET", &PREFLIGHT, false),
        ("{}", "OPTIONS", &PREFLIGHT[..1], false),
        ("{}", "OPTIONS", &PREFLIGHT[1..], false),
        ("{}", "OPTIONS", &[("Origin", ""), PREFLIGHT[1]], false),
    ] {
        let plugin = plugin(yaml);
        let mut scene = Scene::new(method, request);
        let answer = scene.access(&plugin).await;
        match answer {
            Access::Continue => assert!(!ends, "{yaml} {method}"),
            Access::Answer(Answer { status: 200, body: AnswerBody::Raw(body, None), .. }) => {
                assert!(ends && body.is_empty(), "{yaml} {method}");
            }
            _ => panic!("another answer"),
        }
    }
}

#[test]
fn preflights_are_told_what_is_allowed() {
    let all = "GET,HEAD,PUT,PATCH,POST,DELETE,OPTIONS,TRACE,CONNECT";
    let asking = |name: &'static str, value: &'static str| [PREFLIGHT[0], PREFLIGHT[1], (name, value)];
    let (headers, private) = ("Access-Control-Request-Headers", "Access-Control-Request-Private-Network");
    for (yaml, request, expected) in [
        ("{}", &PREFLIGHT[..], format!("Allow-Methods: {all}\nAllow-Origin: *")),
        ("{}", &asking(headers, "x-a, x-b"), format!("Allow-Headers: x-a, x-b\nAllow-Methods: {all}\nAllow-Origin: *")),
        (
            "{headers: [X-A, X-B], methods: [PUT, GET], max_age: 3600, exposed_headers: [X-C]}",
            &asking(headers, "x-a, x-b"),
            "Allow-Headers: X-A,X-B\nAllow-Methods: PUT,GET\nAllow-Origin: *\nMax-Age: 3600".into(),
        ),
        ("max_age: 0.5", &PREFLIGHT, format!("Allow-Methods: {all}\nAllow-Origin: *\nMax-Age: 0.5")),
        (
            "origins: ['https://b.example', 'https://c.example']",
            &PREFLIGHT,
            format!("Allow-Methods: {all}\nVary: Origin"),
        ),
        ("private_network: true", &PREFLIGHT, format!("Allow-Methods: {all}\nAllow-Origin: *")),
        ("{}", &asking(private, "true"), format!("Allow-Methods: {all}\nAllow-Origin: *")),
        (
            "private_network: true",
            &asking(private, "true"),
            format!("Allow-Methods: {all}\nAllow-Origin: *\nAllow-Private-Network: true"),
        ),
        ("{preflight_continue: true, credentials: true, max_age: 1}", &PREFLIGHT, String::new()),
    ] {
        assert_eq!(answered(yaml, "OPTIONS", request, &[]), expected, "{yaml}");
    }
}

#[test]
fn settings_are_judged() {
    for (yaml, part) in [
        ("origins: ['(a']", "'(a' is not a valid regex"),
        ("origins: ['a)|(b']", "'a)|(b' is not a valid regex"),
        ("origins: ['(?=a)b']", "'(?=a)b' is not a valid regex"),
        ("origins: ['a{1000}{1000}']", "is not a valid regex"),
        ("methods: [FETCH]", "one of: GET, HEAD"),
        ("headers: [\"a\\nb\"]", "header names"),
        ("max_age: text", "a number"),
        ("credential: true", "`credentials`"),
    ] {
        let problems = parse(NAME, yaml).err().expect("a problem");
        assert!(problems.len() == 1 && problems[0].contains(part), "{yaml}: {problems:?}");
    }
}
