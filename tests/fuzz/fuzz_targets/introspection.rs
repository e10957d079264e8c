//! `edge_fuzz::TARGETS`, `introspection`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| edge_fuzz::run("introspection", data));
