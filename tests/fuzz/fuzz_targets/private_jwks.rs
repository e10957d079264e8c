//! `edge_fuzz::TARGETS`, `private_jwks`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| edge_fuzz::run("private_jwks", data));
