use super::*;
use crate::http::head::{Owner, Version};

/// `hosts | methods | paths | headers | snis`, each separated by spaces; a header is `name=value,value`, a priority of
/// regular expressions stands last as `| n`.
fn criteria(text: &str) -> Criteria {
    let mut parts = text.split('|').map(|part| part.split_whitespace().collect::<Vec<_>>());
    let mut next = || parts.next().unwrap_or_default();
    Criteria {
        hosts: next().into_iter().map(|host| HostPattern::parse(host).unwrap()).collect(),
        methods: next().into_iter().map(Into::into).collect(),
        paths: next().into_iter().map(path).collect(),
        headers: next().into_iter().map(header).collect(),
        snis: next().into_iter().map(|sni| SniPattern::parse(sni).unwrap()).collect(),
        regex_priority: next().first().map_or(0, |text| text.parse().unwrap()),
    }
}

pub(super) fn path(text: &str) -> PathPattern {
    match text.strip_prefix('~') {
        Some(text) => PathPattern::Regex(Pattern::path(text).unwrap()),
        None => PathPattern::Prefix(text.into()),
    }
}

pub(super) fn header(text: &str) -> HeaderPattern {
    let (name, value) = text.split_once('=').unwrap();
    let value = match value.strip_prefix("~*") {
        Some(text) => ValuePattern::Regex(Pattern::value(text).unwrap()),
        None => ValuePattern::OneOf(value.split(',').map(|value| value.to_ascii_lowercase().into()).collect()),
    };
    HeaderPattern { name: name.to_ascii_lowercase().into(), value }
}

/// `method host port path`, then fields as `name=value`, and `sni=name` or `tls` for an encrypted request.
pub(super) struct Sent {
    head: Head,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) path: String,
    pub(super) tls: bool,
    pub(super) sni: Option<String>,
}

impl Sent {
    pub(super) fn parse(text: &str) -> Self {
        let parts: Vec<_> = text.split(' ').collect();
        let mut head = Head::default();
        head.start_request(parts[0].as_bytes(), parts[3].as_bytes(), Version::Http11);
        let (host, path, port) = (parts[1].to_owned(), parts[3].to_owned(), parts[2].parse().unwrap());
        let mut sent = Self { head, host, port, path, tls: false, sni: None };
        for part in &parts[4..] {
            match part.split_once('=') {
                None => sent.tls = true,
                Some(("sni", name)) => (sent.tls, sent.sni) = (true, Some(name.to_owned())),
                Some((name, value)) => sent.head.push(Owner::Peer, name.as_bytes(), value.as_bytes()),
            }
        }
        sent
    }

    pub(super) fn request(&self) -> Request<'_> {
        Request {
            head: &self.head,
            host: self.host.as_bytes(),
            port: self.port,
            path: self.path.as_bytes(),
            tls: self.tls,
            sni: self.sni.as_deref(),
        }
    }
}

/// A request → `route:matched`, or `-`.
fn check(routes: &[&str], requests: &[(&str, &str)]) {
    let routes: Vec<_> = routes.iter().map(|route| criteria(route)).collect();
    let router = Router::new(&routes);
    for (request, expected) in requests {
        let hit = router.select(&Sent::parse(request).request());
        let seen = hit.map_or("-".to_owned(), |hit| format!("{}:{}", hit.route, hit.matched));
        assert_eq!(seen, *expected, "{request}");
    }
}

#[test]
fn each_criterion_selects() {
    check(
        &["a.example||", "|POST PUT|", "||/serv"],
        &[
            ("GET a.example 80 /x", "0:0"),
            ("GET A.Example 80 /x", "0:0"),
            ("GET b.example 80 /x", "-"),
            ("POST b.example 80 /x", "1:0"),
            ("post b.example 80 /x", "-"),
            ("GET b.example 80 /service", "2:5"),
            ("GET b.example 80 /ser", "-"),
            ("GET a.example. 80 /x", "-"),
            ("GET  80 /serv", "2:5"),
        ],
    );
}

#[test]
fn hosts_match_with_wildcards_and_ports() {
    check(
        &["*.example||", "shop.*||", "a.test:8080||", "*.p.test:81||", "[::1]:80||", "127.0.0.1:9700||"],
        &[
            ("GET a.example 80 /", "0:0"),
            ("GET a.b.EXAMPLE 80 /", "0:0"),
            ("GET example 80 /", "-"),
            (".GET .example 80 /", "-"),
            ("GET shop.de 80 /", "1:0"),
            ("GET shop. 80 /", "1:0"),
            ("GET shop 80 /", "-"),
            ("GET ashop.de 80 /", "-"),
            ("GET a.test 8080 /", "2:0"),
            ("GET a.test 80 /", "-"),
            ("GET x.p.test 81 /", "3:0"),
            ("GET x.p.test 82 /", "-"),
            ("GET [::1] 80 /", "4:0"),
            ("GET [::1] 81 /", "-"),
            ("GET 127.0.0.1 9700 /", "5:0"),
            ("GET 127.0.0.1 9701 /", "-"),
        ],
    );
}

#[test]
fn more_kinds_of_criteria_win() {
    check(
        &["||/a/very/long/path", "a.example||/a", "a.example|GET|/"],
        &[
            ("GET a.example 80 /a/very/long/path", "2:1"),
            ("POST a.example 80 /a/very/long/path", "1:2"),
            ("POST b.example 80 /a/very/long/path", "0:17"),
        ],
    );
}

#[test]
fn hosts_without_wildcard_win_over_wildcards_and_longer_paths() {
    check(
        &["*.example||/long/path", "a.example||/", "*.example a.example||/long"],
        &[
            ("GET a.example 80 /long/path", "1:1"),
            ("GET b.example 80 /long/path", "0:10"),
            ("GET b.example 80 /long", "2:5"),
        ],
    );
}

#[test]
fn longer_prefixes_win_also_inside_one_route() {
    check(
        &["||/a /a/b/c", "||/a/b", "||/"],
        &[("GET x 80 /a/b/c/d", "0:6"), ("GET x 80 /a/b/d", "1:4"), ("GET x 80 /a/c", "0:2"), ("GET x 80 /b", "2:1")],
    );
}

#[test]
fn the_earlier_route_wins_a_tie() {
    check(
        &["*.example a.example||/x", "*.example||/x", "a.example b.example||/x", "b.example||/x"],
        &[("GET a.example 80 /x", "2:2"), ("GET c.example 80 /x", "0:2"), ("GET b.example 80 /x", "2:2")],
    );
    // One level of each table: the exact host of the first, the wildcard of the second.
    check(&["*.example a.example||", "*.example||"], &[("GET a.example 80 /", "0:0")]);
    check(&["*.example||", "a.example *.example||"], &[("GET a.example 80 /", "0:0")]);
    check(&["|GET|", "a.example||"], &[("GET a.example 80 /", "1:0"), ("GET x 80 /", "0:0")]);
}

#[test]
fn many_routes_of_one_priority_are_found_by_hash() {
    let routes: Vec<_> = (100..400).map(|n| format!("||/r{n}")).collect();
    let mut routes: Vec<_> = routes.iter().map(String::as_str).collect();
    routes.push("|POST|/r100");
    routes.push("||/r100");
    check(
        &routes,
        &[
            ("GET x 80 /r100/y", "0:5"),
            ("GET x 80 /r399", "299:5"),
            ("POST x 80 /r100", "300:5"),
            ("GET x 80 /r40", "-"),
            ("GET x 80 /r400", "-"),
        ],
    );
}

#[test]
fn a_host_with_its_port_wins_among_equals() {
    check(
        &["a.test||", "a.test:81||", "*.b.test||", "*.b.test:81||", "c.test c.test:81||", "c.test:81||"],
        &[
            ("GET a.test 81 /", "1:0"),
            ("GET a.test 82 /", "0:0"),
            ("GET x.b.test 81 /", "3:0"),
            ("GET x.b.test 82 /", "2:0"),
            ("GET c.test 81 /", "4:0"),
        ],
    );
}

#[test]
fn regular_expressions_match_from_the_start() {
    check(
        &["||~/users/\\d+/items", "||~/a/[bc]$", "||~/files/.*\\.png", "||~(?i)/shout"],
        &[
            ("GET x 80 /users/42/items/7", "0:15"),
            ("GET x 80 /users//items", "-"),
            ("GET x 80 /x/users/42/items", "-"),
            ("GET x 80 /a/b", "1:4"),
            ("GET x 80 /a/bc", "-"),
            ("GET x 80 /files/a/b.png/c.png/", "2:20"),
            ("GET x 80 /SHOUT!", "3:6"),
        ],
    );
}

#[test]
fn a_matching_expression_wins_over_a_longer_prefix_and_its_priority_decides() {
    check(
        &["||/api/v1/users", "||~/api", "||~/api/v\\d|||5", "||~/api/v1|||-5", "|GET|/api/v1"],
        &[
            ("GET x 80 /api/v1/users", "4:7"),
            ("PUT x 80 /api/v1/users", "2:7"),
            ("PUT x 80 /api/x", "1:4"),
            ("PUT x 80 /ap", "-"),
        ],
    );
    check(&["||~/a|||-1", "||/a/long/prefix"], &[("GET x 80 /a/long/prefix", "0:2")]);
}

#[test]
fn a_route_of_prefixes_and_expressions_stands_once_for_each() {
    check(
        &["||/a ~/b/\\d ~/b", "||/a/b/c", "||~/a/x"],
        &[
            ("GET x 80 /a/b/c", "1:6"),
            ("GET x 80 /a/b", "0:2"),
            ("GET x 80 /a/x", "2:4"),
            // The first of its expressions that matches.
            ("GET x 80 /b/1", "0:4"),
            ("GET x 80 /b/x", "0:2"),
        ],
    );
}

#[test]
fn headers_must_all_be_there_with_one_of_their_values() {
    check(
        &["|||x-env=Prod,stage", "|||x-env=prod x-tier=gold", "|||x-agent=~*^curl/\\d", "|||x-id=~*é"],
        &[
            ("GET x 80 / X-Env=PROD", "0:0"),
            ("GET x 80 / x-env=stage", "0:0"),
            ("GET x 80 / x-env=stage2", "-"),
            ("GET x 80 / x-env=test x-ENV=prod", "0:0"),
            ("GET x 80 / x-env=prod x-tier=silver", "0:0"),
            ("GET x 80 / x-env=prod x-tier=silver x-tier=GOLD", "1:0"),
            ("GET x 80 / x-tier=gold", "-"),
            ("GET x 80 / x-agent=CURL/8", "2:0"),
            ("GET x 80 / x-agent=libcurl/8", "-"),
            ("GET x 80 / x-id=caf\u{e9}", "3:0"),
            ("GET x 80 /", "-"),
        ],
    );
}

#[test]
fn more_header_names_win_over_expressions_and_less_than_hosts() {
    check(
        &["||/|a=1 b=1", "||~/|a=1", "h.test||/", "|GET|/"],
        &[
            ("GET h.test 80 / a=1 b=1", "2:1"),
            ("GET x 80 / a=1 b=1", "0:1"),
            ("GET x 80 / a=1", "1:1"),
            ("GET x 80 /", "3:1"),
        ],
    );
}

#[test]
fn server_names_are_asked_of_encrypted_requests_alone() {
    check(
        &["||/a||a.test", "||/b||*.b.test", "||/c||c.*"],
        &[
            ("GET x 80 /a", "0:2"),
            ("GET x 80 /a sni=a.test", "0:2"),
            ("GET x 80 /a sni=A.TEST.", "0:2"),
            ("GET x 80 /a sni=b.test", "-"),
            ("GET x 80 /a tls", "-"),
            ("GET x 80 /b sni=x.b.test", "1:2"),
            ("GET x 80 /b sni=b.test", "-"),
            ("GET x 80 /c sni=c.de", "2:2"),
        ],
    );
    // A route that names one weighs more, also where it is not asked.
    check(&["||/a", "||/a||a.test"], &[("GET x 80 /a", "1:2"), ("GET x 80 /a sni=b.test", "0:2")]);
}

#[test]
fn many_routes_that_differ_in_a_field_are_found_by_it() {
    let routes: Vec<_> = (100..400).map(|n| format!("||/|env=a,b tenant=t{n}")).collect();
    let mut routes: Vec<_> = routes.iter().map(String::as_str).collect();
    routes.push("||/|tenant=~*^t10\\d$ env=a");
    routes.push("||/|tenant=t100,t500 env=a more=1");
    check(
        &routes,
        &[
            ("GET x 80 / env=a Tenant=T100", "0:1"),
            ("GET x 80 / tenant=t399 env=b", "299:1"),
            ("GET x 80 / tenant=t399 env=c", "-"),
            ("GET x 80 / tenant=t399", "-"),
            ("GET x 80 / tenant=t100 env=a more=1", "301:1"),
            ("GET x 80 / tenant=t500 env=a more=1", "301:1"),
            ("GET x 80 / tenant=t105 tenant=t100 env=a", "0:1"),
        ],
    );
}

#[test]
fn many_expressions_are_found_by_what_they_begin_with() {
    let routes: Vec<_> = (100..400).map(|n| format!("||~/r{n}/(?<id>\\d+)")).collect();
    let mut routes: Vec<_> = routes.iter().map(String::as_str).collect();
    routes.push("||~.*/1|||-1");
    routes.push("||/r100/1");
    check(&routes, &[("GET x 80 /r100/1", "0:7"), ("GET x 80 /r399/77", "299:8"), ("GET x 80 /r400/1", "300:7")]);
}

#[test]
fn captures_are_those_of_the_expression_that_matched() {
    let routes = [criteria("||/p ~/x/(\\d+)/(?<name>[a-z]+)(/z)? ~/y/(?P<name>.)")];
    let router = Router::new(&routes);
    let groups = |path: &str| {
        let sent = Sent::parse(&format!("GET h 80 {path}"));
        let found = router.select(&sent.request()).unwrap();
        router.captures(&found, path.as_bytes()).map(|captures| {
            let all = [0, 1, 2, 3].map(|index| captures.by_index(index)).into_iter();
            let all = all.chain([captures.by_name("name"), captures.by_name("other")]);
            all.map(|group| group.map_or("-", |group| std::str::from_utf8(group).unwrap()).to_owned())
                .collect::<Vec<_>>()
                .join(" ")
        })
    };
    assert_eq!(groups("/x/12/abc/d").as_deref(), Some("/x/12/abc 12 abc - abc -"));
    assert_eq!(groups("/x/12/abc/z").as_deref(), Some("/x/12/abc/z 12 abc /z abc -"));
    assert_eq!(groups("/y/q/r").as_deref(), Some("/y/q q - - q -"));
    assert_eq!(groups("/p/q"), None);
}

#[test]
fn an_empty_router_and_overlong_hosts_match_nothing() {
    check(&[], &[("GET a 80 /", "-")]);
    let request = format!("GET {}.example 80 /", "a".repeat(300));
    check(&["a.example||", "*.example||"], &[(&request, "1:0")]);
    check(&["a.example||"], &[(&request, "-")]);
}

#[test]
fn host_patterns_are_parsed_strictly() {
    for good in
        ["a", "a.b", "*.a", "a.*", "a:1", "*.a:65535", "a.*:80", "10.0.0.1", "[::1]", "[::1]:8", "x_y.z", "A-b.c"]
    {
        assert!(HostPattern::parse(good).is_some(), "{good}");
    }
    for bad in [
        "", "*", "*.*", "*a.b", "a.*.b", "a*", "*.", ".*", "a..b", ".a", "a.", "a:", "a:0", "a:65536", "a:x", "a:1:2",
        "a b", "a/b", "http://a", "::1", "[::1", "[x]", "-a", "é",
    ] {
        assert!(HostPattern::parse(bad).is_none(), "{bad}");
    }
}
