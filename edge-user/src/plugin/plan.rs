//! Which instances of the plugins a route's requests meet: one per plugin, the most specific for the caller.
//!
//! What depends on route and service is settled when the configuration is built (`config::scoping`). Consumers and
//! their groups are known only once a plugin has authenticated the request, so an instance is chosen when its turn
//! comes.

use std::collections::HashMap;
use std::sync::Arc;

use uuid::Uuid;

use super::{Caller, Plugin};
use crate::config::snapshot::{Protocol, Protocols};

/// One configured plugin and the protocols it is for.
#[derive(Clone)]
pub struct Instance {
    /// `protocols`
    pub protocols: Protocols,
    /// The plugin.
    pub plugin: Plugin,
}

/// The plugins of one route, by descending PRIORITY.
#[derive(Default)]
pub struct Plan {
    /// One per plugin that may run.
    pub slots: Box<[Slot]>,
    /// Whether any of them looks at responses.
    pub answers: bool,
    /// Whether any of them has the last word on heads.
    pub profiles: bool,
    /// Whether any of them looks at requests that have ended.
    pub logs: bool,
}

/// All instances of one plugin that may run on one route.
pub struct Slot {
    /// Those for every caller with their ranks, the most specific first.
    pub defaults: Box<[(Rank, Instance)]>,
    /// Those for some callers.
    pub scoped: Option<Scoped>,
}

/// The instances of one plugin for consumers and groups, as one route sees them.
pub struct Scoped {
    /// All of them.
    pub scopes: Arc<Scopes>,
    /// The route's index in the file.
    pub route: usize,
    /// Its service's.
    pub service: Option<usize>,
}

/// The instances of one plugin for consumers and groups.
#[derive(Default)]
pub struct Scopes {
    /// By consumer.
    pub consumers: HashMap<Uuid, Vec<Placed>>,
    /// By consumer group.
    pub groups: HashMap<Uuid, Vec<Placed>>,
}

/// An instance for one consumer or group, perhaps on one route or service alone.
pub struct Placed {
    /// The route's index in the file.
    pub route: Option<usize>,
    /// The service's index in the file.
    pub service: Option<usize>,
    /// The instance.
    pub instance: Instance,
}

/// How specific an instance is: lower goes first. Kong's documented order of scopes.
pub type Rank = u8;

/// The rank of a combination of scopes.
pub fn rank(consumer: bool, group: bool, route: bool, service: bool) -> Rank {
    match (consumer, group, route, service) {
        (true, _, true, true) => 1,
        (false, true, true, true) => 2,
        (true, _, true, false) => 3,
        (true, _, false, true) => 4,
        (false, true, true, false) => 5,
        (false, true, false, true) => 6,
        (false, false, true, true) => 7,
        (true, _, false, false) => 8,
        (false, true, false, false) => 9,
        (false, false, true, false) => 10,
        (false, false, false, true) => 11,
        (false, false, false, false) => 12,
    }
}

impl Plan {
    /// Lower-case names of fields, besides `Authorization`, in which its plugins look for credentials.
    pub fn credential_names(&self) -> Box<[Box<str>]> {
        let defaults = self.slots.iter().flat_map(|slot| &slot.defaults);
        defaults.flat_map(|(_, instance)| instance.plugin.credential_names()).collect()
    }
}

impl Slot {
    /// Any of its instances: all are of one plugin.
    pub fn any(&self) -> Option<&Plugin> {
        let scoped = || {
            let scopes = &self.scoped.as_ref()?.scopes;
            scopes.consumers.values().chain(scopes.groups.values()).flatten().next()
        };
        let default = self.defaults.first().map(|(_, instance)| instance);
        let instance = default.or_else(|| scoped().map(|placed| &placed.instance));
        instance.map(|instance| &instance.plugin)
    }

    /// The instance for a request or connection, if there is one.
    pub fn choose(&self, protocol: Protocol, caller: &Caller) -> Option<&Plugin> {
        let default = self.defaults.iter().find(|(_, instance)| instance.protocols.serve(protocol));
        let specific = self.scoped.as_ref().and_then(|scoped| scoped.choose(protocol, caller));
        let default = default.map(|(rank, instance)| (*rank, instance));
        let best = [specific, default].into_iter().flatten().min_by_key(|(rank, _)| *rank);
        best.map(|(_, instance)| &instance.plugin)
    }
}

impl Scoped {
    fn choose(&self, protocol: Protocol, caller: &Caller) -> Option<(Rank, &Instance)> {
        let here = |placed: &&Placed| {
            placed.route.is_none_or(|route| route == self.route)
                && placed.service.is_none_or(|service| Some(service) == self.service)
                && placed.instance.protocols.serve(protocol)
        };
        let of =
            |placed: &'_ Placed, group: bool| rank(!group, group, placed.route.is_some(), placed.service.is_some());
        let consumer = caller.consumer.as_ref().and_then(|consumer| self.scopes.consumers.get(&consumer.id));
        let own = consumer.into_iter().flatten().filter(here);
        let own = own.map(|placed| (of(placed, false), &placed.instance));
        // The first of equal rank wins: a token's group before a consumer's.
        let groups = caller.consumer_groups().filter_map(|group| self.scopes.groups.get(&group.id)).flatten();
        let groups = groups.filter(here).map(|placed| (of(placed, true), &placed.instance));
        own.chain(groups).min_by_key(|(rank, _)| *rank)
    }
}
