//! `[proxy]`: whose word is taken, and what is told of it.

use std::time::Duration;

use super::read::{CIDR, MAX_MS, count};
use super::{Cidr, Listener};
use crate::config::parse_host;
use crate::config::reader::Reader;
use crate::config::snapshot::Host;
use crate::http::head::is_field_name;
use crate::proxy::forwarded::{By, Forwarded};
use crate::proxy::real_ip::{RealIp, Source};
use crate::proxy_protocol::{Sends, Versions};

/// `[proxy]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proxy {
    /// `trusted_ips`: peers whose forwarding fields and PROXY headers are believed. Default: none.
    pub trusted_ips: Vec<Cidr>,
    /// `real_ip_header`, default `X-Real-IP`, and `real_ip_recursive`, default false: which of their fields names the
    /// client, and how it is read.
    pub real_ip: RealIp,
    /// `forwarded`, default false: whether the edge tells the way in `Forwarded` (RFC 7239), too; and `forwarded_by`, how
    /// it names itself there: by its `address`, or by a name that begins with `_`. Default: not at all.
    pub forwarded: Forwarded,
    /// `[[proxy.upstreams]]`: what connections to upstreams begin with. Default: with nothing of the edge's.
    pub upstreams: Vec<UpstreamHost>,
    /// `expose_reason`: tell every client in `Proxy-Status` why it was refused. Default false: trusted peers only.
    pub expose_reason: bool,
    /// `upgrades`: protocols a client may switch to once the upstream agrees. Default: websocket.
    pub upgrades: Vec<String>,
    /// `upstream_http2`: offer HTTP/2 to upstreams over TLS. Default false; gRPC services speak it always.
    pub upstream_http2: bool,
    /// `upstream_keepalive_*`: which HTTP/1 connections to upstreams are kept.
    pub keepalive: Keepalive,
    /// `cut_at_expiry`: end a WebSocket or other upgraded connection when its token expires (P8); responses that are
    /// under way come to their end. Default true.
    pub cut_at_expiry: bool,
    /// `max_over_exp`: how much longer than its token's `exp` it may live, in seconds. Default 0.
    pub max_over_exp: Duration,
}

/// Which connections to upstreams are kept for other requests, by kong.conf's names (F5: OneConnect).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Keepalive {
    /// `upstream_keepalive_pool_size`: idle ones for each address and worker. Default 512.
    pub pool_size: usize,
    /// `upstream_keepalive_max_requests`: requests over one; 0 is no limit. Default 10000.
    pub max_requests: u32,
    /// `upstream_keepalive_idle_timeout`: seconds without a request. Default 55: servers usually close at 60 or later.
    pub idle_timeout: Duration,
    /// `upstream_keepalive_max_age`, not kong.conf's: seconds since it was opened. Default 0: no limit.
    pub max_age: Option<Duration>,
}

/// `[[proxy.upstreams]]`: how the services of one `host` are spoken to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UpstreamHost {
    /// `host`: as the services have it, be it that of an upstream entity. Required.
    pub host: Host,
    /// `proxy_protocol`: `v1` or `v2`: every connection begins with a PROXY header. Required.
    pub proxy_protocol: Sends,
}

impl Proxy {
    /// The PROXY header that connections to this host begin with.
    pub fn sends_to(&self, host: &Host) -> Option<Sends> {
        self.upstreams.iter().find(|upstream| upstream.host == *host).map(|upstream| upstream.proxy_protocol)
    }
}

/// Reads the section, beside these listeners.
pub(super) fn proxy(reader: &mut Reader<'_>, listeners: &[Listener]) -> Proxy {
    let trusted_ips = reader.parsed_list("trusted_ips", CIDR, Cidr::parse).unwrap_or_default();
    let real_ip = real_ip(reader, listeners, !trusted_ips.is_empty());
    Proxy {
        trusted_ips,
        real_ip,
        forwarded: forwarded(reader),
        upstreams: upstreams(reader),
        expose_reason: reader.bool("expose_reason").unwrap_or(false),
        upgrades: reader
            .parsed_list("upgrades", "a protocol name such as websocket, but not h2c", |text| {
                (is_field_name(text.as_bytes()) && !text.eq_ignore_ascii_case("h2c")).then(|| text.to_owned())
            })
            .unwrap_or_else(|| vec!["websocket".to_owned()]),
        upstream_http2: reader.bool("upstream_http2").unwrap_or(false),
        keepalive: keepalive(reader),
        cut_at_expiry: reader.bool("cut_at_expiry").unwrap_or(true),
        max_over_exp: Duration::from_secs(count(reader, "max_over_exp", 0..=MAX_MS, 0) as u64),
    }
}

fn keepalive(reader: &mut Reader<'_>) -> Keepalive {
    let seconds = |count: usize| Duration::from_secs(count as u64);
    Keepalive {
        pool_size: count(reader, "upstream_keepalive_pool_size", 0..=65_535, 512),
        max_requests: count(reader, "upstream_keepalive_max_requests", 0..=i64::from(u32::MAX), 10_000) as u32,
        idle_timeout: seconds(count(reader, "upstream_keepalive_idle_timeout", 1..=86_400, 55)),
        max_age: Some(seconds(count(reader, "upstream_keepalive_max_age", 0..=86_400 * 365, 0)))
            .filter(|age| !age.is_zero()),
    }
}

fn upstreams(reader: &mut Reader<'_>) -> Vec<UpstreamHost> {
    const HOST: &str = "the `host` of a service";
    let mut upstreams = Vec::<UpstreamHost>::new();
    for mut section in reader.objects("upstreams") {
        let host = if section.missing("host", HOST) { None } else { section.parsed("host", HOST, parse_host) };
        let is_missing = section.missing("proxy_protocol", "`v1` or `v2`");
        let sends = if is_missing { None } else { section.word("proxy_protocol", &Sends::WORDS) };
        if let Some(host) = host.as_ref().filter(|host| upstreams.iter().any(|other| other.host == **host)) {
            section.problem("host", format!("{host} again"), "each host once");
        }
        section.finish();
        upstreams.extend(host.zip(sends).map(|(host, proxy_protocol)| UpstreamHost { host, proxy_protocol }));
    }
    upstreams
}

fn forwarded(reader: &mut Reader<'_>) -> Forwarded {
    const BY: &str = "forwarded_by";
    let is_sent = reader.bool("forwarded").unwrap_or(false);
    let by = reader.parsed(BY, By::EXPECTED, By::parse);
    if by.is_some() && !is_sent {
        reader.problem(BY, "it without `forwarded`", "`forwarded = true` beside it");
    }
    if is_sent { Forwarded::Sent(by.unwrap_or_default()) } else { Forwarded::Off }
}

fn real_ip(reader: &mut Reader<'_>, listeners: &[Listener], trusts: bool) -> RealIp {
    const KEY: &str = "real_ip_header";
    let is_told = |listener: &Listener| listener.proxy_protocol != Versions::Off;
    let source = reader.parsed(KEY, Source::EXPECTED, Source::parse);
    let recursive = reader.bool("real_ip_recursive");
    if source == Some(Source::ProxyProtocol) && !listeners.iter().any(is_told) {
        reader.problem(KEY, "`proxy_protocol`, and no listener takes it", "`proxy_protocol` at a listener");
    }
    if source == Some(Source::ProxyProtocol) && recursive == Some(true) {
        reader.warn("real_ip_recursive", "does nothing: a PROXY header names one client");
    }
    if trusts && source.is_none() && !listeners.iter().all(is_told) {
        let text =
            "nothing says which field of `trusted_ips` names the client: X-Real-IP, as in Kong, whoever wrote it";
        reader.warn(KEY, text);
    }
    RealIp { source: source.unwrap_or_default(), recursive: recursive.unwrap_or(false) }
}
