//! The entities in normal form as text: flat, with ids and defaults, references to vaults as they are.
//!
//! Loading a dump and dumping it again gives the same text. Secrets stand in it only where they are asked for.

use serde_json::json;

use super::normal::{Collection, Normal};
use super::reader::is_sensitive;
use super::value::{Entry, Kind, Value, is_plain_string};
use super::vault;

/// How a dump is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// YAML in blocks.
    Yaml,
    /// JSON, indented.
    Json,
}

/// What becomes of private keys, client secrets and the like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Secrets {
    /// They are printed: the dump can be loaded.
    Given,
    /// `<redacted>` stands in their place.
    Redacted,
}

/// Prints a file's entities.
pub(super) fn dump(normal: Normal, format: Format, secrets: Secrets) -> String {
    let mut root = vec![entry("_format_version", Kind::String("3.0".to_owned()))];
    let mut normal = normal;
    for collection in Collection::ALL {
        let values: Vec<Value> = (normal.list_mut(collection).iter_mut())
            .map(|entity| {
                let mut value = std::mem::replace(&mut entity.value, Value { line: 0, kind: Kind::Null });
                if secrets == Secrets::Redacted {
                    redact_entity(collection, &mut value);
                }
                value
            })
            .collect();
        if !values.is_empty() {
            root.push(entry(collection.key(), Kind::Array(values)));
        }
    }
    let mut text = String::new();
    match format {
        Format::Yaml => members(&root, 0, &mut text),
        Format::Json => {
            let json = to_json(&Value { line: 0, kind: Kind::Object(root) });
            text = serde_json::to_string_pretty(&json).expect("a value of JSON is JSON");
            text.push('\n');
        }
    }
    text
}

fn entry(key: &str, kind: Kind) -> Entry {
    Entry { key: key.to_owned(), line: 0, value: Value { line: 0, kind } }
}

fn redact_entity(collection: Collection, value: &mut Value) {
    let plugin = match value.get("name").map(|name| &name.kind) {
        Some(Kind::String(name)) if collection == Collection::Plugins => name.clone(),
        _ => String::new(),
    };
    let Kind::Object(entries) = &mut value.kind else { return };
    for entry in entries {
        match (collection, entry.key.as_str()) {
            (Collection::Certificates, "key" | "key_alt") => redact(&mut entry.value, "", "", true),
            (Collection::Plugins, "config") | (Collection::Upstreams, "healthchecks") => {
                redact(&mut entry.value, &plugin, "", false);
            }
            _ => {}
        }
    }
}

/// Hides texts below a field that is a secret, or whose name or text says that it is.
fn redact(value: &mut Value, plugin: &str, field: &str, secret: bool) {
    match &mut value.kind {
        Kind::String(text) => {
            // `Authorization:Bearer x`, as header rules have it, and credentials in a URL.
            // `authorization:bearer` says where a token goes, and is none.
            let is_scheme = |rest: &str| ["bearer", "basic"].iter().any(|scheme| rest.eq_ignore_ascii_case(scheme));
            let secret_of = |rest: &str| !rest.is_empty() && !is_scheme(rest);
            let named = text.split_once(':').is_some_and(|(name, rest)| is_sensitive(name.trim()) && secret_of(rest));
            let in_url = text.contains("://") && text.contains('@');
            if (secret || named || in_url) && !text.is_empty() && !vault::is_reference(text) {
                *text = "<redacted>".to_owned();
            }
        }
        Kind::Array(items) => items.iter_mut().for_each(|item| redact(item, plugin, field, secret)),
        Kind::Object(entries) => {
            for entry in entries {
                let field = if field.is_empty() { entry.key.clone() } else { format!("{field}.{}", entry.key) };
                let secret = secret || is_sensitive(&entry.key) || vault::is_secret(plugin, &field);
                redact(&mut entry.value, plugin, &field, secret);
            }
        }
        _ => {}
    }
}

/// The same tree without lines.
pub(super) fn to_json(value: &Value) -> serde_json::Value {
    match &value.kind {
        Kind::Null => json!(null),
        Kind::Bool(value) => json!(value),
        Kind::Integer(number) => json!(number),
        Kind::Float(number) => json!(number),
        Kind::String(text) => json!(text),
        Kind::Array(items) => items.iter().map(to_json).collect(),
        Kind::Object(entries) => {
            serde_json::Value::Object(entries.iter().map(|entry| (entry.key.clone(), to_json(&entry.value))).collect())
        }
    }
}

const INDENT: &str = "  ";

/// Members, one a line; the first without its indent, which the caller wrote.
fn members(entries: &[Entry], depth: usize, out: &mut String) {
    for (index, entry) in entries.iter().enumerate() {
        if index > 0 {
            out.push_str(&INDENT.repeat(depth));
        }
        out.push_str(&string(&entry.key));
        out.push(':');
        node(&entry.value, depth, out);
    }
}

/// What follows a key's colon or an item's dash.
fn node(value: &Value, depth: usize, out: &mut String) {
    match &value.kind {
        Kind::Object(entries) if !entries.is_empty() => {
            out.push('\n');
            out.push_str(&INDENT.repeat(depth + 1));
            members(entries, depth + 1, out);
        }
        Kind::Array(items) if !items.is_empty() => {
            out.push('\n');
            for item in items {
                out.push_str(&INDENT.repeat(depth));
                out.push('-');
                match &item.kind {
                    Kind::Object(entries) if !entries.is_empty() => {
                        out.push(' ');
                        members(entries, depth + 1, out);
                    }
                    _ => node(item, depth + 1, out),
                }
            }
        }
        _ => {
            out.push(' ');
            out.push_str(&scalar(&value.kind));
            out.push('\n');
        }
    }
}

fn scalar(kind: &Kind) -> String {
    match kind {
        Kind::Null => "null".to_owned(),
        Kind::Bool(value) => value.to_string(),
        Kind::Integer(number) => number.to_string(),
        Kind::Float(number) if number.is_nan() => ".nan".to_owned(),
        Kind::Float(number) if number.is_infinite() && *number > 0.0 => ".inf".to_owned(),
        Kind::Float(number) if number.is_infinite() => "-.inf".to_owned(),
        Kind::Float(number) => format!("{number:?}"),
        Kind::String(text) => string(text),
        Kind::Array(_) => "[]".to_owned(),
        Kind::Object(_) => "{}".to_owned(),
    }
}

/// A text without quotes where it is safe to, else as JSON has it, which is YAML as well.
fn string(text: &str) -> String {
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./".contains(&byte);
    let starts = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || b"_/".contains(&byte));
    if starts && text.bytes().all(safe) && is_plain_string(text) {
        return text.to_owned();
    }
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            // What YAML has no place for as it is (5.1), and what would end a line (5.4).
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}') => {
                quoted.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::problem::Sink;
    use super::*;

    fn any_value() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(json!(null)),
            any::<bool>().prop_map(|value| json!(value)),
            any::<i64>().prop_map(|number| json!(number)),
            any::<f64>().prop_filter("a number", |number| number.is_finite()).prop_map(|number| json!(number)),
            ".*".prop_map(|text| json!(text)),
            "(true|null|~|1|0x1f|1e3|- a|a: b|#|&a|\\*a|'|!x|%|@|`)".prop_map(|text| json!(text)),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(|items| json!(items)),
                prop::collection::hash_map(".{0,8}", inner, 0..4).prop_map(|members| json!(members)),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(json in any_value()) {
            let value = Value::from_json(&json!({ "root": json }));
            let Kind::Object(entries) = &value.kind else { unreachable!() };
            let mut text = String::new();
            members(entries, 0, &mut text);
            let sink = Sink::new("f");
            let again = Value::from_yaml(&text, &sink);
            prop_assert!(again.as_ref().is_some_and(|again| again.is_json(&json!({ "root": json }))), "{text}");
        }
    }

    #[test]
    fn secrets_are_hidden_and_references_are_not() {
        for (collection, given, expected) in [
            (Collection::Certificates, json!({"cert": "c", "key": "k"}), json!({"cert": "c", "key": "<redacted>"})),
            (
                Collection::Certificates,
                json!({"key": "{vault://env/K}", "key_alt": null}),
                json!({"key": "{vault://env/K}", "key_alt": null}),
            ),
            (
                Collection::Plugins,
                json!({"name": "openid-connect", "config": {"issuer": "https://i", "client_id": ["a"], "realm": "r"}}),
                json!({"name": "openid-connect", "config":
                    {"issuer": "https://i", "client_id": ["<redacted>"], "realm": "r"}}),
            ),
            (
                Collection::Plugins,
                json!({"name": "request-transformer", "config": {"add": {"headers": ["Authorization:Bearer x", "a:b"]}}}),
                json!({"name": "request-transformer", "config": {"add": {"headers": ["<redacted>", "a:b"]}}}),
            ),
            (
                Collection::Plugins,
                json!({"name": "jwt-signer", "config": {"access_token_upstream_header": "Authorization:Bearer",
                    "access_token_introspection_authorization": "Basic x", "access_token_keyset_client_password": "p"}}),
                json!({"name": "jwt-signer", "config": {"access_token_upstream_header": "Authorization:Bearer",
                    "access_token_introspection_authorization": "<redacted>",
                    "access_token_keyset_client_password": "<redacted>"}}),
            ),
            (
                Collection::Plugins,
                json!({"name": "http-profile", "config": {"request": {"headers": [{"name": "X-Key", "value": "k"}]}}}),
                json!({"name": "http-profile", "config":
                    {"request": {"headers": [{"name": "X-Key", "value": "<redacted>"}]}}}),
            ),
            (
                Collection::Upstreams,
                json!({"healthchecks": {"active": {"headers": {"Authorization": ["x"], "a": ["b"]}}}}),
                json!({"healthchecks": {"active": {"headers": {"Authorization": ["<redacted>"], "a": ["b"]}}}}),
            ),
        ] {
            let mut value = Value::from_json(&given);
            redact_entity(collection, &mut value);
            assert!(value.is_json(&expected), "{} {}", given, to_json(&value));
        }
    }
}
