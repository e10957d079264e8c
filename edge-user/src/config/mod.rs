//! From text to `Snapshot`: what the files say, all problems at once, each with its place.
//!
//! `value` reads text into one tree with line numbers, `reader` takes typed fields out of it and reports the rest.

pub mod problem;
pub mod reader;
pub mod snapshot;
pub mod value;
