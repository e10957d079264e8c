//! A connection after 101 (Switching Protocols): what its end needs of the request it began with, for the snapshot that
//! served the request is not kept for hours.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::connection::Connection;
use super::context::{Context, RequestId};
use super::service_of;
use crate::balancer::Pick;
use crate::config::snapshot::Consumer;
use crate::http::h1::client::UpstreamConn;
use crate::http::head::Head;
use crate::http::tunnel::{self, Bounds, End};
use crate::telemetry::Record;
use crate::token::Now;
use crate::worker::Worker;

/// An upgraded connection that is about to be joined with its upstream.
pub struct Tunnel {
    upstream: UpstreamConn,
    /// Counts as under way until the end.
    _pick: Pick,
    tries: u32,
    /// What is left of the token's life; zero: no bound.
    life: Duration,
    websocket: bool,
    request_id: RequestId,
    started: Instant,
    client: SocketAddr,
    host: Vec<u8>,
    route: Option<Arc<str>>,
    service: Option<Arc<str>>,
    consumer: Option<Arc<Consumer>>,
    credential: Option<Box<str>>,
    status: u16,
    edge: Duration,
    upstream_wait: Option<Duration>,
    issuer: Option<Duration>,
    correlation_id: Option<Box<str>>,
    upstream_address: Option<SocketAddr>,
}

impl Tunnel {
    /// The tunnel that a request becomes.
    pub fn new(context: &Context<'_>, upstream: UpstreamConn, pick: Pick, protocol: &[u8]) -> Self {
        Self {
            upstream,
            _pick: pick,
            tries: context.tries.count,
            life: life(context),
            websocket: protocol.eq_ignore_ascii_case(b"websocket"),
            request_id: context.request_id,
            started: context.started,
            client: context.client_address(),
            host: context.host.clone(),
            route: context.route.map(|route| route.label.clone()),
            service: service_of(context).map(|service| service.label.clone()),
            consumer: context.notes.caller.consumer.clone(),
            credential: context.notes.caller.credential.clone(),
            status: context.status,
            edge: context.edge_part(context.started.elapsed()),
            upstream_wait: context.upstream,
            issuer: context.notes.waited,
            correlation_id: context.notes.correlation_id.clone(),
            upstream_address: context.upstream_address,
        }
    }

    /// Joins the two sides until the end, and logs the request that became this.
    pub async fn run(self, worker: &Rc<Worker>, connection: &Connection, request: &Head, client: End) {
        let timeouts = &worker.settings.timeouts;
        let bounds = Bounds {
            idle: timeouts.tunnel_idle,
            write: timeouts.tunnel_idle,
            total: self.life,
            websocket: self.websocket,
            draining: &worker.draining,
            drain: timeouts.drain,
        };
        let (io, input) = self.upstream.into_parts();
        let (traffic, ending) = tunnel::join(client, End { io, input }, &worker.clock, &bounds).await;
        worker.metrics.bytes_in.add(traffic.up_bytes);
        worker.metrics.bytes_out.add(traffic.down_bytes);
        let reason = ending.reason();
        if let Some(reason) = reason {
            worker.metrics.refused(reason, self.route.as_deref());
        }
        let consumer = self.consumer.as_deref();
        worker.log(&Record {
            time: SystemTime::now(),
            request_id: self.request_id.as_str(),
            client: self.client,
            listener: &connection.listener.label,
            via: connection.via,
            local: connection.virtual_address(),
            version: Some(request.version()),
            tls: connection.tls_version,
            method: request.method(),
            host: &self.host,
            target: request.target(),
            route: self.route.as_deref(),
            service: self.service.as_deref(),
            consumer: consumer.and_then(|consumer| consumer.username.as_deref().or(consumer.custom_id.as_deref())),
            consumer_id: consumer.map(|consumer| consumer.id),
            credential: self.credential.as_deref(),
            status: self.status,
            reason,
            total: self.started.elapsed(),
            edge: self.edge,
            upstream: self.upstream_wait,
            issuer: self.issuer,
            correlation_id: self.correlation_id.as_deref(),
            bytes_in: traffic.up_bytes,
            bytes_out: traffic.down_bytes,
            tries: self.tries,
            upstream_address: self.upstream_address,
        });
    }
}

/// How long an upgraded connection may live (P8): its token's remaining life and `max_over_exp`.
fn life(context: &Context<'_>) -> Duration {
    let proxy = &context.worker.settings.proxy;
    let Some(expires) = context.notes.caller.expires_unix_ms.filter(|_| proxy.cut_at_expiry) else {
        return Duration::ZERO;
    };
    let over = proxy.max_over_exp.as_millis() as i64;
    // Zero would mean no bound: a token that has just expired still bounds.
    let left = expires.saturating_add(over).saturating_sub(Now::read().unix_ms).max(1);
    Duration::from_millis(left as u64)
}
