//! Services: where requests go.

use serde_json::json;

use super::super::reader::Reader;
use super::super::snapshot::{Host, Protocol, Scheme};
use super::{Common, Ref, must_be_null, name, reference};
use crate::router;
use crate::tls::Verify;

/// One service.
pub(in crate::config) struct ServiceEntity {
    pub(in crate::config) common: Common,
    pub(in crate::config) name: Option<String>,
    pub(in crate::config) enabled: bool,
    pub(in crate::config) target: Option<Target>,
    pub(in crate::config) retries: u32,
    pub(in crate::config) connect_timeout_ms: u64,
    pub(in crate::config) write_timeout_ms: u64,
    pub(in crate::config) read_timeout_ms: u64,
    pub(in crate::config) verify: Verify,
    pub(in crate::config) verify_depth: Option<u8>,
    pub(in crate::config) client_certificate: Option<Ref>,
    /// `None`: the public roots and the system's.
    pub(in crate::config) ca_certificates: Option<Vec<Ref>>,
}

/// Protocol, host, port and path of a service.
pub(in crate::config) struct Target {
    pub(in crate::config) scheme: Scheme,
    pub(in crate::config) host: Host,
    pub(in crate::config) port: u16,
    pub(in crate::config) path: Option<String>,
}

/// A `url` taken apart.
pub(in crate::config) struct Url {
    pub(in crate::config) protocol: &'static str,
    pub(in crate::config) host: String,
    pub(in crate::config) port: u16,
    pub(in crate::config) path: Option<String>,
}

const HOST: &str = "a host name or address, without port";
const PATH: &str = "a normal path: should start with: /, and have no //, dot segments or raw special characters";

/// Reads one service.
pub(super) fn read(reader: &mut Reader<'_>, common: Common) -> ServiceEntity {
    let name = name(reader, "name");
    let target = if reader.has("url") { refused_url(reader) } else { from_fields(reader) };
    let ms = |reader: &mut Reader<'_>, key| reader.integer(key, 1..=2_147_483_646).unwrap_or(60_000) as u64;
    let service = ServiceEntity {
        common,
        name,
        enabled: reader.bool("enabled").unwrap_or(true),
        retries: reader.integer("retries", 0..=32767).unwrap_or(5) as u32,
        connect_timeout_ms: ms(reader, "connect_timeout"),
        write_timeout_ms: ms(reader, "write_timeout"),
        read_timeout_ms: ms(reader, "read_timeout"),
        verify: verify(reader),
        verify_depth: reader.integer("tls_verify_depth", 0..=64).map(|depth| depth as u8),
        client_certificate: reference(reader, "client_certificate"),
        ca_certificates: authorities(reader),
        target,
    };
    if service.target.as_ref().is_some_and(|target| !target.scheme.is_tls()) {
        for key in ["tls_verify", "tls_verify_depth", "client_certificate", "ca_certificates"] {
            must_be_null(reader, key, "value must be null unless the protocol is https, grpcs or tls");
        }
    }
    reader.unsupported("tls_sans", json!(null));
    for key in ["url", "routes", "plugins"] {
        reader.raw(key);
    }
    service
}

fn verify(reader: &mut Reader<'_>) -> Verify {
    match reader.bool("tls_verify") {
        Some(false) => {
            reader.warn("tls_verify", "the upstream's certificate is not verified");
            Verify::Off
        }
        _ => Verify::Full,
    }
}

fn authorities(reader: &mut Reader<'_>) -> Option<Vec<Ref>> {
    let (line, path) = (reader.line_of("ca_certificates"), reader.path_of("ca_certificates"));
    let ids = reader.strings("ca_certificates")?;
    let reference = |(index, id): (usize, &str)| Ref { text: id.to_owned(), line, path: format!("{path}[{index}]") };
    Some(ids.into_iter().enumerate().map(reference).collect())
}

fn scheme(reader: &mut Reader<'_>) -> Option<Scheme> {
    let protocol = reader.word("protocol", &Protocol::ALL)?;
    if let Some(instead) = protocol.instead() {
        reader.problem("protocol", "a protocol the edge does not speak", instead);
    }
    Scheme::of(protocol)
}

fn from_fields(reader: &mut Reader<'_>) -> Option<Target> {
    let scheme = scheme(reader);
    let host = if reader.missing("host", HOST) { None } else { reader.parsed("host", HOST, parse_host) };
    let port = reader.integer("port", 0..=65535).unwrap_or(80) as u16;
    let path = reader.parsed("path", PATH, |path| router::is_normalized(path).then(|| path.to_owned()));
    let scheme = scheme?;
    if path.is_some() && !matches!(scheme, Scheme::Http | Scheme::Https) {
        must_be_null(reader, "path", "value must be null unless the protocol is http or https");
    }
    Some(Target { scheme, host: host?, port, path })
}

/// A `url` that `normal` left: it is none, or stands beside what it would set.
fn refused_url(reader: &mut Reader<'_>) -> Option<Target> {
    let mut beside = false;
    for key in ["host", "path", "protocol", "port"] {
        // The defaults of these two are there in any case; only what differs was written by somebody.
        let default = match key {
            "protocol" => json!("http"),
            "port" => json!(80),
            _ => json!(null),
        };
        if reader.raw(key).is_some_and(|value| !value.is_json(&default)) {
            reader.problem(key, "it beside `url`", "one of the two");
            beside = true;
        }
    }
    let expected = "a URL like https://host:port/path, with a service's protocol, a normal path and no query";
    let url = reader.parsed("url", expected, parse_url);
    if url.is_some() && !beside {
        reader.problem("url", "`protocol` or `port` beside it", "one of the two");
    }
    None
}

/// Takes a `url` apart.
pub(in crate::config) fn parse_url(url: &str) -> Option<Url> {
    let (name, rest) = url.split_once("://")?;
    let (protocol, known) = Protocol::ALL.iter().find(|(known, _)| *known == name)?;
    let scheme = Scheme::of(*known)?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if !path.is_empty() && !router::is_normalized(path) {
        return None;
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => {
            let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
            (host, port.parse().ok().filter(|_| digits)?)
        }
        _ => (authority, scheme.default_port()),
    };
    parse_host(host)?;
    Some(Url { protocol, host: host.to_owned(), port, path: (!path.is_empty()).then(|| path.to_owned()) })
}

/// A name or address, IPv6 with or without brackets.
pub(crate) fn parse_host(text: &str) -> Option<Host> {
    let bare = text.strip_prefix('[').map_or(Some(text), |rest| rest.strip_suffix(']'))?;
    if let Ok(address) = bare.parse() {
        return Some(Host::Ip(address));
    }
    router::is_host_name(text).then(|| Host::Name(text.to_ascii_lowercase().into()))
}
