//! Every parameter that Kong documents is known, with its default and its type; none is accepted and then ignored.

use super::UpstreamOauth;
use crate::config::problem::Sink;
use crate::config::reader::Reader;
use crate::config::value::{Entry, Kind, Value};
use crate::crypto::seal::SecretsKey;
use crate::plugin::{Place, PluginEnv};

/// All of them with their defaults.
const DEFAULTS: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/upstream_oauth/defaults.yaml"));
/// Parameters whose values are objects themselves.
const MAPS: [&str; 2] = ["oauth.token_headers", "oauth.token_post_args"];

fn text(text: &str) -> Kind {
    Kind::String(text.to_owned())
}

/// Puts a value in the place of another.
fn set(tree: &mut Value, path: &str, kind: Kind) {
    let place = path.split('.').fold(tree, |value, key| match &mut value.kind {
        Kind::Object(entries) => &mut entries.iter_mut().find(|entry| entry.key == key).expect("a parameter").value,
        _ => panic!("no record at {path}"),
    });
    place.kind = kind;
}

/// The paths of all parameters that hold no others.
fn leaves(value: &Value, path: &str, found: &mut Vec<String>) {
    match &value.kind {
        Kind::Object(entries) => {
            for Entry { key, value, .. } in entries {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                leaves(value, &path, found);
            }
        }
        _ => found.push(path.to_owned()),
    }
}

/// A dump with its defaults where only what must be set was set, and Redis.
fn dump() -> Value {
    let mut tree = Value::from_yaml(DEFAULTS, &Sink::new("k")).expect("YAML");
    for (path, value) in [
        ("oauth.token_endpoint", "https://issuer.example/token"),
        ("oauth.client_id", "edge"),
        ("oauth.client_secret", "hush"),
        ("cache.strategy", "redis"),
    ] {
        set(&mut tree, path, text(value));
    }
    tree
}

/// Problems and warnings of a configuration.
fn said(tree: &Value) -> (Vec<String>, Vec<String>) {
    let (sink, key) = (Sink::new("k"), SecretsKey::from_text(&"5".repeat(64)).expect("a key"));
    let env = PluginEnv::default().with_secrets(Some(&key));
    let reader = Reader::new(tree, "config", &sink).expect("an object");
    let plugin = UpstreamOauth::parse(reader, &Place::default(), &env);
    let (problems, warnings) = sink.into_parts();
    assert_eq!(plugin.is_some(), problems.is_empty());
    (problems.iter().map(ToString::to_string).collect(), warnings)
}

#[test]
fn a_dump_with_every_default_loads() {
    // A6
    let mut tree = dump();
    let mut found = Vec::new();
    leaves(&tree, "", &mut found);
    // 68 with the members of the two lists of records.
    assert_eq!(found.len(), 64);
    assert_eq!(said(&tree), (vec![], vec![]));
    set(&mut tree, "cache.strategy", text("memory"));
    assert_eq!(said(&tree), (vec![], vec![]));
}

#[test]
fn a_value_of_another_type_is_refused_by_name() {
    // A6, A7, L1
    let mut found = Vec::new();
    leaves(&dump(), "", &mut found);
    for path in found {
        let wrong = match MAPS.contains(&path.as_str()) {
            true => Kind::Integer(7),
            false => {
                let value = Value { line: 1, kind: text("hush") };
                Kind::Object(vec![Entry { key: "a".to_owned(), line: 1, value }])
            }
        };
        let mut tree = dump();
        set(&mut tree, &path, wrong);
        let (problems, _) = said(&tree);
        let place = format!("config.{path}: found ");
        assert!(problems.iter().any(|problem| problem.contains(&place)), "{path}: {problems:?}");
        assert!(!problems.iter().any(|problem| problem.contains("unknown field")), "{problems:?}");
    }
}
