//! Plugins: one closed enum, run by descending PRIORITY. One file per plugin, named as in the configuration.

use crate::config::reader::Reader;

/// What plugins need beside their own configuration.
#[derive(Default)]
pub struct PluginEnv { /// k
 pub keys: Option<std::sync::Arc<crate::token::keys::KeySources>> }

/// One configured plugin. Clones share one instance.
#[derive(Clone)]
pub enum Plugin {}

impl Plugin {
    /// Reads one plugin's `config`; `None` and a problem where it is wrong or the name unknown.
    pub fn parse(name: &str, config: Reader<'_>, _env: &PluginEnv) -> Option<Plugin> {
        let expected = format!("a plugin the edge has: plugin '{name}' not enabled");
        config.sink().problem(config.line(), config.path(), format!("plugin '{name}'"), expected);
        None
    }

    /// Kong's PRIORITY: higher runs first.
    pub fn priority(&self) -> u32 {
        match *self {}
    }

    /// Lower-case names of the fields by which it speaks to upstreams.
    pub fn owned_names(&self) -> Vec<Box<str>> {
        match *self {}
    }
}
/// TEMP
pub enum Access<'a> { /// c
 Continue(()), /// r
 Refuse(Refusal<'a>), /// w
 Wait(crate::token::KeyWait) }
/// TEMP
pub struct Refusal<'a> { /// r
 pub reason: crate::reason::Reason, /// i
 pub issuer: Option<&'a str> }
impl Refusal<'_> { /// d
 pub fn detail(&self) -> String { String::new() } }
/// TEMP
#[allow(missing_docs)]
pub struct Credentialed<'a> { pub head: &'a mut crate::http::head::Head, pub query: Option<&'a [u8]>, pub host: &'a [u8], pub now: crate::token::Now, pub cache: &'a crate::token::cache::LocalCache, pub consumers: &'a crate::config::snapshot::Consumers, pub client: std::net::IpAddr, pub attempt: crate::token::Attempt }
impl Plugin { /// a
 pub fn access<'a>(&'a self, _r: Credentialed<'_>) -> Access<'a> { Access::Continue(()) } }
impl<'a> From<Refusal<'a>> for crate::proxy::respond::Local<'a> { fn from(r: Refusal<'a>) -> Self { crate::proxy::respond::Local::new(401, r.reason, "Unauthorized") } }

/// TEMP
pub const PLUGINS: &[(&str,u32)] = &[];
impl PluginEnv { /// n
pub fn new(k: crate::token::keys::KeySources) -> Self { Self { keys: Some(std::sync::Arc::new(k)) } }
/// w
pub fn warm(&self) { if let Some(k) = &self.keys { k.warm() } } }
impl Plugin { /// n
pub fn name(&self) -> &'static str { "" } }
