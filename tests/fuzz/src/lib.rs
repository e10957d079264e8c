//! What every parser of foreign bytes must hold to, whatever the bytes: one function per fuzz target, each of which
//! panics where it finds otherwise. `tests/replay` runs them on stable over the kept corpora.
//!
//! What the edge writes is judged by `strict`, which shares no code with it.

mod arguments;
mod config;
mod dpop;
mod forward;
mod h1;
mod h2;
mod h2_frames;
mod import;
mod introspection;
mod json;
mod jwk;
mod keysets;
mod passing;
mod proxy_protocol;
mod strict;
mod target;
mod token;
mod transform;

/// What a target does with one input.
type Target = fn(&[u8]);

/// Every target: its name, which is also its corpus's, and its function.
pub const TARGETS: &[(&str, Target)] = &[
    ("head", h1::request),
    ("response", h1::response),
    ("chunked", h1::chunked),
    ("h2_head", h2::head),
    ("h2_frames", h2_frames::counted),
    ("forward", forward::http1),
    ("target", target::path),
    ("jws", token::jws),
    ("claims", token::claims),
    ("jwks", token::jwks),
    ("dpop", dpop::proof),
    ("jwk", jwk::one),
    ("introspection", introspection::answer),
    ("entities", config::entities),
    ("settings", config::settings),
    ("rewrite", passing::rewrite),
    ("websocket", passing::websocket),
    ("proxy_protocol", proxy_protocol::header),
    ("arguments", arguments::take_out),
    ("transform", transform::apart_and_together),
    ("private_jwks", keysets::fetched),
    ("bigip", import::bigip),
    ("irule", import::irule),
];

/// Runs one target.
pub fn run(name: &str, data: &[u8]) {
    let (_, target) = TARGETS.iter().find(|(known, _)| *known == name).expect("a name of `TARGETS`");
    target(data);
}

/// The ends of pieces that `data` may arrive in: growing prefixes, the last of them all of it.
fn prefixes(data: &[u8], longest_piece: usize) -> impl Iterator<Item = usize> {
    // The pieces follow from the data, so that a finding can be repeated.
    let mut state = data.iter().fold(0x9e37_79b9_u64, |sum, byte| sum.rotate_left(5) ^ u64::from(*byte)) | 1;
    let (mut end, length) = (0, data.len());
    std::iter::from_fn(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let done = end == length && length > 0;
        end = (end + 1 + state as usize % longest_piece).min(length);
        (!done && length > 0).then_some(end)
    })
}

/// Cuts off the first line.
fn first_line(data: &[u8]) -> (&[u8], &[u8]) {
    match data.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&data[..end], &data[end + 1..]),
        None => (data, b""),
    }
}
