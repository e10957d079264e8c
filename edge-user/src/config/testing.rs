//! What unit tests of settings stand on.

use super::problem::Sink;
use super::reader::Reader;
use super::value::Value;

/// Reads the YAML of one object that stands at a path, with every member read; gives problems and warnings beside.
pub(crate) fn read<T>(
    path: &str,
    yaml: &str,
    read: impl FnOnce(&mut Reader<'_>) -> T,
) -> (T, Vec<String>, Vec<String>) {
    let sink = Sink::new("k");
    let value = Value::from_yaml(yaml, &sink).expect("YAML");
    let mut reader = Reader::new(&value, path, &sink).expect("an object");
    let out = read(&mut reader);
    reader.finish();
    let (problems, warnings) = sink.into_parts();
    (out, problems.iter().map(ToString::to_string).collect(), warnings)
}
