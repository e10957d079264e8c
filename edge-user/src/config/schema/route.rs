//! Routes: which requests and connections go where.

use super::super::reader::Reader;
use super::super::snapshot::{Endpoint, Protocol, Protocols};
use super::super::value::{Kind, Value, join, quote_text};
use super::{Common, Ref, must_be_null, name, reference};
use crate::router::{self, Criteria, HeaderPattern, HostPattern, PathPattern, Pattern, SniPattern, ValuePattern};
use crate::settings::Cidr;

/// One route.
pub(in crate::config) struct RouteEntity {
    pub(in crate::config) common: Common,
    pub(in crate::config) name: Option<String>,
    pub(in crate::config) service: Option<Ref>,
    pub(in crate::config) protocols: Protocols,
    pub(in crate::config) https_redirect_status_code: u16,
    pub(in crate::config) criteria: Criteria,
    pub(in crate::config) sources: Vec<Endpoint>,
    pub(in crate::config) destinations: Vec<Endpoint>,
    pub(in crate::config) strip_path: bool,
    pub(in crate::config) preserve_host: bool,
    pub(in crate::config) request_buffering: bool,
    pub(in crate::config) response_buffering: bool,
}

/// Reads one route.
pub(super) fn read(reader: &mut Reader<'_>, common: Common) -> RouteEntity {
    let protocols = protocols(reader);
    let before = reader.sink().count();
    let criteria = criteria(reader);
    let route = RouteEntity {
        common,
        name: name(reader, "name"),
        service: reference(reader, "service"),
        // A wrong one is a problem; what depends on it is judged as for the default.
        protocols: protocols.unwrap_or(Protocol::Http.group()),
        https_redirect_status_code: redirect(reader),
        criteria,
        sources: endpoints(reader, "sources"),
        destinations: endpoints(reader, "destinations"),
        strip_path: reader.bool("strip_path").unwrap_or(true),
        preserve_host: reader.bool("preserve_host").unwrap_or(false),
        request_buffering: reader.bool("request_buffering").unwrap_or(true),
        response_buffering: reader.bool("response_buffering").unwrap_or(true),
    };
    let path_handling = reader.word("path_handling", &[("v0", false), ("v1", true)]);
    if path_handling == Some(true) {
        reader.warn("path_handling", "v1 is ignored, as the default router of Kong ignores it: paths join as in v0");
    }
    for key in ["expression", "priority"] {
        must_be_null(reader, key, "routes match by their criteria (router_flavor traditional_compatible)");
    }
    if let Some(protocols) = protocols {
        allowed(reader, protocols, &route, reader.sink().count() > before);
    }
    reader.raw("plugins");
    route
}

fn redirect(reader: &mut Reader<'_>) -> u16 {
    let status = reader.integer("https_redirect_status_code", i64::MIN..=i64::MAX).unwrap_or(426);
    if ![426, 301, 302, 307, 308].contains(&status) {
        reader.problem("https_redirect_status_code", status.to_string(), "one of: 426, 301, 302, 307, 308");
    }
    status as u16
}

fn protocols(reader: &mut Reader<'_>) -> Option<Protocols> {
    let protocols = super::protocols(reader)?;
    for (name, protocol) in Protocol::ALL.iter().filter(|(_, protocol)| protocols.contains(*protocol)) {
        if let Some(instead) = protocol.instead() {
            reader.problem("protocols", format!("the protocol {name}"), instead);
            return None;
        }
        if !protocols.are_within(protocol.group()) {
            let expected = "those of one group: http and https, tcp and tls, tls_passthrough, or grpc and grpcs";
            reader.problem("protocols", protocols.names().collect::<Vec<_>>().join(", "), expected);
            return None;
        }
    }
    Some(protocols)
}

fn criteria(reader: &mut Reader<'_>) -> Criteria {
    let method = |text: &str| text.bytes().all(|byte| byte.is_ascii_uppercase()).then(|| text.into());
    Criteria {
        methods: reader.parsed_list("methods", "a method in capital letters", method).unwrap_or_default(),
        hosts: reader
            .parsed_list("hosts", "a host, *.host or host.*, each with or without :port", HostPattern::parse)
            .unwrap_or_default(),
        paths: paths(reader),
        headers: headers(reader),
        snis: reader.parsed_list("snis", "a name, *.name or name.*", SniPattern::parse).unwrap_or_default(),
        regex_priority: reader.integer("regex_priority", i64::MIN..=i64::MAX).unwrap_or(0),
    }
}

fn paths(reader: &mut Reader<'_>) -> Vec<PathPattern> {
    let paths = reader.strings("paths").unwrap_or_default();
    let mut good = Vec::with_capacity(paths.len());
    for (index, path) in paths.into_iter().enumerate() {
        let expected = match path.strip_prefix('~') {
            Some(text) if !text.starts_with('/') => "a path after the ~: should start with: /".to_owned(),
            Some(text) => match Pattern::path(text) {
                Ok(pattern) => {
                    good.push(PathPattern::Regex(pattern));
                    continue;
                }
                Err(error) => format!("a regular expression: {}", reason(&error)),
            },
            None if router::is_normalized(path) => {
                good.push(PathPattern::Prefix(path.into()));
                continue;
            }
            None if path.starts_with('/') => match router::normalize_path(path.as_bytes(), &mut Vec::new()) {
                Ok(normal) => format!("the path's normal form, \"{}\"", String::from_utf8_lossy(normal)),
                Err(error) => format!("a normal path: {error}"),
            },
            None => "a path: should start with: /".to_owned(),
        };
        let place = format!("{}[{index}]", reader.path_of("paths"));
        reader.sink().problem(line_of(reader, "paths", index), &place, quote_text(path), expected);
    }
    good
}

/// The line of one item of a list.
fn line_of(reader: &mut Reader<'_>, key: &'static str, index: usize) -> u32 {
    match reader.raw(key) {
        Some(Value { kind: Kind::Array(items), line }) => items.get(index).map_or(*line, |item| item.line),
        _ => reader.line_of(key),
    }
}

/// The last line of what a regular expression's error says; the others draw a picture of it.
fn reason(error: &dyn std::fmt::Display) -> String {
    let text = error.to_string();
    text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

fn headers(reader: &mut Reader<'_>) -> Vec<HeaderPattern> {
    let Some(value) = reader.raw("headers") else { return Vec::new() };
    let (path, sink) = (reader.path_of("headers"), reader.sink());
    let Kind::Object(entries) = &value.kind else {
        sink.problem(value.line, &path, value.type_word(), "an object: header names and lists of values");
        return Vec::new();
    };
    let mut patterns: Vec<HeaderPattern> = Vec::with_capacity(entries.len());
    for entry in entries {
        let path = join(&path, &entry.key);
        let name = entry.key.to_ascii_lowercase();
        if !crate::http::head::is_field_name(entry.key.as_bytes()) {
            sink.problem(entry.line, &path, quote_text(&entry.key), "the name of a header");
        } else if name == "host" {
            sink.problem(entry.line, &path, "the header host", "it in `hosts`: cannot contain 'host' header");
        } else if patterns.iter().any(|pattern| *pattern.name == *name) {
            sink.problem(entry.line, &path, "the header again", "each once, whatever its capitals");
        } else if let Some(value) = header_values(&entry.value, &path, sink) {
            patterns.push(HeaderPattern { name: name.into(), value });
        }
    }
    patterns
}

fn header_values(value: &Value, path: &str, sink: &super::Sink) -> Option<ValuePattern> {
    let items = match &value.kind {
        Kind::Array(items) if !items.is_empty() => items,
        _ => {
            sink.problem(value.line, path, value.type_word(), "a list of values, at least one");
            return None;
        }
    };
    let mut words: Vec<Box<str>> = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        match &item.kind {
            Kind::String(text) => words.push(text.to_lowercase().into()),
            _ => {
                let path = format!("{path}[{index}]");
                sink.problem(item.line, &path, item.type_word(), "a string: in quotes if it looks like something else");
                return None;
            }
        }
    }
    let [Value { kind: Kind::String(only), line }] = items.as_slice() else {
        if words.iter().any(|word| word.starts_with("~*")) {
            sink.warn(value.line, path, "a value with ~* is a regular expression only where it stands alone");
        }
        return Some(ValuePattern::OneOf(words));
    };
    let Some(text) = only.strip_prefix("~*") else { return Some(ValuePattern::OneOf(words)) };
    match Pattern::value(text) {
        Ok(pattern) => Some(ValuePattern::Regex(pattern)),
        Err(error) => {
            let expected = format!("a regular expression: {}", reason(&error));
            sink.problem(*line, &format!("{path}[0]"), quote_text(only), expected);
            None
        }
    }
}

fn endpoints(reader: &mut Reader<'_>, key: &'static str) -> Vec<Endpoint> {
    let mut endpoints = Vec::new();
    for mut object in reader.objects(key) {
        let before = object.sink().count();
        let endpoint = Endpoint {
            network: object.parsed("ip", "an address or a range like 10.0.0.0/8", Cidr::parse),
            port: object.integer("port", 0..=65535).map(|port| port as u16),
        };
        if endpoint == Endpoint::default() && object.sink().count() == before {
            object.sink().problem(object.line(), object.path(), "neither `ip` nor `port`", "at least one of them");
        }
        object.finish();
        endpoints.push(endpoint);
    }
    endpoints
}

/// What a route of these protocols must and must not say. `wrong`: whether a criterion is a problem already.
fn allowed(reader: &mut Reader<'_>, protocols: Protocols, route: &RouteEntity, wrong: bool) {
    let names: Vec<_> = protocols.names().map(|name| format!("'{name}'")).collect();
    let names = names.join(" or ");
    let has = |protocol| protocols.contains(protocol);
    let (forbidden, needed): (&[&'static str], &[&str]) = if has(Protocol::Http) || has(Protocol::Https) {
        (&["sources", "destinations"], &["methods", "hosts", "headers", "paths", "snis"])
    } else if has(Protocol::Grpc) || has(Protocol::Grpcs) {
        if route.strip_path {
            let expected = format!("false: cannot set 'strip_path' when 'protocols' is {names}");
            reader.problem("strip_path", "true", expected);
        }
        (&["sources", "destinations", "methods"], &["hosts", "headers", "paths", "snis"])
    } else if has(Protocol::TlsPassthrough) {
        (&["methods", "hosts", "headers", "paths"], &["snis"])
    } else {
        (&["methods", "hosts", "headers", "paths"], &["sources", "destinations", "snis"])
    };
    for key in forbidden {
        must_be_null(reader, key, &format!("cannot set '{key}' when 'protocols' is {names}"));
    }
    let with_names = [Protocol::Https, Protocol::Grpcs, Protocol::Tls, Protocol::TlsPassthrough];
    let has_names = with_names.into_iter().any(has);
    if !has_names {
        let expected = "'snis' can only be set when 'protocols' is 'grpcs', 'https', 'tls' or 'tls_passthrough'";
        must_be_null(reader, "snis", expected);
    }
    let needed: Vec<_> = needed.iter().copied().filter(|key| has_names || *key != "snis").collect();
    let is_given = |key: &&str| match *key {
        "methods" => !route.criteria.methods.is_empty(),
        "hosts" => !route.criteria.hosts.is_empty(),
        "headers" => !route.criteria.headers.is_empty(),
        "paths" => !route.criteria.paths.is_empty(),
        "snis" => !route.criteria.snis.is_empty(),
        "sources" => !route.sources.is_empty(),
        _ => !route.destinations.is_empty(),
    };
    if !wrong && !needed.iter().any(is_given) {
        let quoted: Vec<_> = needed.iter().map(|key| format!("'{key}'")).collect();
        // As Kong says it, which names the protocol that has most to offer.
        let name = protocols.names().next_back().unwrap_or_default();
        let expected = match quoted.as_slice() {
            [one] => format!("it: must set {one} when 'protocols' is '{name}'"),
            many => format!("one: must set one of {} when 'protocols' is '{name}'", many.join(", ")),
        };
        reader.sink().problem(reader.line(), reader.path(), "no criterion", expected);
    }
}
