//! The declarative file as it is written (Kong's format 3.0): every field with its type, rule and default.
//!
//! What the edge does not honour yet is refused by name. References stay names here; `resolve` follows them.

mod certificate;
mod route;
mod service;

pub(crate) use certificate::{CertificateEntity, SniEntity};
pub(crate) use route::RouteEntity;
use serde_json::json;
pub(crate) use service::ServiceEntity;
use uuid::Uuid;

use super::reader::Reader;
use super::snapshot::{Protocol, Protocols};
use super::value::{Kind, Value};

/// All entities of a file.
#[derive(Default)]
pub(crate) struct Document<'a> {
    pub(crate) services: Vec<ServiceEntity>,
    pub(crate) routes: Vec<RouteEntity>,
    pub(crate) plugins: Vec<PluginEntity<'a>>,
    pub(crate) consumers: Vec<ConsumerEntity>,
    pub(crate) certificates: Vec<CertificateEntity>,
    pub(crate) snis: Vec<SniEntity>,
}

/// What every entity has.
pub(crate) struct Common {
    pub(crate) line: u32,
    pub(crate) path: String,
    pub(crate) id: Option<Uuid>,
    /// Seconds since 1970; the order among equal routes.
    pub(crate) created_at: Option<i64>,
}

/// Another entity, as the file points at it.
pub(crate) enum Ref {
    /// The one this entity stands inside of, by its index.
    Parent(usize),
    /// A name or id.
    Named { text: String, line: u32, path: String },
}

/// One plugin instance.
pub(crate) struct PluginEntity<'a> {
    pub(crate) common: Common,
    pub(crate) name: String,
    pub(crate) instance_name: Option<String>,
    pub(crate) enabled: bool,
    pub(crate) protocols: Protocols,
    pub(crate) service: Option<Ref>,
    pub(crate) route: Option<Ref>,
    pub(crate) consumer: Option<Ref>,
    pub(crate) consumer_group: Option<Ref>,
    pub(crate) config: Reader<'a>,
}

/// One consumer.
pub(crate) struct ConsumerEntity {
    pub(crate) common: Common,
    pub(crate) username: Option<String>,
    pub(crate) custom_id: Option<String>,
}

/// Kinds of entities and decK's own keys that are not honoured yet.
const NOT_YET: [&str; 27] = [
    "_konnect",
    "_plugin_configs",
    "upstreams",
    "targets",
    "ca_certificates",
    "consumer_groups",
    "consumer_group_plugins",
    "consumer_group_consumers",
    "vaults",
    "keys",
    "key_sets",
    "licenses",
    "partials",
    "filter_chains",
    "custom_entities",
    "cloned_plugins",
    "rbac_roles",
    "service_packages",
    "acls",
    "basicauth_credentials",
    "hmacauth_credentials",
    "jwt_secrets",
    "keyauth_credentials",
    "mtls_auth_credentials",
    "oauth2_credentials",
    "keyauth_enc_credentials",
    "degraphql_routes",
];

/// Reads the whole file.
pub(super) fn document<'a>(mut reader: Reader<'a>) -> Document<'a> {
    let mut document = Document::default();
    format_version(&mut reader);
    if reader.bool("_transform") == Some(false) {
        reader.problem("_transform", "false", "true: entities are always transformed");
    }
    // Both are for people and for YAML anchors; Kong looks at neither.
    reader.raw("_comment");
    reader.raw("_ignore");
    reader.unsupported("_workspace", json!("default"));
    if let Some(mut info) = reader.object("_info") {
        tags(&mut info, "select_tags");
        info.unsupported("defaults", json!({}));
        info.unsupported("default_lookup_tags", json!({}));
        info.finish();
    }
    for key in NOT_YET {
        reader.unsupported(key, json!([]));
    }
    for service in reader.objects("services") {
        service::read(service, &mut document);
    }
    for route in reader.objects("routes") {
        route::read(route, None, &mut document);
    }
    for plugin in reader.objects("plugins") {
        document.plugins.extend(self::plugin(plugin, None, None));
    }
    for consumer in reader.objects("consumers") {
        document.consumers.push(self::consumer(consumer));
    }
    for certificate in reader.objects("certificates") {
        certificate::read(certificate, &mut document);
    }
    for sni in reader.objects("snis") {
        document.snis.extend(certificate::sni(sni, None));
    }
    reader.finish();
    document
}

fn format_version(reader: &mut Reader<'_>) {
    const EXPECTED: &str = "\"3.0\", in quotes";
    if reader.missing("_format_version", EXPECTED) {
        return;
    }
    reader.parsed("_format_version", EXPECTED, |version| (version == "3.0").then_some(()));
}

/// Refuses values that somebody else was to fill in.
pub(super) fn refuse_references(value: &Value, path: &str, sink: &super::problem::Sink) {
    match &value.kind {
        Kind::String(text) if text.starts_with("{vault://") => {
            sink.problem(value.line, path, "a vault reference", "the value itself: not supported yet");
        }
        Kind::String(text) if text.contains("${{") => {
            let expected = "the value itself: `${{ … }}` is filled in by decK; not supported yet";
            sink.problem(value.line, path, "a decK variable", expected);
        }
        Kind::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                refuse_references(item, &format!("{path}[{index}]"), sink);
            }
        }
        Kind::Object(entries) => {
            for entry in entries {
                refuse_references(&entry.value, &super::value::join(path, &entry.key), sink);
            }
        }
        _ => {}
    }
}

fn common(reader: &mut Reader<'_>) -> Common {
    tags(reader, "tags");
    reader.number("updated_at", 0.0..=1e15);
    Common {
        line: reader.line(),
        path: reader.path().to_owned(),
        id: reader.parsed("id", "a UUID", |text| Uuid::try_parse(text).ok()),
        created_at: reader.number("created_at", 0.0..=1e15).map(|seconds| seconds as i64),
    }
}

/// Tags group entities for those who edit them; the edge checks their form alone.
fn tags(reader: &mut Reader<'_>, key: &'static str) {
    let is_tag = |text: &str| text.chars().all(|c| !c.is_ascii_control() && c != ',' && c != '/');
    reader.parsed_list(key, "a tag without `,` and `/`", |text| is_tag(text).then_some(()));
}

/// A unique name: letters, digits, `. - _ ~` or anything beyond ASCII.
fn name(reader: &mut Reader<'_>, key: &'static str) -> Option<String> {
    let is_name = |text: &str| text.chars().all(|c| !c.is_ascii() || c.is_ascii_alphanumeric() || ".-_~".contains(c));
    reader.parsed(key, "letters, digits and . - _ ~", |text| is_name(text).then(|| text.to_owned()))
}

/// A reference: a name or id, or an object with one of them.
fn reference(reader: &mut Reader<'_>, key: &'static str) -> Option<Ref> {
    let value = reader.raw(key)?;
    let named = |text: &str, line, path| Some(Ref::Named { text: text.to_owned(), line, path });
    if let Kind::String(_) = value.kind {
        let text = reader.string(key)?;
        return named(text, value.line, reader.path_of(key));
    }
    let mut object = reader.object(key)?;
    let (id, name) = (object.string("id"), object.string("name"));
    let reference = match id.or(name) {
        Some(text) => named(text, object.line(), object.path().to_owned()),
        None => {
            object.sink().problem(object.line(), object.path(), "an object without `id` and `name`", "one of them");
            None
        }
    };
    object.finish();
    reference
}

/// Reads a plugin, alone or inside a service or route.
fn plugin(mut reader: Reader<'_>, service: Option<usize>, route: Option<usize>) -> Option<PluginEntity<'_>> {
    let common = common(&mut reader);
    let name = reader.required_string("name", "the plugin's name").map(str::to_owned);
    let instance_name = self::name(&mut reader, "instance_name");
    let enabled = reader.bool("enabled").unwrap_or(true);
    let protocols = protocols(&mut reader);
    for key in ["ordering", "condition", "partials", "_config"] {
        reader.unsupported(key, json!(null));
    }
    let scope = |reader: &mut Reader<'_>, key, parent: Option<usize>| match parent {
        Some(index) => {
            if reader.raw(key).is_some() {
                reader.problem(key, "a reference inside its parent", "nothing");
            }
            Some(Ref::Parent(index))
        }
        None => reference(reader, key),
    };
    // One that stands inside a route has the route's scope alone, unless it names a service too.
    let service = scope(&mut reader, "service", service);
    let route = scope(&mut reader, "route", route);
    let consumer = reference(&mut reader, "consumer");
    let consumer_group = reference(&mut reader, "consumer_group");
    let config = match reader.has("config") {
        true => reader.object("config"),
        false => {
            reader.raw("config");
            Some(Reader::empty(reader.line(), &reader.path_of("config"), reader.sink()))
        }
    };
    reader.finish();
    let (name, config) = (name?, config?);
    Some(PluginEntity {
        common,
        name,
        instance_name,
        enabled,
        protocols,
        service,
        route,
        consumer,
        consumer_group,
        config,
    })
}

fn protocols(reader: &mut Reader<'_>) -> Protocols {
    const ALL: [(&str, Protocol); 10] = [
        ("http", Protocol::Http),
        ("https", Protocol::Https),
        ("grpc", Protocol::Grpc),
        ("grpcs", Protocol::Grpcs),
        ("tcp", Protocol::Tcp),
        ("tls", Protocol::Tls),
        ("tls_passthrough", Protocol::TlsPassthrough),
        ("udp", Protocol::Udp),
        ("ws", Protocol::Ws),
        ("wss", Protocol::Wss),
    ];
    reader.words("protocols", &ALL).map_or(Protocols::ALL_HTTP, Protocols::from_iter)
}

fn consumer(mut reader: Reader<'_>) -> ConsumerEntity {
    let common = common(&mut reader);
    let username = reader.string("username").map(str::to_owned);
    let custom_id = reader.string("custom_id").map(str::to_owned);
    if !reader.has("username") && !reader.has("custom_id") {
        let expected = "at least one of these fields must be non-empty: 'custom_id', 'username'";
        reader.sink().problem(reader.line(), reader.path(), "neither", expected);
    }
    for key in [
        "plugins",
        "groups",
        "acls",
        "basicauth_credentials",
        "hmacauth_credentials",
        "jwt_secrets",
        "keyauth_credentials",
        "mtls_auth_credentials",
        "oauth2_credentials",
    ] {
        reader.unsupported(key, json!([]));
    }
    reader.finish();
    ConsumerEntity { common, username, custom_id }
}
