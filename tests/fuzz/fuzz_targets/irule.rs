//! `edge_fuzz::TARGETS`, `irule`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| edge_fuzz::run("irule", data));
