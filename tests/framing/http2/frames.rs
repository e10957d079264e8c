//! One table for RFC 9113, 4 to 8: frames behind a good preface, and what becomes of them.

use edge_tests::h2raw::{END_HEADERS, END_STREAM, Outcome, Raw, block, frame, kind};
use edge_tests::upstream::Upstream;

use super::{
    COMPRESSION_ERROR, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, PROTOCOL_ERROR, REFUSED_STREAM, STREAM_CLOSED, edge,
    fields, get, post,
};

const PADDED: u8 = 8;
const PRIORITY_FLAG: u8 = 0x20;
pub(super) const ACK: u8 = 1;
const PUSH_PROMISE: u8 = 5;

/// What must become of the frames. RFC 9113, 5.4.2 lets an endpoint make a connection error of any stream error, and the
/// `h2` crate has no other code than PROTOCOL_ERROR for some of them.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ends {
    /// Stream 1 gets this status.
    Served(u16),
    /// The connection ends with this code.
    Connection(u32),
    /// Stream 1 does, or the connection.
    Stream(u32),
    /// A request that is none: an error of its stream or connection, or 4xx (RFC 9113, 8.1.1).
    Malformed,
}

use Ends::{Connection, Malformed, Served, Stream};

pub(super) type Row = (&'static str, &'static str, Vec<u8>, Ends);

fn setting(id: u16, value: u32) -> Vec<u8> {
    frame(kind::SETTINGS, 0, 0, &[&id.to_be_bytes()[..], &value.to_be_bytes()[..]].concat())
}

fn window(stream: u32, increment: u32) -> Vec<u8> {
    frame(kind::WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
}

pub(super) fn data(stream: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    frame(kind::DATA, flags, stream, payload)
}

/// A GET whose field section is these bytes.
pub(super) fn headers(bytes: &[u8]) -> Vec<u8> {
    frame(kind::HEADERS, END_HEADERS | END_STREAM, 1, bytes)
}

pub(super) fn with(name: &'static [u8], value: &'static [u8]) -> Vec<u8> {
    let mut all = fields(b"GET");
    all.push((name, value));
    headers(&block(&all))
}

fn good() -> Vec<u8> {
    block(&fields(b"GET"))
}

/// Checks rows, each on a connection of its own, and that the upstream counts the served ones alone.
pub(super) fn check(rows: Vec<Row>) {
    let upstream = Upstream::start();
    let edge = edge(&upstream, "");
    let mut failures = Vec::new();
    for (section, why, bytes, ends) in rows {
        let before = upstream.requests().len();
        let mut raw = Raw::connect(edge.address());
        // The error may come, and close, before all is sent.
        let _ = raw.try_send(&bytes);
        let outcome = raw.outcome(1);
        let good = match ends {
            Served(status) => outcome == Outcome::Response(status),
            // The reset of a socket with unread bytes may overtake the last frame.
            Connection(code) => {
                [Outcome::GoAway(code), Outcome::GoAway(PROTOCOL_ERROR), Outcome::Closed].contains(&outcome)
            }
            Stream(code) => {
                let codes = [code, PROTOCOL_ERROR];
                codes
                    .iter()
                    .any(|code| [Outcome::Reset(*code), Outcome::GoAway(*code), Outcome::Closed].contains(&outcome))
            }
            Malformed => outcome.refused(),
        };
        let (count, served) = (upstream.requests().len() - before, usize::from(matches!(ends, Served(200))));
        if !good || count != served {
            failures.push(format!("{section}, {why}: {outcome:?}, {count} requests"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(upstream.faults().iter().all(|fault| fault.contains("closed")), "{:?}", upstream.faults());
    let errors = edge.errors().text();
    assert!(!errors.contains("panicked"), "{errors}");
}

#[test]
fn frames_and_field_blocks() {
    // RFC 9113, 4; H25, H26
    let mut cut = frame(kind::HEADERS, END_STREAM, 1, &good());
    let continued = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        let block = good();
        let (first, last) = block.split_at(10);
        [
            frame(kind::HEADERS, END_STREAM, 1, first),
            frame(kind, flags, stream, payload),
            frame(kind::CONTINUATION, END_HEADERS, 1, last),
        ]
        .concat()
    };
    let pieces: Vec<u8> = std::iter::once(frame(kind::HEADERS, END_STREAM, 1, &[]))
        .chain(good().iter().map(|byte| frame(kind::CONTINUATION, 0, 1, &[*byte])))
        .take(5)
        .chain([frame(kind::CONTINUATION, END_HEADERS, 1, &good()[4..])])
        .flatten()
        .collect();
    cut.extend(get(3));
    check(vec![
        ("4.1", "an unknown type is ignored", [frame(0xfa, 0, 0, b"x"), get(1)].concat(), Served(200)),
        (
            "4.1",
            "unknown flags are ignored",
            frame(kind::HEADERS, END_HEADERS | END_STREAM | 0x82, 1, &good()),
            Served(200),
        ),
        ("4.1", "the reserved bit is ignored", frame(kind::HEADERS, 5, 0x8000_0001, &good()), Served(200)),
        (
            "4.2",
            "a frame over SETTINGS_MAX_FRAME_SIZE",
            [post(1), data(1, 0, &[0; 16_385])].concat(),
            Connection(FRAME_SIZE_ERROR),
        ),
        ("4.2", "one of just that size", [post(1), data(1, END_STREAM, &[0; 16_384])].concat(), Served(200)),
        ("4.2", "a field section in a frame over it", headers(&[0; 16_385]), Connection(FRAME_SIZE_ERROR)),
        ("4.2", "an unknown frame over it", frame(0xfa, 0, 0, &[0; 16_385]), Connection(FRAME_SIZE_ERROR)),
        ("4.3", "a field section in pieces", pieces, Served(200)),
        ("4.3", "a PING between them", continued(kind::PING, 0, 0, &[0; 8]), Connection(PROTOCOL_ERROR)),
        ("4.3", "DATA between them", continued(kind::DATA, 0, 1, b"x"), Connection(PROTOCOL_ERROR)),
        ("4.3", "SETTINGS between them", continued(kind::SETTINGS, 0, 0, &[]), Connection(PROTOCOL_ERROR)),
        (
            "4.3",
            "WINDOW_UPDATE between them",
            continued(kind::WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "4.3",
            "RST_STREAM between them",
            continued(kind::RST_STREAM, 0, 1, &[0, 0, 0, 8]),
            Connection(PROTOCOL_ERROR),
        ),
        ("4.3", "PRIORITY between them", continued(kind::PRIORITY, 0, 1, &[0, 0, 0, 0, 1]), Connection(PROTOCOL_ERROR)),
        ("4.3", "another stream's CONTINUATION", continued(kind::CONTINUATION, 0, 3, &[]), Connection(PROTOCOL_ERROR)),
        ("4.3", "another HEADERS", continued(kind::HEADERS, END_HEADERS, 3, &good()), Connection(PROTOCOL_ERROR)),
        ("4.3", "a request whose section has not ended", cut, Connection(PROTOCOL_ERROR)),
        ("5.5", "an unknown frame between them", continued(0xfa, 0, 0, b"x"), Connection(PROTOCOL_ERROR)),
        ("6.10", "CONTINUATION on stream 0", continued(kind::CONTINUATION, 0, 0, &[]), Connection(PROTOCOL_ERROR)),
        (
            "6.10",
            "CONTINUATION of nothing",
            frame(kind::CONTINUATION, END_HEADERS, 1, &good()),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "6.10",
            "CONTINUATION behind END_HEADERS",
            [post(1), frame(kind::CONTINUATION, END_HEADERS, 1, &good())].concat(),
            Connection(PROTOCOL_ERROR),
        ),
        ("7541 2.3.3", "index 0", headers(&[0x80]), Connection(COMPRESSION_ERROR)),
        ("7541 2.3.3", "an index nobody wrote", headers(&[0xff, 0x00]), Connection(COMPRESSION_ERROR)),
        ("7541 5.1", "an index that overflows", headers(&[0xff; 12]), Connection(COMPRESSION_ERROR)),
        (
            "7541 5.2",
            "a string longer than the section",
            headers(&[0x00, 0x7f, 0x01, b'x']),
            Connection(COMPRESSION_ERROR),
        ),
        (
            "7541 5.2",
            "Huffman code that ends in zeros",
            headers(&[0x00, 0x81, 0x00, 0x01, b'x']),
            Connection(COMPRESSION_ERROR),
        ),
        (
            "7541 5.2",
            "Huffman code with EOS",
            headers(&[0x00, 0x84, 0xff, 0xff, 0xff, 0xff, 0x01, b'x']),
            Connection(COMPRESSION_ERROR),
        ),
        (
            "7541 4.2",
            "a table larger than allowed",
            headers(&[&[0x3f, 0xe1, 0xff, 0x03][..], &good()].concat()),
            Connection(COMPRESSION_ERROR),
        ),
        ("7541 4.2", "a smaller table", headers(&[&[0x20][..], &good()].concat()), Served(200)),
        (
            "7541 4.2",
            "a change of size behind a field",
            headers(&[&good()[..], &[0x20]].concat()),
            Connection(COMPRESSION_ERROR),
        ),
        ("7541 6", "a section cut within a field", headers(&good()[..good().len() - 1]), Connection(COMPRESSION_ERROR)),
    ]);
}

#[test]
fn stream_states_and_identifiers() {
    // RFC 9113, 5.1
    let many: Vec<u8> = (0..200).flat_map(|n| post(n * 2 + 1)).collect();
    check(vec![
        ("5.1", "DATA on an idle stream", data(1, 0, b"x"), Connection(PROTOCOL_ERROR)),
        (
            "5.1",
            "RST_STREAM on an idle stream",
            frame(kind::RST_STREAM, 0, 1, &[0, 0, 0, 8]),
            Connection(PROTOCOL_ERROR),
        ),
        ("5.1", "WINDOW_UPDATE on an idle stream", window(1, 1), Connection(PROTOCOL_ERROR)),
        (
            "5.1",
            "DATA behind END_STREAM",
            [post(1), data(1, END_STREAM, b"x"), data(1, 0, b"y")].concat(),
            Stream(STREAM_CLOSED),
        ),
        (
            "5.1",
            "HEADERS behind END_STREAM",
            [post(1), data(1, END_STREAM, b"x"), post(1)].concat(),
            Stream(STREAM_CLOSED),
        ),
        (
            "5.1",
            "DATA behind the client's RST_STREAM",
            [post(1), frame(kind::RST_STREAM, 0, 1, &[0, 0, 0, 8]), data(1, 0, b"x"), data(1, 0, b"y")].concat(),
            Stream(STREAM_CLOSED),
        ),
        (
            "5.1",
            "HEADERS behind the client's RST_STREAM",
            [post(1), frame(kind::RST_STREAM, 0, 1, &[0, 0, 0, 8]), post(1)].concat(),
            Stream(STREAM_CLOSED),
        ),
        ("5.1.1", "an even identifier", get(2), Connection(PROTOCOL_ERROR)),
        ("5.1.1", "identifiers that go down", [post(5), post(3)].concat(), Connection(PROTOCOL_ERROR)),
        ("5.1.2", "more streams than allowed", many, Stream(REFUSED_STREAM)),
        (
            "5.3.2",
            "a PRIORITY of an idle stream",
            [frame(kind::PRIORITY, 0, 7, &[0, 0, 0, 0, 1]), get(1)].concat(),
            Served(200),
        ),
    ]);
}

#[test]
fn frame_definitions() {
    // RFC 9113, 6
    let padded = |pad: u8, rest: &[u8]| [&[pad][..], rest].concat();
    check(vec![
        ("6.1", "DATA on stream 0", data(0, 0, b"x"), Connection(PROTOCOL_ERROR)),
        ("6.1", "padded DATA", [post(1), data(1, PADDED | END_STREAM, &padded(3, b"xy\0\0\0"))].concat(), Served(200)),
        ("6.1", "padding alone", [post(1), data(1, PADDED | END_STREAM, &padded(3, &[0; 3]))].concat(), Served(200)),
        (
            "6.1",
            "as much padding as payload",
            [post(1), data(1, PADDED, &padded(3, b"xy"))].concat(),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "6.1",
            "no room for the length of the padding",
            [post(1), data(1, PADDED, &[])].concat(),
            Connection(PROTOCOL_ERROR),
        ),
        ("6.2", "HEADERS on stream 0", frame(kind::HEADERS, 5, 0, &good()), Connection(PROTOCOL_ERROR)),
        (
            "6.2",
            "padded HEADERS",
            frame(kind::HEADERS, 5 | PADDED, 1, &[&padded(2, &good())[..], &[0; 2]].concat()),
            Served(200),
        ),
        (
            "6.2",
            "more padding than section",
            frame(kind::HEADERS, 5 | PADDED, 1, &padded(200, &good())),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "6.2",
            "HEADERS with a priority",
            frame(kind::HEADERS, 5 | PRIORITY_FLAG, 1, &[&[0, 0, 0, 0, 15][..], &good()].concat()),
            Served(200),
        ),
        (
            "6.2",
            "a priority cut short",
            frame(kind::HEADERS, 5 | PRIORITY_FLAG, 1, &[0, 0]),
            Connection(FRAME_SIZE_ERROR),
        ),
        ("6.3", "PRIORITY on stream 0", frame(kind::PRIORITY, 0, 0, &[0; 5]), Connection(PROTOCOL_ERROR)),
        (
            "6.3",
            "PRIORITY of four bytes",
            [post(1), frame(kind::PRIORITY, 0, 1, &[0; 4])].concat(),
            Stream(FRAME_SIZE_ERROR),
        ),
        ("6.4", "RST_STREAM on stream 0", frame(kind::RST_STREAM, 0, 0, &[0; 4]), Connection(PROTOCOL_ERROR)),
        (
            "6.4",
            "RST_STREAM of three bytes",
            [post(1), frame(kind::RST_STREAM, 0, 1, &[0; 3])].concat(),
            Connection(FRAME_SIZE_ERROR),
        ),
        ("6.5", "SETTINGS on a stream", frame(kind::SETTINGS, 0, 1, &[]), Connection(PROTOCOL_ERROR)),
        ("6.5", "half a setting", frame(kind::SETTINGS, 0, 0, &[0; 5]), Connection(FRAME_SIZE_ERROR)),
        (
            "6.5",
            "an acknowledgement with settings",
            frame(kind::SETTINGS, ACK, 0, &[0; 6]),
            Connection(FRAME_SIZE_ERROR),
        ),
        ("6.5.2", "ENABLE_PUSH of 2", setting(2, 2), Connection(PROTOCOL_ERROR)),
        ("6.5.2", "a window over 2^31-1", setting(4, 0x8000_0000), Connection(FLOW_CONTROL_ERROR)),
        ("6.5.2", "frames of less than 2^14", setting(5, 16_383), Connection(PROTOCOL_ERROR)),
        ("6.5.2", "frames of 2^24", setting(5, 1 << 24), Connection(PROTOCOL_ERROR)),
        ("6.5.2", "an unknown setting", [setting(0xfafa, 7), get(1)].concat(), Served(200)),
        (
            "6.6",
            "PUSH_PROMISE of a client",
            frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2]),
            Connection(PROTOCOL_ERROR),
        ),
        ("6.7", "PING on a stream", frame(kind::PING, 0, 1, &[0; 8]), Connection(PROTOCOL_ERROR)),
        ("6.7", "PING of seven bytes", frame(kind::PING, 0, 0, &[0; 7]), Connection(FRAME_SIZE_ERROR)),
        ("6.7", "the answer to a PING nobody sent", [frame(kind::PING, ACK, 0, &[0; 8]), get(1)].concat(), Served(200)),
        ("6.8", "GOAWAY on a stream", frame(kind::GOAWAY, 0, 1, &[0; 8]), Connection(PROTOCOL_ERROR)),
        ("6.8", "GOAWAY of four bytes", frame(kind::GOAWAY, 0, 0, &[0; 4]), Connection(FRAME_SIZE_ERROR)),
        ("6.9", "no increment of the connection's window", window(0, 0), Connection(PROTOCOL_ERROR)),
        ("6.9", "none of a stream's", [post(1), window(1, 0)].concat(), Stream(PROTOCOL_ERROR)),
        (
            "6.9",
            "WINDOW_UPDATE of three bytes",
            frame(kind::WINDOW_UPDATE, 0, 0, &[0; 3]),
            Connection(FRAME_SIZE_ERROR),
        ),
        ("6.9.1", "a connection's window over 2^31-1", window(0, 0x7fff_ffff), Connection(FLOW_CONTROL_ERROR)),
        ("6.9.1", "a stream's window over it", [post(1), window(1, 0x7fff_ffff)].concat(), Stream(FLOW_CONTROL_ERROR)),
        (
            "6.9",
            "the reserved bit of an increment",
            [frame(kind::WINDOW_UPDATE, 0, 0, &[0x80, 0, 0, 1]), get(1)].concat(),
            Served(200),
        ),
        (
            "6.9.2",
            "SETTINGS that lift a stream's window over it",
            [post(1), window(1, 0x7fff_0000), setting(4, 0x7fff_ffff)].concat(),
            Connection(FLOW_CONTROL_ERROR),
        ),
    ]);
}
