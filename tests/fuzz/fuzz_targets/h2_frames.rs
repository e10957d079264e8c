//! `edge_fuzz::TARGETS`, `h2_frames`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| edge_fuzz::run("h2_frames", data));
