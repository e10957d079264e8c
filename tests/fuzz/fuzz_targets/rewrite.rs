//! `edge_fuzz::TARGETS`, `rewrite`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| edge_fuzz::run("rewrite", data));
