//! Which route wins, what path goes upstream, and what the edge answers itself.

use edge_tests::certs;
use edge_tests::edge::{Edge, Setup};
use edge_tests::upstream::{Reply, Upstream};
use edge_tests::wire::{Client, Message};
use serde_json::{Value, json};

use super::{entities, plus};

fn ask(edge: &Edge, method: &str, host: &str, target: &str) -> Message {
    edge.ask(format!(
        "{method} {target} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nAccept: application/json\r\n\r\n"
    ))
}

/// An edge whose routes put their own name into `X-Route`'s place: one service a route.
fn routes(rows: &[(&str, Value)]) -> (Edge, Upstream) {
    let upstream = Upstream::with(|request| Reply::ok(request.target()));
    let services: Vec<Value> = rows
        .iter()
        .map(|(name, route)| {
            let mut route = route.clone();
            route["name"] = (*name).into();
            json!({"name": format!("to-{name}"), "url": format!("{}/{name}", upstream.url()), "routes": [route]})
        })
        .collect();
    let text = json!({"_format_version": "3.0", "services": services}).to_string();
    (Setup::new(text).start(), upstream)
}

/// The route that answered: the service's path begins with its name.
fn route_of(answer: &Message) -> String {
    match answer.status() {
        200 => answer.text().split('/').nth(1).unwrap_or("").to_owned(),
        status => status.to_string(),
    }
}

#[test]
fn hosts_match_exactly_by_wildcard_and_by_port() {
    let (edge, _upstream) = routes(&[
        // A port adds no weight: of two equal ones the earlier wins.
        ("port", json!({"hosts": ["api.test:9000"]})),
        ("exact", json!({"hosts": ["api.test"]})),
        ("left", json!({"hosts": ["*.test"]})),
        ("right", json!({"hosts": ["api.*"]})),
    ]);
    for (host, route) in [
        ("api.test", "exact"),
        ("API.test", "exact"),
        ("www.test", "left"),
        ("a.b.test", "left"),
        ("api.example", "right"),
        ("api.test:9000", "port"),
        ("test", "404"),
        ("xapi.tes", "404"),
        ("other.example", "404"),
    ] {
        assert_eq!(route_of(&ask(&edge, "GET", host, "/")), route, "{host}");
    }
}

#[test]
fn paths_match_by_prefix_and_the_longest_wins() {
    let (edge, _upstream) = routes(&[
        ("short", json!({"paths": ["/a"]})),
        ("long", json!({"paths": ["/a/b"]})),
        ("many", json!({"paths": ["/m", "/n/o"]})),
    ]);
    for (path, route) in [
        ("/a", "short"),
        ("/ab", "short"),
        ("/a/", "short"),
        ("/a/b", "long"),
        ("/a/bc?x", "long"),
        ("/m", "many"),
        ("/n/o/p", "many"),
        ("/n", "404"),
        ("/", "404"),
        ("/A", "404"),
    ] {
        assert_eq!(route_of(&ask(&edge, "GET", "t", path)), route, "{path}");
    }
}

#[test]
fn more_criteria_beat_longer_ones() {
    // P5
    let (edge, _upstream) = routes(&[
        ("path", json!({"paths": ["/orders/very/long"]})),
        ("both", json!({"paths": ["/orders"], "hosts": ["api.test"]})),
        ("all", json!({"paths": ["/orders"], "hosts": ["api.test"], "methods": ["POST"]})),
        ("wild", json!({"paths": ["/orders"], "hosts": ["*.test"]})),
        ("method", json!({"methods": ["PATCH"]})),
    ]);
    for (method, host, path, route) in [
        ("GET", "api.test", "/orders/very/long", "both"),
        ("POST", "api.test", "/orders", "all"),
        ("GET", "www.test", "/orders/very/long", "wild"),
        ("GET", "other", "/orders/very/long", "path"),
        ("PATCH", "other", "/x", "method"),
        ("PATCH", "api.test", "/orders", "both"),
        ("DELETE", "other", "/x", "404"),
    ] {
        assert_eq!(route_of(&ask(&edge, method, host, path)), route, "{method} {host} {path}");
    }
}

#[test]
fn expressions_fields_and_priorities_decide() {
    let (edge, _upstream) = routes(&[
        ("prefix", json!({"paths": ["/users/1/very/long"]})),
        ("digits", json!({"paths": ["~/users/\\d+"]})),
        ("first", json!({"paths": ["~/users/\\d+/first"], "regex_priority": 5})),
        ("whole", json!({"paths": ["~/items/[a-z]+$"], "strip_path": false})),
        ("field", json!({"paths": ["/users"], "headers": {"X-Version": ["2", "Three"]}})),
        ("agent", json!({"paths": ["/users"], "headers": {"user-agent": ["~*^curl/[89]"]}})),
        ("both", json!({"paths": ["/users"], "headers": {"X-Version": ["2"], "X-Beta": ["yes"]}})),
    ]);
    let ask = |path: &str, fields: &[&str]| route_of(&edge.ask(edge_tests::wire::get(path, fields)));
    for (path, fields, route) in [
        ("/users/12", &[][..], "digits"),
        // A matching expression beats a longer prefix.
        ("/users/1/very/long", &[], "digits"),
        ("/users/12/first", &[], "first"),
        ("/items/abc", &[], "whole"),
        ("/items/abc/1", &[], "404"),
        ("/users/x", &["X-Version: three"], "field"),
        ("/users/x", &["X-Version: 1", "X-Version: 2"], "field"),
        ("/users/x", &["X-Version: 4"], "404"),
        ("/users/x", &["User-Agent: CURL/8.1"], "agent"),
        ("/users/x", &["User-Agent: curl/7.1"], "404"),
        ("/users/x", &["X-Version: 2", "X-Beta: yes"], "both"),
        // More kinds of criteria go before an expression.
        ("/users/12", &["X-Version: 2"], "field"),
    ] {
        assert_eq!(ask(path, fields), route, "{path} {fields:?}");
    }
    // What the expression took is cut off, like a prefix.
    let answer = edge.ask(edge_tests::wire::get("/users/12/rest?q=1", &[]));
    assert_eq!(answer.text(), "/digits/rest?q=1");
}

#[test]
fn server_names_decide_over_tls_alone() {
    let upstream = Upstream::with(|request| Reply::ok(request.target()));
    let named = |name: &str, criteria: Value| {
        let route = plus(json!({"name": name, "paths": ["/"]}), criteria);
        json!({"name": name, "url": format!("{}/{name}", upstream.url()), "routes": [route]})
    };
    let services = [
        named("exact", json!({"snis": ["edge.test"]})),
        named("wild", json!({"snis": ["local*"], "methods": ["PUT"]})),
        named("any", json!({"methods": ["GET"]})),
    ];
    // A wildcard stands for whole labels.
    let text = |services: &[Value]| json!({"_format_version": "3.0", "services": services}).to_string();
    let refused = Setup::new(text(&services)).try_start().err().expect("a wildcard inside a label").to_string();
    assert!(refused.contains("snis[0]"), "{refused}");

    let services =
        [services[0].clone(), named("wild", json!({"snis": ["*.test"], "methods": ["PUT"]})), services[2].clone()];
    let edge = Setup::new(text(&services)).clear().tls().start();
    let ask = |name: &str, method: &str| {
        let mut client = Client::tls(edge.listener(1), name, certs::client(&["http/1.1"])).expect("a handshake");
        client.send(format!("{method} /x HTTP/1.1\r\nHost: {name}\r\nContent-Length: 0\r\n\r\n"));
        route_of(&client.response_to(method))
    };
    for (name, method, route) in [
        ("edge.test", "GET", "exact"),
        ("edge.test", "PUT", "wild"),
        ("localhost", "GET", "any"),
        ("localhost", "PUT", "404"),
    ] {
        assert_eq!(ask(name, method), route, "{name} {method}");
    }
    // In clear text nobody names a server, and the criterion is not asked: the route with it is the more special one.
    let clear = edge.ask("GET /x HTTP/1.1\r\nHost: other\r\n\r\n");
    assert_eq!(route_of(&clear), "exact");
}

#[test]
fn one_normalised_path_decides_and_goes_upstream() {
    // P4
    let (edge, upstream) = routes(&[
        ("open", json!({"paths": ["/"], "strip_path": false})),
        ("admin", json!({"paths": ["/admin"], "strip_path": false})),
    ]);
    for path in [
        "/admin",
        "//admin",
        "/./admin",
        "/x/../admin",
        "/x/%2e%2e/admin",
        "/x/%2E./admin",
        "/%61dmin",
        "/%61%64min",
        "/admin/..%2fx",
        "/admin;x=y",
    ] {
        let answer = ask(&edge, "GET", "t", path);
        let route = route_of(&answer);
        assert!(matches!(route.as_str(), "admin" | "400"), "{path} went to {route}");
        if route == "admin" {
            let target = upstream.last().target().to_owned();
            assert!(target.starts_with("/admin/admin"), "{path} became {target}");
        }
    }
    for path in ["/x/..%2fadmin", "/x%2f..%2fadmin", "/%2561dmin", "/x\\..\\admin", "/a%00dmin"] {
        // Not decoded twice, no separator made of an escape: these stay what they are, or are refused.
        let answer = ask(&edge, "GET", "t", path);
        assert!(matches!(route_of(&answer).as_str(), "open" | "400"), "{path} went to {}", route_of(&answer));
        if answer.status() == 200 {
            let target = upstream.last().target().to_owned();
            assert!(!target.contains("/admin") && !target.contains("%61"), "{path} became {target}");
        }
    }
}

#[test]
fn the_upstream_path_is_service_path_and_rest() {
    let upstream = Upstream::with(|request| Reply::ok(request.target()));
    let service = |name: &str, path: &str, routes: Value| json!({"name": name, "url": format!("{}{path}", upstream.url()), "routes": routes});
    let text = json!({"_format_version": "3.0", "services": [
        service("slash", "/s/", json!([
            {"name": "s1", "paths": ["/strip"]}, {"name": "s2", "paths": ["/keep"], "strip_path": false},
        ])),
        service("bare", "/b", json!([
            {"name": "b1", "paths": ["/bstrip"]}, {"name": "b2", "paths": ["/bkeep"], "strip_path": false},
        ])),
        service("none", "", json!([
            {"name": "n1", "paths": ["/nstrip"]}, {"name": "n2", "paths": ["/nkeep"], "strip_path": false},
        ])),
    ]});
    let edge = Setup::new(text.to_string()).start();
    for (path, expected) in [
        ("/strip", "/s"),
        ("/strip/", "/s/"),
        ("/strip/req", "/s/req"),
        ("/stripreq", "/s/req"),
        ("/keep/req", "/s/keep/req"),
        ("/bstrip", "/b"),
        ("/bstrip/", "/b/"),
        ("/bstrip/req?x=1&y", "/b/req?x=1&y"),
        ("/bstripreq", "/b/req"),
        ("/bkeep", "/b/bkeep"),
        ("/nstrip", "/"),
        ("/nstrip/req", "/req"),
        ("/nkeep/req", "/nkeep/req"),
    ] {
        assert_eq!(ask(&edge, "GET", "t", path).text(), expected, "{path}");
    }
    assert_eq!(upstream.requests()[2].field("x-forwarded-prefix"), Some("/strip"));
    assert_eq!(upstream.requests()[2].field("x-forwarded-path"), Some("/strip/req"));
}

#[test]
fn the_host_is_the_services_unless_preserved() {
    let upstream = Upstream::start();
    let routes = json!([
        {"name": "own", "paths": ["/own"]},
        {"name": "kept", "paths": ["/kept"], "preserve_host": true},
    ]);
    let edge = Setup::new(entities(&upstream.url(), routes)).start();
    ask(&edge, "GET", "client.test:81", "/own");
    assert_eq!(upstream.last().field("host"), Some(upstream.address().to_string().as_str()));
    ask(&edge, "GET", "client.test:81", "/kept");
    assert_eq!(upstream.last().field("host"), Some("client.test:81"));
}

#[test]
fn the_edges_own_answers_are_kongs() {
    let upstream = Upstream::start();
    let text = json!({"_format_version": "3.0",
        "services": [{"name": "up", "url": upstream.url(), "routes": [
            {"name": "secure", "paths": ["/secure"], "protocols": ["https"]},
            {"name": "moved", "paths": ["/moved"], "protocols": ["https"], "https_redirect_status_code": 301},
            {"name": "moved308", "paths": ["/308"], "protocols": ["https"], "https_redirect_status_code": 308},
        ]}, {"name": "off", "url": upstream.url(), "enabled": false, "routes": [{"name": "off", "paths": ["/off"]}]}],
        "routes": [{"name": "lonely", "paths": ["/lonely"]}],
    });
    let edge = Setup::new(text.to_string()).start();

    let answer = ask(&edge, "GET", "t", "/nothing");
    assert_eq!((answer.status(), answer.field("content-type")), (404, Some("application/json; charset=utf-8")));
    let id = answer.field("x-kong-request-id").unwrap();
    assert_eq!(answer.json(), json!({"message": "no Route matched with those values", "request_id": id}));
    assert_eq!(answer.text().trim_end().lines().count(), 4, "{:?}", answer.text());
    assert_eq!(edge.reason_of(&answer), "route_not_found");
    assert_eq!(ask(&edge, "GET", "t", "/off").status(), 404);

    let answer = ask(&edge, "GET", "t", "/secure");
    assert_eq!((answer.status(), answer.json()["message"].as_str()), (426, Some("Please use HTTPS protocol")));
    assert_eq!(answer.field("upgrade"), Some("TLS/1.2, HTTP/1.1"));
    assert!(answer.field("connection").unwrap().to_lowercase().contains("upgrade"));
    assert_eq!(edge.reason_of(&answer), "https_required");

    for (path, status) in [("/moved?a=b", 301), ("/308?a=b", 308)] {
        let answer = ask(&edge, "GET", "api.test", path);
        assert_eq!(answer.status(), status);
        assert_eq!(answer.field("location"), Some(format!("https://api.test{path}").as_str()));
    }

    let answer = ask(&edge, "GET", "t", "/lonely");
    assert_eq!((answer.status(), answer.json()["message"].as_str()), (503, Some("no Service found with those values")));
    assert_eq!(edge.reason_of(&answer), "service_not_found");
    assert!(upstream.requests().is_empty());
}

#[test]
fn an_error_speaks_the_clients_type() {
    let upstream = Upstream::start();
    let edge = Setup::new(entities(&upstream.url(), json!([{"name": "a", "paths": ["/a"]}]))).start();
    for (accept, kind) in [
        ("", "application/json; charset=utf-8"),
        ("Accept: */*\r\n", "application/json; charset=utf-8"),
        ("Accept: text/html\r\n", "text/html; charset=utf-8"),
        ("Accept: text/plain\r\n", "text/plain; charset=utf-8"),
        ("Accept: application/xml\r\n", "application/xml; charset=utf-8"),
    ] {
        let answer = edge.ask(format!("GET / HTTP/1.1\r\nHost: t\r\n{accept}\r\n"));
        assert_eq!((answer.status(), answer.field("content-type")), (404, Some(kind)), "{accept}");
        assert!(answer.text().contains("no Route matched with those values"), "{}", answer.text());
    }
    let mut client = edge.connect();
    client.send("HEAD / HTTP/1.1\r\nHost: t\r\n\r\n");
    assert_eq!(client.response_to("HEAD").status(), 404);
    assert_eq!(client.ask("GET /a HTTP/1.1\r\nHost: t\r\n\r\n").status(), 200);
}
