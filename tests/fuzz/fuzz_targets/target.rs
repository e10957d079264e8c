//! `edge_fuzz::TARGETS`, `target`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| edge_fuzz::run("target", data));
