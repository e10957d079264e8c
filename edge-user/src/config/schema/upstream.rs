//! Upstreams and their targets: how load is spread, and who is well enough to get some.

use std::time::Duration;

use serde_json::json;

use super::super::reader::Reader;
use super::super::snapshot::Host;
use super::super::value::{Kind, Value, join, quote_text};
use super::{Common, Ref, reference, required_reference, service};
use crate::balancer::settings::{self, Active, Algorithm, HashOn, Healthchecks, Passive, ProbeType, Thresholds};
use crate::router::is_host_name;

/// One upstream.
pub(in crate::config) struct UpstreamEntity {
    pub(in crate::config) common: Common,
    /// In lower case, as services name it; its targets are still to come.
    pub(in crate::config) settings: Option<settings::Upstream>,
    pub(in crate::config) host_header: Option<String>,
    pub(in crate::config) client_certificate: Option<Ref>,
}

/// One target.
pub(in crate::config) struct TargetEntity {
    pub(in crate::config) common: Common,
    pub(in crate::config) upstream: Ref,
    pub(in crate::config) text: String,
    pub(in crate::config) host: Host,
    pub(in crate::config) port: Option<u16>,
    pub(in crate::config) weight: u32,
}

const ALGORITHMS: [(&str, Algorithm); 4] = [
    ("round-robin", Algorithm::RoundRobin),
    ("consistent-hashing", Algorithm::ConsistentHashing),
    ("least-connections", Algorithm::LeastConnections),
    ("latency", Algorithm::Latency),
];

const PROBES: [(&str, ProbeType); 5] = [
    ("http", ProbeType::Http),
    ("https", ProbeType::Https),
    ("tcp", ProbeType::Tcp),
    ("grpc", ProbeType::Grpc),
    ("grpcs", ProbeType::Grpcs),
];

/// Reads one upstream.
pub(super) fn read(reader: &mut Reader<'_>, common: Common) -> UpstreamEntity {
    let name = name(reader);
    let (hash_on, hash_fallback) = hashing(reader);
    let algorithm = algorithm(reader, &hash_on);
    let (hash_on, hash_fallback) = match algorithm {
        Algorithm::ConsistentHashing => (hash_on, hash_fallback),
        _ => (HashOn::None, HashOn::None),
    };
    let slots = reader.integer("slots", 10..=65536).unwrap_or(10_000) as u32;
    let use_srv_name = reader.bool("use_srv_name").unwrap_or(false);
    let healthchecks = reader.object("healthchecks").map(healthchecks).unwrap_or_default();
    let host_header = reader
        .parsed("host_header", "a host, with or without :port", |text| {
            crate::router::HostPattern::parse(text).filter(|_| !text.contains('*')).map(|_| text)
        })
        .map(str::to_owned);
    let client_certificate = reference(reader, "client_certificate");
    reader.raw("targets");
    for key in ["sticky_sessions_cookie", "sticky_sessions_cookie_path"] {
        reader.unsupported(key, json!(null));
    }
    let settings = |name: String| settings::Upstream {
        name: name.into(),
        algorithm,
        hash_on,
        hash_fallback,
        slots,
        use_srv_name,
        healthchecks,
        proxy_protocol: None,
        targets: Vec::new(),
    };
    UpstreamEntity { common, settings: name.map(settings), host_header, client_certificate }
}

fn name(reader: &mut Reader<'_>) -> Option<String> {
    const EXPECTED: &str = "a host name";
    if reader.missing("name", EXPECTED) {
        return None;
    }
    let text = reader.string("name")?;
    let expected = if text.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok() {
        "a host name: no ip addresses allowed"
    } else if text.contains(':') {
        "a host name: no port allowed"
    } else if !is_host_name(text) {
        "a host name: must be a valid hostname"
    } else {
        return Some(text.to_ascii_lowercase());
    };
    reader.problem("name", quote_text(text), expected);
    None
}

/// As Kong does: to hash is to use the algorithm for it, and an algorithm that does not hash has nothing to hash on.
fn algorithm(reader: &mut Reader<'_>, hash_on: &HashOn) -> Algorithm {
    let algorithm = reader.word("algorithm", &ALGORITHMS).unwrap_or_default();
    match (algorithm, hash_on) {
        (Algorithm::RoundRobin, HashOn::None) => Algorithm::RoundRobin,
        (Algorithm::RoundRobin, _) => Algorithm::ConsistentHashing,
        (Algorithm::ConsistentHashing, HashOn::None) => {
            reader.warn("algorithm", "consistent-hashing without `hash_on` spreads as round-robin does");
            algorithm
        }
        (Algorithm::ConsistentHashing, _) | (_, HashOn::None) => algorithm,
        _ => {
            reader.warn("hash_on", "not looked at: this algorithm does not hash");
            algorithm
        }
    }
}

fn hashing(reader: &mut Reader<'_>) -> (HashOn, HashOn) {
    // All of it is read in any case: what is wrong must not show up on the day it is used.
    let is_name = |text: &str| crate::http::head::is_field_name(text.as_bytes());
    let name = reader.parsed("hash_on_cookie", "the name of a cookie", |text| is_name(text).then_some(text));
    let path = reader.parsed("hash_on_cookie_path", "a path: should start with: /", |text| {
        (text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b';')).then_some(text)
    });
    let cookie = name.map(|name| HashOn::Cookie { name: name.into(), path: path.unwrap_or("/").into() });
    let hash_on =
        hash(reader, "hash_on", ["hash_on_header", "hash_on_query_arg", "hash_on_uri_capture"], cookie.clone());
    let fields = ["hash_fallback_header", "hash_fallback_query_arg", "hash_fallback_uri_capture"];
    let fallback = hash(reader, "hash_fallback", fields, cookie);
    if fallback != HashOn::None {
        let found = "a fallback";
        match &hash_on {
            HashOn::None => reader.problem("hash_fallback", found, "none: there is no `hash_on` to fall back from"),
            HashOn::Cookie { .. } => {
                reader.problem("hash_fallback", found, "none: a cookie is there always, made where it is missing");
            }
            same if *same == fallback => {
                reader.problem("hash_fallback", "the same as `hash_on`", "something else, or none");
            }
            _ => {}
        }
    }
    (hash_on, fallback)
}

fn hash(
    reader: &mut Reader<'_>,
    key: &'static str,
    [header, argument, capture]: [&'static str; 3],
    cookie: Option<HashOn>,
) -> HashOn {
    const WORDS: [&str; 8] = ["none", "consumer", "ip", "header", "cookie", "path", "query_arg", "uri_capture"];
    let is_name = |text: &str| crate::http::head::is_field_name(text.as_bytes());
    let header_name = reader.parsed(header, "the name of a header", |text| is_name(text).then_some(text));
    let (argument_name, capture_name) = (reader.string(argument), reader.string(capture));
    let word = reader.word(key, &WORDS.map(|word| (word, word))).unwrap_or("none");
    let (field, hash) = match word {
        "consumer" => return HashOn::Consumer,
        "ip" => return HashOn::Ip,
        "path" => return HashOn::Path,
        "header" => (header, header_name.map(|name| HashOn::Header(name.to_ascii_lowercase().into()))),
        "cookie" => ("hash_on_cookie", cookie),
        "query_arg" => (argument, argument_name.map(|name| HashOn::QueryArg(name.into()))),
        "uri_capture" => (capture, capture_name.map(|name| HashOn::UriCapture(name.into()))),
        _ => return HashOn::None,
    };
    if !reader.has(field) {
        let expected = format!("it: required field missing where `{key}` is {word}");
        reader.sink().problem(reader.line_of(key), &reader.path_of(field), "nothing", expected);
    }
    hash.unwrap_or_default()
}

fn healthchecks(mut reader: Reader<'_>) -> Healthchecks {
    let healthchecks = Healthchecks {
        threshold: reader.number("threshold", 0.0..=100.0).unwrap_or(0.0),
        active: reader.object("active").map(active).unwrap_or_default(),
        passive: reader.object("passive").map(passive).unwrap_or_default(),
    };
    reader.finish();
    healthchecks
}

fn active(mut reader: Reader<'_>) -> Active {
    let defaults = Active::default();
    let probe = reader.word("type", &PROBES).unwrap_or_default();
    let timeout = seconds(&mut reader, "timeout").unwrap_or(defaults.timeout);
    let concurrency = reader.integer("concurrency", 1..=2_147_483_648).map_or(10, |count| count as u32);
    let expected = "a path: should start with: /";
    let is_path = |text: &str| text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic());
    let http_path = reader.parsed("http_path", expected, |text| is_path(text).then_some(text));
    let https_verify_certificate = reader.bool("https_verify_certificate").unwrap_or(true);
    let https_sni = reader.parsed("https_sni", "a host name", |text| is_host_name(text).then(|| text.into()));
    let headers = probe_headers(&mut reader);
    let (healthy_interval, unhealthy_interval, thresholds) = thresholds(&mut reader, defaults.thresholds.clone(), true);
    reader.finish();
    Active {
        probe,
        timeout,
        concurrency,
        http_path: http_path.map_or(defaults.http_path, Into::into),
        https_verify_certificate,
        https_sni,
        headers,
        healthy_interval,
        unhealthy_interval,
        thresholds,
    }
}

fn passive(mut reader: Reader<'_>) -> Passive {
    let probe = reader.word("type", &PROBES).unwrap_or_default();
    let (_, _, thresholds) = thresholds(&mut reader, Passive::default().thresholds, false);
    reader.finish();
    Passive { probe, thresholds }
}

fn seconds(reader: &mut Reader<'_>, key: &'static str) -> Option<Duration> {
    reader.number(key, 0.0..=65535.0).map(Duration::from_secs_f64)
}

/// Both intervals, which active checks alone have, and the counts.
fn thresholds(reader: &mut Reader<'_>, defaults: Thresholds, active: bool) -> (Duration, Duration, Thresholds) {
    let mut thresholds = defaults;
    let mut intervals = [Duration::ZERO; 2];
    let count = |reader: &mut Reader<'_>, key| reader.integer(key, 0..=255).unwrap_or(0) as u32;
    let statuses = |reader: &mut Reader<'_>| {
        let statuses = reader.integers("http_statuses", 100..=999)?;
        Some(statuses.into_iter().map(|status| status as u16).collect::<Box<[u16]>>())
    };
    if let Some(mut healthy) = reader.object("healthy") {
        if active {
            intervals[0] = seconds(&mut healthy, "interval").unwrap_or_default();
        }
        thresholds.successes = count(&mut healthy, "successes");
        thresholds.healthy_statuses = statuses(&mut healthy).unwrap_or(thresholds.healthy_statuses);
        healthy.finish();
    }
    if let Some(mut unhealthy) = reader.object("unhealthy") {
        if active {
            intervals[1] = seconds(&mut unhealthy, "interval").unwrap_or_default();
        }
        thresholds.tcp_failures = count(&mut unhealthy, "tcp_failures");
        thresholds.timeouts = count(&mut unhealthy, "timeouts");
        thresholds.http_failures = count(&mut unhealthy, "http_failures");
        thresholds.unhealthy_statuses = statuses(&mut unhealthy).unwrap_or(thresholds.unhealthy_statuses);
        unhealthy.finish();
    }
    (intervals[0], intervals[1], thresholds)
}

fn probe_headers(reader: &mut Reader<'_>) -> Vec<(Box<str>, Box<str>)> {
    const EXPECTED: &str = "an object: header names and lists of values";
    let Some(value) = reader.raw("headers") else { return Vec::new() };
    let (path, sink) = (reader.path_of("headers"), reader.sink());
    let Kind::Object(entries) = &value.kind else {
        sink.problem(value.line, &path, value.type_word(), EXPECTED);
        return Vec::new();
    };
    let mut headers = Vec::new();
    for entry in entries {
        let path = join(&path, &entry.key);
        if !crate::http::head::is_field_name(entry.key.as_bytes()) {
            sink.problem(entry.line, &path, quote_text(&entry.key), "the name of a header");
        }
        let items: &[Value] = match &entry.value.kind {
            Kind::Array(items) => items,
            _ => std::slice::from_ref(&entry.value),
        };
        for item in items {
            match &item.kind {
                Kind::String(text) if text.bytes().all(|byte| byte == b'\t' || byte >= b' ' && byte != 0x7f) => {
                    headers.push((entry.key.as_str().into(), text.as_str().into()));
                }
                _ => sink.problem(item.line, &path, item.type_word(), "a header's value, or a list of them"),
            }
        }
    }
    headers
}

/// Reads one target.
pub(super) fn target(reader: &mut Reader<'_>, common: Common) -> Option<TargetEntity> {
    const EXPECTED: &str = "a host name or address, with or without :port";
    let target = if reader.missing("target", EXPECTED) {
        None
    } else {
        reader.parsed("target", EXPECTED, |text| parse_target(text).map(|(host, port)| (text, host, port)))
    };
    let weight = reader.integer("weight", 0..=65535).unwrap_or(100) as u32;
    let upstream = required_reference(reader, "upstream", "the name or id of its upstream");
    reader.unsupported("failover", json!(false));
    let (text, host, port) = target?;
    Some(TargetEntity { common, upstream: upstream?, text: text.to_owned(), host, port, weight })
}

fn parse_target(text: &str) -> Option<(Host, Option<u16>)> {
    if let Some(host) = service::parse_host(text) {
        return Some((host, None));
    }
    let (host, port) = text.rsplit_once(':')?;
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    Some((service::parse_host(host)?, Some(port.parse().ok().filter(|port| digits && *port > 0)?)))
}
