//! WebSockets behind a token: frames pass, and the connection ends with the token (P8).

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use edge_tests::edge::{Edge, Setup};
use edge_tests::issuer::Issuer;
use edge_tests::mint::{self, Key};
use edge_tests::upstream::{Seen, Upstream};
use edge_tests::wire::{Client, Reader, get};
use serde_json::json;

use super::{AUDIENCE, bearer, guarded};

const SWITCH: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// A frame of at most 125 bytes, masked as clients do (RFC 6455, 5.3).
fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [1, 2, 3, 4];
    let mut frame = vec![0x80 | opcode, 0x80 | payload.len() as u8];
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

fn read_frame(stream: &mut impl Read) -> Option<(u8, Vec<u8>)> {
    let mut head = [0; 2];
    stream.read_exact(&mut head).ok()?;
    let mut mask = [0; 4];
    if head[1] & 0x80 != 0 {
        stream.read_exact(&mut mask).ok()?;
    }
    let mut payload = vec![0; usize::from(head[1] & 0x7f)];
    stream.read_exact(&mut payload).ok()?;
    for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
    Some((head[0] & 0x0f, payload))
}

/// Greets, answers pings and sends texts back. `/half` begins a frame it never ends.
fn chat(socket: TcpStream, seen: &Seen) {
    let mut reader = Reader::new(socket);
    let Ok(Some(request)) = reader.request() else { return };
    let half = request.target() == "/half";
    seen.keep(request);
    let stream = reader.stream();
    let _ = stream.write_all(SWITCH);
    let _ = stream.write_all(b"\x81\x02hi");
    if half {
        let _ = stream.write_all(b"\x82\x7d only the beginning");
    }
    while let Some((opcode, payload)) = read_frame(stream) {
        let answer = if opcode == PING { PONG } else { opcode };
        let _ = stream.write_all(&[&[0x80 | answer, payload.len() as u8], &payload[..]].concat());
    }
}

struct Chat {
    edge: Edge,
    upstream: Upstream,
    issuer: Issuer,
    key: Key,
}

impl Chat {
    fn start(proxy: &str) -> Self {
        let (upstream, key) = (Upstream::raw(chat), Key::es256("es-1"));
        let issuer = Issuer::start(&[&key]);
        let entities = guarded(&upstream.url(), bearer(&issuer.url()));
        let edge = Setup::new(entities).section(&format!("[proxy]\n{proxy}")).start();
        Self { edge, upstream, issuer, key }
    }

    /// A connection with a token that lives for so long, greeted already.
    fn join(&self, path: &str, life_secs: i64) -> Client {
        let claims = mint::claims(&self.issuer.url(), AUDIENCE);
        let token = self.key.token(&mint::with(claims, json!({"exp": mint::now() + life_secs})));
        let authorization = format!("Authorization: Bearer {token}");
        let mut client = self.edge.connect();
        client.send(get(
            path,
            &["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", &authorization],
        ));
        assert_eq!(client.head().status(), 101);
        assert_eq!(frame(&mut client), Some((TEXT, b"hi".to_vec())));
        client
    }
}

/// The next frame, or none at the end.
fn frame(client: &mut Client) -> Option<(u8, Vec<u8>)> {
    struct Bytes<'a>(&'a mut Client);
    impl Read for Bytes<'_> {
        fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
            self.0.some(to)
        }
    }
    read_frame(&mut Bytes(client))
}

#[test]
fn a_websocket_ends_with_its_token() {
    let chat = Chat::start("");
    let start = Instant::now();
    let mut client = chat.join("/", 2);
    for (opcode, answer) in [(TEXT, TEXT), (PING, PONG)] {
        client.send(masked(opcode, b"there"));
        assert_eq!(frame(&mut client), Some((answer, b"there".to_vec())));
    }
    let last = frame(&mut client).expect("a Close frame");
    assert_eq!((last.0, u16::from_be_bytes([last.1[0], last.1[1]])), (CLOSE, 1008));
    assert_eq!(&last.1[2..], b"token expired");
    assert!(start.elapsed() > Duration::from_millis(900) && start.elapsed() < Duration::from_secs(6));
    client.send(masked(CLOSE, &1008u16.to_be_bytes()));
    assert!(client.closes());
    let line = chat.edge.access(|line| line["status"] == 101);
    assert_eq!((&line["reason"], &line["route"]), (&json!("tunnel_token_expired"), &json!("all")));
    // Two frames with key up; greeting, two answers and Close down.
    assert_eq!((&line["bytes_in"], &line["bytes_out"]), (&json!(22), &json!(4 + 7 + 7 + 17)));
    assert!(line["total_ms"].as_f64() > Some(900.0) && line["edge_ms"].as_f64() < Some(900.0), "{line}");
    assert_eq!(chat.edge.metric("edge_refusals_total{reason=\"tunnel_token_expired\"}"), 1.0);
}

#[test]
fn no_frame_is_put_into_another() {
    let chat = Chat::start("");
    let mut client = chat.join("/half", 2);
    assert_eq!(client.rest(), b"\x82\x7d only the beginning");
    assert_eq!(chat.edge.access(|line| line["status"] == 101)["reason"], "tunnel_token_expired");
}

#[test]
fn the_cut_can_be_switched_off() {
    let chat = Chat::start("cut_at_expiry = false\n");
    let mut client = chat.join("/", 2);
    assert!(client.silent_for(Duration::from_millis(3000)));
    client.send(masked(TEXT, b"still here"));
    assert_eq!(frame(&mut client), Some((TEXT, b"still here".to_vec())));
    client.finish();
    assert!(client.closes());
    assert!(chat.edge.access(|line| line["status"] == 101).get("reason").is_none());
    assert_eq!(chat.upstream.requests().len(), 1);
}

#[test]
fn the_cut_can_come_later() {
    let chat = Chat::start("max_over_exp = 2\n");
    let start = Instant::now();
    let mut client = chat.join("/", 2);
    assert!(client.silent_for(Duration::from_millis(2200)));
    client.send(masked(TEXT, b"over"));
    assert_eq!(frame(&mut client), Some((TEXT, b"over".to_vec())));
    assert_eq!(frame(&mut client).map(|(opcode, _)| opcode), Some(CLOSE));
    assert!(start.elapsed() > Duration::from_millis(2900) && start.elapsed() < Duration::from_secs(8));
}
