//! `edge_fuzz::TARGETS`, `proxy_protocol`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| edge_fuzz::run("proxy_protocol", data));
