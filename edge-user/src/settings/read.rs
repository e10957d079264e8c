//! `edge.toml` → `Settings`. A value that is wrong is reported and stands at its default, so that reading goes on.

use std::collections::HashSet;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::clients::{clients, hosts};
use super::dns::dns;
use super::identity::identity;
use super::key_sets::key_sets;
use super::penalty::penalty;
use super::proxy::proxy;
use super::secrets::secrets;
use super::tls::tls;
use super::{
    Admin, Cidr, Control, Echo, Entities, Issuers, Kernel, KernelMode, KernelReject, Level, Limits, Listener, Log,
    LogTarget, Mode, PairFiles, PortRange, Process, Settings, Store, Timeouts, Verdicts, Workers,
};
use crate::config::problem::{Problem, Sink};
use crate::config::reader::Reader;
use crate::config::value::{Kind, Value, quote_text};
use crate::http::h2::MAX_STREAMS;
use crate::proxy_protocol::Versions;

const LEVELS: [(&str, Level); 9] = [
    ("debug", Level::Debug),
    ("info", Level::Info),
    ("notice", Level::Info),
    ("warn", Level::Warn),
    ("warning", Level::Warn),
    ("error", Level::Error),
    ("crit", Level::Error),
    ("alert", Level::Error),
    ("emerg", Level::Error),
];
pub(super) const CIDR: &str = "an address or a range like 10.0.0.0/8";
/// The longest wait: what fits a signed 32-bit count of milliseconds, as Kong's time-outs do.
pub(super) const MAX_MS: i64 = i32::MAX as i64;

/// Reads a settings file and what the environment says. The settings are good only without problems.
pub(crate) fn read(path: &Path, env: impl Fn(&str) -> Option<String>) -> (Settings, Vec<Problem>) {
    read_text(fs::read_to_string(path), path, env)
}

/// As `read`, of a text that was read from `path` or could not be.
pub(crate) fn read_text(
    text: std::io::Result<String>,
    path: &Path,
    env: impl Fn(&str) -> Option<String>,
) -> (Settings, Vec<Problem>) {
    let name = path.display().to_string();
    let sink = Sink::new(&name);
    let base = path.parent().unwrap_or(Path::new(""));
    let nothing = Value { line: 0, kind: Kind::Object(Vec::new()) };
    let value = match text {
        Ok(text) => Value::from_toml(&text, &sink),
        Err(error) => {
            sink.problem(0, "", format!("no readable file ({error})"), "the settings of the edge");
            None
        }
    };
    let readable = value.is_some();
    let reader = match Reader::new(value.as_ref().unwrap_or(&nothing), "", &sink) {
        Some(reader) => reader,
        None => Reader::empty(0, "", &sink),
    };
    let mut settings = settings(reader, base, readable, &env);
    let (problems, warnings) = sink.into_parts();
    settings.warnings = warnings;
    settings.file = name;
    (settings, problems)
}

fn settings(mut reader: Reader<'_>, base: &Path, readable: bool, env: &impl Fn(&str) -> Option<String>) -> Settings {
    let listeners = listeners(&mut reader, base, readable);
    let mut settings = Settings {
        file: String::new(),
        process: section(&mut reader, "process", |r| Process {
            user: r.string("user").map(str::to_owned),
            control: match r.string("control") {
                None => Control::Default(resolve_path(base, "edge.sock")),
                Some("off") => Control::Off,
                Some(path) => Control::At(resolve_path(base, path)),
            },
        }),
        workers: section(&mut reader, "workers", |r| Workers { count: count(r, "count", 0..=1024, 0) }),
        entities: section(&mut reader, "entities", |r| Entities {
            file: resolve_path(base, r.string("file").unwrap_or("kong.yaml")),
        }),
        kernel: section(&mut reader, "kernel", |r| kernel(r, base)),
        tls: section(&mut reader, "tls", |r| tls(r, base)),
        proxy: section(&mut reader, "proxy", |r| proxy(r, &listeners)),
        limits: section(&mut reader, "limits", limits),
        timeouts: section(&mut reader, "timeouts", timeouts),
        dns: section(&mut reader, "dns", |r| dns(r, base)),
        verdicts: section(&mut reader, "verdicts", |r| Verdicts {
            cache_bytes: count(r, "cache_bytes", 0..=1 << 40, 64 << 20),
        }),
        issuers: section(&mut reader, "issuers", |r| Issuers {
            allow_http: r
                .parsed_list("allow_http", "a host name or address, without port", |text| {
                    is_host(text).then(|| text.to_ascii_lowercase())
                })
                .unwrap_or_default(),
        }),
        store: section(&mut reader, "store", |r| Store {
            path: resolve_path(base, r.string("path").unwrap_or("edge.db")),
        }),
        secrets: section(&mut reader, "secrets", |r| secrets(r, base, env)),
        key_sets: section(&mut reader, "key_sets", key_sets),
        log: section(&mut reader, "log", |r| log(r, base, env)),
        admin: section(&mut reader, "admin", admin),
        identity: reader.object("identity").and_then(|section| identity(section, base)),
        echo: reader.object("echo").and_then(echo),
        listeners,
        warnings: Vec::new(),
    };
    settings.kernel.pin_owner.clone_from(&settings.process.user);
    settings.kernel.has_vips = settings.listeners.iter().any(Listener::has_vips);
    settings.kernel.rejects = settings.listeners.iter().any(|one| one.kernel_reject != KernelReject::Off);
    settings.kernel.keeps = settings.listeners.iter().any(|one| one.kernel_reject == KernelReject::Kept);
    let (kernel, is_off) = (&settings.kernel, settings.kernel.mode == KernelMode::Off);
    if kernel.rejects && !is_off && kernel.interfaces.is_empty() {
        reader.problem("listeners", "`kernel_reject` without an interface", "the interfaces in `kernel.interfaces`");
    }
    if settings.proxy.trusted_ips.is_empty() && settings.listeners.iter().any(|one| one.proxy_protocol != Versions::Off)
    {
        reader.problem(
            "listeners",
            "`proxy_protocol` without a peer that may speak it",
            "peers in `proxy.trusted_ips`",
        );
    }
    if kernel.has_vips && is_off {
        reader.problem("listeners", "`vips` without kernel programs", "another `kernel.mode` than \"off\"");
    }
    if kernel.keeps && !is_off {
        reader.warn("listeners", "kernel_reject \"kept\" is an experiment: \"first\" is not");
    }
    // These change speed alone, so the switch may be turned beside them.
    let idle =
        [(kernel.lanes, "kernel.lanes"), (kernel.pin.is_some(), "kernel.pin"), (kernel.rejects, "kernel_reject")];
    for (_, name) in idle.into_iter().filter(|(is_set, _)| *is_set && is_off) {
        reader.warn("kernel", &format!("{name} does nothing while kernel.mode is \"off\""));
    }
    reader.finish();
    settings
}

fn section<T>(reader: &mut Reader<'_>, key: &'static str, read: impl FnOnce(&mut Reader<'_>) -> T) -> T {
    let mut section = reader.object(key).unwrap_or_else(|| Reader::empty(reader.line(), key, reader.sink()));
    let value = read(&mut section);
    section.finish();
    value
}

fn listeners(reader: &mut Reader<'_>, base: &Path, readable: bool) -> Vec<Listener> {
    let sections = reader.objects("listeners");
    if sections.is_empty() && readable {
        reader.problem("listeners", "none", "at least one [[listeners]] with an address");
    }
    let mut taken = HashSet::new();
    let mut listeners = Vec::new();
    for mut section in sections {
        let address = if section.missing("address", ADDRESS) { None } else { address(&mut section, "address") };
        if let Some(address) = address
            && address.port() != 0
            && !taken.insert(address)
        {
            section.problem("address", format!("{address} again"), "each address once");
        }
        let mode = section.word("mode", &[("http", Mode::Http), ("stream", Mode::Stream)]).unwrap_or(Mode::Http);
        let tls = section.bool("tls").unwrap_or(false);
        let file = |reader: &mut Reader<'_>, key| {
            let path = reader.string(key).map(|path| resolve_path(base, path));
            if path.is_some() && !tls {
                reader.problem(key, "it without TLS", "`tls = true` beside it");
            }
            path
        };
        let (certificate, key) = (file(&mut section, "certificate"), file(&mut section, "key"));
        let pair = match (certificate, key) {
            (Some(certificate), Some(key)) => Some(PairFiles { certificate, key }),
            (None, None) => None,
            (Some(_), None) => {
                section.problem("key", "nothing", "the key of `certificate`");
                None
            }
            (None, Some(_)) => {
                section.problem("certificate", "nothing", "the certificate of `key`");
                None
            }
        };
        let can_ask = tls && mode == Mode::Http;
        let (clients, hosts) = (clients(&mut section, base, can_ask), hosts(&mut section, base, can_ask));
        let vips = section.parsed_list("vips", CIDR, Cidr::parse).unwrap_or_default();
        let ports = ports(&mut section, address, !vips.is_empty());
        if let Some(wrong) = address.and_then(|address| vips.iter().find(|range| !can_lead_to(range, address))) {
            section.problem(
                "vips",
                wrong.to_string(),
                "ranges of the address family of `address`, or `[::]`, which takes both",
            );
        }
        let kernel_reject = kernel_reject(&mut section, mode, tls);
        let proxy_protocol = section.word("proxy_protocol", &Versions::WORDS).unwrap_or_default();
        if proxy_protocol != Versions::Off && kernel_reject != KernelReject::Off {
            section.problem(
                "kernel_reject",
                "it beside `proxy_protocol`",
                "one of them: the kernel reads no PROXY header",
            );
        }
        let line = section.line();
        section.finish();
        listeners.extend(address.map(|address| Listener {
            address,
            mode,
            tls,
            line,
            pair,
            clients,
            hosts,
            kernel_reject,
            proxy_protocol,
            vips,
            ports,
        }));
    }
    listeners
}

/// Whether the kernel refuses requests at a listener.
fn kernel_reject(section: &mut Reader<'_>, mode: Mode, tls: bool) -> KernelReject {
    const KEY: &str = "kernel_reject";
    let words = [("off", KernelReject::Off), ("first", KernelReject::First), ("kept", KernelReject::Kept)];
    let wanted = section.word(KEY, &words).unwrap_or_default();
    if wanted != KernelReject::Off && (tls || mode != Mode::Http) {
        section.problem(
            KEY,
            "it where the kernel cannot read requests: TLS ends in userspace, and streams are none",
            "a listener in clear text, as behind a TLS terminator",
        );
    }
    wanted
}

/// Whether connections to this range can reach a socket of this address: the kernel takes one bound to a single IPv6
/// address for IPv6 alone.
fn can_lead_to(range: &Cidr, address: SocketAddr) -> bool {
    address.is_ipv6() && address.ip().is_unspecified() || address.is_ipv4() == range.address().is_ipv4()
}

/// The ports of a listener's virtual addresses.
fn ports(section: &mut Reader<'_>, address: Option<SocketAddr>, has_vips: bool) -> Vec<PortRange> {
    let is_named = section.has("ports");
    let ports =
        section.parsed_list("ports", "a port or a range of them, like \"443\" or \"8000-8099\"", PortRange::parse);
    if ports.is_some() && !has_vips {
        section.problem("ports", "it without virtual addresses", "`vips` beside it");
    }
    match (ports, address) {
        (Some(ports), _) => ports,
        (None, Some(address)) if has_vips && !is_named && address.port() != 0 => vec![PortRange::one(address.port())],
        (None, Some(_)) if has_vips && !is_named => {
            section.problem("ports", "nothing, and `address` leaves the port to the system", "the ports of `vips`");
            Vec::new()
        }
        _ => Vec::new(),
    }
}

fn kernel(reader: &mut Reader<'_>, base: &Path) -> Kernel {
    let modes = [("off", KernelMode::Off), ("auto", KernelMode::Auto), ("required", KernelMode::Required)];
    // IFNAMSIZ: 15 bytes and a NUL; `/` and white space are refused by the kernel (dev_valid_name).
    let is_interface = |text: &str| {
        text.len() < 16
            && text != "."
            && text != ".."
            && !text.contains(|c: char| c == '/' || c == ':' || c.is_whitespace())
    };
    Kernel {
        mode: reader.word("mode", &modes).unwrap_or(KernelMode::Auto),
        interfaces: reader
            .parsed_list("interfaces", "the name of a network interface", |text| {
                is_interface(text).then(|| text.to_owned())
            })
            .unwrap_or_default(),
        deny: reader.parsed_list("deny", CIDR, Cidr::parse).unwrap_or_default(),
        pin: reader.string("pin").map(|path| resolve_path(base, path)),
        pin_owner: None,
        lanes: reader.bool("lanes").unwrap_or(false),
        has_vips: false,
        rejects: false,
        keeps: false,
        penalty: section(reader, "penalty", penalty),
    }
}

fn limits(reader: &mut Reader<'_>) -> Limits {
    Limits {
        head_bytes: count(reader, "head_bytes", 1024..=1 << 20, 32768),
        fields: count(reader, "fields", 8..=1000, 64),
        body_bytes: count(reader, "body_bytes", 0..=1 << 50, 0) as u64,
        buffer_bytes: count(reader, "buffer_bytes", 4096..=1 << 30, 1 << 20),
        buffered_bytes: count(reader, "buffered_bytes", 0..=1 << 50, 256 << 20),
        connections: count(reader, "connections", 1..=10_000_000, 100_000),
        connections_per_source: count(reader, "connections_per_source", 0..=10_000_000, 0) as u32,
        requests_per_connection: count(reader, "requests_per_connection", 0..=1 << 40, 0) as u64,
        streams: count(reader, "streams", 1..=i64::from(MAX_STREAMS), 128) as u32,
        upstream_requests: count(reader, "upstream_requests", 0..=1_000_000, 0) as u32,
        upstream_queue: count(reader, "upstream_queue", 0..=1_000_000, 1000) as u32,
    }
}

fn timeouts(reader: &mut Reader<'_>) -> Timeouts {
    let ms = |count: usize| Duration::from_millis(count as u64);
    let mut wait = |key, default| ms(count(reader, key, 1..=MAX_MS, default));
    Timeouts {
        handshake: wait("handshake", 10_000),
        request_head: wait("request_head", 10_000),
        idle: wait("idle", 75_000),
        request_body: wait("request_body", 60_000),
        response_write: wait("response_write", 60_000),
        tunnel_idle: wait("tunnel_idle", 3_600_000),
        resolve: wait("resolve", 5_000),
        key_wait: wait("key_wait", 5_000),
        upstream_queue: wait("upstream_queue", 5_000),
        drain: wait("drain", 30_000),
        request_total: Some(ms(count(reader, "request_total", 0..=MAX_MS, 0))).filter(|wait| !wait.is_zero()),
    }
}

fn log(reader: &mut Reader<'_>, base: &Path, env: &impl Fn(&str) -> Option<String>) -> Log {
    let mut level = reader.word("level", &LEVELS).unwrap_or(Level::Info);
    for name in ["KONG_LOG_LEVEL", "EDGE_LOG_LEVEL"] {
        let Some(word) = env(name).filter(|word| !word.is_empty()) else { continue };
        match LEVELS.iter().find(|(known, _)| *known == word) {
            Some((_, said)) => level = *said,
            None => {
                let words: Vec<_> = LEVELS.iter().map(|(word, _)| *word).collect();
                let expected = format!("one of: {}", words.join(", "));
                reader.sink().problem(0, &format!("environment {name}"), quote_text(&word), expected);
            }
        }
    }
    let target = |word: &str| match word {
        "stdout" => LogTarget::Stdout,
        "stderr" => LogTarget::Stderr,
        "off" => LogTarget::Off,
        path => LogTarget::File(resolve_path(base, path)),
    };
    Log {
        level,
        access: reader.string("access").map_or(LogTarget::Stdout, target),
        error: reader.string("error").map_or(LogTarget::Stderr, target),
    }
}

fn admin(reader: &mut Reader<'_>) -> Option<Admin> {
    let off = reader.raw("address").is_some_and(|value| value.kind == Kind::String("off".to_owned()));
    let default = SocketAddr::from(([127, 0, 0, 1], 8001));
    let address = if off { None } else { Some(address(reader, "address").unwrap_or(default)) };
    let allow_remote = reader.bool("allow_remote").unwrap_or(false);
    let address = address?;
    if !address.ip().to_canonical().is_loopback() {
        if allow_remote {
            reader.warn("address", "the Admin API has no authentication, and others than this host may reach it");
        } else {
            reader.problem("address", address.to_string(), "a loopback address, or `allow_remote = true`");
        }
    }
    Some(Admin { address })
}

fn echo(mut reader: Reader<'_>) -> Option<Echo> {
    let address = if reader.missing("address", ADDRESS) { None } else { address(&mut reader, "address") };
    reader.finish();
    address.map(|address| Echo { address })
}

const ADDRESS: &str = "an IP address with a port, like 127.0.0.1:8000";

pub(super) fn address(reader: &mut Reader<'_>, key: &'static str) -> Option<SocketAddr> {
    reader.parsed(key, ADDRESS, |text| text.parse().ok())
}

pub(super) fn count(reader: &mut Reader<'_>, key: &'static str, range: RangeInclusive<i64>, default: usize) -> usize {
    reader.integer(key, range).map_or(default, |count| count as usize)
}

/// A path of the file, relative to the file.
pub(super) fn resolve_path(base: &Path, path: &str) -> PathBuf {
    base.join(path)
}

pub(super) fn is_http_url(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|rest| {
        let authority = rest.split('/').next().unwrap_or_default();
        !authority.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#\"<>\\^`{|}@".contains(&byte))
    })
}

/// A host name or an address literal (IPv6 with or without brackets).
fn is_host(text: &str) -> bool {
    let name = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    name || text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok()
}
