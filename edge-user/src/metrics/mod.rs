//! Numbers about the edge, in Prometheus' text format.
//!
//! Hot counters belong to one worker each and are written by it alone with plain loads and stores (`worker.rs`); the
//! registry adds them up when it is scraped. That is why no metrics crate is used: theirs are shared and locked or
//! contended. Other modules register a collector that writes their own families. Labels take values from closed sets
//! and from the configuration only, never from a client.

mod exposition;
pub mod kong;
mod process;
mod worker;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use uuid::Uuid;

pub use exposition::{CONTENT_TYPE, Exposition, Kind};
pub(crate) use process::resident_bytes;
pub use worker::{Counter, Gauge, Histogram, Totals, WorkerCounters, WorkerMetrics};

type Collector = Box<dyn Fn(&mut Exposition) + Send + Sync>;

/// All numbers of the process.
pub struct Registry {
    version: &'static str,
    node_id: Uuid,
    started: SystemTime,
    workers: Mutex<Vec<Arc<WorkerCounters>>>,
    kong: Mutex<Vec<Arc<kong::Series>>>,
    collectors: Mutex<Vec<Collector>>,
    reloads: AtomicU64,
    failed_reloads: AtomicU64,
    generation: AtomicU64,
}

impl Registry {
    /// An empty registry of the program's `version`.
    pub fn new(version: &'static str, node_id: Uuid) -> Self {
        Self {
            version,
            node_id,
            started: SystemTime::now(),
            workers: Mutex::default(),
            kong: Mutex::default(),
            collectors: Mutex::default(),
            reloads: AtomicU64::new(0),
            failed_reloads: AtomicU64::new(0),
            generation: AtomicU64::new(0),
        }
    }

    /// The counters of one more worker, for its thread alone.
    pub fn worker(&self) -> WorkerMetrics {
        let metrics = WorkerMetrics::default();
        lock(&self.workers).push(metrics.shared());
        lock(&self.kong).push(metrics.kong.shared());
        metrics
    }

    /// Adds a source that writes its own families at every scrape, off the workers.
    pub fn register(&self, collector: impl Fn(&mut Exposition) + Send + Sync + 'static) {
        lock(&self.collectors).push(Box::new(collector));
    }

    /// A new configuration is in force.
    pub fn configured(&self, generation: u64) {
        self.reloads.fetch_add(1, Ordering::Relaxed);
        self.generation.store(generation, Ordering::Relaxed);
    }

    /// A configuration was refused and the old one stayed.
    pub fn configuration_refused(&self) {
        self.failed_reloads.fetch_add(1, Ordering::Relaxed);
    }

    /// When the process started.
    pub fn started(&self) -> SystemTime {
        self.started
    }

    /// The sums over all workers.
    pub fn totals(&self) -> Totals {
        Totals::of(&lock(&self.workers))
    }

    /// Everything, as `GET /metrics` answers it. Reads `/proc`: not for a worker.
    pub fn render(&self) -> String {
        let mut to = Exposition::default();
        to.family("edge_build_info", Kind::Gauge, "1, with the version as label.");
        to.sample(&[("version", self.version)], 1);
        to.family("edge_config_loads_total", Kind::Counter, "Configurations loaded, by result.");
        to.sample(&[("result", "ok")], self.reloads.load(Ordering::Relaxed));
        to.sample(&[("result", "refused")], self.failed_reloads.load(Ordering::Relaxed));
        to.family("edge_config_generation", Kind::Gauge, "The configuration in force, counted from the start.");
        to.sample(&[], self.generation.load(Ordering::Relaxed));
        let totals = self.totals();
        totals.write(&mut to);
        kong::write(&lock(&self.kong), &mut to);
        kong::write_node(self.node_id, self.version, &totals, &mut to);
        for collector in lock(&self.collectors).iter() {
            collector(&mut to);
        }
        let started = self.started.duration_since(UNIX_EPOCH).unwrap_or_default();
        process::write(started.as_secs(), &mut to);
        to.finish()
    }
}

/// A panic while a list was held leaves it whole: pushes are the only writes.
fn lock<T>(list: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    list.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::Version;
    use crate::reason::Reason;
    use std::time::Duration;

    #[test]
    fn a_scrape_adds_up_workers_and_asks_collectors() {
        let registry = Registry::new("1.2.3", Uuid::nil());
        let (one, two) = (registry.worker(), registry.worker());
        one.request(Version::Http11, 200);
        two.request(Version::Http11, 204);
        two.request(Version::Http2, 401);
        two.refused(Reason::TokenExpired, Some("orders"));
        one.edge_overhead.observe(Duration::from_micros(12));
        one.open_connections.raise();
        registry.configured(7);
        registry.configuration_refused();
        registry.register(|to| {
            to.family("edge_verdicts_total", Kind::Counter, "Verdicts.");
            to.sample(&[("level", "first")], 5);
        });
        let text = registry.render();
        for line in [
            "edge_build_info{version=\"1.2.3\"} 1",
            "edge_http_requests_total{version=\"1.1\",class=\"2xx\"} 2",
            "edge_http_requests_total{version=\"2\",class=\"4xx\"} 1",
            "edge_refusals_total{reason=\"token_expired\"} 1",
            "edge_route_refusals_total{route=\"orders\",reason=\"token_expired\"} 1",
            "edge_overhead_seconds_bucket{le=\"0.00001\"} 0",
            "edge_overhead_seconds_bucket{le=\"0.00002\"} 1",
            "edge_overhead_seconds_bucket{le=\"+Inf\"} 1",
            "edge_overhead_seconds_sum 0.000012",
            "edge_overhead_seconds_count 1",
            "edge_connections_open 1",
            "edge_config_loads_total{result=\"refused\"} 1",
            "edge_config_generation 7",
            "edge_verdicts_total{level=\"first\"} 5",
        ] {
            assert!(text.lines().any(|have| have == line), "{line} in\n{text}");
        }
        assert!(!text.contains("token_malformed"), "reasons that never occurred are left out");
    }

    /// The rules of the text format 0.0.4 that a scraper rejects on.
    #[test]
    fn families_are_announced_once_and_before_their_samples() {
        let registry = Registry::new("1", Uuid::nil());
        registry.worker().request(Version::Http10, 500);
        let text = registry.render();
        let mut announced = Vec::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let name = rest.split(' ').next().unwrap();
                assert!(!announced.contains(&name), "{name} twice");
                announced.push(name);
            } else if !line.starts_with('#') {
                let name = line.split(['{', ' ']).next().unwrap();
                let family = announced.last().unwrap();
                let suffix = name.strip_prefix(family).unwrap_or_else(|| panic!("{line} outside its family"));
                assert!(["", "_bucket", "_sum", "_count"].contains(&suffix), "{line}");
                line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap();
            }
        }
        assert!(announced.contains(&"process_resident_memory_bytes"));
        assert!(text.ends_with('\n'));
    }
}
