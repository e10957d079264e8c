//! Certificates by SNI.

/// Server certificates by SNI.
#[derive(Default)]
pub struct Certificates {}
