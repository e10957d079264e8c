//! What a client of HTTP/2 may not do for long: floods of frames, windows that it never opens, lists and tables without
//! end. Each ends its connection or stream, in bounded memory, while others are served (H25, H26, D1, D3).

use std::time::{Duration, Instant};

use edge_tests::edge::Edge;
use edge_tests::h2raw::{END_HEADERS, END_STREAM, Outcome, Raw, block, frame, kind};
use edge_tests::upstream::{Reply, Upstream};
use edge_tests::wire;

use super::frames::with;
use super::{ENHANCE_YOUR_CALM, PROTOCOL_ERROR, edge, fields, get, post};

/// Resident memory of the edge, in KiB.
fn resident(edge: &Edge) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", edge.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse().unwrap()
}

/// Sends the same frames over and over until the edge ends the connection; how many times.
fn flood(edge: &Edge, opening: &[u8], mut next: impl FnMut(u32) -> Vec<u8>) -> (u32, Option<Outcome>) {
    let mut raw = Raw::connect(edge.address());
    raw.send(opening);
    for number in 0..100_000 {
        if raw.try_send(next(number)).is_err() {
            return (number, raw.last_word());
        }
        // Answers are taken: a client that takes none only stops itself.
        if raw.has_ended() {
            return (number, raw.last_word());
        }
    }
    panic!("the flood was taken to its end");
}

#[test]
fn each_flood_of_frames_ends_its_connection() {
    // H25: CVE-2019-9512 (PING), 9513 (PRIORITY), 9515 (SETTINGS), 9518 (empty frames), 2023-44487 (rapid reset)
    let upstream = Upstream::start();
    let edge = edge(&upstream, "");
    let before = resident(&edge);
    let reset = |stream: u32| frame(kind::RST_STREAM, 0, stream, &[0, 0, 0, 8]);
    type Next = Box<dyn FnMut(u32) -> Vec<u8>>;
    let floods: Vec<(&str, Vec<u8>, Next)> = vec![
        ("PING", Vec::new(), Box::new(|_| frame(kind::PING, 0, 0, &[7; 8]))),
        ("answers to no PING", Vec::new(), Box::new(|_| frame(kind::PING, 1, 0, &[7; 8]))),
        ("SETTINGS", Vec::new(), Box::new(|_| frame(kind::SETTINGS, 0, 0, &[]))),
        (
            "settings that change",
            Vec::new(),
            Box::new(|n| frame(kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, (n % 200) as u8])),
        ),
        ("PRIORITY", Vec::new(), Box::new(|n| frame(kind::PRIORITY, 0, n * 2 + 1, &[0, 0, 0, 0, 1]))),
        ("WINDOW_UPDATE", Vec::new(), Box::new(|_| frame(kind::WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]))),
        ("WINDOW_UPDATE of a stream", post(1), Box::new(|_| frame(kind::WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]))),
        ("unknown frames", Vec::new(), Box::new(|_| frame(0xfa, 0, 0, &[]))),
        ("GOAWAY", Vec::new(), Box::new(|_| frame(kind::GOAWAY, 0, 0, &[0; 8]))),
        ("empty DATA", post(1), Box::new(|_| frame(kind::DATA, 0, 1, &[]))),
        ("padding alone", post(1), Box::new(|_| frame(kind::DATA, 8, 1, &[0]))),
        ("rapid reset", Vec::new(), Box::new(move |n| [get(n * 2 + 1), reset(n * 2 + 1)].concat())),
        (
            "rapid reset of what has content",
            Vec::new(),
            Box::new(move |n| [post(n * 2 + 1), reset(n * 2 + 1)].concat()),
        ),
        (
            "requests that are none",
            Vec::new(),
            Box::new(|n| frame(kind::HEADERS, END_HEADERS | END_STREAM, n * 2 + 1, &block(&[(b":method", b"GET")]))),
        ),
        ("DATA of closed streams", [get(1), reset(1)].concat(), Box::new(|_| frame(kind::DATA, 0, 1, b"x"))),
        (
            "fields without end",
            frame(kind::HEADERS, END_STREAM, 1, &block(&fields(b"GET"))),
            Box::new(|_| frame(kind::CONTINUATION, 0, 1, &block(&[(b"x-pad", &[b'a'; 1000])]))),
        ),
        (
            "empty CONTINUATION",
            frame(kind::HEADERS, END_STREAM, 1, &block(&fields(b"GET"))),
            Box::new(|_| frame(kind::CONTINUATION, 0, 1, &[])),
        ),
    ];
    for (name, opening, next) in floods {
        let (count, last) = flood(&edge, &opening, next);
        // Where a last word came, it says why; a reset of the socket may overtake it.
        assert!(name == "GOAWAY" || last != Some(Outcome::GoAway(0)), "{name}: {last:?}");
        assert!(count < 50_000, "{name}: {count} frames");
        assert_eq!(edge.ask(wire::get("/", &[])).status(), 200, "behind {name}");
    }
    let grown = resident(&edge).saturating_sub(before);
    assert!(grown < 40 * 1024, "{grown} KiB more than before");
    let metrics = edge.admin_get("/metrics").text();
    assert!(metrics.contains("reason=\"http2_flood\""), "{metrics}");
    edge.access(|line| line["reason"] == "http2_flood" && line["status"] == 0);
    assert!(!edge.errors().text().contains("panicked"));
}

#[test]
fn resets_of_requests_under_way_are_bounded_too() {
    // H25: the client waits until each request has gone upstream, so that no queue of the connection's is ever full.
    let upstream = Upstream::with(|_| Reply::ok("late").after(Duration::from_secs(5)));
    let edge = edge(&upstream, "");
    let mut raw = Raw::connect(edge.address());
    let (mut sent, mut ended) = (0, false);
    // More of them a second than time gives.
    while sent < 10_000 && !ended {
        let streams = (sent..sent + 64).map(|number| number * 2 + 1);
        let connections = upstream.connections();
        ended = streams.clone().any(|stream| raw.try_send(get(stream)).is_err() || raw.has_ended());
        // On their way once a connection for each stands.
        let end = Instant::now() + wire::PATIENCE;
        while upstream.connections() < connections + 64 && Instant::now() < end && !raw.has_ended() {
            std::thread::yield_now();
        }
        let reset = |stream| frame(kind::RST_STREAM, 0, stream, &[0, 0, 0, 8]);
        ended |= raw.try_send(streams.flat_map(reset).collect::<Vec<u8>>()).is_err() || raw.has_ended();
        sent += 64;
    }
    assert!(sent < 5000, "{sent} requests were begun and reset");
    if let Some(Outcome::GoAway(code)) = raw.last_word() {
        assert_eq!(code, ENHANCE_YOUR_CALM);
    }
}

#[test]
fn heads_of_a_stream_that_was_reset_are_counted_too() {
    // H25: the crate drops them for a while, and they are no requests.
    let upstream = Upstream::start();
    let edge = edge(&upstream, "");
    let mut raw = Raw::connect(edge.address());
    raw.send(with(b"host", b"internal.test"));
    assert_eq!(raw.outcome(1), Outcome::Reset(PROTOCOL_ERROR));
    let sent = (0..20_000).take_while(|_| raw.try_send(get(1)).is_ok() && !raw.has_ended()).count();
    assert!(sent < 10_000, "{sent} heads");
}

#[test]
fn a_window_that_stays_shut_is_not_waited_for() {
    // H25, D1, D2: CVE-2019-9511 (data dribble), 9517 (internal data buffering)
    let large = "x".repeat(4 << 20);
    let upstream = Upstream::with(move |_| Reply::ok(&large));
    let edge = edge(&upstream, "[timeouts]\nresponse_write = 1000\n");
    let before = resident(&edge);
    // No window at all: a hundred responses of 4 MiB wait.
    let mut shut = Raw::silent(edge.address());
    shut.send(edge_tests::h2raw::PREFACE);
    shut.send(frame(kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]));
    let began = Instant::now();
    for n in 0..100 {
        shut.send(get(n * 2 + 1));
    }
    assert_eq!(shut.outcome(1), Outcome::Response(200));
    let grown = resident(&edge).saturating_sub(before);
    assert!(grown < 200 * 1024, "{grown} KiB for 100 responses of 4 MiB that nobody takes");
    // Every stream ends by its time-out, with its response cut.
    let reset = shut.rest(1);
    assert!(matches!(reset, Outcome::Reset(_) | Outcome::GoAway(_) | Outcome::Closed), "{reset:?}");
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    // A byte at a time is no better: it is a trickle over `response_write` for each KiB.
    let mut trickle = Raw::silent(edge.address());
    trickle.send(edge_tests::h2raw::PREFACE);
    trickle.send(frame(kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 1]));
    trickle.send(get(1));
    assert_eq!(trickle.outcome(1), Outcome::Response(200));
    let began = Instant::now();
    loop {
        let opened = trickle.try_send(frame(kind::WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]));
        if opened.is_err() || trickle.has_reset(1) {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "a byte at a time goes on for ever");
    }
    assert_eq!(edge.ask(wire::get("/", &[])).status(), 200);
}

#[test]
fn content_that_never_comes_is_not_waited_for() {
    // D1, D2
    let upstream = Upstream::start();
    let edge = edge(&upstream, "[timeouts]\nrequest_body = 1000\nidle = 1500\nrequest_head = 1000\n");
    let mut raw = Raw::connect(edge.address());
    raw.send(post(1));
    let outcome = raw.outcome(1);
    assert!(matches!(outcome, Outcome::Response(408) | Outcome::Reset(_)), "{outcome:?}");
    // A connection with nothing under way, and one whose field section never ends.
    let mut idle = Raw::connect(edge.address());
    assert!(idle.ends());
    let mut cut = Raw::connect(edge.address());
    cut.send(frame(kind::HEADERS, END_STREAM, 1, &block(&fields(b"GET"))));
    assert!(cut.ends());
    assert!(upstream.requests().is_empty());
}

#[test]
fn field_lists_that_grow_when_decoded_stay_small_in_memory() {
    // H26: an entry of the table named again and again, and a table written anew without end.
    let upstream = Upstream::start();
    let edge = edge(&upstream, "");
    assert_eq!(edge.ask(wire::get("/", &[])).status(), 200);
    let before = resident(&edge);
    let mut named = block(&fields(b"GET"));
    named.extend([0x40, 1, b'x', 0x7f, 0xbd, 0x1d]); // 3900 = 127 + 61 + 29 * 128
    named.extend([b'b'; 3900]);
    named.extend(vec![0xbe; 12_000]);
    let mut written = block(&fields(b"GET"));
    for n in 0..3000_u32 {
        written.extend([0x40, 4]);
        written.extend(format!("{:04}", n % 10_000).bytes());
        written.extend([0]);
    }
    let empty = [block(&fields(b"GET")), [0, 1, b'x', 0].repeat(3500)].concat();
    for (why, bomb) in [("named", named), ("written", written), ("empty values", empty)] {
        for _ in 0..50 {
            let mut raw = Raw::connect(edge.address());
            let mut pieces = bomb.chunks(16_000);
            let first = pieces.next().unwrap();
            let rest: Vec<&[u8]> = pieces.collect();
            let flags = if rest.is_empty() { END_HEADERS | END_STREAM } else { END_STREAM };
            let _ = raw.try_send(frame(kind::HEADERS, flags, 1, first));
            for (index, piece) in rest.iter().enumerate() {
                let flags = if index + 1 == rest.len() { END_HEADERS } else { 0 };
                let _ = raw.try_send(frame(kind::CONTINUATION, flags, 1, piece));
            }
            let outcome = raw.outcome(1);
            assert!(outcome.refused(), "{why}: {outcome:?}");
        }
    }
    let grown = resident(&edge).saturating_sub(before);
    assert!(grown < 40 * 1024, "{grown} KiB more than before");
    assert_eq!(upstream.requests().len(), 1);
}
