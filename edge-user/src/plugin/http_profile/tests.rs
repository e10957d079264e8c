use proptest::prelude::*;

use super::NAME;
use crate::http::head::{Head, Known, Owner};
use crate::plugin::testing::{Scene, fields, parse};
use crate::plugin::{Access, Plugin};

fn plugin(yaml: &str) -> Plugin {
    parse(NAME, yaml).expect("good settings")
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
}

/// What becomes of a request's fields, or the status it is refused with.
async fn sent_up(yaml: &str, sent: &[(&str, &str)]) -> Result<Vec<(String, String)>, u16> {
    let (plugin, mut scene) = (plugin(yaml), Scene::new("GET", sent));
    match scene.access(&plugin).await {
        Access::Continue => Ok(fields(&scene.head)),
        Access::Answer(answer) => Err(answer.status),
        Access::Refuse(refusal) => Err(refusal.status),
    }
}

fn shaped(yaml: &str, scene: &Scene, status: u16, came: &[(&str, &str)]) -> Vec<(String, String)> {
    fields(&scene.shape(&plugin(yaml), status, came))
}

#[tokio::test]
async fn each_rule_does_what_its_action_says() {
    for (rule, sent, expected) in [
        ("action: insert, name: X-A, value: new", &[("x-a", "1")][..], &[("x-a", "1"), ("X-A", "new")][..]),
        ("action: insert, name: X-A, value: '$(headers.none)'", &[], &[]),
        ("action: append, name: X-A, value: new", &[("x-a", "1"), ("X-A", "2")], &[("x-a", "1"), ("X-A", "2, new")]),
        ("action: append, name: X-A, value: new", &[("x-a", "")], &[("X-A", "new")]),
        ("action: append, name: X-A, value: new", &[], &[("X-A", "new")]),
        ("action: append, name: X-A, value: '$(headers.none)'", &[("X-A", "1")], &[("X-A", "1")]),
        (
            "action: replace, name: X-A, value: new",
            &[("x-a", "1"), ("B", "2"), ("X_A", "3")],
            &[("B", "2"), ("X-A", "new")],
        ),
        ("action: replace, name: X-A, value: new", &[], &[("X-A", "new")]),
        // What a client sent never stands for a value that is not there.
        ("action: replace, name: X-A, value: '$(consumer.username)'", &[("X-A", "forged")], &[]),
        ("action: erase, name: x-a", &[("X-A", "1"), ("X.a", "2"), ("X-AB", "3")], &[("X-AB", "3")]),
        (
            "action: rename, name: x-a, to: X-B",
            &[("X-A", "1"), ("X-B", "0"), ("x_a", "2")],
            &[("X-B", "1"), ("X-B", "2")],
        ),
        ("action: rename, name: x-a, to: X-B", &[("X-B", "0")], &[("X-B", "0")]),
        ("action: replace, name: X-Forwarded-Proto, value: https", &[], &[("X-Forwarded-Proto", "https")]),
    ] {
        let yaml = format!("request: {{headers: [{{{rule}}}]}}");
        assert_eq!(sent_up(&yaml, sent).await, Ok(pairs(expected)), "{rule}");
    }
}

#[tokio::test]
async fn rules_go_one_after_another() {
    let yaml = "request: {headers: [{action: insert, name: X-A, value: '1'}, {action: rename, name: X-A, to: X-B},
        {action: append, name: X-B, value: '$(headers.x_b)', when: {header: {name: X-B, equals: '1'}}},
        {action: erase, name: X-C, when: {not: {header: {name: X-B, exists: true}}}}]}";
    assert_eq!(sent_up(yaml, &[("X-C", "c")]).await, Ok(pairs(&[("X-C", "c"), ("X-B", "1, 1")])));
}

#[tokio::test]
async fn conditions_see_what_an_allow_list_leaves_out() {
    let yaml = "request: {allow: [], headers: [{action: insert, name: X-Keyed, value: '1',
        when: {header: {name: X-Key, equals: k}}}]}";
    assert_eq!(sent_up(yaml, &[("X-Key", "k"), ("X-Other", "1")]).await, Ok(pairs(&[("X-Keyed", "1")])));
    assert_eq!(sent_up(yaml, &[("X-Key", "l")]).await, Ok(vec![]));
}

#[tokio::test]
async fn templates_stand_for_the_request() {
    for (value, expected) in [
        ("$(client.address):$(client.port)", "192.0.2.7:1234"),
        ("$(request.scheme)://$(request.host)$(request.path)", "http://api.example/path"),
        ("$(request.method) $(request.id)", "GET 0123456789abcdef0123456789abcdef"),
        ("$(query_params.a)$(headers.user_agent or 'none')", "1none"),
        ("$(certificate.subject or 'none')", "none"),
    ] {
        let yaml = format!("request: {{headers: [{{action: insert, name: V, value: \"{value}\"}}]}}");
        assert_eq!(sent_up(&yaml, &[]).await, Ok(pairs(&[("V", expected)])), "{value}");
    }
}

#[tokio::test]
async fn a_value_that_would_end_its_field_is_refused() {
    // H8
    let plugin = plugin("request: {headers: [{action: insert, name: V, value: '$(query_params.v)'}]}");
    for (query, passes) in [("v=a%0d%0aX:%201", false), ("v=%00", false), ("v=a%20b", true)] {
        let mut scene = Scene::new("GET", &[]);
        scene.query = Some(query.into());
        let access = scene.access(&plugin).await;
        assert_eq!(matches!(access, Access::Continue), passes, "{query}");
        assert!(passes || matches!(access, Access::Answer(answer) if answer.status == 400), "{query}");
    }
}

#[tokio::test]
async fn the_upstream_sees_the_host_that_is_configured() {
    // U6
    for (host, sent, expected) in [
        ("up.example:8443", "", Ok(Some("up.example:8443"))),
        ("$(headers.x_host or 'none')", "b.example", Ok(Some("b.example"))),
        ("$(headers.x_host)", "", Ok(None)),
        ("$(headers.x_host)", "a/b", Err(400)),
    ] {
        let plugin = plugin(&format!("request: {{host: \"{host}\"}}"));
        let mut scene = Scene::new("GET", &[("X-Host", sent)]);
        let answer = match scene.access(&plugin).await {
            Access::Answer(answer) => Err(answer.status),
            _ => Ok(scene.notes.upstream_host.take().map(|host| String::from_utf8(host).expect("ASCII"))),
        };
        assert_eq!(answer.as_ref().map(Option::as_deref).map_err(|status| *status), expected, "{host} {sent}");
    }
}

#[tokio::test]
async fn conditions_hold_as_they_say() {
    let sent = [("User-Agent", "curl/8"), ("X-Many", "a"), ("X-Many", "b")];
    for (when, holds) in [
        ("header: {name: user-agent, exists: true}", true),
        ("header: {name: X-None, exists: true}", false),
        ("header: {name: X-None, exists: false}", true),
        ("header: {name: X-Many, equals: b}", true),
        ("header: {name: X-Many, equals: B}", false),
        ("header: {name: User-Agent, starts_with: curl}", true),
        ("header: {name: User-Agent, starts_with: url}", false),
        ("header: {name: User-Agent, ends_with: '8'}", true),
        ("header: {name: User-Agent, ends_with: '7'}", false),
        ("header: {name: User-Agent, contains: rl/}", true),
        ("header: {name: User-Agent, contains: wget}", false),
        ("header: {name: User-Agent, matches: '^CURL/\\d'}", true),
        ("header: {name: User-Agent, matches: '^wget'}", false),
        ("host: [API.example]", true),
        ("host: ['*.example', other]", true),
        ("host: [example]", false),
        ("path: [/pa]", true),
        ("path: [/other, /path]", true),
        ("path: [/b]", false),
        ("method: [GET, POST]", true),
        ("method: [POST]", false),
        ("client_cert: false", true),
        ("client_cert: true", false),
        ("method: [GET], path: [/b]", false),
        ("not: {method: [POST]}", true),
        ("not: {method: [GET]}", false),
        ("method: [GET], not: {path: [/b]}", true),
    ] {
        let yaml = format!("request: {{headers: [{{action: insert, name: X-Held, value: '1', when: {{{when}}}}}]}}");
        let held = sent_up(&yaml, &sent).await.expect("passes");
        assert_eq!(held.iter().any(|(name, _)| name == "X-Held"), holds, "{when}");
    }
}

#[tokio::test]
async fn heads_over_a_limit_are_refused() {
    let sent = [("A", "1"), ("Bcd", "12345")];
    for (limits, passes) in [
        ("fields: 2", true),
        ("fields: 1", false),
        ("field_bytes: 10", true),
        ("field_bytes: 9", false),
        // `GET /path?a=1 HTTP/1.1`, two fields and the empty line.
        ("head_bytes: 44", true),
        ("head_bytes: 43", false),
        ("action: reject", true),
    ] {
        let access = sent_up(&format!("request: {{limits: {{{limits}}}}}"), &sent).await;
        assert_eq!(access, if passes { Ok(pairs(&sent)) } else { Err(431) }, "{limits}");
    }
}

#[test]
fn responses_are_masked_marked_and_ruled() {
    let mut scene = Scene::new("GET", &[]);
    scene.https = true;
    let came = [("Server", "up/1.2"), ("X-Powered-By", "php"), ("Content-Type", "text/plain")];
    for (response, expected) in [
        ("server: preserve", &came[..]),
        ("server: remove", &came[1..]),
        ("server: 'edge of the world'", &[("Server", "edge of the world"), came[1], came[2]]),
        (
            "hsts: {}",
            &[came[0], came[1], came[2], ("Strict-Transport-Security", "max-age=16070400; includeSubDomains")],
        ),
        (
            "hsts: {max_age: 31536000, include_subdomains: true, preload: true}",
            &[came[0], came[1], came[2], ("Strict-Transport-Security", "max-age=31536000; includeSubDomains; preload")],
        ),
        (
            "hsts: {max_age: 0, include_subdomains: false}",
            &[came[0], came[1], came[2], ("Strict-Transport-Security", "max-age=0")],
        ),
        ("allow: []", &[came[2]]),
        ("allow: [x-powered-by]", &[came[1], came[2]]),
        ("headers: [{action: erase, name: X-Powered-By, when: {status: [200, 404]}}]", &[came[0], came[2]]),
        ("headers: [{action: erase, name: X-Powered-By, when: {status: [404]}}]", &came),
        (
            "headers: [{action: erase, name: X-Powered-By, when: {method: [GET], host: [api.example]}}]",
            &[came[0], came[2]],
        ),
        (
            "headers: [{action: replace, name: Server, value: '$(request.host) $(headers.server)'}]",
            &[came[1], came[2], ("Server", "api.example up/1.2")],
        ),
    ] {
        assert_eq!(shaped(&format!("response: {{{response}}}"), &scene, 200, &came), pairs(expected), "{response}");
    }
    scene.https = false;
    assert_eq!(shaped("response: {hsts: {}}", &scene, 200, &came), pairs(&came), "RFC 6797, 7.2");
}

#[test]
fn settings_are_judged() {
    let rule = |rule: &str| format!("request: {{headers: [{{{rule}}}]}}");
    let late = |rule: &str| format!("response: {{headers: [{{{rule}}}]}}");
    for (yaml, part) in [
        ("requests: {}".to_owned(), "`request`"),
        ("request: {header: []}".into(), "`headers`"),
        ("upstreams: {}".into(), "`upstream`"),
        ("request: {host: 'a b'}".into(), "a host, with or without a port"),
        ("request: {host: '$(request.hots)'}".into(), "`$(…)` with `headers`"),
        ("response: {location: some}".into(), "one of: none, all, matching, nodes"),
        ("response: {cookies: [{name: a, encrypt: true}]}".into(), "`[secrets] key_file`"),
        ("response: {fallback: {}}".into(), "one of `redirect` and `page`"),
        ("upstream: {header_case: upper}".into(), "one of: preserve, title, lower"),
        ("upstream: {reuse: none}".into(), "one of: shared, per_consumer, per_connection"),
        ("upstream: {chunking: rechunk}".into(), "unknown field"),
        ("request: {chunking: chunk}".into(), "one of: sustain, preserve, selective, rechunk, unchunk"),
        ("response: {chunking: true}".into(), "one of: sustain, preserve, selective, rechunk, unchunk"),
        (
            "request: {client_certificate: {pem_header: X-A}, headers: [{action: insert, name: x_a, value: b}]}".into(),
            "a name that no rule writes",
        ),
        (rule("name: A, value: b"), "one of: insert, append, replace, erase, rename"),
        (rule("action: delete, name: A"), "one of: insert, append, replace, erase, rename"),
        (rule("action: insert, name: 'a b', value: c"), "the name of a field"),
        (rule("action: insert, name: A"), "the value of the field"),
        (rule("action: erase, name: A, value: c"), "an unknown field"),
        (rule("action: rename, name: A"), "the name of a field"),
        (rule("action: insert, name: A, value: \"b\\r\\nc\""), "a value that can stand in a field"),
        (rule("action: insert, name: A, value: '$(request.hots)'"), "`$(…)` with `headers`"),
        (rule("action: insert, name: A, value: '$(unknown)'"), "`$(…)` with `headers`"),
        (late("action: insert, name: A, value: '$(query_params.a)'"), "`$(…)` with `headers`"),
        // S0.11: no rule takes `Authorization` away, nor writes it, in any spelling.
        (rule("action: erase, name: authorization"), "stays as authentication left it"),
        (rule("action: replace, name: Authorization, value: b"), "stays as authentication left it"),
        (rule("action: rename, name: Authorization, to: X-A"), "stays as authentication left it"),
        (rule("action: rename, name: X-A, to: Authorization"), "stays as authentication left it"),
        (rule("action: erase, name: Host"), "`request.host`"),
        (rule("action: insert, name: x_forwarded_for, value: b"), "`request.xforwarded_for`"),
        (rule("action: erase, name: Via"), "`request.via`"),
        (rule("action: erase, name: X-Real-IP"), "the edge writes or drops it itself"),
        (rule("action: erase, name: X-Forwarded-Host"), "`replace`"),
        (rule("action: erase, name: Content_Length"), "framing and hop"),
        (rule("action: insert, name: Transfer-Encoding, value: chunked"), "framing and hop"),
        (late("action: erase, name: Transfer-Encoding"), "framing and hop"),
        (rule("action: insert, name: x_consumer_id, value: b"), "says who the caller is"),
        (rule("action: insert, name: X-Userinfo, value: b"), "says who the caller is"),
        (rule("action: insert, name: User-Agent, value: b, owned: true"), "a name that no client needs"),
        (rule("action: insert, name: Accept, value: '$(consumer.id)'"), "a name that no client needs"),
        (rule("action: erase, name: A, when: {}"), "at least one part of a condition"),
        (rule("action: erase, name: A, when: {host: []}"), "nothing is among none"),
        (rule("action: erase, name: A, when: {host: ['a:80']}"), "without a port"),
        (rule("action: erase, name: A, when: {path: [a]}"), "the beginning of a path"),
        (rule("action: erase, name: A, when: {status: [200]}"), "an unknown field"),
        (late("action: erase, name: A, when: {path: [/a]}"), "an unknown field"),
        (late("action: erase, name: A, when: {status: [99]}"), "between 100 and 599"),
        (rule("action: erase, name: A, when: {not: {not: {method: [GET]}}}"), "an unknown field"),
        (rule("action: erase, name: A, when: {header: {name: B}}"), "one of: exists, equals"),
        (rule("action: erase, name: A, when: {header: {name: B, equals: a, contains: b}}"), "one of: exists, equals"),
        (rule("action: erase, name: A, when: {header: {name: B, matches: '('}}"), "a regular expression"),
        (rule("action: erase, name: A, when: {header: {exists: true}}"), "the name of a field"),
        ("request: {xforwarded_for: on}".into(), "one of: append, insert, replace, off"),
        ("request: {allow: ['a b']}".into(), "the name of a field"),
        ("request: {via: hide}".into(), "one of: append, preserve, remove"),
        ("request: {via: remove, via_host_name: a}".into(), "the edge does not name itself"),
        ("request: {via_host_name: 'a b'}".into(), "the name of a host"),
        ("request: {limits: {fields: 0}}".into(), "between 1 and"),
        ("request: {limits: {action: pass-through}}".into(), "read in two ways"),
        ("response: {server: \"a\\r\\nb\"}".into(), "`preserve`, `remove`"),
        ("response: {hsts: {max_age: -1}}".into(), "between 0 and"),
        ("response: {limits: {}}".into(), "an unknown field"),
    ] {
        let problems = parse(NAME, &yaml).err().unwrap_or_else(|| panic!("no problem: {yaml}"));
        assert!(problems.iter().any(|problem| problem.contains(part)), "{yaml}: {problems:?}");
    }
    assert!(parse(NAME, "{}").is_ok());
}

#[test]
fn names_that_tell_an_identity_are_owned() {
    // P1
    let yaml = "request: {headers: [{action: insert, name: X-User, value: '$(consumer.username)'},
        {action: rename, name: X-Old, to: X-New, owned: true}, {action: insert, name: X-Free, value: a},
        {action: replace, name: X-Subject, value: 'a $(certificate.subject)', when: {client_cert: true}}],
        client_certificate: {pem_header: X-Pem, rfc9440: true}}";
    let owned = plugin(yaml).owned_names();
    let expected = ["x-user", "x-new", "x-subject", "client-cert", "client-cert-chain", "x-pem"];
    assert!(owned.iter().map(|name| &**name).eq(expected), "{owned:?}");
}

/// Names of clients: those that matter, their spellings, and any others.
fn client_field() -> impl Strategy<Value = (String, String)> {
    const KNOWN: [&str; 15] = [
        "Authorization",
        "authorization",
        "Host",
        "Content-Length",
        "Transfer-Encoding",
        "Trailer",
        "Content-Type",
        "Content-Encoding",
        "Cookie",
        "Accept",
        "X-A",
        "X_A",
        "Authorization-X",
        "DPoP",
        "Sec-WebSocket-Key",
    ];
    let name = prop_oneof![prop::sample::select(&KNOWN[..]).prop_map(str::to_owned), "[A-Za-z][A-Za-z_.-]{0,12}"];
    (name, "[ -~]{0,12}".prop_map(|value| value.trim().to_owned()))
}

proptest! {
    // S0.11, P1: whatever is listed and whatever the rules say, the credential, the host and the framing pass as they
    // came, what the edge wrote stays, and nothing that is not listed comes through.
    #[test]
    fn an_allow_list_keeps_credential_and_framing_and_nothing_else(
        sent in prop::collection::vec(client_field(), 0..20),
        listed in prop::collection::vec("[A-Za-z][A-Za-z-]{0,6}", 0..4),
        erased in prop::collection::vec("[A-Za-z][A-Za-z_.-]{0,6}", 0..4),
    ) {
        let erased: Vec<String> = erased.into_iter().filter(|name| {
            parse(NAME, &format!("request: {{headers: [{{action: erase, name: '{name}'}}]}}")).is_ok()
        }).collect();
        let rules: Vec<String> = erased.iter().map(|name| format!("{{action: erase, name: '{name}'}}")).collect();
        let quoted: Vec<String> = listed.iter().map(|name| format!("'{name}'")).collect();
        let yaml = format!("request: {{allow: [{}], headers: [{}]}}", quoted.join(", "), rules.join(", "));
        let plugin = plugin(&yaml);
        let mut scene = Scene::new("GET", &[]);
        for (name, value) in &sent {
            scene.head.push(Owner::Peer, name.as_bytes(), value.as_bytes());
        }
        scene.head.push(Owner::Edge, b"X-Edge-Own-Field", b"1");
        let before = essential(&scene.head);
        let passes = tokio::runtime::Builder::new_current_thread().build().expect("a runtime")
            .block_on(async { matches!(scene.access(&plugin).await, Access::Continue) });
        prop_assert!(passes);
        prop_assert_eq!(before, essential(&scene.head));
        prop_assert!(scene.head.fields().any(|field| field.name == b"X-Edge-Own-Field"));
        for field in scene.head.fields().filter(|field| field.owner == Owner::Peer && field.known == Known::Other) {
            let name = String::from_utf8_lossy(field.name).to_ascii_lowercase();
            let is_listed = listed.iter().any(|listed| name == listed.to_ascii_lowercase());
            let is_essential = ["content-encoding", "set-cookie"].contains(&&*name)
                || name.starts_with("sec-websocket-") || name.starts_with("grpc-");
            prop_assert!(is_listed || is_essential, "{}", name);
        }
    }
}

/// The fields that no list and no rule takes, as they stand.
fn essential(head: &Head) -> Vec<(String, String)> {
    const ESSENTIAL: [Known; 5] =
        [Known::Authorization, Known::Host, Known::ContentLength, Known::TransferEncoding, Known::Trailer];
    let kept = head.fields().filter(|field| ESSENTIAL.contains(&field.known));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    kept.map(|field| (text(field.name), text(field.value))).collect()
}
