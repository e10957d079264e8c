//! The plugin's `config`: five groups of steps, in the order in which they are taken.

use super::template::Template;
use super::{RequestTransformer, Step};
use crate::config::reader::Reader;
use crate::http::head::is_field_value;
use crate::plugin::fields::{is_header_name, is_of_forwarding, is_of_hop};

type Make = fn(Box<str>, Template) -> Step;

/// The groups whose steps have a value.
const VALUED: [(&str, Make); 3] = [("replace", Step::Replace), ("add", Step::Add), ("append", Step::Append)];

/// What a group's lists are about.
const TARGETS: [&str; 3] = ["headers", "querystring", "body"];

/// Reads the whole object.
pub(super) fn parse(mut config: Reader<'_>) -> Option<RequestTransformer> {
    let problems = config.sink().count();
    let mut steps = TARGETS.map(|_| Vec::new());
    let mut uri = None;
    if let Some(mut group) = config.object("remove") {
        for (key, steps) in TARGETS.into_iter().zip(&mut steps) {
            for element in group.strings(key).unwrap_or_default() {
                let (name, _) = split(element);
                if key != "headers" || may_change(&group, name, "stays: the edge writes it itself") {
                    steps.push(Step::Remove(name.into()));
                }
            }
        }
        group.finish();
    }
    if let Some(mut group) = config.object("rename") {
        for (key, steps) in TARGETS.into_iter().zip(&mut steps) {
            for element in group.strings(key).unwrap_or_default() {
                let Some((old, new)) = pair(&group, key, element) else { continue };
                if key == "headers" {
                    [old, new].into_iter().for_each(|name| is_no_name(&group, name));
                    if [old, new].iter().any(|name| is_edges(name)) {
                        refuse(&group, element, "headers other than `Host` and those of framing, hop and forwarding");
                        continue;
                    }
                }
                steps.push(Step::Rename(old.into(), new.into()));
            }
        }
        group.finish();
    }
    for (operation, make) in VALUED {
        let Some(mut group) = config.object(operation) else { continue };
        for (key, steps) in TARGETS.into_iter().zip(&mut steps) {
            for element in group.strings(key).unwrap_or_default() {
                steps.extend(valued(&group, operation, key, element, make));
            }
        }
        if operation == "replace"
            && let Some(text) = group.string("uri")
        {
            uri = template(&group, "uri", text).filter(|template| begins_a_path(&group, template));
        }
        group.finish();
    }
    let method = method(&mut config);
    let sink = config.sink();
    config.finish();
    let [headers, query, body] = steps.map(Into::into);
    (sink.count() == problems).then_some(RequestTransformer { uri, method, headers, query, body })
}

/// A step with a value; nothing where it is wrong or has none.
fn valued(group: &Reader<'_>, operation: &str, key: &'static str, element: &str, make: Make) -> Option<Step> {
    let (name, value) = pair(group, key, element)?;
    let mut value = value;
    if key == "headers" {
        is_no_name(group, name);
        match (operation, name.eq_ignore_ascii_case("host")) {
            ("replace", true) => {}
            ("append", true) => {
                refuse(group, element, "another header: a request has one `Host`, which `replace` sets");
                return None;
            }
            (_, true) => {
                group.warn(key, "`Host` is always there: the step does nothing, as in Kong");
                return None;
            }
            _ if is_of_hop(name) => {
                refuse(group, element, "a header other than those of framing and hop, which the edge writes itself");
                return None;
            }
            _ if !may_change(group, name, "has the edge's own value: the step does nothing") => return None,
            _ => {}
        }
        // White space around a value is none of it (RFC 9110, 5.5).
        value = value.trim_matches([' ', '\t']);
        if value.is_empty() {
            group.warn(key, &format!("{name:?} has no value: the step is skipped, as by Kong"));
            return None;
        }
        if !is_field_value(value.as_bytes()) {
            group.problem(key, "control characters", "a value that can stand in a field");
        }
    }
    Some(make(name.into(), template(group, key, value)?))
}

/// The name is up to the first colon; colons that follow at once belong to nothing.
fn split(element: &str) -> (&str, &str) {
    element.split_once(':').map_or((element, ""), |(name, value)| (name, value.trim_start_matches(':')))
}

/// Name and value, where there has to be one. Only fields may be empty.
fn pair<'a>(group: &Reader<'_>, key: &str, element: &'a str) -> Option<(&'a str, &'a str)> {
    let (name, value) = split(element);
    if key == "headers" && !element.contains(':') {
        group.problem(key, format!("{element:?}"), format!("`name:value`: invalid value: {element}"));
        return None;
    }
    if key != "headers" && value.is_empty() {
        group.problem(key, format!("{element:?}"), format!("`name:value`: key '{name}' has no value"));
        return None;
    }
    Some((name, value))
}

fn template(group: &Reader<'_>, key: &str, text: &str) -> Option<Template> {
    let mut unknown = Vec::new();
    match Template::parse(text, &mut unknown) {
        Ok(template) => {
            for name in unknown {
                group.warn(key, &format!("`{name}` is no variable: it stands for nothing, as in Kong"));
            }
            Some(template)
        }
        Err(expected) => {
            group.problem(key, format!("value '{text}'"), expected);
            None
        }
    }
}

fn is_no_name(group: &Reader<'_>, name: &str) {
    if !is_header_name(name) {
        group.problem("headers", format!("{name:?}"), format!("a header name: '{name}' is not a valid header"));
    }
}

/// Whether a name is one that the edge writes whatever a plugin does.
fn is_edges(name: &str) -> bool {
    is_of_hop(name) || name.eq_ignore_ascii_case("host") || is_of_forwarding(name)
}

fn may_change(group: &Reader<'_>, name: &str, why_not: &str) -> bool {
    let may = !is_edges(name);
    if !may {
        group.warn("headers", &format!("`{name}` {why_not}"));
    }
    may
}

fn refuse(group: &Reader<'_>, element: &str, expected: &str) {
    group.problem("headers", format!("{element:?}"), expected);
}

/// A path begins with a slash, unless a part stands at its front, which the edge completes.
fn begins_a_path(group: &Reader<'_>, template: &Template) -> bool {
    let is_path = match template.start() {
        Some(text) => text.starts_with('/'),
        None => !template.is_constant(),
    };
    if !is_path {
        group.problem("uri", "a path without a slash", "a path that begins with `/`");
    }
    is_path
}

fn method(config: &mut Reader<'_>) -> Option<Box<str>> {
    let method = config.string("http_method")?;
    let expected = match method {
        "HEAD" | "TRACE" | "CONNECT" => "a method whose answers are like other methods': an answer to HEAD has no body",
        _ if method.bytes().all(|byte| byte.is_ascii_uppercase()) => return Some(method.into()),
        _ => "upper-case letters",
    };
    config.problem("http_method", format!("{method:?}"), format!("{expected}: invalid value: {method}"));
    None
}
