//! `prometheus`: which of Kong's metrics the requests of a route are counted in. Counting is `metrics::kong`'s part.

use std::sync::Arc;

use super::{Ended, PluginEnv};
use crate::config::reader::Reader;
use crate::http::head::Owner;
use crate::metrics::kong::{Bytes, Latencies, Sample};

/// As in the configuration.
pub const NAME: &str = "prometheus";
/// Kong's.
pub const PRIORITY: u32 = 13;

/// One configured instance.
pub struct Prometheus {
    per_consumer: bool,
    status_code_metrics: bool,
    latency_metrics: bool,
    bandwidth_metrics: bool,
    /// Held where `upstream_health_metrics` is on, for `PluginEnv::wants_upstream_health`.
    _health: Option<Arc<()>>,
}

impl Prometheus {
    /// Reads the settings; problems go to the reader's sink.
    pub fn parse(mut config: Reader<'_>, env: &PluginEnv) -> Option<Self> {
        let problems = config.sink().count();
        let mut switch = |key| config.bool(key).unwrap_or(false);
        let plugin = Self {
            per_consumer: switch("per_consumer"),
            status_code_metrics: switch("status_code_metrics"),
            latency_metrics: switch("latency_metrics"),
            bandwidth_metrics: switch("bandwidth_metrics"),
            _health: switch("upstream_health_metrics").then(|| env.health.clone()),
        };
        for key in ["ai_metrics", "wasm_metrics"] {
            config.unsupported(key, false.into());
        }
        let sink = config.sink();
        config.finish();
        (sink.count() == problems).then_some(plugin)
    }

    /// The log phase.
    pub fn log(&self, ended: &Ended<'_>) {
        let consumer = ended.caller.consumer.as_deref().filter(|_| self.per_consumer);
        ended.metrics.kong.record(&Sample {
            route: ended.route,
            consumer,
            code: ended.status,
            by_service: ended.upstream.is_some(),
            counts: self.status_code_metrics,
            latencies: self.latency_metrics.then_some(Latencies {
                kong: ended.edge,
                upstream: ended.upstream,
                request: ended.total,
            }),
            bytes: self.bandwidth_metrics.then(|| Bytes {
                // What the edge added on the way upstream did not come from the client.
                ingress: ended.request.text_bytes(|owner| owner == Owner::Peer) + ended.request_bytes,
                egress: ended.response.map_or(0, |head| head.text_bytes(|_| true)) + ended.response_bytes,
            }),
        });
    }
}
