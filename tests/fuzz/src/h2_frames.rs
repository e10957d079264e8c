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

/// Frame by frame: a thousand credits of each kind, four for each request up to as many, eight taken by each reset from
/// its own, one by others but DATA and a PING behind an update.
fn slowly(mut data: &[u8]) -> Option<Fault> {
    let (mut credits, mut resets, mut first, mut newest, mut before) = (1000_i64, 1000_i64, true, 0, 0);
    while data.len() >= 9 {
        let length = u32::from_be_bytes([0, data[0], data[1], data[2]]) as usize;
        let (kind, stream) = (data[3], u32::from_be_bytes([data[5], data[6], data[7], data[8]]) & 0x7fff_ffff);
        if first && kind != 4 {
            return Some(Fault::Preface);
        }
        first = false;
        let (stock, cost) = match kind {
            0 => (&mut credits, 0),
            1 if stream > newest => {
                newest = stream;
                (credits, resets) = ((credits + 4).min(1000), (resets + 4).min(1000));
                (&mut credits, 0)
            }
            3 => (&mut resets, 8),
            6 if before == 8 => (&mut credits, 0),
            _ => (&mut credits, 1),
        };
        if *stock < cost {
            return Some(Fault::Flood);
        }
        *stock -= cost;
        before = kind;
        data = data.get(9 + length..).unwrap_or_default();
    }
    None
}
