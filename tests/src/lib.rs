//! The harness of the end-to-end tests: the edge as a process, and every party around it.
//!
//! Nothing of the edge's own code is used here: what the tests say about bytes is judged by a second, strict reader.

pub mod certs;
pub mod edge;
pub mod h2raw;
pub mod issuer;
pub mod log;
pub mod mint;
pub mod parties;
pub mod prometheus;
pub mod upstream;
pub mod wire;
