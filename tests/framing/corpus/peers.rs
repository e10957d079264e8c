//! The same cases through nginx and HAProxy, in front of the same kind of upstream: where one of them makes other
//! requests of bytes that the edge passes, the corpus says so and why.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Result, ensure};
use edge_tests::corpus::{self, AFTER, Action, Case, Reading, Step, Then};
use edge_tests::parties::front::Front;
use edge_tests::upstream::{Seen, Upstream};
use edge_tests::wire::{Client, Reader};

use super::LANES;

/// A proxy and its upstream.
struct Lane {
    front: Front,
    upstream: Upstream,
}

impl Lane {
    fn start(start: fn(std::net::SocketAddr) -> Front) -> Self {
        let upstream = Upstream::raw(|socket, seen| {
            let mut reader = Reader::new(socket);
            if let Err(e) = serve(&mut reader, seen) {
                seen.fault(format!("{e:#}"));
            }
        });
        Self { front: start(upstream.address()), upstream }
    }

    /// What the upstream behind the proxy reads of a case.
    fn readings(&self, case: &Case) -> Vec<Reading> {
        let mut client = Client::connect(self.front.address());
        for action in &case.actions {
            match action {
                Action::Send(bytes) => drop(client.try_send(bytes)),
                Action::Wait => drop(client.try_response("GET")),
            }
        }
        // A half-closed client is gone for nginx, so none of these is: what does not end by itself ends by time-out.
        if case.then == Then::Follows {
            let _ = client.try_send(format!("GET {AFTER} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n"));
        }
        client.patience(Duration::from_secs(10));
        client.rest();
        self.upstream.wait_closed();
        self.upstream.take().iter().map(Reading::of).collect()
    }

    fn check(&self, name: &str, case: &Case) -> Result<()> {
        let passes = case.steps.iter().any(|step| matches!(step, Step::Passes(_)));
        // Where a rule of the edge's answers, the other proxy has none.
        let rules = case.steps.iter().any(|step| matches!(step, Step::Answered { status: 403, .. }));
        if !passes || rules {
            return Ok(());
        }
        let (seen, expected) = (self.readings(case), case.readings());
        let same = seen.len() == expected.len() && seen.iter().zip(&expected).all(|(a, b)| a.is(b));
        let listed = case.differs.iter().any(|(peer, _)| peer == name);
        ensure!(same || listed, "behind {name} the upstream read {seen:?}");
        Ok(())
    }
}

/// Answers each whole request; in time for clients that wait for 100.
fn serve(reader: &mut Reader<TcpStream>, seen: &Seen) -> Result<()> {
    while let Some(mut message) = reader.head()? {
        if !message.all("expect").is_empty() {
            reader.stream().write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        reader.rest_of_request(&mut message)?;
        seen.keep(message);
        reader.stream().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
    }
    Ok(())
}

fn compare(name: &str, start: fn(std::net::SocketAddr) -> Front) {
    let cases = corpus::load().unwrap();
    let lanes = (0..LANES).map(|_| Lane::start(start)).collect();
    super::run(lanes, &cases, |lane, case| lane.check(name, case));
}

#[test]
fn nginx_makes_no_other_requests_than_the_corpus_explains() {
    // H1 to H11
    compare("nginx", Front::nginx);
}

#[test]
fn haproxy_makes_no_other_requests_than_the_corpus_explains() {
    // H1 to H11
    compare("haproxy", Front::haproxy);
}
