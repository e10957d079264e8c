//! Token verdicts. Knows no HTTP and no plugins.

pub mod claims;
pub mod json;
pub mod jwks;
pub mod jws;
/// TEMP
#[derive(Clone, Copy)]
pub struct Now { /// ms
 pub unix_ms: u64 }
/// TEMP
pub struct VerdictCache;
/// TEMP
pub struct LocalCache;
impl LocalCache { /// n
 pub fn new(_: std::sync::Arc<VerdictCache>) -> Self { Self } }
/// TEMP
pub struct KeyWait;
impl KeyWait { /// d
 pub async fn done(self) {} }
