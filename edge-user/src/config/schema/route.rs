//! Routes: which requests go where.

use serde_json::json;

use super::super::reader::Reader;
use super::super::snapshot::Endpoint;
use super::{Common, Document, Ref, common, name, plugin, reference};
use crate::router::{self, Criteria, HostPattern, PathPattern, SniPattern, StreamProtocol};
use crate::settings::Cidr;

/// One route.
pub(crate) struct RouteEntity {
    pub(crate) common: Common,
    pub(crate) name: Option<String>,
    pub(crate) service: Option<Ref>,
    pub(crate) http: bool,
    pub(crate) https: bool,
    pub(crate) https_redirect_status_code: u16,
    pub(crate) criteria: Criteria,
    pub(crate) strip_path: bool,
    pub(crate) preserve_host: bool,
    /// Present where it steers connections; the fields for requests then stand at their defaults.
    pub(crate) stream: Option<StreamEntity>,
}

/// What a route for connections asks.
pub(crate) struct StreamEntity {
    pub(crate) protocols: Vec<StreamProtocol>,
    pub(crate) snis: Vec<SniPattern>,
    pub(crate) sources: Vec<Endpoint>,
    pub(crate) destinations: Vec<Endpoint>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Http,
    Https,
    Stream(StreamProtocol),
    Other,
}

const PROTOCOLS: [(&str, Protocol); 10] = [
    ("http", Protocol::Http),
    ("https", Protocol::Https),
    ("grpc", Protocol::Other),
    ("grpcs", Protocol::Other),
    ("tcp", Protocol::Stream(StreamProtocol::Tcp)),
    ("tls", Protocol::Stream(StreamProtocol::Tls)),
    ("tls_passthrough", Protocol::Stream(StreamProtocol::TlsPassthrough)),
    ("udp", Protocol::Other),
    ("ws", Protocol::Other),
    ("wss", Protocol::Other),
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
    let protocols = protocols(&mut reader);
    let stream = protocols.iter().any(|protocol| matches!(protocol, Protocol::Stream(_)));
    let stream = stream.then(|| self::stream(&mut reader, &protocols));
    let https = protocols.contains(&Protocol::Https);
    let route = RouteEntity {
        common,
        name: name(&mut reader, "name"),
        service,
        http: protocols.contains(&Protocol::Http),
        https,
        https_redirect_status_code: redirect(&mut reader),
        criteria: if stream.is_some() { Criteria::default() } else { criteria(&mut reader, https) },
        strip_path: reader.bool("strip_path").unwrap_or(true),
        preserve_host: reader.bool("preserve_host").unwrap_or(false),
        stream,
    };
    document.routes.push(route);
    // Bodies always stream, which neither value of these forbids; the priority decides among regexes alone.
    reader.bool("request_buffering");
    reader.bool("response_buffering");
    reader.integer("regex_priority", i64::MIN..=i64::MAX);
    reader.unsupported("path_handling", json!("v0"));
    let others: &[&str] =
        if document.routes[index].stream.is_some() { &[] } else { &["snis", "sources", "destinations"] };
    for key in ["headers", "expression", "priority"].iter().chain(others) {
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

fn protocols(reader: &mut Reader<'_>) -> Vec<Protocol> {
    let Some(protocols) = reader.words("protocols", &PROTOCOLS) else { return vec![Protocol::Http, Protocol::Https] };
    let group = |protocol: &Protocol| match protocol {
        Protocol::Http | Protocol::Https => 0,
        Protocol::Stream(StreamProtocol::Tcp | StreamProtocol::Tls) => 1,
        Protocol::Stream(StreamProtocol::TlsPassthrough) => 2,
        Protocol::Other => 3,
    };
    let expected = "protocols of one group: http and https, tcp and tls, or tls_passthrough";
    if protocols.contains(&Protocol::Other) {
        reader.problem("protocols", "another protocol", format!("{expected}: others are not supported yet"));
    } else if protocols.is_empty() {
        reader.problem("protocols", "an empty list", expected);
    } else if protocols.iter().any(|protocol| group(protocol) != group(&protocols[0])) {
        reader.problem("protocols", "protocols of several groups", expected);
    }
    protocols
}

fn stream(reader: &mut Reader<'_>, protocols: &[Protocol]) -> StreamEntity {
    let before = reader.sink().count();
    let taken = |protocol: &Protocol| match protocol {
        Protocol::Stream(protocol) => Some(*protocol),
        _ => None,
    };
    let entity = StreamEntity {
        protocols: protocols.iter().filter_map(taken).collect(),
        snis: reader.parsed_list("snis", "a server name, *.name or name.*", SniPattern::parse).unwrap_or_default(),
        sources: endpoints(reader, "sources"),
        destinations: endpoints(reader, "destinations"),
    };
    let missing = match entity.protocols.contains(&StreamProtocol::TlsPassthrough) {
        true => entity.snis.is_empty().then_some("must set snis when 'protocols' is 'tls_passthrough'"),
        false => (entity.snis.is_empty() && entity.sources.is_empty() && entity.destinations.is_empty())
            .then_some("must set one of 'sources', 'destinations', 'snis' when 'protocols' is 'tcp' or 'tls'"),
    };
    if let Some(missing) = missing
        && reader.sink().count() == before
    {
        reader.sink().problem(reader.line(), reader.path(), "no criterion", missing);
    }
    if !entity.snis.is_empty() && entity.protocols == [StreamProtocol::Tcp] {
        reader.problem("snis", "it without TLS", "nothing, or tls or tls_passthrough in `protocols`");
    }
    for key in ["methods", "hosts", "paths"] {
        reader.unsupported(key, json!(null));
    }
    entity
}

fn endpoints(reader: &mut Reader<'_>, key: &'static str) -> Vec<Endpoint> {
    let mut endpoints = Vec::new();
    for mut entry in reader.objects(key) {
        let network = entry.parsed("ip", "an address or a range like 10.0.0.0/8", Cidr::parse);
        let port = entry.integer("port", 0..=65535).map(|port| port as u16);
        if !entry.has("ip") && !entry.has("port") {
            entry.sink().problem(entry.line(), entry.path(), "an endpoint without `ip` and `port`", "one of them");
        }
        entry.finish();
        endpoints.push(Endpoint { network, port });
    }
    endpoints
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
