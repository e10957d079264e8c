//! Consumers, their groups, and who is in which: groups that plugins are for, and groups of the acl plugin.

use serde_json::json;

use super::super::reader::Reader;
use super::{Common, Ref, name, required_reference};

/// One consumer.
pub(in crate::config) struct ConsumerEntity {
    pub(in crate::config) common: Common,
    pub(in crate::config) username: Option<String>,
    pub(in crate::config) custom_id: Option<String>,
}

/// One consumer group.
pub(in crate::config) struct GroupEntity {
    pub(in crate::config) common: Common,
    pub(in crate::config) name: Option<String>,
}

/// A consumer in a consumer group.
pub(in crate::config) struct MemberEntity {
    pub(in crate::config) consumer: Ref,
    pub(in crate::config) group: Ref,
}

/// A consumer in a group of the acl plugin, which exists by being named.
pub(in crate::config) struct AclEntity {
    pub(in crate::config) common: Common,
    pub(in crate::config) consumer: Ref,
    pub(in crate::config) group: String,
}

const CREDENTIALS: [&str; 7] = [
    "basicauth_credentials",
    "hmacauth_credentials",
    "jwt_secrets",
    "keyauth_credentials",
    "keyauth_enc_credentials",
    "mtls_auth_credentials",
    "oauth2_credentials",
];

/// Reads one consumer.
pub(super) fn read(reader: &mut Reader<'_>, common: Common) -> ConsumerEntity {
    let username = reader.string("username").map(str::to_owned);
    let custom_id = reader.string("custom_id").map(str::to_owned);
    if !reader.has("username") && !reader.has("custom_id") {
        let expected = "at least one of these fields must be non-empty: 'custom_id', 'username'";
        reader.sink().problem(reader.line(), reader.path(), "neither", expected);
    }
    known(reader, &["plugins", "groups", "acls"]);
    for key in CREDENTIALS {
        reader.unsupported(key, json!([]));
    }
    ConsumerEntity { common, username, custom_id }
}

/// Reads one consumer group.
pub(super) fn group(reader: &mut Reader<'_>, common: Common) -> GroupEntity {
    let name = if reader.missing("name", "the group's name") { None } else { name(reader, "name") };
    known(reader, &["plugins", "consumers"]);
    GroupEntity { common, name }
}

/// Reads one membership. Inside a consumer or group the reference is the entry itself, and so is its place.
pub(super) fn member(reader: &mut Reader<'_>, common: Common) -> Option<MemberEntity> {
    let at = |reference: Ref| match common.path.starts_with("consumer_group_consumers") {
        true => reference,
        false => Ref { path: common.path.clone(), ..reference },
    };
    let consumer = required_reference(reader, "consumer", "the name or id of a consumer").map(at);
    let group = required_reference(reader, "consumer_group", "the name or id of a consumer group").map(at);
    Some(MemberEntity { consumer: consumer?, group: group? })
}

/// Reads one group of the acl plugin.
pub(super) fn acl(reader: &mut Reader<'_>, common: Common) -> Option<AclEntity> {
    let consumer = required_reference(reader, "consumer", "the name or id of a consumer");
    let group = reader.required_string("group", "the group's name").map(str::to_owned);
    Some(AclEntity { common, consumer: consumer?, group: group? })
}

/// Names what `normal` took out, so that a misspelled one is told its right name.
fn known(reader: &mut Reader<'_>, keys: &[&'static str]) {
    for key in keys {
        reader.raw(key);
    }
}
