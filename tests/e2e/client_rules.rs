//! What hosts ask of clients in TLS, and requests that come for other hosts (security properties S3, S8).

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use edge_tests::certs::{self, Authority, Pair};
use edge_tests::edge::{Edge, READY, Setup, binary};
use edge_tests::h2raw;
use edge_tests::parties::curl;
use edge_tests::upstream::Upstream;
use edge_tests::wire::{Client, Message};
use nix::sys::signal::Signal;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, DEFAULT_VERSIONS};

use super::open;

const DAY: i64 = 86_400;

fn get(host: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

fn showing(pair: &Pair) -> Arc<ClientConfig> {
    certs::client_showing(pair, DEFAULT_VERSIONS)
}

fn nothing() -> Arc<ClientConfig> {
    certs::client(&["http/1.1"])
}

/// A connection with this server name, where the edge makes one: over TLS 1.3 a client learns of a refusal by its first
/// read.
fn connect(edge: &Edge, name: &str, client: &Arc<ClientConfig>) -> Option<(Client, Message)> {
    let mut connection = Client::tls(edge.address(), name, client.clone()).ok()?;
    connection.try_send(get(name)).ok()?;
    let answer = connection.try_response("GET").ok()?;
    Some((connection, answer))
}

/// Its status for a request with the name as host; 0 without a connection.
fn status(edge: &Edge, name: &str, client: &Arc<ClientConfig>) -> u16 {
    connect(edge, name, client).map_or(0, |(_, answer)| answer.status())
}

/// Waits until the configuration that was just written is in force.
fn reload(edge: &Edge) {
    let mark = edge.errors().mark();
    edge.signal(Signal::SIGHUP);
    edge.logged_after(mark, "configuration loaded");
}

struct Scene {
    staff: Authority,
    partners: Authority,
    upstream: Upstream,
    edge: Edge,
}

impl Scene {
    /// `edge.test` and what has no rules is open; staff alone gets to `staff.test` and `tools.test`, partners to what is
    /// below `partners.test`; `ask.test` takes both kinds.
    fn start() -> Self {
        let (staff, partners, upstream) = (Authority::new("staff"), Authority::new("partners"), Upstream::start());
        let own = certs::pair(&["edge.test", "staff.test", "tools.test", "a.partners.test", "ask.test", "127.0.0.1"]);
        let edge = Setup::new(open(&upstream.url()))
            .listener(
                r#"address = "127.0.0.1:0"
tls = true
certificate = "own.pem"
key = "own.key"
[[listeners.hosts]]
names = ["staff.test", "tools.test"]
client_certificate = "require"
client_ca = "staff.pem"
[[listeners.hosts]]
names = ["*.partners.test"]
client_certificate = "require"
client_ca = "partners.pem"
client_crl = ["partners.crl"]
[[listeners.hosts]]
names = ["ask.test"]
client_certificate = "request"
client_ca = "both.pem""#,
            )
            .file("own.pem", &*own.certificate)
            .file("own.key", &*own.key)
            .file("staff.pem", &*staff.own().certificate)
            .file("partners.pem", &*partners.own().certificate)
            .file("both.pem", format!("{}{}", staff.own().certificate, partners.own().certificate))
            .file("partners.crl", partners.revoked(&[2], (-60, DAY)))
            .file("root.pem", certs::root())
            .start();
        Self { staff, partners, upstream, edge }
    }
}

#[test]
fn hosts_ask_for_certificates_of_their_own() {
    // S3
    let Scene { staff, partners, upstream, edge } = Scene::start();
    let (employee, partner) = (showing(&staff.client("employee", 1)), showing(&partners.client("partner", 1)));
    let (former, stranger) = (showing(&partners.client("former", 2)), showing(&certs::self_signed("client")));
    let names = ["edge.test", "staff.test", "tools.test", "a.partners.test", "ask.test"];
    let mut served = 0;
    for (who, client, expected) in [
        ("nobody", &nothing(), [200, 0, 0, 0, 200]),
        ("an employee", &employee, [200, 200, 200, 0, 200]),
        ("a partner", &partner, [200, 0, 0, 200, 200]),
        ("a former partner", &former, [200, 0, 0, 0, 200]),
        ("a stranger", &stranger, [200, 0, 0, 0, 0]),
    ] {
        // The second time sessions are resumed, where there are some.
        for _ in 0..2 {
            let statuses = names.map(|name| status(&edge, name, client));
            assert_eq!(statuses, expected, "{who}");
            served += expected.iter().filter(|status| **status == 200).count();
        }
    }
    assert_eq!(upstream.requests().len(), served);
}

#[test]
fn a_request_for_a_host_with_other_rules_is_misdirected() {
    // S8
    let Scene { staff, partners, upstream, edge } = Scene::start();
    let (employee, partner) = (showing(&staff.client("employee", 1)), showing(&partners.client("partner", 1)));
    for (name, client, hosts) in [
        (
            "edge.test",
            &nothing(),
            &[
                ("edge.test", 200),
                ("other.test", 200),
                ("staff.test", 421),
                ("STAFF.test.:443", 421),
                ("ask.test", 421),
            ][..],
        ),
        // The certificate was never asked for, so it is nothing, whatever the client could have shown.
        ("edge.test", &employee, &[("staff.test", 421), ("edge.test", 200)]),
        // No server name goes with an address.
        (
            "127.0.0.1",
            &employee,
            &[("127.0.0.1", 200), ("edge.test", 200), ("staff.test", 421), ("a.partners.test", 421)],
        ),
        (
            "staff.test",
            &employee,
            &[
                ("staff.test", 200),
                ("Tools.Test", 200),
                ("a.partners.test", 421),
                ("edge.test", 421),
                ("ask.test", 421),
            ],
        ),
        ("a.partners.test", &partner, &[("b.partners.test", 200), ("c.b.partners.test", 200), ("staff.test", 421)]),
        ("ask.test", &employee, &[("staff.test", 421), ("ask.test", 200)]),
    ] {
        let mut connection = Client::tls(edge.address(), name, client.clone()).unwrap();
        for (host, expected) in hosts {
            let before = upstream.requests().len();
            let answer = connection.ask(get(host));
            assert_eq!(answer.status(), *expected, "{host} over {name}");
            assert_eq!(upstream.requests().len() - before, usize::from(*expected == 200));
            if *expected == 421 {
                assert_eq!(edge.reason_of(&answer), "host_misdirected");
                assert!(!answer.says_close(), "other hosts share the connection");
            }
        }
        // The authority of an absolute target is the host that counts (H11).
        let answer = connection.ask("GET http://tools.test/ HTTP/1.1\r\nHost: edge.test\r\n\r\n");
        assert_eq!(answer.status(), if name == "staff.test" { 200 } else { 421 }, "{name}");
    }
}

#[test]
fn http2_connections_are_shared_by_hosts_of_one_policy_alone() {
    // S8, with curl, whose Host becomes `:authority`.
    let Scene { staff, upstream, edge, .. } = Scene::start();
    let employee = staff.client("employee", 1);
    std::fs::write(edge.path("employee.pem"), format!("{}{}", employee.certificate, employee.key)).unwrap();
    let at = |name: &str| edge.path(name).display().to_string();
    let (root, own, port) = (at("root.pem"), at("employee.pem"), edge.address().port());
    for (name, host, expected) in [
        ("staff.test", "staff.test", "2 200"),
        ("staff.test", "tools.test", "2 200"),
        ("staff.test", "edge.test", "2 421"),
        ("staff.test", "a.partners.test", "2 421"),
        ("edge.test", "staff.test", "2 421"),
        ("edge.test", "other.test", "2 200"),
    ] {
        let (resolve, host) = (format!("{name}:{port}:127.0.0.1"), format!("Host: {host}"));
        let url = format!("https://{name}:{port}/");
        let mut words = vec!["--http2", "--cacert", &root, "--cert", &own, "--resolve", &resolve, "-H", &host];
        words.extend(["-o", "/dev/null", "-w", "%{http_version} %{http_code}", &url]);
        assert_eq!(curl(&words), (expected.to_owned(), true), "{host} over {name}");
    }
    assert_eq!(upstream.requests().len(), 3);
}

/// An edge for clients of this authority, whose list `ca.crl` has nobody yet.
fn revoking(clients: &Authority, upstream: &Upstream) -> Edge {
    let rules = "client_certificate = \"require\"\nclient_ca = \"ca.pem\"\nclient_crl = [\"ca.crl\"]";
    Setup::new(open(&upstream.url()))
        .tls_with(rules)
        .file("ca.pem", &*clients.own().certificate)
        .file("ca.crl", clients.revoked(&[], (-60, DAY)))
        .start()
}

#[test]
fn lists_and_authorities_are_read_anew() {
    // S3, S6: open connections go on, as far as their certificates are good.
    let (clients, upstream) = (Authority::new("clients"), Upstream::start());
    let edge = revoking(&clients, &upstream);
    let (leaver, stayer) = (clients.client("leaver", 7), clients.client("stayer", 8));
    let both = |pair: &Pair| [&TLS12, &TLS13].map(|version| certs::client_showing(pair, &[version]));
    let (leavers, stayers) = (both(&leaver), both(&stayer));
    let open = |client| connect(&edge, "edge.test", client).expect("a connection").0;
    let mut kept: Vec<_> = leavers.iter().chain(&stayers).map(open).collect();

    std::fs::write(edge.path("ca.crl"), clients.revoked(&[7], (-60, DAY))).unwrap();
    assert_eq!(leavers.each_ref().map(|client| status(&edge, "edge.test", client)), [200, 200], "not read yet");
    reload(&edge);
    assert_eq!(leavers.each_ref().map(|client| status(&edge, "edge.test", client)), [0, 0]);
    assert_eq!(leavers.each_ref().map(|client| status(&edge, "edge.test", client)), [0, 0], "nor by resumption");
    assert_eq!(stayers.each_ref().map(|client| status(&edge, "edge.test", client)), [200, 200]);
    for (index, connection) in kept.iter_mut().enumerate() {
        let answer = connection.ask(get("edge.test"));
        assert_eq!(answer.status(), if index < 2 { 421 } else { 200 });
        if index < 2 {
            assert_eq!(edge.reason_of(&answer), "client_certificate_refused");
            assert!(answer.says_close());
        }
    }

    // openssl tells its user why.
    std::fs::write(edge.path("leaver.pem"), format!("{}{}", leaver.certificate, leaver.key)).unwrap();
    let mut client = Command::new("openssl");
    client.args(["s_client", "-tls1_2", "-servername", "edge.test", "-connect", &edge.address().to_string(), "-cert"]);
    let said = client.arg(edge.path("leaver.pem")).stdin(std::process::Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("certificate revoked"), "{said}");

    // A list that is none leaves the one in force.
    std::fs::write(edge.path("ca.crl"), "no list").unwrap();
    let mark = edge.errors().mark();
    edge.signal(Signal::SIGHUP);
    let line = edge.logged_after(mark, "configuration refused");
    assert!(line.contains("client_crl[0]: found no revocation list"), "{line}");
    assert_eq!((status(&edge, "edge.test", &leavers[1]), status(&edge, "edge.test", &stayers[1])), (0, 200));

    // One that is past its time is told, and lets nobody in; the next one does.
    std::fs::write(edge.path("ca.crl"), clients.revoked(&[7], (-2 * DAY, -DAY))).unwrap();
    let mark = edge.errors().mark();
    reload(&edge);
    edge.logged_after(mark, "ended 1440 min ago");
    assert_eq!(status(&edge, "edge.test", &stayers[1]), 0);
    let said = |words: &[&str]| {
        let output = edge.command(words);
        (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let (good, text) = said(&["check"]);
    assert!(good && text.contains("ended 1440 min ago"), "{text}");
    let (good, text) = said(&["doctor"]);
    assert!(!good && text.contains("ended 1440 min ago"), "{text}");
    std::fs::write(edge.path("ca.crl"), clients.revoked(&[7], (-60, DAY))).unwrap();
    reload(&edge);
    assert_eq!(status(&edge, "edge.test", &stayers[1]), 200);
    let sample = format!("edge_tls_crl_next_update_seconds{{file=\"{}\"}}", edge.path("ca.crl").display());
    let left = edge.metric(&sample) - edge_tests::mint::now() as f64;
    assert!((DAY as f64 - 100.0..=DAY as f64).contains(&left), "{left}");

    // Another authority: what led to the first one leads nowhere.
    let successors = Authority::new("successors");
    std::fs::write(edge.path("ca.pem"), &successors.own().certificate).unwrap();
    std::fs::write(edge.path("ca.crl"), successors.revoked(&[], (-60, DAY))).unwrap();
    reload(&edge);
    assert_eq!(status(&edge, "edge.test", &stayers[1]), 0);
    assert_eq!(status(&edge, "edge.test", &showing(&successors.client("new", 7))), 200);
}

#[test]
fn a_certificate_that_is_revoked_ends_its_http2_connection() {
    // S3
    let (clients, upstream) = (Authority::new("clients"), Upstream::start());
    let edge = revoking(&clients, &upstream);
    let mut client = (*showing(&clients.client("leaver", 7))).clone();
    client.alpn_protocols = vec![b"h2".to_vec()];
    h2raw::block_on(async {
        let sender = h2raw::connect_tls_as(Arc::new(client), edge.address(), "edge.test").await;
        let request = || http::Request::get("https://edge.test/").body(()).unwrap();
        assert_eq!(h2raw::ask(&sender, request(), b"").await.unwrap().status, 200);
        std::fs::write(edge.path("ca.crl"), clients.revoked(&[7], (-60, DAY))).unwrap();
        reload(&edge);
        assert_eq!(h2raw::ask(&sender, request(), b"").await.unwrap().status, 421);
        // GOAWAY: no stream can be opened any more.
        let end = Instant::now() + READY;
        while let Ok(answer) = h2raw::ask(&sender, request(), b"").await {
            assert_eq!(answer.status, 421);
            assert!(Instant::now() < end, "the connection goes on");
        }
    });
    assert_eq!(upstream.requests().len(), 1);
}

/// What was good ends: a connection serves this client until then, and no other does afterwards, by resumption neither.
fn is_served_until_refused(edge: &Edge, client: &Arc<ClientConfig>) {
    let (mut kept, answer) = connect(edge, "edge.test", client).expect("a connection");
    assert_eq!(answer.status(), 200);
    let end = Instant::now() + READY;
    let last = loop {
        let answer = kept.ask(get("edge.test"));
        if answer.status() != 200 {
            break answer;
        }
        assert!(Instant::now() < end, "it is served for ever");
        std::thread::sleep(Duration::from_millis(50));
    };
    assert_eq!((last.status(), edge.reason_of(&last).as_str()), (421, "client_certificate_refused"));
    assert!(last.says_close());
    assert_eq!(status(edge, "edge.test", client), 0);
}

#[test]
fn a_certificate_that_expires_ends_its_connection() {
    // S3
    let (clients, upstream) = (Authority::new("clients"), Upstream::start());
    let rules = "client_certificate = \"require\"\nclient_ca = \"ca.pem\"";
    let edge = Setup::new(open(&upstream.url())).tls_with(rules).file("ca.pem", &*clients.own().certificate).start();
    let client = showing(&clients.client_for("short", 1, Duration::from_secs(3)));
    is_served_until_refused(&edge, &client);
}

#[test]
fn rules_follow_a_reload_of_the_settings() {
    // S8: what a connection proved under other rules is not enough.
    let (clients, upstream) = (Authority::new("clients"), Upstream::start());
    let edge = Setup::new(open(&upstream.url())).tls().file("ca.pem", &*clients.own().certificate).start();
    let mut kept = connect(&edge, "edge.test", &nothing()).unwrap().0;
    let path = edge.path("edge.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let rules = "tls = true\nclient_certificate = \"require\"\nclient_ca = \"ca.pem\"";
    std::fs::write(&path, text.replace("tls = true", rules)).unwrap();
    let mark = edge.errors().mark();
    edge.signal(Signal::SIGHUP);
    edge.logged_after(mark, "configuration loaded");
    let end = Instant::now() + READY;
    while status(&edge, "edge.test", &nothing()) != 0 {
        assert!(Instant::now() < end, "the new rules are not in force");
    }
    let answer = kept.ask(get("edge.test"));
    assert_eq!((answer.status(), edge.reason_of(&answer).as_str()), (421, "host_misdirected"));
    // The name it was made for is no use to it any more.
    assert!(answer.says_close() && kept.closes());
    let client = showing(&clients.client("client", 1));
    assert_eq!(status(&edge, "edge.test", &client), 200);
    let after = edge.errors().text();
    assert!(!after.contains("take effect at the next start"), "{after}");

    // So it is over HTTP/2. What the new settings are warned of is said, and is nothing that would have to wait.
    let mut over_http2 = (*client).clone();
    over_http2.alpn_protocols = vec![b"h2".to_vec()];
    h2raw::block_on(async {
        let sender = h2raw::connect_tls_as(Arc::new(over_http2), edge.address(), "edge.test").await;
        let request = || http::Request::get("https://edge.test/").body(()).unwrap();
        assert_eq!(h2raw::ask(&sender, request(), b"").await.unwrap().status, 200);
        std::fs::write(&path, text.replace("tls = true", "tls = true\nclient_certificate = \"require\"")).unwrap();
        let mark = edge.errors().mark();
        reload(&edge);
        edge.logged_after(mark, "without `client_ca` any certificate is taken");
        assert_eq!(h2raw::ask(&sender, request(), b"").await.unwrap().status, 421);
        let end = Instant::now() + READY;
        while h2raw::ask(&sender, request(), b"").await.is_ok() {
            assert!(Instant::now() < end, "the connection goes on");
        }
    });
    let after = edge.errors().text();
    assert!(!after.contains("take effect at the next start"), "{after}");

    // A listener beside it waits for the next start; the rules of this one do not.
    let rules = "tls = true\nclient_certificate = \"require\"\nclient_ca = \"ca.pem\"";
    let more = "\n[[listeners]]\naddress = \"127.0.0.2:0\"\n";
    std::fs::write(&path, format!("{}{more}", text.replace("tls = true", rules))).unwrap();
    let mark = edge.errors().mark();
    reload(&edge);
    edge.logged_after(mark, "take effect at the next start");
    assert_eq!(status(&edge, "edge.test", &showing(&certs::self_signed("client"))), 0);
    assert_eq!(status(&edge, "edge.test", &client), 200);
}

#[test]
fn a_list_that_ends_ends_connections() {
    // S3
    let (clients, upstream) = (Authority::new("clients"), Upstream::start());
    let edge = revoking(&clients, &upstream);
    std::fs::write(edge.path("ca.crl"), clients.revoked(&[], (-60, 3))).unwrap();
    reload(&edge);
    let client = showing(&clients.client("client", 1));
    is_served_until_refused(&edge, &client);
}

#[test]
fn what_is_wrong_with_files_of_hosts_is_told_by_check() {
    let clients = Authority::new("clients");
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup::new(open("http://127.0.0.1:9"))
        .tls_with(
            "[[listeners.hosts]]\nnames = [\"a.test\"]\nclient_certificate = \"require\"\nclient_ca = \"ca.pem\"\n\
             client_crl = [\"other.crl\", \"broken.crl\"]",
        )
        .file("ca.pem", &*clients.own().certificate)
        .file("other.crl", Authority::new("others").revoked(&[], (-60, DAY)))
        .file("broken.crl", "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n");
    let config = setup.write(dir.path(), edge_tests::edge::free_address()).unwrap();
    let check = || {
        let checked = Command::new(binary()).args(["check", "--config"]).arg(&config).output().unwrap();
        (checked.status.success(), String::from_utf8_lossy(&[checked.stdout, checked.stderr].concat()).into_owned())
    };
    let (good, said) = check();
    assert!(!good && said.contains("listeners[0].hosts[0].client_crl[1]: found no revocation list"), "{said}");
    std::fs::write(dir.path().join("broken.crl"), Authority::new("more").revoked(&[], (-60, DAY))).unwrap();
    let (good, said) = check();
    assert!(good && said.contains("none of the lists is of CN=clients"), "{said}");
}
