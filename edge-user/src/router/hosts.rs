//! Candidates by the request's host: those that name it, those whose wildcard fits it, those for every host.

use std::collections::HashMap;

use super::Request;
use super::candidate::Candidate;
use super::criteria::{HostKind, HostPattern};
use super::index::{Best, Index, Lengths, Lower};

/// The candidates of a router by host.
#[derive(Default)]
pub(super) struct Hosts {
    exact: HashMap<Box<[u8]>, Index>,
    /// `*.x`, by `.x`.
    suffixes: Wildcards,
    /// `x.*`, by `x.`.
    prefixes: Wildcards,
    open: Index,
}

#[derive(Default)]
struct Wildcards {
    lengths: Lengths,
    by_text: HashMap<Box<[u8]>, Index>,
}

/// Ranks by host, collected in ascending order.
#[derive(Default)]
pub(super) struct Ranks<'a> {
    named: HashMap<(HostKind, &'a [u8]), Vec<u32>>,
    open: Vec<u32>,
}

impl<'a> Ranks<'a> {
    /// Adds the next candidate under those of its route's hosts that name its port, or none as it does.
    pub(super) fn add(&mut self, rank: u32, port: Option<u16>, hosts: &'a [HostPattern]) {
        if hosts.is_empty() {
            self.open.push(rank);
        }
        for host in hosts.iter().filter(|host| host.port == port) {
            let ranks = self.named.entry((host.kind, &host.text)).or_default();
            if ranks.last() != Some(&rank) {
                ranks.push(rank);
            }
        }
    }
}

impl Hosts {
    pub(super) fn new(ranks: Ranks<'_>, candidates: &[Candidate]) -> Self {
        let mut hosts = Self { open: Index::new(ranks.open, candidates), ..Self::default() };
        for ((kind, text), ranks) in ranks.named {
            let index = Index::new(ranks, candidates);
            match kind {
                HostKind::Exact => drop(hosts.exact.insert(text.into(), index)),
                HostKind::Suffix => hosts.suffixes.insert(text, index),
                HostKind::Prefix => hosts.prefixes.insert(text, index),
            }
        }
        hosts
    }

    /// The best candidate for a request.
    pub(super) fn find(&self, candidates: &[Candidate], request: &Request<'_>) -> Option<Best> {
        let (host, mut lower, mut best) = (request.host, Lower::default(), Best::NONE);
        let mut look = |index: Option<&Index>| {
            if let Some(index) = index {
                index.find(candidates, request, &mut best);
            }
        };
        if !self.exact.is_empty() {
            look(lower.of(host).and_then(|host| self.exact.get(host)));
        }
        if !self.suffixes.by_text.is_empty() {
            let tail = lower.of(&host[host.len().saturating_sub(Lower::BYTES)..]).unwrap_or_default();
            // Something stands before the fixed part.
            let fixed = (0..tail.len()).filter(|at| tail[*at] == b'.').map(|at| &tail[at..]);
            fixed.filter(|fixed| fixed.len() < host.len()).for_each(|fixed| look(self.suffixes.get(fixed)));
        }
        if !self.prefixes.by_text.is_empty() {
            let start = lower.of(&host[..host.len().min(Lower::BYTES)]).unwrap_or_default();
            let fixed = (0..start.len()).filter(|at| start[*at] == b'.').map(|at| &start[..=at]);
            fixed.for_each(|fixed| look(self.prefixes.get(fixed)));
        }
        look(Some(&self.open));
        (best.rank != Best::NONE.rank).then_some(best)
    }
}

impl Wildcards {
    fn insert(&mut self, text: &[u8], index: Index) {
        self.lengths.insert(text.len());
        self.by_text.insert(text.into(), index);
    }

    fn get(&self, text: &[u8]) -> Option<&Index> {
        if self.lengths.contains(text.len()) { self.by_text.get(text) } else { None }
    }
}
