//! Virtual servers → edges. A route belongs to every listener of its edge, so those that do the same at one address share
//! an edge, and one that only redirects joins the one it redirects to; every other gets an edge of its own.

use std::collections::{HashMap, HashSet};

use serde_json::json;

use super::accepted;
use super::ledger::Ledger;
use super::model::Model;
use super::outcome::Answer;
use super::output::{Edge, Entity, Service};
use super::pool::{self, plain_name};
use super::routes::{self, Common, Drafts};
use super::virtuals::{self, Plan};

/// Edges of one import at most: each has its own port for the Admin API.
const MAX_EDGES: usize = 500;

struct Group<'a> {
    plans: Vec<Plan<'a>>,
    https_only: Option<u16>,
}

/// Translates all virtual servers.
pub(super) fn edges(model: &Model, ledger: &Ledger) -> Vec<Edge> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    let (mut redirectors, mut taken) = (Vec::new(), HashMap::new());
    for object in model.of_kind("ltm virtual") {
        object.mark();
        let Some(plan) = virtuals::translate(object, model, ledger) else { continue };
        if let Some(other) = taken.insert(plan.listener.address, object.label()) {
            ledger.dropped(
                object.node.span,
                format!("{other} has this address and port: on the F5 sources or VLANs tell them apart"),
            );
            taken.insert(plan.listener.address, other);
            continue;
        }
        ledger.translated(object.node.span.head());
        if plan.redirects().is_some() {
            redirectors.push(plan);
            continue;
        }
        let content = plan.content();
        let is_like =
            |group: &&mut Group<'_>| {
                group.plans.iter().any(|other| {
                    other.listener.address.ip() == plan.listener.address.ip() && other.content() == content
                }) && group.plans.iter().all(|other| other.agrees(&plan))
            };
        match groups.iter_mut().find(is_like) {
            Some(group) => group.plans.push(plan),
            None => groups.push(Group { plans: vec![plan], https_only: None }),
        }
    }
    for plan in redirectors {
        let takes_it = |group: &&mut Group<'_>| {
            let first = &group.plans[0];
            first.listener.address.ip() == plan.listener.address.ip()
                && !first.listener.stream
                && group.https_only.is_none()
                && group.plans.iter().all(|plan| plan.listener.tls)
        };
        match groups.iter_mut().find(takes_it) {
            Some(group) => {
                group.https_only = plan.redirects();
                group.plans.push(plan);
            }
            None => groups.push(Group { plans: vec![plan], https_only: None }),
        }
    }
    let mut names = HashSet::new();
    let mut edges = Vec::new();
    for group in groups {
        let span = group.plans[0].object.node.span;
        if edges.len() == MAX_EDGES {
            ledger.dropped(span, format!("more than {MAX_EDGES} edges: import the files in parts"));
            continue;
        }
        let accepted = |edge: Edge| accepted::edge(&edge).map(|()| edge);
        match edge(&group, &mut names, model, ledger).and_then(accepted) {
            Ok(edge) => edges.push(edge),
            Err(why) => group.plans.iter().for_each(|plan| ledger.dropped(plan.object.node.span, why.clone())),
        }
    }
    edges
}

/// A name that nobody has yet.
fn unique(name: &str, taken: &mut HashSet<String>) -> String {
    let mut found = name.to_owned();
    let mut number = 1;
    while !taken.insert(found.clone()) {
        number += 1;
        found = format!("{name}-{number}");
    }
    found
}

fn edge(group: &Group<'_>, names: &mut HashSet<String>, model: &Model, ledger: &Ledger) -> Result<Edge, String> {
    let plan = &group.plans[0];
    let mut edge = Edge { name: unique(&plain_name(&plan.object.name), names), ..Edge::default() };
    for plan in &group.plans {
        edge.listeners.push(plan.listener.clone());
        edge.fields = edge.fields.max(plan.http.fields);
        edge.head_bytes = edge.head_bytes.max(plan.http.head_bytes);
        let idle = plan.idle_secs.map(|seconds| seconds * 1000);
        if plan.listener.stream {
            edge.tunnel_idle_ms = edge.tunnel_idle_ms.max(idle);
        } else {
            edge.idle_ms = edge.idle_ms.max(idle);
        }
    }
    // Plans that share an edge agree about each name.
    let mut known: HashSet<&str> = HashSet::new();
    let certificates = group.plans.iter().flat_map(|plan| &plan.certificates);
    edge.certificates = certificates.filter(|certificate| known.insert(&certificate.name)).cloned().collect();
    edge.encrypts = plan.shape.encrypts();
    edge.ports = edge.listeners.iter().map(|listener| listener.address.port()).collect();
    let mut places = Places { plan, model, ledger, names: HashSet::new(), by_pool: HashMap::new() };
    if plan.listener.stream {
        connections(group, &mut places, &mut edge);
        return Ok(edge);
    }
    let drafts = routes::drafts(&plan.cases)?;
    for case in &drafts.unsure {
        for span in &plan.cases[*case].1.spans {
            ledger.changed(*span, "where a request also fits a condition before this one, the router may prefer this one: a path has one condition in a route");
        }
    }
    let common = Common {
        name: &edge.name.clone(),
        host: plan.host.as_deref().unwrap_or("www.example.com"),
        https_only: group.https_only,
        tls: plan.listener.tls,
        response: &plan.response,
        shape: &plan.shape,
        ledger,
    };
    requests(&drafts, &mut places, &common, &mut edge)?;
    for redirector in group.plans.iter().filter(|plan| group.https_only.is_some() && plan.redirects().is_some()) {
        let name = plain_name(&redirector.object.name);
        edge.requests.extend(routes::expected(&redirector.cases, 0, &Common { name: &name, ..common }));
    }
    Ok(edge)
}

struct Places<'p, 'a> {
    plan: &'p Plan<'a>,
    model: &'a Model,
    ledger: &'p Ledger,
    names: HashSet<String>,
    by_pool: HashMap<String, usize>,
}

impl Places<'_, '_> {
    /// The service for a pool, made where there is none yet.
    fn service<'e>(&mut self, name: &str, edge: &'e mut Edge) -> Option<&'e mut Service> {
        if let Some(index) = self.by_pool.get(name) {
            return edge.services.get_mut(*index);
        }
        let object = self.model.find("ltm pool", name, "")?;
        let plain = unique(&plain_name(name), &mut self.names);
        let persist = self.plan.persist.as_ref();
        let upstream = pool::translate(object, persist, &plain, &mut edge.ports, self.model, self.ledger);
        let comment = upstream.comment.clone();
        edge.upstreams.push(upstream);
        let protocol = match (self.plan.listener.stream, self.plan.to_members) {
            (true, _) => "tcp",
            (false, Some(_)) => "https",
            (false, None) => "http",
        };
        let mut members = vec![("name", json!(plain)), ("host", json!(plain)), ("protocol", json!(protocol))];
        if protocol == "https" && self.plan.to_members == Some(false) {
            members.push(("tls_verify", json!(false)));
        }
        self.by_pool.insert(name.to_owned(), edge.services.len());
        edge.services.push(Service { entity: Entity { comment, members }, routes: Vec::new() });
        edge.services.last_mut()
    }
}

fn requests(drafts: &Drafts, places: &mut Places<'_, '_>, common: &Common<'_>, edge: &mut Edge) -> Result<(), String> {
    let plan = places.plan;
    for (index, draft) in drafts.all.iter().enumerate() {
        let mut outcome = plan.cases[draft.case].1.clone();
        let pool = outcome.pool.clone().filter(|_| outcome.answer.is_none());
        let service = pool.and_then(|pool| places.service(&pool, edge));
        if service.is_none() && outcome.answer.is_none() {
            outcome.answer = Some(Answer::bare(503));
        }
        let route = routes::route(draft, index, &outcome, drafts, plan.cases.len(), common)?;
        match service {
            Some(service) => service.routes.push(route),
            None => edge.routes.push(route),
        }
    }
    edge.requests.extend((0..plan.cases.len()).flat_map(|case| routes::expected(&plan.cases, case, common)));
    Ok(())
}

fn connections(group: &Group<'_>, places: &mut Places<'_, '_>, edge: &mut Edge) {
    let name = edge.name.clone();
    for (index, plan) in group.plans.iter().enumerate() {
        let Some((_, outcome)) = plan.cases.first() else { continue };
        let protocol = if plan.listener.tls { "tls" } else { "tcp" };
        let destination = json!({"ip": plan.listener.address.ip().to_string(), "port": plan.listener.address.port()});
        let mut members = vec![
            ("name", json!(format!("{name}-{}", index + 1))),
            ("protocols", json!([protocol])),
            ("destinations", json!([destination])),
        ];
        if !outcome.sources.is_empty() {
            let config = routes::restriction(&outcome.sources);
            members.push(("plugins", json!([{"name": "ip-restriction", "config": config}])));
        }
        let route = Entity { comment: places.ledger.place(plan.object.node.span), members };
        if let Some(service) = outcome.pool.as_ref().and_then(|pool| places.service(pool, edge)) {
            service.routes.push(route);
        }
    }
}
