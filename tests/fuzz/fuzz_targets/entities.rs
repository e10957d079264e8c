//! `edge_fuzz::TARGETS`, `entities`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| edge_fuzz::run("entities", data));
