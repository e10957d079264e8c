//! References, ids and uniqueness; which plugin instance serves which route; `Document` → `Snapshot`.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use rustls::sign::CertifiedKey;
use uuid::Uuid;

use super::Env;
use super::problem::Sink;
use super::schema::{Common, Document, PluginEntity, Ref, RouteEntity, ServiceEntity};
use super::scoping::{Scope, Scoping};
use super::snapshot::{Consumer, Consumers, Route, Scheme, Service, Snapshot, StreamRoute};
use crate::plugin::plan::Instance;
use crate::plugin::{Place, Plugin};
use crate::router::{Router, StreamProtocol, StreamRouter};
use crate::tls::{self, Alpn, Certificates, ClientTls};

/// What ids are made from where the file gives none: the same file always gives the same ids.
const NAMESPACE: Uuid = Uuid::from_u128(0x8f3c_1d0a_52b7_5c1e_9a64_0d6e_7b21_e0f5);

/// The entities of one kind by id and name.
struct Index {
    kind: &'static str,
    ids: Vec<Uuid>,
    by_id: HashMap<Uuid, usize>,
    by_name: HashMap<String, usize>,
}

impl Index {
    fn new(kind: &'static str) -> Self {
        Self { kind, ids: Vec::new(), by_id: HashMap::new(), by_name: HashMap::new() }
    }

    /// Adds the next entity. `stable` is what its id is made from where it has neither id nor name.
    fn add(&mut self, common: &Common, key: &str, name: Option<&str>, stable: &str, sink: &Sink) {
        let made = || Uuid::new_v5(&NAMESPACE, format!("{}:{}", self.kind, name.unwrap_or(stable)).as_bytes());
        let id = common.id.unwrap_or_else(made);
        let index = self.ids.len();
        self.ids.push(id);
        if self.by_id.insert(id, index).is_some() {
            violation(self.kind, common, "primary key", &id.to_string(), sink);
        }
        if let Some(name) = name
            && self.by_name.insert(name.to_owned(), index).is_some()
        {
            violation(self.kind, common, key, name, sink);
        }
    }

    fn find(&self, reference: &Ref, sink: &Sink) -> Option<usize> {
        let (text, line, path) = match reference {
            Ref::Parent(index) => return Some(*index),
            Ref::Named { text, line, path } => (text, line, path),
        };
        let by_id = Uuid::try_parse(text).ok().and_then(|id| self.by_id.get(&id));
        let found = by_id.or_else(|| self.by_name.get(text)).copied();
        if found.is_none() {
            let expected = format!("the id or name of one of the file's '{}'", self.kind);
            sink.problem(*line, path, super::value::quote_text(text), expected);
        }
        found
    }
}

fn violation(kind: &str, common: &Common, key: &str, value: &str, sink: &Sink) {
    let found = format!("'{value}' again");
    let expected =
        format!("each once (uniqueness violation: '{kind}' entity with {key} set to '{value}' already declared)",);
    sink.problem(common.line, &common.path, found, expected);
}

/// Builds the snapshot; it is good only if the sink stays without problems.
pub(super) fn resolve(
    document: Document<'_>,
    listeners: Vec<Option<Arc<CertifiedKey>>>,
    env: &Env,
    upstream_http2: bool,
    generation: u64,
    sink: &Sink,
) -> Snapshot {
    let mut services = Index::new("services");
    for entity in &document.services {
        services.add(&entity.common, "name", entity.name.as_deref(), &entity.common.path, sink);
    }
    let mut routes = Index::new("routes");
    for entity in &document.routes {
        routes.add(&entity.common, "name", entity.name.as_deref(), &entity.common.path, sink);
    }
    let certificates = certificates(&document, listeners, sink);
    let (consumers, by_consumer) = consumers(&document, sink);
    let consumer_groups = Index::new("consumer_groups");
    let scopes = Scopes {
        services: &services,
        service_entities: &document.services,
        routes: &routes,
        route_entities: &document.routes,
        consumers: &by_consumer,
        consumer_groups: &consumer_groups,
    };
    let Plugins { scoping, names, owned_names } = plugins(document.plugins, &scopes, env, sink);
    let mut plans = scoping.finish();

    let built: Vec<Option<Arc<Service>>> = (document.services.iter().zip(&services.ids))
        .map(|(entity, id)| service(entity, *id, env, upstream_http2, sink).map(Arc::new))
        .collect();
    let mut chosen: Vec<(usize, &RouteEntity, Option<usize>)> = Vec::new();
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
    let (streams, chosen): (Vec<_>, Vec<_>) = chosen.into_iter().partition(|(_, entity, _)| entity.stream.is_some());
    let stream_routes: Vec<StreamRoute> = streams
        .into_iter()
        .filter_map(|(index, entity, service)| {
            let stream = entity.stream.as_ref()?;
            Some(StreamRoute {
                id: routes.ids[index],
                name: entity.name.as_deref().map(Into::into),
                label: label(entity.name.as_deref(), routes.ids[index]),
                protocols: stream.protocols.clone(),
                snis: stream.snis.clone(),
                sources: stream.sources.clone(),
                destinations: stream.destinations.clone(),
                service: service.and_then(|service| built[service].clone()),
            })
        })
        .collect();
    Snapshot {
        generation,
        hash: Box::default(),
        router: Router::new(chosen.iter().map(|(_, entity, _)| &entity.criteria)),
        routes: chosen
            .into_iter()
            .map(|(index, entity, service)| Route {
                id: routes.ids[index],
                name: entity.name.as_deref().map(Into::into),
                label: label(entity.name.as_deref(), routes.ids[index]),
                protocols: entity.protocols,
                https_redirect_status_code: entity.https_redirect_status_code,
                strip_path: entity.strip_path,
                preserve_host: entity.preserve_host,
                request_buffering: entity.request_buffering,
                response_buffering: entity.response_buffering,
                service: service.and_then(|service| built[service].clone()),
                plugins: plans.plan(index, service),
            })
            .collect(),
        stream_router: StreamRouter::new(&stream_routes.iter().map(StreamRoute::criteria).collect::<Vec<_>>()),
        stream_routes,
        consumers,
        certificates,
        plugin_names: names.into_iter().collect(),
        owned_names: owned_names.into_iter().collect(),
        warnings: Vec::new(),
    }
}

/// A route for requests goes to a service for requests, one for connections to one for connections, and TLS that is
/// passed through is not put into TLS once more.
fn fits(route: &RouteEntity, service: &ServiceEntity, sink: &Sink) {
    let Some(scheme) = service.target.as_ref().map(|target| target.scheme) else { return };
    let expected = match &route.stream {
        None if scheme.is_stream() => "a service with protocol http or https",
        Some(stream) if stream.protocols.contains(&StreamProtocol::TlsPassthrough) => match scheme {
            Scheme::Tcp | Scheme::TlsPassthrough => return,
            _ => "a service with protocol tcp or tls_passthrough",
        },
        Some(_) if !matches!(scheme, Scheme::Tcp | Scheme::Tls) => "a service with protocol tcp or tls",
        _ => return,
    };
    sink.problem(route.common.line, &route.common.path, "a service that cannot take what the route does", expected);
}

fn label(name: Option<&str>, id: Uuid) -> Arc<str> {
    name.map_or_else(|| id.to_string().into(), Arc::from)
}

fn service(entity: &ServiceEntity, id: Uuid, env: &Env, upstream_http2: bool, sink: &Sink) -> Option<Service> {
    let target = entity.target.as_ref()?;
    let alpn = match target.scheme {
        Scheme::Grpc | Scheme::Grpcs => Alpn::Http2,
        Scheme::Tcp | Scheme::Tls | Scheme::TlsPassthrough => Alpn::Nothing,
        _ if upstream_http2 => Alpn::Either,
        _ => Alpn::Http1,
    };
    let rules = ClientTls { verify: entity.verify, alpn, ..ClientTls::default() };
    let tls = match target.scheme {
        Scheme::Http | Scheme::Grpc | Scheme::Tcp | Scheme::TlsPassthrough => None,
        Scheme::Https | Scheme::Grpcs | Scheme::Tls => Some(tls::client_config(&rules)),
    };
    let tls = tls.and_then(|config| match config {
        Ok(config) => Some(config),
        Err(error) => {
            sink.problem(entity.common.line, &entity.common.path, error.to_string(), "TLS towards the upstream");
            None
        }
    });
    let mut endpoint = DefaultHasher::new();
    (target.scheme, &target.host, target.port, tls.as_ref().map(|_| rules)).hash(&mut endpoint);
    let host_header = match target.port == target.scheme.default_port() {
        true => target.host.to_string(),
        false => format!("{}:{}", target.host, target.port),
    };
    Some(Service {
        id,
        name: entity.name.as_deref().map(Into::into),
        label: label(entity.name.as_deref(), id),
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
        endpoint: endpoint.finish(),
        balancer: env.balancers.single(target.host.clone(), target.port),
    })
}

/// The enabled instances by scope, and what all of them together own and are called.
#[derive(Default)]
struct Plugins {
    scoping: Scoping,
    names: BTreeSet<&'static str>,
    owned_names: BTreeSet<Box<str>>,
}

fn plugins(entities: Vec<PluginEntity<'_>>, scopes: &Scopes<'_>, env: &Env, sink: &Sink) -> Plugins {
    let mut index = Index::new("plugins");
    let mut taken = HashSet::new();
    let mut plugins = Plugins::default();
    for entity in entities {
        index.add(&entity.common, "instance_name", entity.instance_name.as_deref(), &entity.common.path, sink);
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
        };
        let parsed = Plugin::parse(&entity.name, entity.config, &place, &env.plugins);
        let (Some(service), Some(route), Some(consumer), Some(group), Some(parsed)) =
            (service, route, consumer, group, parsed)
        else {
            continue;
        };
        let target = service.and_then(|service| scopes.service_entities[service].target.as_ref());
        let steers = route.is_some_and(|route| scopes.route_entities[route].stream.is_some());
        if steers || target.is_some_and(|target| target.scheme.is_stream()) {
            let expected = "a route or service for requests: plugins do not run on connections";
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
        let scope = Scope {
            service,
            route,
            consumer: consumer.map(|index| scopes.consumers.ids[index]),
            group: group.map(|index| scopes.consumer_groups.ids[index]),
        };
        if !taken.insert((entity.name.clone(), scope)) {
            violation("plugins", &entity.common, "name and scope", &entity.name, sink);
        }
        if entity.enabled {
            plugins.names.insert(parsed.name());
            plugins.owned_names.extend(parsed.owned_names());
            plugins.scoping.add(scope, Instance { protocols: entity.protocols, plugin: parsed });
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

fn consumers(document: &Document<'_>, sink: &Sink) -> (Consumers, Index) {
    let mut index = Index::new("consumers");
    let mut custom_ids = HashSet::new();
    for entity in &document.consumers {
        let stable = entity.custom_id.as_deref().unwrap_or(&entity.common.path);
        index.add(&entity.common, "username", entity.username.as_deref(), stable, sink);
        if let Some(custom_id) = &entity.custom_id
            && !custom_ids.insert(custom_id)
        {
            violation("consumers", &entity.common, "custom_id", custom_id, sink);
        }
    }
    let consumers = Consumers::new(document.consumers.iter().zip(&index.ids).map(|(entity, id)| Consumer {
        id: *id,
        username: entity.username.as_deref().map(Into::into),
        custom_id: entity.custom_id.as_deref().map(Into::into),
        ..Consumer::default()
    }));
    (consumers, index)
}

fn certificates(document: &Document<'_>, listeners: Vec<Option<Arc<CertifiedKey>>>, sink: &Sink) -> Certificates {
    let mut index = Index::new("certificates");
    for entity in &document.certificates {
        index.add(&entity.common, "id", None, &entity.pem, sink);
    }
    let mut snis = Index::new("snis");
    let mut used = HashSet::new();
    let mut names = Vec::new();
    for entity in &document.snis {
        snis.add(&entity.common, "name", Some(&entity.name), &entity.name, sink);
        let Some(certificate) = index.find(&entity.certificate, sink) else { continue };
        used.insert(certificate);
        names.extend(document.certificates[certificate].pair.clone().map(|pair| (entity.name.as_str().into(), pair)));
    }
    for (certificate, entity) in document.certificates.iter().enumerate() {
        if !used.contains(&certificate) {
            sink.warn(entity.common.line, &entity.common.path, "no sni uses this certificate");
        }
    }
    Certificates::new(names, listeners)
}
