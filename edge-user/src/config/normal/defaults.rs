//! Kong's defaults of every entity, in one table: filled into the tree before anything reads it.
//!
//! A plugin's `config` is not here: each plugin knows its own.

use std::sync::LazyLock;

use serde_json::json;

use super::super::value::{Entry, Kind, Value};
use super::Collection;

/// What an absent field of an entity means.
pub(super) fn of(collection: Collection) -> &'static [Entry] {
    static TABLE: LazyLock<Vec<(Collection, Vec<Entry>)>> = LazyLock::new(table);
    TABLE.iter().find(|(kind, _)| *kind == collection).map_or(&[], |(_, entries)| entries)
}

fn table() -> Vec<(Collection, Vec<Entry>)> {
    let all = [
        (
            Collection::Services,
            json!({
                "protocol": "http", "port": 80, "retries": 5, "connect_timeout": 60000, "write_timeout": 60000,
                "read_timeout": 60000, "enabled": true,
            }),
        ),
        (
            Collection::Routes,
            json!({
                "protocols": ["http", "https"], "https_redirect_status_code": 426, "regex_priority": 0,
                "path_handling": "v0", "preserve_host": false, "request_buffering": true, "response_buffering": true,
            }),
        ),
        (Collection::Plugins, json!({ "enabled": true })),
        (
            Collection::Upstreams,
            json!({
                "algorithm": "round-robin", "hash_on": "none", "hash_fallback": "none", "hash_on_cookie_path": "/",
                "slots": 10000, "use_srv_name": false,
                "healthchecks": {
                    "threshold": 0,
                    "active": {
                        "type": "http", "timeout": 1, "concurrency": 10, "http_path": "/",
                        "https_verify_certificate": true,
                        "healthy": { "interval": 0, "successes": 0, "http_statuses": [200, 302] },
                        "unhealthy": {
                            "interval": 0, "tcp_failures": 0, "timeouts": 0, "http_failures": 0,
                            "http_statuses": [429, 404, 500, 501, 502, 503, 504, 505],
                        },
                    },
                    "passive": {
                        "type": "http",
                        "healthy": {
                            "successes": 0,
                            "http_statuses": [200, 201, 202, 203, 204, 205, 206, 207, 208, 226,
                                300, 301, 302, 303, 304, 305, 306, 307, 308],
                        },
                        "unhealthy": {
                            "tcp_failures": 0, "timeouts": 0, "http_failures": 0, "http_statuses": [429, 500, 503],
                        },
                    },
                },
            }),
        ),
        (Collection::Targets, json!({ "weight": 100 })),
    ];
    let entries = |value| match Value::from_json(&value).kind {
        Kind::Object(entries) => entries,
        _ => Vec::new(),
    };
    all.into_iter().map(|(collection, value)| (collection, entries(value))).collect()
}

/// Adds what is absent or `null`; objects are filled member by member. New members stand at `line` unless they have one.
pub(super) fn fill(entries: &mut Vec<Entry>, defaults: &[Entry], line: u32) {
    for default in defaults {
        match entries.iter_mut().find(|entry| entry.key == default.key) {
            None => {
                let mut entry = default.clone();
                place(&mut entry.value, line);
                entry.line = if entry.line == 0 { line } else { entry.line };
                entries.push(entry);
            }
            Some(Entry { value: Value { kind: Kind::Object(given), line }, .. }) => {
                if let Kind::Object(members) = &default.value.kind {
                    let line = *line;
                    fill(given, members, line);
                }
            }
            Some(Entry { value, .. }) if value.kind == Kind::Null => {
                let line = value.line;
                *value = default.value.clone();
                place(value, line);
            }
            Some(_) => {}
        }
    }
}

/// Gives a line to what has none.
fn place(value: &mut Value, line: u32) {
    if value.line == 0 {
        value.line = line;
    }
    match &mut value.kind {
        Kind::Array(items) => items.iter_mut().for_each(|item| place(item, line)),
        Kind::Object(entries) => entries.iter_mut().for_each(|entry| {
            if entry.line == 0 {
                entry.line = line;
            }
            place(&mut entry.value, line);
        }),
        _ => {}
    }
}
