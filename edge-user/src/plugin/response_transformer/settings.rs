//! The plugin's `config`: five groups of steps, in the order in which they are taken.

use super::steps::JsonStep;
use super::{HeaderStep, ResponseTransformer};
use crate::config::reader::Reader;
use crate::http::head::{is_field_name, is_field_value};
use crate::plugin::fields::{is_header_name, is_of_hop};
use crate::plugin::json::string;

/// What a JSON value is written as.
#[derive(Clone, Copy)]
enum Type {
    Boolean,
    Number,
    String,
}

const TYPES: [(&str, Type); 3] = [("boolean", Type::Boolean), ("number", Type::Number), ("string", Type::String)];

type MakeHeader = fn(Box<str>, Box<str>) -> HeaderStep;
type MakeJson = fn(Box<str>, Box<str>) -> JsonStep;

/// The groups whose steps have a value.
const VALUED: [(&str, MakeHeader, MakeJson); 3] = [
    ("replace", HeaderStep::Replace, JsonStep::Replace),
    ("add", HeaderStep::Add, JsonStep::Add),
    ("append", HeaderStep::Append, JsonStep::Append),
];

/// Reads the whole object.
pub(super) fn parse(mut config: Reader<'_>) -> Option<ResponseTransformer> {
    let problems = config.sink().count();
    let (mut headers, mut json) = (Vec::new(), Vec::new());
    if let Some(mut group) = config.object("remove") {
        for element in group.strings("headers").unwrap_or_default() {
            let name = split(element).map_or(element, |(name, _)| name);
            valid_name(&group, name, is_field_name(name.as_bytes()));
            if is_of_hop(name) {
                group.warn("headers", "the edge writes the fields of framing and hop itself: they stay");
            }
            headers.push(HeaderStep::Remove(name.into()));
        }
        for element in group.strings("json").unwrap_or_default() {
            json.push(JsonStep::Remove(split(element).map_or(element, |(name, _)| name).into()));
        }
        group.finish();
    }
    if let Some(mut group) = config.object("rename") {
        for (old, new) in pairs(&mut group, "headers") {
            valid_name(&group, old, is_header_name(old));
            valid_name(&group, new, is_header_name(new));
            writable(&group, new);
            headers.push(HeaderStep::Rename(old.into(), new.into()));
        }
        json.extend(pairs(&mut group, "json").into_iter().map(|(old, new)| JsonStep::Rename(old.into(), new.into())));
        group.finish();
    }
    for (key, header_step, json_step) in VALUED {
        let Some(mut group) = config.object(key) else { continue };
        for (name, value) in pairs(&mut group, "headers") {
            valid_name(&group, name, is_field_name(name.as_bytes()));
            writable(&group, name);
            // White space around a value is none of it (RFC 9110, 5.5).
            let value = value.trim_matches([' ', '\t']);
            if !is_field_value(value.as_bytes()) {
                group.problem("headers", "control characters", "a value that can stand in a field");
            }
            if !value.is_empty() {
                headers.push(header_step(name.into(), value.into()));
            }
        }
        let types = group.words("json_types", &TYPES).unwrap_or_default();
        let elements = group.strings("json").unwrap_or_default();
        for (index, element) in elements.into_iter().enumerate() {
            let Some((name, value)) = pair(&group, "json", element) else { continue };
            match typed(value, types.get(index)) {
                Some(value) => json.push(json_step(name.into(), value.into())),
                None => group.warn("json", &format!("{name:?} gets no number: the step is skipped, as by Kong")),
            }
        }
        group.finish();
    }
    let sink = config.sink();
    config.finish();
    (sink.count() == problems).then(|| ResponseTransformer { headers: headers.into(), json: json.into() })
}

/// `name:value` at the first colon; colons that follow at once belong to neither.
fn split(element: &str) -> Option<(&str, &str)> {
    let (name, value) = element.split_once(':')?;
    (!name.is_empty()).then_some((name, value.trim_start_matches(':')))
}

/// The elements of a list that have a value. One without is skipped, as by Kong.
fn pairs<'a>(group: &mut Reader<'a>, key: &'static str) -> Vec<(&'a str, &'a str)> {
    let elements = group.strings(key).unwrap_or_default();
    elements.into_iter().filter_map(|element| pair(group, key, element)).collect()
}

fn pair<'a>(group: &Reader<'_>, key: &str, element: &'a str) -> Option<(&'a str, &'a str)> {
    match split(element) {
        Some((name, "")) => {
            group.warn(key, &format!("{name:?} has no value: the step is skipped, as by Kong"));
            None
        }
        Some(pair) => Some(pair),
        None => {
            group.problem(key, format!("{element:?}"), "`name:value`");
            None
        }
    }
}

fn valid_name(group: &Reader<'_>, name: &str, is_valid: bool) {
    if !is_valid {
        group.problem("headers", format!("{name:?}"), format!("'{name}' is not a valid header"));
    }
}

fn writable(group: &Reader<'_>, name: &str) {
    if is_of_hop(name) {
        let expected = "a header other than those of framing and hop, which the edge writes itself";
        group.problem("headers", format!("{name:?}"), expected);
    }
}

/// The value as JSON text; nothing where it should be a number and is none.
fn typed(value: &str, kind: Option<&Type>) -> Option<String> {
    match kind {
        None | Some(Type::String) => Some(string(value)),
        Some(Type::Boolean) => Some((value == "true").to_string()),
        Some(Type::Number) => {
            let value = value.trim();
            // A JSON number keeps its text, and with it every digit; others, such as `+1` and `.5`, are read.
            let is_json = value.starts_with(|first: char| first == '-' || first.is_ascii_digit())
                && serde_json::from_str::<&serde_json::value::RawValue>(value).is_ok();
            if is_json {
                return Some(value.to_owned());
            }
            let number = value.parse::<f64>().ok().filter(|number| number.is_finite())?;
            Some(serde_json::Value::from(number).to_string())
        }
    }
}
