//! One name to its records: the hosts file, the search list, the order of types, SRV targets. Remembers nothing.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{self, Name, RData};
use hickory_resolver::{Hosts, TokioResolver, system_conf};
use tokio::task::JoinSet;

use super::{Error, LookupError, Record};
use crate::settings::{Dns, RecordType};

/// Addresses of one answer; more are left out.
const MAX_RECORDS: usize = 1024;
/// SRV targets of one answer; more are left out.
const MAX_TARGETS: usize = 128;
/// How long what needs no server is good: it is read at the start.
const STATIC_TTL: Duration = Duration::from_secs(86_400);
/// Queries under way at one server over TCP; over UDP each has its own socket.
const MAX_PIPELINED: usize = 512;

/// Records of the type that won.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) kind: RecordType,
    /// Sorted, so that a server that rotates its answers does not change them.
    pub(super) records: Box<[Record]>,
    pub(super) ttl: Duration,
    /// Types that go before `kind` failed, so it might not have won.
    pub(super) in_doubt: bool,
}

/// Whom to ask, and how.
pub(super) struct Client {
    dns: TokioResolver,
    hosts: Hosts,
    search: Vec<Name>,
    /// Dots from which on a name is asked for as it stands before the search list is tried.
    ndots: usize,
    order: Arc<[RecordType]>,
}

impl Client {
    /// A client whose queries, with two repetitions, end within `limit`.
    pub(super) fn new(settings: &Dns, limit: Duration) -> Result<Self, Error> {
        let (config, mut options) = match settings.nameservers.is_empty() {
            true => system(),
            false => (explicit(settings), ResolverOpts::default()),
        };
        options.timeout = limit / 4;
        options.attempts = 2;
        options.cache_size = 0;
        options.max_active_requests = MAX_PIPELINED;
        let (search, ndots) = (config.search().to_vec(), options.ndots);
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        let mut dns = builder.build().map_err(Error::Client)?;
        dns.set_hosts(Arc::default());
        Ok(Self { dns, hosts: hosts(settings)?, search, ndots, order: settings.order.as_slice().into() })
    }

    /// Looks a name up.
    pub(super) async fn resolve(&self, name: &str) -> Result<Found, LookupError> {
        // RFC 6761, 6.3: loopback, whatever a server would say.
        let local =
            name.trim_end_matches('.').rsplit('.').next().is_some_and(|top| top.eq_ignore_ascii_case("localhost"));
        // What is no name of the DNS does not exist in it.
        let own = Name::from_str_relaxed(name).map_err(|_| LookupError::NotFound)?;
        if let Some(found) = self.known_here(&own, local) {
            return Ok(found);
        }
        if local {
            return Err(LookupError::NotFound);
        }
        for candidate in self.candidates(own) {
            match self.ask(candidate).await {
                Err(LookupError::NotFound) => {}
                // After a failure the next of the search list would be a guess.
                known => return known,
            }
        }
        Err(LookupError::NotFound)
    }

    /// What needs no server: the hosts file, and names of this host.
    fn known_here(&self, name: &Name, local: bool) -> Option<Found> {
        let listed = |kind| {
            let lookup = self.hosts.lookup_static_host(&Query::query(name.clone(), wire_type(kind)));
            let records = lookup.map(|lookup| addresses(&lookup, kind).into_iter().map(|(record, _)| record).collect());
            records.filter(|records: &Vec<_>| !records.is_empty())
        };
        let loopback = |kind| match kind {
            RecordType::A => Some(vec![Record::plain(Ipv4Addr::LOCALHOST.into())]),
            RecordType::Aaaa => Some(vec![Record::plain(Ipv6Addr::LOCALHOST.into())]),
            RecordType::Srv => None,
        };
        let first = |of: &dyn Fn(RecordType) -> Option<Vec<Record>>| {
            let records = self.order.iter().find_map(|kind| Some((*kind, of(*kind)?)));
            records.and_then(|(kind, records)| found(kind, records, STATIC_TTL))
        };
        first(&listed).or_else(|| if local { first(&loopback) } else { None })
    }

    /// The names to ask for, in order (resolv.conf(5), `search` and `ndots`).
    fn candidates(&self, mut name: Name) -> Vec<Name> {
        if name.is_fqdn() {
            return vec![name];
        }
        let dots = usize::from(name.num_labels()).saturating_sub(1);
        let searched = self.search.iter().filter_map(|domain| name.clone().append_domain(domain).ok());
        let mut names: Vec<_> = searched.collect();
        name.set_fqdn(true);
        let place = if dots >= self.ndots { 0 } else { names.len() };
        names.insert(place, name);
        names.iter_mut().for_each(|name| name.set_fqdn(true));
        names
    }

    /// All types at once; the first of the order that has an answer wins.
    async fn ask(&self, name: Name) -> Result<Found, LookupError> {
        let mut asked = JoinSet::new();
        for (rank, kind) in self.order.iter().copied().enumerate() {
            let (dns, name) = (self.dns.clone(), name.clone());
            asked.spawn(async move { (rank, query(dns, name, kind).await) });
        }
        let mut answers: Vec<_> = self.order.iter().map(|_| None).collect();
        while let Some(done) = asked.join_next().await {
            let (rank, answer) = done.map_err(|_| LookupError::Failed)?;
            answers[rank] = Some(answer);
            if let Some(outcome) = first_of(&mut answers) {
                return outcome;
            }
        }
        Err(LookupError::Failed)
    }
}

/// The winner, once nothing that goes before it is open any more.
fn first_of(answers: &mut [Option<Result<Found, LookupError>>]) -> Option<Result<Found, LookupError>> {
    let mut failure = None;
    for answer in answers.iter_mut() {
        match answer {
            None => return None,
            Some(Ok(_)) => {
                let found = answer.take()?.ok()?;
                return Some(Ok(Found { in_doubt: failure.is_some(), ..found }));
            }
            Some(Err(LookupError::NotFound)) => {}
            Some(Err(error)) => failure = failure.or(Some(*error)),
        }
    }
    Some(Err(failure.unwrap_or(LookupError::NotFound)))
}

async fn query(dns: TokioResolver, name: Name, kind: RecordType) -> Result<Found, LookupError> {
    let lookup = dns.lookup(name, wire_type(kind)).await.map_err(|error| failure(&error))?;
    let (records, ttl) = match kind {
        RecordType::Srv => services(dns, &lookup).await?,
        RecordType::A | RecordType::Aaaa => least_ttl(addresses(&lookup, kind)),
    };
    found(kind, records, ttl).ok_or(LookupError::NotFound)
}

/// The records of the lowest priority (RFC 2782), each target resolved.
async fn services(dns: TokioResolver, lookup: &Lookup) -> Result<(Vec<Record>, Duration), LookupError> {
    let services = lookup.answers().iter().filter_map(|record| match &record.data {
        // A target `.` says that there is no such service.
        RData::SRV(service) if !service.target.is_root() => Some((service, record.ttl)),
        _ => None,
    });
    let mut services: Vec<_> = services.collect();
    let lowest = services.iter().map(|(service, _)| service.priority).min();
    services.retain(|(service, _)| Some(service.priority) == lowest);
    services.sort_by_key(|(service, _)| (service.target.to_lowercase(), service.port));
    services.truncate(MAX_TARGETS);
    let mut resolving = JoinSet::new();
    let mut resolved = Vec::new();
    for (service, ttl) in services {
        let glue = glue(lookup, &service.target);
        if glue.is_empty() {
            let (dns, service) = (dns.clone(), service.clone());
            resolving.spawn(async move { (target(dns, &service.target).await, service, ttl) });
        } else {
            resolved.push((Ok(glue), service.clone(), ttl));
        }
    }
    resolved.extend(resolving.join_all().await);
    let mut failed = None;
    let mut records = Vec::new();
    for (addresses, service, ttl) in resolved {
        match addresses {
            Ok(addresses) => records.extend(addresses.into_iter().map(|(at, own)| (of(&service, at), own.min(ttl)))),
            // The service's other targets do not suffer from it.
            Err(error) => failed = failed.filter(|known| *known != LookupError::NotFound).or(Some(error)),
        }
    }
    match failed {
        Some(error) if records.is_empty() => Err(error),
        _ => Ok(least_ttl(records)),
    }
}

fn of(service: &SRV, at: Record) -> Record {
    let mut name = service.target.to_lowercase();
    name.set_fqdn(false);
    let name = Some(name.to_ascii().into_boxed_str());
    Record { port: Some(service.port), priority: service.priority, weight: service.weight, name, ..at }
}

/// The addresses of a target that the server gave along.
fn glue(lookup: &Lookup, target: &Name) -> Vec<(Record, u32)> {
    let of = |address: fn(&RData) -> Option<IpAddr>| {
        let records = lookup.additionals().iter().filter(|record| record.name == *target);
        records.filter_map(|record| Some((Record::plain(address(&record.data)?), record.ttl))).collect::<Vec<_>>()
    };
    let v4 = of(ipv4);
    if v4.is_empty() { of(ipv6) } else { v4 }
}

/// The addresses of a target: IPv6 where it has no IPv4.
async fn target(dns: TokioResolver, name: &Name) -> Result<Vec<(Record, u32)>, LookupError> {
    let mut last = LookupError::NotFound;
    for kind in [RecordType::A, RecordType::Aaaa] {
        match dns.lookup(name.clone(), wire_type(kind)).await {
            Ok(lookup) => return Ok(addresses(&lookup, kind)),
            // That one kind is not there does not make up for a server that failed over the other.
            Err(error) if last == LookupError::NotFound => last = failure(&error),
            Err(_) => {}
        }
    }
    Err(last)
}

fn addresses(lookup: &Lookup, kind: RecordType) -> Vec<(Record, u32)> {
    let address = if kind == RecordType::A { ipv4 } else { ipv6 };
    let records = lookup.answers().iter();
    records.filter_map(|record| Some((Record::plain(address(&record.data)?), record.ttl))).collect()
}

fn ipv4(data: &RData) -> Option<IpAddr> {
    if let RData::A(address) = data { Some(address.0.into()) } else { None }
}

fn ipv6(data: &RData) -> Option<IpAddr> {
    if let RData::AAAA(address) = data { Some(address.0.into()) } else { None }
}

fn least_ttl(records: Vec<(Record, u32)>) -> (Vec<Record>, Duration) {
    let ttl = records.iter().map(|(_, ttl)| *ttl).min().unwrap_or(0);
    (records.into_iter().map(|(record, _)| record).collect(), Duration::from_secs(ttl.into()))
}

fn found(kind: RecordType, mut records: Vec<Record>, ttl: Duration) -> Option<Found> {
    records.sort();
    records.dedup();
    records.truncate(MAX_RECORDS);
    (!records.is_empty()).then(|| Found { kind, records: records.into(), ttl, in_doubt: false })
}

fn failure(error: &NetError) -> LookupError {
    match error {
        NetError::Timeout => LookupError::TimedOut,
        error if error.is_no_records_found() => LookupError::NotFound,
        _ => LookupError::Failed,
    }
}

fn wire_type(kind: RecordType) -> rr::RecordType {
    match kind {
        RecordType::Srv => rr::RecordType::SRV,
        RecordType::A => rr::RecordType::A,
        RecordType::Aaaa => rr::RecordType::AAAA,
    }
}

/// What resolv.conf says; without one, a server on this host (resolv.conf(5)).
fn system() -> (ResolverConfig, ResolverOpts) {
    system_conf::read_system_conf().unwrap_or_else(|error| {
        tracing::warn!(%error, "resolv.conf names no server: names are asked for at 127.0.0.1");
        let server = NameServerConfig::udp_and_tcp(Ipv4Addr::LOCALHOST.into());
        (ResolverConfig::from_name_servers(vec![server]), ResolverOpts::default())
    })
}

fn explicit(settings: &Dns) -> ResolverConfig {
    let servers = settings.nameservers.iter().map(|address| {
        let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
        connections.iter_mut().for_each(|connection| connection.port = address.port());
        NameServerConfig::new(address.ip(), true, connections)
    });
    ResolverConfig::from_name_servers(servers.collect())
}

fn hosts(settings: &Dns) -> Result<Hosts, Error> {
    let Some(path) = &settings.hosts_file else { return Ok(Hosts::from_system().unwrap_or_default()) };
    let mut hosts = Hosts::default();
    let read = File::open(path).and_then(|file| hosts.read_hosts_conf(file));
    read.map_err(|source| Error::Hosts { path: path.clone(), source })?;
    Ok(hosts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_search_list_follows_or_precedes() {
        let settings = Dns { nameservers: vec!["127.0.0.1:53".parse().unwrap()], ..Dns::default() };
        let mut client = Client::new(&settings, Duration::from_secs(1)).unwrap();
        client.search = ["ns.svc.test", "test."].map(|name| Name::from_str_relaxed(name).unwrap()).into();
        for (ndots, name, expected) in [
            (1, "api", "api.ns.svc.test. api.test. api."),
            (1, "api.x", "api.x. api.x.ns.svc.test. api.x.test."),
            (5, "api.x", "api.x.ns.svc.test. api.x.test. api.x."),
            (5, "api.x.", "api.x."),
            (0, "api", "api. api.ns.svc.test. api.test."),
        ] {
            client.ndots = ndots;
            let names = client.candidates(Name::from_str_relaxed(name).unwrap());
            let names: Vec<_> = names.iter().map(Name::to_ascii).collect();
            assert_eq!(names.join(" "), expected, "{ndots} {name}");
        }
    }

    #[test]
    fn an_answer_waits_for_those_before_it() {
        let address = |kind| found(kind, vec![Record::plain(Ipv4Addr::LOCALHOST.into())], STATIC_TTL);
        let hit = |kind| Some(Ok(address(kind).unwrap()));
        let (srv, a) = (RecordType::Srv, RecordType::A);
        let none = || Some(Err(LookupError::NotFound));
        let failed = || Some(Err(LookupError::Failed));
        for (answers, expected) in [
            ([None, hit(a)], None),
            ([hit(srv), None], Some(Ok((srv, false)))),
            ([hit(srv), hit(a)], Some(Ok((srv, false)))),
            ([none(), hit(a)], Some(Ok((a, false)))),
            ([failed(), hit(a)], Some(Ok((a, true)))),
            ([failed(), None], None),
            ([none(), none()], Some(Err(LookupError::NotFound))),
            ([failed(), none()], Some(Err(LookupError::Failed))),
            ([none(), Some(Err(LookupError::TimedOut))], Some(Err(LookupError::TimedOut))),
        ] {
            let mut answers = answers;
            let winner = first_of(&mut answers).map(|found| found.map(|found| (found.kind, found.in_doubt)));
            assert_eq!(winner, expected);
        }
    }
}
