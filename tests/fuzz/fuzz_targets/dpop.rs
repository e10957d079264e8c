//! `edge_fuzz::TARGETS`, `dpop`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| edge_fuzz::run("dpop", data));
