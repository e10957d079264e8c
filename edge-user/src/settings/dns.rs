//! `[dns]`: how names of targets become addresses. Named after kong.conf, without its prefix.

use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::read::resolve_path;
use crate::config::reader::Reader;

/// `[dns]`. How long a request waits is `timeouts.resolve`. Times are in seconds and may have a fraction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dns {
    /// `nameservers`: IP addresses, port 53 unless given; names are then asked for as they stand. Default: those of
    /// resolv.conf, with its search list.
    pub nameservers: Vec<SocketAddr>,
    /// `hosts_file`: names that need no server; read at the start. Default: the system's.
    pub hosts_file: Option<PathBuf>,
    /// `order`: the record types asked for; the first with an answer wins. Default SRV, A, AAAA.
    pub order: Vec<RecordType>,
    /// `valid_ttl`: how long answers are good, in place of their own TTL. Default: their own, at least a second.
    pub valid_ttl: Option<Duration>,
    /// `stale_ttl`: how long an old answer serves on while no server answers. Default 3600.
    pub stale_ttl: Duration,
    /// `not_found_ttl`: how long it is believed that a name does not exist. Default 30.
    pub not_found_ttl: Duration,
    /// `error_ttl`: how long nobody is asked again after a failure. Default 1.
    pub error_ttl: Duration,
    /// `cache_size`: names kept; the one unused for longest goes. Default 10000.
    pub cache_size: usize,
}

/// A type of record that leads to addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RecordType {
    /// Names with ports and weights (RFC 2782).
    Srv,
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
}

impl Default for Dns {
    fn default() -> Self {
        Self {
            nameservers: Vec::new(),
            hosts_file: None,
            order: vec![RecordType::Srv, RecordType::A, RecordType::Aaaa],
            valid_ttl: None,
            stale_ttl: Duration::from_secs(3600),
            not_found_ttl: Duration::from_secs(30),
            error_ttl: Duration::from_secs(1),
            cache_size: 10_000,
        }
    }
}

/// Shorter than a tenth of a second a name could hammer its servers.
const SHORTEST: f64 = 0.1;
/// 68 years: what a TTL can say (RFC 2181, 8).
const LONGEST: f64 = i32::MAX as f64;

pub(super) fn dns(reader: &mut Reader<'_>, base: &Path) -> Dns {
    let default = Dns::default();
    let mut seconds = |key, shortest| reader.number(key, shortest..=LONGEST).map(Duration::from_secs_f64);
    let valid_ttl = seconds("valid_ttl", SHORTEST);
    let stale_ttl = seconds("stale_ttl", 0.0).unwrap_or(default.stale_ttl);
    let not_found_ttl = seconds("not_found_ttl", SHORTEST).unwrap_or(default.not_found_ttl);
    let error_ttl = seconds("error_ttl", SHORTEST).unwrap_or(default.error_ttl);
    Dns {
        nameservers: reader
            .parsed_list("nameservers", "an IP address, with or without a port, like 10.0.0.2:53", nameserver)
            .unwrap_or_default(),
        hosts_file: hosts_file(reader, base),
        order: order(reader).unwrap_or(default.order),
        valid_ttl,
        stale_ttl,
        not_found_ttl,
        error_ttl,
        cache_size: reader.integer("cache_size", 1..=10_000_000).map_or(default.cache_size, |names| names as usize),
    }
}

fn nameserver(text: &str) -> Option<SocketAddr> {
    let plain = |text: &str| text.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, 53));
    text.parse().ok().filter(|address: &SocketAddr| address.port() != 0).or_else(|| plain(text))
}

fn hosts_file(reader: &mut Reader<'_>, base: &Path) -> Option<PathBuf> {
    let path = resolve_path(base, reader.string("hosts_file")?);
    if let Err(error) = File::open(&path) {
        reader.problem("hosts_file", format!("no readable file ({error})"), "a file of addresses and their names");
    }
    Some(path)
}

fn order(reader: &mut Reader<'_>) -> Option<Vec<RecordType>> {
    let words = [("SRV", RecordType::Srv), ("A", RecordType::A), ("AAAA", RecordType::Aaaa)];
    let order = reader.words("order", &words)?;
    let again = order.iter().enumerate().any(|(index, kind)| order[..index].contains(kind));
    if order.is_empty() || again {
        reader.problem("order", if again { "a type twice" } else { "none" }, "one or more of SRV, A, AAAA, each once");
    }
    Some(order)
}
