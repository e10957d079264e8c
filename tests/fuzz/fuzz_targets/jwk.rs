//! `edge_fuzz::TARGETS`, `jwk`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| edge_fuzz::run("jwk", data));
