//! Connection → stream route: `tls_passthrough`, `tls` and `tcp` by server name, source and destination.
//!
//! The route with more kinds of criteria wins; then one that names the server outright over a wildcard, a longer
//! wildcard over a shorter one, and the earlier route among equals. Names are found by hash, the rest by a walk.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::SocketAddr;

use super::criteria::{HostKind, SniPattern};
use crate::config::snapshot::Endpoint;

/// What a stream route does with a connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum StreamProtocol {
    /// `tcp`: bytes that are no TLS, or TLS that no other route wants, as they are.
    Tcp,
    /// `tls`: TLS ends here.
    Tls,
    /// `tls_passthrough`: TLS as it is, steered by what its ClientHello says.
    TlsPassthrough,
}

/// What one stream route asks of a connection. An empty list asks nothing.
#[derive(Clone, Copy, Debug)]
pub struct StreamCriteria<'a> {
    /// What it takes; `snis` are asked of TLS alone.
    pub protocols: &'a [StreamProtocol],
    /// Server names; one of them.
    pub snis: &'a [SniPattern],
    /// Where the client is; one of them.
    pub sources: &'a [Endpoint],
    /// Where it connected to; one of them.
    pub destinations: &'a [Endpoint],
}

/// A connection as routes see it.
#[derive(Clone, Copy, Debug)]
pub struct StreamRequest<'a> {
    /// The client's address.
    pub source: SocketAddr,
    /// The address it connected to.
    pub destination: SocketAddr,
    /// The server name it asked for.
    pub sni: Option<&'a str>,
    /// Whether it began with a ClientHello.
    pub tls: bool,
}

/// Compiled stream routes.
#[derive(Default)]
pub struct StreamRouter {
    /// Routes for TLS by the names they list.
    exact: HashMap<Box<[u8]>, Bucket>,
    /// By what follows the `*` of `*.x`.
    suffixes: HashMap<Box<[u8]>, Bucket>,
    /// By what precedes the `*` of `x.*`.
    prefixes: HashMap<Box<[u8]>, Bucket>,
    /// Routes for TLS that list no name.
    unnamed: Bucket,
    /// Routes for what is no TLS.
    clear: Bucket,
    /// Those among them that are not for TLS as well: they take TLS that nobody else wants.
    raw: Bucket,
}

/// By falling number of criteria, then in the order of the routes.
type Bucket = Vec<Candidate>;

#[derive(Clone)]
struct Candidate {
    route: u32,
    kinds: u8,
    sources: Box<[Endpoint]>,
    destinations: Box<[Endpoint]>,
}

impl StreamRouter {
    /// Compiles routes; among equals the earlier one wins.
    pub fn new(routes: &[StreamCriteria<'_>]) -> Self {
        let mut router = Self::default();
        for (index, criteria) in routes.iter().enumerate() {
            router.add(index as u32, criteria);
        }
        let named = [&mut router.exact, &mut router.suffixes, &mut router.prefixes].into_iter();
        let buckets = named.flat_map(HashMap::values_mut);
        for bucket in buckets.chain([&mut router.unnamed, &mut router.clear, &mut router.raw]) {
            // The sort is stable: equals stay in the order of the routes.
            bucket.sort_by_key(|candidate| Reverse(candidate.kinds));
        }
        router
    }

    fn add(&mut self, route: u32, criteria: &StreamCriteria<'_>) {
        let given = [criteria.snis.is_empty(), criteria.sources.is_empty(), criteria.destinations.is_empty()];
        let candidate = Candidate {
            route,
            kinds: given.iter().filter(|empty| !**empty).count() as u8,
            sources: criteria.sources.into(),
            destinations: criteria.destinations.into(),
        };
        let tls = criteria.protocols.iter().any(|protocol| *protocol != StreamProtocol::Tcp);
        if criteria.protocols.contains(&StreamProtocol::Tcp) {
            self.clear.push(candidate.clone());
            if !tls {
                self.raw.push(candidate.clone());
            }
        }
        if tls && criteria.snis.is_empty() {
            self.unnamed.push(candidate);
        } else if tls {
            for SniPattern(name) in criteria.snis {
                let table = match name.kind {
                    HostKind::Exact => &mut self.exact,
                    HostKind::Suffix => &mut self.suffixes,
                    HostKind::Prefix => &mut self.prefixes,
                };
                table.entry(name.text.clone()).or_default().push(candidate.clone());
            }
        }
    }

    /// Whether a route between these addresses asks for TLS, so that the client's first bytes must be seen.
    pub fn asks_for_tls(&self, source: SocketAddr, destination: SocketAddr) -> bool {
        let request = StreamRequest { source, destination, sni: None, tls: true };
        let named = [&self.exact, &self.suffixes, &self.prefixes].into_iter().flat_map(HashMap::values);
        named.chain([&self.unnamed]).any(|bucket| first(bucket, &request).is_some())
    }

    /// The route for a connection, by its place among those compiled.
    pub fn select(&self, request: &StreamRequest<'_>) -> Option<usize> {
        let found = match request.tls {
            false => first(&self.clear, request),
            true => self.select_tls(request).or_else(|| first(&self.raw, request)),
        };
        found.map(|candidate| candidate.route as usize)
    }

    fn select_tls(&self, request: &StreamRequest<'_>) -> Option<&Candidate> {
        let mut best = Best { request, found: None };
        best.offer(Some(&self.unnamed), 0);
        let name = request.sni.map(|name| name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase());
        if let Some(name) = name.as_deref().map(str::as_bytes) {
            best.offer(self.exact.get(name), usize::MAX);
            for (at, _) in name.iter().enumerate().filter(|(_, byte)| **byte == b'.') {
                // Something must stand where the first star is.
                let suffix = if at > 0 { self.suffixes.get(&name[at..]) } else { None };
                best.offer(suffix, name.len() - at);
                best.offer(self.prefixes.get(&name[..=at]), at + 1);
            }
        }
        best.found.map(|(candidate, _)| candidate)
    }
}

/// The best candidate so far, and how closely it names the server.
struct Best<'a, 'r> {
    request: &'r StreamRequest<'r>,
    found: Option<(&'a Candidate, usize)>,
}

impl<'a> Best<'a, '_> {
    fn offer(&mut self, bucket: Option<&'a Bucket>, rank: usize) {
        let Some(candidate) = bucket.and_then(|bucket| first(bucket, self.request)) else { return };
        let key = |(candidate, rank): (&Candidate, usize)| (candidate.kinds, rank, Reverse(candidate.route));
        if self.found.is_none_or(|found| key((candidate, rank)) > key(found)) {
            self.found = Some((candidate, rank));
        }
    }
}

fn first<'a>(bucket: &'a Bucket, request: &StreamRequest<'_>) -> Option<&'a Candidate> {
    let holds = |endpoints: &[Endpoint], address| {
        endpoints.is_empty() || endpoints.iter().any(|endpoint| endpoint.contains(address))
    };
    bucket.iter().find(|candidate| {
        holds(&candidate.destinations, request.destination) && holds(&candidate.sources, request.source)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::StreamProtocol::{Tcp, Tls, TlsPassthrough};
    use super::*;
    use crate::settings::Cidr;

    /// A route's criteria, owned.
    #[derive(Clone, Debug, Default)]
    struct Owned {
        protocols: Vec<StreamProtocol>,
        snis: Vec<SniPattern>,
        sources: Vec<Endpoint>,
        destinations: Vec<Endpoint>,
    }

    impl Owned {
        fn view(&self) -> StreamCriteria<'_> {
            let Self { protocols, snis, sources, destinations } = self;
            StreamCriteria { protocols, snis, sources, destinations }
        }
    }

    /// `protocols | snis | sources | destinations`, each a list between spaces; endpoints are `network:port`.
    fn route(line: &str) -> Owned {
        let parts: Vec<Vec<&str>> = line.split('|').map(|part| part.split_whitespace().collect()).collect();
        let protocol = |word: &&str| match *word {
            "tcp" => Tcp,
            "tls" => Tls,
            _ => TlsPassthrough,
        };
        let endpoint = |word: &&str| {
            let (network, port) = word.rsplit_once(':').unwrap();
            Endpoint { network: Cidr::parse(network), port: port.parse().ok() }
        };
        Owned {
            protocols: parts[0].iter().map(protocol).collect(),
            snis: parts[1].iter().map(|name| SniPattern::parse(name).unwrap()).collect(),
            sources: parts[2].iter().map(endpoint).collect(),
            destinations: parts[3].iter().map(endpoint).collect(),
        }
    }

    fn select(routes: &[Owned], request: &StreamRequest<'_>) -> Option<usize> {
        StreamRouter::new(&routes.iter().map(Owned::view).collect::<Vec<_>>()).select(request)
    }

    #[test]
    fn the_most_particular_route_wins() {
        let routes = [
            "tls_passthrough | | | ",
            "tls_passthrough | *.b.test | | ",
            "tls | *.a.b.test | | ",
            "tls | x.a.b.test | | ",
            "tls | x.a.b.test | 10.0.0.0/8: | ",
            "tls_passthrough | x.a.* x.* | | ",
            "tcp | | | :5432",
            "tcp | | 10.1.0.0/16: | :5432",
            "tcp | | 10.1.2.3: | :5432",
            "tcp tls | only.test | | :7000",
            "tcp | | 192.0.2.7:99 | :5432 :5433",
        ]
        .map(route);
        let request = |source: &str, port, sni| StreamRequest {
            source: source.parse().unwrap(),
            destination: SocketAddr::new("127.0.0.1".parse().unwrap(), port),
            sni,
            tls: true,
        };
        for (source, port, sni, tls, clear) in [
            ("192.0.2.1:1", 443, Some("x.a.b.test"), Some(3), None),
            ("10.9.9.9:1", 443, Some("X.A.B.test."), Some(4), None),
            ("192.0.2.1:1", 443, Some("y.a.b.test"), Some(2), None),
            ("192.0.2.1:1", 443, Some("y.b.test"), Some(1), None),
            ("192.0.2.1:1", 443, Some("b.test"), Some(0), None),
            ("192.0.2.1:1", 443, Some("x.a.c"), Some(5), None),
            ("192.0.2.1:1", 443, Some("x.y"), Some(5), None),
            ("192.0.2.1:1", 443, None, Some(0), None),
            ("192.0.2.1:1", 5432, None, Some(0), Some(6)),
            // Two kinds each: the earlier one, though a later one is narrower.
            ("10.1.2.3:1", 5432, None, Some(0), Some(7)),
            ("192.0.2.7:99", 5432, None, Some(0), Some(10)),
            ("192.0.2.7:99", 5433, None, Some(0), Some(10)),
            ("192.0.2.7:98", 5433, None, Some(0), None),
            ("192.0.2.1:1", 7000, Some("only.test"), Some(9), Some(9)),
            ("192.0.2.1:1", 7001, Some("only.test"), Some(0), None),
        ] {
            let request = request(source, port, sni);
            assert_eq!(select(&routes, &request), tls, "{request:?}");
            assert_eq!(select(&routes, &StreamRequest { tls: false, sni: None, ..request }), clear, "{request:?}");
        }
    }

    #[test]
    fn tls_goes_to_a_tcp_route_only_where_no_other_wants_it() {
        let request = |tls, sni| StreamRequest {
            source: "192.0.2.1:1".parse().unwrap(),
            destination: "127.0.0.1:9000".parse().unwrap(),
            sni,
            tls,
        };
        let routes = ["tcp | | | :9000", "tls | a.test | | "].map(route);
        assert_eq!(select(&routes, &request(true, Some("a.test"))), Some(1));
        assert_eq!(select(&routes, &request(true, Some("b.test"))), Some(0));
        assert_eq!(select(&routes, &request(false, None)), Some(0));
        // A route for both asks TLS for its name, and does not take it as bytes instead.
        let routes = ["tcp tls | a.test | | "].map(route);
        assert_eq!(select(&routes, &request(true, Some("b.test"))), None);
        assert_eq!(select(&routes, &request(false, None)), Some(0));
        assert_eq!(select(&[], &request(true, None)), None);
    }

    #[test]
    fn first_bytes_are_asked_for_only_where_a_route_wants_tls() {
        let routes = ["tcp | | | :9000", "tls | a.test | 10.0.0.0/8: | :9000", "tls_passthrough | *.b | | :9001"];
        let routes = routes.map(route);
        let router = StreamRouter::new(&routes.iter().map(Owned::view).collect::<Vec<_>>());
        for (source, port, expected) in [
            ("192.0.2.1:1", 9000, false),
            ("10.0.0.1:1", 9000, true),
            ("192.0.2.1:1", 9001, true),
            ("10.0.0.1:1", 9002, false),
        ] {
            let destination = SocketAddr::new("127.0.0.1".parse().unwrap(), port);
            assert_eq!(router.asks_for_tls(source.parse().unwrap(), destination), expected, "{source} {port}");
        }
        assert!(!StreamRouter::default().asks_for_tls("[::1]:1".parse().unwrap(), "[::1]:2".parse().unwrap()));
    }

    /// The rule as it is written, without tables.
    fn reference(routes: &[Owned], request: &StreamRequest<'_>) -> Option<usize> {
        let inside = |list: &[Endpoint], address| list.is_empty() || list.iter().any(|e| e.contains(address));
        let rank = |route: &Owned| {
            let name = request.sni?.to_ascii_lowercase();
            let name = name.strip_suffix('.').unwrap_or(&name);
            let names = route.snis.iter().filter(|sni| sni.matches(name.as_bytes()));
            names.map(|sni| if sni.0.kind == HostKind::Exact { usize::MAX } else { sni.0.text.len() }).max()
        };
        let best = |wants: &dyn Fn(&Owned) -> bool, named: bool| {
            let mut best: Option<(usize, usize, usize)> = None;
            for (index, route) in routes.iter().enumerate().filter(|(_, route)| wants(route)) {
                let rank = if named && !route.snis.is_empty() { rank(route) } else { Some(0) };
                let Some(rank) = rank else { continue };
                if !inside(&route.sources, request.source) || !inside(&route.destinations, request.destination) {
                    continue;
                }
                let lists = [route.snis.len(), route.sources.len(), route.destinations.len()];
                let kinds = lists.iter().filter(|length| **length > 0).count();
                if best.is_none_or(|(k, r, _)| (kinds, rank) > (k, r)) {
                    best = Some((kinds, rank, index));
                }
            }
            best.map(|(_, _, index)| index)
        };
        let tls = |route: &Owned| route.protocols.iter().any(|protocol| *protocol != Tcp);
        match request.tls {
            true => best(&tls, true).or_else(|| best(&|route| !tls(route), false)),
            false => best(&|route| route.protocols.contains(&Tcp), false),
        }
    }

    fn endpoints() -> impl Strategy<Value = Vec<Endpoint>> {
        let network = prop::sample::select(vec!["10.0.0.0/8", "10.1.0.0/16", "127.0.0.1", "::1", "0.0.0.0/0"]);
        let network = prop::option::of(network.prop_map(|text| Cidr::parse(text).unwrap()));
        let port = prop::option::of(prop::sample::select(vec![1u16, 2, 3]));
        prop::collection::vec((network, port).prop_map(|(network, port)| Endpoint { network, port }), 0..3)
    }

    fn owned() -> impl Strategy<Value = Owned> {
        let protocols = prop::sample::select(vec![vec![Tcp], vec![Tls], vec![TlsPassthrough], vec![Tcp, Tls]]);
        let name = prop::sample::select(vec!["a.b", "*.b", "*.a.b", "a.*", "a.b.*", "c.a.b", "b"]);
        let snis = prop::collection::vec(name.prop_map(|name| SniPattern::parse(name).unwrap()), 0..3);
        (protocols, snis, endpoints(), endpoints()).prop_map(|(protocols, snis, sources, destinations)| Owned {
            protocols,
            snis,
            sources,
            destinations,
        })
    }

    proptest! {
        #[test]
        fn tables_and_rule_agree(
            routes in prop::collection::vec(owned(), 0..8),
            source in prop::sample::select(vec!["10.0.0.1:1", "10.1.0.1:2", "127.0.0.1:3", "[::1]:1"]),
            destination in prop::sample::select(vec!["127.0.0.1:1", "10.1.0.1:2", "[::1]:3"]),
            sni in prop::option::of(prop::sample::select(vec!["a.b", "A.b.", "c.a.b", "b", "a.c", "a.b.c", ".b", "a", "."])),
            tls in any::<bool>(),
        ) {
            let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
            let request = StreamRequest { source, destination, sni: sni.filter(|_| tls), tls };
            prop_assert_eq!(select(&routes, &request), reference(&routes, &request));
        }
    }
}
