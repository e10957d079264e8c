//! Sessions of TLS clients, resumed by tickets, with openssl as the client.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use edge_tests::edge::{Edge, READY, Setup};
use edge_tests::upstream::Upstream;
use nix::sys::signal::Signal;

use super::open;

/// One connection and request: whether the session in the file was resumed. The next one is written there first, where
/// `keeps`.
fn resumes(edge: &Edge, version: &str, file: &str, keeps: bool) -> bool {
    let path = edge.path(file);
    let mut client = Command::new("openssl");
    client.args(["s_client", version, "-ign_eof", "-servername", "edge.test", "-connect", &edge.address().to_string()]);
    if path.exists() {
        client.arg("-sess_in").arg(&path);
    }
    if keeps {
        client.arg("-sess_out").arg(&path);
    }
    let client = client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut client = client.spawn().expect("run openssl");
    let request = b"GET / HTTP/1.1\r\nHost: edge.test\r\nConnection: close\r\n\r\n";
    client.stdin.take().unwrap().write_all(request).unwrap();
    let said = String::from_utf8_lossy(&client.wait_with_output().unwrap().stdout).into_owned();
    assert!(said.contains("HTTP/1.1 200"), "{said}");
    match (said.contains("\nReused, "), said.contains("\nNew, ")) {
        (true, false) => true,
        (false, true) => false,
        _ => panic!("{said}"),
    }
}

#[test]
fn sessions_resume_at_every_worker_and_after_a_reload_but_not_after_an_upgrade() {
    let upstream = Upstream::start();
    let edge = Setup::new(open(&upstream.url())).tls().workers(4).start();
    for (version, file) in [("-tls1_2", "12"), ("-tls1_3", "13")] {
        assert!(!resumes(&edge, version, file, true));
        // The kernel deals connections out: of so many no worker gets none, but for one run in ten thousand.
        for _ in 0..32 {
            assert!(resumes(&edge, version, file, false), "{version}");
        }
    }
    let mark = edge.errors().mark();
    edge.signal(Signal::SIGHUP);
    edge.logged_after(mark, "configuration loaded");
    for (version, file) in [("-tls1_2", "12"), ("-tls1_3", "13")] {
        assert!(resumes(&edge, version, file, false), "{version}");
    }
    let next = edge.upgrade().unwrap();
    let mut edge = edge;
    assert!(edge.ends_within(READY).expect("the old generation does not end").success());
    for (version, file) in [("-tls1_2", "12"), ("-tls1_3", "13")] {
        assert!(!resumes(&next, version, file, true), "{version}");
        assert!(resumes(&next, version, file, false), "{version}");
    }
}

#[test]
fn tickets_are_good_for_two_periods_at_most() {
    let upstream = Upstream::start();
    let edge = Setup::new(open(&upstream.url())).tls().section("[tls]\nticket_period = 3\n").start();
    let made = Instant::now();
    for (version, file) in [("-tls1_2", "12"), ("-tls1_3", "13")] {
        assert!(!resumes(&edge, version, file, true));
        // Within a period it opens by the same key or by the one before.
        let resumed = resumes(&edge, version, file, false);
        assert!(resumed || made.elapsed().as_secs() >= 3, "{version}");
    }
    // Over TLS 1.3 openssl itself offers it for as long as the edge said alone: a period.
    for (version, file) in [("-tls1_2", "12"), ("-tls1_3", "13")] {
        while resumes(&edge, version, file, false) {
            assert!(made.elapsed() < Duration::from_secs(10), "the ticket is good for more than two periods");
        }
    }
}
