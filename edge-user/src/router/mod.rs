//! Request → route, by Kong's priority rule (`router_flavor=traditional_compatible`).
//!
//! A route stands here once for each of its paths and each port its hosts name: its candidates. They are sorted once,
//! the best first, so that a request goes to the first candidate that matches it; `hosts` and `index` find that one
//! without asking those before it. `path` holds the rules for the path itself. Not here: what http and https mean for a
//! route.

mod candidate;
mod criteria;
mod hosts;
mod index;
mod path;
mod pattern;
mod priority;
mod stream;

use std::cmp::Reverse;
use std::collections::BTreeSet;

use candidate::{Asks, Candidate};
pub(crate) use criteria::is_host_name;
pub use criteria::{Criteria, HeaderPattern, HostPattern, PathPattern, SniPattern, ValuePattern};
use hosts::{Hosts, Ranks};
pub use path::{BadPath, is_normalized, normalize_path, upstream_path};
use pattern::Shared;
pub use pattern::{BadPattern, Captures, Pattern};
use priority::Priority;
pub use stream::{StreamCriteria, StreamProtocol, StreamRequest, StreamRouter};

use crate::http::head::Head;

/// What routing looks at.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// Method and fields.
    pub head: &'a Head,
    /// The `Host` field without its port.
    pub host: &'a [u8],
    /// The port it had, or else the listener's.
    pub port: u16,
    /// In normal form (`normalize_path`).
    pub path: &'a [u8],
    /// Whether the connection is encrypted: only then a route's `snis` are asked.
    pub tls: bool,
    /// The server name of the TLS handshake.
    pub sni: Option<&'a str>,
}

/// The route a request goes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Match {
    /// The route's index as it was compiled.
    pub route: usize,
    /// Bytes of the path that the route's prefix or regular expression took; 0 for a route without paths.
    pub matched: usize,
    candidate: u32,
}

/// Compiled routes.
#[derive(Default)]
pub struct Router {
    /// By descending priority; a candidate's place is its rank.
    candidates: Box<[Candidate]>,
    hosts: Hosts,
}

impl Router {
    /// Compiles routes; among equals the earlier one wins.
    pub fn new<'a>(routes: impl IntoIterator<Item = &'a Criteria>) -> Self {
        let routes: Vec<&Criteria> = routes.into_iter().collect();
        let candidates = candidates(&routes);
        let mut ranks = Ranks::default();
        for (rank, candidate) in candidates.iter().enumerate() {
            ranks.add(rank as u32, candidate.port, &routes[candidate.route as usize].hosts);
        }
        let hosts = Hosts::new(ranks, &candidates);
        Self { candidates, hosts }
    }

    /// The route for a request.
    pub fn select(&self, request: &Request<'_>) -> Option<Match> {
        let best = self.hosts.find(&self.candidates, request)?;
        let route = self.candidates[best.rank as usize].route as usize;
        Some(Match { route, matched: best.matched, candidate: best.rank })
    }

    /// What the groups of the regular expression took that made the match; `None` where a prefix made it. `path` is the
    /// request's.
    pub fn captures<'a>(&self, found: &Match, path: &'a [u8]) -> Option<Captures<'a>> {
        self.candidates.get(found.candidate as usize)?.pattern.as_ref()?.captures(path)
    }
}

/// Every way to match one of the routes, the best first.
fn candidates(routes: &[&Criteria]) -> Box<[Candidate]> {
    let mut all = Vec::with_capacity(routes.len());
    let mut shared = Shared::default();
    for (index, criteria) in routes.iter().enumerate() {
        let asks = Asks::of(criteria, &mut shared);
        let mut ports: BTreeSet<Option<u16>> = criteria.hosts.iter().map(|host| host.port).collect();
        if ports.is_empty() {
            ports.insert(None);
        }
        let mut paths: Vec<Option<&PathPattern>> = criteria.paths.iter().map(Some).collect();
        if paths.is_empty() {
            paths.push(None);
        }
        for port in ports {
            for path in &paths {
                let (start, pattern) = match path {
                    None => (&b""[..], None),
                    Some(PathPattern::Prefix(prefix)) => (prefix.as_bytes(), None),
                    Some(PathPattern::Regex(pattern)) => (pattern.start(), Some(shared.one(pattern))),
                };
                let candidate =
                    Candidate { route: index as u32, port, start: start.into(), pattern, asks: asks.clone() };
                all.push((Priority::of(criteria, *path, port.is_some()), candidate));
            }
        }
    }
    // The sort keeps the order of the routes, and that of the paths in one.
    all.sort_by_key(|(priority, _)| Reverse(*priority));
    all.into_iter().map(|(_, candidate)| candidate).collect()
}

#[cfg(test)]
mod measure;
#[cfg(test)]
mod property;
#[cfg(test)]
mod tests;
