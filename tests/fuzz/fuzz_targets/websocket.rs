//! `edge_fuzz::TARGETS`, `websocket`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| edge_fuzz::run("websocket", data));
