//! OCSP responses beside certificates, made by openssl and verified by curl.

use std::path::Path;
use std::process::{Command, Stdio};

use edge_tests::certs::{self, Pair};
use edge_tests::edge::{Edge, Setup};
use edge_tests::parties::curl;
use edge_tests::upstream::Upstream;
use nix::sys::signal::Signal;
use serde_json::json;

fn openssl(folder: &Path, words: &[&str]) -> String {
    let output = Command::new("openssl").args(words).current_dir(folder).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{words:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

/// What the tests' authority says of a pair's certificate for this many minutes: `V`alid, or `R`evoked.
fn response(pair: &Pair, state: &str, minutes: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let own = certs::authority().own();
    for (name, text) in [("ca.pem", &own.certificate), ("ca.key", &own.key), ("own.pem", &pair.certificate)] {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    let serial = openssl(dir.path(), &["x509", "-in", "own.pem", "-noout", "-serial"]);
    let serial = serial.trim().trim_start_matches("serial=");
    let revoked = if state == "R" { "260101000000Z" } else { "" };
    std::fs::write(
        dir.path().join("index"),
        format!("{state}\t400101000000Z\t{revoked}\t{serial}\tunknown\t/CN=own\n"),
    )
    .unwrap();
    openssl(dir.path(), &["ocsp", "-issuer", "ca.pem", "-cert", "own.pem", "-reqout", "request"]);
    let mut words = vec!["ocsp", "-index", "index", "-rsigner", "ca.pem", "-rkey", "ca.key", "-CA", "ca.pem"];
    words.extend(["-reqin", "request", "-respout", "response", "-nmin", minutes]);
    openssl(dir.path(), &words);
    std::fs::read(dir.path().join("response")).unwrap()
}

/// Whether curl gets an answer where it insists on a response that says the certificate is good.
fn is_stapled(edge: &Edge, name: &str) -> bool {
    let (root, port) = (edge.path("root.pem").display().to_string(), edge.address().port());
    let (resolve, url) = (format!("{name}:{port}:127.0.0.1"), format!("https://{name}:{port}/"));
    let (_, plain) = curl(&["--cacert", &root, "--resolve", &resolve, &url]);
    assert!(plain, "it is served without");
    curl(&["--cert-status", "--cacert", &root, "--resolve", &resolve, &url]).1
}

fn replace(edge: &Edge, content: &[u8], line: &str) {
    std::fs::write(edge.path("a.ocsp"), content).unwrap();
    let mark = edge.errors().mark();
    edge.signal(Signal::SIGHUP);
    edge.logged_after(mark, line);
}

#[test]
fn responses_are_stapled_to_the_certificates_they_are_about() {
    let upstream = Upstream::start();
    let (shop, unstapled) = (certs::pair(&["shop.test"]), certs::pair(&["plain.test"]));
    // curl finds the issuer among what is shown.
    let chain = |pair: &Pair| format!("{}{}", pair.certificate, certs::root());
    let entry = |pair: &Pair, name: &str| json!({"cert": chain(pair), "key": pair.key, "snis": [{"name": name}]});
    let text = json!({"_format_version": "3.0",
        "services": [{"name": "up", "url": upstream.url(), "routes": [{"name": "all", "paths": ["/"]}]}],
        "certificates": [entry(&shop, "shop.test"), entry(&unstapled, "plain.test")],
    });
    let dir = tempfile::tempdir().unwrap();
    let other = dir.path().join("other.ocsp");
    // The listener's own, from the start; the entity's comes with a reload.
    std::fs::write(&other, response(certs::server(), "V", "600")).unwrap();
    let section = format!("[tls]\nocsp_responses = [\"a.ocsp\", \"{}\"]\n", other.display());
    let config = Setup::new(text.to_string())
        .tls()
        .file("tls.crt", chain(certs::server()))
        .section(&section)
        .file("root.pem", certs::root());
    config.write(dir.path(), "127.0.0.1:0".parse().unwrap()).unwrap();
    std::fs::write(dir.path().join("a.ocsp"), response(&certs::pair(&["elsewhere.test"]), "V", "600")).unwrap();
    let edge = Edge::serve(dir).unwrap();
    edge.logged("a.ocsp is about no certificate that is shown here");
    let names = ["edge.test", "shop.test", "plain.test"];
    let stapled = || names.map(|name| is_stapled(&edge, name));
    assert_eq!(stapled(), [true, false, false]);

    replace(&edge, &response(&shop, "V", "600"), "configuration loaded");
    assert_eq!(stapled(), [true, true, false]);
    let sample = format!("edge_tls_ocsp_next_update_seconds{{file=\"{}\"}}", edge.path("a.ocsp").display());
    let left = edge.metric(&sample) - edge_tests::mint::now() as f64;
    assert!((35_900.0..=36_000.0).contains(&left), "{left}");

    replace(&edge, b"no response", "tls.ocsp_responses[0]: found");
    assert_eq!(stapled(), [true, true, false], "the one in force stays");
    let checked = edge.command(&["check"]);
    let said = String::from_utf8_lossy(&[checked.stdout, checked.stderr].concat()).into_owned();
    assert!(!checked.status.success() && said.contains("no OCSP response in DER form"), "{said}");

    replace(&edge, &response(&shop, "R", "600"), "calls a certificate revoked or unknown, and is not stapled");
    assert_eq!(stapled(), [true, false, false]);
}
