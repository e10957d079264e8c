use edge_tests::certs;
use edge_tests::edge::Setup;
use edge_tests::issuer::Issuer;
use edge_tests::mint::{self, Key};
use edge_tests::upstream::{Reply, Upstream};
use edge_tests::wire::{Client, get};
use serde_json::{Value, json};

use super::super::{AUDIENCE, bearer, plus};
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
        let section = "[proxy]\ntrusted_ips = [\"127.0.0.1/32\"]\nreal_ip_header = \"X-Forwarded-For\"";
        let trusting = Setup::new(entities.to_string()).section(section).start();
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
    let config = certs::client(&["http/1.1"]);
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

/// S4, P1: the certificate of the connection is told in every style, and no client tells of one, in any spelling.
#[test]
fn certificates_are_told_by_the_edge_alone() {
    let upstream = Upstream::start();
    let entities = behind(
        &upstream,
        profile(json!({"request": {"client_certificate": {
            "xfcc": ["hash", "subject"], "rfc9440": true, "pem_header": "X-SSL-Client-Cert",
            "subject_header": "X-SSL-Subject", "serial_header": "X-SSL-Serial", "fingerprint_header": "X-SSL-Fingerprint",
        }, "headers": [{"action": "insert", "name": "X-Verified", "value": "yes", "owned": true,
            "when": {"client_cert": true}}]}})),
    );
    let edge = Setup::new(entities.to_string())
        .file("clients.pem", certs::root())
        .tls_with("client_certificate = \"request\"\nclient_ca = \"clients.pem\"")
        .start();
    let forged = [
        "X-Forwarded-Client-Cert: forged",
        "x_forwarded_client_cert: forged",
        "Client-Cert: :forged:",
        "Client_Cert_Chain: forged",
        "X-SSL-Client-Cert: forged",
        "x.ssl.subject: forged",
        "X_SSL_Serial: forged",
        "X-SSL-Fingerprint: forged",
        "X-Verified: forged",
        "x_verified: forged",
    ];
    let ask = |client: &std::sync::Arc<rustls::ClientConfig>| {
        let mut client = Client::tls(edge.listener(0), "edge.test", client.clone()).expect("a handshake");
        assert_eq!(client.ask(get("/", &forged)).status(), 200);
        let seen = upstream.last();
        assert!(!String::from_utf8_lossy(&seen.raw).contains("forged"), "{seen:?}");
        seen
    };
    let pair = certs::client_pair("ann \"a\", x");
    let showing = certs::client_showing(&pair, rustls::DEFAULT_VERSIONS);
    let der = pair.der();
    let fingerprint: String =
        ring::digest::digest(&ring::digest::SHA256, &der).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let base64 = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &der);
    // The second connection resumes the session of the first.
    for _ in 0..2 {
        let seen = ask(&showing);
        let subject = r#"CN=ann \"a\"\, x"#;
        let quoted = subject.replace('\\', r"\\").replace('"', "\\\"");
        for (name, expected) in [
            ("x-forwarded-client-cert", format!("Hash={fingerprint};Subject=\"{quoted}\"")),
            ("client-cert", format!(":{base64}:")),
            ("x-ssl-subject", subject.to_owned()),
            ("x-ssl-fingerprint", fingerprint.clone()),
            ("x-verified", "yes".to_owned()),
        ] {
            assert_eq!(seen.all(name), [expected], "{name}");
        }
        let pem = seen.field("x-ssl-client-cert").expect("the certificate").replace("%0A", "\n").replace("%20", " ");
        let pem = pem.replace("%2B", "+").replace("%2F", "/").replace("%3D", "=");
        assert_eq!(pem.split_whitespace().collect::<String>(), pair.certificate.split_whitespace().collect::<String>());
        assert!(seen.field("x-ssl-serial").is_some_and(|serial| serial.bytes().all(|byte| byte.is_ascii_hexdigit())));
    }
    let seen = ask(&certs::client(&[]));
    for name in ["x-forwarded-client-cert", "client-cert", "x-ssl-client-cert", "x-ssl-subject", "x-verified"] {
        assert_eq!(seen.field(name), None, "{name}");
    }
}

#[test]
fn hosts_and_redirects_are_rewritten() {
    let upstream = Upstream::with(|request| {
        let location = match request.target() {
            "/node" => format!("http://{}/next?a", request.field("host").expect("a host")),
            "/own" => "http://edge.test/own".into(),
            target => format!("http://other.example{target}"),
        };
        Reply::new("302 Found", &format!("Location: {location}\r\n"), "")
    });
    let location = |mode: &str, config: Value| {
        let response = json!({"response": {"location": mode}});
        let edge = Setup::new(behind(&upstream, profile(plus(response, config))).to_string()).tls().start();
        let client = certs::client(&["http/1.1"]);
        let mut client = Client::tls(edge.listener(0), "edge.test", client).expect("a handshake");
        ["/node", "/own", "/x"].map(|target| {
            let answer = client.ask(format!("GET {target} HTTP/1.1\r\nHost: edge.test\r\n\r\n"));
            answer.field("location").map(str::to_owned).expect("a location")
        })
    };
    let node = upstream.address();
    let (clear, own, other) =
        (format!("http://{node}/next?a"), "http://edge.test/own".to_owned(), "http://other.example/x".to_owned());
    let secure = |url: &str| url.replace("http://", "https://");
    assert_eq!(location("none", json!({})), [clear.clone(), own.clone(), other.clone()]);
    assert_eq!(location("all", json!({})), [secure(&clear), secure(&own), secure(&other)]);
    assert_eq!(location("matching", json!({})), [clear.clone(), secure(&own), other.clone()]);
    let named = "https://edge.test/next?a".to_owned();
    assert_eq!(location("nodes", json!({})), [named.clone(), own.clone(), other.clone()]);
    let host = json!({"request": {"host": "inner.example:81"}});
    assert_eq!(location("nodes", host), [named, own, other]);
    assert_eq!(upstream.last().field("host"), Some("inner.example:81"));
}

/// L1: browsers keep what they cannot read, and the upstream sees what it set.
#[test]
fn cookies_are_hardened_and_sealed() {
    let upstream = Upstream::with(|_| {
        Reply::new("200 OK", "Set-Cookie: sid=secret; Path=/\r\nSet-Cookie: lang=en\r\nSet-Cookie: raw=1\r\n", "")
    });
    let cookies = json!([
        {"name": "sid", "encrypt": true, "secure": true, "http_only": true, "same_site": "lax"},
        {"name": "lang*", "secure": true},
    ]);
    let entities = behind(&upstream, profile(json!({"response": {"cookies": cookies}}))).to_string();
    let refused = Setup::new(entities.clone()).try_start().err().map(|error| format!("{error:#}")).unwrap_or_default();
    assert!(refused.contains("[secrets] key_file"), "{refused}");
    let start = |digit: &str| {
        let setup = Setup::new(entities.clone()).section("[secrets]\nkey_file = \"node.key\"");
        setup.file("node.key", digit.repeat(64)).start()
    };
    let (edge, twin, stranger) = (start("1"), start("1"), start("2"));
    let answer = edge.ask(get("/", &[]));
    let set = answer.all("set-cookie");
    assert_eq!(&set[1..], ["lang=en; Secure", "raw=1"]);
    let sealed = set[0].strip_suffix("; Path=/; SameSite=Lax; Secure; HttpOnly").expect("its attributes");
    assert!(!answer.raw.windows(6).any(|window| window == b"secret"));
    let cookie = format!("Cookie: a=b; {sealed}; raw=1");
    for (edge, expected) in
        [(&edge, "a=b; sid=secret; raw=1"), (&twin, "a=b; sid=secret; raw=1"), (&stranger, "a=b; raw=1")]
    {
        assert_eq!(edge.ask(get("/", &[&cookie])).status(), 200);
        assert_eq!(upstream.last().all("cookie"), [expected]);
    }
    assert_eq!(edge.ask(get("/", &["Cookie: sid=secret"])).status(), 200);
    assert_eq!(upstream.last().field("cookie"), None);
}

/// P7: what stands in for an upstream that fails, or whose status is not for clients.
#[test]
fn failures_have_a_page_or_lead_elsewhere() {
    let upstream = Upstream::with(|request| match request.target() {
        "/500" => Reply::new("500 Internal Server Error", "X-Trace: at line 7\r\n", "stack trace"),
        "/502" => Reply::new("502 Bad Gateway", "", "theirs"),
        "/reset" => Reply::nothing().reset(),
        _ => Reply::ok("fine"),
    });
    let page = json!({"statuses": [500], "page": {"status": 503, "content_type": "text/plain", "body": "sorry"}});
    let edge = with_plugins(&upstream, profile(json!({"response": {"fallback": page}})));
    let mut client = edge.connect();
    for (target, status, body, reason) in [
        ("/500", 503, "sorry", Some("fallback_answered")),
        ("/502", 502, "theirs", None),
        ("/reset", 503, "sorry", Some("upstream_reset")),
        ("/", 200, "fine", None),
    ] {
        let answer = client.ask(format!("POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"));
        assert_eq!(
            (answer.status(), answer.text().as_str(), answer.field("x-trace")),
            (status, body, None),
            "{target}"
        );
        let line = edge.access(|line| line["path"] == target);
        assert_eq!(line["reason"].as_str(), reason, "{target}: {line}");
    }
    let elsewhere = json!({"redirect": "https://sorry.example/"});
    let edge = with_plugins(&upstream, profile(json!({"response": {"fallback": elsewhere}})));
    let answer = edge.ask(get("/reset", &[]));
    assert_eq!((answer.status(), answer.field("location")), (302, Some("https://sorry.example/")));
    assert_eq!(edge.ask(get("/500", &[])).status(), 500);
}

#[test]
fn upstreams_get_names_as_they_want_them() {
    let upstream = Upstream::start();
    let request = "POST /A:b HTTP/1.1\r\nhoST: A.example\r\nX-oDD-name: Some:Value\r\ncontent-LENGTH: 1\r\n\r\nX";
    for (case, expected) in [
        ("preserve", ["hoST", "X-oDD-name", "content-LENGTH", "X-Real-IP"]),
        ("title", ["Host", "X-Odd-Name", "Content-Length", "X-Real-Ip"]),
        ("lower", ["host", "x-odd-name", "content-length", "x-real-ip"]),
    ] {
        let edge = with_plugins(&upstream, profile(json!({"upstream": {"header_case": case}})));
        assert_eq!(edge.ask(request).status(), 200);
        let seen = upstream.last();
        let names: Vec<&str> = seen.fields.iter().map(|(name, _)| name.as_str()).collect();
        assert!(expected.iter().all(|name| names.contains(name)), "{case}: {names:?}");
        assert_eq!((seen.target(), seen.text().as_str(), seen.field("x-odd-name")), ("/A:b", "X", Some("Some:Value")));
    }
}

/// H19: who shares connections to the upstream with nobody never meets another's.
#[test]
fn connections_are_shared_as_configured() {
    let key = Key::es256("es-1");
    let issuer = Issuer::start(&[&key]);
    let served = |reuse: &str| {
        let upstream = Upstream::start();
        let oidc = plus(bearer(&issuer.url()), json!({"consumer_claim": ["sub"]}));
        let plugins =
            json!([plugin("openid-connect", oidc), plugin("http-profile", json!({"upstream": {"reuse": reuse}}))]);
        let consumers = json!({"consumers": [{"username": "ann"}, {"username": "bob"}]});
        let edge = Setup::new(plus(behind(&upstream, plugins), consumers).to_string()).workers(1).start();
        let tokens = ["ann", "bob"].map(|subject| {
            let claims = mint::claims(&issuer.url(), AUDIENCE);
            key.token(&mint::with(claims, json!({"sub": subject})))
        });
        // Two connections, over each of which ann asks twice and bob once.
        for mut client in [edge.connect(), edge.connect()] {
            for token in [&tokens[0], &tokens[1], &tokens[0]] {
                let request = format!("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n");
                assert_eq!(client.ask(request).status(), 200);
            }
        }
        upstream.per_connection()
    };
    for (reuse, expected) in [("shared", &[6][..]), ("per_consumer", &[4, 2]), ("per_connection", &[3, 3])] {
        assert_eq!(served(reuse), expected, "{reuse}");
    }
}
