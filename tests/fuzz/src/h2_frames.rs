//! The frames of an HTTP/2 client, counted as they arrive.

use std::time::Instant;

use edge_user::http::h2_frames::{Fault, Frames};

use super::prefixes;

const PREFACE_BYTES: usize = 24;

/// Bytes behind a preface: what they come to is the same however they arrive, and what a slow second reader says.
pub fn counted(data: &[u8]) {
    let now = Instant::now();
    let bytes = [&[b'P'; PREFACE_BYTES][..], data].concat();
    let whole = count(&bytes, std::iter::once(bytes.len()), now);
    for longest in [1, 3, 64] {
        assert_eq!(count(&bytes, prefixes(&bytes, longest), now), whole, "in pieces of up to {longest}");
    }
    assert_eq!(whole, slowly(data));
}

fn count(bytes: &[u8], ends: impl Iterator<Item = usize>, now: Instant) -> Option<Fault> {
    let mut frames = Frames::new(now);
    let mut from = 0;
    for end in ends {
        frames.received(&bytes[from..end], || now);
        from = end;
    }
    frames.fault()
}

/// Frame by frame: a thousand credits, four for each request up to as many, eight taken by each reset, one by others.
fn slowly(mut data: &[u8]) -> Option<Fault> {
    let (mut credits, mut first) = (1000_i64, true);
    while data.len() >= 9 {
        let length = u32::from_be_bytes([0, data[0], data[1], data[2]]) as usize;
        let kind = data[3];
        if first && kind != 4 {
            return Some(Fault::Preface);
        }
        first = false;
        match kind {
            0 => {}
            1 => credits = (credits + 4).min(1000),
            3 if credits < 8 => return Some(Fault::Flood),
            3 => credits -= 8,
            _ if credits < 1 => return Some(Fault::Flood),
            _ => credits -= 1,
        }
        data = data.get(9 + length..).unwrap_or_default();
    }
    None
}
