//! `edge_fuzz::TARGETS`, `response`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| edge_fuzz::run("response", data));
