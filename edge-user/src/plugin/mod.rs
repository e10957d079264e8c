//! Plugins: one closed enum, run by descending PRIORITY. One file per plugin, named as in the configuration.

use crate::config::reader::Reader;

/// What plugins need beside their own configuration.
#[derive(Default)]
pub struct PluginEnv {}

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

    /// The name as in the configuration.
    pub fn name(&self) -> &'static str {
        match *self {}
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
