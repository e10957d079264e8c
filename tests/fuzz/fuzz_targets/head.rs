//! `edge_fuzz::TARGETS`, `head`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| edge_fuzz::run("head", data));
