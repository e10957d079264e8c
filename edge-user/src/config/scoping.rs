//! Which plugin instances may run on which route: scopes of route and service settled, those of consumers and groups
//! put where `plugin::plan` finds them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use uuid::Uuid;

use crate::plugin::plan::{Instance, Placed, Plan, Scoped, Scopes, Slot, rank};

/// Where an instance is to run; the indexes are those of the file's services and routes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Scope {
    pub(super) service: Option<usize>,
    pub(super) route: Option<usize>,
    pub(super) consumer: Option<Uuid>,
    pub(super) group: Option<Uuid>,
}

/// The enabled instances, by plugin.
#[derive(Default)]
pub(super) struct Scoping {
    plugins: BTreeMap<&'static str, Named>,
}

#[derive(Default)]
struct Named {
    everywhere: Option<Instance>,
    services: HashMap<usize, Instance>,
    routes: HashMap<usize, Instance>,
    pairs: HashMap<(usize, usize), Instance>,
    scopes: Arc<Scopes>,
    /// Which routes and services the scoped ones are for.
    scoped_everywhere: bool,
    scoped_services: HashSet<usize>,
    scoped_routes: HashSet<usize>,
}

impl Scoping {
    /// Adds an instance; scopes are unique already.
    pub(super) fn add(&mut self, scope: Scope, instance: Instance) {
        let named = self.plugins.entry(instance.plugin.name()).or_default();
        let Scope { service, route, consumer, group } = scope;
        if consumer.is_none() && group.is_none() {
            match (route, service) {
                (Some(route), Some(service)) => drop(named.pairs.insert((route, service), instance)),
                (Some(route), None) => drop(named.routes.insert(route, instance)),
                (None, Some(service)) => drop(named.services.insert(service, instance)),
                (None, None) => named.everywhere = Some(instance),
            }
            return;
        }
        match (route, service) {
            (Some(route), _) => drop(named.scoped_routes.insert(route)),
            (None, Some(service)) => drop(named.scoped_services.insert(service)),
            (None, None) => named.scoped_everywhere = true,
        }
        let placed = Placed { route, service, instance };
        let scopes = Arc::get_mut(&mut named.scopes).expect("plans share it only once it is complete");
        match (consumer, group) {
            (Some(consumer), _) => scopes.consumers.entry(consumer).or_default().push(placed),
            (None, Some(group)) => scopes.groups.entry(group).or_default().push(placed),
            (None, None) => {}
        }
    }

    /// Makes the plans; what `add` took is complete.
    pub(super) fn finish(self) -> Plans {
        Plans { plugins: self.plugins.into_values().collect(), by_service: HashMap::new() }
    }
}

impl Named {
    fn is_scoped(&self, route: usize, service: Option<usize>) -> bool {
        self.scoped_everywhere
            || self.scoped_routes.contains(&route)
            || service.is_some_and(|service| self.scoped_services.contains(&service))
    }

    fn slot(&self, route: usize, service: Option<usize>) -> Option<Slot> {
        let pair =
            service.and_then(|service| Some((rank(false, false, true, true), self.pairs.get(&(route, service))?)));
        let candidates = [
            pair,
            self.routes.get(&route).map(|instance| (rank(false, false, true, false), instance)),
            service.and_then(|service| Some((rank(false, false, false, true), self.services.get(&service)?))),
            self.everywhere.as_ref().map(|instance| (rank(false, false, false, false), instance)),
        ];
        let found: Vec<_> = candidates.into_iter().flatten().collect();
        let scoped = self.is_scoped(route, service).then(|| Scoped { scopes: self.scopes.clone(), route, service });
        if found.is_empty() && scoped.is_none() {
            return None;
        }
        Some(Slot { defaults: found.into_iter().map(|(rank, instance)| (rank, instance.clone())).collect(), scoped })
    }
}

/// Makes each route's plan; routes that differ in nothing share one.
pub(super) struct Plans {
    plugins: Vec<Named>,
    by_service: HashMap<Option<usize>, Arc<Plan>>,
}

impl Plans {
    /// The plan of a route.
    pub(super) fn plan(&mut self, route: usize, service: Option<usize>) -> Arc<Plan> {
        let own = self.plugins.iter().any(|plugin| {
            plugin.routes.contains_key(&route)
                || service.is_some_and(|service| plugin.pairs.contains_key(&(route, service)))
                || plugin.is_scoped(route, service)
        });
        if !own && let Some(plan) = self.by_service.get(&service) {
            return plan.clone();
        }
        let mut slots: Vec<_> = self.plugins.iter().filter_map(|plugin| plugin.slot(route, service)).collect();
        // Kong's order among equals: by name, backwards.
        slots.sort_by_key(|slot| std::cmp::Reverse(slot.any().map(|plugin| (plugin.priority(), plugin.name()))));
        let answers = slots.iter().any(|slot| slot.any().is_some_and(|plugin| plugin.answers()));
        let logs = slots.iter().any(|slot| slot.any().is_some_and(|plugin| plugin.logs()));
        let profiles = slots.iter().any(|slot| slot.any().is_some_and(|plugin| plugin.profile().is_some()));
        let plan = Arc::new(Plan { slots: slots.into(), answers, profiles, logs });
        if !own {
            self.by_service.insert(service, plan.clone());
        }
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::snapshot::{Consumer, ConsumerGroup, Protocol, Protocols};
    use crate::plugin::testing::parse;
    use crate::plugin::{Caller, Plugin};

    /// An instance whose issuer says which one it is.
    fn instance(label: &str, protocols: Protocols) -> Instance {
        let plugin = parse("openid-connect", &format!("issuer: 'https://{label}.example'")).expect("a plugin");
        Instance { protocols, plugin }
    }

    fn label(plugin: Option<&Plugin>) -> String {
        let Some(Plugin::OpenidConnect(plugin)) = plugin else { return "-".into() };
        plugin.issuer().trim_start_matches("https://").trim_end_matches(".example").into()
    }

    fn caller(consumer: Option<u128>, groups: &[u128]) -> Caller {
        let group = |id: &u128| Arc::new(ConsumerGroup { id: Uuid::from_u128(*id), name: format!("g{id}").into() });
        let consumer = consumer.map(|id| {
            let groups = groups.iter().map(group).collect();
            Arc::new(Consumer { id: Uuid::from_u128(id), groups, ..Consumer::default() })
        });
        Caller { consumer, ..Caller::default() }
    }

    /// `c` consumer 1, `g` group 5, `r` route 1, `s` service 1.
    fn scope(letters: &str) -> Scope {
        let has = |letter| letters.contains(letter);
        Scope {
            consumer: has('c').then(|| Uuid::from_u128(1)),
            group: has('g').then(|| Uuid::from_u128(5)),
            route: has('r').then_some(1),
            service: has('s').then_some(1),
        }
    }

    fn plans(all: &[&str]) -> Plans {
        let mut scoping = Scoping::default();
        for letters in all {
            let label = if letters.is_empty() { "all" } else { letters };
            scoping.add(scope(letters), instance(label, Protocols::ALL_HTTP));
        }
        scoping.finish()
    }

    #[test]
    fn the_documented_order_of_scopes_holds() {
        const ORDER: [&str; 12] = ["crs", "grs", "cr", "cs", "gr", "gs", "rs", "c", "g", "r", "s", ""];
        for from in 0..ORDER.len() {
            // In any order of the file.
            let mut rest: Vec<_> = ORDER[from..].to_vec();
            rest.reverse();
            let plan = plans(&rest).plan(1, Some(1));
            let chosen = label(plan.slots[0].choose(Protocol::Http, &caller(Some(1), &[5])));
            assert_eq!(chosen, if ORDER[from].is_empty() { "all" } else { ORDER[from] });
        }
    }

    #[test]
    fn instances_run_where_they_are_scoped_to_alone() {
        let all = ["crs", "grs", "rs", "c", "g", "s", ""];
        for (route, service, consumer, groups, expected) in [
            (1, Some(1), Some(1), &[][..], "crs"),
            (1, Some(1), Some(2), &[5], "grs"),
            (1, Some(1), Some(2), &[6], "rs"),
            (1, Some(1), None, &[], "rs"),
            (2, Some(1), Some(1), &[5], "c"),
            (2, Some(1), Some(2), &[5], "g"),
            (2, Some(1), Some(2), &[], "s"),
            (2, Some(2), Some(2), &[], "all"),
            (2, None, None, &[], "all"),
        ] {
            let plan = plans(&all).plan(route, service);
            let chosen = label(plan.slots[0].choose(Protocol::Http, &caller(consumer, groups)));
            assert_eq!(chosen, expected, "{route} {service:?} {consumer:?} {groups:?}");
        }
        assert!(plans(&["cr"]).plan(2, None).slots.is_empty());
        assert_eq!(label(plans(&["c"]).plan(2, None).slots[0].choose(Protocol::Http, &caller(None, &[]))), "-");
    }

    #[test]
    fn of_two_groups_the_first_by_name_counts() {
        let mut scoping = Scoping::default();
        for id in [6, 5] {
            let scope = Scope { group: Some(Uuid::from_u128(id)), ..Scope::default() };
            scoping.add(scope, instance(&format!("g{id}"), Protocols::ALL_HTTP));
        }
        let plan = scoping.finish().plan(1, None);
        assert_eq!(label(plan.slots[0].choose(Protocol::Http, &caller(Some(1), &[5, 6]))), "g5");
    }

    #[test]
    fn an_instance_for_connections_leaves_requests_to_the_next() {
        let mut scoping = Scoping::default();
        scoping.add(scope("r"), instance("route", [Protocol::Tcp].into_iter().collect()));
        scoping.add(scope("c"), instance("consumer", [Protocol::Https].into_iter().collect()));
        scoping.add(scope(""), instance("all", [Protocol::Http].into_iter().collect()));
        let plan = scoping.finish().plan(1, None);
        let chosen = |protocol, consumer| label(plan.slots[0].choose(protocol, &caller(consumer, &[])));
        // One for http alone guards https and gRPC too: nobody gets past a plugin by the choice of a protocol.
        for protocol in [Protocol::Http, Protocol::Https, Protocol::Grpc, Protocol::Grpcs] {
            assert_eq!((chosen(protocol, None), chosen(protocol, Some(1))), ("all".into(), "consumer".into()));
        }
        for protocol in [Protocol::Tcp, Protocol::Tls, Protocol::TlsPassthrough] {
            assert_eq!(chosen(protocol, None), "route");
        }
    }

    #[test]
    fn routes_without_instances_of_their_own_share_a_plan() {
        let mut plans = plans(&["r", "s", ""]);
        assert!(Arc::ptr_eq(&plans.plan(2, Some(1)), &plans.plan(3, Some(1))));
        assert!(!Arc::ptr_eq(&plans.plan(1, Some(1)), &plans.plan(3, Some(1))));
        assert!(!Arc::ptr_eq(&plans.plan(2, Some(2)), &plans.plan(2, Some(1))));
    }
}
