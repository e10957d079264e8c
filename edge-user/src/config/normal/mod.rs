//! The file's entities in normal form: one flat list per kind, every id and default in place, nested ones pointing at
//! what they stood inside of. It is what `schema` reads and what a dump prints; an old format becomes 3.0 here.

mod defaults;
mod header;

use uuid::Uuid;

use self::header::Header;
use super::problem::Sink;
use super::value::{Entry, Kind, Value};

/// What ids are made from where the file gives none: the same file always gives the same ids.
const NAMESPACE: Uuid = Uuid::from_u128(0x8f3c_1d0a_52b7_5c1e_9a64_0d6e_7b21_e0f5);

/// The kinds of entities, in the order of a dump.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the names are Kong's")]
pub(crate) enum Collection {
    Certificates,
    Snis,
    CaCertificates,
    Upstreams,
    Targets,
    Services,
    Routes,
    Consumers,
    ConsumerGroups,
    ConsumerGroupConsumers,
    Acls,
    Plugins,
}

/// Entities inside another one: the key, their kind, and the field by which they point back.
type Children = (&'static str, Collection, &'static str);

impl Collection {
    pub(crate) const ALL: [Self; 12] = [
        Self::Certificates,
        Self::Snis,
        Self::CaCertificates,
        Self::Upstreams,
        Self::Targets,
        Self::Services,
        Self::Routes,
        Self::Consumers,
        Self::ConsumerGroups,
        Self::ConsumerGroupConsumers,
        Self::Acls,
        Self::Plugins,
    ];

    /// The key of its list in a file.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Certificates => "certificates",
            Self::Snis => "snis",
            Self::CaCertificates => "ca_certificates",
            Self::Upstreams => "upstreams",
            Self::Targets => "targets",
            Self::Services => "services",
            Self::Routes => "routes",
            Self::Consumers => "consumers",
            Self::ConsumerGroups => "consumer_groups",
            Self::ConsumerGroupConsumers => "consumer_group_consumers",
            Self::Acls => "acls",
            Self::Plugins => "plugins",
        }
    }

    fn children(self) -> &'static [Children] {
        match self {
            Self::Certificates => &[("snis", Self::Snis, "certificate")],
            Self::Upstreams => &[("targets", Self::Targets, "upstream")],
            Self::Services => &[("routes", Self::Routes, "service"), ("plugins", Self::Plugins, "service")],
            Self::Routes => &[("plugins", Self::Plugins, "route")],
            Self::Consumers => &[
                ("plugins", Self::Plugins, "consumer"),
                ("groups", Self::ConsumerGroupConsumers, "consumer"),
                ("acls", Self::Acls, "consumer"),
            ],
            Self::ConsumerGroups => &[
                ("plugins", Self::Plugins, "consumer_group"),
                ("consumers", Self::ConsumerGroupConsumers, "consumer_group"),
            ],
            _ => &[],
        }
    }

    /// What tells one from the others of its kind where it has no id: fields, the first that is there or all of them.
    fn identity(self) -> Identity {
        match self {
            Self::Services | Self::Routes | Self::Upstreams | Self::ConsumerGroups | Self::Snis => {
                Identity::First(&["name"])
            }
            Self::Consumers => Identity::First(&["username", "custom_id"]),
            Self::Certificates | Self::CaCertificates => Identity::First(&["cert"]),
            Self::Targets => Identity::All(&["upstream", "target"]),
            Self::Acls => Identity::All(&["consumer", "group"]),
            Self::ConsumerGroupConsumers => Identity::All(&["consumer", "consumer_group"]),
            Self::Plugins => Identity::All(&["name", "service", "route", "consumer", "consumer_group"]),
        }
    }
}

enum Identity {
    First(&'static [&'static str]),
    All(&'static [&'static str]),
}

/// One entity by itself.
pub(crate) struct Entity {
    /// Where it stands in the file.
    pub(crate) path: String,
    /// Its own id, or one made of what it is.
    pub(crate) id: Uuid,
    /// Its fields: always an object.
    pub(crate) value: Value,
}

/// A whole file.
pub(crate) struct Normal {
    /// What stands beside the entities.
    pub(crate) rest: Value,
    lists: [Vec<Entity>; Collection::ALL.len()],
}

impl Normal {
    /// The entities of one kind, in the file's order.
    pub(crate) fn list(&self, collection: Collection) -> &[Entity] {
        &self.lists[collection as usize]
    }

    /// The same, to change them.
    pub(crate) fn list_mut(&mut self, collection: Collection) -> &mut [Entity] {
        &mut self.lists[collection as usize]
    }
}

/// Takes a file apart; `None` and a problem where it is no object.
pub(super) fn normalize(file: Value, sink: &Sink) -> Option<Normal> {
    let (line, entries) = (file.line, members(file, "", sink)?);
    let (lists, rest): (Vec<_>, Vec<_>) =
        entries.into_iter().partition(|entry| list_of(&entry.key).is_some() && entry.value.kind != Kind::Null);
    let rest = Value { line, kind: Kind::Object(rest) };
    let header = Header::read(&rest, sink);
    let mut taking = Taking { normal: Normal { rest, lists: Default::default() }, header, sink };
    for entry in lists {
        let (Some(collection), path) = (list_of(&entry.key), entry.key) else { continue };
        taking.list(collection, entry.value, &path, &[]);
    }
    Some(taking.normal)
}

/// The kind whose entities stand under a key at the top.
fn list_of(key: &str) -> Option<Collection> {
    let by_key = || Collection::ALL.into_iter().find(|collection| collection.key() == key);
    if key == "consumer_group_plugins" { Some(Collection::Plugins) } else { by_key() }
}

fn members(value: Value, path: &str, sink: &Sink) -> Option<Vec<Entry>> {
    match value.kind {
        Kind::Object(entries) => Some(entries),
        _ => {
            sink.problem(value.line, path, value.type_word(), "an object");
            None
        }
    }
}

struct Taking<'a> {
    normal: Normal,
    header: Header,
    sink: &'a Sink,
}

impl Taking<'_> {
    fn list(&mut self, collection: Collection, value: Value, path: &str, parents: &[(&'static str, Uuid)]) {
        let Kind::Array(items) = value.kind else {
            self.sink.problem(value.line, path, value.type_word(), "a list");
            return;
        };
        self.normal.lists[collection as usize].reserve(items.len());
        for (index, item) in items.into_iter().enumerate() {
            let item = shorthand(collection, item, parents);
            self.entity(collection, item, format!("{path}[{index}]"), parents);
        }
    }

    fn entity(&mut self, collection: Collection, item: Value, path: String, parents: &[(&'static str, Uuid)]) {
        let line = item.line;
        let Some(mut entries) = members(item, &path, self.sink) else { return };
        let mut nested = Vec::new();
        for (key, child, back) in collection.children() {
            if let Some(at) = entries.iter().position(|entry| entry.key == *key && entry.value.kind != Kind::Null) {
                nested.push((*child, *back, entries.remove(at)));
            }
        }
        for (key, id) in parents {
            if let Some(given) = take(&mut entries, key).filter(|entry| entry.value.kind != Kind::Null) {
                let path = super::value::join(&path, key);
                self.sink.problem(given.line, &path, "a reference inside its parent", "nothing");
            }
            entries.push(member(key, reference(*id, line), line));
        }
        self.header.apply(collection, &mut entries, line, &path, self.sink);
        defaults::fill(&mut entries, defaults::of(collection), line);
        if collection == Collection::Routes
            && !entries.iter().any(|entry| entry.key == "strip_path" && entry.value.kind != Kind::Null)
        {
            take(&mut entries, "strip_path");
            let strip = !mentions(&entries, "protocols", &["grpc", "grpcs"]);
            entries.push(member("strip_path", Value { line, kind: Kind::Bool(strip) }, line));
        }
        let given = text(&entries, "id");
        let id = given.and_then(|id| Uuid::try_parse(id).ok()).unwrap_or_else(|| made_id(collection, &entries, &path));
        if given.is_none() {
            take(&mut entries, "id").into_iter().for_each(|wrong| {
                if wrong.value.kind != Kind::Null {
                    entries.push(wrong);
                }
            });
            if !entries.iter().any(|entry| entry.key == "id") {
                entries.insert(0, member("id", Value { line, kind: Kind::String(id.to_string()) }, line));
            }
        }
        for (child, back, entry) in nested {
            let path = super::value::join(&path, &entry.key);
            self.list(child, entry.value, &path, &[(back, id)]);
        }
        let value = Value { line, kind: Kind::Object(entries) };
        self.normal.lists[collection as usize].push(Entity { path, id, value });
    }
}

/// Names in place of objects, and the members of groups, which stand as references inside either side.
fn shorthand(collection: Collection, item: Value, parents: &[(&'static str, Uuid)]) -> Value {
    let line = item.line;
    let object = |key: &str, value: Value| Value { line, kind: Kind::Object(vec![member(key, value, line)]) };
    match (collection, parents, &item.kind) {
        (Collection::Snis, [_, ..], Kind::String(_)) => object("name", item),
        (Collection::ConsumerGroupConsumers, [("consumer", _)], _) => object("consumer_group", item),
        (Collection::ConsumerGroupConsumers, [("consumer_group", _)], _) => object("consumer", item),
        _ => item,
    }
}

fn member(key: &str, value: Value, line: u32) -> Entry {
    Entry { key: key.to_owned(), line, value }
}

fn reference(id: Uuid, line: u32) -> Value {
    let id = Value { line, kind: Kind::String(id.to_string()) };
    Value { line, kind: Kind::Object(vec![member("id", id, line)]) }
}

fn take(entries: &mut Vec<Entry>, key: &str) -> Option<Entry> {
    entries.iter().position(|entry| entry.key == key).map(|at| entries.remove(at))
}

/// A member that is a string.
fn text<'a>(entries: &'a [Entry], key: &str) -> Option<&'a str> {
    entries.iter().find(|entry| entry.key == key).and_then(|entry| match &entry.value.kind {
        Kind::String(text) => Some(text.as_str()),
        _ => None,
    })
}

/// Whether a list has one of these words.
fn mentions(entries: &[Entry], key: &str, words: &[&str]) -> bool {
    let list = entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value.kind);
    let Some(Kind::Array(items)) = list else { return false };
    items.iter().any(|item| matches!(&item.kind, Kind::String(text) if words.contains(&text.as_str())))
}

fn made_id(collection: Collection, entries: &[Entry], path: &str) -> Uuid {
    // A reference counts by what it says: a name or an id.
    let word = |key: &str| {
        let value = &entries.iter().find(|entry| entry.key == key)?.value;
        match &value.kind {
            Kind::String(text) => Some(text.as_str()),
            Kind::Object(inner) => ["id", "name", "username"].iter().find_map(|key| text(inner, key)),
            _ => None,
        }
    };
    let key = collection.key();
    let made = match collection.identity() {
        Identity::First(fields) => format!("{key}:{}", fields.iter().find_map(|field| word(field)).unwrap_or(path)),
        Identity::All(fields) => {
            let words: Vec<_> = fields.iter().map(|field| word(field).unwrap_or_default()).collect();
            format!("{key}:{}", words.join(":"))
        }
    };
    Uuid::new_v5(&NAMESPACE, made.as_bytes())
}
