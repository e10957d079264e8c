//! The numbers that are read where they are kept.

use std::sync::Arc;

use crate::config::Env;
use crate::kernel::Kernel;
use crate::metrics::{self, Exposition, Kind, Registry};
use crate::telemetry::{AccessLog, ErrorLog};
use crate::token::cache::VerdictCache;

/// Has the registry ask for them.
pub(super) fn register(
    registry: &Registry,
    kernel: &Arc<Kernel>,
    verdicts: &Arc<VerdictCache>,
    env: &Env,
    access_log: &AccessLog,
    error_log: &ErrorLog,
) {
    let (kernel, verdicts) = (kernel.clone(), verdicts.clone());
    let (access_log, error_log) = (access_log.clone(), error_log.clone());
    registry.register(move |to: &mut Exposition| {
        to.family("edge_kernel_frames_total", Kind::Counter, "Frames the kernel programs saw, by what became of them");
        for (name, count) in kernel.counters() {
            to.sample(&[("verdict", name)], count);
        }
        to.family("edge_kernel_lane_connections_total", Kind::Counter, "Connections that lanes chose a socket for");
        for (name, count) in kernel.lane_counters() {
            to.sample(&[("lane", name)], count);
        }
        to.family(
            "edge_kernel_reject_requests_total",
            Kind::Counter,
            "Requests at listeners with kernel_reject that the kernel looked at",
        );
        for (name, count) in kernel.reject_counters() {
            to.sample(&[("result", name)], count);
        }
        to.family("edge_kernel_vip_connections_total", Kind::Counter, "Connections to virtual addresses");
        for (name, count) in kernel.vip_counters() {
            to.sample(&[("result", name)], count);
        }
    });
    registry.register(move |to: &mut Exposition| {
        let stats = verdicts.stats();
        to.family(
            "edge_verdict_lookups_total",
            Kind::Counter,
            "Tokens looked up in the verdict cache, by what was found",
        );
        for (found, count) in [
            ("local", stats.local_hits),
            ("shared", stats.shared_hits),
            ("refusal", stats.negative_hits),
            ("nothing", stats.misses),
        ] {
            to.sample(&[("found", found)], count);
        }
        to.family("edge_verdict_signatures_total", Kind::Counter, "Signatures verified");
        to.sample(&[], stats.signatures);
        to.family("edge_verdict_entries", Kind::Gauge, "Entries of the shared verdict cache");
        to.sample(&[("verdict", "verified")], stats.positive_entries);
        to.sample(&[("verdict", "refused")], stats.negative_entries);
        to.family("edge_verdict_bytes", Kind::Gauge, "Bytes of the shared verdict cache");
        to.sample(&[("verdict", "verified")], stats.positive_bytes);
        to.sample(&[("verdict", "refused")], stats.negative_bytes);
    });
    let env = env.clone();
    registry.register(move |to: &mut Exposition| {
        let upstreams = env.balancers.health();
        to.family("edge_upstream_healthy", Kind::Gauge, "Upstreams with health checks: 1 where they take requests");
        for upstream in &upstreams {
            to.sample(&[("upstream", &*upstream.upstream)], u8::from(upstream.healthy));
        }
        to.family("edge_upstream_state_changes_total", Kind::Counter, "Addresses of targets that changed their state");
        for upstream in &upstreams {
            for (state, count) in ["healthy", "unhealthy"].into_iter().zip(upstream.changes) {
                to.sample(&[("upstream", &*upstream.upstream), ("to", state)], count);
            }
        }
        to.family("edge_upstream_waiting", Kind::Gauge, "Requests that wait for a target with room");
        to.sample(&[], env.balancers.waiting());
        if env.plugins.wants_upstream_health() {
            metrics::kong::write_target_health(&upstreams, to);
        }
    });
    registry.register(move |to: &mut Exposition| {
        access_log.collect(to);
        error_log.collect(to);
    });
}
