//! The families that Kong's `prometheus` plugin writes, so that its dashboards go on working.
//!
//! As in `worker.rs` every number has one writer. A worker keeps its series by id and takes a lock only for a series
//! it meets for the first time; a scrape adds up what is called the same. Heads are counted as the HTTP/1 text they
//! are or would be, so over HTTP/2 bandwidth is that before compression. Connections that read, write or wait are not
//! told apart, and there are no timers and no Lua: the families of those are left out, but for the memory of the
//! process, which stands where dashboards look for that of the workers.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use uuid::Uuid;

use super::worker::{Counter, Totals};
use super::{Exposition, Kind, lock, resident_bytes};
use crate::balancer::{State, UpstreamHealth};
use crate::config::snapshot::{Consumer, Route};

/// Series a worker keeps, over all reloads; what belongs to others is dropped and counted.
const MAX_SERIES: usize = 10_000;

const WORKSPACE: (&str, &str) = ("workspace", "default");
const SUBSYSTEM: &str = "http";

/// Upper bounds of the edge's own part, in ms.
const KONG_MS: &[u64] = &[1, 2, 5, 7, 10, 15, 20, 30, 50, 75, 100, 200, 500, 750, 1000, 3000, 6000];
/// Upper bounds of waits for upstreams and of whole requests, in ms.
const UPSTREAM_MS: &[u64] = &[25, 50, 80, 100, 250, 400, 700, 1000, 2000, 5000, 10_000, 30_000, 60_000];
const BUCKETS: usize = KONG_MS.len() + 1;

const HISTOGRAMS: [(&str, &str, &[u64]); 3] = [
    ("kong_kong_latency_ms", "The edge's own part of a request, in ms.", KONG_MS),
    ("kong_upstream_latency_ms", "Waiting for the upstream's response head, in ms.", UPSTREAM_MS),
    ("kong_request_latency_ms", "Whole requests, in ms.", UPSTREAM_MS),
];

/// One ended request, and what of it is wanted.
pub struct Sample<'a> {
    /// Its route.
    pub route: &'a Route,
    /// Whom it stood for, where that is wanted.
    pub consumer: Option<&'a Consumer>,
    /// The status sent.
    pub code: u16,
    /// Whether the upstream answered.
    pub by_service: bool,
    /// Whether it is counted by status.
    pub counts: bool,
    /// How long it took, where that is wanted.
    pub latencies: Option<Latencies>,
    /// What it transferred, where that is wanted.
    pub bytes: Option<Bytes>,
}

/// How long one request took.
#[derive(Clone, Copy)]
pub struct Latencies {
    /// The edge's own part.
    pub kong: Duration,
    /// The upstream's, if it answered.
    pub upstream: Option<Duration>,
    /// The whole.
    pub request: Duration,
}

/// What one request transferred, heads included.
#[derive(Clone, Copy)]
pub struct Bytes {
    /// From the client.
    pub ingress: u64,
    /// To the client.
    pub egress: u64,
}

/// What all requests of one route and service share.
pub(super) struct Place {
    service: Box<str>,
    route: Box<str>,
    latencies: [Distribution; 3],
}

#[derive(Default)]
struct Distribution {
    counts: [Counter; BUCKETS],
    sum_ns: Counter,
}

impl Distribution {
    fn observe(&self, bounds_ms: &[u64], duration: Duration) {
        let ns = duration.as_nanos() as u64;
        let slot = bounds_ms.iter().position(|bound| ns <= bound * 1_000_000).unwrap_or(bounds_ms.len());
        self.counts[slot].add(1);
        self.sum_ns.add(ns);
    }
}

/// What all requests of one place, consumer, status and source share.
pub(super) struct Outcome {
    place: Arc<Place>,
    consumer: Box<str>,
    code: u16,
    by_service: bool,
    requests: Counter,
    ingress: Counter,
    egress: Counter,
}

/// One worker's series as a scrape reads them.
#[derive(Default)]
pub(super) struct Series {
    places: Mutex<Vec<Arc<Place>>>,
    outcomes: Mutex<Vec<Arc<Outcome>>>,
    dropped: Counter,
}

/// A worker's handle on its series. It stays on the worker's thread.
#[derive(Default)]
pub struct KongSeries {
    series: Arc<Series>,
    known: RefCell<Known>,
}

#[derive(Default)]
struct Known {
    /// By route and service.
    places: HashMap<(Uuid, Uuid), KnownPlace>,
    made: usize,
}

struct KnownPlace {
    place: Arc<Place>,
    /// By consumer, status and source.
    outcomes: HashMap<(Uuid, u16, bool), Arc<Outcome>>,
}

fn service_name(route: &Route) -> Box<str> {
    let service = route.service.as_deref();
    service.map_or_else(Box::default, |service| service.name.clone().unwrap_or_else(|| service.host.to_string().into()))
}

fn consumer_name(consumer: Option<&Consumer>) -> &str {
    consumer.and_then(|consumer| consumer.username.as_deref().or(consumer.custom_id.as_deref())).unwrap_or_default()
}

impl Place {
    /// Whether it is called what route and service are called now: a reload may rename both.
    fn is_of(&self, route: &Route) -> bool {
        let service = route.service.as_deref().and_then(|service| service.name.as_deref());
        *self.route == *route.label
            && service.map_or_else(|| *self.service == *service_name(route), |name| *self.service == *name)
    }
}

impl KongSeries {
    pub(super) fn shared(&self) -> Arc<Series> {
        self.series.clone()
    }

    /// Counts one request.
    pub fn record(&self, sample: &Sample<'_>) {
        let Sample { route, consumer, code, by_service, counts, latencies, bytes } = *sample;
        let mut known = self.known.borrow_mut();
        let Known { places, made } = &mut *known;
        let ids = (route.id, route.service.as_ref().map_or(Uuid::nil(), |service| service.id));
        if places.get(&ids).is_none_or(|known| !known.place.is_of(route)) {
            if *made >= MAX_SERIES {
                return self.series.dropped.add(1);
            }
            *made += 1;
            let place = Arc::new(Place {
                service: service_name(route),
                route: (*route.label).into(),
                latencies: Default::default(),
            });
            lock(&self.series.places).push(place.clone());
            places.insert(ids, KnownPlace { place, outcomes: HashMap::new() });
        }
        let Some(KnownPlace { place, outcomes }) = places.get_mut(&ids) else { return };
        if let Some(Latencies { kong, upstream, request }) = latencies {
            let durations = [Some(kong), upstream, Some(request)];
            for ((to, duration), (_, _, bounds)) in place.latencies.iter().zip(durations).zip(HISTOGRAMS) {
                if let Some(duration) = duration {
                    to.observe(bounds, duration);
                }
            }
        }
        // A request that ended before any status has none to be counted by.
        if !(counts || bytes.is_some()) || code == 0 {
            return;
        }
        let name = consumer_name(consumer);
        let key = (consumer.map_or(Uuid::nil(), |consumer| consumer.id), code, by_service);
        if outcomes.get(&key).is_none_or(|outcome| *outcome.consumer != *name) {
            if *made >= MAX_SERIES {
                return self.series.dropped.add(1);
            }
            *made += 1;
            let outcome = Arc::new(Outcome {
                place: place.clone(),
                consumer: name.into(),
                code,
                by_service,
                requests: Counter::default(),
                ingress: Counter::default(),
                egress: Counter::default(),
            });
            lock(&self.series.outcomes).push(outcome.clone());
            outcomes.insert(key, outcome);
        }
        let Some(outcome) = outcomes.get(&key) else { return };
        if counts {
            outcome.requests.add(1);
        }
        if let Some(Bytes { ingress, egress }) = bytes {
            outcome.ingress.add(ingress);
            outcome.egress.add(egress);
        }
    }
}

/// Writes what the workers counted.
pub(super) fn write(workers: &[Arc<Series>], to: &mut Exposition) {
    let outcomes: Vec<Arc<Outcome>> = workers.iter().flat_map(|worker| lock(&worker.outcomes).clone()).collect();
    let places: Vec<Arc<Place>> = workers.iter().flat_map(|worker| lock(&worker.places).clone()).collect();

    let mut requests: BTreeMap<_, u64> = BTreeMap::new();
    let mut bandwidth: BTreeMap<_, u64> = BTreeMap::new();
    for outcome in &outcomes {
        let (service, route) = (&*outcome.place.service, &*outcome.place.route);
        let source = if outcome.by_service { "service" } else { "kong" };
        *requests.entry((service, route, outcome.code, source, &*outcome.consumer)).or_default() +=
            outcome.requests.value();
        for (direction, bytes) in [("egress", &outcome.egress), ("ingress", &outcome.ingress)] {
            *bandwidth.entry((service, route, direction, &*outcome.consumer)).or_default() += bytes.value();
        }
    }
    let help = "Requests by service, route, status, source and consumer.";
    family(to, "kong_http_requests_total", Kind::Counter, help, requests.values().any(|count| *count > 0));
    for ((service, route, code, source, consumer), count) in requests.into_iter().filter(|(_, count)| *count > 0) {
        let mut digits = itoa::Buffer::new();
        let labels = [
            ("service", service),
            ("route", route),
            ("code", digits.format(code)),
            ("source", source),
            WORKSPACE,
            ("consumer", consumer),
        ];
        to.sample(&labels, count);
    }
    for (index, (name, help, bounds)) in HISTOGRAMS.into_iter().enumerate() {
        let mut sums: BTreeMap<(&str, &str), ([u64; BUCKETS], u64)> = BTreeMap::new();
        for place in &places {
            let from = &place.latencies[index];
            let (counts, sum_ns) = sums.entry((&place.service, &place.route)).or_default();
            counts.iter_mut().zip(&from.counts).for_each(|(count, from)| *count += from.value());
            *sum_ns = sum_ns.wrapping_add(from.sum_ns.value());
        }
        sums.retain(|_, (counts, _)| counts.iter().any(|count| *count > 0));
        family(to, name, Kind::Histogram, help, !sums.is_empty());
        for ((service, route), (counts, sum_ns)) in sums {
            let labels = [("service", service), ("route", route), WORKSPACE];
            let mut below = 0;
            for (slot, count) in counts[..=bounds.len()].iter().enumerate() {
                below += count;
                let bound = bounds.get(slot).map_or_else(|| "+Inf".to_owned(), u64::to_string);
                to.suffixed("_bucket", &[labels[0], labels[1], labels[2], ("le", &bound)], below);
            }
            to.suffixed("_count", &labels, below);
            to.suffixed("_sum", &labels, sum_ns as f64 / 1e6);
        }
    }
    let help = "Bytes exchanged with clients, heads included.";
    family(to, "kong_bandwidth_bytes", Kind::Counter, help, bandwidth.values().any(|bytes| *bytes > 0));
    for ((service, route, direction, consumer), bytes) in bandwidth.into_iter().filter(|(_, bytes)| *bytes > 0) {
        let labels =
            [("service", service), ("route", route), ("direction", direction), WORKSPACE, ("consumer", consumer)];
        to.sample(&labels, bytes);
    }
    let dropped: u64 = workers.iter().map(|worker| worker.dropped.value()).sum();
    to.family("kong_nginx_metric_errors_total", Kind::Counter, "Updates of metrics that were lost.");
    to.sample(&[], dropped);
    to.family("edge_metric_series_dropped_total", Kind::Counter, "Updates of kong_ series beyond the bound on them.");
    to.sample(&[], dropped);
}

/// A family without samples is not announced.
fn family(to: &mut Exposition, name: &'static str, kind: Kind, help: &str, any: bool) {
    if any {
        to.family(name, kind, help);
    }
}

/// Writes the gauges of the node, which need no instance of the plugin.
pub(super) fn write_node(node_id: Uuid, version: &str, totals: &Totals, to: &mut Exposition) {
    let node_id = &*node_id.to_string();
    let node = [("node_id", node_id), ("subsystem", SUBSYSTEM)];
    to.family("kong_nginx_connections_total", Kind::Gauge, "Client connections, by state.");
    for (state, count) in [
        ("accepted", totals.accepted),
        ("active", totals.open_connections),
        ("handled", totals.accepted),
        ("total", totals.requests()),
    ] {
        to.sample(&[node[0], node[1], ("state", state)], count);
    }
    to.family("kong_nginx_requests_total", Kind::Gauge, "Requests.");
    to.sample(&node, totals.requests());
    to.family("kong_datastore_reachable", Kind::Gauge, "1: there is no database to reach.");
    to.sample(&[], 1);
    to.family("kong_node_info", Kind::Gauge, "1, with id and version as labels.");
    to.sample(&[("node_id", node_id), ("version", version)], 1);
    if let Some(bytes) = resident_bytes() {
        to.family("kong_memory_workers_lua_vms_bytes", Kind::Gauge, "Memory of the process with all its workers.");
        let pid = std::process::id().to_string();
        to.sample(&[("node_id", node_id), ("pid", &pid), ("kong_subsystem", SUBSYSTEM)], bytes);
    }
}

/// Writes the health of targets: a series for each state, 1 for the current. A target whose name has no address stands
/// there without one.
pub fn write_target_health(upstreams: &[UpstreamHealth], to: &mut Exposition) {
    const STATES: [State; 4] = [State::HealthchecksOff, State::Healthy, State::Unhealthy, State::DnsError];
    let help = "Targets of upstreams: 1 for the state they are in.";
    to.family("kong_upstream_target_health", Kind::Gauge, help);
    for upstream in upstreams {
        for target in &upstream.targets {
            let found = target.addresses.iter().map(|found| (found.address.to_string(), found.state));
            let nowhere = target.addresses.is_empty().then(|| (String::new(), target.state));
            for (address, now) in found.chain(nowhere) {
                for state in STATES {
                    let labels = [
                        ("upstream", &*upstream.upstream),
                        ("target", &target.target),
                        ("address", &address),
                        ("state", state.as_str()),
                        ("subsystem", SUBSYSTEM),
                    ];
                    to.sample(&labels, u8::from(state == now));
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "kong_tests.rs"]
mod tests;
