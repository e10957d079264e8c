//! The harness of the end-to-end tests: the edge as a process, and every party around it.
//!
//! Nothing of the edge's own code is used here: what the tests say about bytes is judged by a second, strict reader.

pub mod certs;
pub mod corpus;
pub mod dead;
pub mod dns;
pub mod edge;
pub mod h2raw;
pub mod h2upstream;
pub mod issuer;
pub mod log;
pub mod mint;
pub mod parties;
pub mod prometheus;
pub mod reply;
pub mod upstream;
pub mod wire;
