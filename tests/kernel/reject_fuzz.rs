//! What `edge_reject` answers, against userspace's parser: heads that are changed at random, the same in each run.

use edge_ebpf::rejection::RejectCounter;
use edge_user::http::{
    h1::parse::{self, Framing, Scanner},
    head::{Head, Known},
};

use crate::{
    reject::{HOST, TOKEN, head},
    reject_heads::Connection,
};

/// Numbers that look random and are the same in each run: xorshift64*.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 33) as usize % bound
    }

    fn choose<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }

    fn text(&mut self, alphabet: &[u8], length: usize) -> String {
        (0..length).map(|_| char::from(alphabet[self.below(alphabet.len())])).collect()
    }

    /// A token of this length, which may end in padding.
    pub(crate) fn token(&mut self, length: usize) -> String {
        const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/";
        let padding = self.below(3).min(length - 1);
        self.text(ALPHABET, length - padding) + &"=".repeat(padding)
    }

    pub(crate) fn host(&mut self) -> String {
        let length = 1 + self.below(60);
        let port = self.choose(&["", ":80", ":65535"]);
        self.text(b"abcxyzABCXYZ019-.", length) + port
    }
}

/// Pieces that heads are made of, so that a change often makes another thing that could be one.
const PIECES: &[&str] = &[
    "\r\n",
    "\n",
    "\r",
    "\r\n\r\n",
    " ",
    "\t",
    ":",
    ": ",
    "\0",
    "=",
    ",",
    "/",
    "GET",
    "POST",
    "HEAD",
    "OPTIONS",
    "HTTP/1.1",
    "HTTP/1.0",
    "Host: api.example\r\n",
    "Host: b\r\n",
    "Host",
    "api.example",
    "Authorization: Bearer rejected.token-0\r\n",
    "Authorization: Basic eA==\r\n",
    "Authorization",
    "Bearer",
    "bearer ",
    "rejected.token-0",
    "Content-Length: 0\r\n",
    "Content-Length: 7\r\n",
    "Content-",
    "Transfer-Encoding: chunked\r\n",
    "Connection: close\r\n",
    "Connection: keep-alive\r\n",
    "Connection: upgrade\r\n",
    "Upgrade: x\r\n",
    "Expect: 100-continue\r\n",
    "X: y\r\n",
    "X:\r\n",
    "x_y: z\r\n",
    "a(b: c\r\n",
    "\u{e9}",
    "\u{7f}",
    "#",
    "%",
    "\"",
    "Cookie: a=b\r\n",
    " folded\r\n",
];

fn mutated(random: &mut Random) -> Vec<u8> {
    let token = random.choose(&[TOKEN, TOKEN, "other"]);
    let mut bytes = head(token).into_bytes();
    for _ in 0..random.below(4) {
        let at = random.below(bytes.len() + 1);
        match random.below(6) {
            // A whole line more, where it may stand.
            0 | 1 => {
                let lines: Vec<usize> =
                    bytes.windows(2).enumerate().filter(|(_, pair)| pair == b"\r\n").map(|(at, _)| at + 2).collect();
                let at = lines.get(random.below(lines.len().max(1))).copied().unwrap_or(0);
                bytes.splice(at..at, random.choose(PIECES).bytes());
            }
            2 => drop(bytes.splice(at..at, random.choose(PIECES).bytes())),
            3 if at < bytes.len() => bytes[at] = random.next() as u8,
            4 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            _ => {
                let end = (at + random.below(8)).min(bytes.len());
                bytes.drain(at..end);
            }
        }
        if bytes.is_empty() {
            break;
        }
    }
    bytes
}

/// What userspace's parser must make of a payload that the kernel answers.
fn check_codec(payload: &[u8]) {
    let shown = String::from_utf8_lossy(payload);
    let end = Scanner::default().find_end(payload).unwrap_or_else(|error| panic!("{shown:?}: {error}"));
    assert_eq!(end, Some(payload.len()), "{shown:?}: not exactly one head");
    let mut head = Head::default();
    let meta = parse::request(payload, &mut head, 64).unwrap_or_else(|error| panic!("{shown:?}: {error}"));
    assert_eq!(meta.framing, Framing::None, "{shown:?}");
    assert!(!meta.expect_continue && !meta.upgrade, "{shown:?}");
    let values = |known: Known| {
        head.fields()
            .filter(|field| field.known == known)
            .map(|field| field.value.to_ascii_lowercase())
            .collect::<Vec<_>>()
    };
    assert_eq!(values(Known::Host), [HOST.as_bytes()], "{shown:?}");
    assert_eq!(values(Known::Authorization), [format!("bearer {TOKEN}").as_bytes()], "{shown:?}");
    assert!(![b"HEAD", &b"OPTIONS"[..]].contains(&head.method()), "{shown:?}");
}

#[test]
fn what_the_kernel_answers_is_one_whole_request_to_userspace() {
    const RUNS: usize = 30_000;
    let mut random = Random::new(0xed6e);
    let mut connection = Connection::new("127.0.0.1");
    let mut rejected = 0;
    for _ in 0..RUNS {
        let payload = mutated(&mut random);
        let frame = connection.segment(&payload).frame();
        connection.run(&frame, 1);
        let now = connection.programs.count(RejectCounter::Rejected);
        if now != rejected {
            rejected = now;
            check_codec(&payload);
        }
    }
    // Both sides of the line are reached, or this shows nothing.
    let counters = connection.programs.counters();
    assert!(counters[0] > RUNS as u64 / 10 && counters[2] > RUNS as u64 / 4, "{counters:?}");
    println!("{counters:?}");
}
