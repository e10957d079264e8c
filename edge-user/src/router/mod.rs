//! Request → route: hosts, methods and plain paths by Kong's priority rule (`router_flavor=traditional_compatible`).
//!
//! What a request matches is compiled into levels of equal priority, most important first. `path` holds the rules for
//! the path itself. Not here: what http and https mean for a route.

mod criteria;
mod path;
mod stream;

use std::collections::HashMap;

use criteria::HostKind;
pub(crate) use criteria::is_host_name;
pub use criteria::{Criteria, HeaderPattern, HostPattern, PathPattern, Pattern, SniPattern, ValuePattern};
pub use path::{BadPath, is_normalized, normalize_path, upstream_path};
pub use stream::{StreamCriteria, StreamProtocol, StreamRequest, StreamRouter};

/// The route a request goes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Match {
    /// The route's index as it was compiled.
    pub route: usize,
    /// Bytes of the path that the route's prefix took; 0 for a route without paths.
    pub matched: usize,
}

/// Compiled routes.
#[derive(Default)]
pub struct Router {
    /// Candidates that name this very host.
    exact: HashMap<Box<[u8]>, Levels>,
    /// Candidates with wildcards, or for every host.
    open: Levels,
}

/// Candidates by descending priority.
type Levels = Vec<Level>;

/// Candidates of one priority. Their prefixes have one length, because the length is part of the priority.
struct Level {
    priority: u64,
    prefix_bytes: usize,
    /// In the order of the routes.
    candidates: Vec<Candidate>,
    /// The candidates by prefix, where there are many.
    by_prefix: HashMap<Box<[u8]>, Vec<u32>>,
}

struct Candidate {
    route: u32,
    prefix: Box<[u8]>,
    methods: Box<[Box<[u8]>]>,
    hosts: Hosts,
}

/// What is left to ask of the host once the level was found.
enum Hosts {
    Any,
    Ports(Box<[u16]>),
    Patterns(Box<[HostPattern]>),
}

/// From this many candidates of one priority on, a hash finds them.
const HASH_FROM: usize = 8;

struct Request<'a> {
    method: &'a [u8],
    host: &'a [u8],
    port: u16,
    path: &'a [u8],
}

impl Router {
    /// Compiles routes; among equals the earlier one wins.
    pub fn new<'a>(routes: impl IntoIterator<Item = &'a Criteria>) -> Self {
        let mut router = Self::default();
        for (index, criteria) in routes.into_iter().enumerate() {
            router.add(index as u32, criteria);
        }
        router.exact.values_mut().chain([&mut router.open]).for_each(finish);
        router
    }

    /// A route with prefixes of different length stands here once per length, each with a priority of its own.
    fn add(&mut self, route: u32, criteria: &Criteria) {
        let mut prefixes: Vec<&str> = Vec::new();
        for path in &criteria.paths {
            if let PathPattern::Prefix(prefix) = path {
                prefixes.push(prefix);
            }
        }
        if criteria.paths.is_empty() {
            prefixes.push("");
        }
        let methods: Box<[Box<[u8]>]> = criteria.methods.iter().map(|method| method.as_bytes().into()).collect();
        let wildcards: Box<[HostPattern]> =
            criteria.hosts.iter().filter(|host| host.kind != HostKind::Exact).cloned().collect();
        for prefix in prefixes {
            let priority = priority(criteria, prefix.len());
            let candidate =
                |hosts| Candidate { route, prefix: prefix.as_bytes().into(), methods: methods.clone(), hosts };
            let mut named: Vec<&[u8]> = Vec::new();
            for host in criteria.hosts.iter().filter(|host| host.kind == HostKind::Exact) {
                if named.contains(&&*host.text) {
                    continue;
                }
                named.push(&host.text);
                let same = || criteria.hosts.iter().filter(|other| other.kind == host.kind && other.text == host.text);
                let hosts = if same().any(|other| other.port.is_none()) {
                    Hosts::Any
                } else {
                    Hosts::Ports(same().filter_map(|other| other.port).collect())
                };
                insert(self.exact.entry(host.text.clone()).or_default(), priority, candidate(hosts));
            }
            if criteria.hosts.is_empty() {
                insert(&mut self.open, priority, candidate(Hosts::Any));
            } else if !wildcards.is_empty() {
                insert(&mut self.open, priority, candidate(Hosts::Patterns(wildcards.clone())));
            }
        }
    }

    /// The route for a request. `host` is the `Host` field without its port, `port` the one it had or else the
    /// listener's, `path` is in normal form (`normalize_path`).
    pub fn select(&self, method: &[u8], host: &[u8], port: u16, path: &[u8]) -> Option<Match> {
        let request = Request { method, host, port, path };
        let (mut named, mut open) = (self.named(host), self.open.as_slice());
        loop {
            let priority = match (named.first(), open.first()) {
                (Some(a), Some(b)) => a.priority.max(b.priority),
                (Some(level), None) | (None, Some(level)) => level.priority,
                (None, None) => return None,
            };
            let hit = [&mut named, &mut open].into_iter().filter_map(|levels| {
                let (level, rest) = levels.split_first().filter(|(level, _)| level.priority == priority)?;
                *levels = rest;
                level.find(&request)
            });
            if let Some(hit) = hit.min_by_key(|hit| hit.route) {
                return Some(hit);
            }
        }
    }

    fn named(&self, host: &[u8]) -> &[Level] {
        // Names are at most 253 bytes (RFC 1035, 2.3.4); a longer one is not in the table.
        let mut buffer = [0; 255];
        let Some(lower) = buffer.get_mut(..host.len()) else { return &[] };
        lower.copy_from_slice(host);
        lower.make_ascii_lowercase();
        self.exact.get(&*lower).map_or(&[], Vec::as_slice)
    }
}

/// Kong's order as one number: kinds of criteria, then hosts without wildcard, then the prefix's length. The bits between
/// are those of criteria the edge does not have yet.
fn priority(criteria: &Criteria, prefix_bytes: usize) -> u64 {
    let given = [criteria.methods.is_empty(), criteria.hosts.is_empty(), criteria.paths.is_empty()];
    let kinds = given.iter().filter(|empty| !**empty).count() as u64;
    let plain = !criteria.hosts.is_empty() && criteria.hosts.iter().all(|host| host.kind == HostKind::Exact);
    kinds << 61 | u64::from(plain) << 60 | prefix_bytes as u64
}

fn insert(levels: &mut Levels, priority: u64, candidate: Candidate) {
    // Descending: everything before the place is more important.
    let at = levels.partition_point(|level| level.priority > priority);
    if levels.get(at).is_none_or(|level| level.priority != priority) {
        let prefix_bytes = candidate.prefix.len();
        levels.insert(at, Level { priority, prefix_bytes, candidates: Vec::new(), by_prefix: HashMap::new() });
    }
    levels[at].candidates.push(candidate);
}

fn finish(levels: &mut Levels) {
    for level in levels.iter_mut() {
        // Among equals a host with its port is the more specific (P5); the sort keeps the order of the routes otherwise.
        level.candidates.sort_by_key(|candidate| !matches!(candidate.hosts, Hosts::Ports(_)));
    }
    for level in levels.iter_mut().filter(|level| level.candidates.len() >= HASH_FROM && level.prefix_bytes > 0) {
        for (index, candidate) in level.candidates.iter().enumerate() {
            level.by_prefix.entry(candidate.prefix.clone()).or_default().push(index as u32);
        }
    }
}

impl Level {
    fn find(&self, request: &Request<'_>) -> Option<Match> {
        let prefix = request.path.get(..self.prefix_bytes)?;
        let mut all = self.candidates.iter();
        let hit = if prefix.is_empty() {
            // An empty box has no memory behind it; comparing it costs a masked fault in libc's memcmp.
            all.find(|candidate| candidate.matches(request))
        } else if self.by_prefix.is_empty() {
            all.find(|candidate| *candidate.prefix == *prefix && candidate.matches(request))
        } else {
            let indexes = self.by_prefix.get(prefix)?.iter();
            indexes.map(|index| &self.candidates[*index as usize]).find(|candidate| candidate.matches(request))
        }?;
        Some(Match { route: hit.route as usize, matched: self.prefix_bytes })
    }
}

impl Candidate {
    fn matches(&self, request: &Request<'_>) -> bool {
        (self.methods.is_empty() || self.methods.iter().any(|method| **method == *request.method))
            && match &self.hosts {
                Hosts::Any => true,
                Hosts::Ports(ports) => ports.contains(&request.port),
                Hosts::Patterns(patterns) => patterns.iter().any(|host| host.matches(request.host, request.port)),
            }
    }
}

#[cfg(test)]
mod tests;
