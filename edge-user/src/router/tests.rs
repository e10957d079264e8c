use super::*;

/// `hosts | methods | paths`, each separated by spaces.
fn criteria(text: &str) -> Criteria {
    let mut parts = text.split('|').map(|part| part.split_whitespace().collect::<Vec<_>>());
    let mut next = || parts.next().unwrap_or_default();
    Criteria {
        hosts: next().into_iter().map(|host| HostPattern::parse(host).unwrap()).collect(),
        methods: next().into_iter().map(Into::into).collect(),
        paths: next().into_iter().map(|path| PathPattern::Prefix(path.into())).collect(),
        ..Criteria::default()
    }
}

/// `method host port path` → `route:matched`, or `-`.
fn check(routes: &[&str], requests: &[(&str, &str)]) {
    let routes: Vec<_> = routes.iter().map(|route| criteria(route)).collect();
    let router = Router::new(&routes);
    for (request, expected) in requests {
        let parts: Vec<_> = request.split(' ').collect();
        let hit =
            router.select(parts[0].as_bytes(), parts[1].as_bytes(), parts[2].parse().unwrap(), parts[3].as_bytes());
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
