//! Thousands of spoilt requests: whatever reaches the upstream is what a strict second reader takes from the same bytes.

use edge_tests::edge::Setup;
use edge_tests::upstream::Upstream;
use edge_tests::wire::{Message, Reader};

use super::open;

/// A generator of numbers that is the same in every run (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn of<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }
}

const HEADS: &[&str] = &[
    "GET /a HTTP/1.1\r\nHost: t\r\n",
    "POST /b HTTP/1.1\r\nHost: t\r\nX-One: 1\r\n",
    "PUT http://t/c?d HTTP/1.1\r\nHost: t\r\n",
    "DELETE /e HTTP/1.0\r\nHost: t\r\nConnection: keep-alive\r\n",
];
const BODIES: &[&str] = &[
    "\r\n",
    "Content-Length: 5\r\n\r\nhello",
    "Content-Length: 0\r\n\r\n",
    "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "Transfer-Encoding: chunked\r\n\r\n2;x=y\r\nhe\r\n3\r\nllo\r\n0\r\nX-T: 1\r\n\r\n",
];
/// What is put in somewhere.
const PIECES: &[&[u8]] = &[
    b"\r",
    b"\n",
    b"\r\n",
    b"\0",
    b" ",
    b"\t",
    b":",
    b";",
    b",",
    b"0",
    b"1",
    b"f",
    b"+",
    b"-",
    b"x",
    b"_",
    b"\"",
    b"\x80",
    b"\x0b",
    b"\x7f",
    b"\r\n\r\n",
    b"\r\n ",
    b"Content-Length: 5\r\n",
    b"Content-Length: 3\r\n",
    b"content-length:0\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding : chunked\r\n",
    b"transfer-encoding: x\r\n",
    b"Host: u\r\n",
    b"Connection: close\r\n",
    b"Connection: Host\r\n",
    b"Connection: Content-Length\r\n",
    b"Expect: 100-continue\r\n",
    b"GET /smuggled HTTP/1.1\r\nHost: t\r\n\r\n",
    b"0\r\n\r\n",
    b"HTTP/1.1",
    b"GET ",
    b"Upgrade: h2c\r\n",
];

/// One to three requests with up to three changes.
fn spoilt(numbers: &mut Numbers) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..=numbers.below(3) {
        bytes.extend(numbers.of(HEADS).bytes());
        bytes.extend(numbers.of(BODIES).bytes());
    }
    for _ in 0..numbers.below(4) {
        let at = numbers.below(bytes.len());
        match numbers.below(4) {
            0 => {
                let until = (at + 1 + numbers.below(4)).min(bytes.len());
                bytes.drain(at..until);
            }
            1 => bytes[at] = *numbers.of(b"\r\n\0 \t:0a\x80"),
            _ => {
                let piece = numbers.of(PIECES);
                bytes.splice(at..at, piece.iter().copied());
            }
        }
        if bytes.is_empty() {
            bytes.push(b'G');
        }
    }
    bytes
}

/// The requests a strict reader takes from these bytes, up to the first that is wrong.
fn strictly(bytes: &[u8]) -> Vec<Message> {
    let mut messages = Vec::new();
    let mut rest = bytes;
    loop {
        // RFC 9112, 2.2: empty lines before a request line are skipped.
        while let Some(after) = rest.strip_prefix(b"\r\n") {
            rest = after;
        }
        let Ok(Some(message)) = Reader::new(rest).request() else { return messages };
        rest = &rest[message.raw.len()..];
        messages.push(message);
    }
}

/// The path and query of a target in origin or absolute form, with the slashes merged that routing merges.
fn path(target: &str) -> String {
    let rest = match target.strip_prefix("http://") {
        Some(rest) => rest.find(['/', '?']).map_or("", |at| &rest[at..]),
        None => target,
    };
    let mut path = if rest.starts_with('/') { rest.to_owned() } else { format!("/{rest}") };
    while let Some(at) = path.split('?').next().and_then(|path| path.find("//")) {
        path.remove(at);
    }
    path
}

#[test]
fn nothing_is_read_in_two_ways() {
    // H1 to H9, H13: 6000 connections, the same ones in every run.
    let upstream = Upstream::start();
    let edge = Setup::new(open(&upstream.url())).start();
    let (mut numbers, mut seen) = (Numbers(2026), 0);
    for case in 0..6000 {
        let bytes = spoilt(&mut numbers);
        let shown = || format!("case {case}: {:?}", String::from_utf8_lossy(&bytes));
        let mut client = edge.connect();
        let _ = client.try_send(&bytes);
        client.finish();
        client.rest();
        let received = upstream.take();
        seen += received.len();
        let expected = strictly(&bytes);
        assert!(received.len() <= expected.len(), "{} gave {received:?}", shown());
        for (got, strict) in received.iter().zip(&expected) {
            assert_eq!(got.method(), strict.method(), "{}", shown());
            let path = path(strict.target());
            // What routing normalises beyond slashes has a table of its own.
            if path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/?".contains(&byte)) {
                assert_eq!(got.target(), path, "{}", shown());
            }
            assert_eq!(got.body, strict.body, "{}", shown());
        }
        for fault in upstream.faults() {
            // A request that never ended is cut, which the upstream's reader calls closed. Nothing else is wrong.
            assert!(fault.contains("closed"), "{}: {fault}", shown());
        }
    }
    assert!(seen > 2000, "only {seen} requests passed: the cases are spoilt too much to say anything");
}
