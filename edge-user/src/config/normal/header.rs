//! What a file says of all its entities at once: its format, decK's `_info`, and the settings that plugins share.

use super::super::problem::Sink;
use super::super::reader::Reader;
use super::super::value::{Entry, Kind, Value, join, quote_text};
use super::{Collection, defaults, member, take, text};
use crate::config::schema;

/// The keys of `_info.defaults`, with the kind each is for.
const DEFAULTS: [(&str, Collection); 4] = [
    ("service", Collection::Services),
    ("route", Collection::Routes),
    ("upstream", Collection::Upstreams),
    ("target", Collection::Targets),
];

/// Kinds that cannot have tags.
const UNTAGGED: [Collection; 1] = [Collection::ConsumerGroupConsumers];

/// The part of a file that is no entity.
pub(super) struct Header {
    /// Before 3.0 a path with characters of a regular expression was one, without saying so.
    guess_regexes: bool,
    /// `_transform`: whether shorthands are taken apart.
    transform: bool,
    select_tags: Vec<Value>,
    defaults: Vec<(Collection, Vec<Entry>)>,
    /// `_plugin_configs`
    shared: Vec<Entry>,
}

impl Header {
    /// Reads it, with a problem for what is wrong in it.
    pub(super) fn read(rest: &Value, sink: &Sink) -> Self {
        let Some(mut reader) = Reader::new(rest, "", sink) else { unreachable!("made of members") };
        let version = version(&mut reader);
        let transform = reader.bool("_transform").unwrap_or(true);
        if let Some(workspace) = reader.string("_workspace").filter(|name| *name != "default") {
            let text = format!("decK's alone: the edge has one workspace, and {} is it", quote_text(workspace));
            reader.warn("_workspace", &text);
        }
        if let Some(mut konnect) = reader.object("_konnect") {
            konnect.string("control_plane_name");
            konnect.string("control_plane_id");
            konnect.raw("control_plane_labels");
            konnect.finish();
            reader.warn("_konnect", "means something to decK only");
        }
        let mut header = Self {
            guess_regexes: version.is_some_and(|version| version != "3.0"),
            transform,
            select_tags: Vec::new(),
            defaults: Vec::new(),
            shared: Vec::new(),
        };
        if let Some(mut info) = reader.object("_info") {
            header.info(&mut info);
            info.finish();
        }
        if let Some(Value { kind, line }) = reader.raw("_plugin_configs") {
            let Kind::Object(configs) = kind else {
                sink.problem(*line, "_plugin_configs", "no object", "an object of named plugin configurations");
                return header;
            };
            for entry in configs {
                let path = join("_plugin_configs", &entry.key);
                if !matches!(entry.value.kind, Kind::Object(_)) {
                    sink.problem(entry.line, &path, entry.value.type_word(), "an object: a plugin's `config`");
                }
            }
            header.shared = configs.clone();
        }
        header
    }

    fn info(&mut self, info: &mut Reader<'_>) {
        schema::tags(info, "select_tags");
        if let Some(Value { kind: Kind::Array(tags), .. }) = info.raw("select_tags") {
            self.select_tags = tags.clone();
        }
        if info.object("default_lookup_tags").is_some() {
            info.warn("default_lookup_tags", "means something to decK only: references must be in this file");
        }
        let Some(mut given) = info.object("defaults") else { return };
        for (key, collection) in DEFAULTS {
            let Some(value) = given.raw(key) else { continue };
            let path = given.path_of(key);
            let Kind::Object(entries) = &value.kind else {
                given.sink().problem(value.line, &path, value.type_word(), "an object: fields and their defaults");
                continue;
            };
            // Defaults that are wrong are reported once, where they stand, and not again for each entity.
            if are_good(collection, entries, &path, given.sink()) {
                self.defaults.push((collection, entries.clone()));
            }
        }
        given.finish();
    }

    /// What the header means for one entity.
    pub(super) fn apply(&self, kind: Collection, entries: &mut Vec<Entry>, line: u32, path: &str, sink: &Sink) {
        if kind == Collection::Services {
            self.url(entries, path, sink);
        }
        if kind == Collection::Routes && self.guess_regexes {
            guess_regexes(entries, path, sink);
        }
        if kind == Collection::Plugins {
            self.share_config(entries, line, path, sink);
        }
        if let Some((_, values)) = self.defaults.iter().find(|(for_kind, _)| *for_kind == kind) {
            defaults::fill(entries, values, line);
        }
        if !self.select_tags.is_empty() && !UNTAGGED.contains(&kind) {
            self.select(entries, line);
        }
    }

    /// Takes a good `url` apart. One that is not, or stands beside what it would set, stays for `schema` to refuse.
    fn url(&self, entries: &mut Vec<Entry>, path: &str, sink: &Sink) {
        let Some(url) = text(entries, "url").and_then(schema::parse_url) else { return };
        let set = |entry: &Entry| ["protocol", "host", "port", "path"].contains(&entry.key.as_str());
        if entries.iter().any(|entry| set(entry) && entry.value.kind != Kind::Null) {
            return;
        }
        entries.retain(|entry| !set(entry));
        let Some(entry) = take(entries, "url") else { return };
        if !self.transform {
            let expected = "true: `url` must be taken apart, which is a transformation";
            sink.problem(entry.line, &join(path, "url"), "`_transform: false` beside a `url`", expected);
        }
        let line = entry.value.line;
        let mut put = |key: &str, kind: Kind| entries.push(member(key, Value { line, kind }, entry.line));
        put("protocol", Kind::String(url.protocol.to_owned()));
        put("host", Kind::String(url.host));
        put("port", Kind::Integer(i64::from(url.port)));
        if let Some(path) = url.path {
            put("path", Kind::String(path));
        }
    }

    /// `_config` names the base of a plugin's `config`; the plugin's own members stand above it.
    fn share_config(&self, entries: &mut Vec<Entry>, line: u32, path: &str, sink: &Sink) {
        let Some(entry) = take(entries, "_config").filter(|entry| entry.value.kind != Kind::Null) else { return };
        let at = join(path, "_config");
        let Kind::String(name) = &entry.value.kind else {
            sink.problem(entry.line, &at, entry.value.type_word(), "the name of one of `_plugin_configs`");
            return;
        };
        let Some(shared) = self.shared.iter().find(|shared| shared.key == *name) else {
            let names: Vec<_> = self.shared.iter().map(|shared| shared.key.as_str()).collect();
            let expected = match names.is_empty() {
                true => "the name of one of `_plugin_configs`, of which there is none".to_owned(),
                false => format!("the name of one of `_plugin_configs`: {}", names.join(", ")),
            };
            sink.problem(entry.line, &at, quote_text(name), expected);
            return;
        };
        let Kind::Object(base) = &shared.value.kind else { return };
        match entries.iter_mut().find(|entry| entry.key == "config") {
            Some(Entry { value: Value { kind: Kind::Object(own), .. }, .. }) => {
                let missing = base.iter().filter(|entry| !own.iter().any(|own| own.key == entry.key));
                let missing: Vec<_> = missing.cloned().collect();
                own.extend(missing);
            }
            // Something else than an object: a problem of its own.
            Some(Entry { value, .. }) if value.kind != Kind::Null => {}
            _ => {
                take(entries, "config");
                entries.push(member("config", shared.value.clone(), line));
            }
        }
    }

    /// decK gives the tags by which it selects to everything in the file.
    fn select(&self, entries: &mut Vec<Entry>, line: u32) {
        match entries.iter_mut().find(|entry| entry.key == "tags") {
            Some(Entry { value: Value { kind: Kind::Array(tags), .. }, .. }) => {
                for tag in &self.select_tags {
                    if !tags.iter().any(|given| given.kind == tag.kind) {
                        tags.push(tag.clone());
                    }
                }
            }
            Some(Entry { value, .. }) if value.kind != Kind::Null => {}
            _ => {
                take(entries, "tags");
                entries.push(member("tags", Value { line, kind: Kind::Array(self.select_tags.clone()) }, line));
            }
        }
    }
}

fn version<'a>(reader: &mut Reader<'a>) -> Option<&'a str> {
    const EXPECTED: &str = "\"3.0\", \"2.1\" or \"1.1\", in quotes";
    if reader.missing("_format_version", EXPECTED) {
        return None;
    }
    reader.parsed("_format_version", EXPECTED, |version| ["3.0", "2.1", "1.1"].contains(&version).then_some(version))
}

/// Reads defaults as if they were an entity; what only an entity lacks does not count.
fn are_good(collection: Collection, given: &[Entry], path: &str, sink: &Sink) -> bool {
    let mut entries = given.to_vec();
    defaults::fill(&mut entries, defaults::of(collection), 0);
    let value = Value { line: 0, kind: Kind::Object(entries) };
    let trial = Sink::new(sink.file());
    schema::trial(collection, &value, path, &trial);
    let own = |problem: &&super::super::problem::Problem| {
        given.iter().any(|entry| {
            let rest = problem.path.strip_prefix(&join(path, &entry.key));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        })
    };
    let problems = trial.into_parts().0;
    let wrong: Vec<_> = problems.iter().filter(own).collect();
    for problem in &wrong {
        sink.problem(problem.line, &problem.path, problem.found.clone(), problem.expected.clone());
    }
    wrong.is_empty()
}

/// Kong before 3.0 took a path with other characters than these for a regular expression.
fn guess_regexes(entries: &mut [Entry], path: &str, sink: &Sink) {
    let Some(paths) = entries.iter_mut().find(|entry| entry.key == "paths") else { return };
    let Kind::Array(items) = &mut paths.value.kind else { return };
    let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_~/%".contains(&byte));
    for (index, item) in items.iter_mut().enumerate() {
        if let Kind::String(text) = &mut item.kind
            && text.starts_with('/')
            && !is_plain(text)
        {
            let remark = format!("taken for a regular expression, as formats before 3.0 did; in 3.0 write \"~{text}\"");
            sink.warn(item.line, &format!("{path}.paths[{index}]"), &remark);
            text.insert(0, '~');
        }
    }
}
