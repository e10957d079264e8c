//! The entities as they are written (Kong's format 3.0): every field with its type and rule.
//!
//! `normal` brought every file to one form and filled the defaults in. What the edge does not honour is refused by
//! name. References stay names here; `resolve` follows them.

mod authority;
mod certificate;
mod consumer;
mod plugin;
mod route;
mod service;
mod upstream;

pub(super) use authority::AuthorityEntity;
pub(crate) use certificate::server_name;
pub(super) use certificate::{CertificateEntity, SniEntity};
pub(super) use consumer::{AclEntity, ConsumerEntity, GroupEntity, MemberEntity};
pub(super) use plugin::PluginEntity;
pub(super) use route::RouteEntity;
pub(crate) use service::parse_host;
pub(super) use service::{ServiceEntity, parse_url};
pub(super) use upstream::{TargetEntity, UpstreamEntity};

use serde_json::json;
use uuid::Uuid;

use super::normal::{Collection, Entity, Normal};
use super::problem::Sink;
use super::reader::Reader;
use super::snapshot::{Protocol, Protocols};
use super::value::{Kind, Value};

/// All entities of a file.
#[derive(Default)]
pub(super) struct Document<'a> {
    pub(super) services: Vec<ServiceEntity>,
    pub(super) routes: Vec<RouteEntity>,
    pub(super) plugins: Vec<PluginEntity<'a>>,
    pub(super) consumers: Vec<ConsumerEntity>,
    pub(super) groups: Vec<GroupEntity>,
    pub(super) members: Vec<MemberEntity>,
    pub(super) acls: Vec<AclEntity>,
    pub(super) upstreams: Vec<UpstreamEntity>,
    pub(super) targets: Vec<TargetEntity>,
    pub(super) certificates: Vec<CertificateEntity>,
    pub(super) snis: Vec<SniEntity>,
    pub(super) authorities: Vec<AuthorityEntity>,
}

/// What every entity has.
pub(super) struct Common {
    pub(super) line: u32,
    pub(super) path: String,
    pub(super) id: Uuid,
    /// Seconds since 1970; the order among equal routes.
    pub(super) created_at: Option<i64>,
}

/// Another entity, as the file points at it: by name or id.
pub(super) struct Ref {
    pub(super) text: String,
    pub(super) line: u32,
    pub(super) path: String,
}

/// Kinds of entities that are not honoured.
const NOT_YET: [&str; 19] = [
    "vaults",
    "keys",
    "key_sets",
    "licenses",
    "partials",
    "filter_chains",
    "custom_entities",
    "cloned_plugins",
    "rbac_roles",
    "rbac_role_endpoints",
    "service_packages",
    "basicauth_credentials",
    "hmacauth_credentials",
    "jwt_secrets",
    "keyauth_credentials",
    "mtls_auth_credentials",
    "oauth2_credentials",
    "keyauth_enc_credentials",
    "degraphql_routes",
];

/// Reads the whole file. What stands beside the entities was read by `normal`; here it is only known.
pub(super) fn document<'a>(normal: &'a Normal, sink: &'a Sink) -> Document<'a> {
    if let Some(mut reader) = Reader::new(&normal.rest, "", sink) {
        // `_comment` and `_ignore` are for people and for YAML anchors; nobody looks at either.
        for key in [
            "_format_version",
            "_transform",
            "_info",
            "_konnect",
            "_plugin_configs",
            "_workspace",
            "_comment",
            "_ignore",
        ] {
            reader.raw(key);
        }
        for collection in Collection::ALL {
            reader.raw(collection.key());
        }
        reader.raw("consumer_group_plugins");
        for key in NOT_YET {
            reader.unsupported(key, json!([]));
        }
        reader.finish();
    }
    let mut document = Document::default();
    for collection in Collection::ALL {
        for entity in normal.list(collection) {
            read(collection, entity, sink, &mut document);
        }
    }
    document
}

/// Reads one value as an entity would be read, for the problems alone.
pub(super) fn trial(collection: Collection, value: &Value, path: &str, sink: &Sink) {
    let entity = Entity { path: path.to_owned(), id: Uuid::nil(), value: value.clone() };
    read(collection, &entity, sink, &mut Document::default());
}

fn read<'a>(collection: Collection, entity: &'a Entity, sink: &'a Sink, document: &mut Document<'a>) {
    let Some(mut reader) = Reader::new(&entity.value, &entity.path, sink) else { return };
    let common = common(&mut reader, entity.id);
    match collection {
        Collection::Services => document.services.push(service::read(&mut reader, common)),
        Collection::Routes => document.routes.push(route::read(&mut reader, common)),
        Collection::Plugins => document.plugins.extend(plugin::read(&mut reader, common)),
        Collection::Consumers => document.consumers.push(consumer::read(&mut reader, common)),
        Collection::ConsumerGroups => document.groups.push(consumer::group(&mut reader, common)),
        Collection::ConsumerGroupConsumers => document.members.extend(consumer::member(&mut reader, common)),
        Collection::Acls => document.acls.extend(consumer::acl(&mut reader, common)),
        Collection::Upstreams => document.upstreams.push(upstream::read(&mut reader, common)),
        Collection::Targets => document.targets.extend(upstream::target(&mut reader, common)),
        Collection::Certificates => document.certificates.push(certificate::read(&mut reader, common)),
        Collection::Snis => document.snis.extend(certificate::sni(&mut reader, common)),
        Collection::CaCertificates => document.authorities.push(authority::read(&mut reader, common)),
    }
    reader.finish();
}

fn common(reader: &mut Reader<'_>, id: Uuid) -> Common {
    tags(reader, "tags");
    reader.number("updated_at", 0.0..=1e15);
    reader.parsed("id", "a UUID", |text| Uuid::try_parse(text).ok());
    Common {
        line: reader.line(),
        path: reader.path().to_owned(),
        id,
        created_at: reader.number("created_at", 0.0..=1e15).map(|seconds| seconds as i64),
    }
}

/// Tags group entities for those who edit them; the edge checks their form alone.
pub(super) fn tags(reader: &mut Reader<'_>, key: &'static str) {
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
    let named = |text: &str, path| Some(Ref { text: text.to_owned(), line: value.line, path });
    if let Kind::String(_) = value.kind {
        let text = reader.string(key)?;
        return named(text, reader.path_of(key));
    }
    let mut object = reader.object(key)?;
    let words = [object.string("id"), object.string("name"), object.string("username")];
    let reference = match words.into_iter().flatten().next() {
        Some(text) => named(text, object.path().to_owned()),
        None => {
            object.sink().problem(object.line(), object.path(), "an object without `id` and `name`", "one of them");
            None
        }
    };
    object.finish();
    reference
}

/// A reference that must be there.
fn required_reference(reader: &mut Reader<'_>, key: &'static str, expected: &str) -> Option<Ref> {
    if reader.missing(key, expected) { None } else { reference(reader, key) }
}

/// Reads a list of protocols; `None` where it is absent or something is wrong with it.
fn protocols(reader: &mut Reader<'_>) -> Option<Protocols> {
    let listed = reader.words("protocols", &Protocol::ALL)?;
    if listed.is_empty() {
        reader.problem("protocols", "an empty list", "at least one protocol");
        return None;
    }
    Some(listed.into_iter().collect())
}

/// Refuses a field whose value must be null beside something else.
fn must_be_null(reader: &mut Reader<'_>, key: &'static str, because: &str) {
    if let Some(value) = reader.raw(key) {
        let found = value.type_word();
        reader.problem(key, found, format!("nothing: {because}"));
    }
}
