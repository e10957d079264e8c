//! What is written goes through the readers of `edge run` first: the settings of a plugin where a line asks for them, so
//! that what they refuse is not translated, with their reason; and each edge as a whole, before it is written at all.

use std::path::Path;
use std::sync::LazyLock;

use serde_json::Value;

use super::matching::Unfit;
use super::output::{self, Edge};
use crate::config::problem::{Problem, Sink};
use crate::config::reader::Reader;
use crate::config::value::Value as Tree;
use crate::config::{self, Env};
use crate::crypto::seal::SecretsKey;
use crate::http::head::is_field_name;
use crate::plugin::{Place, Plugin};
use crate::settings::Settings;

/// What YAML takes in front of a colon on the same line, less its quotes.
const MAX_KEY_BYTES: usize = 1000;

/// One for all: making it reads the machine's roots. The key stands for the one that will lie beside `edge.toml`.
static ENV: LazyLock<Env> = LazyLock::new(|| {
    let key = SecretsKey::from_text(&"0".repeat(64));
    let env = Env::default();
    Env { plugins: env.plugins.with_secrets(key.as_ref()), ..env }
});

/// Whether a plugin takes these settings.
pub(super) fn plugin(name: &str, config: &Value) -> Result<(), Unfit> {
    texts(config)?;
    let (tree, sink) = (Tree::from_json(config), Sink::new(""));
    if let Some(reader) = Reader::new(&tree, name, &sink) {
        let place = Place::default();
        // What it makes of them is made again by the edge.
        drop(Plugin::parse(name, reader, &place, &ENV.plugins));
    }
    sink.into_parts().0.first().map_or(Ok(()), |problem| Err(said(problem)))
}

/// Whether a name is that of a field, which a route can ask for.
pub(super) fn field_name(name: &str) -> Result<(), Unfit> {
    match is_field_name(name.as_bytes()) && name.len() <= MAX_KEY_BYTES {
        true => Ok(()),
        false => Err(format!("{name:?} is no name of a field, or a very long one")),
    }
}

/// Whether a text stands for itself wherever it is written.
pub(super) fn text(text: &str) -> Result<(), Unfit> {
    match config::stands_for_another(text) {
        true => Err("a text that the edge's reader takes for a reference to another (`{vault://`, `${{`)".to_owned()),
        false => Ok(()),
    }
}

fn texts(value: &Value) -> Result<(), Unfit> {
    match value {
        Value::String(found) => text(found),
        Value::Array(items) => items.iter().try_for_each(texts),
        Value::Object(members) => members.values().try_for_each(texts),
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}

/// Whether `edge run` takes an edge, but for the certificates and keys that are not there yet.
pub(super) fn edge(edge: &Edge) -> Result<(), Unfit> {
    let refused = |problems: &[Problem]| match problems.first() {
        Some(problem) => Err(format!("what is written for it is not accepted: {}", said(problem))),
        None => Ok(()),
    };
    let settings = output::settings(&edge.without_files(), edge.free_ports().next().unwrap_or_default());
    let settings = match Settings::load_text(&settings, Path::new("edge.toml")) {
        Ok(settings) => settings,
        Err(problems) => return refused(&problems.0),
    };
    let (problems, _) = config::remarks_on_text(&output::entities(&edge.without_files()), "kong.yaml", &settings, &ENV);
    refused(&problems)
}

/// A problem without the place, which is none of the input's.
fn said(problem: &Problem) -> String {
    format!("found {}, expected {}", problem.found, problem.expected)
}
