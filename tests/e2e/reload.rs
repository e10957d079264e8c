//! Configuration while requests run, and the end of the process.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use edge_tests::edge::{READY, Setup};
use edge_tests::upstream::{Reply, Upstream};
use edge_tests::wire::{Client, get};
use nix::sys::signal::Signal;
use serde_json::json;

use super::{entities, open};

fn only(url: &str, path: &str) -> String {
    entities(url, json!([{"name": "one", "paths": [path]}]))
}

#[test]
fn a_changed_file_is_taken_and_a_bad_one_is_not() {
    // A5, A8
    let upstream = Upstream::start();
    let edge = Setup::new(only(&upstream.url(), "/a")).start();
    let status = |path: &str| edge.ask(get(path, &[])).status();
    assert_eq!((status("/a"), status("/b")), (200, 404));
    let mut kept = edge.connect();
    assert_eq!(kept.ask(get("/a", &[])).status(), 200);

    edge.reload(&only(&upstream.url(), "/b"), "reload");
    let end = std::time::Instant::now() + READY;
    while status("/b") != 200 {
        assert!(std::time::Instant::now() < end, "the new routes are not in force");
    }
    assert_eq!(status("/a"), 404);
    assert_eq!(kept.ask(get("/b", &[])).status(), 200, "kept connections see the new routes");

    for (bad, said) in [
        ("_format_version: \"3.0\"\nservices: [{name: up, url: nonsense}]", "kong.yaml"),
        ("_format_version: \"3.0\"\nservicez: []", "servicez"),
        ("{ not yaml", "kong.yaml"),
        ("", "kong.yaml"),
    ] {
        let line = edge.reload(bad, said);
        assert!(!line.is_empty());
        assert_eq!((status("/b"), status("/a")), (200, 404), "{bad}");
    }
    edge.stop();
}

#[test]
fn reloads_under_load_fail_no_request() {
    let upstream = Upstream::start();
    let edge = Setup::new(open(&upstream.url())).start();
    let (stop, sent) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = Client::connect(edge.address());
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(client.ask(get("/", &[])).status(), 200);
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for round in 0..10 {
            let routes = json!([{"name": format!("all-{round}"), "paths": ["/"]}]);
            edge.reload(&entities(&upstream.url(), routes), "reload");
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(sent.load(Ordering::Relaxed) > 10);
}

#[test]
fn a_drain_finishes_what_was_begun() {
    // D9
    let (go, gate) = std::sync::mpsc::channel::<()>();
    let (begun, arrived) = std::sync::mpsc::channel::<()>();
    let channels = std::sync::Mutex::new((gate, begun));
    let upstream = Upstream::with(move |request| {
        if request.target() == "/slow" {
            let (gate, begun) = &*channels.lock().unwrap();
            begun.send(()).unwrap();
            gate.recv().unwrap();
        }
        Reply::ok("done")
    });
    let mut edge = Setup::new(open(&upstream.url())).start();
    let mut idle = edge.connect();
    assert_eq!(idle.ask(get("/", &[])).status(), 200);
    let mut busy = edge.connect();
    busy.send(get("/slow", &[]));
    arrived.recv().unwrap();
    edge.signal(Signal::SIGTERM);
    assert!(idle.closes(), "an idle connection ends at once");
    assert!(edge.ends_within(Duration::from_millis(200)).is_none(), "a request is still running");
    // Nothing new is taken: no connection, or none that is answered.
    if let Ok(mut socket) = std::net::TcpStream::connect_timeout(&edge.address(), Duration::from_secs(1)) {
        use std::io::{Read as _, Write as _};
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut said = Vec::new();
        let _ = socket.write_all(&get("/new", &[]));
        let _ = socket.read_to_end(&mut said);
        assert!(!said.starts_with(b"HTTP/1.1 200"), "a new request is served");
    }
    go.send(()).unwrap();
    let answer = busy.response();
    assert_eq!((answer.status(), answer.text().as_str()), (200, "done"));
    assert!(busy.closes());
    let status = edge.ends_within(READY).expect("the edge did not end");
    assert!(status.success(), "{status}");
}

#[test]
fn a_drain_has_an_end() {
    // D9: `timeouts.drain` is the most it waits.
    let upstream = Upstream::raw(|socket, _| {
        let mut reader = edge_tests::wire::Reader::new(socket);
        while let Ok(Some(_)) = reader.request() {}
    });
    let mut edge = Setup::new(open(&upstream.url())).section("[timeouts]\ndrain = 500").start();
    let mut client = edge.connect();
    client.send(get("/", &[]));
    while upstream.connections() == 0 {
        std::thread::yield_now();
    }
    edge.signal(Signal::SIGTERM);
    let start = std::time::Instant::now();
    assert!(edge.ends_within(Duration::from_secs(8)).is_some(), "the drain has no end");
    assert!(start.elapsed() > Duration::from_millis(300));
}
