//! What reaches the kernel from requests, and what an operator sees of it: with an edge, over sockets.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use edge_tests::edge::{Edge, READY, Setup};
use edge_tests::issuer::Issuer;
use edge_tests::mint::{Key, flip, with};
use edge_tests::upstream::Upstream;
use edge_tests::wire::{Client, get};
use serde_json::json;
use socket2::{Domain, Protocol, Socket, Type};

use crate::namespace::{Hosts, INTERFACE};

const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 9, 0, 1)), 8000);

struct Guarded {
    hosts: Hosts,
    edge: Edge,
    issuer: Issuer,
    key: Key,
    _upstream: Upstream,
}

impl Guarded {
    fn start(kernel: &str) -> Self {
        let (hosts, key) = (Hosts::new(), Key::es256("es-1"));
        let (upstream, issuer) = hosts.server.run(|| (Upstream::start(), Issuer::start(&[&key])));
        let config = json!({"issuer": issuer.url(), "auth_methods": ["bearer"], "audience_required": ["api://orders"]});
        let plugins = json!([{"name": "openid-connect", "config": config}]);
        let entities = json!({"_format_version": "3.0", "services": [{"name": "up", "url": upstream.url(),
            "routes": [{"name": "all", "paths": ["/"], "plugins": plugins}]}]});
        let sections = format!(
            "[kernel]\nmode = \"required\"\ninterfaces = [\"{INTERFACE}\"]\n{kernel}\
             [kernel.penalty]\nmode = \"enforce\"\ndistinct_tokens = 5\n"
        );
        let setup = Setup::new(entities.to_string()).within(hosts.server.name()).section(&sections);
        Self { edge: setup.listener("address = \"0.0.0.0:8000\"").start(), hosts, issuer, key, _upstream: upstream }
    }

    fn token(&self, number: usize) -> String {
        self.key.token(&with(edge_tests::mint::claims(&self.issuer.url(), "api://orders"), json!({"n": number})))
    }

    /// Sends these tokens from here over one connection; the statuses.
    fn ask(&self, source: &str, tokens: &[String]) -> Vec<u16> {
        self.hosts.client.run(|| {
            let mut client = Client::connect_from(source.parse().unwrap(), SERVER).unwrap();
            let ask = |token: &String| client.ask(get("/", &[&format!("Authorization: Bearer {token}")])).status();
            tokens.iter().map(ask).collect()
        })
    }

    fn reaches(&self, source: &str) -> bool {
        self.hosts.client.run(|| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.bind(&SocketAddr::new(source.parse().unwrap(), 0).into()).unwrap();
            socket.connect_timeout(&SERVER.into(), Duration::from_millis(700)).is_ok()
        })
    }

    fn metric(&self, name: &str) -> f64 {
        self.hosts.server.run(|| self.edge.metric(name))
    }

    /// What a command prints.
    fn command(&self, words: &[&str]) -> String {
        String::from_utf8_lossy(&self.edge.command(words).stdout).into_owned()
    }

    #[track_caller]
    fn becomes(&self, name: &str, least: f64) {
        let end = Instant::now() + READY;
        while self.metric(name) < least {
            assert!(Instant::now() < end, "{name} is {}", self.metric(name));
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn what_the_kernel_drops_is_in_log_metrics_and_answers_until_forgiven() {
    let guarded = Guarded::start("");
    let bad: Vec<String> = (0..5).map(|number| flip(&guarded.token(number))).collect();
    assert_eq!(guarded.ask("10.9.0.3", &bad), [401; 5]);
    guarded.edge.logged("the source gets a penalty");
    assert!(!guarded.reaches("10.9.0.3") && guarded.reaches("10.9.0.2"));

    let line = guarded.edge.access(|line| line["by"] == "kernel");
    assert_eq!((&line["client"], &line["reason"]), (&json!("10.9.0.3"), &json!("penalized")));
    guarded.becomes("edge_kernel_frames_total{verdict=\"penalized\"}", 1.0);
    let why = guarded.command(&["why", "10.9.0.3"]);
    assert!(
        why.starts_with("penalized    10.9.0.3: 5 proven bad tokens") && why.contains("frames in the kernel"),
        "{why}"
    );
    let status = guarded.command(&["kernel", "status"]);
    assert!(status.contains("map          PENALTY_V4: 1 of 65536"), "{status}");

    assert_eq!(guarded.command(&["kernel", "forgive", "10.9.0.3"]), "10.9.0.3 may connect again\n");
    assert!(guarded.reaches("10.9.0.3"));
    assert_eq!(guarded.ask("10.9.0.3", &[guarded.token(9)]), [200]);
}

/// X2: whoever writes another's address into packets has nobody boxed: only requests count.
#[test]
fn spoofed_packets_box_nobody() {
    let guarded = Guarded::start("");
    let victim: Ipv4Addr = "10.9.0.3".parse().unwrap();
    guarded.hosts.client.run(|| {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(nix::libc::IPPROTO_RAW))).unwrap();
        for port in 1024..4096_u16 {
            socket.send_to(&syn(victim, port), &SERVER.into()).unwrap();
        }
    });
    guarded.becomes("edge_kernel_frames_total{verdict=\"passed\"}", 3000.0);
    assert_eq!(guarded.command(&["why", "10.9.0.3"]), "free         10.9.0.3: nothing is in force against it\n");
    assert_eq!(guarded.metric("edge_penalty_sources{state=\"counted\"}"), 0.0);
    assert_eq!(guarded.ask("10.9.0.3", &[guarded.token(1)]), [200]);
}

/// An IPv4 packet with a SYN to the edge.
fn syn(source: Ipv4Addr, port: u16) -> Vec<u8> {
    let IpAddr::V4(server) = SERVER.ip() else { unreachable!("it is IPv4") };
    let mut tcp = [port.to_be_bytes(), SERVER.port().to_be_bytes()].concat();
    tcp.extend([0, 0, 0, 1, 0, 0, 0, 0, 5 << 4, 2, 0xff, 0xff, 0, 0, 0, 0]);
    let pseudo = [&source.octets()[..], &server.octets(), &[0, 6, 0, 20]].concat();
    let sum = crate::segment::checksum(&[&pseudo, &tcp]);
    tcp[16..18].copy_from_slice(&sum);
    // The kernel fills in length, identification and checksum (raw(7)).
    let header = [&[0x45, 0, 0, 0, 0, 0, 0, 0, 64, 6, 0, 0][..], &source.octets(), &server.octets()].concat();
    [header, tcp].concat()
}

/// A verified token leads to the good lane, bad ones to that of offenders, whichever worker saw them.
#[test]
fn tokens_choose_the_lane_of_their_source() {
    let guarded = Guarded::start("lanes = true\n");
    let lane = |name: &str| format!("edge_kernel_lane_connections_total{{lane=\"{name}\"}}");
    assert_eq!(guarded.ask("10.9.0.2", &[guarded.token(0)]), [200]);
    let bad: Vec<String> = (0..3).map(|number| flip(&guarded.token(number))).collect();
    assert_eq!(guarded.ask("10.9.0.3", &bad), [401; 3]);
    assert_eq!((guarded.metric(&lane("good")), guarded.metric(&lane("offending"))), (0.0, 0.0));
    let end = Instant::now() + READY;
    while guarded.metric(&lane("good")) < 1.0 || guarded.metric(&lane("offending")) < 1.0 {
        assert!(Instant::now() < end, "no connection took its lane");
        assert_eq!(guarded.ask("10.9.0.2", &[guarded.token(0)]), [200]);
        assert_eq!(guarded.ask("10.9.0.3", &bad[..1]), [401]);
    }
    assert_eq!(guarded.metric(&lane("fell_back")), 0.0);
}
