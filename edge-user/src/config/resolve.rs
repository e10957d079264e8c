//! References, ids and uniqueness; which plugin instance serves which route; `Document` → `Snapshot`.

mod certificates;
mod index;
mod parties;
mod services;

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use rustls::sign::CertifiedKey;
use uuid::Uuid;

use self::certificates::Held;
use self::index::Index;
use self::parties::{Parties, parties};
use self::services::Upstreams;
use super::Env;
use super::ownership::{Ownership, Reach};
use super::problem::Sink;
use super::rejection::KernelRejection;
use super::schema::{Document, PluginEntity, Ref, RouteEntity, ServiceEntity};
use super::scoping::{Scope, Scoping};
use super::snapshot::{Protocol, Protocols, Route, Scheme, Service, Snapshot, StreamRoute};
use crate::plugin::plan::Instance;
use crate::plugin::{Place, Plugin};
use crate::router::{Router, StreamProtocol, StreamRouter};
use crate::settings::Proxy;

/// Builds the snapshot; it is good only if the sink stays without problems.
pub(super) fn resolve(
    mut document: Document<'_>,
    listeners: Vec<Option<Arc<CertifiedKey>>>,
    env: &Env,
    proxy: &Proxy,
    generation: u64,
    sink: &Sink,
) -> Snapshot {
    let services =
        Index::of("services", "name", &document.services, |entity| (&entity.common, entity.name.as_deref()), sink);
    let routes = Index::of("routes", "name", &document.routes, |entity| (&entity.common, entity.name.as_deref()), sink);
    let entities = std::mem::take(&mut document.plugins);
    let held = Held::new(&document, sink);
    let Parties { consumers, by_consumer, by_group } = parties(&document, sink);
    let scopes = Scopes {
        services: &services,
        service_entities: &document.services,
        routes: &routes,
        route_entities: &document.routes,
        consumers: &by_consumer,
        consumer_groups: &by_group,
    };
    let Plugins { scoping, names, ownership, certificate_names } = plugins(entities, &scopes, &held, env, sink);
    let certificates = held.served(listeners, sink);
    let mut plans = scoping.finish();

    let upstreams = Upstreams::new(&document, env, proxy, sink);
    let built: Vec<Option<Arc<Service>>> = (document.services.iter())
        .map(|entity| services::service(entity, &upstreams, &held, (env, proxy), sink).map(Arc::new))
        .collect();
    services::warn_of_hosts(&document.services, proxy, sink);
    let mut chosen: Vec<(usize, &RouteEntity, Option<usize>)> = Vec::with_capacity(document.routes.len());
    for (index, entity) in document.routes.iter().enumerate() {
        let parent = entity.service.as_ref().map(|parent| services.find(parent, sink));
        if let Some(Some(service)) = parent {
            fits(entity, &document.services[service], sink);
        }
        match parent {
            None => chosen.push((index, entity, None)),
            Some(Some(service)) if document.services[service].enabled => chosen.push((index, entity, Some(service))),
            // Routes of a disabled service do not exist for requests; one without its service is a problem already.
            Some(_) => {}
        }
    }
    // Among equals the earlier created one wins; the file's order stands where it does not say.
    chosen.sort_by_key(|(_, entity, _)| entity.common.created_at.unwrap_or(i64::MAX));
    let (connections, requests): (Vec<_>, Vec<_>) = chosen.into_iter().partition(|(_, entity, _)| is_stream(entity));
    let service_of = |service: Option<usize>| service.and_then(|service| built[service].clone());
    let stream_routes: Vec<StreamRoute> = connections
        .into_iter()
        .map(|(index, entity, service)| StreamRoute {
            id: entity.common.id,
            name: entity.name.as_deref().map(Into::into),
            label: label(entity.name.as_deref(), entity.common.id),
            protocols: stream_protocols(entity.protocols),
            snis: entity.criteria.snis.clone(),
            sources: entity.sources.clone(),
            destinations: entity.destinations.clone(),
            service: service_of(service),
            plugins: plans.plan(index, service),
        })
        .collect();
    let criteria: Vec<_> = requests.iter().map(|(_, entity, _)| &entity.criteria).collect();
    let routes: Vec<Route> = requests
        .iter()
        .map(|(index, entity, service)| (entity, service, plans.plan(*index, *service)))
        .map(|(entity, service, plan)| Route {
            id: entity.common.id,
            name: entity.name.as_deref().map(Into::into),
            label: label(entity.name.as_deref(), entity.common.id),
            protocols: entity.protocols,
            https_redirect_status_code: entity.https_redirect_status_code,
            strip_path: entity.strip_path,
            preserve_host: entity.preserve_host,
            request_buffering: entity.request_buffering,
            response_buffering: entity.response_buffering,
            service: service_of(*service),
            credential_names: plan.credential_names(),
            plugins: plan,
        })
        .collect();
    Snapshot {
        generation,
        hash: Box::default(),
        router: Router::new(criteria.iter().copied()),
        kernel_rejection: KernelRejection::of(&routes, &criteria),
        routes,
        stream_router: StreamRouter::new(&stream_routes.iter().map(StreamRoute::criteria).collect::<Vec<_>>()),
        stream_routes,
        consumers,
        certificates: Arc::new(certificates),
        listeners: Vec::new(),
        freshness: Vec::new(),
        plugin_names: names.into_iter().collect(),
        owned_names: ownership.into_names(),
        certificate_names: certificate_names.into_iter().collect(),
        warnings: Vec::new(),
    }
}

fn is_stream(route: &RouteEntity) -> bool {
    !route.protocols.are_within(Protocols::ALL_HTTP)
}

fn stream_protocols(protocols: Protocols) -> Vec<StreamProtocol> {
    let all = [
        (Protocol::Tcp, StreamProtocol::Tcp),
        (Protocol::Tls, StreamProtocol::Tls),
        (Protocol::TlsPassthrough, StreamProtocol::TlsPassthrough),
    ];
    all.into_iter().filter(|(protocol, _)| protocols.contains(*protocol)).map(|(_, stream)| stream).collect()
}

/// A route for requests goes to a service for requests, one for connections to one for connections, and TLS that is
/// passed through is not put into TLS once more.
fn fits(route: &RouteEntity, service: &ServiceEntity, sink: &Sink) {
    let Some(scheme) = service.target.as_ref().map(|target| target.scheme) else { return };
    let expected = match (is_stream(route), route.protocols.contains(Protocol::TlsPassthrough)) {
        (false, _) if scheme.is_stream() => "a service with protocol http, https, grpc or grpcs",
        (true, true) if !matches!(scheme, Scheme::Tcp | Scheme::TlsPassthrough) => {
            "a service with protocol tcp or tls_passthrough"
        }
        (true, false) if !matches!(scheme, Scheme::Tcp | Scheme::Tls) => "a service with protocol tcp or tls",
        _ => return,
    };
    sink.problem(route.common.line, &route.common.path, "a service that cannot take what the route does", expected);
}

fn label(name: Option<&str>, id: Uuid) -> Arc<str> {
    name.map_or_else(|| id.to_string().into(), Arc::from)
}

/// The enabled instances by scope, and what all of them together own and are called.
#[derive(Default)]
struct Plugins {
    scoping: Scoping,
    names: BTreeSet<&'static str>,
    ownership: Ownership,
    certificate_names: BTreeSet<Box<str>>,
}

fn plugins(entities: Vec<PluginEntity<'_>>, scopes: &Scopes<'_>, held: &Held<'_>, env: &Env, sink: &Sink) -> Plugins {
    let authorities = |id: &str| held.authority(id);
    let certificates = |id: &str| held.certificate(id);
    let mut index = Index::new("plugins");
    let mut taken = HashSet::new();
    let mut plugins = Plugins::default();
    for entity in entities {
        let find = |reference: &Option<Ref>, index: &Index| match reference {
            None => Some(None),
            Some(reference) => index.find(reference, sink).map(Some),
        };
        let (service, route) = (find(&entity.service, scopes.services), find(&entity.route, scopes.routes));
        let (consumer, group) =
            (find(&entity.consumer, scopes.consumers), find(&entity.consumer_group, scopes.consumer_groups));
        // A disabled instance is read as well: what is wrong with it must not show up on the day it is enabled.
        let place = Place {
            route: route.flatten().map(|index| scopes.routes.ids[index]),
            service: service.flatten().map(|index| scopes.services.ids[index]),
            authorities: Some(&authorities),
            certificates: Some(&certificates),
        };
        let parsed = Plugin::parse(&entity.name, entity.config, &place, &env.plugins);
        let (Some(service), Some(route), Some(consumer), Some(group), Some(parsed)) =
            (service, route, consumer, group, parsed)
        else {
            index.add(&entity.common, "instance_name", entity.instance_name.as_deref(), sink);
            continue;
        };
        let target = service.and_then(|service| scopes.service_entities[service].target.as_ref());
        let steers = route.is_some_and(|route| is_stream(&scopes.route_entities[route]));
        let steers = steers || target.is_some_and(|target| target.scheme.is_stream());
        if steers && !parsed.steers() {
            let expected = "a route or service for requests: of the plugins ip-restriction alone runs on connections";
            sink.problem(entity.common.line, &entity.common.path, "a plugin for connections", expected);
        }
        if consumer.is_some() && group.is_some() {
            let expected = "one of `consumer` and `consumer_group`";
            sink.problem(entity.common.line, &entity.common.path, "both `consumer` and `consumer_group`", expected);
        }
        let who = consumer.map(|_| "consumer").or(group.map(|_| "consumer_group"));
        if let Some(key) = who.filter(|who| !parsed.may_be_for(who)) {
            let expected = format!("value must be null: {} runs before anyone knows the {key}", entity.name);
            sink.problem(entity.common.line, &format!("{}.{key}", entity.common.path), format!("a {key}"), expected);
        }
        if who.is_some() && matches!(parsed, Plugin::CorrelationId(_)) {
            let text = "never runs: correlation-id comes before anyone knows the consumer, in Kong too";
            sink.warn(entity.common.line, &entity.common.path, text);
        }
        let scope = Scope {
            service,
            route,
            consumer: consumer.map(|index| scopes.consumers.ids[index]),
            group: group.map(|index| scopes.consumer_groups.ids[index]),
        };
        if taken.insert((entity.name.clone(), scope)) {
            index.add(&entity.common, "instance_name", entity.instance_name.as_deref(), sink);
        } else {
            index.violation(&entity.common, "name and scope", &entity.name, sink);
        }
        if entity.enabled {
            plugins.names.insert(parsed.name());
            // One that does not exist was a problem where the route was read.
            let routes_service = || {
                let parent = scopes.route_entities[route?].service.as_ref()?;
                scopes.services.find(parent, &Sink::new(""))
            };
            let reach = Reach { route, service: service.or_else(routes_service) };
            plugins.ownership.claim(&parsed, reach, (&entity.common.path, entity.common.line), sink);
            plugins.certificate_names.extend(parsed.certificate_name());
            let protocols = entity.protocols.unwrap_or_else(|| parsed.protocols());
            plugins.scoping.add(scope, Instance { protocols, plugin: parsed });
        }
    }
    plugins
}

/// What plugins can be scoped to.
struct Scopes<'a> {
    services: &'a Index,
    service_entities: &'a [ServiceEntity],
    routes: &'a Index,
    route_entities: &'a [RouteEntity],
    consumers: &'a Index,
    consumer_groups: &'a Index,
}
