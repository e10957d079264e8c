//! One worker's counters and their sums.
//!
//! A counter has one writer, its worker; scrapes only read. So an update is a relaxed load and store, without the
//! locked instruction and the shared cache line of a common counter.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{Exposition, Kind, lock};
use crate::http::head::Version;
use crate::reason::Reason;

/// Routes a worker keeps refusals of; beyond that, over many reloads, they count under `OTHER_ROUTES`.
const MAX_ROUTES: usize = 1024;
const OTHER_ROUTES: &str = "(others)";
/// The route label of a refusal before routing.
const NO_ROUTE: &str = "";

/// A number that only grows, with one writer.
#[derive(Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `count`. Only the owning worker may call this.
    pub fn add(&self, count: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    /// The value as last stored.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number of things that exist now, with one writer.
#[derive(Default)]
pub struct Gauge(Counter);

impl Gauge {
    /// One more. Only the owning worker may call this.
    pub fn raise(&self) {
        self.0.add(1);
    }

    /// One less. Only the owning worker may call this.
    pub fn lower(&self) {
        self.0.add(u64::MAX);
    }

    /// The value as last stored.
    pub fn value(&self) -> u64 {
        self.0.value()
    }
}

/// Upper bounds of the edge's own part, in µs.
const OVERHEAD_US: [u64; BUCKETS] =
    [10, 20, 30, 50, 75, 100, 150, 250, 500, 1_000, 2_500, 5_000, 10_000, 50_000, 250_000];
/// Upper bounds of whole requests and of waits for upstreams, in µs.
const LATENCY_US: [u64; BUCKETS] = [
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 10_000_000,
    60_000_000,
];
const BUCKETS: usize = 15;

/// A distribution of durations over fixed bounds, with one writer.
pub struct Histogram {
    bounds_us: &'static [u64; BUCKETS],
    counts: [Counter; BUCKETS + 1],
    sum_ns: Counter,
}

impl Histogram {
    fn new(bounds_us: &'static [u64; BUCKETS]) -> Self {
        Self { bounds_us, counts: Default::default(), sum_ns: Counter::default() }
    }

    /// Counts one duration. Only the owning worker may call this.
    pub fn observe(&self, duration: Duration) {
        let ns = duration.as_nanos() as u64;
        let slot = self.bounds_us.iter().position(|bound| ns <= bound * 1000).unwrap_or(BUCKETS);
        self.counts[slot].add(1);
        self.sum_ns.add(ns);
    }
}

/// What one worker counts. Methods and fields are written by that worker alone.
#[repr(align(128))]
pub struct WorkerCounters {
    /// By version and by the first digit of the status; digit 0 is a request that ended without one.
    requests: [[Counter; 6]; 3],
    refusals: [Counter; Reason::ALL.len()],
    /// Locked by the worker only for a route it meets for the first time.
    routes: Mutex<Vec<(Box<str>, Arc<RouteRefusals>)>>,
    /// The edge's own part of a request.
    pub edge_overhead: Histogram,
    /// Waits for upstreams.
    pub upstream: Histogram,
    /// Whole requests.
    pub total: Histogram,
    /// Whole sessions of streams.
    pub sessions: Histogram,
    /// Client connections now.
    pub open_connections: Gauge,
    /// Client connections accepted.
    pub accepted: Counter,
    /// TLS handshakes with clients that succeeded.
    pub handshakes: Counter,
    /// TLS handshakes with clients that failed.
    pub failed_handshakes: Counter,
    /// Bytes received from clients.
    pub bytes_in: Counter,
    /// Bytes sent to clients.
    pub bytes_out: Counter,
    /// Upstream connections made.
    pub upstream_connects: Counter,
    /// Requests that found a pooled upstream connection.
    pub upstream_reuses: Counter,
    /// Upstream connections that could not be made.
    pub upstream_failures: Counter,
}

type RouteRefusals = [Counter; Reason::ALL.len()];

fn zeros() -> RouteRefusals {
    std::array::from_fn(|_| Counter::default())
}

impl Default for WorkerCounters {
    fn default() -> Self {
        Self {
            requests: Default::default(),
            refusals: zeros(),
            routes: Mutex::default(),
            edge_overhead: Histogram::new(&OVERHEAD_US),
            upstream: Histogram::new(&LATENCY_US),
            total: Histogram::new(&LATENCY_US),
            sessions: Histogram::new(&LATENCY_US),
            open_connections: Gauge::default(),
            accepted: Counter::default(),
            handshakes: Counter::default(),
            failed_handshakes: Counter::default(),
            bytes_in: Counter::default(),
            bytes_out: Counter::default(),
            upstream_connects: Counter::default(),
            upstream_reuses: Counter::default(),
            upstream_failures: Counter::default(),
        }
    }
}

/// A worker's handle on its counters. It stays on the worker's thread.
#[derive(Default)]
pub struct WorkerMetrics {
    counters: Arc<WorkerCounters>,
    routes: RefCell<HashMap<Box<str>, Arc<RouteRefusals>>>,
}

impl Deref for WorkerMetrics {
    type Target = WorkerCounters;

    fn deref(&self) -> &WorkerCounters {
        &self.counters
    }
}

impl WorkerMetrics {
    pub(super) fn shared(&self) -> Arc<WorkerCounters> {
        self.counters.clone()
    }

    /// Counts a finished request; `status` 0 is one that ended without an answer.
    pub fn request(&self, version: Version, status: u16) {
        let class = usize::from(status / 100);
        self.counters.requests[version as usize][if class < 6 { class } else { 0 }].add(1);
    }

    /// Counts a refusal, under the route's name where one was chosen.
    pub fn refused(&self, reason: Reason, route: Option<&str>) {
        self.counters.refusals[reason.index()].add(1);
        let route = route.unwrap_or(NO_ROUTE);
        let mut routes = self.routes.borrow_mut();
        let known = match routes.get(route) {
            Some(known) => known,
            None => {
                let name = if routes.len() < MAX_ROUTES { route } else { OTHER_ROUTES };
                routes.entry(name.into()).or_insert_with(|| self.meet(name))
            }
        };
        known[reason.index()].add(1);
    }

    fn meet(&self, route: &str) -> Arc<RouteRefusals> {
        let refusals = Arc::new(zeros());
        lock(&self.counters.routes).push((route.into(), refusals.clone()));
        refusals
    }
}

/// A histogram's sum over workers.
struct Distribution {
    bounds_us: &'static [u64; BUCKETS],
    counts: [u64; BUCKETS + 1],
    sum_ns: u64,
}

impl Distribution {
    fn of<'a>(histograms: impl Iterator<Item = &'a Histogram>, bounds_us: &'static [u64; BUCKETS]) -> Self {
        let mut sum = Self { bounds_us, counts: [0; BUCKETS + 1], sum_ns: 0 };
        for histogram in histograms {
            for (slot, count) in sum.counts.iter_mut().zip(&histogram.counts) {
                *slot += count.value();
            }
            sum.sum_ns = sum.sum_ns.wrapping_add(histogram.sum_ns.value());
        }
        sum
    }

    fn write(&self, name: &'static str, help: &str, to: &mut Exposition) {
        to.family(name, Kind::Histogram, help);
        let mut below = 0;
        for (bound, count) in self.bounds_us.iter().zip(&self.counts) {
            below += count;
            to.suffixed("_bucket", &[("le", &(*bound as f64 / 1e6).to_string())], below);
        }
        below += self.counts[BUCKETS];
        to.suffixed("_bucket", &[("le", "+Inf")], below);
        to.suffixed("_sum", &[], self.sum_ns as f64 / 1e9);
        to.suffixed("_count", &[], below);
    }
}

/// The sums over all workers at one moment.
pub struct Totals {
    requests: [[u64; 6]; 3],
    refusals: Vec<u64>,
    route_refusals: BTreeMap<(Box<str>, usize), u64>,
    overhead: Distribution,
    upstream: Distribution,
    total: Distribution,
    sessions: Distribution,
    /// Client connections now.
    pub open_connections: u64,
    /// Client connections accepted.
    pub accepted: u64,
    handshakes: [u64; 2],
    bytes: [u64; 2],
    upstream_connections: [u64; 3],
}

impl Totals {
    pub(super) fn of(workers: &[Arc<WorkerCounters>]) -> Self {
        let sum = |value: fn(&WorkerCounters) -> u64| workers.iter().map(|w| value(w)).fold(0, u64::wrapping_add);
        let mut route_refusals = BTreeMap::new();
        let mut requests = [[0; 6]; 3];
        for worker in workers {
            for (route, counts) in lock(&worker.routes).iter() {
                for (index, count) in counts.iter().enumerate().filter(|(_, count)| count.value() > 0) {
                    *route_refusals.entry((route.clone(), index)).or_default() += count.value();
                }
            }
            for (slot, count) in requests.as_flattened_mut().iter_mut().zip(worker.requests.as_flattened()) {
                *slot += count.value();
            }
        }
        Self {
            requests,
            refusals: (0..Reason::ALL.len())
                .map(|index| workers.iter().map(|worker| worker.refusals[index].value()).sum())
                .collect(),
            route_refusals,
            overhead: Distribution::of(workers.iter().map(|worker| &worker.edge_overhead), &OVERHEAD_US),
            upstream: Distribution::of(workers.iter().map(|worker| &worker.upstream), &LATENCY_US),
            total: Distribution::of(workers.iter().map(|worker| &worker.total), &LATENCY_US),
            sessions: Distribution::of(workers.iter().map(|worker| &worker.sessions), &LATENCY_US),
            open_connections: sum(|w| w.open_connections.value()),
            accepted: sum(|w| w.accepted.value()),
            handshakes: [sum(|w| w.handshakes.value()), sum(|w| w.failed_handshakes.value())],
            bytes: [sum(|w| w.bytes_in.value()), sum(|w| w.bytes_out.value())],
            upstream_connections: [
                sum(|w| w.upstream_connects.value()),
                sum(|w| w.upstream_reuses.value()),
                sum(|w| w.upstream_failures.value()),
            ],
        }
    }

    /// Requests finished, all versions and outcomes.
    pub fn requests(&self) -> u64 {
        self.requests.as_flattened().iter().sum()
    }

    pub(super) fn write(&self, to: &mut Exposition) {
        to.family("edge_http_requests_total", Kind::Counter, "Requests, by HTTP version and class of the status sent.");
        for (version, classes) in [Version::Http10, Version::Http11, Version::Http2].iter().zip(&self.requests) {
            let names = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];
            for (class, count) in names.iter().zip(classes).filter(|(_, count)| **count > 0) {
                to.sample(&[("version", version.number()), ("class", class)], count);
            }
        }
        to.family(
            "edge_refusals_total",
            Kind::Counter,
            "Requests the edge answered itself and connections it ended, by reason.",
        );
        for (reason, count) in Reason::ALL.iter().zip(&self.refusals).filter(|(_, count)| **count > 0) {
            to.sample(&[("reason", reason.code())], count);
        }
        to.family("edge_route_refusals_total", Kind::Counter, "The same, by route; empty before one was chosen.");
        for ((route, reason), count) in &self.route_refusals {
            to.sample(&[("route", route), ("reason", Reason::ALL[*reason].code())], count);
        }
        self.overhead.write("edge_overhead_seconds", "The edge's own part of a request.", to);
        self.upstream.write("edge_upstream_seconds", "Waiting for the upstream.", to);
        self.total.write("edge_request_seconds", "Whole requests, first byte in to last byte out.", to);
        self.sessions.write("edge_stream_session_seconds", "Whole sessions of stream routes.", to);
        to.family("edge_connections_open", Kind::Gauge, "Client connections now.");
        to.sample(&[], self.open_connections);
        to.family("edge_connections_accepted_total", Kind::Counter, "Client connections accepted.");
        to.sample(&[], self.accepted);
        to.family("edge_tls_handshakes_total", Kind::Counter, "TLS handshakes with clients, by result.");
        to.sample(&[("result", "ok")], self.handshakes[0]);
        to.sample(&[("result", "failed")], self.handshakes[1]);
        to.family("edge_bytes_total", Kind::Counter, "Bytes exchanged with clients.");
        to.sample(&[("direction", "in")], self.bytes[0]);
        to.sample(&[("direction", "out")], self.bytes[1]);
        to.family("edge_upstream_connections_total", Kind::Counter, "Connections asked of the pool, by result.");
        for (result, count) in ["connected", "reused", "failed"].iter().zip(&self.upstream_connections) {
            to.sample(&[("result", result)], count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_fall_into_the_bucket_that_bounds_them() {
        for (us, slot) in [(0, 0), (10, 0), (11, 1), (250_000, BUCKETS - 1), (250_001, BUCKETS)] {
            let histogram = Histogram::new(&OVERHEAD_US);
            histogram.observe(Duration::from_micros(us));
            let filled: Vec<_> = (0..=BUCKETS).filter(|slot| histogram.counts[*slot].value() > 0).collect();
            assert_eq!(filled, [slot], "{us}");
        }
        for bounds in [OVERHEAD_US, LATENCY_US] {
            assert!(bounds.is_sorted());
        }
    }

    #[test]
    fn a_gauge_goes_up_and_down() {
        let gauge = Gauge::default();
        gauge.raise();
        gauge.raise();
        gauge.lower();
        assert_eq!(gauge.value(), 1);
    }

    /// L5: reloads may rename routes for ever.
    #[test]
    fn route_labels_are_bounded() {
        let worker = WorkerMetrics::default();
        for index in 0..3 * MAX_ROUTES {
            worker.refused(Reason::TokenExpired, Some(&format!("route-{index}")));
        }
        worker.refused(Reason::RouteNotFound, None);
        let totals = Totals::of(&[worker.shared()]);
        assert_eq!(totals.route_refusals.len(), MAX_ROUTES + 2);
        assert_eq!(totals.route_refusals.values().sum::<u64>(), 3 * MAX_ROUTES as u64 + 1);
        assert_eq!(worker.routes.borrow().len(), MAX_ROUTES + 1);
    }

    #[test]
    fn odd_statuses_are_counted_somewhere() {
        let worker = WorkerMetrics::default();
        for status in [0, 99, 101, 599, 600, 999] {
            worker.request(Version::Http11, status);
        }
        assert_eq!(Totals::of(&[worker.shared()]).requests(), 6);
    }
}
