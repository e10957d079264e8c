//! Routes: which requests go where.

use serde_json::json;

use super::super::reader::Reader;
use super::super::snapshot::{Endpoint, Protocol, Protocols};
use super::{Common, Document, Ref, common, name, plugin, reference};
use crate::router::{self, Criteria, HostPattern, PathPattern, SniPattern, StreamProtocol};
use crate::settings::Cidr;

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
    pub(crate) request_buffering: bool,
    pub(crate) response_buffering: bool,
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
enum Word {
    Http,
    Https,
    Grpc,
    Grpcs,
    Stream(StreamProtocol),
    Other,
}

const PROTOCOLS: [(&str, Word); 10] = [
    ("http", Word::Http),
    ("https", Word::Https),
    ("grpc", Word::Grpc),
    ("grpcs", Word::Grpcs),
    ("tcp", Word::Stream(StreamProtocol::Tcp)),
    ("tls", Word::Stream(StreamProtocol::Tls)),
    ("tls_passthrough", Word::Stream(StreamProtocol::TlsPassthrough)),
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
    let (words, protocols) = protocols(&mut reader);
    let stream = words.iter().any(|word| matches!(word, Word::Stream(_)));
    let stream = stream.then(|| self::stream(&mut reader, &words));
    let grpc = protocols.contains(Protocol::Grpc) || protocols.contains(Protocol::Grpcs);
    let https = protocols.contains(Protocol::Https) || protocols.contains(Protocol::Grpcs);
    let route = RouteEntity {
        common,
        name: name(&mut reader, "name"),
        service,
        protocols,
        https_redirect_status_code: redirect(&mut reader),
        criteria: if stream.is_some() { Criteria::default() } else { criteria(&mut reader, https) },
        strip_path: reader.bool("strip_path").unwrap_or(true) && !grpc,
        preserve_host: reader.bool("preserve_host").unwrap_or(false),
        request_buffering: reader.bool("request_buffering").unwrap_or(true),
        response_buffering: reader.bool("response_buffering").unwrap_or(true),
        stream,
    };
    document.routes.push(route);
    // It decides among regexes alone.
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

fn protocols(reader: &mut Reader<'_>) -> (Vec<Word>, Protocols) {
    let words = reader.words("protocols", &PROTOCOLS).unwrap_or_else(|| vec![Word::Http, Word::Https]);
    let group = |word: &Word| match word {
        Word::Http | Word::Https => 0,
        Word::Grpc | Word::Grpcs => 1,
        Word::Stream(StreamProtocol::Tcp | StreamProtocol::Tls) => 2,
        Word::Stream(StreamProtocol::TlsPassthrough) => 3,
        Word::Other => 4,
    };
    let expected = "protocols of one group: http and https, grpc and grpcs, tcp and tls, or tls_passthrough";
    if words.contains(&Word::Other) {
        reader.problem("protocols", "another protocol", format!("{expected}: others are not supported yet"));
    } else if words.is_empty() {
        reader.problem("protocols", "an empty list", expected);
    } else if words.iter().any(|word| group(word) != group(&words[0])) {
        reader.problem("protocols", "protocols of several groups", expected);
    }
    let known = [
        (Word::Http, Protocol::Http),
        (Word::Https, Protocol::Https),
        (Word::Grpc, Protocol::Grpc),
        (Word::Grpcs, Protocol::Grpcs),
    ];
    let protocols = known.iter().filter(|(word, _)| words.contains(word)).map(|(_, protocol)| *protocol).collect();
    (words, protocols)
}

fn stream(reader: &mut Reader<'_>, protocols: &[Word]) -> StreamEntity {
    let before = reader.sink().count();
    let taken = |word: &Word| match word {
        Word::Stream(protocol) => Some(*protocol),
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
