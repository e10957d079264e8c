//! `edge_fuzz::TARGETS`, `forward`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| edge_fuzz::run("forward", data));
