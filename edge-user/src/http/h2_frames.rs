//! What a client's HTTP/2 frames may cost (H25). The `h2` crate bounds CONTINUATION, DATA and streams reset before they were
//! accepted; what it answers or drops without end, this counts: PING, SETTINGS, PRIORITY, WINDOW_UPDATE, unknown frames, and
//! resets of requests already under way. It also sees to it that SETTINGS come first (RFC 9113, 3.4), which the crate does not.
//!
//! A connection has a stock of credits. Requests and bytes sent to the client fill it, as time does a little; frames that
//! ask for nothing take from it. Honest clients send such frames for what they receive, and never meet the end.

use std::time::Instant;

/// Credits at the beginning, and at most.
const STOCK: u32 = 1000;
/// Credits a second.
const PER_SECOND: u32 = 50;
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

/// Counts the frames of one connection.
pub struct Frames {
    header: [u8; HEADER_BYTES],
    filled: usize,
    /// Bytes of the preface or of a payload until the next header.
    skip: usize,
    left: u32,
    sent_bytes: u32,
    since: Instant,
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
            left: STOCK,
            sent_bytes: 0,
            since: now,
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
        self.give(sum / SENT_BYTES);
    }

    fn give(&mut self, credits: u32) {
        self.left = self.left.saturating_add(credits).min(STOCK);
    }

    /// A whole frame header stands in `header`.
    fn frame(&mut self, now: &impl Fn() -> Instant) {
        let [high, middle, low, kind, ..] = self.header;
        self.skip = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        if std::mem::take(&mut self.fresh) && kind != SETTINGS {
            self.fault = Some(Fault::Preface);
        }
        let cost = match kind {
            HEADERS => return self.give(REQUEST),
            DATA => return,
            RST_STREAM => RESET,
            _ => 1,
        };
        if self.left < cost {
            // The clock is read only here.
            let now = now();
            let passed = now.duration_since(self.since).as_millis().saturating_mul(u128::from(PER_SECOND)) / 1000;
            self.since = now;
            self.give(u32::try_from(passed).unwrap_or(u32::MAX));
        }
        match self.left.checked_sub(cost) {
            Some(left) => self.left = left,
            None => self.fault = self.fault.or(Some(Fault::Flood)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const PING: u8 = 6;
    const WINDOW_UPDATE: u8 = 8;

    fn frame(kind: u8, length: usize) -> Vec<u8> {
        let mut bytes = vec![0, (length >> 8) as u8, length as u8, kind, 0, 0, 0, 0, 1];
        bytes.resize(HEADER_BYTES + length, 0xff);
        bytes
    }

    fn begun(now: Instant) -> Frames {
        let mut frames = Frames::new(now);
        frames.received(&[&[b'P'; PREFACE_BYTES][..], &frame(SETTINGS, 6)].concat(), || now);
        frames.give(1);
        frames
    }

    // H25
    #[test]
    fn frames_are_found_however_they_arrive() {
        let now = Instant::now();
        let bytes =
            [frame(PING, 8), frame(DATA, 300), frame(HEADERS, 20), frame(WINDOW_UPDATE, 4)].concat().repeat(700);
        for piece in [1, 7, 9, 16, 1000, bytes.len()] {
            let mut frames = begun(now);
            bytes.chunks(piece).for_each(|piece| frames.received(piece, || now));
            // Two taken and four given each time; the stock is full before the last frame.
            assert_eq!((frames.left, frames.fault()), (STOCK - 1, None), "in pieces of {piece}");
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
        for _ in 0..300 {
            frames.received(&[frame(HEADERS, 30), frame(RST_STREAM, 4)].concat(), || now);
        }
        assert_eq!(frames.fault(), Some(Fault::Flood));
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
        // Half of the requests reset; a PING for each message of fifty bytes; two updates for each frame of data.
        let steps: [(&[Vec<u8>], usize); 3] = [
            (&[frame(HEADERS, 30), frame(HEADERS, 30), frame(RST_STREAM, 4)], 0),
            (&[frame(PING, 8)], 59 + 17),
            (&[frame(WINDOW_UPDATE, 4), frame(WINDOW_UPDATE, 4)], 16_384),
        ];
        for (received, sent) in steps {
            let mut frames = begun(now);
            for _ in 0..10_000 {
                frames.received(&received.concat(), || now);
                frames.sent(sent);
            }
            assert_eq!(frames.fault(), None);
        }
        // A keep-alive PING a second.
        let mut frames = begun(now);
        for second in 0..5 * u64::from(STOCK) {
            frames.received(&frame(PING, 8), || now + Duration::from_secs(second));
        }
        assert_eq!(frames.fault(), None);
    }
}
