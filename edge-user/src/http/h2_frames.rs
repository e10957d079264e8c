//! What a client's HTTP/2 frames may cost (H25). The `h2` crate bounds CONTINUATION, DATA and streams reset before they were
//! accepted; what it answers or drops without end, this counts: PING, SETTINGS, PRIORITY, WINDOW_UPDATE, unknown frames, and
//! resets of requests already under way. It also sees to it that SETTINGS come first (RFC 9113, 3.4), which the crate does not.
//!
//! A connection has two stocks of credits, which time fills a little. Frames that ask for nothing take from the one, which
//! requests and bytes sent to the client fill; resets from the other, which requests alone fill: a large response pays
//! for no resets. Honest clients send such frames for what they receive, and never meet the end.

use std::time::Instant;

use super::h2::MAX_STREAMS;

/// Credits at the beginning, and at most.
const STOCK: u32 = 1000;
/// Credits a second: for a client that begins as many requests a second as it may ever have open and resets them all, as
/// those with a deadline do while an upstream hangs.
const PER_SECOND: u32 = (RESET - REQUEST) * MAX_STREAMS;
/// Credits for a request.
const REQUEST: u32 = 4;
/// What a reset takes: twice what its request gave, for that may have gone upstream already.
const RESET: u32 = 8;
/// Bytes sent for one credit: fewer than a message of a stream has, more than the answer to a PING.
const SENT_BYTES: u32 = 32;
/// The client's preface (RFC 9113, 3.4).
const PREFACE_BYTES: usize = 24;
const HEADER_BYTES: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;

/// Why a connection must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The preface does not end with SETTINGS (RFC 9113, 3.4).
    #[error("no SETTINGS behind the preface")]
    Preface,
    /// It has cost more than it may.
    #[error("too many frames")]
    Flood,
}

/// Credits, and when time gave the last.
struct Stock {
    left: u32,
    since: Instant,
}

impl Stock {
    fn full(now: Instant) -> Self {
        Self { left: STOCK, since: now }
    }

    fn give(&mut self, credits: u32) {
        self.left = self.left.saturating_add(credits).min(STOCK);
    }

    /// Takes credits; false where there are too few, with what time gave meanwhile.
    fn take(&mut self, cost: u32, now: &impl Fn() -> Instant) -> bool {
        if self.left < cost {
            // The clock is read only here.
            let now = now();
            let passed = now.duration_since(self.since).as_millis().saturating_mul(u128::from(PER_SECOND)) / 1000;
            self.since = now;
            self.give(u32::try_from(passed).unwrap_or(u32::MAX));
        }
        let left = self.left.checked_sub(cost);
        self.left = left.unwrap_or(self.left);
        left.is_some()
    }
}

/// Counts the frames of one connection.
pub struct Frames {
    header: [u8; HEADER_BYTES],
    filled: usize,
    /// Bytes of the preface or of a payload until the next header.
    skip: usize,
    credits: Stock,
    resets: Stock,
    sent_bytes: u32,
    /// The highest stream that HEADERS opened.
    newest: u32,
    /// The type of the frame before.
    before: u8,
    /// Nothing but the preface came.
    fresh: bool,
    fault: Option<Fault>,
}

impl Frames {
    /// A connection at its first byte.
    pub fn new(now: Instant) -> Self {
        let header = [0; HEADER_BYTES];
        Self {
            header,
            filled: 0,
            skip: PREFACE_BYTES,
            credits: Stock::full(now),
            resets: Stock::full(now),
            sent_bytes: 0,
            newest: 0,
            before: DATA,
            fresh: true,
            fault: None,
        }
    }

    /// Why the connection must end, once it must.
    pub fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// Looks at bytes as they come from the client.
    pub fn received(&mut self, mut bytes: &[u8], now: impl Fn() -> Instant) {
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            let taken = (HEADER_BYTES - self.filled).min(bytes.len() - skipped);
            self.header[self.filled..self.filled + taken].copy_from_slice(&bytes[skipped..skipped + taken]);
            self.filled += taken;
            bytes = &bytes[skipped + taken..];
            if self.filled == HEADER_BYTES {
                self.filled = 0;
                self.frame(&now);
            }
        }
    }

    /// Bytes went to the client.
    pub fn sent(&mut self, bytes: usize) {
        let sum = u32::try_from(bytes).unwrap_or(u32::MAX).saturating_add(self.sent_bytes);
        self.sent_bytes = sum % SENT_BYTES;
        self.credits.give(sum / SENT_BYTES);
    }

    /// A whole frame header stands in `header`.
    fn frame(&mut self, now: &impl Fn() -> Instant) {
        let [high, middle, low, kind, _, stream @ ..] = self.header;
        self.skip = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        let stream = u32::from_be_bytes(stream) & 0x7fff_ffff;
        let before = std::mem::replace(&mut self.before, kind);
        if std::mem::take(&mut self.fresh) && kind != SETTINGS {
            self.fault = Some(Fault::Preface);
        }
        let paid = match kind {
            DATA => true,
            // Others are trailers, or of a stream that was reset: the crate drops those.
            HEADERS if stream > self.newest => {
                self.newest = stream;
                self.credits.give(REQUEST);
                self.resets.give(REQUEST);
                true
            }
            RST_STREAM => self.resets.take(RESET, now),
            // gRPC for Go sends this pair for a DATA frame, however small.
            PING if before == WINDOW_UPDATE => true,
            _ => self.credits.take(1, now),
        };
        if !paid {
            self.fault = self.fault.or(Some(Fault::Flood));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn frame(kind: u8, length: usize) -> Vec<u8> {
        let mut bytes = vec![0, (length >> 8) as u8, length as u8, kind, 0, 0, 0, 0, 1];
        bytes.resize(HEADER_BYTES + length, 0xff);
        bytes
    }

    /// The head of a request on this stream.
    fn request(stream: u32) -> Vec<u8> {
        let mut bytes = frame(HEADERS, 20);
        bytes[5..9].copy_from_slice(&stream.to_be_bytes());
        bytes
    }

    fn begun(now: Instant) -> Frames {
        let mut frames = Frames::new(now);
        frames.received(&[&[b'P'; PREFACE_BYTES][..], &frame(SETTINGS, 6)].concat(), || now);
        frames.credits.give(1);
        frames
    }

    // H25
    #[test]
    fn frames_are_found_however_they_arrive() {
        let now = Instant::now();
        let bytes: Vec<u8> = (1..=700)
            .flat_map(|stream| [frame(PING, 8), frame(DATA, 300), request(stream), frame(WINDOW_UPDATE, 4)].concat())
            .collect();
        for piece in [1, 7, 9, 16, 1000, bytes.len()] {
            let mut frames = begun(now);
            bytes.chunks(piece).for_each(|piece| frames.received(piece, || now));
            // Two taken and four given each time; the stock is full before the last frame.
            assert_eq!((frames.credits.left, frames.fault()), (STOCK - 1, None), "in pieces of {piece}");
        }
    }

    // H25
    #[test]
    fn each_flood_ends() {
        let now = Instant::now();
        for (kind, length, frames_before_the_end) in [
            (PING, 8, STOCK),
            (WINDOW_UPDATE, 4, STOCK),
            (2, 5, STOCK),
            (4, 0, STOCK),
            (0xee, 0, STOCK),
            (RST_STREAM, 4, 125),
        ] {
            let mut frames = begun(now);
            for _ in 0..frames_before_the_end {
                frames.received(&frame(kind, length), || now);
            }
            assert_eq!(frames.fault(), None, "{kind}");
            frames.received(&frame(kind, length), || now);
            assert_eq!(frames.fault(), Some(Fault::Flood), "{kind}");
        }
        // With a request before each reset.
        let mut frames = begun(now);
        for stream in 1..=300 {
            frames.received(&[request(stream), frame(RST_STREAM, 4)].concat(), || now);
            frames.sent(16_384);
        }
        assert_eq!(frames.fault(), Some(Fault::Flood));
        // With heads on a stream that has ended, and gRPC's pair with its answer.
        for flood in [frame(HEADERS, 20), [frame(WINDOW_UPDATE, 4), frame(PING, 8)].concat()] {
            let mut frames = begun(now);
            for _ in 0..3 * STOCK {
                frames.received(&flood, || now);
                frames.sent(17);
            }
            assert_eq!(frames.fault(), Some(Fault::Flood));
        }
        // With the answer to each PING sent: 17 bytes.
        let mut frames = begun(now);
        for _ in 0..3 * STOCK {
            frames.received(&frame(PING, 8), || now);
            frames.sent(17);
        }
        assert_eq!(frames.fault(), Some(Fault::Flood));
    }

    // RFC 9113, 3.4
    #[test]
    fn settings_come_first() {
        let now = Instant::now();
        for (kind, fault) in [(SETTINGS, None), (HEADERS, Some(Fault::Preface)), (PING, Some(Fault::Preface))] {
            let mut frames = Frames::new(now);
            frames.received(&[&[b'P'; PREFACE_BYTES][..], &frame(kind, 6), &frame(PING, 8)].concat(), || now);
            assert_eq!(frames.fault(), fault, "{kind}");
        }
    }

    // H25
    #[test]
    fn honest_clients_never_meet_the_end() {
        let now = Instant::now();
        // Half of the requests reset; a PING for each message of fifty bytes; two updates for each frame of data; what gRPC
        // for Go sends for a message of one byte.
        type Received = fn(u32) -> Vec<u8>;
        let steps: [(Received, usize); 4] = [
            (|n| [request(2 * n + 1), request(2 * n + 2), frame(RST_STREAM, 4)].concat(), 0),
            (|_| frame(PING, 8), 59 + 17),
            (|_| frame(WINDOW_UPDATE, 4).repeat(2), 16_384),
            (|_| [frame(WINDOW_UPDATE, 4), frame(PING, 8)].concat(), 9 + 6 + 17),
        ];
        for (received, sent) in steps {
            let mut frames = begun(now);
            for n in 0..10_000 {
                frames.received(&received(n), || now);
                frames.sent(sent);
            }
            assert_eq!(frames.fault(), None);
        }
        // Every request reset after a second, as many as may be open.
        let mut frames = begun(now);
        for n in 0..60 * MAX_STREAMS {
            let at = now + Duration::from_secs(u64::from(n / MAX_STREAMS));
            frames.received(&[request(n + 1), frame(RST_STREAM, 4)].concat(), || at);
        }
        assert_eq!(frames.fault(), None);
        // A keep-alive PING a second.
        let mut frames = begun(now);
        for second in 0..5 * u64::from(STOCK) {
            frames.received(&frame(PING, 8), || now + Duration::from_secs(second));
        }
        assert_eq!(frames.fault(), None);
    }
}
