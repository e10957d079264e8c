//! The edge between programs that know nothing of it: curl, nginx, httpbin, a certified issuer; and that the others
//! work that tests elsewhere talk to.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use edge_tests::certs;
use edge_tests::edge::Setup;
use edge_tests::issuer::Issuer;
use edge_tests::mint::{self, Key, flip};
use edge_tests::parties::grpc::{self, Grpc};
use edge_tests::parties::redis::Redis;
use edge_tests::parties::websocket::{self, WebSocket};
use edge_tests::parties::{Httpbin, Nginx, OidcProvider, curl, curl_status};
use edge_tests::upstream::Upstream;
use serde_json::{Value, json};

use super::{AUDIENCE, bearer, guarded, open, plus};

fn issued(issuer: &OidcProvider) -> Value {
    json!({"issuer": issuer.url(), "auth_methods": ["bearer"], "audience_required": [OidcProvider::AUDIENCE],
        "scopes_required": ["orders:read"]})
}

#[test]
fn curl_and_httpbin_see_one_another() {
    let httpbin = Httpbin::start();
    let edge = Setup::new(open(&httpbin.url())).clear().tls().file("root.crt", certs::root()).start();
    let url = format!("http://{}", edge.listener(0));
    let (text, ok) = curl(&[&format!("{url}/anything/a?x=1&x=2&show_env=1"), "-H", "X-Test: yes", "-d", "k=v"]);
    assert!(ok, "{text}");
    let seen: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(seen["method"], "POST");
    assert_eq!(seen["args"]["x"], json!(["1", "2"]));
    assert_eq!(seen["form"]["k"], "v");
    assert_eq!(seen["headers"]["X-Test"], "yes");
    assert!(seen["headers"]["Via"].is_string());

    for status in [200, 204, 304, 404, 418, 500, 503] {
        assert_eq!(curl_status(&[&format!("{url}/status/{status}")]).0, status);
    }
    let (text, ok) = curl(&["--compressed", &format!("{url}/gzip")]);
    assert!(ok && text.contains("\"gzipped\": true"), "{text}");
    let (text, ok) = curl(&[&format!("{url}/stream/5")]);
    assert!(ok && text.lines().count() == 5, "{text}");
    let (text, ok) = curl(&["-T", "-", "-X", "PUT", "-H", "Transfer-Encoding: chunked", &format!("{url}/put")]);
    assert!(ok, "{text}");
    let (head, ok) = curl(&["-I", &format!("{url}/bytes/100")]);
    assert!(ok && head.to_lowercase().contains("content-length: 100"), "{head}");

    let secure = format!("https://localhost:{}/get", edge.listener(1).port());
    let root = edge.path("root.crt");
    let root = root.to_str().unwrap();
    for version in ["--http1.1", "--http2"] {
        let (status, body) = curl_status(&[version, "--cacert", root, &secure]);
        assert_eq!(status, 200, "{version}: {body}");
    }
    let (status, _) = curl_status(&["--http2-prior-knowledge", &format!("{url}/get")]);
    assert_eq!(status, 200);
}

#[test]
fn nginx_serves_files_and_ranges() {
    let body = "0123456789".repeat(10_000);
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file.txt"), &body).unwrap();
    // nginx serves as nobody where it was started as root.
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let nginx = Nginx::start(&format!("root {}; keepalive_requests 3;", dir.path().display()));
    let edge = Setup::new(open(&nginx.url())).start();
    let url = format!("http://{}/file.txt", edge.address());
    for _ in 0..10 {
        let (status, text) = curl_status(&[&url]);
        assert!(status == 200 && text == body);
    }
    let (text, ok) = curl(&["-r", "5-14", &url]);
    assert!(ok && text == "5678901234", "{text}");
    let (head, _) = curl(&["-I", &url]);
    let modified = head.lines().find(|line| line.to_lowercase().starts_with("last-modified:")).unwrap();
    let (_, date) = modified.split_once(": ").unwrap();
    assert_eq!(curl_status(&["-H", &format!("If-Modified-Since: {}", date.trim()), &url]).0, 304);
    assert_eq!(curl_status(&[&format!("http://{}/none", edge.address())]).0, 404);
}

#[test]
fn a_certified_issuers_tokens_pass_in_every_algorithm() {
    let (issuer, httpbin) = (OidcProvider::start(), Httpbin::start());
    let edge = Setup::new(guarded(&httpbin.url(), issued(&issuer))).start();
    let url = format!("http://{}/anything", edge.address());
    for algorithm in ["RS256", "PS256", "ES256", "EdDSA"] {
        let token = issuer.token(algorithm);
        assert_eq!(mint::open(&token).0["alg"], algorithm);
        let (status, body) = curl_status(&["-H", &format!("Authorization: Bearer {token}"), &url]);
        assert_eq!(status, 200, "{algorithm}: {body}\n{}", edge.errors().text());
        assert!(body.contains(&token), "the upstream gets the token");
        let (status, _) = curl_status(&["-H", &format!("Authorization: Bearer {}", flip(&token)), &url]);
        assert_eq!(status, 401, "{algorithm}");
    }
    assert_eq!(curl_status(&[&url]).0, 401);
}

#[test]
fn a_certified_issuer_rotates_in_mid_traffic() {
    // K4: no valid request is refused at any moment.
    let (issuer, nginx) = (OidcProvider::start(), Nginx::start("location / { return 200 ok; }"));
    let config = plus(issued(&issuer), json!({"rediscovery_lifetime": 1}));
    let edge = Setup::new(guarded(&nginx.url(), config)).start();
    let (stop, sent, wrong) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for algorithm in ["RS256", "PS256", "ES256", "EdDSA"] {
            let (issuer, edge, stop, sent, wrong) = (&issuer, &edge, &stop, &sent, &wrong);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let token = issuer.token(algorithm);
                    for _ in 0..5 {
                        let answer = edge.ask(super::with_token(&token));
                        sent.fetch_add(1, Ordering::Relaxed);
                        if answer.status() != 200 {
                            wrong.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
        // Two are within the burst of fetches that K3 allows, however quickly they follow each other.
        for _ in 0..2 {
            let mark = sent.load(Ordering::Relaxed);
            while sent.load(Ordering::Relaxed) < mark + 40 {
                std::thread::sleep(Duration::from_millis(10));
            }
            issuer.rotate();
        }
        let mark = sent.load(Ordering::Relaxed);
        while sent.load(Ordering::Relaxed) < mark + 80 {
            std::thread::sleep(Duration::from_millis(10));
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(wrong.load(Ordering::Relaxed), 0, "of {}:\n{}", sent.load(Ordering::Relaxed), edge.errors().text());
}

#[test]
fn a_certified_issuer_without_an_edge() {
    let issuer = OidcProvider::start();
    let (id, secret) = OidcProvider::POST;
    let endpoint = format!("{}/token/introspection", issuer.url());
    let introspect = |url: &str, token: &str, more: &[&str]| -> Value {
        let token = format!("token={token}");
        let (text, _) = curl(&[&[url, "-d", token.as_str()], more].concat());
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
    };
    let post = ["-d", &format!("client_id={id}"), "-d", &format!("client_secret={secret}")];
    let token = issuer.token("opaque");
    let known = introspect(&endpoint, &token, &post);
    assert_eq!((&known["active"], &known["aud"]), (&json!(true), &json!(OidcProvider::AUDIENCE)));
    assert_eq!(known["exp"].as_i64().unwrap() - known["iat"].as_i64().unwrap(), 600);
    // Basic credentials that are not form-encoded are refused; the same encoded are not.
    let bare = format!("{}:{}", OidcProvider::BASIC.0, OidcProvider::BASIC.1);
    assert_eq!(introspect(&endpoint, &token, &["-u", &bare])["error"], "invalid_request");
    assert_eq!(introspect(&endpoint, &token, &["-u", "gate+way%3A1:s%3Ae%25c%2Br+e%2Ft"])["active"], true);
    assert_eq!(introspect(&endpoint, &token, &["-d", "client_id=mtls"])["error"], "invalid_client");
    assert_eq!(issuer.introspections(&token), 4);
    issuer.revoke(&token);
    assert_eq!(introspect(&endpoint, &token, &post), json!({"active": false}));

    let bound = issuer.bound_token("opaque");
    assert!(introspect(&endpoint, &bound, &post)["cnf"]["x5t#S256"].is_string());
    assert!(mint::open(&issuer.bound_token("ES256")).1["cnf"]["x5t#S256"].is_string());

    let tokens = issuer.password_grant("alice", "openid email offline_access", &[]);
    assert_eq!(mint::open(tokens["id_token"].as_str().unwrap()).1["sub"], "alice");
    let bearer = format!("Authorization: Bearer {}", tokens["access_token"].as_str().unwrap());
    let (user, _) = curl(&["-H", &bearer, &format!("{}/me", issuer.url())]);
    assert_eq!(serde_json::from_str::<Value>(&user).unwrap(), json!({"sub": "alice", "email": "alice@api.test"}));
    let refreshed = [("grant_type", "refresh_token"), ("refresh_token", tokens["refresh_token"].as_str().unwrap())];
    assert!(issuer.grant(&refreshed)["access_token"].is_string());
    assert_eq!(issuer.password_grant("mallory", "", &[])["error"], "invalid_grant");
    let exchange = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("subject_token", tokens["access_token"].as_str().unwrap()),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:access_token"),
        ("audience", "api://orders"),
        ("scope", "orders:read"),
    ];
    let exchanged = mint::open(issuer.grant(&exchange)["access_token"].as_str().unwrap()).1;
    assert_eq!((&exchanged["sub"], &exchanged["aud"]), (&json!("alice"), &json!("api://orders")));
    assert_eq!(issuer.hits("/token"), 7);
}

#[test]
fn grpc_without_an_edge() {
    let plain = Grpc::start();
    let call = |method: &str, arguments: &[&str]| grpc::call(plain.address(), method, arguments);
    for (method, arguments, code, messages) in [
        ("Unary", &["hi"][..], "OK", &["hi"][..]),
        ("ServerStream", &["3"], "OK", &["0", "1", "2"]),
        ("ClientStream", &["a", "b"], "OK", &["ab"]),
        ("Bidi", &["a", "b"], "OK", &["a", "b"]),
        ("Status", &["16 who are you"], "UNAUTHENTICATED", &[]),
        ("Slow", &["5000", "--deadline", "0.3"], "DEADLINE_EXCEEDED", &[]),
        ("Absent", &["hi"], "UNIMPLEMENTED", &[]),
    ] {
        let called = call(method, arguments);
        assert_eq!((called.code.as_str(), called.messages), (code, messages.iter().map(|m| m.to_string()).collect()));
        assert!(called.took < Duration::from_secs(4), "{method}");
    }
    let called = call("Unary", &["hi", "--field", "x-a=1", "--deadline", "5"]);
    assert!(called.initial.contains(&("x-a".into(), "1".into())), "{called:?}");
    assert!(called.initial.iter().any(|(name, _)| name == "time-remaining-ms"), "{called:?}");
    assert_eq!(called.trailing, [("trailing-x-a".into(), "1".into())]);
    assert_eq!(call("Status", &["5 no such thing"]).details, "no such thing");

    let (secure, dir) = (Grpc::tls(), tempfile::tempdir().unwrap());
    let root = dir.path().join("root.crt");
    std::fs::write(&root, certs::root()).unwrap();
    assert_eq!(grpc::call_tls(secure.address().port(), &root, "Unary", &["hi"]).messages, ["hi"]);
    assert_eq!(grpc::call(secure.address(), "Unary", &["hi", "--deadline", "5"]).code, "UNAVAILABLE");
}

#[test]
fn grpc_passes_the_edge_under_authentication() {
    let (server, key) = (Grpc::start(), Key::es256("es-1"));
    let issuer = Issuer::start(&[&key]);
    let service = json!({"name": "echo", "url": format!("grpc://{}", server.address()), "routes": [
        {"name": "guarded", "protocols": ["grpc"], "paths": ["/test.Echo/"],
            "plugins": [{"name": "openid-connect", "config": bearer(&issuer.url())}]},
    ]});
    let edge = Setup::new(json!({"_format_version": "3.0", "services": [service]}).to_string()).start();
    let token = format!("authorization=Bearer {}", key.token(&mint::claims(&issuer.url(), AUDIENCE)));
    let call = |method: &str, arguments: &[&str]| {
        grpc::call(edge.address(), method, &[arguments, &["--field", &token]].concat())
    };
    for (method, arguments, code, messages) in [
        ("Unary", &["hi"][..], "OK", &["hi"][..]),
        ("ServerStream", &["3"], "OK", &["0", "1", "2"]),
        ("ClientStream", &["a", "b"], "OK", &["ab"]),
        ("Bidi", &["a", "b"], "OK", &["a", "b"]),
        ("Status", &["5 no such thing"], "NOT_FOUND", &[]),
        ("Slow", &["5000", "--deadline", "0.3"], "DEADLINE_EXCEEDED", &[]),
    ] {
        let called = call(method, arguments);
        assert_eq!((called.code.as_str(), called.messages), (code, messages.iter().map(|m| m.to_string()).collect()));
        assert!(called.took < Duration::from_secs(4), "{method}");
    }
    let called = call("Unary", &["hi", "--field", "x-a=1", "--deadline", "5"]);
    assert!(called.initial.contains(&("x-a".into(), "1".into())), "{called:?}");
    assert!(called.trailing.contains(&("trailing-x-a".into(), "1".into())), "{called:?}");

    let stranger = |token: &str| grpc::call(edge.address(), "Unary", &["hi", "--field", token]);
    assert_eq!(stranger("x-a=1").code, "UNAUTHENTICATED");
    assert_eq!(stranger(&flip(&token)).code, "UNAUTHENTICATED");
    assert_eq!(stranger(&token).code, "OK");
    let other = mint::with(mint::claims(&issuer.url(), AUDIENCE), json!({"aud": "api://other"}));
    assert_eq!(stranger(&format!("authorization=Bearer {}", key.token(&other))).code, "PERMISSION_DENIED");
    drop(server);
    assert_eq!(stranger(&token).code, "UNAVAILABLE");
}

#[test]
fn websocket_with_and_without_an_edge() {
    let server = WebSocket::start();
    let edge = Setup::new(open(&server.url())).start();
    for address in [server.address(), edge.address()] {
        let url = format!("ws://{address}/chat?room=1");
        let talked = websocket::talk(&url, &["hi", "head", "--field", "X-A=1", "--subprotocol", "echo.test"]);
        assert_eq!((talked.status, talked.code, talked.subprotocol.as_deref()), (101, None, Some("echo.test")));
        assert_eq!(talked.replies[0], "hi");
        let head: Value = serde_json::from_str(&talked.replies[1]).unwrap();
        assert_eq!(head["path"], "/chat?room=1");
        assert!(head["fields"].as_array().unwrap().contains(&json!(["X-A", "1"])), "{head}");
        let talked = websocket::talk(&url, &["close 4001 go away", "--linger", "5"]);
        assert_eq!((talked.code, talked.reason.as_str()), (Some(4001), "go away"));
        assert!(talked.took < Duration::from_secs(4));
    }
    let refused = websocket::talk(&Upstream::start().url().replace("http", "ws"), &["hi"]);
    assert_eq!((refused.status, refused.replies.len()), (200, 0));
}

#[test]
fn redis_keeps_and_forgets() {
    let redis = Redis::start();
    assert_eq!(redis.command(&["SET", "a", "1"]).as_deref(), Some("OK"));
    assert_eq!(redis.command(&["INCR", "a"]).as_deref(), Some("2"));
    assert_eq!(redis.command(&["GET", "a"]).as_deref(), Some("2"));
    assert!(redis.command(&["INCR"]).unwrap().starts_with("-ERR"));
    let address = redis.stop();
    assert!(std::net::TcpStream::connect(address).is_err());
    let redis = Redis::at(address, &["--requirepass", "word"]);
    assert!(redis.command(&["GET", "a"]).unwrap().starts_with("-NOAUTH"));
}
