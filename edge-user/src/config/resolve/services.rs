//! Services with their balancers and the rules of TLS towards them.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use super::super::Env;
use super::super::problem::Sink;
use super::super::schema::{Document, ServiceEntity, UpstreamEntity};
use super::super::snapshot::{Host, Scheme, Service};
use super::certificates::Held;
use super::index::Index;
use super::label;
use crate::balancer::{Balancer, settings};
use crate::settings::Proxy;
use crate::tls::{self, Alpn, ClientTls};

/// The upstreams by name, ready to serve.
pub(super) struct Upstreams<'a> {
    by_name: HashMap<Box<str>, (&'a UpstreamEntity, Arc<Balancer>)>,
}

impl<'a> Upstreams<'a> {
    pub(super) fn new(document: &'a Document<'_>, env: &Env, proxy: &Proxy, sink: &Sink) -> Self {
        let name = |entity: &'a UpstreamEntity| entity.settings.as_ref().map(|settings| &*settings.name);
        let index = Index::of("upstreams", "name", &document.upstreams, |entity| (&entity.common, name(entity)), sink);
        let mut targets: Vec<Vec<settings::Target>> = document.upstreams.iter().map(|_| Vec::new()).collect();
        let by_target = Index::of("targets", "id", &document.targets, |entity| (&entity.common, None), sink);
        let mut taken = HashSet::new();
        for entity in &document.targets {
            let Some(upstream) = index.find(&entity.upstream, sink) else { continue };
            if !taken.insert((upstream, &entity.host, entity.port)) {
                by_target.violation(&entity.common, "upstream and target", &entity.text, sink);
            }
            if entity.weight > 0 {
                let (host, port) = (entity.host.clone(), entity.port);
                targets[upstream].push(settings::Target { host, port, weight: entity.weight });
            }
        }
        let mut by_name = HashMap::new();
        for (entity, targets) in document.upstreams.iter().zip(targets) {
            let Some(settings) = &entity.settings else { continue };
            if targets.is_empty() {
                let text = "no target with a weight: every request through it gets 503";
                sink.warn(entity.common.line, &entity.common.path, text);
            }
            let proxy_protocol = proxy.sends_to(&Host::Name(settings.name.clone()));
            let settings = settings::Upstream { targets, proxy_protocol, ..settings.clone() };
            by_name.insert(settings.name.clone(), (entity, env.balancers.upstream(&settings)));
        }
        Self { by_name }
    }

    fn of(&self, host: &Host) -> Option<&(&'a UpstreamEntity, Arc<Balancer>)> {
        match host {
            Host::Name(name) => self.by_name.get(name),
            Host::Ip(_) => None,
        }
    }
}

/// Warns where `[[proxy.upstreams]]` names a host that no service has.
pub(super) fn warn_of_hosts(services: &[ServiceEntity], proxy: &Proxy, sink: &Sink) {
    for upstream in &proxy.upstreams {
        let is_met =
            |service: &ServiceEntity| service.target.as_ref().is_some_and(|target| target.host == upstream.host);
        if !services.iter().any(is_met) {
            let text =
                format!("none has the host {} of `proxy.upstreams`: nobody gets its PROXY header", upstream.host);
            sink.warn(0, "services", &text);
        }
    }
}

/// Builds one service; `None` where a problem says why not.
pub(super) fn service(
    entity: &ServiceEntity,
    upstreams: &Upstreams<'_>,
    held: &Held<'_>,
    (env, proxy): (&Env, &Proxy),
    sink: &Sink,
) -> Option<Service> {
    let target = entity.target.as_ref()?;
    let upstream = upstreams.of(&target.host);
    let own_host = upstream.and_then(|(entity, _)| entity.host_header.as_deref());
    let before = sink.count();
    let shared = upstream.and_then(|(entity, _)| entity.client_certificate.as_ref());
    let client = entity.client_certificate.as_ref().or(shared);
    let rules = ClientTls {
        verify: entity.verify,
        verify_depth: entity.verify_depth,
        roots: entity.ca_certificates.as_ref().map(|ids| held.authorities(ids, sink).into()),
        identity: client.and_then(|reference| held.client(reference, sink)),
        alpn: match target.scheme {
            Scheme::Grpc | Scheme::Grpcs => Alpn::Http2,
            Scheme::Tcp | Scheme::Tls | Scheme::TlsPassthrough => Alpn::Nothing,
            _ if proxy.upstream_http2 => Alpn::Either,
            _ => Alpn::Http1,
        },
    };
    // Without what could not be found the rules would be others.
    let complete = sink.count() == before;
    let tls = match (target.scheme.is_tls() && complete).then(|| tls::client_config(&rules)) {
        None => None,
        Some(Ok(config)) => Some(config),
        Some(Err(error)) => {
            sink.problem(entity.common.line, &entity.common.path, error.to_string(), "TLS towards the upstream");
            None
        }
    };
    let mut endpoint = DefaultHasher::new();
    // The name that TLS asks for is that of `Host`.
    let secured = tls.as_ref().map(|_| (rules, own_host));
    let proxy_protocol = proxy.sends_to(&target.host);
    (target.scheme, &target.host, target.port, secured, proxy_protocol).hash(&mut endpoint);
    let host_header = match own_host {
        Some(host) => host.to_owned(),
        None if target.port == target.scheme.default_port() => target.host.to_string(),
        None => format!("{}:{}", target.host, target.port),
    };
    Some(Service {
        id: entity.common.id,
        name: entity.name.as_deref().map(Into::into),
        label: label(entity.name.as_deref(), entity.common.id),
        scheme: target.scheme,
        host: target.host.clone(),
        port: target.port,
        host_header: host_header.into(),
        path: target.path.as_deref().map(Into::into),
        retries: entity.retries,
        connect_timeout: Duration::from_millis(entity.connect_timeout_ms),
        write_timeout: Duration::from_millis(entity.write_timeout_ms),
        read_timeout: Duration::from_millis(entity.read_timeout_ms),
        tls,
        proxy_protocol,
        endpoint: endpoint.finish(),
        balancer: match upstream {
            Some((_, balancer)) => Arc::clone(balancer),
            None => env.balancers.single(target.host.clone(), target.port),
        },
    })
}
