//! What goes from one process to the next: handed over, or left where `kernel.pin` says so.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use edge_tests::edge::{Edge, READY, Setup};
use edge_tests::issuer::Issuer;
use edge_tests::mint::{Key, flip, with};
use edge_tests::upstream::Upstream;
use edge_tests::wire::{Client, get};
use edge_user::control::TakeOver;
use edge_user::settings::KernelMode;
use edge_user::{kernel, settings};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::namespace::{Hosts, INTERFACE};

/// A bpf file system of the test's own.
struct BpfFs(tempfile::TempDir);

impl BpfFs {
    fn mount() -> Self {
        crate::require_root();
        let place = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount").args(["-t", "bpf", "bpf"]).arg(place.path()).status().unwrap();
        assert!(mounted.success(), "a bpf file system cannot be mounted");
        Self(place)
    }

    fn pin(&self) -> PathBuf {
        self.0.path().join("edge")
    }

    /// Names below the pins, sorted.
    fn names(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.pin()) else { return Vec::new() };
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

impl Drop for BpfFs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

fn start(hosts: &Hosts, bpf: &BpfFs, user: &str) -> (Edge, Issuer, Key) {
    start_with(hosts, user, &format!("pin = \"{}\"\n", bpf.pin().display()))
}

fn start_with(hosts: &Hosts, user: &str, pin: &str) -> (Edge, Issuer, Key) {
    let key = Key::es256("es-1");
    let (upstream, issuer) = hosts.server.run(|| (Upstream::start(), Issuer::start(&[&key])));
    let config = json!({"issuer": issuer.url(), "auth_methods": ["bearer"], "audience_required": ["api://orders"]});
    let plugins = json!([{"name": "openid-connect", "config": config}]);
    let entities = json!({"_format_version": "3.0", "services": [{"name": "up", "url": upstream.url(),
        "routes": [{"name": "all", "paths": ["/"], "plugins": plugins}]}]});
    let sections = format!(
        "[process]\n{user}[kernel]\nmode = \"required\"\ninterfaces = [\"{INTERFACE}\"]\ndeny = [\"10.9.0.3\"]\n\
         {pin}[kernel.penalty]\nmode = \"enforce\"\ndistinct_tokens = 5\nttl = 600\n",
    );
    let setup = Setup::new(entities.to_string()).within(hosts.server.name());
    let edge = setup.listener("address = \"0.0.0.0:8000\"").section(&sections).folder_mode(0o777).start();
    (edge, issuer, key)
}

fn reaches(hosts: &Hosts, source: &str) -> bool {
    reaches_within(hosts, source, Duration::from_millis(700))
}

fn reaches_within(hosts: &Hosts, source: &str, wait: Duration) -> bool {
    hosts.client.run(|| {
        let source = source.parse::<std::net::IpAddr>().unwrap();
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&std::net::SocketAddr::new(source, 0).into()).unwrap();
        let server = std::net::SocketAddr::from(([10, 9, 0, 1], 8000));
        socket.connect_timeout(&server.into(), wait).is_ok()
    })
}

/// Has 10.9.0.4 send bad tokens until it gets a penalty.
fn penalize(hosts: &Hosts, edge: &Edge, issuer: &Issuer, key: &Key) {
    hosts.client.ip(&["address", "add", "10.9.0.4/24", "dev", "edge1"]);
    hosts.client.run(|| {
        let server = std::net::SocketAddr::from(([10, 9, 0, 1], 8000));
        let mut client = Client::connect_from("10.9.0.4".parse().unwrap(), server).unwrap();
        for number in 0..5 {
            let claims = with(edge_tests::mint::claims(&issuer.url(), "api://orders"), json!({"n": number}));
            let token = flip(&key.token(&claims));
            assert_eq!(client.ask(get("/", &[&format!("Authorization: Bearer {token}")])).status(), 401);
        }
    });
    edge.logged("the source gets a penalty");
}

/// X4: without `kernel.pin` maps and links are handed over, so that a program is on the interface at every moment of an
/// upgrade and knows all sources; a killed process leaves nothing.
#[test]
fn an_upgrade_replaces_programs_where_they_are() {
    let hosts = Hosts::new();
    let (edge, issuer, key) = start_with(&hosts, "user = \"nobody\"\n", "");
    penalize(&hosts, &edge, &issuer, &key);
    let frames = |edge: &Edge| {
        let status: serde_json::Value =
            serde_json::from_slice(&edge.command(&["kernel", "status", "--json"]).stdout).unwrap();
        let counted = status["frames"].as_array().unwrap().iter().find(|one| one["name"] == "denied_v4").unwrap();
        counted["count"].as_u64().unwrap()
    };
    let before = frames(&edge);
    let (mut generation, mut tried) = (edge, 0);
    for _ in 0..3 {
        let over = AtomicBool::new(false);
        let next = std::thread::scope(|scope| {
            let denied = scope.spawn(|| {
                let mut tried = 0;
                while !over.load(Ordering::Relaxed) {
                    // The server's TCP would answer at once where no program drops it.
                    assert!(
                        !reaches_within(&hosts, "10.9.0.3", Duration::from_millis(50)),
                        "a moment without a program"
                    );
                    tried += 1;
                }
                tried
            });
            let next = generation.upgrade().unwrap();
            assert!(generation.ends_within(READY).unwrap().success());
            over.store(true, Ordering::Relaxed);
            tried += denied.join().unwrap();
            next
        });
        next.logged("kernel program replaced where the last one was left");
        generation = next;
    }
    assert!(tried >= 6, "{tried}");
    assert!(reaches(&hosts, "10.9.0.2") && !reaches(&hosts, "10.9.0.4"));
    // The counters went over too.
    assert!(frames(&generation) >= before + tried, "{tried} of {}", frames(&generation));
    generation.signal(Signal::SIGKILL);
    generation.ends_within(READY).unwrap();
    assert_eq!(hosts.server.program(INTERFACE), None);
}

/// A generation that puts its programs on the interfaces and then fails: those of the old one stand there again, and
/// what it wrote into their maps is gone.
#[test]
fn a_generation_that_fails_leaves_the_programs_of_the_old() {
    let hosts = Hosts::new();
    let (edge, ..) = start_with(&hosts, "user = \"nobody\"\n", "");
    let program = || {
        let shown = hosts.server.ip(&["-details", "link", "show", "dev", INTERFACE]);
        shown.split("prog/xdp id ").nth(1).unwrap().split_whitespace().next().unwrap().to_owned()
    };
    let ours = program();
    hosts.server.run(|| {
        let (mut take_over, _) = TakeOver::begin(&edge.path("edge.sock")).unwrap();
        let deny = vec![edge_user::settings::Cidr::parse("10.9.0.2").unwrap()];
        let interfaces = vec![INTERFACE.to_owned()];
        let settings = settings::Kernel { mode: KernelMode::Required, interfaces, deny, ..Default::default() };
        let mut next = kernel::load(&settings, take_over.kernel.take()).unwrap();
        take_over.detach(true).unwrap();
        next.attach(&settings).unwrap();
        assert_ne!(program(), ours);
        assert!(!reaches(&hosts, "10.9.0.2") && reaches(&hosts, "10.9.0.3"));
    });
    edge.logged("the other generation ended before it served: this one serves on");
    assert_eq!(program(), ours);
    assert!(reaches(&hosts, "10.9.0.2") && !reaches(&hosts, "10.9.0.3"));
    edge.stop();
    assert_eq!(hosts.server.program(INTERFACE), None);
}

/// X4: killed, the programs go on as configured; the next start takes them and all that is in force up, without a gap.
#[test]
fn what_is_pinned_outlives_a_kill_and_is_taken_up() {
    let (hosts, bpf) = (Hosts::new(), BpfFs::mount());
    let (mut edge, issuer, key) = start(&hosts, &bpf, "user = \"nobody\"\n");
    assert_eq!(bpf.names(), ["maps-1", "native-edge0"]);
    penalize(&hosts, &edge, &issuer, &key);
    edge.signal(Signal::SIGKILL);
    edge.ends_within(READY).unwrap();
    assert_eq!(hosts.server.program(INTERFACE), Some("xdp"));

    // The next one: what the settings do not deny any more is free, and the penalty is known and goes on.
    let toml = std::fs::read_to_string(edge.path("edge.toml")).unwrap();
    std::fs::write(edge.path("edge.toml"), toml.replace("10.9.0.3", "192.0.2.0/24")).unwrap();
    let next = edge.upgrade().unwrap();
    next.logged("kernel program replaced where the last one was left");
    assert!(reaches(&hosts, "10.9.0.2") && reaches(&hosts, "10.9.0.3") && !reaches(&hosts, "10.9.0.4"));
    let why = String::from_utf8_lossy(&next.command(&["why", "10.9.0.4"]).stdout).into_owned();
    assert!(
        why.starts_with("penalized    10.9.0.4: kept from before a restart; the last bad token for signature_invalid")
    );
    assert_eq!(bpf.names(), ["maps-1", "native-edge0"]);

    // An upgrade replaces the program where it is, and the end takes it off, as the ordinary user.
    let last = next.upgrade().unwrap();
    let mut next = next;
    assert!(next.ends_within(READY).unwrap().success());
    assert_eq!(hosts.server.program(INTERFACE), Some("xdp"));
    assert!(!reaches(&hosts, "10.9.0.4"));
    last.stop();
    assert_eq!(hosts.server.program(INTERFACE), None);
    assert_eq!(bpf.names(), ["maps-1"]);
}

/// An interface that is not named any more is given free, and another version's maps are forgotten.
#[test]
fn what_nobody_wants_any_more_is_cleaned() {
    let (hosts, bpf) = (Hosts::new(), BpfFs::mount());
    let (mut edge, ..) = start(&hosts, &bpf, "");
    edge.signal(Signal::SIGKILL);
    edge.ends_within(READY).unwrap();
    assert!(!reaches(&hosts, "10.9.0.3") && hosts.server.program(INTERFACE).is_some());
    std::fs::create_dir(bpf.pin().join("maps-0")).unwrap();
    let toml = std::fs::read_to_string(edge.path("edge.toml")).unwrap();
    std::fs::write(edge.path("edge.toml"), toml.replace(&format!("[\"{INTERFACE}\"]"), "[\"lo\"]")).unwrap();
    let next = edge.upgrade().unwrap();
    let end = Instant::now() + READY;
    while hosts.server.program(INTERFACE).is_some() {
        assert!(Instant::now() < end, "the program stays on an interface that nobody names");
    }
    assert_eq!(bpf.names(), ["generic-lo", "maps-1"]);
    next.stop();
    assert_eq!(hosts.server.program("lo"), None);
}

#[test]
fn another_file_system_is_refused_with_what_would_be_right() {
    let hosts = Hosts::new();
    let place = tempfile::tempdir().unwrap();
    let sections = format!(
        "[kernel]\nmode = \"required\"\ninterfaces = [\"{INTERFACE}\"]\npin = \"{}\"\n",
        place.path().join("edge").display()
    );
    let setup = Setup::new("_format_version: \"3.0\"\n").within(hosts.server.name()).section(&sections);
    let error = setup.try_start().err().expect("it started").to_string();
    assert!(error.contains("it is on no bpf file system: `mount -t bpf bpf /sys/fs/bpf`"), "{error}");
}
