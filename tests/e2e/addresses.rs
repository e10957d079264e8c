//! Whose request it is, by the fields of trusted peers, and what upstreams are told of the way (P3).

use edge_tests::edge::{Edge, Setup};
use edge_tests::h2raw;
use edge_tests::parties::Nginx;
use edge_tests::upstream::Upstream;
use edge_tests::wire::{Client, get};
use serde_json::json;

use super::open;

const TRUSTED: &str = "[proxy]\ntrusted_ips = [\"127.0.0.0/8\", \"10.0.0.0/8\"]\n";

fn edge(upstream: &Upstream, proxy: &str) -> Edge {
    Setup::new(open(&upstream.url())).section(proxy).start()
}

/// The client of a request with these fields, as the edge tells it.
fn client(edge: &Edge, upstream: &Upstream, fields: &[&str]) -> String {
    assert_eq!(edge.ask(get("/", fields)).status(), 200);
    upstream.last().field("x-real-ip").unwrap().to_owned()
}

/// The same table through nginx's realip module, whose settings these are.
#[test]
fn the_client_is_whom_nginx_finds() {
    for name in ["X-Real-IP", "X-Forwarded-For", "True-Client-IP"] {
        for recursive in [false, true] {
            let upstream = Upstream::start();
            let edge =
                edge(&upstream, &format!("{TRUSTED}real_ip_header = \"{name}\"\nreal_ip_recursive = {recursive}"));
            let nginx = Nginx::start(&format!(
                "set_real_ip_from 127.0.0.0/8; set_real_ip_from 10.0.0.0/8; real_ip_header {name};\n\
                 real_ip_recursive {}; location / {{ return 200 $remote_addr; }}",
                if recursive { "on" } else { "off" }
            ));
            let address = nginx.url().strip_prefix("http://").unwrap().parse().unwrap();
            for value in [
                "1.1.1.1",
                "1.1.1.1:443",
                "9.9.9.9, 1.1.1.1, 10.0.0.2",
                "9.9.9.9,1.1.1.1:7,10.0.0.2:8",
                "10.0.0.4, 10.0.0.3",
                "9.9.9.9, junk, 10.0.0.2",
                "9.9.9.9, junk",
                "9.9.9.9 1.1.1.1",
                "2001:db8::1",
                "[2001:db8::1]:80",
                "[2001:db8::1]",
                "1.1.1",
                "1.1.1.1:0",
                "1.1.1.1:65536",
                "unknown",
                "fe80::1%1",
            ] {
                let line = format!("{name}: {value}");
                let theirs = Client::connect(address).ask(get("/", &[&line])).text();
                assert_eq!(client(&edge, &upstream, &[&line]), theirs, "{line} {recursive}");
            }
            // Of several lines nginx joins those of `X-Forwarded-For`. The last hop's is the last one, whatever its name.
            let lines = ["9.9.9.9", "1.1.1.1", "10.0.0.2"].map(|value| format!("{name}: {value}"));
            let lines = lines.each_ref().map(|line| line.as_str());
            let ours = client(&edge, &upstream, &lines);
            assert_eq!(ours, if recursive { "1.1.1.1" } else { "10.0.0.2" }, "{name}");
            if name == "X-Forwarded-For" {
                assert_eq!(Client::connect(address).ask(get("/", &lines)).text(), ours);
            }
        }
    }
}

#[test]
fn one_field_counts_and_only_of_trusted_peers() {
    // P3
    let all = ["X-Real-IP: 1.1.1.1", "X-Forwarded-For: 2.2.2.2", "True-Client-IP: 3.3.3.3", "Forwarded: for=4.4.4.4"];
    for (proxy, expected) in [
        ("", "127.0.0.1"),
        ("[proxy]\ntrusted_ips = [\"10.0.0.0/8\"]", "127.0.0.1"),
        (TRUSTED, "1.1.1.1"),
        (&format!("{TRUSTED}real_ip_header = \"X-Forwarded-For\""), "2.2.2.2"),
        (&format!("{TRUSTED}real_ip_header = \"true-client-ip\""), "3.3.3.3"),
        (&format!("{TRUSTED}real_ip_header = \"X-Other\""), "127.0.0.1"),
    ] {
        let upstream = Upstream::start();
        let edge = edge(&upstream, proxy);
        assert_eq!(client(&edge, &upstream, &all), expected, "{proxy}");
        assert_eq!(edge.access(|line| line["status"] == 200)["client"], expected, "{proxy}");
    }
    // With a listener that takes PROXY headers they alone may be asked.
    let upstream = Upstream::start();
    let section = format!("{TRUSTED}real_ip_header = \"proxy_protocol\"");
    let listener = "address = \"127.0.0.1:0\"\nproxy_protocol = \"v1\"";
    let edge = Setup::new(open(&upstream.url())).listener(listener).clear().section(&section).start();
    let mut told = Client::connect(edge.listener(0));
    told.send("PROXY TCP4 10.0.0.9 192.0.2.1 50000 443\r\n");
    assert_eq!(told.ask(get("/", &all)).status(), 200);
    assert_eq!(upstream.last().field("x-real-ip"), Some("10.0.0.9"));
    assert_eq!(Client::connect(edge.listener(1)).ask(get("/", &all)).status(), 200);
    assert_eq!(upstream.last().field("x-real-ip"), Some("127.0.0.1"));
}

/// A name of the operator's choice is as well guarded as the usual ones, in trailers too.
#[test]
fn nobody_but_trusted_peers_sends_the_field() {
    let upstream = Upstream::start();
    let request = "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\nTrue-Client-IP: 1.1.1.1\r\n\
        True_Client_IP: 2.2.2.2\r\nTRUE.CLIENT.IP: 3.3.3.3\r\nConnection: true-client-ip\r\n\r\n\
        2\r\nhi\r\n0\r\nTrue-Client-IP: 4.4.4.4\r\nForwarded: for=4.4.4.4\r\nX-Sum: 1\r\n\r\n";
    let name = "real_ip_header = \"True-Client-IP\"";
    let stranger = edge(&upstream, &format!("[proxy]\n{name}"));
    assert_eq!(stranger.ask(request).status(), 200);
    let seen = upstream.last();
    let text = String::from_utf8_lossy(&seen.raw).to_lowercase();
    assert!(!text.contains("client-ip") && !text.contains("client_ip") && !text.contains("client.ip"), "{text}");
    assert_eq!(seen.trailers, [("X-Sum".to_owned(), "1".to_owned())]);
    let trusting = edge(&upstream, &format!("{TRUSTED}{name}"));
    assert_eq!(trusting.ask(request.replace("Connection: true-client-ip\r\n", "")).status(), 200);
    let seen = upstream.last();
    assert_eq!((seen.field("true-client-ip"), seen.field("x-real-ip")), (Some("1.1.1.1"), Some("1.1.1.1")));
    assert_eq!((seen.field("true_client_ip"), seen.field("true.client.ip")), (None, None));
    assert_eq!(seen.trailers, [("X-Sum".to_owned(), "1".to_owned())]);
}

/// What the upstream reads in `Forwarded`.
fn forwarded(edge: &Edge, upstream: &Upstream, fields: &[&str]) -> Vec<String> {
    assert_eq!(edge.ask(get("/", fields)).status(), 200);
    upstream.last().all("forwarded").into_iter().map(str::to_owned).collect()
}

#[test]
fn forwarded_of_strangers_is_replaced_and_of_trusted_peers_continued() {
    // P3
    const OWN: &str = "for=127.0.0.1;host=test;proto=http";
    let upstream = Upstream::start();
    let on = edge(&upstream, "[proxy]\nforwarded = true");
    let forged = ["Forwarded: for=9.9.9.9", "FORWARDED: for=\"_x\"", "forwarded: junk"];
    assert_eq!(forwarded(&on, &upstream, &forged), [OWN]);
    assert_eq!(forwarded(&on, &upstream, &[]), [OWN]);
    let off = edge(&upstream, "");
    assert!(forwarded(&off, &upstream, &forged).is_empty());

    let well_formed = ["Forwarded: for=_hidden;proto=https, For=\"[2001:db8::1]:4711\"", "Forwarded: for=unknown"];
    let chain = "for=_hidden;proto=https, for=\"[2001:db8::1]:4711\", for=unknown";
    let trusting = edge(&upstream, &format!("{TRUSTED}forwarded = true"));
    assert_eq!(forwarded(&trusting, &upstream, &well_formed), [format!("{chain}, {OWN}")]);
    assert_eq!(forwarded(&trusting, &upstream, &[]), [OWN]);
    // One bad line, and nobody knows where an element ends.
    for bad in ["Forwarded: for=1.1.1.1, for=\"2.2.2.2", "Forwarded: for=1.1.1.1;for=2.2.2.2", "Forwarded: for=::1"] {
        assert_eq!(forwarded(&trusting, &upstream, &[well_formed[0], bad]), [OWN], "{bad}");
    }
    let passing = edge(&upstream, TRUSTED);
    assert_eq!(forwarded(&passing, &upstream, &well_formed), [chain]);
    assert!(forwarded(&passing, &upstream, &["Forwarded: for=1.1.1.1;for=2.2.2.2"]).is_empty());
    assert!(forwarded(&passing, &upstream, &[]).is_empty());
}

#[test]
fn forwarded_quotes_what_is_no_token_and_names_the_edge_as_configured() {
    let upstream = Upstream::start();
    let local = "[proxy]\nforwarded = true\nforwarded_by = \"address\"";
    let edge = Setup::new(open(&upstream.url())).listener("address = \"[::1]:0\"").tls().section(local).start();
    let request = "GET / HTTP/1.1\r\nHost: API.test:8443\r\n\r\n";
    assert_eq!(Client::connect(edge.listener(0)).ask(request).status(), 200);
    let expected = "for=\"[::1]\";by=\"[::1]\";host=\"API.test:8443\";proto=http";
    assert_eq!(upstream.last().all("forwarded"), [expected]);
    // HTTP/2 over TLS.
    let answer = h2raw::block_on(async {
        let sender = h2raw::connect_tls(edge.listener(1), "edge.test").await;
        let request = http::Request::get("https://edge.test/").version(http::Version::HTTP_2);
        let request = request.header("forwarded", "for=9.9.9.9").body(()).unwrap();
        h2raw::ask(&sender, request, b"").await.unwrap().status
    });
    assert_eq!(answer, 200);
    assert_eq!(upstream.last().all("forwarded"), ["for=127.0.0.1;by=127.0.0.1;host=edge.test;proto=https"]);

    let section = "[proxy]\nforwarded = true\nforwarded_by = \"_edge-1\"";
    let edge = Setup::new(open(&upstream.url())).section(section).start();
    assert_eq!(forwarded(&edge, &upstream, &[]), ["for=127.0.0.1;by=_edge-1;host=test;proto=http"]);
}

#[test]
fn settings_that_contradict_are_refused() {
    let entities = json!({"_format_version": "3.0"}).to_string();
    for (text, part) in [
        ("[proxy]\nreal_ip_header = \"proxy_protocol\"", "no listener takes it"),
        ("[proxy]\nforwarded_by = \"_edge\"", "`forwarded = true` beside it"),
    ] {
        let problem = Setup::new(&*entities).section(text).try_start().err().expect("a problem");
        assert!(format!("{problem:#}").contains(part), "{problem:#}");
    }
}
