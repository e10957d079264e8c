//! Statements of the security properties (1 to 3, 16 and 17) that no single feature owns, over sockets.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use edge_tests::certs;
use edge_tests::edge::Setup;
use edge_tests::h2raw;
use edge_tests::issuer::Issuer;
use edge_tests::mint::{self, Key, flip, unsigned, with};
use edge_tests::upstream::Upstream;
use edge_tests::wire::{Client, Message, PATIENCE, Reader, get};
use serde_json::{Value, json};

use super::{AUDIENCE, Guarded, bearer, entities, plus, with_token};

/// An answer without what differs from one to the next in any case.
fn told(answer: &Message) -> (String, Vec<(String, String)>, String) {
    let varies = |name: &str| {
        ["date", "x-kong-request-id", "x-kong-response-latency"].contains(&name.to_ascii_lowercase().as_str())
    };
    let fields = answer.fields.iter().filter(|(name, _)| !varies(name)).cloned().collect();
    (answer.start.clone(), fields, answer.text())
}

#[test]
fn a_stranger_is_told_the_same_of_every_bad_token() {
    // T17: which check failed is the operator's to know.
    let good = Guarded::start();
    let (key, claims, now) = (&good.key, good.claims(), mint::now());
    let changed = |changes: Value| key.token(&with(claims.clone(), changes));
    let headed = |changes: Value| key.sign(&with(key.header(), changes), &claims);
    let first = told(&good.edge.ask(with_token(&flip(&good.token()))));
    let rows = [
        ("expired", changed(json!({"exp": now - 3600}))),
        ("not yet valid", changed(json!({"nbf": now + 3600}))),
        ("another issuer", changed(json!({"iss": "https://evil.example"}))),
        ("no issuer", changed(json!({"iss": null}))),
        ("exp as text", changed(json!({"exp": "9999999999"}))),
        ("another's key", Key::es256("es-1").token(&claims)),
        ("unknown kid", headed(json!({"kid": "nobody"}))),
        ("unknown kid of a stranger", Key::es256("nobody").token(&claims)),
        ("unsecured", unsigned(&json!({"alg": "none"}), &claims, "AA")),
        ("not allowed", Key::hs256(b"secret", "es-1").token(&claims)),
        ("for another purpose", headed(json!({"typ": "logout+jwt"}))),
        ("critical", headed(json!({"crit": ["exp"]}))),
        ("no claims", key.sign_bytes(key.header().to_string().as_bytes(), b"[]")),
        ("three letters", "a.b.c".to_owned()),
    ];
    let answers = rows.map(|(name, token)| (name, good.edge.ask(with_token(&token))));
    for (name, answer) in &answers {
        assert_eq!(told(answer), first, "{name}");
        assert_ne!(good.edge.reason_of(answer), "", "{name}");
    }
    assert_eq!(first.0.split(' ').nth(1), Some("401"));
    assert!(good.upstream.requests().is_empty());
}

#[test]
fn the_reason_is_told_to_those_who_may_know_it() {
    // T17
    for (section, tells) in [
        ("", false),
        ("[proxy]\ntrusted_ips = [\"10.0.0.0/8\"]", false),
        ("[proxy]\ntrusted_ips = [\"127.0.0.0/8\"]", true),
        ("[proxy]\nexpose_reason = true", true),
    ] {
        let good = Guarded::with(json!({}), |setup| setup.section(section));
        let answer = good.edge.ask(with_token(&flip(&good.token())));
        let expected = tells.then_some("edge; error=http_request_denied; details=\"signature_invalid\"");
        assert_eq!((answer.status(), answer.field("proxy-status")), (401, expected), "{section}");
        assert_eq!(good.edge.ask(with_token(&good.token())).field("proxy-status"), None, "{section}");
    }
}

#[test]
fn what_the_issuer_signs_for_other_ends_opens_nothing() {
    // T25: each is signed by the issuer's own key, in time, and for somebody.
    let good = Guarded::with(json!({"client_id": ["app"], "client_secret": ["hush"]}), |setup| setup);
    let (key, now) = (&good.key, mint::now());
    let claims = with(good.claims(), json!({"scope": null, "client_id": null, "azp": null}));
    let url = good.issuer.url();
    let logout = json!({"events": {"http://schemas.openid.net/event/backchannel-logout": {}}, "sid": "s"});
    let kinds = [
        ("id token", "JWT", json!({"aud": "app", "nonce": "n"})),
        ("id token for both", "JWT", json!({"aud": ["app", AUDIENCE], "nonce": "n"})),
        ("id token by at_hash", "JWT", json!({"at_hash": "x"})),
        ("id token by c_hash", "", json!({"c_hash": "x"})),
        ("logout token", "logout+jwt", logout.clone()),
        ("logout token as JWT", "JWT", plus(logout, json!({"aud": "app"}))),
        ("client assertion", "client-authentication+jwt", json!({"iss": url, "sub": "app"})),
        ("client assertion as JWT", "JWT", json!({"iss": "app", "sub": "app", "aud": format!("{url}/token")})),
        ("DPoP proof", "dpop+jwt", json!({"htm": "GET", "htu": "http://test/orders"})),
        ("introspection answer", "token-introspection+jwt", json!({"token_introspection": {"active": true}})),
        ("security event", "secevent+jwt", json!({"events": {}})),
        ("user info", "JWT", json!({"aud": "app", "exp": now + 60})),
        ("authorization response", "oauth-authz-req+jwt", json!({"response_type": "code"})),
        ("nested type", "at+jwt+jwt", json!({})),
        ("type in a path", "application/x/at+jwt", json!({})),
    ];
    for (name, typ, changes) in kinds {
        let header = with(key.header(), json!({"typ": if typ.is_empty() { Value::Null } else { json!(typ) }}));
        let answer = good.edge.ask(with_token(&key.sign(&header, &with(claims.clone(), changes))));
        assert!(matches!(answer.status(), 401 | 403), "{name}: {}", answer.start);
        assert!(good.upstream.requests().is_empty(), "{name}");
    }
    for typ in ["at+jwt", "application/at+jwt", "AT+jwt", "APPLICATION/AT+JWT"] {
        let header = with(key.header(), json!({"typ": typ}));
        assert_eq!(good.edge.ask(with_token(&key.sign(&header, &claims))).status(), 200, "{typ}");
    }
}

#[test]
fn there_is_no_leeway_unless_it_is_configured() {
    // T31: nobody's clock is trusted for more than a minute by default.
    let good = Guarded::start();
    let now = mint::now();
    for (changes, status) in [
        (json!({"exp": now - 61}), 401),
        (json!({"exp": now - 2}), 401),
        (json!({"nbf": now + 61}), 401),
        (json!({"exp": now + 60}), 200),
        (json!({"nbf": now}), 200),
    ] {
        let token = good.key.token(&with(good.claims(), changes.clone()));
        assert_eq!(good.edge.ask(with_token(&token)).status(), status, "{changes}");
    }
}

/// A connection from another address of loopback, as another client has it.
fn connect_from(source: Ipv4Addr, to: SocketAddr) -> Reader<TcpStream> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    Reader::new(stream)
}

#[test]
fn a_flood_of_bad_tokens_leaves_good_clients_their_share() {
    // D4: bad signatures, all different, on one worker; a good client's new tokens are verified meanwhile.
    let good = Guarded::with(json!({}), |setup| setup.workers(1));
    let stranger = Key::rsa(mint::RSA_A, "es-1", "RS256");
    let forger = Key::es256("es-1");
    assert_eq!(good.edge.ask(with_token(&good.token())).status(), 200);
    let claims = good.claims();
    let bad: Vec<Vec<u8>> = (0..4000)
        .map(|n| {
            let key = if n % 50 == 0 { &stranger } else { &forger };
            with_token(&key.token(&with(claims.clone(), json!({"jti": n.to_string()}))))
        })
        .collect();
    let tokens: Vec<Vec<u8>> = (0..100)
        .map(|n| with_token(&good.key.token(&with(claims.clone(), json!({"jti": format!("good-{n}")})))))
        .collect();
    let (done, address) = (AtomicBool::new(false), good.edge.address());
    let (sent, slowest) = std::thread::scope(|scope| {
        let floods: Vec<_> = bad
            .chunks(1000)
            .enumerate()
            .map(|(n, bad)| {
                let done = &done;
                scope.spawn(move || {
                    let mut client = connect_from(Ipv4Addr::new(127, 0, 0, 10 + n as u8), address);
                    let mut sent = 0;
                    for request in bad.iter().cycle().take_while(|_| !done.load(Ordering::Relaxed)) {
                        client.stream().write_all(request).unwrap();
                        let answer = client.response("GET").unwrap();
                        assert!(matches!(answer.status(), 401 | 503), "{}", answer.start);
                        sent += 1;
                        if answer.says_close() {
                            client = connect_from(Ipv4Addr::new(127, 0, 0, 10 + n as u8), address);
                        }
                    }
                    sent
                })
            })
            .collect();
        let mut client = good.edge.connect();
        let mut slowest = Duration::ZERO;
        for request in &tokens {
            let began = Instant::now();
            assert_eq!(client.ask(request).status(), 200);
            slowest = slowest.max(began.elapsed());
            std::thread::sleep(Duration::from_millis(10));
        }
        done.store(true, Ordering::Relaxed);
        (floods.into_iter().map(|flood| flood.join().unwrap()).sum::<usize>(), slowest)
    });
    // Seconds would be starvation; a busy test machine alone can cost tenths.
    assert!(slowest < Duration::from_secs(2), "a good client waited {slowest:?} beside {sent} bad tokens");
    assert!(sent > 200, "{sent} bad tokens are no flood");
    assert_eq!(good.upstream.requests().len(), tokens.len() + 1);
}

#[test]
fn exhausted_descriptors_let_nothing_pass_and_come_back() {
    // D5
    let good = Guarded::start();
    let (token, pid) = (good.token(), good.edge.pid());
    assert_eq!(good.edge.ask(with_token(&token)).status(), 200);
    let limit = |soft: usize| {
        let status = Command::new("prlimit").args([format!("--pid={pid}"), format!("--nofile={soft}:")]).status();
        assert!(status.unwrap().success(), "prlimit");
    };
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    limit(open + 8);
    let mut clients: Vec<Client> = (0..40).map(|_| good.edge.connect()).collect();
    for client in &mut clients {
        client.patience(Duration::from_millis(50));
        let _ = client.try_send(with_token(&flip(&token)));
    }
    let answers = clients.iter_mut().filter_map(|client| client.try_response("GET").ok());
    let statuses: Vec<u16> = answers.map(|answer| answer.status()).collect();
    assert!(statuses.iter().all(|status| matches!(status, 401 | 503)), "{statuses:?}");
    assert!(statuses.len() < 40, "the limit was never met");
    assert_eq!(good.upstream.requests().len(), 1);
    drop(clients);
    // It recovers by itself once there is room.
    let end = Instant::now() + PATIENCE;
    loop {
        let mut client = good.edge.connect();
        client.patience(Duration::from_secs(1));
        let _ = client.try_send(with_token(&token));
        match client.try_response("GET") {
            Ok(answer) if answer.status() == 200 => break,
            _ => assert!(Instant::now() < end, "the edge did not recover"),
        }
    }
    assert_eq!(good.edge.ask(with_token(&flip(&token))).status(), 401);
}

/// xorshift: the same inputs in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

#[test]
fn no_input_ends_the_process_or_passes() {
    // D6, T13, T16: requests around a bad token, damaged anywhere.
    let good = Guarded::start();
    let token = good.token();
    let whole = with_token(&flip(&token));
    let mut random = Random(0x5eed);
    for _ in 0..400 {
        let mut request = whole.clone();
        for _ in 0..=random.below(4) {
            let at = random.below(request.len());
            match random.below(5) {
                0 => request[at] = random.below(256) as u8,
                1 => request[at] ^= 1 << random.below(8),
                2 => drop(request.remove(at)),
                3 => request.insert(at, b"\r\n\0 :,.=%\"{"[random.below(11)]),
                _ => request.truncate(at.max(1)),
            }
        }
        let mut client = good.edge.connect();
        let _ = client.try_send(&request);
        client.finish();
        let _ = client.rest();
        assert!(good.upstream.requests().is_empty(), "passed: {}", request.escape_ascii());
    }
    let pid = good.edge.pid();
    assert_eq!(good.edge.ask(with_token(&token)).status(), 200);
    assert_eq!(good.edge.pid(), pid);
    let errors = good.edge.errors().text();
    assert!(!errors.contains("panicked"), "{errors}");
}

#[test]
fn a_greedy_pattern_takes_linear_time() {
    // D10
    let upstream = Upstream::start();
    let route = |name: &str, path: &str| json!({"name": name, "paths": [path], "strip_path": false});
    let routes = json!([
        route("nested", "~/(a+)+b$"),
        route("either", "~/c/(a|aa)+d$"),
        route("dots", "~/e/(.*)(.*)(.*)(.*)(.*)f$"),
        route("counted", "~/g/(a?){25}a{25}h$"),
    ]);
    let edge = Setup::new(entities(&upstream.url(), routes)).start();
    let many = "a".repeat(20_000);
    let began = Instant::now();
    for path in [format!("/{many}"), format!("/c/{many}"), format!("/e/{many}"), format!("/g/{many}")] {
        assert_eq!(edge.ask(get(&path, &[])).status(), 404);
    }
    // Backtracking would take longer than the universe is old.
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    for path in ["/aaab", "/c/aaad", "/e/aaaf", &format!("/g/{}h", "a".repeat(25))] {
        assert_eq!(edge.ask(get(path, &[])).status(), 200, "{path}");
    }
}

/// The private part of RFC 7517's example of an EC key (A.2).
const RFC7517_D: &str = "870MB6gfuTJ4HtUnUvYMyJpr5eUZNP4Bk43bVdj3eAE";

fn rfc7517_key() -> Value {
    json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "1", "d": RFC7517_D,
        "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4", "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"})
}

#[test]
fn a_nodes_secrets_stand_nowhere_outside_it() {
    // L1: logs at the most talkative level, every answer, the Admin API and the process's arguments, for whatever the
    // node was given and whatever clients sent, right or wrong.
    let (upstream, key) = (Upstream::start(), Key::es256("es-1"));
    let issuer = Issuer::start(&[&key]);
    let config = plus(
        bearer(&issuer.url()),
        json!({"auth_methods": ["bearer", "introspection"],
            "client_id": ["app"], "client_secret": ["{vault://env/app-secret}"],
            "introspection_headers_names": ["X-Api-Key"], "introspection_headers_values": ["header-value-c41f"],
            "introspection_post_args_names": ["pin"], "introspection_post_args_values": ["argument-value-09b3"]}),
    );
    let signing = plus(
        bearer(&issuer.url()),
        json!({"auth_methods": ["introspection"], "client_id": ["signer"],
        "client_auth": ["private_key_jwt"], "client_jwk": [rfc7517_key()]}),
    );
    let limiting = json!({"name": "rate-limiting", "config": {"minute": 1000, "policy": "redis",
        "redis": {"host": "127.0.0.1", "port": 1, "username": "redis-user", "password": "redis-password-9d1f"}}});
    let plugins = json!([{"name": "openid-connect", "config": config}, limiting]);
    let signed = json!([{"name": "openid-connect", "config": signing}]);
    let routes = json!([{"name": "all", "paths": ["/"], "strip_path": false, "plugins": plugins},
        {"name": "signed", "paths": ["/signed"], "plugins": signed}]);
    let setup = Setup::new(entities(&upstream.url(), routes)).clear().tls().log("level = \"debug\"");
    let edge = setup.env("APP_SECRET", "app-secret-value-77c2").start();
    let good = key.token(&mint::claims(&issuer.url(), AUDIENCE));
    let others = [
        flip(&good),
        key.token(&with(mint::claims(&issuer.url(), AUDIENCE), json!({"exp": 1}))),
        key.sign(&json!({"alg": "ES256", "kid": "lost"}), &mint::claims(&issuer.url(), AUDIENCE)),
        "opaque-token-5b7e1c09".to_owned(),
    ];
    let mut answers = Vec::new();
    for token in [&good].into_iter().chain(&others) {
        for request in [
            with_token(token),
            get(&format!("/orders?access_token={token}"), &[]),
            get("/orders", &[&format!("Authorization: Basic {}", mint::encode(b"user:basic-password-31aa"))]),
            get("/orders", &[&format!("Authorization: Bearer {token}"), &format!("Cookie: session={token}")]),
            get("/orders", &[&format!("Authorization: Bearer {token}"), &format!("DPoP: {token}")]),
            get("/signed", &[&format!("Authorization: Bearer {token}")]),
            get("/orders", &[&format!("Authorization: Bearer {token}\u{1}")]),
            get("/orders", &[&format!("Proxy-Authorization: Bearer {token}")]),
            format!("GET http://user:url-password-10be@test/ HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {token}\r\n\r\n").into_bytes(),
        ] {
            answers.push(edge.ask(request));
        }
    }
    assert!(answers.iter().any(|answer| answer.status() == 200) && answers.iter().any(|answer| answer.status() == 401));
    for (name, value) in [("x-api-key", "header-value-c41f"), ("pin", "argument-value-09b3")] {
        let told = issuer.requests("/introspect").iter().any(|asked| {
            asked.field(name) == Some(value) || edge_tests::issuer::argument(asked, name).as_deref() == Some(value)
        });
        assert!(told, "{name} never went out");
    }
    // An issuer that is asked by a name it refuses, and one that repeats what it was sent.
    issuer.answer("/introspect", |request| {
        edge_tests::issuer::error(
            "invalid_client",
            &format!("{} {}", request.text(), request.field("x-api-key").unwrap_or("")),
        )
    });
    answers.push(edge.ask(with_token("opaque-token-5b7e1c10")));
    answers.push(edge.ask(get("/signed", &["Authorization: Bearer opaque-token-5b7e1c10"])));
    let pages: Vec<String> =
        ["/", "/status", "/metrics", "/config", "/plugins", "/certificates", "/openid-connect/issuers", "/nothing"]
            .into_iter()
            .map(|path| edge.admin_get(path).text())
            .collect();
    let arguments = std::fs::read(format!("/proc/{}/cmdline", edge.pid())).unwrap();
    let told: Vec<String> = answers.iter().map(|answer| String::from_utf8_lossy(&answer.raw).into_owned()).collect();
    edge.reason_of(answers.last().unwrap());
    let (access, error) = edge.stop();
    let seen = [
        ("the access log", access.text()),
        ("the error log", error.text()),
        ("an answer", told.join("\n")),
        ("the Admin API", pages.join("\n")),
        ("the arguments", String::from_utf8_lossy(&arguments).into_owned()),
    ];
    let private = certs::server();
    let mut secrets: Vec<&str> = private.key.lines().filter(|line| !line.starts_with("-----")).collect();
    secrets.extend(["app-secret-value-77c2", "redis-password-9d1f", "basic-password-31aa", "url-password-10be"]);
    secrets.extend(["header-value-c41f", "argument-value-09b3", "opaque-token-5b7e1c10", RFC7517_D]);
    let basic = mint::encode(b"user:basic-password-31aa");
    secrets.push(&basic);
    for token in [&good].into_iter().chain(&others) {
        secrets.extend(token.split('.').skip(usize::from(token.contains('.'))));
    }
    for (place, text) in &seen {
        for secret in &secrets {
            assert!(!text.contains(secret), "{secret} stands in {place}");
        }
    }
}

#[test]
fn a_limit_counts_every_version_and_no_header_resets_it() {
    // D8: over a restart and several nodes it is kept by Redis (`plugins_redis`), over reloads and workers by the process.
    let upstream = Upstream::start();
    let limiting = json!([{"name": "rate-limiting", "config": {"year": 12, "limit_by": "ip", "policy": "local"}}]);
    let routes = json!([{"name": "all", "paths": ["/"], "strip_path": false, "plugins": limiting}]);
    let edge = Setup::new(entities(&upstream.url(), routes)).start();
    let tricks = [
        "X-Forwarded-For: 198.51.100.7",
        "X-Real-IP: 198.51.100.8",
        "Forwarded: for=198.51.100.9",
        "RateLimit-Remaining: 1000",
        "X-RateLimit-Remaining-Year: 1000",
        "X-Consumer-ID: 00000000-0000-0000-0000-000000000001",
        "X-Credential-Identifier: other",
        "Cookie: session=other",
    ];
    let mut passed = 0;
    for (n, trick) in tricks.iter().cycle().take(32).enumerate() {
        let status = if n % 2 == 0 {
            edge.ask(get(&format!("/{n}"), &[trick])).status()
        } else {
            let (name, value) = trick.split_once(": ").unwrap();
            h2raw::block_on(async {
                let request = http::Request::get(format!("http://test/{n}")).version(http::Version::HTTP_2);
                let request = request.header(name.to_lowercase(), value).body(()).unwrap();
                h2raw::ask(&h2raw::connect(edge.address()).await, request, b"").await.unwrap().status
            })
        };
        assert_eq!(status, if passed < 12 { 200 } else { 429 }, "{n}: {trick}");
        passed += usize::from(status == 200);
    }
    assert_eq!((passed, upstream.requests().len()), (12, 12));
}

/// Every source file of the edge, as path and text.
fn sources(folder: &std::path::Path) -> Vec<(String, String)> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let each = |path: std::path::PathBuf| match path.is_dir() {
        true => sources(&path),
        false => vec![(path.display().to_string(), std::fs::read_to_string(&path).unwrap())],
    };
    entries.flat_map(each).collect()
}

#[test]
fn no_table_of_client_data_has_a_hash_that_a_client_can_compute() {
    // D11: the standard tables and DashMap seed their hash by default. What names a hasher of its own is known here.
    const KNOWN: [(&str, &str); 3] = [
        ("token/cache/level.rs", "its keys are MACs under a key of the process"),
        ("balancer/hashing.rs", "a place on a ring that every node must find alike, and no table"),
        ("config/resolve/services.rs", "over the configuration alone"),
    ];
    let named = [
        "BuildHasherDefault",
        "with_hasher",
        "DefaultHasher::new",
        "SipHasher",
        "impl Hasher for",
        "FxHash",
        "ahash",
        "fnv",
    ];
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../edge-user/src");
    let mut found: Vec<String> = sources(&root)
        .into_iter()
        .filter(|(_, text)| named.iter().any(|name| text.contains(name)))
        .map(|(path, _)| path.rsplit_once("/src/").unwrap().1.to_owned())
        .collect();
    found.sort();
    let mut known: Vec<&str> = KNOWN.iter().map(|(path, _)| *path).collect();
    known.sort();
    assert_eq!(found, known, "is a client's data a key there?");
}
