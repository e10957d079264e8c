//! `kernel_reject` with an edge: which tokens the kernel answers, in which words, and from when on it does not.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use aya::util::KernelVersion;
use edge_tests::edge::{Edge, READY, Setup};
use edge_tests::issuer::Issuer;
use edge_tests::mint::{Key, flip};
use edge_tests::upstream::{Reply, Upstream};
use edge_tests::wire::{Client, Message, get};
use serde_json::{Value, json};

use crate::namespace::{Hosts, INTERFACE};

pub(crate) const PORT: u16 = 8000;

/// An edge with `kernel_reject` in the server's namespace, its issuer and its upstream.
pub(crate) struct Guarded {
    pub(crate) hosts: Hosts,
    pub(crate) edge: Edge,
    pub(crate) issuer: Issuer,
    pub(crate) key: Key,
    pub(crate) upstream: Upstream,
}

fn entities(upstream: &str, issuer: &str, more: Value) -> String {
    let mut config = json!({"issuer": issuer, "auth_methods": ["bearer"], "audience_required": ["api://orders"]});
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let plugins = json!([{"name": "openid-connect", "config": config}]);
    let routes = json!([{"name": "all", "paths": ["/"], "plugins": plugins}]);
    json!({"_format_version": "3.0", "services": [{"name": "up", "url": upstream, "routes": routes}]}).to_string()
}

impl Guarded {
    fn start(mode: &str, more: Value) -> Self {
        let kernel_reject = if mode == "off" { "off" } else { "first" };
        Self::between(Hosts::new(), kernel_reject, mode, more, "", |_| Reply::ok("ok"))
    }

    /// `kernel_reject`: the listener's. `settings`: further ones. `answer`: the upstream's to each request.
    pub(crate) fn between(
        hosts: Hosts,
        kernel_reject: &str,
        mode: &str,
        more: Value,
        settings: &str,
        answer: impl Fn(&Message) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let key = Key::es256("es-1");
        let (upstream, issuer) = hosts.server.run(|| (Upstream::with(answer), Issuer::start(&[&key])));
        let listener = format!("kernel_reject = \"{kernel_reject}\"\n");
        let setup = Setup::new(entities(&upstream.url(), &issuer.url(), more))
            .within(hosts.server.name())
            .listener(&format!("address = \"[::]:{PORT}\"\n{listener}"))
            .section(&format!(
                "[proxy]\nexpose_reason = true\n[kernel]\nmode = \"{mode}\"\ninterfaces = [\"{INTERFACE}\"]\n{settings}"
            ));
        Self { edge: setup.start(), hosts, issuer, key, upstream }
    }

    pub(crate) fn good(&self) -> String {
        self.key.token(&edge_tests::mint::claims(&self.issuer.url(), "api://orders"))
    }

    /// On a connection of its own.
    fn ask(&self, request: &[u8]) -> Message {
        self.ask_from("10.9.0.2", "10.9.0.1", request)
    }

    fn ask_from(&self, source: &str, server: &str, request: &[u8]) -> Message {
        let (source, server): (IpAddr, IpAddr) = (source.parse().unwrap(), server.parse().unwrap());
        self.hosts.client.run(|| {
            let mut client = Client::connect_from(source, SocketAddr::new(server, PORT)).unwrap();
            client.send(request);
            let answer = client.response();
            if answer.says_close() {
                assert!(client.closes());
            }
            answer
        })
    }

    /// Asks until the kernel answers, and gives userspace's answer and the kernel's.
    fn ask_until_rejected(&self, token: &str) -> (Message, Message) {
        let first = self.ask(&with_token(token));
        assert!(is_of_userspace(&first));
        let end = Instant::now() + READY;
        loop {
            let answer = self.ask(&with_token(token));
            assert_eq!(answer.status(), first.status());
            if !is_of_userspace(&answer) {
                return (first, answer);
            }
            assert!(Instant::now() < end, "the kernel does not answer");
        }
    }

    pub(crate) fn metric(&self, result: &str) -> f64 {
        let name = format!("edge_kernel_reject_requests_total{{result=\"{result}\"}}");
        self.hosts.server.run(|| self.edge.metric(&name))
    }
}

fn with_token(token: &str) -> Vec<u8> {
    get("/orders", &[&format!("Authorization: Bearer {token}")])
}

/// The kernel knows no request ids.
pub(crate) fn is_of_userspace(answer: &Message) -> bool {
    answer.field("x-kong-request-id").is_some()
}

#[test]
fn a_bad_token_that_comes_again_is_answered_by_the_kernel_in_the_same_words() {
    let guarded = Guarded::start("required", json!({}));
    let bad = flip(&guarded.good());
    let (ours, kernels) = guarded.ask_until_rejected(&bad);
    for name in ["www-authenticate", "content-type", "server", "content-length", "proxy-status"] {
        assert_eq!(ours.all(name), kernels.all(name), "{name}");
    }
    assert_eq!((ours.text(), ours.start.as_str()), (kernels.text(), kernels.start.as_str()));
    assert!(kernels.says_close());
    // Over IPv6 as well; the key is the same, whoever brings it.
    let answer = guarded.ask_from("fd00:9::2", "fd00:9::1", &with_token(&bad));
    assert!(answer.status() == 401 && !is_of_userspace(&answer));
    assert!(guarded.metric("rejected") >= 2.0);

    // Its neighbours are userspace's: another token, host, place in the connection, body, method.
    assert_eq!(guarded.ask(&with_token(&guarded.good())).status(), 200);
    assert!(is_of_userspace(&guarded.ask(&with_token(&flip(&guarded.good())))));
    let head = |line: &str, fields: &str| {
        format!("{line}\r\nHost: test\r\nAuthorization: Bearer {bad}\r\n{fields}\r\n").into_bytes()
    };
    assert!(!is_of_userspace(&guarded.ask(&head("GET /orders HTTP/1.1", ""))));
    for (line, fields) in [
        ("OPTIONS /orders HTTP/1.1", ""),
        ("GET http://test/orders HTTP/1.1", ""),
        ("GET /orders HTTP/1.0", ""),
        ("POST /orders HTTP/1.1", "Content-Length: 0\r\n"),
        ("GET /orders HTTP/1.1", "Expect: 100-continue\r\n"),
    ] {
        let answer = guarded.ask(&head(line, fields));
        assert!(is_of_userspace(&answer), "{line} {fields}: {}", answer.start);
    }
    let other = format!("GET /orders HTTP/1.1\r\nHost: other\r\nAuthorization: Bearer {bad}\r\n\r\n");
    assert!(is_of_userspace(&guarded.ask(other.as_bytes())));
    guarded.hosts.client.run(|| {
        let server = SocketAddr::new("10.9.0.1".parse().unwrap(), PORT);
        let mut client = Client::connect_from("10.9.0.2".parse().unwrap(), server).unwrap();
        assert_eq!(client.ask(with_token(&guarded.good())).status(), 200);
        assert!(is_of_userspace(&client.ask(with_token(&bad))));
    });
    assert_eq!(guarded.upstream.requests().len(), 2);
}

/// A token that becomes good is never refused once the call has returned that makes it so.
#[test]
fn what_becomes_good_passes_at_once() {
    // By a reload: the configuration takes the algorithm from then on.
    let guarded = Guarded::start("required", json!({"algorithms_allowed": ["RS256"]}));
    let token = guarded.good();
    let refused = guarded.ask_until_rejected(&token).1;
    assert_eq!(refused.status(), 401);
    let good = entities(&guarded.upstream.url(), &guarded.issuer.url(), json!({}));
    guarded.edge.reload(&good, "configuration loaded");
    assert_eq!(guarded.ask(&with_token(&token)).status(), 200);

    // By other keys under the same name.
    let next = Key::es256("es-1");
    let claims = edge_tests::mint::claims(&guarded.issuer.url(), "api://orders");
    let token = next.token(&claims);
    assert_eq!(guarded.ask_until_rejected(&token).1.status(), 401);
    guarded.issuer.rotate(&[&next]);
    let path = guarded.hosts.server.run(|| {
        let listed = guarded.edge.admin_get("/openid-connect/issuers").json();
        format!("/openid-connect/issuers/{}", listed["data"][0]["id"].as_str().unwrap())
    });
    let deleted = guarded.hosts.server.run(|| {
        let request = format!("DELETE {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", guarded.edge.admin());
        Client::connect(guarded.edge.admin()).ask(request).status()
    });
    assert_eq!(deleted, 204);
    let end = Instant::now() + READY;
    while guarded.hosts.server.run(|| {
        let mut client = Client::connect(SocketAddr::new("127.0.0.1".parse().unwrap(), PORT));
        client.ask(with_token(&token)).status()
    }) != 200
    {
        assert!(Instant::now() < end, "the new key is not in force");
    }
    // Loopback has no program: it told when the keys were there. From then on the kernel refuses nothing of it either.
    assert_eq!(guarded.ask(&with_token(&token)).status(), 200);
}

/// Nothing is told to the kernel where routes would not all answer alike; `edge check` says which and why.
#[test]
fn hosts_whose_routes_differ_are_left_to_userspace() {
    let guarded = Guarded::start("required", json!({"anonymous": "nobody"}));
    let bad = flip(&guarded.good());
    for _ in 0..20 {
        assert!(is_of_userspace(&guarded.ask(&with_token(&bad))));
    }
    let check = guarded.edge.command(&["check"]);
    let text = String::from_utf8_lossy(&check.stdout).into_owned();
    let expected = "note: kernel_reject: other hosts: userspace refuses bad tokens, for route all has an openid-connect \
                    with `anonymous`";
    assert!(text.contains(expected), "{text}");
}

/// X1: with the programs and without them the same requests get the same answers.
#[test]
fn one_corpus_is_answered_alike_with_and_without_kernel_programs() {
    let (with, without) = (Guarded::start("required", json!({})), Guarded::start("off", json!({})));
    let answers = |guarded: &Guarded| {
        let good = guarded.good();
        let claims = edge_tests::mint::claims(&guarded.issuer.url(), "api://orders");
        let late = edge_tests::mint::with(claims.clone(), json!({"exp": edge_tests::mint::now() - 900}));
        let foreign = edge_tests::mint::with(claims.clone(), json!({"aud": "api://other"}));
        let tokens = [
            good.clone(),
            flip(&good),
            guarded.key.token(&late),
            guarded.key.token(&foreign),
            edge_tests::mint::unsigned(&json!({"alg": "none"}), &claims, ""),
            "opaque".to_owned(),
            good.replace('.', "-"),
            Key::es256("es-1").token(&claims),
        ];
        let lines = ["GET / HTTP/1.1", "POST / HTTP/1.1", "DELETE /x?y HTTP/1.1", "GET / HTTP/1.0", "HEAD / HTTP/1.1"];
        let more = ["", "Content-Length: 0\r\n", "Connection: close\r\n", "X: y\r\nCookie: a=b\r\n", "Host: again\r\n"];
        let mut answers = Vec::new();
        for line in lines {
            for fields in more {
                for token in &tokens {
                    let head = format!("{line}\r\nHost: test\r\nAuthorization: Bearer {token}\r\n{fields}\r\n");
                    // Again and again: what the kernel learns of the first ones it may not answer otherwise.
                    for _ in 0..3 {
                        let source = "10.9.0.2".parse().unwrap();
                        let answer = guarded.hosts.client.run(|| {
                            let server = SocketAddr::new("10.9.0.1".parse().unwrap(), PORT);
                            let mut client = Client::connect_from(source, server).unwrap();
                            client.send(&head);
                            client.response_to(line.split(' ').next().unwrap())
                        });
                        let challenge = answer.field("www-authenticate").unwrap_or("-").to_owned();
                        let text = answer.text();
                        let text = text.split("request_id").next().unwrap_or_default().to_owned();
                        answers.push((answer.start.clone(), challenge, text));
                    }
                }
            }
        }
        answers
    };
    let (expected, found) = (answers(&without), answers(&with));
    assert_eq!(found.len(), 600);
    for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
        assert_eq!(found, expected, "request {index}");
    }
    assert!(with.metric("rejected") >= 10.0, "the kernel answered nothing");
    assert_eq!(with.upstream.requests().len(), without.upstream.requests().len());
}

/// X4: whatever ends the edge, no program is left on the interface.
#[test]
fn a_killed_edge_leaves_no_program_that_refuses() {
    let guarded = Guarded::start("required", json!({}));
    let bad = flip(&guarded.good());
    guarded.ask_until_rejected(&bad);
    guarded.edge.signal(nix::sys::signal::Signal::SIGKILL);
    let end = Instant::now() + READY;
    while guarded.hosts.server.program(INTERFACE).is_some() {
        assert!(Instant::now() < end, "a program is left");
        std::thread::sleep(Duration::from_millis(10));
    }
    let filters = || {
        let shown = guarded.hosts.server.run(|| {
            let mut tc = std::process::Command::new("tc");
            tc.args(["filter", "show", "dev", INTERFACE, "ingress"]).output().unwrap()
        });
        String::from_utf8_lossy(&shown.stdout).matches("edge_reject").count()
    };
    // Links came with Linux 6.6: what stands on a qdisc stays, until the next edge puts its own in its place.
    let has_links = KernelVersion::current().unwrap() >= KernelVersion::new(6, 6, 0);
    assert_eq!(filters() == 0, has_links);
    let next = guarded.edge.upgrade().unwrap();
    assert_eq!(filters() > 0, !has_links);
    next.stop();
    assert_eq!(filters(), 0);
}

/// A token that expired is the kernel's once no leeway and no clock could make it good.
#[test]
fn an_expired_token_is_left_to_userspace_for_a_while() {
    let guarded = Guarded::start("required", json!({"leeway": 400}));
    let expired = |seconds: i64| {
        let claims = edge_tests::mint::claims(&guarded.issuer.url(), "api://orders");
        guarded.key.token(&edge_tests::mint::with(claims, json!({"exp": edge_tests::mint::now() - seconds})))
    };
    let (ours, kernels) = guarded.ask_until_rejected(&expired(720));
    assert_eq!((ours.text(), ours.all("www-authenticate")), (kernels.text(), kernels.all("www-authenticate")));
    for seconds in [401, 650] {
        let token = expired(seconds);
        for _ in 0..20 {
            let answer = guarded.ask(&with_token(&token));
            assert!(answer.status() == 401 && is_of_userspace(&answer), "{seconds}");
        }
    }
}

/// Answers have the host in them, which clients choose: more of them than there is room for cost those alone, and one line.
#[test]
fn more_hosts_than_answers_cost_nobody_else_anything() {
    let guarded = Guarded::start("required", json!({}));
    let bad = flip(&guarded.good());
    guarded.ask_until_rejected(&bad);
    for host in 0..300 {
        let head = format!("GET /orders HTTP/1.1\r\nHost: host-{host}\r\nAuthorization: Bearer {bad}\r\n\r\n");
        assert_eq!(guarded.ask(head.as_bytes()).status(), 401);
    }
    guarded.edge.logged("no room for an answer of kernel_reject");
    assert!(!is_of_userspace(&guarded.ask(&with_token(&bad))));
    assert_eq!(guarded.edge.output().matches("no room for an answer").count(), 1);
}
