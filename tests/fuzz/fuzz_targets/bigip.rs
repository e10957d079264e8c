//! `edge_fuzz::TARGETS`, `bigip`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| edge_fuzz::run("bigip", data));
