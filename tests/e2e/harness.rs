//! The harness itself, without an edge: that its upstreams misbehave as they are told.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use edge_tests::dead::{Deaf, Refusing};
use edge_tests::upstream::{Reply, Upstream};
use edge_tests::wire::{Client, get};

#[test]
fn upstreams_answer_as_they_are_told() {
    let pause = Duration::from_millis(150);
    let upstream = Upstream::with(move |request| match request.target() {
        "/late" => Reply::ok("late").after(pause),
        "/events" => Reply::events(&["one", "two"], pause),
        "/cut" => Reply::cut("part", 10),
        "/reset" => Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart").reset(),
        "/nothing" => Reply::nothing(),
        "/half" => Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart").hold(),
        _ => Reply::ok("ok"),
    });
    let ask = |target: &str| {
        let mut client = Client::connect(upstream.address());
        client.send(get(target, &[]));
        client
    };
    let start = Instant::now();
    assert_eq!(ask("/late").response().text(), "late");
    assert!(start.elapsed() >= pause);

    let start = Instant::now();
    let mut client = ask("/events");
    assert_eq!(client.head().field("content-type"), Some("text/event-stream"));
    assert!(start.elapsed() < pause);
    let rest = client.bytes().unwrap();
    assert!(start.elapsed() >= pause && String::from_utf8_lossy(&rest).contains("data: one\n\n"), "{rest:?}");
    assert_eq!(ask("/events").response().text(), "data: one\n\ndata: two\n\n");

    assert!(ask("/cut").rest().ends_with(b"Content-Length: 14\r\n\r\npart"));
    let mut client = ask("/reset");
    client.head();
    let error = std::iter::from_fn(|| {
        client.bytes().map_or_else(|error| Some(Err(error)), |bytes| (!bytes.is_empty()).then_some(Ok(bytes)))
    })
    .find_map(Result::err);
    assert_eq!(error.map(|error| error.kind()), Some(ErrorKind::ConnectionReset));
    assert!(ask("/nothing").silent_for(pause));
    let mut client = ask("/half");
    assert_eq!(client.head().status(), 200);
    assert_eq!(client.bytes().unwrap(), b"part");
    assert!(client.silent_for(pause));

    let mut kept = Client::connect(upstream.address());
    for _ in 0..3 {
        assert_eq!(kept.ask(get("/kept", &[])).text(), "ok");
    }
    assert_eq!((upstream.count("GET", "/kept"), upstream.count("GET", "/events")), (3, 2));
    assert_eq!(upstream.per_connection(), [1, 1, 1, 1, 1, 1, 1, 3]);

    let address = upstream.stop();
    assert!(kept.closes());
    assert_eq!(TcpStream::connect(address).err().map(|error| error.kind()), Some(ErrorKind::ConnectionRefused));
    let upstream = Upstream::at(address, |_| Reply::ok("again"));
    assert_eq!(Client::connect(upstream.address()).ask(get("/", &[])).text(), "again");
}

#[test]
fn dead_addresses_refuse_or_are_silent() {
    let (refusing, deaf) = (Refusing::start(), Deaf::start());
    let connect = |address: SocketAddr| {
        TcpStream::connect_timeout(&address, Duration::from_millis(300)).map_err(|e| e.kind()).err()
    };
    assert_eq!(connect(refusing.address()), Some(ErrorKind::ConnectionRefused));
    assert_eq!(connect(deaf.address()), Some(ErrorKind::TimedOut));
}
