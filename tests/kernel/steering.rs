//! What chooses sockets, with an edge in one namespace and clients in another: lanes and virtual addresses.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use edge_tests::edge::{Edge, READY, Setup};
use edge_tests::upstream::{Reply, Upstream};
use edge_tests::wire::{Client, Message, get};
use edge_user::kernel::{self, Kernel, Lane};
use edge_user::settings::KernelMode;
use socket2::{Domain, Socket, Type};

use crate::attach::settings;
use crate::namespace::{Hosts, INTERFACE};

/// Sockets of one group: three lanes of two workers, lane by lane.
fn group(address: &str) -> Vec<TcpListener> {
    let mut address: SocketAddr = address.parse().unwrap();
    let mut sockets = Vec::new();
    for _ in 0..6 {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), None).unwrap();
        socket.set_reuse_port(true).unwrap();
        socket.bind(&address.into()).unwrap();
        socket.listen(64).unwrap();
        address.set_port(socket.local_addr().unwrap().as_socket().unwrap().port());
        sockets.push(socket.into());
    }
    sockets
}

fn lanes(hosts: &Hosts) -> Kernel {
    let mut settings = settings(KernelMode::Required, INTERFACE, &[]);
    settings.lanes = true;
    hosts.server.run(|| kernel::start(&settings).unwrap())
}

/// Which of the sockets has a connection waiting, taking it.
fn taken(sockets: &[TcpListener]) -> Vec<usize> {
    let end = Instant::now() + READY;
    while Instant::now() < end {
        let taken: Vec<usize> =
            sockets.iter().enumerate().filter(|(_, socket)| socket.accept().is_ok()).map(|(index, _)| index).collect();
        if !taken.is_empty() {
            return taken;
        }
    }
    panic!("no connection arrived");
}

fn connect(hosts: &Hosts, source: &str, server: SocketAddr) {
    let source: IpAddr = source.parse().unwrap();
    hosts.client.run(|| Client::connect_from(source, server).unwrap());
}

#[test]
fn a_source_takes_its_lane_and_there_a_worker() {
    let hosts = Hosts::new();
    let kernel = lanes(&hosts);
    let soon = Instant::now() + Duration::from_secs(600);
    for (any, server, good, bad, prefix) in [
        ("0.0.0.0:0", "10.9.0.1", "10.9.0.2", "10.9.0.3", false),
        ("[::]:0", "fd00:9::1", "fd00:9::2", "fd00:9::3", true),
    ] {
        let sockets = hosts.server.run(|| group(any));
        kernel.steer(&sockets).unwrap();
        let server = SocketAddr::new(server.parse().unwrap(), sockets[0].local_addr().unwrap().port());
        let lane_of = |source: &str| {
            connect(&hosts, source, server);
            let [index] = taken(&sockets)[..] else { panic!("more than one connection arrived") };
            Lane::ALL[index / 2]
        };
        assert_eq!(lane_of(good), Lane::Unknown);
        // The addresses of an IPv6 prefix are one source.
        let address = |source: &str| if prefix { "fd00:9::".parse().unwrap() } else { source.parse().unwrap() };
        kernel.set_lane(address(good), Lane::Good, soon).unwrap();
        assert_eq!(lane_of(good), Lane::Good);
        kernel.set_lane(address(bad), Lane::Offending, soon).unwrap();
        assert_eq!(lane_of(bad), Lane::Offending);
        assert_eq!(lane_of(good), if prefix { Lane::Offending } else { Lane::Good });
        // What is over counts no more.
        kernel.set_lane(address(bad), Lane::Offending, Instant::now()).unwrap();
        std::thread::sleep(Duration::from_millis(20)); // the kernel's coarse clock is some ticks late
        assert_eq!(lane_of(bad), Lane::Unknown);
    }
    let counters = kernel.lane_counters();
    let count = |name: &str| counters.iter().find(|(found, _)| *found == name).unwrap().1;
    assert_eq!((count("good"), count("unknown"), count("offending"), count("fell_back")), (3, 4, 3, 0));
}

/// An empty slot, and a group that is not steered, leave the choice to the kernel's hash; counted.
#[test]
fn without_a_socket_in_its_slot_a_connection_goes_anywhere() {
    let hosts = Hosts::new();
    let kernel = lanes(&hosts);
    let sockets = hosts.server.run(|| group("0.0.0.0:0"));
    kernel.steer(&sockets).unwrap();
    let server = SocketAddr::new("10.9.0.1".parse().unwrap(), sockets[0].local_addr().unwrap().port());
    kernel.detach(false);
    for _ in 0..20 {
        connect(&hosts, "10.9.0.2", server);
        taken(&sockets);
    }
    let fell_back = kernel.lane_counters().iter().find(|(name, _)| *name == "fell_back").unwrap().1;
    assert_eq!(fell_back, 20);
    // Another generation takes the sockets.
    let next = lanes(&hosts);
    next.steer(&sockets).unwrap();
    connect(&hosts, "10.9.0.2", server);
    taken(&sockets);
    assert_eq!(next.lane_counters().iter().find(|(name, _)| *name == "unknown").unwrap().1, 1);
    // And one that does not steer takes the program off.
    kernel::unsteer(&sockets[0]);
    connect(&hosts, "10.9.0.2", server);
    taken(&sockets);
    assert_eq!(next.lane_counters().iter().find(|(name, _)| *name == "unknown").unwrap().1, 1);
}

/// An edge in the server's namespace, and its upstream.
struct Served {
    hosts: Hosts,
    edge: Edge,
    _upstream: Upstream,
}

impl Served {
    fn start(hosts: Hosts, change: impl FnOnce(Setup) -> Setup) -> Self {
        let answer = |request: &Message| Reply::ok(request.field("x-forwarded-port").unwrap_or("-"));
        let upstream = hosts.server.run(|| Upstream::with(answer));
        let entities = serde_json::json!({"_format_version": "3.0", "services": [
            {"name": "up", "url": upstream.url(), "routes": [{"name": "all", "paths": ["/"]}]}]});
        let setup = change(Setup::new(entities.to_string()).within(hosts.server.name()));
        let edge = setup.start();
        Self { hosts, edge, _upstream: upstream }
    }

    /// What is answered at this address, if anything is.
    fn ask(&self, source: &str, server: &str) -> Option<String> {
        let (source, server): (IpAddr, SocketAddr) = (source.parse().unwrap(), server.parse().unwrap());
        self.hosts.client.run(|| {
            let socket = Socket::new(Domain::for_address(server), Type::STREAM, None).unwrap();
            socket.bind(&SocketAddr::new(source, 0).into()).unwrap();
            socket.connect_timeout(&server.into(), Duration::from_millis(900)).ok()?;
            drop(socket);
            let mut client = Client::connect_from(source, server).ok()?;
            client.try_send(get("/", &["Connection: close"])).ok()?;
            Some(client.try_response("GET").ok()?.text())
        })
    }

    fn metric(&self, name: &str) -> f64 {
        self.hosts.server.run(|| self.edge.metric(name))
    }

    fn routes(&self) -> String {
        let hosts = &self.hosts;
        [
            hosts.server.ip(&["route", "show", "table", "local"]),
            hosts.server.ip(&["-6", "route", "show", "table", "local"]),
        ]
        .concat()
    }
}

/// Two hosts where the client sends everything to the server.
fn routed() -> Hosts {
    let hosts = Hosts::new();
    hosts.client.ip(&["route", "add", "default", "via", "10.9.0.1"]);
    hosts.client.ip(&["-6", "route", "add", "default", "via", "fd00:9::1"]);
    hosts
}

#[test]
fn lanes_serve_like_one_queue() {
    let kernel = format!("[kernel]\nmode = \"required\"\ninterfaces = [\"{INTERFACE}\"]\nlanes = true\n");
    let served = Served::start(Hosts::new(), |setup| setup.listener("address = \"0.0.0.0:8000\"").section(&kernel));
    for _ in 0..50 {
        assert_eq!(served.ask("10.9.0.2", "10.9.0.1:8000").as_deref(), Some("8000"));
    }
    // Both the SYN and the end of the handshake choose; one that is repeated, on a busy machine, chooses once more.
    let chosen = served.metric("edge_kernel_lane_connections_total{lane=\"unknown\"}");
    assert!((100.0..110.0).contains(&chosen), "{chosen}");
    // Over an upgrade, to other lanes and back.
    let toml = std::fs::read_to_string(served.edge.path("edge.toml")).unwrap();
    std::fs::write(served.edge.path("edge.toml"), toml.replace("lanes = true", "lanes = false")).unwrap();
    let next = served.edge.upgrade().unwrap();
    let served = Served { edge: next, ..served };
    for _ in 0..20 {
        assert!(served.ask("10.9.0.2", "10.9.0.1:8000").is_some());
    }
    std::fs::write(served.edge.path("edge.toml"), toml).unwrap();
    let next = served.edge.upgrade().unwrap();
    let served = Served { edge: next, ..served };
    for _ in 0..20 {
        assert!(served.ask("10.9.0.2", "10.9.0.1:8000").is_some());
    }
    assert!(served.metric("edge_kernel_lane_connections_total{lane=\"unknown\"}") >= 40.0);
    assert_eq!(served.hosts.server.program(INTERFACE), Some("xdp"));
}

#[test]
fn any_address_and_port_of_a_virtual_server_reaches_its_listener() {
    let listeners = |setup: Setup| {
        setup
            .listener("address = \"127.0.0.1:8000\"\nvips = [\"203.0.113.0/24\"]\nports = [\"443\", \"8000-8099\"]")
            .listener("address = \"[::]:8001\"\nvips = [\"2001:db8:7::/48\", \"203.0.113.9\"]\nports = [\"80\"]")
            .section("[kernel]\nmode = \"required\"")
    };
    let served = Served::start(routed(), listeners);
    let v4 = |server: &str| served.ask("10.9.0.2", server);
    for (server, expected) in [
        ("203.0.113.1:443", Some("443")),
        ("203.0.113.254:8000", Some("8000")),
        ("203.0.113.77:8099", Some("8099")),
        ("203.0.113.77:8100", None),
        ("203.0.113.77:80", None),
        // Of both listeners.
        ("203.0.113.9:80", Some("80")),
        ("203.0.113.9:443", Some("443")),
        ("203.0.114.1:443", None),
        ("10.9.0.1:443", None),
    ] {
        assert_eq!(v4(server).as_deref(), expected, "{server}");
    }
    assert_eq!(served.ask("fd00:9::2", "[2001:db8:7::beef]:80").as_deref(), Some("80"));
    assert_eq!(served.ask("fd00:9::2", "[2001:db8:8::1]:80"), None);
    let line = served.edge.access(|line| line["local"] == "203.0.113.254:8000");
    assert_eq!((&line["listener"], &line["client"]), (&"127.0.0.1:8000".into(), &"10.9.0.2".into()));
    served.edge.access(|line| line["local"] == "[2001:db8:7::beef]:80");
    assert!(served.metric("edge_kernel_vip_connections_total{result=\"assigned\"}") >= 12.0);
    served.edge.logged("local route added prefix=203.0.113.0/24");
    assert!(served.routes().contains("local 203.0.113.0/24 dev lo"), "{}", served.routes());

    // A reload changes them, and the connections there are go on.
    let mut open = served
        .hosts
        .client
        .run(|| Client::connect_from("10.9.0.2".parse().unwrap(), "203.0.113.1:443".parse().unwrap()).unwrap());
    assert_eq!(open.ask(get("/", &[])).status(), 200);
    let toml = std::fs::read_to_string(served.edge.path("edge.toml")).unwrap();
    let changed = toml.replace("\"203.0.113.0/24\"", "\"203.0.113.0/25\", \"192.0.2.0/24\"").replace("\"443\", ", "");
    std::fs::write(served.edge.path("edge.toml"), changed).unwrap();
    served.edge.signal(nix::sys::signal::Signal::SIGHUP);
    served.edge.logged("virtual addresses changed");
    served.edge.logged("local route removed prefix=203.0.113.0/24");
    assert_eq!(v4("192.0.2.8:8001").as_deref(), Some("8001"));
    assert_eq!((v4("203.0.113.1:443"), v4("203.0.113.200:8000")), (None, None));
    assert_eq!(open.ask(get("/", &[])).text(), "443");

    // An upgrade keeps them, whichever generation set them, and no connection is lost meanwhile.
    let stop = AtomicBool::new(false);
    let next = std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut asked = 0;
            while !stop.load(Ordering::Relaxed) {
                assert_eq!(v4("192.0.2.8:8001").as_deref(), Some("8001"), "after {asked}");
                asked += 1;
            }
            asked
        });
        let next = served.edge.upgrade().unwrap();
        std::thread::sleep(Duration::from_millis(300));
        stop.store(true, Ordering::Relaxed);
        assert!(asking.join().unwrap() > 20);
        next
    });
    drop(open);
    let Served { hosts, mut edge, _upstream } = served;
    assert!(edge.ends_within(READY).unwrap().success());
    let served = Served { hosts, edge: next, _upstream };
    assert_eq!(served.ask("10.9.0.2", "192.0.2.8:8001").as_deref(), Some("8001"));
}

/// X4: whatever ends the edge, no route and no program is left.
#[test]
fn a_killed_edge_leaves_no_route() {
    let listener = "address = \"127.0.0.1:8000\"\nvips = [\"203.0.113.0/24\"]\nports = [\"443\"]";
    let served = Served::start(routed(), |setup| setup.listener(listener).section("[kernel]\nmode = \"required\""));
    assert!(served.ask("10.9.0.2", "203.0.113.1:443").is_some());
    // Somebody else's routes stay.
    served.hosts.server.ip(&["route", "add", "local", "198.51.100.0/24", "dev", "lo"]);
    served.edge.signal(nix::sys::signal::Signal::SIGKILL);
    let end = Instant::now() + READY;
    while served.routes().contains("203.0.113.0") {
        assert!(Instant::now() < end, "{}", served.routes());
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(served.routes().contains("198.51.100.0"));
    assert_eq!(served.ask("10.9.0.2", "203.0.113.1:443"), None);
}

/// Virtual addresses with lanes, as an ordinary user, over an upgrade.
#[test]
fn virtual_addresses_lanes_and_an_ordinary_user_go_together() {
    let listener = "address = \"127.0.0.1:8000\"\nvips = [\"203.0.113.0/24\"]\nports = [\"443\"]";
    let sections = "[process]\nuser = \"nobody\"\n[kernel]\nmode = \"required\"\nlanes = true\n";
    let served = Served::start(routed(), |setup| setup.listener(listener).section(sections).folder_mode(0o777));
    for _ in 0..20 {
        assert_eq!(served.ask("10.9.0.2", "203.0.113.1:443").as_deref(), Some("443"));
    }
    assert!(served.metric("edge_kernel_lane_connections_total{lane=\"unknown\"}") >= 40.0);
    let next = served.edge.upgrade().unwrap();
    let Served { hosts, mut edge, _upstream } = served;
    assert!(edge.ends_within(READY).unwrap().success());
    let served = Served { hosts, edge: next, _upstream };
    for _ in 0..20 {
        assert_eq!(served.ask("10.9.0.2", "203.0.113.1:443").as_deref(), Some("443"));
    }
    assert!(served.routes().contains("203.0.113.0/24"));
    let (hosts, edge) = (served.hosts, served.edge);
    edge.stop();
    assert!(!hosts.server.ip(&["route", "show", "table", "local"]).contains("203.0.113.0"));
}
