//! The addresses of an upstream at one time, and the choice among them: immutable but for counts, replaced whole.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicU32, AtomicU64};

use super::addresses::{Answer, label};
use super::hashing::{hash, mix, slots};
use super::health::{Check, Health, Seen};
use super::latency::Latency;
use super::queue::Queue;
use super::settings::{Algorithm, Healthchecks, Thresholds, Upstream};
use super::wheel::wheel;
use super::{Outcome, now_ms};
use crate::config::snapshot::Host;
use crate::reason::Reason;

/// Places that are looked at by turn or by hash before the rest are drawn from.
const LOOKS: usize = 16;
/// Addresses of one upstream; places are kept as `u16`.
const MAX_PEERS: usize = 65_535;

/// The settings of a balancer, and what follows from them.
pub(super) struct Rules {
    pub(super) upstream: Upstream,
    /// Whether requests count for health.
    pub(super) passive: bool,
    /// Whether probes run.
    pub(super) active: bool,
    /// Changes of state to healthy and to unhealthy; handed on over reloads.
    pub(super) changes: Arc<[AtomicU64; 2]>,
    /// Who waits for a target with room; handed on likewise.
    pub(super) queue: Arc<Queue>,
}

impl Rules {
    pub(super) fn new(upstream: Upstream, changes: Arc<[AtomicU64; 2]>, queue: Arc<Queue>) -> Self {
        let Healthchecks { active, passive, .. } = &upstream.healthchecks;
        let counts = |of: &Thresholds| of.tcp_failures > 0 || of.timeouts > 0 || of.http_failures > 0;
        let passive = counts(&passive.thresholds) || passive.thresholds.successes > 0;
        let active = !active.healthy_interval.is_zero() || !active.unhealthy_interval.is_zero();
        Self { upstream, passive, active, changes, queue }
    }
}

/// One address of one target: what is known of it outlives rings and reloads.
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    pub(super) health: Health,
    /// Tries under way.
    pub(super) in_flight: Arc<AtomicU32>,
    latency: Latency,
}

impl Peer {
    /// Counts one more try, unless as many are under way as it takes; 0 is no limit.
    pub(super) fn enter(&self, limit: u32) -> bool {
        if limit == 0 {
            self.in_flight.fetch_add(1, Relaxed);
            return true;
        }
        self.in_flight.fetch_update(SeqCst, SeqCst, |now| (now < limit).then_some(now + 1)).is_ok()
    }
}

/// A peer's place in one ring.
pub(super) struct Place {
    pub(super) peer: Arc<Peer>,
    pub(super) weight: u32,
    /// Its target's index.
    pub(super) target: usize,
    /// What its SRV record points at.
    pub(super) name: Option<Box<str>>,
}

impl Place {
    fn is_healthy(&self) -> bool {
        self.peer.health.is_healthy()
    }

    fn in_flight(&self) -> u32 {
        self.peer.in_flight.load(Relaxed)
    }
}

/// See above.
pub(super) struct Ring {
    pub(super) rules: Arc<Rules>,
    /// What each target's name stood for.
    pub(super) answers: Box<[Answer]>,
    pub(super) places: Box<[Place]>,
    /// The weight of targets without address.
    missing: u64,
    /// One revolution of round-robin.
    wheel: Box<[u16]>,
    /// The winner of each slot; consistent hashing alone has some.
    slots: Box<[u16]>,
}

impl Ring {
    /// A ring of these answers, one for each target. What `previous` knows of addresses that stay is kept; where other
    /// checks led to it, what is under way alone: a state of theirs might never be left.
    pub(super) fn new(rules: &Arc<Rules>, answers: Box<[Answer]>, previous: Option<&Self>) -> Self {
        let has_same_checks =
            previous.is_some_and(|ring| ring.rules.upstream.healthchecks == rules.upstream.healthchecks);
        let mut known = HashMap::new();
        for (ring, place) in previous.into_iter().flat_map(|ring| ring.places.iter().map(move |place| (ring, place))) {
            let target = &ring.rules.upstream.targets[place.target];
            known.insert((&target.host, target.port, place.peer.address), &place.peer);
        }
        let (mut places, mut missing) = (Vec::new(), 0);
        for (index, (target, answer)) in rules.upstream.targets.iter().zip(&answers).enumerate() {
            let Some(found) = answer else {
                missing += u64::from(target.weight);
                continue;
            };
            places.extend(found.iter().map(|found| {
                let address = SocketAddr::new(found.address, found.port(target));
                let peer = match known.get(&(&target.host, target.port, address)) {
                    Some(peer) if has_same_checks => Arc::clone(peer),
                    old => {
                        let in_flight = old.map(|peer| peer.in_flight.clone()).unwrap_or_default();
                        Arc::new(Peer { address, in_flight, health: Health::default(), latency: Latency::default() })
                    }
                };
                Place { peer, weight: found.weight(target), target: index, name: found.name.clone() }
            }));
        }
        places.truncate(MAX_PEERS);
        let Upstream { algorithm, slots: points, targets, .. } = &rules.upstream;
        let weights: Vec<_> = places.iter().map(|place| place.weight).collect();
        let identity = |place: &Place| {
            let target = &targets[place.target];
            (hash(format!("{} {:?} {}", target.host, target.port, place.peer.address).as_bytes()), place.weight)
        };
        let slots = match algorithm {
            Algorithm::ConsistentHashing => slots(&places.iter().map(identity).collect::<Vec<_>>(), *points),
            _ => Box::default(),
        };
        let ring = Self {
            wheel: wheel(&weights, *points),
            rules: rules.clone(),
            answers,
            places: places.into(),
            missing,
            slots,
        };
        if *algorithm == Algorithm::Latency {
            ring.start_latencies(now_ms());
        }
        ring
    }

    /// New peers start at the average of those that have been measured.
    fn start_latencies(&self, now_ms: u64) {
        let measured = self.places.iter().map(|place| place.peer.latency.score(now_ms)).filter(|score| *score > 0.0);
        let (sum, count) = measured.fold((0.0, 0_u32), |(sum, count), score| (sum + score, count + 1));
        if count > 0 {
            self.places.iter().for_each(|place| place.peer.latency.start(now_ms, sum / count as f32));
        }
    }

    /// Whether the upstream as a whole takes requests.
    pub(super) fn is_healthy(&self) -> bool {
        let threshold = self.rules.upstream.healthchecks.threshold;
        if threshold <= 0.0 {
            return self.places.iter().any(Place::is_healthy);
        }
        let (mut all, mut healthy) = (self.missing, 0);
        for place in &self.places {
            all += u64::from(place.weight);
            healthy += if place.is_healthy() { u64::from(place.weight) } else { 0 };
        }
        healthy > 0 && healthy as f64 * 100.0 >= threshold * all as f64
    }

    /// The place of the next try. `turn` counts choices. `UpstreamBusy` where all that could take it are full.
    pub(super) fn choose(&self, turn: &AtomicU64, hash: Option<u64>, tried: &[SocketAddr]) -> Result<usize, Reason> {
        if self.places.is_empty() {
            let resolvable = self.missing == 0;
            return Err(if resolvable { Reason::UpstreamUnhealthy } else { Reason::UpstreamResolve });
        }
        if self.rules.upstream.healthchecks.threshold > 0.0 && !self.is_healthy() {
            return Err(Reason::UpstreamUnhealthy);
        }
        let limit = self.rules.queue.limit();
        let has_room = |place: &Place| limit == 0 || place.peer.in_flight.load(SeqCst) < limit;
        let takes = |place: &Place| place.is_healthy() && has_room(place);
        let fresh = self.choose_among(turn, hash, |place| takes(place) && !tried.contains(&place.peer.address));
        let any = || self.choose_among(turn, hash, takes);
        fresh.or_else(any).ok_or_else(|| match limit > 0 && self.places.iter().any(Place::is_healthy) {
            true => Reason::UpstreamBusy,
            false => Reason::UpstreamUnhealthy,
        })
    }

    fn choose_among(&self, turn: &AtomicU64, hash: Option<u64>, fits: impl Fn(&Place) -> bool) -> Option<usize> {
        match (self.rules.upstream.algorithm, hash) {
            (Algorithm::ConsistentHashing, Some(hash)) => self.by_hash(hash, fits),
            (Algorithm::RoundRobin | Algorithm::ConsistentHashing, _) => self.by_turn(turn, fits),
            (Algorithm::LeastConnections, _) => self.least_busy(turn, fits),
            (Algorithm::Latency, _) => self.quickest(turn, fits),
        }
    }

    fn by_turn(&self, turn: &AtomicU64, fits: impl Fn(&Place) -> bool) -> Option<usize> {
        for _ in 0..LOOKS.min(self.wheel.len()) {
            // A place that does not fit costs its turn, so that its neighbour is not asked twice as often.
            let point = turn.fetch_add(1, Relaxed) % self.wheel.len() as u64;
            let index = usize::from(self.wheel[point as usize]);
            if fits(&self.places[index]) {
                return Some(index);
            }
        }
        self.draw(mix(turn.load(Relaxed)), fits)
    }

    /// Keys of a place that does not fit go each to a slot of their own, and always to the same.
    fn by_hash(&self, hash: u64, fits: impl Fn(&Place) -> bool) -> Option<usize> {
        let mut at = hash;
        for _ in 0..LOOKS {
            let index = usize::from(self.slots[(at % self.slots.len() as u64) as usize]);
            if fits(&self.places[index]) {
                return Some(index);
            }
            at = mix(at);
        }
        self.draw(at, fits)
    }

    /// One of those that fit, by weight.
    fn draw(&self, random: u64, fits: impl Fn(&Place) -> bool) -> Option<usize> {
        let weight = |place: &Place| if fits(place) { u64::from(place.weight) } else { 0 };
        let total: u64 = self.places.iter().map(weight).sum();
        let mut left = random % total.max(1);
        self.places.iter().position(|place| {
            // A place that has stopped fitting meanwhile has none left to win.
            let weight = weight(place);
            let wins = left < weight;
            left = left.saturating_sub(weight);
            wins
        })
    }

    /// Fewest tries per weight, with the one to come; equals take turns.
    fn least_busy(&self, turn: &AtomicU64, fits: impl Fn(&Place) -> bool) -> Option<usize> {
        let load = |place: &Place| (u64::from(place.in_flight()) + 1, u64::from(place.weight));
        let fitting = || self.places.iter().enumerate().filter(|(_, place)| fits(place));
        let (mut first, mut least, mut equals) = (None, (u64::from(u32::MAX), 1), 0);
        for (index, place) in fitting() {
            let load = load(place);
            match (load.0 * least.1).cmp(&(least.0 * load.1)) {
                Ordering::Less => (first, least, equals) = (Some(index), load, 1),
                Ordering::Equal => equals += 1,
                Ordering::Greater => {}
            }
        }
        if equals < 2 {
            return first;
        }
        let nth = turn.fetch_add(1, Relaxed) % equals;
        let mut equal = fitting().filter(|(_, place)| {
            let load = load(place);
            load.0 * least.1 == least.0 * load.1
        });
        // Other workers count meanwhile: fewer may be left.
        equal.nth(nth as usize).map(|(index, _)| index).or(first)
    }

    /// The quicker of two drawn at random; of all, where neither fits.
    fn quickest(&self, turn: &AtomicU64, fits: impl Fn(&Place) -> bool) -> Option<usize> {
        let random = mix(turn.fetch_add(1, Relaxed));
        let len = self.places.len() as u64;
        let first = (random >> 32) % len;
        // Any other than the first.
        let second = (first + 1 + (random & 0xffff_ffff) % (len - 1).max(1)) % len;
        let now_ms = now_ms();
        let best = |among: &mut dyn Iterator<Item = usize>| {
            let fitting = among.filter(|index| fits(&self.places[*index])).map(|index| {
                let place = &self.places[index];
                (place.peer.latency.score(now_ms) / place.weight as f32, place.in_flight(), index)
            });
            fitting.min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1))).map(|(_, _, index)| index)
        };
        best(&mut [first as usize, second as usize].into_iter()).or_else(|| best(&mut (0..self.places.len())))
    }

    /// Takes note of how a try ended.
    pub(super) fn report(&self, index: usize, outcome: Outcome) {
        let place = &self.places[index];
        if self.rules.upstream.algorithm == Algorithm::Latency {
            match outcome {
                Outcome::Answered(_, took) => place.peer.latency.sample(now_ms(), took),
                Outcome::Failed | Outcome::TimedOut => place.peer.latency.penalise(now_ms()),
            }
        }
        if !self.rules.passive {
            return;
        }
        let passive = &self.rules.upstream.healthchecks.passive;
        let seen = match outcome {
            Outcome::Answered(status, _) => Seen::of_status(status, passive.probe, &passive.thresholds),
            Outcome::Failed => Some(Seen::TcpFailure),
            Outcome::TimedOut => Some(Seen::Timeout),
        };
        if let Some(seen) = seen {
            self.count(index, Check::Passive, seen);
        }
    }

    /// Counts what a check has seen, and tells of a change.
    pub(super) fn count(&self, index: usize, check: Check, seen: Seen) {
        let (place, upstream) = (&self.places[index], &self.rules.upstream);
        let thresholds = match check {
            Check::Active => &upstream.healthchecks.active.thresholds,
            Check::Passive => &upstream.healthchecks.passive.thresholds,
        };
        if !place.peer.health.count(check, seen, thresholds) {
            return;
        }
        let (address, target) = (place.peer.address, label(&upstream.targets[place.target]));
        let (upstream, why) = (&upstream.name, seen.phrase());
        if seen == Seen::Success {
            self.rules.changes[0].fetch_add(1, Relaxed);
            tracing::info!(%upstream, %address, %target, ?check, "target is healthy: {why}");
        } else {
            self.rules.changes[1].fetch_add(1, Relaxed);
            tracing::warn!(%upstream, %address, %target, ?check, "target is unhealthy: {why}");
        }
        self.rules.queue.changed();
    }

    /// The names of its targets.
    pub(super) fn names(&self) -> Vec<Box<str>> {
        let hosts = self.rules.upstream.targets.iter().map(|target| &target.host);
        let name = |host: &Host| match host {
            Host::Name(name) => Some(name.clone()),
            Host::Ip(_) => None,
        };
        hosts.filter_map(name).collect()
    }

    /// Whether any target has a name.
    pub(super) fn has_names(&self) -> bool {
        self.rules.upstream.targets.iter().any(|target| matches!(target.host, Host::Name(_)))
    }
}
