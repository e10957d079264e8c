//! HTTP/2 by the frame (H20 to H27): a case for each requirement of RFC 9113, 4 to 8, and the abuse that must end.

mod frames;
mod holding;
mod requests;

use edge_tests::edge::{Edge, Setup};
use edge_tests::h2raw::{END_HEADERS, END_STREAM, block, frame, kind};
use edge_tests::upstream::Upstream;
use serde_json::json;

/// Error codes (RFC 9113, 7).
const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE_ERROR: u32 = 6;
const REFUSED_STREAM: u32 = 7;
const COMPRESSION_ERROR: u32 = 9;
const ENHANCE_YOUR_CALM: u32 = 11;

type Fields<'a> = Vec<(&'a [u8], &'a [u8])>;

/// The fields of a good request by this method.
fn fields(method: &'static [u8]) -> Fields<'static> {
    vec![(b":method", method), (b":scheme", b"http"), (b":authority", b"api.test"), (b":path", b"/")]
}

/// A whole good request.
fn get(stream: u32) -> Vec<u8> {
    frame(kind::HEADERS, END_HEADERS | END_STREAM, stream, &block(&fields(b"GET")))
}

/// The head of a request whose content follows.
fn post(stream: u32) -> Vec<u8> {
    frame(kind::HEADERS, END_HEADERS, stream, &block(&fields(b"POST")))
}

/// An edge with one worker and these sections, before this upstream.
fn edge(upstream: &Upstream, sections: &str) -> Edge {
    let route = json!([{"name": "all", "paths": ["/"], "strip_path": false}]);
    Setup::new(crate::entities(&upstream.url(), route)).workers(1).section(sections).start()
}
