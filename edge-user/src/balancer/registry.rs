//! The balancers in use: what one configuration hands to the next, so that a reload forgets nothing.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::runtime::Handle;

use super::settings::{Active, Algorithm, HashOn, Healthchecks, Passive, Target, Thresholds, Upstream};
use super::{Balancer, Room, Shared, UpstreamHealth};
use crate::config::snapshot::Host;
use crate::dns::Resolver;

/// Below so many entries nobody looks for dead ones.
const FEW: usize = 64;

/// What a balancer is found by.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Key {
    /// The host and port of a service.
    Single(Host, u16),
    /// The name of an upstream entity.
    Upstream(Box<str>),
}

#[derive(Default)]
struct Known {
    /// Of the configuration in force.
    in_force: HashMap<Key, Weak<Balancer>>,
    /// Made since, for a configuration that may yet be refused.
    made: HashMap<Key, Weak<Balancer>>,
    /// Entries of `made` at which the dead ones are dropped.
    sweep_at: usize,
}

/// Makes balancers, and keeps those that a new configuration has unchanged. No worker comes here.
pub struct Balancers {
    shared: Shared,
    known: Mutex<Known>,
}

impl Balancers {
    /// Balancers whose names are resolved here, on `control`; without it nothing is looked up or probed.
    /// No name leads to `admin`, the Admin API's address. Each target has this much room.
    pub fn new(resolver: Arc<Resolver>, control: Option<Handle>, admin: Option<SocketAddr>, room: Room) -> Arc<Self> {
        Arc::new(Self { shared: Shared { resolver, control, admin, room }, known: Mutex::default() })
    }

    /// The balancer of a service that names its host itself.
    pub fn single(self: &Arc<Self>, host: Host, port: u16) -> Arc<Balancer> {
        let target = Target { host: host.clone(), port: Some(port), weight: 100 };
        self.known(Key::Single(host, port), || single(target), |_| true)
    }

    /// The balancer of an upstream entity: the same as long as its settings are, else one that knows of the old one's
    /// addresses what it knew. Nothing is probed before `activate`.
    pub fn upstream(self: &Arc<Self>, settings: &Upstream) -> Arc<Balancer> {
        let key = Key::Upstream(settings.name.clone());
        self.known(key, || settings.clone(), |balancer| balancer.ring.load().rules.upstream == *settings)
    }

    fn known(
        &self,
        key: Key,
        upstream: impl FnOnce() -> Upstream,
        is_same: impl Fn(&Balancer) -> bool,
    ) -> Arc<Balancer> {
        let mut known = self.lock();
        let find = |map: &HashMap<Key, Weak<Balancer>>| map.get(&key).and_then(Weak::upgrade);
        let (in_force, made) = (find(&known.in_force), find(&known.made));
        if let Some(same) = [&made, &in_force].into_iter().flatten().find(|balancer| is_same(balancer)) {
            return same.clone();
        }
        let previous = in_force.or(made);
        let balancer = Balancer::new(upstream(), &self.shared, previous.as_deref());
        if known.made.len() >= known.sweep_at.max(FEW) {
            known.made.retain(|_, balancer| balancer.strong_count() > 0);
            known.sweep_at = 2 * known.made.len();
        }
        known.made.insert(key, Arc::downgrade(&balancer));
        balancer
    }

    /// Tells which balancers the configuration now in force uses: their probes start, those of others end.
    pub fn activate<'a>(&self, balancers: impl IntoIterator<Item = &'a Arc<Balancer>>) {
        let mut known = self.lock();
        let mut in_force = HashMap::new();
        for balancer in balancers {
            balancer.start_probes();
            in_force.insert(key_of(balancer), Arc::downgrade(balancer));
        }
        for (key, old) in &known.in_force {
            if let Some(old) = old.upgrade()
                && !in_force.get(key).is_some_and(|new| std::ptr::eq(new.as_ptr(), &*old))
            {
                old.stop_probes();
            }
        }
        *known = Known { in_force, ..Known::default() };
    }

    /// The health of the upstream entities in force, by name.
    pub fn health(&self) -> Vec<UpstreamHealth> {
        let balancers: Vec<_> = {
            let known = self.lock();
            let upstreams = known.in_force.iter().filter(|(key, _)| matches!(key, Key::Upstream(_)));
            upstreams.filter_map(|(_, balancer)| balancer.upgrade()).collect()
        };
        let mut health: Vec<_> = balancers.iter().map(|balancer| balancer.health()).collect();
        health.sort_by(|a, b| a.upstream.cmp(&b.upstream));
        health
    }

    /// How many requests wait for a target with room.
    pub fn waiting(&self) -> u32 {
        let known = self.lock();
        known.in_force.values().filter_map(Weak::upgrade).map(|balancer| balancer.waiting()).sum()
    }

    /// How many are remembered beside those in force.
    #[cfg(test)]
    pub(super) fn made(&self) -> usize {
        self.lock().made.len()
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key_of(balancer: &Balancer) -> Key {
    let ring = balancer.ring.load();
    let upstream = &ring.rules.upstream;
    match &*upstream.targets {
        // Upstream entities have names.
        [Target { host, port: Some(port), .. }] if upstream.name.is_empty() => Key::Single(host.clone(), *port),
        _ => Key::Upstream(upstream.name.clone()),
    }
}

/// The settings of a service without an upstream entity: no name, no checks.
fn single(target: Target) -> Upstream {
    let thresholds = Thresholds {
        successes: 0,
        healthy_statuses: Box::default(),
        tcp_failures: 0,
        timeouts: 0,
        http_failures: 0,
        unhealthy_statuses: Box::default(),
    };
    Upstream {
        name: Box::default(),
        algorithm: Algorithm::RoundRobin,
        hash_on: HashOn::None,
        hash_fallback: HashOn::None,
        slots: 10_000,
        use_srv_name: false,
        // Nothing is probed.
        proxy_protocol: None,
        healthchecks: Healthchecks {
            threshold: 0.0,
            active: Active { thresholds: thresholds.clone(), ..Active::default() },
            passive: Passive { thresholds, ..Passive::default() },
        },
        targets: vec![target],
    }
}
