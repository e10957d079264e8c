//! HTTP/1.1, both sides, our own (RFC 9112): strict reading, plain writing.

pub mod body;
pub mod client;
pub mod conn;
pub mod parse;
pub mod write;
