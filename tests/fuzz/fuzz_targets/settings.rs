//! `edge_fuzz::TARGETS`, `settings`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| edge_fuzz::run("settings", data));
