//! Request → route.

/// Compiled routes.
#[derive(Default)]
pub struct Router {}
