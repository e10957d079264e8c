//! Services: where requests go.

use serde_json::json;

use super::super::reader::Reader;
use super::super::snapshot::{Host, Scheme};
use super::{Common, Document, common, name, plugin, route};
use crate::router;
use crate::tls::Verify;

/// One service, its `url` taken apart.
pub(crate) struct ServiceEntity {
    pub(crate) common: Common,
    pub(crate) name: Option<String>,
    pub(crate) enabled: bool,
    pub(crate) target: Option<Target>,
    pub(crate) retries: u32,
    pub(crate) connect_timeout_ms: u64,
    pub(crate) write_timeout_ms: u64,
    pub(crate) read_timeout_ms: u64,
    pub(crate) verify: Verify,
}

/// Protocol, host, port and path of a service.
pub(crate) struct Target {
    pub(crate) scheme: Scheme,
    pub(crate) host: Host,
    pub(crate) port: u16,
    pub(crate) path: Option<String>,
}

const HOST: &str = "a host name or address, without port";
const PATH: &str = "a normal path: should start with: /, and have no //, dot segments or raw special characters";
const SCHEMES: [(&str, Option<Scheme>); 10] = [
    ("http", Some(Scheme::Http)),
    ("https", Some(Scheme::Https)),
    ("grpc", Some(Scheme::Grpc)),
    ("grpcs", Some(Scheme::Grpcs)),
    ("tcp", Some(Scheme::Tcp)),
    ("tls", Some(Scheme::Tls)),
    ("tls_passthrough", Some(Scheme::TlsPassthrough)),
    ("udp", None),
    ("ws", None),
    ("wss", None),
];

/// Reads one service with everything inside it.
pub(super) fn read<'a>(mut reader: Reader<'a>, document: &mut Document<'a>) {
    let index = document.services.len();
    let common = common(&mut reader);
    let name = name(&mut reader, "name");
    let target = if reader.has("url") { from_url(&mut reader) } else { from_fields(&mut reader) };
    let ms = |reader: &mut Reader<'_>, key| reader.integer(key, 1..=2_147_483_646).unwrap_or(60_000) as u64;
    let service = ServiceEntity {
        common,
        name,
        enabled: reader.bool("enabled").unwrap_or(true),
        retries: reader.integer("retries", 0..=32767).unwrap_or(5) as u32,
        connect_timeout_ms: ms(&mut reader, "connect_timeout"),
        write_timeout_ms: ms(&mut reader, "write_timeout"),
        read_timeout_ms: ms(&mut reader, "read_timeout"),
        verify: verify(&mut reader, target.as_ref()),
        target,
    };
    document.services.push(service);
    for key in ["client_certificate", "tls_verify_depth", "ca_certificates", "tls_sans"] {
        reader.unsupported(key, json!(null));
    }
    for route in reader.objects("routes") {
        route::read(route, Some(index), document);
    }
    for entry in reader.objects("plugins") {
        document.plugins.extend(plugin(entry, Some(index), None));
    }
    reader.finish();
}

fn verify(reader: &mut Reader<'_>, target: Option<&Target>) -> Verify {
    let Some(verify) = reader.bool("tls_verify") else { return Verify::Full };
    if target.is_some_and(|target| !target.scheme.is_tls()) {
        let expected = "nothing: value must be null unless the protocol is https, grpcs or tls";
        reader.problem("tls_verify", verify.to_string(), expected);
    }
    if verify {
        return Verify::Full;
    }
    reader.warn("tls_verify", "the upstream's certificate is not verified");
    Verify::Off
}

fn from_fields(reader: &mut Reader<'_>) -> Option<Target> {
    reader.raw("url");
    let scheme = match reader.word("protocol", &SCHEMES) {
        Some(None) => {
            reader.problem(
                "protocol",
                "another protocol than http",
                "http, https, tcp, tls or tls_passthrough: others are not supported yet",
            );
            None
        }
        Some(scheme) => scheme,
        None => Some(Scheme::Http),
    };
    let host = if reader.missing("host", HOST) { None } else { reader.parsed("host", HOST, parse_host) };
    let port = reader.integer("port", 0..=65535).unwrap_or(80) as u16;
    let path = reader.parsed("path", PATH, |path| router::is_normalized(path).then(|| path.to_owned()));
    if path.is_some() && scheme.is_some_and(Scheme::is_stream) {
        reader.problem("path", "it for connections", "nothing: value must be null with tcp, tls or tls_passthrough");
    }
    Some(Target { scheme: scheme?, host: host?, port, path })
}

fn from_url(reader: &mut Reader<'_>) -> Option<Target> {
    for key in ["protocol", "host", "port", "path"] {
        if reader.raw(key).is_some() {
            reader.problem(key, "it beside `url`", "one of the two");
        }
    }
    let expected = "a URL like https://host:port/path, with http, https, tcp or tls, a normal path and no query";
    reader.parsed("url", expected, parse_url)
}

fn parse_url(url: &str) -> Option<Target> {
    let (scheme, rest) = match url.split_once("://")? {
        ("http", rest) => (Scheme::Http, rest),
        ("https", rest) => (Scheme::Https, rest),
        ("grpc", rest) => (Scheme::Grpc, rest),
        ("grpcs", rest) => (Scheme::Grpcs, rest),
        ("tcp", rest) => (Scheme::Tcp, rest),
        ("tls", rest) => (Scheme::Tls, rest),
        ("tls_passthrough", rest) => (Scheme::TlsPassthrough, rest),
        _ => return None,
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if !path.is_empty() && (scheme.is_stream() || !router::is_normalized(path)) {
        return None;
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => {
            let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
            (host, port.parse().ok().filter(|_| digits)?)
        }
        _ => (authority, scheme.default_port()),
    };
    Some(Target { scheme, host: parse_host(host)?, port, path: (!path.is_empty()).then(|| path.to_owned()) })
}

fn parse_host(text: &str) -> Option<Host> {
    let bare = text.strip_prefix('[').map_or(Some(text), |rest| rest.strip_suffix(']'))?;
    if let Ok(address) = bare.parse() {
        return Some(Host::Ip(address));
    }
    router::is_host_name(text).then(|| Host::Name(text.to_ascii_lowercase().into()))
}
