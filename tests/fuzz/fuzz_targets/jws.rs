//! `edge_fuzz::TARGETS`, `jws`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| edge_fuzz::run("jws", data));
