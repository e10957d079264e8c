//! Token verdicts. Knows no HTTP and no plugins.

pub mod claims;
pub mod json;
pub mod jwks;
pub mod jws;
