//! The edge between programs that know nothing of it: curl, nginx, httpbin, a certified issuer.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use edge_tests::certs;
use edge_tests::edge::Setup;
use edge_tests::mint::{self, flip};
use edge_tests::parties::{Httpbin, Nginx, OidcProvider, curl, curl_status};
use serde_json::{Value, json};

use super::{guarded, open, plus};

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
