//! `edge_fuzz::TARGETS`, `h2_head`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| edge_fuzz::run("h2_head", data));
