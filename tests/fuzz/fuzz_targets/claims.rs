//! `edge_fuzz::TARGETS`, `claims`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| edge_fuzz::run("claims", data));
