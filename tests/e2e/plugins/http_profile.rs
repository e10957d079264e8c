use edge_tests::edge::Setup;
use edge_tests::issuer::Issuer;
use edge_tests::mint::{self, Key};
use edge_tests::upstream::{Reply, Upstream};
use edge_tests::wire::{Client, get};
use serde_json::{Value, json};

use super::super::{AUDIENCE, bearer};
use super::{Known, behind, plugin, with_plugins};

fn profile(config: Value) -> Value {
    json!([plugin("http-profile", config)])
}

#[test]
fn ten_rules_change_what_goes_up_and_what_comes_back() {
    let upstream = Upstream::with(|_| {
        Reply::new("200 OK", "Server: up/1.2\r\nX-Powered-By: php\r\nX-Debug: a\r\nVia: 1.1 behind\r\n", "ok")
    });
    let edge = with_plugins(
        &upstream,
        profile(json!({
            "request": {
                "headers": [
                    {"action": "insert", "name": "X-Client-IP", "value": "$(client.address)"},
                    {"action": "replace", "name": "X-Scheme", "value": "$(request.scheme)"},
                    {"action": "erase", "name": "X-Internal"},
                    {"action": "rename", "name": "X-Old", "to": "X-New"},
                    {"action": "append", "name": "X-Trail", "value": "edge"},
                    {"action": "erase", "name": "X-Debug", "when": {"path": ["/public"]}},
                    {"action": "insert", "name": "X-Bot", "value": "yes",
                        "when": {"header": {"name": "User-Agent", "matches": "bot"}}},
                    {"action": "insert", "name": "X-Write", "value": "yes", "when": {"not": {"method": ["GET", "HEAD"]}}},
                ],
                "xforwarded_for": "insert", "via": "append", "via_host_name": "edge.example",
            },
            "response": {
                "headers": [
                    {"action": "erase", "name": "X-Powered-By"},
                    {"action": "insert", "name": "X-Served", "value": "$(request.host)", "when": {"status": [200]}},
                ],
                "server": "front", "via": "remove",
            },
        })),
    );
    let fields = [
        "X-Internal: 1",
        "x_internal: 2",
        "X-Scheme: forged",
        "x-old: a",
        "X-Trail: client",
        "X-Debug: 1",
        "User-Agent: GoogleBot/2",
        "Host: api.example:8080",
    ];
    let fields: Vec<String> = fields.iter().map(|field| (*field).to_owned()).collect();
    let request = format!("POST /public/x HTTP/1.1\r\n{}\r\nContent-Length: 0\r\n\r\n", fields.join("\r\n"));
    let answer = edge.ask(request);
    assert_eq!((answer.status(), answer.text().as_str()), (200, "ok"));
    let seen = upstream.last();
    for (name, expected) in [
        ("x-client-ip", Some("127.0.0.1")),
        ("x-scheme", Some("http")),
        ("x-internal", None),
        ("x_internal", None),
        ("x-old", None),
        ("x-new", Some("a")),
        ("x-trail", Some("client, edge")),
        ("x-debug", None),
        ("x-bot", Some("yes")),
        ("x-write", Some("yes")),
        ("via", Some("1.1 edge.example")),
        ("x-forwarded-for", Some("127.0.0.1")),
    ] {
        assert_eq!(seen.field(name), expected, "{name}");
    }
    for (name, expected) in
        [("server", Some("front")), ("via", None), ("x-powered-by", None), ("x-served", Some("api.example"))]
    {
        assert_eq!(answer.field(name), expected, "{name}");
    }
    // The other side of each condition.
    assert_eq!(edge.ask(get("/private", &["X-Debug: 1"])).status(), 200);
    let seen = upstream.last();
    assert_eq!((seen.field("x-debug"), seen.field("x-bot"), seen.field("x-write")), (Some("1"), None, None));
    assert_eq!(upstream.faults(), Vec::<String>::new());
}

#[test]
fn the_edges_own_answers_are_masked_too() {
    // P7
    let upstream = Upstream::start();
    let config = json!({"response": {"server": "remove", "headers": [
        {"action": "erase", "name": "X-Kong-Response-Latency"},
        {"action": "insert", "name": "X-Said", "value": "no", "when": {"status": [413]}},
    ]}});
    let plugins = json!([
        plugin("http-profile", config),
        plugin("request-size-limiting", json!({"allowed_payload_size": 1, "size_unit": "bytes"})),
    ]);
    let edge = with_plugins(&upstream, plugins);
    let answer = edge.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab");
    assert_eq!((answer.status(), answer.field("x-said")), (413, Some("no")));
    assert_eq!((answer.field("server"), answer.field("x-kong-response-latency")), (None, None));
}

/// S0.11: the F5 stripped `Authorization`; the profile that takes its place keeps it, whatever is sanitized, and a request
/// without a credential gets its 401.
#[test]
fn sanitizing_keeps_the_credential() {
    let (upstream, key) = (Upstream::start(), Key::es256("es-1"));
    let issuer = Issuer::start(&[&key]);
    let config =
        json!({"request": {"allow": ["Accept", "X-Wanted"], "headers": [{"action": "erase", "name": "X-Author"}]}});
    let plugins = json!([plugin("openid-connect", bearer(&issuer.url())), plugin("http-profile", config)]);
    let edge = Setup::new(behind(&upstream, plugins).to_string()).start();
    let token = key.token(&mint::claims(&issuer.url(), AUDIENCE));
    let credential = format!("Authorization: Bearer {token}");
    let body = "1\r\na\r\n0\r\nX-Wanted: t\r\nX-Other: t\r\n\r\n";
    let request = format!(
        "POST / HTTP/1.1\r\nHost: a\r\n{credential}\r\nX-Wanted: 1\r\nX-Other: 2\r\nCookie: a=b\r\nX_Wanted: 3\r\n\
         Content-Type: text/plain\r\nTransfer-Encoding: chunked\r\nTrailer: X-Wanted\r\n\r\n{body}"
    );
    assert_eq!(edge.ask(request).status(), 200);
    let seen = upstream.last();
    assert_eq!(seen.all("authorization"), [format!("Bearer {token}")]);
    assert_eq!(
        (seen.field("x-wanted"), seen.field("content-type"), seen.text().as_str()),
        (Some("1"), Some("text/plain"), "a")
    );
    for name in ["x-other", "x_wanted", "cookie"] {
        assert_eq!(seen.field(name), None, "{name}");
    }
    assert_eq!(seen.trailers, [("X-Wanted".to_owned(), "t".to_owned())]);
    for required in ["x-forwarded-for", "x-kong-request-id", "via"] {
        assert!(seen.field(required).is_some(), "{required}");
    }
    let refused = edge.ask(get("/", &["X-Wanted: 1"]));
    assert_eq!(refused.status(), 401);
    assert!(refused.field("www-authenticate").is_some_and(|challenge| challenge.starts_with("Bearer")));
}

/// P3: what is told of the way, by the four ways to tell it, with and without a proxy in front that is trusted.
#[test]
fn the_way_is_told_as_configured() {
    for (mode, alone, behind_one) in [
        ("append", &["127.0.0.1"][..], &["192.0.2.1, 127.0.0.1"][..]),
        ("insert", &["127.0.0.1"], &["192.0.2.1", "127.0.0.1"]),
        ("replace", &["127.0.0.1"], &["192.0.2.1"]),
        ("off", &[], &["192.0.2.1"]),
    ] {
        let upstream = Upstream::start();
        let entities = behind(&upstream, profile(json!({"request": {"xforwarded_for": mode}})));
        let open = Setup::new(entities.to_string()).start();
        let trusting = Setup::new(entities.to_string()).section("[proxy]\ntrusted_ips = [\"127.0.0.1/32\"]").start();
        for (edge, expected) in [(&open, alone), (&trusting, behind_one)] {
            assert_eq!(edge.ask(get("/", &["X-Forwarded-For: 192.0.2.1"])).status(), 200);
            assert_eq!(upstream.last().all("x-forwarded-for"), expected, "{mode}");
        }
    }
}

#[test]
fn hsts_is_for_tls_alone() {
    let upstream = Upstream::start();
    let entities = behind(&upstream, profile(json!({"response": {"hsts": {}}})));
    let edge = Setup::new(entities.to_string()).clear().tls().start();
    let field = "strict-transport-security";
    assert_eq!(Client::connect(edge.listener(0)).ask(get("/", &[])).field(field), None);
    let config = edge_tests::certs::client(&["http/1.1"]);
    let mut secure = Client::tls(edge.listener(1), "localhost", config).expect("a handshake");
    assert_eq!(secure.ask(get("/", &[])).field(field), Some("max-age=16070400; includeSubDomains"));
}

/// D3: each refusal has its reason, and none is a 5xx.
#[test]
fn heads_over_the_limits_are_refused_with_a_reason() {
    let upstream = Upstream::start();
    let config = json!({"request": {"limits": {"fields": 4, "field_bytes": 40, "head_bytes": 150}}});
    let edge = with_plugins(&upstream, profile(config));
    let long = format!("X-Long: {}", "a".repeat(40));
    let lines = ["A", "B", "C", "D"].map(|name| format!("{name}: 1"));
    let many: Vec<&str> = lines.iter().map(String::as_str).collect();
    for (target, fields) in [("/long", &[long.as_str()][..]), ("/many", &many)] {
        assert_eq!(edge.ask(get(target, fields)).status(), 431, "{target}");
        let line = edge.access(|line| line["path"] == target);
        assert_eq!(line["reason"], "head_too_large", "{target}");
    }
    assert_eq!(edge.ask(get(&format!("/{}", "x".repeat(150)), &[])).status(), 431);
    assert_eq!(edge.ask(get("/", &["A: 1"])).status(), 200);
    assert_eq!(upstream.requests().len(), 1);
}

/// X5: the consumer's own instance takes the route's place. P1: what a rule says of the consumer no client can say, in
/// no spelling, also where no rule runs.
#[test]
fn consumers_have_their_own_and_nobody_forges_what_it_says() {
    let of = |value: &str| {
        json!({"request": {"headers": [
            {"action": "replace", "name": "X-User", "value": "$(consumer.username)"},
            {"action": "insert", "name": "X-For", "value": value},
        ]}})
    };
    let scoped = json!([{"name": "http-profile", "consumer": "ann", "config": of("ann")}]);
    let known = Known::start(json!({"consumer_claim": ["sub"]}), &[plugin("http-profile", of("everyone"))], scoped);
    for (subject, expected) in [("ann", "ann"), ("bob", "everyone")] {
        assert_eq!(known.ask(subject, json!({})).status(), 200);
        let seen = known.upstream.last();
        assert_eq!((seen.field("x-for"), seen.field("x-user")), (Some(expected), Some(subject)));
    }
    let upstream = Upstream::start();
    let routes: Value = [("ruled", profile(of("x"))), ("open", json!([]))]
        .into_iter()
        .map(|(name, plugins)| json!({"name": name, "paths": [format!("/{name}")], "plugins": plugins}))
        .collect();
    let entities =
        json!({"_format_version": "3.0", "services": [{"name": "up", "url": upstream.url(), "routes": routes}]});
    let edge = Setup::new(entities.to_string()).start();
    for path in ["/ruled", "/open"] {
        assert_eq!(edge.ask(get(path, &["X-User: forged", "x_user: forged", "X.USER: forged"])).status(), 200);
        assert!(!String::from_utf8_lossy(&upstream.last().raw).contains("forged"), "{path}");
    }
}
