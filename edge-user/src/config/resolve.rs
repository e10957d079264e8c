//! References, ids and uniqueness; which plugin instance serves which route; `Document` → `Snapshot`.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use rustls::sign::CertifiedKey;
use uuid::Uuid;

use super::Env;
use super::problem::Sink;
use super::schema::{Common, Document, PluginEntity, Ref, RouteEntity, ServiceEntity};
use super::snapshot::{Consumer, Consumers, Route, Scheme, Service, Snapshot, StreamRoute};
use crate::plugin::Plugin;
use crate::router::{Router, StreamProtocol, StreamRouter};
use crate::tls::{self, Certificates};

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
    let consumers = consumers(&document, sink);
    let plugins = plugins(document.plugins, (&services, &document.services), (&routes, &document.routes), env, sink);

    let built: Vec<Option<Arc<Service>>> = (document.services.iter().zip(&services.ids))
        .map(|(entity, id)| service(entity, *id, env, sink).map(Arc::new))
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
    let owned: HashSet<Box<str>> =
        plugins.iter().filter_map(|plugin| plugin.runs.as_ref()).flat_map(Plugin::owned_names).collect();
    let mut owned_names: Vec<_> = owned.into_iter().collect();
    owned_names.sort();
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
                http: entity.http,
                https: entity.https,
                https_redirect_status_code: entity.https_redirect_status_code,
                strip_path: entity.strip_path,
                preserve_host: entity.preserve_host,
                service: service.and_then(|service| built[service].clone()),
                plugins: most_specific(&plugins, index, service, Plugin::priority),
            })
            .collect(),
        stream_router: StreamRouter::new(&stream_routes.iter().map(StreamRoute::criteria).collect::<Vec<_>>()),
        stream_routes,
        consumers,
        certificates,
        owned_names,
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

fn service(entity: &ServiceEntity, id: Uuid, env: &Env, sink: &Sink) -> Option<Service> {
    let target = entity.target.as_ref()?;
    let tls = match target.scheme {
        Scheme::Http | Scheme::Tcp | Scheme::TlsPassthrough => None,
        Scheme::Https => Some(tls::client_config(entity.verify)),
        Scheme::Tls => Some(tls::stream_client_config(entity.verify)),
    };
    let tls = tls.and_then(|config| match config {
        Ok(config) => Some(config),
        Err(error) => {
            sink.problem(entity.common.line, &entity.common.path, error.to_string(), "TLS towards the upstream");
            None
        }
    });
    let mut endpoint = DefaultHasher::new();
    (target.scheme, &target.host, target.port, tls.as_ref().map(|_| entity.verify)).hash(&mut endpoint);
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

/// A plugin instance and the requests it is for.
struct Scoped<P> {
    name: String,
    service: Option<usize>,
    route: Option<usize>,
    /// `None` where it is disabled.
    runs: Option<P>,
}

fn plugins(
    entities: Vec<PluginEntity<'_>>,
    (services, service_entities): (&Index, &[ServiceEntity]),
    (routes, route_entities): (&Index, &[RouteEntity]),
    env: &Env,
    sink: &Sink,
) -> Vec<Scoped<Plugin>> {
    let mut index = Index::new("plugins");
    let mut scopes = HashSet::new();
    let mut plugins = Vec::with_capacity(entities.len());
    for entity in entities {
        index.add(&entity.common, "instance_name", entity.instance_name.as_deref(), &entity.common.path, sink);
        let find = |reference: &Option<Ref>, index: &Index| match reference {
            None => Some(None),
            Some(reference) => index.find(reference, sink).map(Some),
        };
        let (service, route) = (find(&entity.service, services), find(&entity.route, routes));
        // A disabled instance is read as well: what is wrong with it must not show up on the day it is enabled.
        let parsed = Plugin::parse(&entity.name, entity.config, &env.plugins);
        let (Some(service), Some(route), Some(parsed)) = (service, route, parsed) else { continue };
        let target = service.and_then(|service| service_entities[service].target.as_ref());
        let steers = route.is_some_and(|route| route_entities[route].stream.is_some());
        if steers || target.is_some_and(|target| target.scheme.is_stream()) {
            let expected = "a route or service for requests: plugins do not run on connections";
            sink.problem(entity.common.line, &entity.common.path, "a plugin for connections", expected);
        }
        if !scopes.insert((entity.name.clone(), service, route)) {
            violation("plugins", &entity.common, "name, service and route", &entity.name, sink);
        }
        plugins.push(Scoped { name: entity.name, service, route, runs: entity.enabled.then_some(parsed) });
    }
    plugins
}

/// One instance per name, the most specific that is enabled: route and service, route, service, everywhere.
fn most_specific<P: Clone>(
    plugins: &[Scoped<P>],
    route: usize,
    service: Option<usize>,
    priority: impl Fn(&P) -> u32,
) -> Box<[P]> {
    let mut best: HashMap<&str, (u8, &P)> = HashMap::new();
    for scoped in plugins {
        let Some(plugin) = &scoped.runs else { continue };
        let elsewhere = scoped.route.is_some_and(|wanted| wanted != route)
            || scoped.service.is_some_and(|wanted| Some(wanted) != service);
        if elsewhere {
            continue;
        }
        let rank = u8::from(scoped.route.is_some()) << 1 | u8::from(scoped.service.is_some());
        let entry = best.entry(&scoped.name).or_insert((rank, plugin));
        if rank > entry.0 {
            *entry = (rank, plugin);
        }
    }
    let mut chosen: Vec<_> = best.into_iter().map(|(name, (_, plugin))| (priority(plugin), name, plugin)).collect();
    // Kong's order among equals: by name, backwards.
    chosen.sort_by_key(|(priority, name, _)| std::cmp::Reverse((*priority, *name)));
    chosen.into_iter().map(|(_, _, plugin)| plugin.clone()).collect()
}

fn consumers(document: &Document<'_>, sink: &Sink) -> Consumers {
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
    Consumers::new(document.consumers.iter().zip(&index.ids).map(|(entity, id)| Consumer {
        id: *id,
        username: entity.username.as_deref().map(Into::into),
        custom_id: entity.custom_id.as_deref().map(Into::into),
    }))
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

#[cfg(test)]
mod tests {
    use super::*;

    /// `name service route text`, `-` for everywhere; a text of `off` is a disabled instance.
    fn scoped(line: &str) -> Scoped<String> {
        let words: Vec<_> = line.split(' ').collect();
        let index = |word: &str| word.parse().ok();
        let runs = (words[3] != "off").then(|| words[3].to_owned());
        Scoped { name: words[0].to_owned(), service: index(words[1]), route: index(words[2]), runs }
    }

    #[test]
    fn the_most_specific_enabled_instance_runs() {
        let all = [
            "a - - global7",
            "a 1 - service7",
            "a - 1 route7",
            "a 1 1 both7",
            "a - 2 off",
            "b - - b5",
            "c - - c5",
            "d 1 - d9",
        ];
        let plugins: Vec<_> = all.iter().map(|line| scoped(line)).collect();
        let priority = |text: &String| u32::from(text.bytes().last().unwrap());
        for (route, service, expected) in [
            (1, Some(1), "d9 both7 c5 b5"),
            (1, Some(0), "route7 c5 b5"),
            (2, Some(1), "d9 service7 c5 b5"),
            (2, None, "global7 c5 b5"),
        ] {
            assert_eq!(most_specific(&plugins, route, service, priority).join(" "), expected, "{route} {service:?}");
        }
    }
}
