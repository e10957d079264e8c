//! Plugin instances: which plugin, for whom, and its settings, which the plugin itself reads.

use serde_json::json;

use super::super::reader::Reader;
use super::super::snapshot::Protocols;
use super::{Common, Ref, name, protocols, reference};

/// One plugin instance.
pub(in crate::config) struct PluginEntity<'a> {
    pub(in crate::config) common: Common,
    pub(in crate::config) name: String,
    pub(in crate::config) instance_name: Option<String>,
    pub(in crate::config) enabled: bool,
    /// `None`: the plugin's own.
    pub(in crate::config) protocols: Option<Protocols>,
    pub(in crate::config) service: Option<Ref>,
    pub(in crate::config) route: Option<Ref>,
    pub(in crate::config) consumer: Option<Ref>,
    pub(in crate::config) consumer_group: Option<Ref>,
    pub(in crate::config) config: Reader<'a>,
}

/// Reads one instance.
pub(super) fn read<'a>(reader: &mut Reader<'a>, common: Common) -> Option<PluginEntity<'a>> {
    let plugin = reader.required_string("name", "the plugin's name").map(str::to_owned);
    for key in ["ordering", "condition", "partials"] {
        reader.unsupported(key, json!(null));
    }
    let entity = PluginEntity {
        common,
        name: String::new(),
        instance_name: name(reader, "instance_name"),
        enabled: reader.bool("enabled").unwrap_or(true),
        protocols: protocols(reader),
        service: reference(reader, "service"),
        route: reference(reader, "route"),
        consumer: reference(reader, "consumer"),
        consumer_group: reference(reader, "consumer_group"),
        config: match reader.has("config") {
            true => reader.object("config")?,
            false => {
                reader.raw("config");
                Reader::empty(reader.line(), &reader.path_of("config"), reader.sink())
            }
        },
    };
    Some(PluginEntity { name: plugin?, ..entity })
}
