//! One generation of the process after another, without a lost request: `edge run --upgrade`.

use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use edge_tests::edge::{Edge, READY, Setup};
use edge_tests::mint::flip;
use edge_tests::upstream::{Reply, Upstream};
use edge_tests::wire::{Client, get};
use serde_json::json;

use super::{Guarded, entities, open, with_token};

/// Ends by itself, as after an upgrade, with status 0.
#[track_caller]
fn retires(mut edge: Edge) {
    let status = edge.ends_within(READY).expect("the old generation does not end");
    assert!(status.success(), "{status}:\n{}", edge.errors().text());
}

/// Clients that ask on kept and on new connections until they are told to stop; how many answers were right, and what
/// went wrong.
struct Load {
    stop: Arc<AtomicBool>,
    right: Arc<AtomicUsize>,
    clients: Vec<std::thread::JoinHandle<Vec<String>>>,
}

impl Load {
    fn start(address: std::net::SocketAddr) -> Self {
        let (stop, right) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let client = |is_kept: bool| {
            let (stop, right) = (stop.clone(), right.clone());
            std::thread::spawn(move || {
                let (mut wrong, mut kept) = (Vec::new(), None);
                while !stop.load(Ordering::Relaxed) {
                    let mut client = kept.take().unwrap_or_else(|| Client::connect(address));
                    let sent = client.try_send(get("/a", &[])).map_err(anyhow::Error::from);
                    match sent.and_then(|()| client.try_response("GET")) {
                        Ok(answer) if answer.status() == 200 && answer.text() == "ok" => {
                            right.fetch_add(1, Ordering::Relaxed);
                            kept = Some(client).filter(|_| is_kept && !answer.says_close());
                        }
                        Ok(answer) => wrong.push(answer.start),
                        Err(error) => wrong.push(format!("{error:#}")),
                    }
                }
                wrong
            })
        };
        Self { clients: [true, true, false, false].map(client).into(), stop, right }
    }

    /// Waits for so many more answers.
    fn more(&self, count: usize) {
        let from = self.right.load(Ordering::Relaxed);
        while self.right.load(Ordering::Relaxed) < from + count {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn end(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        let wrong: Vec<String> = self.clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
        assert_eq!(wrong, [""; 0], "of {} requests", self.right.load(Ordering::Relaxed));
        self.right.load(Ordering::Relaxed)
    }
}

/// So many upgrades one after the other, with so many requests before and after each; how many there were in all.
fn upgrade_under_load(upgrades: usize, requests: usize) -> usize {
    let upstream = Upstream::start();
    let mut edge = Setup::new(open(&upstream.url())).start();
    let (address, admin) = (edge.address(), edge.admin());
    let load = Load::start(address);
    for _ in 0..upgrades {
        load.more(requests);
        let next = edge.upgrade().unwrap();
        assert_eq!((next.address(), next.admin()), (address, admin));
        load.more(requests);
        retires(std::mem::replace(&mut edge, next));
    }
    load.end()
}

#[test]
fn upgrades_under_load_lose_no_request() {
    assert!(upgrade_under_load(4, 300) >= 2_400);
}

/// `cargo nextest run --release -p edge-tests --run-ignored only twenty_upgrades`
#[test]
#[ignore = "takes a minute or two"]
fn twenty_upgrades_lose_none_of_two_hundred_thousand_requests() {
    let requests = upgrade_under_load(20, 5_000);
    println!("{requests} requests over 20 upgrades, none failed");
    assert!(requests >= 200_000);
}

/// A request under way, a kept connection and a client that just sends again: none is cut.
#[test]
fn what_the_old_generation_has_it_ends_politely() {
    let upstream = Upstream::with(|request| match request.target() {
        "/slow" => Reply::ok("slow").after(Duration::from_millis(700)),
        _ => Reply::ok("ok"),
    });
    let edge = Setup::new(open(&upstream.url())).start();
    let (mut slow, mut kept) = (edge.connect(), edge.connect());
    assert_eq!(kept.ask(get("/a", &[])).field("connection"), None);
    slow.send(get("/slow", &[]));
    upstream.wait(2);
    let next = edge.upgrade().unwrap();
    edge.logged("another generation serves: this one drains");
    let answer = slow.response();
    assert_eq!((answer.text().as_str(), answer.field("connection")), ("slow", Some("close")));
    // Between two requests it stays open, whoever waits long; its next answer is its last.
    std::thread::sleep(Duration::from_millis(300));
    let answer = kept.ask(get("/a", &[]));
    assert_eq!((answer.status(), answer.field("connection")), (200, Some("close")));
    assert!(kept.closes());
    retires(edge);
    assert_eq!(next.ask(get("/a", &[])).status(), 200);
}

/// A new generation that cannot start leaves the old one as it was.
#[test]
fn a_failed_upgrade_changes_nothing() {
    let upstream = Upstream::start();
    let edge = Setup::new(open(&upstream.url())).start();
    let good = std::fs::read_to_string(edge.path("kong.yaml")).unwrap();
    let load = Load::start(edge.address());
    for bad in ["services: [", &entities(&upstream.url(), json!([{"name": "one", "paths": ["a"]}]))] {
        std::fs::write(edge.path("kong.yaml"), bad).unwrap();
        let error = edge.upgrade().err().expect("it started").to_string();
        assert!(error.contains("kong.yaml"), "{error}");
    }
    // One that dies after it has the sockets: an address it cannot bind.
    std::fs::write(edge.path("kong.yaml"), &good).unwrap();
    let toml = std::fs::read_to_string(edge.path("edge.toml")).unwrap();
    std::fs::write(edge.path("edge.toml"), format!("{toml}\n[[listeners]]\naddress = \"203.0.113.1:1\"\n")).unwrap();
    let error = edge.upgrade().err().expect("it started").to_string();
    assert!(error.contains("203.0.113.1:1"), "{error}");
    edge.logged("the other generation ended before it served: this one serves on");
    std::fs::write(edge.path("edge.toml"), toml).unwrap();
    load.more(200);
    load.end();
    // And the next attempt succeeds.
    let next = edge.upgrade().unwrap();
    retires(edge);
    assert_eq!(next.ask(get("/a", &[])).status(), 200);
}

/// What changed in the settings takes effect with the new generation: other workers, another listener.
#[test]
fn an_upgrade_takes_other_settings_into_force() {
    let upstream = Upstream::start();
    let second = edge_tests::edge::free_address();
    let edge = Setup::new(open(&upstream.url())).workers(3).start();
    let toml = std::fs::read_to_string(edge.path("edge.toml")).unwrap();
    let more = format!("{}\n[[listeners]]\naddress = \"{second}\"\n", toml.replace("count = 3", "count = 1"));
    std::fs::write(edge.path("edge.toml"), more).unwrap();
    let load = Load::start(edge.address());
    let next = edge.upgrade().unwrap();
    retires(edge);
    load.more(200);
    load.end();
    assert_eq!(Client::connect(second).ask(get("/a", &[])).status(), 200);
    // And back: a listener that the settings do not name ends with its generation.
    std::fs::write(next.path("edge.toml"), toml).unwrap();
    let last = next.upgrade().unwrap();
    retires(next);
    assert_eq!(last.ask(get("/a", &[])).status(), 200);
    assert_eq!(std::net::TcpStream::connect(second).unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

/// Where none runs, `--upgrade` is a start: one unit serves both.
#[test]
fn without_a_running_edge_an_upgrade_is_a_start() {
    let upstream = Upstream::start();
    let edge = Setup::new(open(&upstream.url())).start();
    edge.signal(nix::sys::signal::Signal::SIGTERM);
    let mut edge = edge;
    assert!(edge.ends_within(READY).unwrap().success());
    let next = edge.upgrade().unwrap();
    next.logged("no edge runs to take over from");
    assert_eq!(next.ask(get("/a", &[])).status(), 200);
}

/// systemd waits for it (sd_notify(3)).
#[test]
fn the_supervisor_is_told_once_it_serves() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(READY)).unwrap();
    let upstream = Upstream::start();
    let _edge = Setup::new(open(&upstream.url())).env("NOTIFY_SOCKET", path.to_str().unwrap()).start();
    let mut bytes = [0; 64];
    let read = socket.recv(&mut bytes).unwrap();
    assert_eq!(&bytes[..read], b"READY=1");
}

#[test]
fn penalties_outlive_an_upgrade() {
    let rules = "[kernel]\nmode = \"off\"\n[kernel.penalty]\nmode = \"enforce\"\ndistinct_tokens = 5\nttl = 60\n";
    let good = Guarded::with(json!({}), |setup| setup.section(rules));
    let source = "127.0.7.9".parse().unwrap();
    let mut client = Client::connect_from(source, good.edge.address()).unwrap();
    for number in 0..5 {
        let claims = edge_tests::mint::with(good.claims(), json!({"n": number}));
        assert_eq!(client.ask(with_token(&flip(&good.key.token(&claims)))).status(), 401);
    }
    good.edge.logged("the source gets a penalty");
    let next = good.edge.upgrade().unwrap();
    let why = next.command(&["why", "127.0.7.9"]);
    let why = String::from_utf8_lossy(&why.stdout).into_owned();
    assert!(why.starts_with("penalized    127.0.7.9: 5 proven bad tokens"), "{why}");
    let mut client = Client::connect_from(source, next.address()).unwrap();
    let _ = client.try_send(with_token(&good.token()));
    assert!(client.try_response("GET").is_err(), "a penalized source is served");
    assert_eq!(next.ask(with_token(&good.token())).status(), 200);
}

/// The control socket is its owner's: of another user neither the file nor the edge takes anything.
#[test]
fn nobody_else_may_use_the_control_socket() {
    assert!(nix::unistd::geteuid().is_root(), "this test becomes another user");
    let upstream = Upstream::start();
    let edge = Setup::new(open(&upstream.url())).section("[process]\nuser = \"nobody\"").folder_mode(0o777).start();
    let socket = edge.path("edge.sock");
    let metadata = std::fs::metadata(&socket).unwrap();
    assert_eq!((metadata.uid(), metadata.permissions().mode() & 0o777), (0, 0o600));
    let as_nobody = || {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "nobody", "--clear-groups", "--"]).arg(edge_tests::edge::binary());
        let output = command.args(["kernel", "status", "--config"]).arg(edge.path("edge.toml")).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, error) = as_nobody();
    assert_eq!(code, Some(2), "{error}");
    // Whoever weakens the file's rights by mistake still lets nobody in.
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o777)).unwrap();
    let (code, error) = as_nobody();
    assert_eq!(code, Some(2), "{error}");
    assert!(edge.command(&["kernel", "status"]).status.success());

    // Bytes that are no request get an answer that says so, and cost nothing.
    let mut stream = UnixStream::connect(&socket).unwrap();
    std::io::Write::write_all(&mut stream, b"{\"command\":\"reboot\"}\n").unwrap();
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
    assert!(answer.contains("\"answer\":\"refused\""), "{answer}");
    assert_eq!(edge.ask(get("/a", &[])).status(), 200);
}

#[test]
fn two_edges_do_not_share_a_control_socket() {
    let upstream = Upstream::start();
    let first = Setup::new(open(&upstream.url())).start();
    let path = first.path("edge.sock");
    let section = |path: &std::path::Path| format!("[process]\ncontrol = \"{}\"", path.display());
    let error = Setup::new(open(&upstream.url())).section(&section(&path)).try_start().err().unwrap().to_string();
    assert!(error.contains("another edge answers there; --upgrade takes over from it"), "{error}");
    // What stands there and is no socket stays as it is.
    let setup = Setup::new(open(&upstream.url())).section("[process]\ncontrol = \"kong.yaml\"");
    let error = setup.try_start().err().unwrap().to_string();
    assert!(error.contains("something else than a socket stands there"), "{error}");
    let off = Setup::new(open(&upstream.url())).section("[process]\ncontrol = \"off\"").start();
    assert!(!off.path("edge.sock").exists());
    let output = off.command(&["kernel", "status"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(first.command(&["kernel", "status"]).status.success());
}
