//! Routes: which requests go where.

use serde_json::json;

use super::super::reader::Reader;
use super::super::snapshot::{Protocol, Protocols};
use super::{Common, Document, Ref, common, name, plugin, reference};
use crate::router::{self, Criteria, HostPattern, PathPattern};

/// One route.
pub(crate) struct RouteEntity {
    pub(crate) common: Common,
    pub(crate) name: Option<String>,
    pub(crate) service: Option<Ref>,
    pub(crate) protocols: Protocols,
    pub(crate) https_redirect_status_code: u16,
    pub(crate) criteria: Criteria,
    pub(crate) strip_path: bool,
    pub(crate) preserve_host: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    Http,
    Https,
    Other,
}

const PROTOCOLS: [(&str, Word); 10] = [
    ("http", Word::Http),
    ("https", Word::Https),
    ("grpc", Word::Other),
    ("grpcs", Word::Other),
    ("tcp", Word::Other),
    ("tls", Word::Other),
    ("tls_passthrough", Word::Other),
    ("udp", Word::Other),
    ("ws", Word::Other),
    ("wss", Word::Other),
];

/// Reads one route with the plugins inside it. `parent` is the service it stands in.
pub(super) fn read<'a>(mut reader: Reader<'a>, parent: Option<usize>, document: &mut Document<'a>) {
    let index = document.routes.len();
    let common = common(&mut reader);
    let service = match parent {
        Some(parent) => {
            if reader.raw("service").is_some() {
                reader.problem("service", "a reference inside its parent", "nothing");
            }
            Some(Ref::Parent(parent))
        }
        None => reference(&mut reader, "service"),
    };
    let (http, https) = protocols(&mut reader);
    let both = [(http, Protocol::Http), (https, Protocol::Https)];
    let route = RouteEntity {
        common,
        name: name(&mut reader, "name"),
        service,
        protocols: both.iter().filter(|(given, _)| *given).map(|(_, protocol)| *protocol).collect(),
        https_redirect_status_code: redirect(&mut reader),
        criteria: criteria(&mut reader, https),
        strip_path: reader.bool("strip_path").unwrap_or(true),
        preserve_host: reader.bool("preserve_host").unwrap_or(false),
    };
    document.routes.push(route);
    // Bodies always stream, which neither value of these forbids; the priority decides among regexes alone.
    reader.bool("request_buffering");
    reader.bool("response_buffering");
    reader.integer("regex_priority", i64::MIN..=i64::MAX);
    reader.unsupported("path_handling", json!("v0"));
    for key in ["headers", "snis", "sources", "destinations", "expression", "priority"] {
        reader.unsupported(key, json!(null));
    }
    for entry in reader.objects("plugins") {
        document.plugins.extend(plugin(entry, None, Some(index)));
    }
    reader.finish();
}

fn redirect(reader: &mut Reader<'_>) -> u16 {
    let status = reader.integer("https_redirect_status_code", 301..=426).unwrap_or(426);
    if ![426, 301, 302, 307, 308].contains(&status) {
        reader.problem("https_redirect_status_code", status.to_string(), "one of: 426, 301, 302, 307, 308");
    }
    status as u16
}

fn protocols(reader: &mut Reader<'_>) -> (bool, bool) {
    let Some(protocols) = reader.words("protocols", &PROTOCOLS) else { return (true, true) };
    if protocols.contains(&Word::Other) {
        reader.problem("protocols", "another protocol than http", "http, https or both: others are not supported yet");
    } else if protocols.is_empty() {
        reader.problem("protocols", "an empty list", "http, https or both");
    }
    (protocols.contains(&Word::Http), protocols.contains(&Word::Https))
}

fn criteria(reader: &mut Reader<'_>, https: bool) -> Criteria {
    let method = |text: &str| text.bytes().all(|byte| byte.is_ascii_uppercase()).then(|| text.into());
    let given = ["methods", "hosts", "headers", "paths", "snis"].iter().any(|key| reader.has(key));
    let before = reader.sink().count();
    let criteria = Criteria {
        methods: reader.parsed_list("methods", "a method in capital letters", method).unwrap_or_default(),
        hosts: reader
            .parsed_list("hosts", "a host, *.host or host.*, each with or without :port", HostPattern::parse)
            .unwrap_or_default(),
        paths: paths(reader),
        ..Criteria::default()
    };
    let wrong = reader.sink().count() > before;
    let empty = criteria.methods.is_empty() && criteria.hosts.is_empty() && criteria.paths.is_empty();
    let other = reader.has("headers") || reader.has("snis");
    if empty && !wrong && !(given && other) {
        let expected = match https {
            true => "one: must set one of 'methods', 'hosts', 'headers', 'paths', 'snis' when 'protocols' is 'https'",
            false => "one: must set one of 'methods', 'hosts', 'headers', 'paths' when 'protocols' is 'http'",
        };
        reader.sink().problem(reader.line(), reader.path(), "no criterion", expected);
    }
    criteria
}

fn paths(reader: &mut Reader<'_>) -> Vec<PathPattern> {
    let paths = reader.strings("paths").unwrap_or_default();
    let mut good = Vec::with_capacity(paths.len());
    for (index, path) in paths.into_iter().enumerate() {
        let expected = if path.starts_with('~') {
            "a prefix: regular expressions are not supported yet".to_owned()
        } else if router::is_normalized(path) {
            good.push(PathPattern::Prefix(path.into()));
            continue;
        } else if path.starts_with('/') {
            match router::normalize_path(path.as_bytes(), &mut Vec::new()) {
                Ok(normal) => format!("the path's normal form, \"{}\"", String::from_utf8_lossy(normal)),
                Err(error) => format!("a normal path: {error}"),
            }
        } else {
            "a path: should start with: /".to_owned()
        };
        let place = format!("{}[{index}]", reader.path_of("paths"));
        reader.sink().problem(reader.line_of("paths"), &place, super::super::value::quote_text(path), expected);
    }
    good
}
