//! Kong's order among routes that match (`router_flavor=traditional_compatible`).

use std::collections::HashSet;

use super::criteria::{Criteria, HostKind, PathPattern};

/// The weight of one path of one route, most important part first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Priority {
    /// Kinds of criteria asked: methods, hosts, headers, snis, paths.
    kinds: u8,
    /// Hosts are asked, and none of them has a wildcard.
    plain_hosts: bool,
    /// Names of fields asked, at most 255.
    header_names: u8,
    regex: bool,
    /// `regex_priority`, or the prefix's length.
    order: i64,
    /// Among equals a host with its port is the more specific (P5).
    port: bool,
}

impl Priority {
    /// The weight of a route by one of its paths, if it has any, reached by a host that named a port or did not.
    pub(super) fn of(criteria: &Criteria, path: Option<&PathPattern>, port: bool) -> Self {
        let empty = [
            criteria.methods.is_empty(),
            criteria.hosts.is_empty(),
            criteria.headers.is_empty(),
            criteria.snis.is_empty(),
            criteria.paths.is_empty(),
        ];
        let names: HashSet<&str> = criteria.headers.iter().map(|header| &*header.name).collect();
        let (regex, order) = match path {
            None => (false, 0),
            Some(PathPattern::Prefix(prefix)) => (false, prefix.len() as i64),
            Some(PathPattern::Regex(_)) => (true, criteria.regex_priority),
        };
        Self {
            kinds: empty.iter().filter(|empty| !**empty).count() as u8,
            plain_hosts: !criteria.hosts.is_empty() && criteria.hosts.iter().all(|host| host.kind == HostKind::Exact),
            header_names: names.len().min(255) as u8,
            regex,
            order,
            port,
        }
    }
}
